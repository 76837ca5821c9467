// SPDX-License-Identifier: Apache-2.0
#include "guest/plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "guest/plan/host_devices.h"
#include "guest/plan/plan_records.h"

namespace tenure::guest {
namespace {

using trail::Kind;
using trail::Record;

constexpr uint32_t kPtsMajor = 136;    // UNIX98_PTY_SLAVE_MAJOR, linux/major.h
constexpr uint32_t kSoundMajor = 116;  // ALSA, devices.txt

// One device node that the fence must let through.
struct NodeNeed {
  std::string path;
  std::optional<DeviceNumber> rdev;  // nullopt: missing on this host (dry run)
  Access access;
  std::string holder;
};

// One file, or folder on the way to it, that the guest's uid must get at.
struct FileNeed {
  std::string path;
  std::string acl;  // "r", "rw"
  std::string holder;
};

class Planner {
 public:
  // `reason` of the records of devices: start, attach, update.
  Planner(const domain::Domain& domain, const Facts& facts, const HostOptions& options,
          std::string_view reason)
      : domain_(domain), facts_(facts), options_(options), reason_(reason) {}

  Plan run() {
    base_needs();
    device_needs();
    boot_needs();
    dev_nodes();
    if (options_.fence) {
      group_claims();
      rule_claims();
    }
    if (options_.uid)
      file_acl_claims();
    device_claims();
    boot_claims();
    size_claims();
    return std::move(plan_);
  }

  // What the run has from its start, the base list, is not claimed again.
  Plan run_devices() {
    base_needs();
    size_t base = node_needs_.size();
    device_needs();
    node_needs_.erase(node_needs_.begin(), node_needs_.begin() + static_cast<ptrdiff_t>(base));
    dev_nodes();
    if (options_.fence)
      rule_claims();
    if (options_.uid)
      file_acl_claims();
    device_claims();
    module_claims();
    return std::move(plan_);
  }

 private:
  void device_claims() {
    for (const domain::Interface& nic : domain_.interfaces) open_claims(nic);
    for (const domain::Disk& disk : domain_.disks) disk_claims(disk);
    for (const domain::Interface& nic : domain_.interfaces) claim(net_record(nic, reason_));
    for (const domain::Chardev& chardev : domain_.chardevs) chardev_claim(chardev);
    for (const domain::Rng& rng : domain_.rngs)
      if (rng.backend == "random")
        claim(rng_record(rng, facts_, reason_));
    for (const domain::Input& input : domain_.inputs)
      if (!input.evdev.empty())
        claim(evdev_record(input, facts_, reason_));
    for (const domain::Hostdev& hostdev : domain_.hostdevs)
      claim(hostdev_record(hostdev, facts_, reason_));
    for (const domain::Shmem& shmem : domain_.shmems) claim(shmem_record(shmem, reason_));
    for (const domain::Filesystem& fs : domain_.filesystems) claim(fs_record(fs, reason_));
  }

  // Of modules that join a running guest; at its start they are part of its memory. What the guest
  // has beside them is not known here.
  void module_claims() {
    for (const domain::MemoryDevice& memory : domain_.memories)
      claim(Record(Kind::Mem)
                .set("reason", "update")
                .set("old-mem", uint64_t{0})
                .set("new-mem", memory.size_kib)
                .set("device", memory.info.alias));
  }

  void claim(Record record) { plan_.claims.push_back(model::claim_of(std::move(record))); }

  // A second need of one device joins its first; so does what the base list grants anyway.
  void need_node(NodeNeed need) {
    auto joins = [&](const NodeNeed& n) {
      bool same = n.path == need.path && (!need.rdev || n.rdev == need.rdev);
      return same && (n.holder == need.holder || is_base(n));
    };
    auto it = std::ranges::find_if(node_needs_, joins);
    if (it == node_needs_.end()) {
      node_needs_.push_back(std::move(need));
      return;
    }
    it->access = it->access | need.access;
    if (it->holder != need.holder)
      it->holder += "," + need.holder;
  }

  static bool is_base(const NodeNeed& need) {
    return need.holder == "base" || need.holder.starts_with("base,");
  }

  void need_file(FileNeed need) {
    auto it = std::ranges::find_if(file_needs_, [&](const FileNeed& n) {
      return n.path == need.path && n.holder == need.holder;
    });
    if (it == file_needs_.end())
      file_needs_.push_back(std::move(need));
    else
      it->acl = std::max(it->acl, need.acl);  // "r" < "rw"
  }

  void need_path(const std::string& path, Access access, const std::string& holder) {
    const kernel::NodeFacts* node = facts_.node(path);
    if (node != nullptr && node->rdev)
      need_node({path, node->rdev, access, holder});
    else
      need_file({path, to_string(access), holder});
  }

  void base_needs() {
    for (const std::string& path : options_.base_devices) base_need(path);
    if (domain_.kvm)
      base_need("/dev/kvm");
  }

  void device_needs() {
    for (const domain::Disk& disk : domain_.disks) disk_needs(disk);
    for (const domain::Chardev& chardev : domain_.chardevs)
      if (chardev.kind == domain::ChardevKind::Dev)
        need_path(chardev.path, kReadWrite, "chardev:" + chardev.info.alias);
    for (const domain::Chardev& chardev : domain_.chardevs)
      if (chardev.kind == domain::ChardevKind::File)
        need_file({chardev.path, "rw", "chardev:" + chardev.info.alias});
    for (const domain::Rng& rng : domain_.rngs)
      if (rng.backend == "random")
        need_path(rng.path, kReadOnly, "rng:" + rng.info.alias);
    for (const domain::Input& input : domain_.inputs)
      if (!input.evdev.empty())
        need_path(input.evdev, kReadWrite, "input:" + input.info.alias);
    for (const domain::Hostdev& hostdev : domain_.hostdevs) hostdev_needs(hostdev);
    for (const domain::Shmem& shmem : domain_.shmems)
      need_file({shared_path(shmem), "rw", "shmem:" + shmem.info.alias});
    for (const domain::Filesystem& fs : domain_.filesystems)
      if (fs.dir.empty())
        need_file({fs.socket, "rw", "fs:" + fs.info.alias});
  }

  void hostdev_node(const std::string& path, const std::string& holder) {
    const kernel::NodeFacts* node = facts_.node(path);
    need_node({path, node != nullptr ? node->rdev : std::nullopt, kReadWrite, holder});
  }

  // The container is one for all devices of all groups: counted, as any node of two holders.
  void hostdev_needs(const domain::Hostdev& hostdev) {
    const std::string holder = "hostdev:" + hostdev.info.alias;
    if (hostdev.kind != domain::HostdevKind::Usb)
      hostdev_node(kVfioContainer, holder);
    auto found = facts_.hostdevs.find(hostdev.info.alias);
    if (found != facts_.hostdevs.end())
      hostdev_node(found->second.node, holder);
  }

  // The base list: a node that the host does not have is left out, not refused (DESIGN §5).
  void base_need(const std::string& path) {
    const kernel::NodeFacts* node = facts_.node(path);
    if (node != nullptr && node->rdev)
      need_node({path, node->rdev, kReadWrite, "base"});
  }

  // Only in a dry run.
  void missing_disk_need(const domain::Disk& disk, const std::string& holder) {
    Access access = disk.readonly ? kReadOnly : kReadWrite;
    if (disk.kind == domain::SourceKind::Block)
      need_node({disk.path, std::nullopt, access, holder});
    else if (!disk.path.empty())
      need_file({disk.path, to_string(access), holder});
  }

  void disk_needs(const domain::Disk& disk) {
    std::string holder = "disk:" + disk.target;
    auto chain = facts_.chains.find(disk.info.alias);
    if (chain == facts_.chains.end()) {
      missing_disk_need(disk, holder);
      return;
    }
    for (const qemu::Image& image : chain->second) {
      Access access = image.writable ? kReadWrite : kReadOnly;
      if (!image.node.rdev) {
        need_file({image.path, to_string(access), holder});
        continue;
      }
      need_node({image.path, image.node.rdev, access, holder});
      auto slaves = facts_.slaves.find(*image.node.rdev);
      if (slaves == facts_.slaves.end())
        continue;
      for (const kernel::Slave& slave : slaves->second)
        need_node({slave.path, slave.dev, access, holder});
    }
  }

  void boot_needs() {
    const domain::Os& os = domain_.os;
    if (!os.kernel.empty())
      need_path(os.kernel, kReadOnly, "kernel");
    if (!os.initrd.empty())
      need_path(os.initrd, kReadOnly, "initrd");
    if (os.loader)
      need_path(os.loader->path, os.loader->readonly ? kReadOnly : kReadWrite, "loader");
    if (os.nvram)
      need_path(os.nvram->path, kReadWrite, "nvram");
  }

  const std::string& fence_cgroup() const {
    return options_.fence == kernel::CgroupVersion::V2 ? options_.cgroup_v2 : options_.cgroup_v1;
  }

  void group_claim(const std::string& cgroup) {
    if (!cgroup.empty())
      claim(Record(Kind::CgroupGroup).set("reason", "create").set("cgroup", cgroup));
  }

  void group_claims() {
    group_claim(options_.cgroup_v2);
    group_claim(options_.cgroup_v1);
    claim(Record(Kind::CgroupAll).set("reason", "deny").set("cgroup", fence_cgroup()));
  }

  void rule_claims() {
    for (size_t i = 0; i < node_needs_.size(); ++i) node_claim(node_needs_[i], shared_before(i));
    // The slaves of Unix98 ptys get their numbers at run time, so the whole major is let through,
    // as libvirt does.
    bool shared = false;
    for (const domain::Chardev& chardev : domain_.chardevs)
      if (chardev.kind == domain::ChardevKind::Pty)
        major_claim("pty", kPtsMajor, std::exchange(shared, true), "chardev:" + chardev.info.alias);
    shared = false;
    for (const domain::Sound& sound : domain_.sounds)
      major_claim("sound", kSoundMajor, std::exchange(shared, true), "sound:" + sound.info.alias);
  }

  // What earlier needs have of the same device, whatever they call it.
  Access shared_before(size_t index) const {
    Access access;
    for (size_t i = 0; i < index; ++i)
      if (node_needs_[i].rdev && node_needs_[i].rdev == node_needs_[index].rdev)
        access = access | node_needs_[i].access;
    return access;
  }

  void node_claim(const NodeNeed& need, Access shared) {
    Record record(Kind::CgroupPath);
    record.set("reason", shared.covers(need.access) ? "share" : "allow");
    record.set("cgroup", fence_cgroup()).set("path", need.path);
    record.set("rdev", need.rdev ? rdev_hex(*need.rdev) : "?").set("acl", to_string(need.access));
    if (need.rdev)
      record.set("devtype", device_letter(need.rdev->type));
    claim(std::move(record.set("for", need.holder)));
  }

  void dev_nodes() {
    for (const NodeNeed& need : node_needs_)
      if (need.rdev)
        add_dev_node(need.path, *need.rdev);
  }

  void add_dev_node(const std::string& path, const DeviceNumber& rdev) {
    uint32_t uid = options_.uid.value_or(0);
    plan_.nodes.push_back(
        {.path = facts_.dev_name(path), .rdev = rdev, .uid = uid, .gid = uid, .mode = 0600});
  }

  void major_claim(std::string_view category, uint32_t major, bool shared,
                   const std::string& holder) {
    claim(Record(Kind::CgroupMajor)
              .set("reason", shared ? "share" : "allow")
              .set("cgroup", fence_cgroup())
              .set("category", category)
              .set("maj", fmt::format("{:02X}", major))
              .set("acl", "rw")
              .set("devtype", "c")
              .set("for", holder));
  }

  void file_acl_claims() {
    for (const FileNeed& need : file_needs_) search_claims(need.path, need.holder);
    // The way to a symlink that leads to a device.
    for (const NodeNeed& need : node_needs_) search_claims(need.path, need.holder);
    for (const FileNeed& need : file_needs_) acl_claim(need.path, need.acl, need.holder);
  }

  // Shared where an earlier device's entry on the same path has it all.
  void acl_claim(const std::string& path, const std::string& acl, const std::string& holder) {
    std::string& had = entries_[path];
    bool shared = had.size() >= acl.size();  // "" < "x"; "" < "r" < "rw"
    if (!shared)
      had = acl;
    claim(Record(Kind::FileAcl)
              .set("reason", shared ? "share" : "allow")
              .set("path", path)
              .set("acl", acl)
              .set("acl-uid", uint64_t{options_.uid.value_or(0)})
              .set("for", holder));
  }

  // Folders on the way that "other" may not search, once a device.
  void search_claims(const std::string& path, const std::string& holder) {
    auto folders = facts_.closed_folders.find(path);
    if (folders == facts_.closed_folders.end())
      return;
    for (const std::string& folder : folders->second)
      if (searched_.emplace(folder, holder).second)
        acl_claim(folder, "x", holder);
  }

  void open_claim(const domain::Interface& nic, const std::string& path) {
    const kernel::NodeFacts* node = facts_.node(path);
    Record record(Kind::NetOpen);
    record.set("reason", "open")
        .set("net", nic.mac)
        .set("path", path)
        .set("device", nic.info.alias);
    record.set("rdev", node != nullptr && node->rdev ? rdev_hex(*node->rdev) : "?")
        .set("devtype", "c");
    if (nic.kind == domain::InterfaceKind::Direct)
      record.set("ifname", macvtap_name(domain_, nic));
    claim(std::move(record));
  }

  void open_claims(const domain::Interface& nic) {
    if (nic.kind == domain::InterfaceKind::User)
      return;
    uint32_t queues = nic.queues.value_or(1);
    bool macvtap = nic.kind == domain::InterfaceKind::Direct;
    for (uint32_t i = 0; i < queues; ++i) open_claim(nic, macvtap ? "macvtap" : "/dev/net/tun");
    if (uses_vhost(nic))
      for (uint32_t i = 0; i < queues; ++i) open_claim(nic, "/dev/vhost-net");
  }

  bool uses_vhost(const domain::Interface& nic) const {
    return nic.model == "virtio" && nic.backend != "qemu" &&
           facts_.node("/dev/vhost-net") != nullptr;
  }

  void disk_claims(const domain::Disk& disk) {
    if (disk.path.empty())
      return;
    auto chain = facts_.chains.find(disk.info.alias);
    if (chain == facts_.chains.end()) {
      qemu::Image missing{.path = disk.path, .format = disk.format, .writable = !disk.readonly};
      image_claim(disk, missing, 0);
      return;
    }
    for (size_t depth = 0; depth < chain->second.size(); ++depth)
      image_claim(disk, chain->second[depth], depth);
  }

  void image_claim(const domain::Disk& disk, const qemu::Image& image, size_t depth) {
    Record record(Kind::Disk);
    record.set("reason", reason_).set("old-disk", "?").set("new-disk", image.path);
    record.set("dev", disk.target).set("access", image.writable ? "rw" : "r");
    record.set("format", image.format).set("depth", depth).set("device", disk.info.alias);
    if (image.node.rdev)
      record.set("devtype", device_letter(image.node.rdev->type))
          .set("rdev", rdev_hex(*image.node.rdev));
    claim(std::move(record));
  }

  std::string stream_of(const domain::Chardev& chardev) const {
    if (chardev.kind == domain::ChardevKind::Tcp)
      return chardev.host + ":" + chardev.service;
    return chardev.kind == domain::ChardevKind::Unix ? socket_path(chardev, options_)
                                                     : chardev.path;
  }

  void chardev_claim(const domain::Chardev& chardev) {
    static constexpr std::string_view kTypes[] = {"pty", "unix", "file", "null", "dev", "tcp"};
    if (chardev.kind == domain::ChardevKind::Null)
      return;
    if (chardev.role == domain::ChardevRole::Redir)
      return claim(redirdev_record(chardev, stream_of(chardev), reason_));
    Record record(Kind::Chardev);
    // A pty has no name before QEMU opened it; confirm() completes it.
    std::string path = stream_of(chardev);
    record.set("reason", reason_)
        .set("old-chardev", "?")
        .set("new-chardev", path.empty() ? "?" : path);
    record.set("type", kTypes[static_cast<size_t>(chardev.kind)]).set("device", chardev.info.alias);
    set_device(record, facts_, chardev.path);
    claim(std::move(record));
  }

  void boot_claim(std::string_view role, const std::string& path, std::string_view access) {
    claim(Record(Kind::File)
              .set("reason", reason_)
              .set("old-file", "?")
              .set("new-file", path)
              .set("role", role)
              .set("access", access));
  }

  void boot_claims() {
    const domain::Os& os = domain_.os;
    if (!os.kernel.empty())
      boot_claim("kernel", os.kernel, "r");
    if (!os.initrd.empty())
      boot_claim("initrd", os.initrd, "r");
    if (os.loader)
      boot_claim("loader", os.loader->path, os.loader->readonly ? "r" : "rw");
    if (os.nvram)
      boot_claim("nvram", os.nvram->path, "rw");
  }

  void size_claims() {
    claim(Record(Kind::Mem)
              .set("reason", "start")
              .set("old-mem", uint64_t{0})
              .set("new-mem", domain::total_memory_kib(domain_)));
    claim(Record(Kind::Vcpu)
              .set("reason", "start")
              .set("old-vcpu", uint64_t{0})
              .set("new-vcpu", uint64_t{domain_.current_vcpus}));
    if (domain_.iothreads > 0)
      claim(Record(Kind::Iothread)
                .set("reason", "start")
                .set("old-iothread", uint64_t{0})
                .set("new-iothread", uint64_t{domain_.iothreads}));
  }

  const domain::Domain& domain_;
  const Facts& facts_;
  const HostOptions& options_;
  std::vector<NodeNeed> node_needs_;
  std::string_view reason_;
  std::vector<FileNeed> file_needs_;
  std::map<std::string, std::string> entries_;              // acl by path, so far
  std::set<std::pair<std::string, std::string>> searched_;  // folder, holder
  Plan plan_;
};

}  // namespace

Plan make_plan(const domain::Domain& domain, const Facts& facts, const HostOptions& options) {
  return Planner(domain, facts, options, "start").run();
}

Plan plan_devices(const domain::Domain& devices, const Facts& facts, const HostOptions& options,
                  std::string_view reason) {
  return Planner(devices, facts, options, reason).run_devices();
}

}  // namespace tenure::guest
