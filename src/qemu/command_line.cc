// SPDX-License-Identifier: Apache-2.0
// The order of the parts, and the Builder that they share. Objects come before what refers to them,
// buses before devices.
#include "qemu/command_line.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "qemu/command_line_parts.h"

namespace tenure::qemu {
namespace {

std::string escaped(std::string_view value) {
  std::string out = "\"";
  for (char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      static constexpr std::string_view kHex = "0123456789abcdef";
      out += "\\u00";
      out += kHex[byte >> 4U];
      out += kHex[byte & 0xFU];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string hex(uint32_t value) {
  static constexpr std::string_view kHex = "0123456789abcdef";
  std::string digits;
  do {
    digits.insert(digits.begin(), kHex[value & 0xFU]);
    value >>= 4U;
  } while (value != 0);
  return "0x" + digits;
}

void add_identity(Builder& b) {
  const domain::Domain& d = b.domain();
  const Wiring& w = b.wiring();
  b.add(d.emulator);
  const std::string& name = w.log_name.empty() ? d.name : w.log_name;
  b.add("-name", "guest=" + doubled_commas(name) + ",debug-threads=on");
  if (w.start_paused)
    b.add("-S");
  if (w.incoming)
    b.add("-incoming", "defer");
  b.add("-no-user-config");
  b.add("-nodefaults");
  b.add("-uuid", to_string(d.uuid));
  if (w.sandbox) {
    b.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
  }
  b.add("-msg", "timestamp=on");
}

Result<> add_monitor(Builder& b) {
  const Wiring& w = b.wiring();
  if (w.monitor_fd < 0 && !w.preview)
    return {};
  std::vector<std::string> fds;
  if (w.monitor_fd >= 0)
    fds.push_back(std::to_string(w.monitor_fd));
  TRY(const std::string fd, b.fd(fds, "the monitor"));
  b.add("-chardev", "socket,id=charmonitor,fd=" + fd + ",server=on,wait=off");
  b.add("-mon", "chardev=charmonitor,id=monitor,mode=control");
  return {};
}

void add_iothreads(Builder& b) {
  for (uint32_t i = 1; i <= b.domain().iothreads; ++i) {
    b.object(Json("qom-type", "iothread").text("id", "iothread" + std::to_string(i)));
  }
}

}  // namespace

Json& Json::raw(std::string_view key, std::string_view json) {
  if (!members_.empty())
    members_ += ',';
  members_ += escaped(key);
  members_ += ':';
  members_ += json;
  return *this;
}

Json& Json::merge(const Json& other) {
  if (!members_.empty() && !other.members_.empty())
    members_ += ',';
  members_ += other.members_;
  return *this;
}

Json& Json::text(std::string_view key, std::string_view value) {
  return raw(key, escaped(value));
}

Json& Json::flag(std::string_view key, bool value) {
  return raw(key, value ? "true" : "false");
}

Json& Json::maybe(std::string_view key, const std::optional<bool>& value) {
  return value ? flag(key, *value) : *this;
}

std::string doubled_commas(std::string_view value) {
  std::string out;
  for (char c : value) {
    out += c;
    if (c == ',')
      out += ',';
  }
  return out;
}

std::string Builder::bus_of(std::string_view type, uint32_t index) const {
  if (type == "pci" && index == 0)
    return domain::is_q35(whole_) ? "pcie.0" : "pci.0";
  const auto same = [&](const domain::Controller& c) {
    return c.type == type && c.index == index && !c.model.starts_with("ich9-uhci");
  };
  const auto found = std::ranges::find_if(whole_.controllers, same);
  const std::string alias = found == whole_.controllers.end() ? std::string() : found->info.alias;
  return type == "pci" ? alias : alias + ".0";
}

void Builder::place(Json& json, const domain::DeviceInfo& info) const {
  using domain::AddressKind;
  const domain::Address& a = info.address;
  if (!info.alias.empty())
    json.text("id", info.alias);
  if (a.kind == AddressKind::Pci) {
    json.text("bus", bus_of("pci", a.controller));
    json.maybe("multifunction", a.multifunction);
    json.text("addr", a.function == 0 ? hex(a.slot) : hex(a.slot) + "." + hex(a.function));
  } else if (a.kind == AddressKind::Usb) {
    json.text("bus", bus_of("usb", a.controller)).text("port", a.usb_port);
  } else if (a.kind == AddressKind::VirtioSerial) {
    json.text("bus", bus_of("virtio-serial", a.controller)).number("nr", a.port);
  } else if (a.kind == AddressKind::Isa) {
    json.maybe("iobase", a.iobase).maybe("irq", a.irq);
  }
}

void Builder::virtio(Json& json, const domain::VirtioOptions& options) {
  json.maybe("iommu_platform", options.iommu)
      .maybe("ats", options.ats)
      .maybe("packed", options.packed)
      .maybe("page-per-vq", options.page_per_vq);
}

std::string Builder::virtio_name(std::string_view stem, std::string_view model) {
  std::string name = std::string(stem) + "-pci";
  if (model == "virtio-transitional")
    name += "-transitional";
  if (model == "virtio-non-transitional")
    name += "-non-transitional";
  return name;
}

std::optional<uint32_t> Builder::boot_index(const domain::DeviceInfo& info, std::string_view kind) {
  if (info.boot_order)
    return info.boot_order;
  const auto& order = domain_.os.boot_devices;
  const auto found = std::ranges::find(order, kind);
  if (found == order.end() || std::ranges::find(booted_, kind) != booted_.end()) {
    return std::nullopt;
  }
  booted_.emplace_back(kind);
  return static_cast<uint32_t>(found - order.begin() + 1);
}

Result<std::string> Builder::fd(const std::vector<std::string>& fds, std::string_view what) const {
  if (fds.empty() && wiring_.preview)
    return "?";
  if (fds.empty())
    return fail(Errc::Invalid, std::string(what) + ": no fd for it");
  std::string text;
  for (const std::string& fd : fds) {
    if (!text.empty())
      text += ':';
    text += fd;
  }
  return text;
}

Error Builder::error_at(Errc code, domain::Place place, std::string_view message) const {
  const domain::Place at = place.line == 0 ? domain_.place : place;
  return Error(code, domain_.source_name + ":" + std::to_string(at.line) + ":" +
                         std::to_string(at.column) + ": " + std::string(message));
}

Error Builder::unsupported(domain::Place place, std::string_view message) const {
  return error_at(Errc::Unsupported, place, message);
}

Error Builder::invalid(domain::Place place, std::string_view message) const {
  return error_at(Errc::Invalid, place, message);
}

Result<std::vector<std::string>> command_line(const domain::Domain& domain, const Wiring& wiring) {
  using Part = Result<> (*)(Builder&);
  static constexpr std::array<Part, 16> kParts = {
      add_monitor, add_clock,       add_controllers, add_firmware,
      add_disks,   add_filesystems, add_interfaces,  add_chardevs,
      add_inputs,  add_audio,       add_graphics,    add_videos,
      add_sounds,  add_hostdevs,    add_shmems,      add_small_devices};
  Builder b(domain, wiring);
  add_identity(b);
  TRY_OK(add_machine(b));
  TRY_OK(add_cpu(b));
  TRY_OK(add_memory(b));
  add_iothreads(b);
  add_boot(b);
  add_memory_devices(b);
  for (Part part : kParts) {
    TRY_OK(part(b));
  }
  return b.take();
}

}  // namespace tenure::qemu
