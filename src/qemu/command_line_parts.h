// SPDX-License-Identifier: Apache-2.0
// The pieces of command_line(): an argument list, a small JSON object writer, and one function a
// device family. Private to src/qemu/command_line*.cc.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qemu/command_line.h"

namespace tenure::qemu {

// A JSON object in the order in which its members are added. Texts must be UTF-8, which parse()
// made sure of.
class Json {
 public:
  Json() = default;
  // {"driver": …}, {"qom-type": …}: what names the kind.
  Json(std::string_view key, std::string_view value) { text(key, value); }

  Json& text(std::string_view key, std::string_view value);
  Json& flag(std::string_view key, bool value);
  Json& raw(std::string_view key, std::string_view json);
  Json& object(std::string_view key, const Json& value) { return raw(key, value.str()); }
  template <std::integral Int>
    requires(!std::same_as<Int, bool>)
  Json& number(std::string_view key, Int value) {
    return raw(key, std::to_string(value));
  }
  // Only if there is a value.
  Json& maybe(std::string_view key, const std::optional<bool>& value);
  template <std::integral Int>
    requires(!std::same_as<Int, bool>)
  Json& maybe(std::string_view key, const std::optional<Int>& value) {
    return value ? number(key, *value) : *this;
  }
  Json& maybe(std::string_view key, std::string_view value) {
    return value.empty() ? *this : text(key, value);
  }
  // All members of `other`, after mine.
  Json& merge(const Json& other);
  bool empty() const { return members_.empty(); }
  std::string str() const { return "{" + members_ + "}"; }

 private:
  std::string members_;
};

// "a,b" as a value of an option without a JSON form.
std::string doubled_commas(std::string_view value);

// The arguments so far, and what they are made from.
class Builder {
 public:
  Builder(const domain::Domain& domain, const Wiring& wiring) : Builder(domain, domain, wiring) {}
  // Arguments for the devices of `domain` on the buses of `whole`.
  Builder(const domain::Domain& domain, const domain::Domain& whole, const Wiring& wiring)
      : domain_(domain), whole_(whole), wiring_(wiring) {}

  const domain::Domain& domain() const { return domain_; }
  const domain::Domain& whole() const { return whole_; }
  const Wiring& wiring() const { return wiring_; }

  void add(std::string word) { argv_.push_back(std::move(word)); }
  void add(std::string option, std::string value) {
    argv_.push_back(std::move(option));
    argv_.push_back(std::move(value));
  }
  void add(std::string option, const Json& value) { add(std::move(option), value.str()); }
  void device(const Json& value) { add("-device", value); }
  void object(const Json& value) { add("-object", value); }

  // "id", "bus", "addr", "multifunction" … as the device's address says.
  void place(Json& json, const domain::DeviceInfo& info) const;
  // iommu_platform, ats, packed, page-per-vq.
  static void virtio(Json& json, const domain::VirtioOptions& options);
  // "virtio-net-pci", "…-transitional", "…-non-transitional".
  static std::string virtio_name(std::string_view stem, std::string_view model);
  // bootindex of the first device of a kind that <os><boot dev=> names, or of the device itself.
  std::optional<uint32_t> boot_index(const domain::DeviceInfo& info, std::string_view kind);
  // QEMU's id of a controller's bus.
  std::string bus_of(std::string_view type, uint32_t index) const;
  // "30:31"; "?" in a preview if there is none.
  Result<std::string> fd(const std::vector<std::string>& fds, std::string_view what) const;

  Error unsupported(domain::Place place, std::string_view message) const;
  Error invalid(domain::Place place, std::string_view message) const;

  std::vector<std::string> take() { return std::move(argv_); }

 private:
  Error error_at(Errc code, domain::Place place, std::string_view message) const;

  const domain::Domain& domain_;
  const domain::Domain& whole_;
  const Wiring& wiring_;
  std::vector<std::string> argv_;
  std::vector<std::string> booted_;  // kinds of <os><boot dev=> that have their device
};

// command_line_machine.cc
Result<> add_machine(Builder& b);
void add_boot(Builder& b);
Result<> add_clock(Builder& b);
// command_line_cpu.cc
Result<> add_cpu(Builder& b);
// command_line_memory.cc
Result<> add_memory(Builder& b);
void add_memory_devices(Builder& b);
// True if memory comes from a -object that the machine must be told of.
bool has_memory_object(const domain::Domain& domain);
// command_line_controller.cc
Result<> add_controllers(Builder& b);
// command_line_disk.cc
Result<> add_disks(Builder& b);
Result<> add_firmware(Builder& b);
// QEMU's driver for the file or device below an image.
std::string storage_driver(bool is_block, const std::string& path,
                           const std::optional<DeviceNumber>& rdev);
// "cache" of a node, if the disk says one.
void add_disk_cache(Json& json, const domain::Disk& disk);
// The node of a file or device, without its name.
Json disk_storage(const domain::Disk& disk, const std::string& driver, const std::string& path,
                  bool writable);
// command_line_net.cc
Result<> add_interfaces(Builder& b);
// command_line_chardev.cc
Result<> add_chardevs(Builder& b);
// command_line_display.cc
Result<> add_audio(Builder& b);
Result<> add_graphics(Builder& b);
Result<> add_videos(Builder& b);
Result<> add_sounds(Builder& b);
// command_line_host_device.cc
Result<> add_hostdevs(Builder& b);
Result<> add_shmems(Builder& b);
Result<> add_filesystems(Builder& b);
// command_line_device.cc
Result<> add_inputs(Builder& b);
void add_rngs(Builder& b);
void add_watchdogs(Builder& b);
Result<> add_small_devices(Builder& b);

}  // namespace tenure::qemu
