// SPDX-License-Identifier: Apache-2.0
#include "model/claim.h"

#include <algorithm>
#include <array>

#include "base/text.h"

namespace tenure::model {
namespace {

// Which keys of a kind's record say what is held and how.
struct Shape {
  trail::Kind kind;
  std::string_view name;    // Claim::kind
  std::string_view id;      // key of the id
  std::string_view access;  // key of the access, "" if the kind has none
  std::string_view holder;  // key of the holder
};
using enum trail::Kind;
constexpr std::array kShapes{
    Shape{Disk, "disk", "new-disk", "access", "device"},
    Shape{Net, "net", "new-net", "", "device"},
    Shape{NetOpen, "net-open", "path", "", "device"},
    Shape{Fs, "fs", "new-fs", "access", "device"},
    Shape{Hostdev, "dev", "device", "access", "alias"},
    Shape{Chardev, "chardev", "new-chardev", "", "device"},
    Shape{Smartcard, "smartcard", "new-smartcard", "", "device"},
    Shape{Rng, "rng", "new-rng", "", "device"},
    Shape{Tpm, "tpm", "device", "", "alias"},
    Shape{TpmEmulator, "tpm-emulator", "device", "", "alias"},
    Shape{TpmExternal, "tpm-external", "device", "", "alias"},
    Shape{Shmem, "shmem", "path", "", "device"},
    Shape{IvshmemSocket, "ivshmem-socket", "path", "", "device"},
    Shape{Evdev, "evdev", "path", "", "device"},
    Shape{Mem, "mem", "new-mem", "", ""},  // one amount, whichever device it came by
    Shape{Vcpu, "vcpu", "new-vcpu", "", ""},
    Shape{Iothread, "iothread", "new-iothread", "", ""},
    Shape{File, "file", "new-file", "access", "role"},
    Shape{Driver, "driver", "device", "", "for"},
    Shape{FileAcl, "acl", "path", "acl", "for"},
    Shape{CgroupGroup, "cgroup", "cgroup", "", ""},
    Shape{CgroupAll, "cgroup", "cgroup", "", ""},
    Shape{CgroupMajor, "cgroup", "category", "acl", "for"},
    Shape{CgroupPath, "cgroup", "path", "acl", "for"},
};

std::string text_of(const trail::Record& record, std::string_view key) {
  return key.empty() ? std::string() : std::string(record.get(key).value_or(""));
}

// devtype=b rdev=08:10 (hex), or maj=88 of a class=major rule.
std::optional<DeviceNumber> rdev_of(const trail::Record& record) {
  DeviceNumber dev;
  dev.type = record.get("devtype") == "b" ? DeviceType::Block : DeviceType::Char;
  if (auto major = record.get("maj")) {
    auto value = parse_int<uint32_t>(*major, 16);
    if (!value)
      return std::nullopt;
    dev.major = *value;
    return dev;
  }
  auto rdev = record.get("rdev");
  if (!rdev)
    return std::nullopt;
  size_t colon = rdev->find(':');
  if (colon == rdev->npos)
    return std::nullopt;
  auto major = parse_int<uint32_t>(rdev->substr(0, colon), 16);
  auto minor = parse_int<uint32_t>(rdev->substr(colon + 1), 16);
  if (!major || !minor)
    return std::nullopt;
  dev.major = *major;
  dev.minor = *minor;
  return dev;
}

}  // namespace

bool replaces(const Claim& newer, const Claim& older) {
  trail::Kind kind = newer.record.kind;
  bool amount = kind == Mem || kind == Vcpu || kind == Iothread;
  return amount && older.record.kind == kind && older.holder == newer.holder;
}

Claim claim_of(trail::Record record) {
  Claim claim{.record = std::move(record)};
  auto shape = std::ranges::find(kShapes, claim.record.kind, &Shape::kind);
  if (shape == kShapes.end())
    return claim;
  claim.kind = shape->name;
  claim.id = text_of(claim.record, shape->id);
  claim.holder = text_of(claim.record, shape->holder);
  if (auto access = parse_access(text_of(claim.record, shape->access)))
    claim.access = *access;
  claim.rdev = rdev_of(claim.record);
  claim.any_minor = claim.record.kind == CgroupMajor;
  return claim;
}

}  // namespace tenure::model
