// SPDX-License-Identifier: Apache-2.0
#include "domain/change.h"

#include <algorithm>
#include <pugixml.hpp>
#include <set>
#include <sstream>
#include <tuple>

#include "domain/complete.h"
#include "domain/parse.h"

namespace tenure::domain {
namespace {

// The lists of devices that come and go.
auto lists(auto& d) {
  return std::tie(d.disks, d.interfaces, d.chardevs, d.inputs, d.sounds, d.rngs, d.watchdogs,
                  d.controllers, d.memories, d.shmems, d.hostdevs, d.filesystems);
}

template <class D, class F>
void each_device(D& d, F&& visit) {
  std::apply([&](auto&... list) { (std::ranges::for_each(list, visit), ...); }, lists(d));
}

std::set<std::string> aliases(const Domain& d) {
  std::set<std::string> names;
  each_device(d, [&](const auto& device) { names.insert(device.info.alias); });
  return names;
}

// Keeps a given alias that nobody has; complete_addition() makes one for the others.
void join(Domain& whole, Domain one) {
  const std::set<std::string> taken = aliases(whole);
  each_device(one, [&](auto& device) {
    if (taken.contains(device.info.alias) && !device.info.alias.starts_with("ua-"))
      device.info.alias.clear();
  });
  const auto append = [](auto& to, auto& from) {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  };
  auto from = lists(one);
  auto to = lists(whole);
  [&]<size_t... I>(std::index_sequence<I...>) {
    (append(std::get<I>(to), std::get<I>(from)), ...);
  }(std::make_index_sequence<std::tuple_size_v<decltype(to)>>());
}

void set_child(pugi::xml_node device, const char* name,
               std::initializer_list<std::pair<const char*, std::string>> attributes) {
  device.remove_child(name);
  pugi::xml_node child = device.append_child(name);
  for (const auto& [key, value] : attributes) child.append_attribute(key).set_value(value.c_str());
}

void pin_address(pugi::xml_node device, const Address& a) {
  const auto number = [](uint32_t value) { return std::to_string(value); };
  if (a.kind == AddressKind::Pci)
    set_child(device, "address",
              {{"type", "pci"},
               {"bus", number(a.controller)},
               {"slot", number(a.slot)},
               {"function", number(a.function)}});
  if (a.kind == AddressKind::Drive)
    set_child(device, "address",
              {{"type", "drive"},
               {"controller", number(a.controller)},
               {"bus", number(a.bus)},
               {"target", number(a.target)},
               {"unit", number(a.unit)}});
  if (a.kind == AddressKind::VirtioSerial)
    set_child(device, "address",
              {{"type", "virtio-serial"},
               {"controller", number(a.controller)},
               {"bus", number(a.bus)},
               {"port", number(a.port)}});
  if (a.kind == AddressKind::Dimm)
    set_child(device, "address", {{"type", "dimm"}, {"slot", number(a.slot)}});
  if (a.kind == AddressKind::Dimm && a.base)
    device.child("address").append_attribute("base").set_value(
        static_cast<unsigned long long>(*a.base));
  if (a.kind == AddressKind::Usb)
    set_child(device, "address",
              {{"type", "usb"}, {"bus", number(a.controller)}, {"port", a.usb_port}});
}

// Every word by which a device can be called.
std::vector<std::string> words(const Disk& x) {
  return {x.info.alias, x.target, x.path};
}
std::vector<std::string> words(const Interface& x) {
  return {x.info.alias, x.mac, x.target};
}
std::vector<std::string> words(const Chardev& x) {
  return {x.info.alias, x.name, x.path};
}
std::vector<std::string> words(const Input& x) {
  return {x.info.alias, x.evdev};
}
std::vector<std::string> words(const Rng& x) {
  return {x.info.alias, x.path};
}
std::vector<std::string> words(const Shmem& x) {
  return {x.info.alias, x.name, x.server};
}
std::vector<std::string> words(const Hostdev& x) {
  return {x.info.alias, host_address(x)};
}
std::vector<std::string> words(const Filesystem& x) {
  return {x.info.alias, x.tag, x.socket, x.dir};
}
std::vector<std::string> words(const auto& x) {
  return {x.info.alias};
}

// Of an element: its alias, else what tells it from its like, else (one rng, one watchdog) nothing.
Result<std::string> find_by_element(const Domain& domain, std::string_view xml) {
  TRY(Domain one, parse_element(xml, "device"));
  std::string word;
  each_device(one, [&](const auto& device) {
    for (const std::string& name : words(device))
      if (word.empty())
        word = name;
  });
  if (word.empty())
    return fail(Errc::Invalid, "device: it has no alias, target, MAC or path to find it by");
  return find_device(domain, word);
}

}  // namespace

Result<Domain> parse_element(std::string_view xml, std::string_view source_name) {
  TRY(auto doc, Document::open(xml, source_name));
  const Element e(*doc, doc->root());
  Domain one;
  one.source_name = source_name;
  one.place = e.place();
  parse_device(e, one);
  TRY_OK(doc->sweep());
  return one;
}

std::string pinned_element(const Domain& d, std::string_view alias, std::string_view xml) {
  pugi::xml_document tree;
  tree.load_buffer(xml.data(), xml.size(), pugi::parse_default, pugi::encoding_utf8);
  pugi::xml_node root = tree.document_element();
  each_device(d, [&](const auto& device) {
    if (device.info.alias != alias)
      return;
    set_child(root, "alias", {{"name", device.info.alias}});
    pin_address(root, device.info.address);
  });
  for (const Interface& nic : d.interfaces)
    if (nic.info.alias == alias)
      set_child(root, "mac", {{"address", nic.mac}});
  std::ostringstream text;
  tree.save(text, "", pugi::format_raw | pugi::format_no_declaration, pugi::encoding_utf8);
  return text.str();
}

std::vector<std::pair<Place, std::string>> device_places(const Domain& domain) {
  std::vector<std::pair<Place, std::string>> places;
  each_device(domain, [&](const auto& device) {
    places.emplace_back(device.info.place, device.info.alias);
  });
  return places;
}

Result<Addition> add_device(const Domain& running, std::string_view xml,
                            std::string_view source_name) {
  TRY(Domain one, parse_element(xml, source_name));
  Addition addition{.domain = running, .alias = {}, .xml = {}};
  Domain& whole = addition.domain;
  const std::set<std::string> before = aliases(running);
  const size_t buses = running.controllers.size() + one.controllers.size();
  const Place place = one.place;
  whole.source_name = source_name;
  join(whole, std::move(one));
  TRY_OK(complete_addition(whole));
  if (whole.controllers.size() > buses) {
    const Controller& missing = whole.controllers.back();
    return fail(error_at(
        whole, place,
        "the running guest has no free place for it: it would need another <controller type='" +
            missing.type + "' model='" + missing.model +
            "'>; add that to the definition for the next run",
        Errc::Busy));
  }
  each_device(whole, [&](const auto& device) {
    if (!before.contains(device.info.alias))
      addition.alias = device.info.alias;
  });
  whole.source_name = running.source_name;
  addition.xml = pinned_element(whole, addition.alias, xml);
  return addition;
}

Result<> remove_device(Domain& domain, std::string_view alias) {
  size_t removed = 0;
  const auto erase = [&](auto& list) {
    removed += std::erase_if(list, [&](const auto& x) { return x.info.alias == alias; });
  };
  std::apply([&](auto&... list) { (erase(list), ...); }, lists(domain));
  if (removed == 0)
    return fail(Errc::NotFound, "no device " + std::string(alias));
  return {};
}

Domain only_device(const Domain& domain, std::string_view alias) {
  Domain one = domain;
  const auto keep = [&](auto& list) {
    std::erase_if(list, [&](const auto& x) { return x.info.alias != alias; });
  };
  std::apply([&](auto&... list) { (keep(list), ...); }, lists(one));
  one.videos.clear();
  one.graphics.clear();
  one.audios.clear();
  one.panics.clear();
  one.memballoon.reset();
  one.iommu.reset();
  one.genid.clear();
  one.os.boot_devices.clear();
  one.os.kernel.clear();
  one.os.initrd.clear();
  one.os.loader.reset();
  one.os.nvram.reset();
  return one;
}

std::vector<std::string> device_aliases(const Domain& domain) {
  const std::set<std::string> names = aliases(domain);
  return {names.begin(), names.end()};
}

Result<std::string> find_device(const Domain& domain, std::string_view word) {
  if (word.starts_with('<'))
    return find_by_element(domain, word);
  std::set<std::string> found;
  each_device(domain, [&](const auto& device) {
    for (const std::string& name : words(device))
      if (!word.empty() && name == word)
        found.insert(device.info.alias);
  });
  if (found.empty())
    return fail(Errc::NotFound, std::string(word) + ": the guest has no such device");
  if (found.size() > 1)
    return fail(Errc::Invalid, std::string(word) + ": fits " + *found.begin() + ", " +
                                   *std::next(found.begin()) + " …; name one by its alias");
  return *found.begin();
}

}  // namespace tenure::domain
