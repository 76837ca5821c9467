// SPDX-License-Identifier: Apache-2.0
// The table of the trail: for each kind of record its keys in the order of the text. Libvirt's keys
// stand where libvirt 9.0 and 11.3 write them (src/conf/domain_audit.c), so that every reader of
// its records reads ours; the keys of ours follow, and the common ones are last. Encoder, decoder
// and docs/records.md come from here; nothing else knows the order of a key.
#include "trail/vocabulary.h"

#include <array>
#include <cstddef>

namespace tenure::trail {
namespace {

constexpr KeySpec theirs(std::string_view name, Encoding encoding, std::string_view meaning) {
  return {name, encoding, Need::Always, true, meaning, {}};
}
constexpr KeySpec fixed(std::string_view name, std::string_view word, std::string_view meaning) {
  return {name, Encoding::Word, Need::Always, true, meaning, word};
}
constexpr KeySpec ours(std::string_view name, Encoding encoding, std::string_view meaning) {
  return {name, encoding, Need::Optional, false, meaning, {}};
}
// A key of ours that the kind makes no sense without.
constexpr KeySpec needed(std::string_view name, Encoding encoding, std::string_view meaning) {
  return {name, encoding, Need::Always, false, meaning, {}};
}
constexpr KeySpec our_fixed(std::string_view name, std::string_view word,
                            std::string_view meaning) {
  return {name, Encoding::Word, Need::Always, false, meaning, word};
}

constexpr auto kWord = Encoding::Word;
constexpr auto kText = Encoding::Text;
constexpr auto kNumber = Encoding::Number;

// Keys that several kinds share.
constexpr KeySpec kVirt = theirs("virt", kWord, "accelerator or driver: kvm, qemu (TCG)");
constexpr KeySpec kReason = theirs("reason", kWord, "what happened to the resource");
constexpr KeySpec kVm = theirs("vm", kText, "name of the guest");
constexpr KeySpec kUuid = theirs("uuid", kWord, "uuid of the guest, 36 characters");
constexpr KeySpec kVmPid = theirs("vm-pid", kNumber, "pid of QEMU, 0 if there is none");
constexpr KeySpec kCgroup = theirs("cgroup", kText, "directory of the guest's cgroup");
constexpr KeySpec kAcl = theirs("acl", kWord, "union of r, w, m (mknod)");
constexpr KeySpec kRdev = theirs("rdev", kWord, "hex MAJOR:MINOR of the device, ? if none");
constexpr KeySpec kAccess = ours("access", kWord, "r or rw, as granted");
constexpr KeySpec kDevtype = ours("devtype", kWord, "type of the device node: b or c");
constexpr KeySpec kOurRdev = ours("rdev", kWord, "hex MAJOR:MINOR of the device node");
constexpr KeySpec kDevice = ours("device", kText, "alias of the guest's device");
constexpr KeySpec kFor = ours("for", kText, "device that needs it: disk vda, memory, base");
constexpr KeySpec kByPid = ours("by-pid", kNumber, "pid of the process that did it");
constexpr KeySpec kByComm = ours("by-comm", kText, "its command name");
constexpr KeySpec kByUid = ours("by-uid", kNumber, "its uid");
constexpr KeySpec kByAuid = ours("by-auid", kNumber, "its audit uid (loginuid)");

constexpr std::array kCommon{
    ours("txn", kWord, "operation that the record belongs to"),
    ours("grant", kNumber, "ledger index of the intent that began the tenure"),
    ours("run", kNumber, "life of the guest, counted from 1"),
    ours("why", kText, "why it failed, was refused or came to its end"),
    ours("bound-from", kNumber, "ms since 1970: it happened after this, time not known better"),
    ours("bound-to", kNumber, "ms since 1970: it happened before this"),
    ours("req-auid", kNumber, "who asked: audit uid (loginuid)"),
    ours("req-ses", kNumber, "who asked: audit session"),
    ours("req-uid", kNumber, "who asked: uid"),
    ours("req-pid", kNumber, "who asked: pid"),
    ours("req-exe", kText, "who asked: executable"),
    ours("req-tty", kText, "who asked: terminal"),
};

template <size_t... Sizes>
constexpr auto row(const std::array<KeySpec, Sizes>&... parts) {
  std::array<KeySpec, (Sizes + ... + kCommon.size())> keys{};
  size_t at = 0;
  auto append = [&](const auto& part) {
    for (const KeySpec& key : part) keys[at++] = key;
  };
  (append(parts), ...);
  append(kCommon);
  return keys;
}

constexpr auto resource(std::string_view resrc) {
  return std::array{kVirt, fixed("resrc", resrc, "kind of resource"), kReason, kVm, kUuid};
}

// old-X new-X: what the record ends and what it begins.
constexpr auto change(std::string_view old_key, std::string_view new_key, Encoding encoding,
                      std::string_view what) {
  return std::array{theirs(old_key, encoding, what), theirs(new_key, encoding, what)};
}

constexpr std::string_view kPathOrNone = "path, \"?\" for none";

constexpr auto kMachineId =
    row(std::array{kVirt, kVm, kUuid, theirs("vm-ctx", kWord, "label of the process"),
                   theirs("img-ctx", kWord, "label of its images"),
                   theirs("model", kWord, "security model: dac, selinux, apparmor")},
        std::array{ours("uid", kNumber, "uid that QEMU runs as")});

constexpr auto kControl = row(
    std::array{kVirt, theirs("op", kWord, "what was done: start, stop, pause, resume, …"),
               theirs("reason", kWord, "booted, restored; shutdown, destroyed, crashed, failed, …"),
               kVm, kUuid, kVmPid},
    std::array{ours("cgroup", kText, "directory of the guest's cgroup"),
               ours("fence", kWord, "device controller in force: v1, v2, none"),
               ours("uid", kNumber, "uid that QEMU runs as"),
               ours("accel", kWord, "accelerator that QEMU runs with: kvm, tcg"),
               ours("target", kNumber, "what was asked for: KiB of memory, vCPUs, iothreads"),
               kDevice, ours("net", kWord, "MAC of the interface"),
               ours("mac", kWord, "MAC that the guest has set for it"),
               ours("count", kNumber, "how many events of this kind the record stands for")});

constexpr auto kCreate =
    row(std::array{kVirt, our_fixed("op", "define", "a definition was stored"), kVm, kUuid},
        std::array{ours("file", kText, "where the definition is kept")});

constexpr auto kDestroy =
    row(std::array{kVirt, our_fixed("op", "undefine", "a definition was removed"), kVm, kUuid},
        std::array{ours("file", kText, "where the definition was kept")});

constexpr auto kDisk = row(
    resource("disk"), change("old-disk", "new-disk", kText, "image: path, \"?\" for none"),
    std::array{ours("dev", kText, "target in the guest: vda, sdb"), kAccess,
               ours("format", kWord, "image format: raw, qcow2, …"), kDevtype, kOurRdev,
               ours("depth", kNumber, "place in the backing chain, 0 is the top image"), kDevice});

constexpr auto kNet =
    row(resource("net"), change("old-net", "new-net", kText, "MAC, \"?\" for none"),
        std::array{ours("ifname", kText, "interface on the host"),
                   ours("bridge", kText, "bridge that it is a port of"),
                   ours("type", kWord, "kind of backend: bridge, ethernet, direct, user"),
                   ours("lower", kText, "lower device of a macvtap"), kDevice});

constexpr auto kNetOpen = row(
    resource("net"),
    std::array{theirs("net", kWord, "MAC of the interface"),
               theirs("path", kText, "device node that was opened or closed"), kRdev},
    std::array{ours("ifname", kText, "interface on the host"), kDevtype,
               ours("fd", kNumber, "number of the descriptor in tenured when it was opened"),
               ours("ifindex", kNumber, "the kernel's number of the interface, never given again"),
               kDevice});

constexpr auto kFs =
    row(resource("fs"),
        change("old-fs", "new-fs", kText,
               "directory of the host, or the socket of its server; \"?\" for none"),
        std::array{
            kAccess, ours("driver", kWord, "virtiofs, 9p"),
            ours("tag", kText, "mount tag in the guest"), kDevice,
            ours("helper-pid", kNumber, "pid of the process of the guest's own that serves it")});

constexpr auto kHostdev =
    row(resource("dev"),
        std::array{theirs("bus", kWord, "pci, usb, scsi, scsi_host, mdev"),
                   theirs("device", kText, "address on the bus")},
        std::array{kAccess, kDevtype, kOurRdev, ours("alias", kText, "alias of the guest's device"),
                   ours("product", kWord, "vendor:product of a USB or PCI device, hex"),
                   ours("group", kNumber, "its IOMMU group"),
                   ours("source", kText, "where a redirected device comes from: path, host:port")});

constexpr auto kChardev =
    row(resource("chardev"), change("old-chardev", "new-chardev", kText, kPathOrNone),
        std::array{ours("type", kWord, "kind of backend: pty, unix, file, dev, …"), kDevtype,
                   kOurRdev, kDevice});

constexpr auto kSmartcard =
    row(resource("smartcard"),
        change("old-smartcard", "new-smartcard", kText, "database, certificate or path"),
        std::array{kDevice});

constexpr auto kRng = row(resource("rng"), change("old-rng", "new-rng", kText, kPathOrNone),
                          std::array{kDevtype, kOurRdev, kDevice});

constexpr auto tpm(std::string_view resrc) {
  return row(resource(resrc), std::array{theirs("device", kText, "device node or socket")},
             std::array{kAccess, kDevtype, kOurRdev});
}
constexpr auto kTpm = tpm("tpm");
constexpr auto kTpmEmulator = tpm("tpm-emulator");
constexpr auto kTpmExternal = tpm("tpm-external");

constexpr auto kShmem = row(
    resource("shmem"), std::array{theirs("size", kNumber, "bytes"), theirs("path", kText, "path")},
    std::array{kAccess, kDevice});
constexpr auto kIvshmemSocket =
    row(resource("ivshmem-socket"), std::array{theirs("path", kText, "server's socket")},
        std::array{kDevice});
constexpr auto kEvdev = row(resource("evdev"), std::array{theirs("path", kText, "device node")},
                            std::array{kAccess, kDevtype, kOurRdev, kDevice});

constexpr auto kMem = row(resource("mem"), change("old-mem", "new-mem", kNumber, "KiB, 0 for none"),
                          std::array{kDevice});
constexpr auto kVcpu =
    row(resource("vcpu"), change("old-vcpu", "new-vcpu", kNumber, "virtual CPUs, 0 for none"));
constexpr auto kIothread = row(
    resource("iothread"), change("old-iothread", "new-iothread", kNumber, "threads, 0 for none"));

constexpr auto kFile = row(
    std::array{kVirt, our_fixed("resrc", "file", "kind of resource"), kReason, kVm, kUuid,
               needed("old-file", kText, kPathOrNone), needed("new-file", kText, kPathOrNone)},
    std::array{
        ours("role", kWord, "kernel, initrd, dtb, loader, nvram, save, restore, dump, screenshot"),
        kAccess, kDevice, kDevtype, kOurRdev});

constexpr auto kFileAcl =
    row(std::array{kVirt, our_fixed("resrc", "acl", "kind of resource"), kReason, kVm, kUuid,
                   needed("path", kText, "the file"), needed("acl", kWord, "r, rw"),
                   needed("acl-uid", kNumber, "uid that the entry is for"), kFor,
                   ours("foreign", kWord, "yes: the entry was there before, and stays")});

constexpr auto kDriver = row(
    std::array{kVirt, our_fixed("resrc", "driver", "kind of resource"), kReason, kVm, kUuid,
               needed("device", kText, "address of the PCI device on the host"),
               needed("old-driver", kText, "driver before, \"?\" for none"),
               needed("new-driver", kText, "driver after, \"?\" for none")},
    std::array{kFor,
               ours("override", kText, "its driver_override before the bind, after the unbind")});

constexpr auto kCgroupGroup =
    row(resource("cgroup"),
        std::array{kCgroup, our_fixed("class", "group", "the cgroup itself: create, remove")});
constexpr auto kCgroupAll =
    row(resource("cgroup"), std::array{kCgroup, fixed("class", "all", "every device at once")});
constexpr auto kCgroupMajor =
    row(resource("cgroup"),
        std::array{kCgroup, fixed("class", "major", "every minor number of one major"),
                   theirs("category", kWord, "what the major stands for: pty, sound"),
                   theirs("maj", kWord, "hex major number"), kAcl},
        std::array{kDevtype, kFor});
constexpr auto kCgroupPath = row(resource("cgroup"),
                                 std::array{kCgroup, fixed("class", "path", "one device node"),
                                            theirs("path", kText, "the node"), kRdev, kAcl},
                                 std::array{kDevtype, kFor});

constexpr auto kDenial = row(
    std::array{kVirt, fixed("resrc", "cgroup", "kind of resource"),
               our_fixed("reason", "denied", "an access that the fence refused"), kVm, kUuid,
               kCgroup, our_fixed("class", "device", "the device that was asked for"),
               ours("path", kText, "a node of that number, if one is known"),
               needed("rdev", kWord, "hex MAJOR:MINOR"), needed("acl", kWord, "access asked for"),
               needed("devtype", kWord, "type of the device node: b or c")},
    std::array{kByPid, kByComm, kByUid, kByAuid,
               ours("first", kNumber, "ms since 1970 of the first refusal counted here"),
               ours("last", kNumber, "ms since 1970 of the last one"),
               ours("count", kNumber, "how many they were, exactly"),
               ours("probe", kWord, "not an open: access (access(2)), qemu (a harmless probe)")});

constexpr auto kDrift = row(
    std::array{kVirt, fixed("resrc", "cgroup", "kind of resource"),
               our_fixed("reason", "out-of-band", "a change of the fence that was not ours"), kVm,
               kUuid, kCgroup, our_fixed("class", "drift", "the difference that was found")},
    std::array{
        ours("path", kText, "a node of that number, if one is known"),
        ours("rdev", kWord, "hex MAJOR:MINOR, * for any minor"), kDevtype,
        ours("old-acl", kWord, "access that ought to stand, ? for none"),
        ours("new-acl", kWord, "access that does stand, ? for none"), kByPid, kByComm, kByUid,
        kByAuid, ours("by-exe", kText, "its executable"),
        ours("phase", kWord, "begin, end, or repair: tenured tried to put it right"),
        ours("what", kWord, "fence, program, rule, member, identity, fd, acl, node, driver, port"),
        ours("resource", kText, "what differs: device, process, file, descriptor"),
        ours("expected", kText, "what the open tenures say, ? for nothing"),
        ours("found", kText, "what the kernel says, ? for nothing")});

constexpr auto kGap = row(std::array{
    our_fixed("op", "gap", "audit lost records"),
    needed("from", kNumber, "ms since 1970 when it began"),
    needed("to", kNumber, "and when it was over"),
    ours("count", kNumber,
         "records that had not come back from the kernel, or were not in auditd's log, by then"),
    needed("cause", kText, "disabled, rate-limited, backlog, no auditd, …")});

constexpr auto kIntegrity =
    row(std::array{our_fixed("op", "verify", "a verification was made"),
                   needed("what", kWord, "what was verified: ledger, live"),
                   ours("count", kNumber, "entries, or open tenures, looked at"),
                   ours("first-bad", kNumber, "ledger index of the first entry that fails"),
                   ours("cause", kText, "what is wrong: of that entry, or the first difference"),
                   ours("root", kWord, "root hash of those entries, 64 hex digits"),
                   ours("differences", kNumber, "between kernel and open tenures"),
                   ours("vm", kText, "name of the guest whose live state was compared"),
                   ours("uuid", kWord, "uuid of that guest, 36 characters")});

constexpr auto kPolicy = row(std::array{
    ours("virt", kWord, "accelerator or driver: kvm, qemu (TCG)"),
    our_fixed("op", "policy", "a setting that weakens or changes the guarantees"),
    ours("vm", kText, "name of the guest"), ours("uuid", kWord, "uuid of the guest, 36 characters"),
    needed("setting", kText, "name of the setting"), ours("old", kText, "its value before"),
    needed("new", kText, "its value from now on")});

constexpr auto kRecovery =
    row(std::array{kVirt,
                   our_fixed("op", "recover",
                             "tenured looked again: after its own death, or that of the monitor"),
                   needed("reason", kWord, "adopted, gone, reboot, monitor"), kVm, kUuid, kVmPid},
        std::array{ours("cgroup", kText, "directory of the guest's cgroup"),
                   ours("fence", kWord, "device controller in force: v1, v2, none")});

constexpr auto kRefusal =
    row(std::array{ours("virt", kWord, "accelerator or driver: kvm, qemu (TCG)"),
                   needed("op", kWord, "the request: start, stop, attach, …"),
                   our_fixed("reason", "refused", "it was not carried out"),
                   ours("vm", kText, "name of the guest"),
                   ours("uuid", kWord, "uuid of the guest, 36 characters")});

constexpr std::array kTable{
    KindSpec{Kind::MachineId, "machine-id", kVirtMachineId, "a security label was given to a guest",
             kMachineId},
    KindSpec{Kind::Control, "control", kVirtControl, "a guest began, ended or changed its state",
             kControl},
    KindSpec{Kind::Create, "create", kVirtCreate, "a guest was defined", kCreate},
    KindSpec{Kind::Destroy, "destroy", kVirtDestroy, "a guest was undefined", kDestroy},
    KindSpec{Kind::Disk, "disk", kVirtResource, "an image of a disk", kDisk},
    KindSpec{Kind::Net, "net", kVirtResource, "a network interface, by its MAC", kNet},
    KindSpec{Kind::NetOpen, "net-open", kVirtResource,
             "a device node opened for a network interface, or closed", kNetOpen},
    KindSpec{Kind::Fs, "fs", kVirtResource, "a directory shared with the guest", kFs},
    KindSpec{Kind::Hostdev, "dev", kVirtResource, "a PCI, USB, SCSI or mediated device", kHostdev},
    KindSpec{Kind::Chardev, "chardev", kVirtResource, "serial, parallel, console, channel",
             kChardev},
    KindSpec{Kind::Smartcard, "smartcard", kVirtResource, "a smartcard", kSmartcard},
    KindSpec{Kind::Rng, "rng", kVirtResource, "a source of random bytes", kRng},
    KindSpec{Kind::Tpm, "tpm", kVirtResource, "a TPM of the host", kTpm},
    KindSpec{Kind::TpmEmulator, "tpm-emulator", kVirtResource, "an emulated TPM", kTpmEmulator},
    KindSpec{Kind::TpmExternal, "tpm-external", kVirtResource, "a TPM that others run",
             kTpmExternal},
    KindSpec{Kind::Shmem, "shmem", kVirtResource, "shared memory", kShmem},
    KindSpec{Kind::IvshmemSocket, "ivshmem-socket", kVirtResource,
             "shared memory by way of a server", kIvshmemSocket},
    KindSpec{Kind::Evdev, "evdev", kVirtResource, "an input device of the host", kEvdev},
    KindSpec{Kind::Mem, "mem", kVirtResource, "memory of the guest", kMem},
    KindSpec{Kind::Vcpu, "vcpu", kVirtResource, "virtual CPUs", kVcpu},
    KindSpec{Kind::Iothread, "iothread", kVirtResource, "I/O threads", kIothread},
    KindSpec{Kind::File, "file", kVirtResource, "a file that is no disk", kFile},
    KindSpec{Kind::FileAcl, "acl", kVirtResource, "an entry in the POSIX ACL of a file", kFileAcl},
    KindSpec{Kind::Driver, "driver", kVirtResource, "the driver of a PCI device of the host",
             kDriver},
    KindSpec{Kind::CgroupGroup, "cgroup-group", kVirtResource, "the cgroup of the guest",
             kCgroupGroup},
    KindSpec{Kind::CgroupAll, "cgroup-all", kVirtResource, "every device, denied at the start",
             kCgroupAll},
    KindSpec{Kind::CgroupMajor, "cgroup-major", kVirtResource,
             "all devices of a major number, allowed or denied", kCgroupMajor},
    KindSpec{Kind::CgroupPath, "cgroup-path", kVirtResource, "one device, allowed or denied",
             kCgroupPath},
    KindSpec{Kind::Denial, "denial", kVirtResource, "what the fence refused to a guest's process",
             kDenial},
    KindSpec{Kind::Drift, "drift", kVirtResource, "the fence was changed behind our back", kDrift},
    KindSpec{Kind::Gap, "gap", kVirtIntegrityCheck, "records that the audit system lost", kGap},
    KindSpec{Kind::Integrity, "integrity", kVirtIntegrityCheck, "result of a verification",
             kIntegrity},
    KindSpec{Kind::Policy, "policy", kVirtControl, "a guarantee was changed by configuration",
             kPolicy},
    KindSpec{Kind::Recovery, "recovery", kVirtControl, "a guest was found again, or found gone",
             kRecovery},
    KindSpec{Kind::Refusal, "refusal", kVirtControl, "a request that was not carried out",
             kRefusal},
};

constexpr bool in_order() {
  for (size_t i = 0; i < kTable.size(); ++i)
    if (static_cast<size_t>(kTable[i].kind) != i)
      return false;
  return kTable.size() == kKindCount;
}
static_assert(in_order(), "a row for each Kind, in the order of the enum");

constexpr std::array<std::string_view, 8> kTypeNames{
    "VIRT_CONTROL", "VIRT_RESOURCE", "VIRT_MACHINE_ID", "VIRT_INTEGRITY_CHECK",
    "VIRT_CREATE",  "VIRT_DESTROY",  "VIRT_MIGRATE_IN", "VIRT_MIGRATE_OUT"};

}  // namespace

const KindSpec& spec(Kind kind) {
  return kTable[static_cast<size_t>(kind)];
}

std::span<const KindSpec> vocabulary() {
  return kTable;
}

std::string_view type_name(uint16_t type) {
  if (type < kVirtControl || type >= kVirtControl + kTypeNames.size())
    return {};
  return kTypeNames[type - kVirtControl];
}

}  // namespace tenure::trail
