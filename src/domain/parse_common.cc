// SPDX-License-Identifier: Apache-2.0
// Addresses and the other things that any device may carry.
#include "domain/parse.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>

#include "base/text.h"

namespace tenure::domain {
namespace {

constexpr uint32_t kMaxIndex = 255;  // of a controller: PCI has 256 buses

Address parse_pci(const Element& e) {
  Address a{.kind = AddressKind::Pci};
  if (e.number<uint32_t>("domain").value_or(0) != 0)
    e.unsupported("PCI domains other than 0");
  a.controller = e.number<uint32_t>("bus", 0, kMaxIndex).value_or(0);
  a.slot = e.number<uint32_t>("slot", 0, 31).value_or(0);
  a.function = e.number<uint32_t>("function", 0, 7).value_or(0);
  a.multifunction = e.flag("multifunction");
  return a;
}

Address parse_drive(const Element& e) {
  Address a{.kind = AddressKind::Drive};
  a.controller = e.number<uint32_t>("controller", 0, kMaxIndex).value_or(0);
  a.bus = e.number<uint32_t>("bus", 0, kMaxIndex).value_or(0);
  a.target = e.number<uint32_t>("target", 0, kMaxIndex).value_or(0);
  a.unit = e.number<uint32_t>("unit", 0, 16383).value_or(0);
  return a;
}

Address parse_virtio_serial(const Element& e) {
  Address a{.kind = AddressKind::VirtioSerial};
  a.controller = e.number<uint32_t>("controller", 0, kMaxIndex).value_or(0);
  a.bus = e.number<uint32_t>("bus", 0, 0).value_or(0);
  a.port = e.number<uint32_t>("port", 0, 511).value_or(0);
  return a;
}

Address parse_usb(const Element& e) {
  Address a{.kind = AddressKind::Usb};
  a.controller = e.number<uint32_t>("bus", 0, kMaxIndex).value_or(0);
  a.usb_port = e.string("port");
  for (std::string_view part : split(a.usb_port, '.')) {
    if (!a.usb_port.empty() && !parse_int<uint8_t>(part))
      e.invalid("a USB port is like '1' or '1.2'");
  }
  return a;
}

Address parse_isa(const Element& e) {
  Address a{.kind = AddressKind::Isa};
  a.iobase = e.number<uint32_t>("iobase", 0, 0xFFFF);
  a.irq = e.number<uint32_t>("irq", 0, 15);
  return a;
}

Address parse_dimm(const Element& e) {
  Address a{.kind = AddressKind::Dimm};
  const auto slot = e.number<uint32_t>("slot", 0, 255);
  if (!slot)
    e.invalid("attribute 'slot' is missing");
  a.slot = slot.value_or(0);
  a.base = e.number<uint64_t>("base", 1, std::numeric_limits<int64_t>::max());
  return a;
}

struct AddressParser {
  std::string_view type;
  Address (*parse)(const Element&);
};
constexpr std::array<AddressParser, 6> kAddresses = {{{"pci", parse_pci},
                                                      {"dimm", parse_dimm},
                                                      {"drive", parse_drive},
                                                      {"virtio-serial", parse_virtio_serial},
                                                      {"usb", parse_usb},
                                                      {"isa", parse_isa}}};

Address parse_address(const Element& e) {
  const std::string type = e.required("type");
  const auto found = std::ranges::find(kAddresses, type, &AddressParser::type);
  if (found != kAddresses.end())
    return found->parse(e);
  e.unsupported("type '" + printable(type) + "' is not implemented");
  return {};
}

// QOM paths and QMP ids are made of aliases: libvirt's own rule, with a bound.
std::string parse_alias(const Element& e) {
  const std::string name = e.required("name");
  const auto plain = [](char c) {
    return (std::isalnum(static_cast<unsigned char>(c)) != 0) || c == '-' || c == '_' || c == '.';
  };
  if (name.size() > 60 || !std::ranges::all_of(name, plain) ||
      (std::isalpha(static_cast<unsigned char>(name.empty() ? '0' : name.front())) == 0)) {
    e.invalid("an alias is a letter, then letters, digits, '-', '_' and '.', 60 at most");
  }
  return name;
}

}  // namespace

DeviceInfo parse_info(const Element& e) {
  DeviceInfo info{.place = e.place()};
  if (auto alias = e.child("alias"))
    info.alias = parse_alias(*alias);
  if (auto address = e.child("address"))
    info.address = parse_address(*address);
  if (auto boot = e.child("boot")) {
    info.boot_order = boot->number<uint32_t>("order", 1, 9999);
    if (!info.boot_order)
      boot->invalid("attribute 'order' is missing");
  }
  return info;
}

VirtioOptions parse_virtio(const Element& driver) {
  return {.iommu = driver.flag("iommu"),
          .ats = driver.flag("ats"),
          .packed = driver.flag("packed"),
          .page_per_vq = driver.flag("page_per_vq")};
}

void check_ranges(const Element& e, std::string_view text, uint32_t limit) {
  for (std::string_view piece : split(text, ',')) {
    const auto ends = split(piece, '-');
    const auto first = parse_int<uint32_t>(ends.front());
    const auto last = parse_int<uint32_t>(ends.back());
    if (ends.size() > 2 || !first || !last || *first > *last || *last >= limit) {
      e.invalid("'" + printable(text) + "' is not a list of ranges below " + std::to_string(limit));
      return;
    }
  }
}

}  // namespace tenure::domain
