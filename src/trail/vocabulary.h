// SPDX-License-Identifier: Apache-2.0
// The record kinds of the trail and the table that describes them (vocabulary.cc). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace tenure::trail {

// Message types of libaudit.h.
inline constexpr uint16_t kVirtControl = 2500;
inline constexpr uint16_t kVirtResource = 2501;
inline constexpr uint16_t kVirtMachineId = 2502;
inline constexpr uint16_t kVirtIntegrityCheck = 2503;
inline constexpr uint16_t kVirtCreate = 2504;
inline constexpr uint16_t kVirtDestroy = 2505;

// One per row of the table. Keys beyond libvirt's are named here; libvirt's stand in vocabulary.cc.
// Every kind ends with the common optional keys: txn grant run why bound-from bound-to (ms since
// 1970) req-*.
enum class Kind : uint8_t {
  MachineId,  // VIRT_MACHINE_ID
  Control,    // VIRT_CONTROL op=start|stop|pause|…; ours: cgroup= fence= uid= accel=
  Create,     // VIRT_CREATE op=define; ours: file=
  Destroy,    // VIRT_DESTROY op=undefine
  Disk,       // ours: dev=(target) access= format= devtype= rdev= depth= device= (device alias)
  Net,        // ours: ifname= bridge= type= lower= device=
  NetOpen,    // resrc=net reason=open|close; ours: ifname= devtype= fd= (in the daemon, at open)
              // ifindex=
  Fs,         // ours: access= driver= tag= device=
  Hostdev,    // resrc=dev bus= device=; ours: access= devtype= rdev= alias=
  Chardev,    // ours: type= devtype= rdev= device=
  Smartcard,
  Rng,  // ours: devtype= rdev= device=
  Tpm,
  TpmEmulator,
  TpmExternal,
  Shmem,
  IvshmemSocket,
  Evdev,
  Mem,  // KiB
  Vcpu,
  Iothread,
  File,         // ours: resrc=file, old-file new-file role=kernel|initrd|dtb|loader|… access=
  FileAcl,      // ours: resrc=acl reason=allow|deny path= acl= acl-uid= for=: a POSIX ACL entry
  Driver,       // ours: resrc=driver reason=bind|unbind device= old-driver= new-driver= for=
  CgroupGroup,  // ours: resrc=cgroup reason=create|remove class=group: the cgroup itself
  CgroupAll,    // class=all
  CgroupMajor,  // class=major category= maj= acl=; ours: devtype= for=
  CgroupPath,   // class=path path= rdev= acl=; ours: devtype= for=
  Denial,       // ours: resrc=cgroup reason=denied class=device: what the fence refused
  Drift,        // ours: resrc=cgroup reason=out-of-band class=drift: a change that was not ours
  Gap,          // VIRT_INTEGRITY_CHECK op=gap: records that audit lost: from= to= count= cause=
  Integrity,    // VIRT_INTEGRITY_CHECK op=verify: result of a verification
  Policy,       // VIRT_CONTROL op=policy: a setting that changes the guarantees: setting= old= new=
  Recovery,     // VIRT_CONTROL op=recover: tenured re-adopted a guest, or found it gone
  Refusal,      // VIRT_CONTROL op=<request> reason=refused res=failed: not carried out; why=
};
inline constexpr size_t kKindCount = static_cast<size_t>(Kind::Refusal) + 1;

// How a value is written.
enum class Encoding : uint8_t {
  Word,    // bare: letters, digits and -._:/+*, only, or "?"; encode() refuses anything else
  Text,    // encode_value(): quoted or hex; everything that anyone outside can influence
  Number,  // unsigned decimal
};

enum class Need : uint8_t { Always, Optional };

struct KeySpec {
  std::string_view name;
  Encoding encoding;
  Need need;
  bool libvirt;              // true: libvirt writes it too, in this place
  std::string_view meaning;  // for docs/records.md, with units
  std::string_view fixed;    // not empty: encode() writes this word, a caller need not set it
};

struct KindSpec {
  Kind kind;
  std::string_view name;  // "disk", "net-open", "cgroup-path": stable, used by --kind and in JSON
  uint16_t type;          // message type
  std::string_view meaning;
  std::span<const KeySpec> keys;  // in the order of the text
};

const KindSpec& spec(Kind kind);
std::span<const KindSpec> vocabulary();

// The row whose type and fixed words a record has, the one with most of them if several fit;
// nullopt for what the table does not know (resrc=hostdev, other emitters). `word(key)` gives the
// record's raw value of a key, "" if it has none.
template <class Lookup>
std::optional<Kind> kind_of(uint16_t type, const Lookup& word) {
  std::optional<Kind> best;
  size_t most = 0;
  for (const KindSpec& row : vocabulary()) {
    if (row.type != type)
      continue;
    size_t matched = 0;
    bool fits = true;
    for (const KeySpec& key : row.keys) {
      if (key.fixed.empty())
        continue;
      fits = fits && word(key.name) == key.fixed;
      ++matched;
    }
    // A device node opened for an interface and the interface itself differ in the keys alone.
    if (row.kind == Kind::NetOpen || row.kind == Kind::Net)
      fits = fits && (row.kind == Kind::NetOpen) == !word("net").empty();
    if (!fits || matched < most)
      continue;
    best = row.kind;
    most = matched;
  }
  return best;
}

// "VIRT_CONTROL" for 2500 … 2507; "" for any other type.
std::string_view type_name(uint16_t type);

}  // namespace tenure::trail
