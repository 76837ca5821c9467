// SPDX-License-Identifier: Apache-2.0
#include "domain/text.h"

#include <algorithm>
#include <map>
#include <memory>
#include <pugixml.hpp>
#include <sstream>

#include "domain/change.h"
#include "domain/xml.h"

namespace tenure::domain {
namespace {

std::string text_of(const pugi::xml_document& tree) {
  std::ostringstream text;
  tree.save(text, "", pugi::format_raw | pugi::format_no_declaration, pugi::encoding_utf8);
  return text.str();
}

void load(pugi::xml_document& tree, std::string_view xml) {
  tree.load_buffer(xml.data(), xml.size(), pugi::parse_default, pugi::encoding_utf8);
}

void set_attribute(pugi::xml_node node, const char* name, const std::string& value) {
  pugi::xml_attribute attribute = node.attribute(name);
  (attribute ? attribute : node.append_attribute(name)).set_value(value.c_str());
}

pugi::xml_node child_of(pugi::xml_node node, const char* name) {
  pugi::xml_node child = node.child(name);
  return child ? child : node.append_child(name);
}

void set_source(pugi::xml_node node, SourceKind kind, const std::string& path) {
  const bool block = kind == SourceKind::Block;
  set_attribute(node, "type", block ? "block" : "file");
  node.remove_child("source");
  set_attribute(node.append_child("source"), block ? "dev" : "file", path);
}

// Aliases of devices by the place of their elements.
using Aliases = std::map<std::pair<uint32_t, uint32_t>, std::string>;

Result<Aliases> aliases_by_place(std::string_view xml) {
  TRY(const Domain domain, parse_complete(xml, "definition"));
  Aliases aliases;
  for (const auto& [place, alias] : device_places(domain))
    aliases[{place.line, place.column}] = alias;
  return aliases;
}

std::string alias_of(const Aliases& aliases, const Document& doc, pugi::xml_node device) {
  const Place place = doc.place(device);
  const auto found = aliases.find({place.line, place.column});
  return found == aliases.end() ? std::string() : found->second;
}

// Without what says the same in another order: attributes and children sorted, blanks dropped.
std::string canonical(pugi::xml_node node) {
  std::vector<std::string> parts;
  for (pugi::xml_attribute a : node.attributes())
    parts.push_back(std::string(a.name()) + "=" + a.value());
  for (pugi::xml_node child : node.children()) {
    if (child.type() == pugi::node_element && std::string_view(child.name()) != "alias")
      parts.push_back(canonical(child));
    if (child.type() == pugi::node_pcdata || child.type() == pugi::node_cdata)
      parts.push_back(std::string("'") + child.value());
  }
  std::ranges::sort(parts);
  std::string text = std::string("<") + node.name();
  for (const std::string& part : parts) text += "\n" + part;
  return text + ">";
}

// The order of the children of these means something: <boot dev=/>, features of a CPU.
std::string in_order(pugi::xml_node node) {
  std::string text = canonical(node);
  for (pugi::xml_node child : node.children()) text += canonical(child);
  return text;
}

// What the guest gets from the definition, by what it is called.
struct Outline {
  std::unique_ptr<Document> doc;
  std::map<std::string, pugi::xml_node> devices;  // by alias
  std::map<std::string, std::string> elements;    // by name: the text of all of them
};

Result<Outline> outline_of(std::string_view xml) {
  Outline outline;
  TRY(const Aliases aliases, aliases_by_place(xml));
  TRY(outline.doc, Document::open(xml, "definition"));
  const pugi::xml_node root = outline.doc->root();
  for (pugi::xml_node element : root.children()) {
    if (element.type() != pugi::node_element)
      continue;
    if (std::string_view(element.name()) != "devices") {
      outline.elements[element.name()] += in_order(element);
      continue;
    }
    for (pugi::xml_node device : element.children()) {
      const std::string alias = alias_of(aliases, *outline.doc, device);
      if (!alias.empty())
        outline.devices[alias] = device;
      else if (device.type() == pugi::node_element)
        outline.elements[device.name()] += canonical(device);
    }
  }
  return outline;
}

// The format of a medium that is not there means nothing.
void drop_idle_format(pugi::xml_node drive) {
  pugi::xml_node driver = drive.child("driver");
  if (std::string_view(drive.name()) != "disk" || drive.child("source") || !driver)
    return;
  driver.remove_attribute("name");
  driver.remove_attribute("type");
  if (!driver.first_attribute() && !driver.first_child())
    drive.remove_child(driver);
}

bool same_device(pugi::xml_node one, pugi::xml_node other) {
  pugi::xml_document left, right;
  left.append_copy(one);
  right.append_copy(other);
  for (const char* name : {"address", "mac", "backingStore"}) {
    if (one.child(name) && other.child(name))
      continue;
    left.document_element().remove_child(name);
    right.document_element().remove_child(name);
  }
  drop_idle_format(left.document_element());
  drop_idle_format(right.document_element());
  return canonical(left.document_element()) == canonical(right.document_element());
}

// <memory> counts the modules (parse()); one that comes or goes must leave the rest as it was.
Result<> restate_memory(pugi::xml_node root, std::string_view definition,
                        const std::set<std::string>& without,
                        const std::vector<std::pair<std::string, std::string>>& additions) {
  TRY(const Domain before, parse_complete(definition, "definition"));
  uint64_t kib = total_memory_kib(before);
  for (const MemoryDevice& memory : before.memories)
    if (without.contains(memory.info.alias))
      kib -= memory.size_kib;
  for (const auto& [alias, element] : additions) {
    TRY(const Domain one, parse_element(element, alias));
    for (const MemoryDevice& memory : one.memories) kib += memory.size_kib;
  }
  if (kib == total_memory_kib(before))
    return {};
  for (const char* name : {"memory", "currentMemory"}) {
    pugi::xml_node node = root.child(name);
    const bool is_current = std::string_view(name) == "currentMemory";
    if (!node || (is_current && before.current_memory_kib <= kib))
      continue;
    node.remove_attribute("unit");
    set_attribute(node, "unit", "KiB");
    node.text().set(static_cast<unsigned long long>(kib));
  }
  return {};
}

}  // namespace

Result<std::string> device_text(std::string_view definition, std::string_view alias) {
  TRY(const Aliases aliases, aliases_by_place(definition));
  TRY(auto doc, Document::open(definition, "definition"));
  for (pugi::xml_node device : doc->root().child("devices").children())
    if (alias_of(aliases, *doc, device) == alias)
      return Document::text_of(device);
  return fail(Errc::NotFound, "no device " + std::string(alias));
}

std::string with_medium(std::string_view element, const Disk& disk) {
  pugi::xml_document tree;
  load(tree, element);
  pugi::xml_node root = tree.document_element();
  const bool block = disk.kind == SourceKind::Block;
  set_attribute(root, "type", block ? "block" : "file");
  root.remove_child("source");
  // A chain that was stated is that of the old medium.
  root.remove_child("backingStore");
  if (!disk.path.empty()) {
    pugi::xml_node driver = child_of(root, "driver");
    set_attribute(driver, "name", "qemu");
    set_attribute(driver, "type", disk.format);
    set_attribute(root.append_child("source"), block ? "dev" : "file", disk.path);
  }
  if (disk.device == "floppy") {
    root.remove_child("readonly");
    if (disk.readonly)
      root.append_child("readonly");
  }
  return text_of(tree);
}

std::string with_chain(std::string_view element, const Disk& disk) {
  pugi::xml_document tree;
  load(tree, element);
  pugi::xml_node root = tree.document_element();
  set_source(root, disk.kind, disk.path);
  pugi::xml_node driver = child_of(root, "driver");
  set_attribute(driver, "name", "qemu");
  set_attribute(driver, "type", disk.format);
  if (disk.format != "qcow2")
    driver.remove_child("metadata_cache");
  root.remove_child("backingStore");
  pugi::xml_node above = root;
  for (const BackingStore& member : disk.backing.value_or(std::vector<BackingStore>{})) {
    pugi::xml_node store = above.append_child("backingStore");
    set_attribute(store.append_child("format"), "type", member.format);
    set_source(store, member.kind, member.path);
    above = store;
  }
  if (disk.backing)
    above.append_child("backingStore");  // the end of the chain
  return text_of(tree);
}

std::string with_connection(std::string_view element, const Interface& nic) {
  pugi::xml_document tree;
  load(tree, element);
  pugi::xml_node root = tree.document_element();
  if (nic.kind == InterfaceKind::Bridge)
    set_attribute(child_of(root, "source"), "bridge", nic.bridge);
  root.remove_child("link");
  if (nic.link_up)
    set_attribute(root.append_child("link"), "state", *nic.link_up ? "up" : "down");
  return text_of(tree);
}

Result<std::string> definition_text(
    std::string_view definition, const std::set<std::string>& without,
    const std::vector<std::pair<std::string, std::string>>& additions) {
  TRY(const Aliases aliases, aliases_by_place(definition));
  TRY(auto doc, Document::open(definition, "definition"));
  pugi::xml_document tree;
  pugi::xml_node root = tree.append_copy(doc->root());
  pugi::xml_node devices = root.child("devices");
  // The copy has the same children in the same order.
  pugi::xml_node copy = devices.first_child();
  for (pugi::xml_node device : doc->root().child("devices").children()) {
    const pugi::xml_node next = copy.next_sibling();
    if (without.contains(alias_of(aliases, *doc, device)))
      devices.remove_child(copy);
    copy = next;
  }
  for (const auto& [alias, element] : additions)
    devices.append_buffer(element.data(), element.size(), pugi::parse_default, pugi::encoding_utf8);
  TRY_OK(restate_memory(root, definition, without, additions));
  std::ostringstream text;
  tree.save(text, "  ", pugi::format_indent | pugi::format_no_declaration, pugi::encoding_utf8);
  return text.str();
}

Result<std::vector<std::string>> differences(std::string_view one, std::string_view other) {
  TRY(const Outline left, outline_of(one));
  TRY(const Outline right, outline_of(other));
  std::set<std::string> found;
  const auto missing = [&](const auto& here, const auto& there) {
    for (const auto& [name, value] : here)
      if (!there.contains(name))
        found.insert(name);
  };
  missing(left.devices, right.devices);
  missing(right.devices, left.devices);
  missing(left.elements, right.elements);
  missing(right.elements, left.elements);
  for (const auto& [alias, device] : left.devices)
    if (auto same = right.devices.find(alias);
        same != right.devices.end() && !same_device(device, same->second))
      found.insert(alias);
  for (const auto& [name, text] : left.elements)
    if (auto same = right.elements.find(name); same != right.elements.end() && same->second != text)
      found.insert(name);
  return std::vector<std::string>(found.begin(), found.end());
}

Result<std::string> with_uuid(std::string definition, const Uuid& uuid) {
  const std::string element = "<uuid>" + to_string(uuid) + "</uuid>";
  constexpr std::string_view kEnd = "</name>";
  const size_t end = definition.find(kEnd);
  if (end != std::string::npos)
    definition.insert(end + kEnd.size(), element);
  // The first </name> may stand in a comment; then the element does, too.
  TRY(const Domain read, parse(definition, "definition"));
  if (!read.has_uuid || read.uuid != uuid)
    return fail(Errc::Invalid, "no <uuid>: write " + element + " into the definition");
  return definition;
}

Result<std::string> with_element(std::string definition, std::string_view alias,
                                 std::string_view element) {
  TRY(const Domain read, parse_complete(definition, "definition"));
  const auto places = device_places(read);
  const auto device =
      std::ranges::find_if(places, [&](const auto& one) { return one.second == alias; });
  if (device == places.end())
    return fail(Errc::NotFound, "no device " + std::string(alias));
  size_t begin = 0;
  for (uint32_t line = 1; line < device->first.line && begin != std::string::npos; ++line)
    begin = definition.find('\n', begin) + 1;
  begin += device->first.column - 1;
  TRY(const std::string old, device_text(definition, alias));
  const std::string name = old.substr(1, old.find_first_of(" \t\r\n/>") - 1);
  const std::string close = "</" + name + ">";
  const size_t end = definition.find(close, begin);
  if (begin > definition.size() || end == std::string::npos)
    return fail(Errc::Invalid, std::string(alias) + ": its element cannot be told from the text");
  std::string changed = definition;
  changed.replace(begin, end + close.size() - begin, element);
  // A comment may have had the closing tag.
  TRY(const auto differing, differences(definition, changed));
  if (!std::ranges::all_of(differing, [&](const std::string& one) { return one == alias; }))
    return fail(Errc::Invalid, std::string(alias) + ": its element cannot be told from the text");
  return changed;
}

}  // namespace tenure::domain
