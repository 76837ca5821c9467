// SPDX-License-Identifier: Apache-2.0
// Document: bounds first, then characters, then pugixml (no entities, no DTD, no network), then
// shape. Element: typed views of attributes and texts. An unconsumed part is found by its address
// in the tree, which is stable because nothing is ever changed in it.
#include "domain/xml.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/text.h"
#include "domain/domain.h"
#include "domain/xml_text.h"

namespace tenure::domain {
namespace {

constexpr size_t kMaxValue = 4096;  // bytes of an attribute or a text that we use
constexpr size_t kShown = 64;       // bytes of a value that a message repeats

std::string quoted(std::string_view value) {
  std::string text = printable(value.substr(0, kShown));
  if (value.size() > kShown)
    text += "…";
  return "'" + text + "'";
}

bool is_element(pugi::xml_node node) {
  return node.type() == pugi::node_element;
}

bool is_text(pugi::xml_node node) {
  return node.type() == pugi::node_pcdata || node.type() == pugi::node_cdata;
}

struct Unit {
  std::string_view name;
  uint64_t bytes;
};
constexpr uint64_t kKilo = 1000, kKibi = 1024;
constexpr std::array<Unit, 20> kUnits = {{
    {"b", 1},
    {"bytes", 1},
    {"KB", kKilo},
    {"k", kKibi},
    {"K", kKibi},
    {"KiB", kKibi},
    {"kiB", kKibi},
    {"MB", kKilo* kKilo},
    {"M", kKibi* kKibi},
    {"m", kKibi* kKibi},
    {"MiB", kKibi* kKibi},
    {"GB", kKilo* kKilo* kKilo},
    {"G", kKibi* kKibi* kKibi},
    {"g", kKibi* kKibi* kKibi},
    {"GiB", kKibi* kKibi* kKibi},
    {"TB", kKilo* kKilo* kKilo* kKilo},
    {"T", kKibi* kKibi* kKibi* kKibi},
    {"t", kKibi* kKibi* kKibi* kKibi},
    {"TiB", kKibi* kKibi* kKibi* kKibi},
    {"", kKibi},
}};

}  // namespace

Result<std::unique_ptr<Document>> Document::open(std::string_view xml,
                                                 std::string_view source_name) {
  if (xml.size() > kMaxXml) {
    return fail(Errc::Invalid, std::string(source_name) + ": " + std::to_string(xml.size()) +
                                   " bytes; a definition has at most " + std::to_string(kMaxXml));
  }
  auto doc = std::make_unique<Document>(xml, source_name);
  TRY_OK(doc->build());
  return doc;
}

Result<> Document::build() {
  lines_.push_back(0);
  for (size_t i = 0; i < xml_.size(); ++i) {
    if (xml_[i] == '\n')
      lines_.push_back(i + 1);
  }
  if (TextFault fault = find_text_fault(xml_); fault.what != nullptr) {
    return fail(Errc::Invalid, at(place(static_cast<ptrdiff_t>(fault.offset))) + fault.what);
  }
  // Attribute values keep their line breaks as spaces (XML 1.0 §3.3.3), texts as they are.
  const unsigned options = pugi::parse_default | pugi::parse_declaration;
  const pugi::xml_parse_result parsed =
      tree_.load_buffer(xml_.data(), xml_.size(), options, pugi::encoding_utf8);
  if (!parsed)
    return fail(Errc::Invalid, at(place(parsed.offset)) + parsed.description());
  return check_shape();
}

// One root element, bounded depth and number of elements; no recursion, the depth is not known yet.
Result<> Document::check_shape() const {
  size_t roots = 0;
  for (pugi::xml_node node : tree_.children()) {
    if (is_element(node) && ++roots > 1) {
      return fail(Errc::Invalid, at(place(node)) + "a second root element");
    }
  }
  size_t depth = 0, elements = 0;
  pugi::xml_node node = root();
  while (node) {
    if (is_element(node)) {
      ++elements;
      if (depth > kMaxDepth)
        return fail(Errc::Invalid, at(place(node)) + "nested too deeply");
      if (elements > kMaxElements)
        return fail(Errc::Invalid, at(place(node)) + "too many elements");
    }
    if (node.first_child()) {
      node = node.first_child();
      ++depth;
      continue;
    }
    while (node && node != root() && !node.next_sibling()) {
      node = node.parent();
      --depth;
    }
    if (!node || node == root())
      break;
    node = node.next_sibling();
  }
  return {};
}

Place Document::place(ptrdiff_t offset) const {
  const auto byte = std::min(static_cast<size_t>(std::max<ptrdiff_t>(offset, 0)), xml_.size());
  const auto line = std::upper_bound(lines_.begin(), lines_.end(), byte) - 1;
  return {static_cast<uint32_t>(line - lines_.begin()) + 1,
          static_cast<uint32_t>(byte - *line) + 1};
}

Place Document::place(pugi::xml_node node) const {
  const ptrdiff_t offset = node.offset_debug();
  // pugixml points at an element's name, we at its '<'.
  return place(is_element(node) ? offset - 1 : offset);
}

std::string Document::text_of(pugi::xml_node node) {
  struct Writer : pugi::xml_writer {
    std::string text;
    void write(const void* data, size_t size) override {
      text.append(static_cast<const char*>(data), size);
    }
  } writer;
  node.print(writer, "", pugi::format_raw, pugi::encoding_utf8);
  return std::move(writer.text);
}

std::string Document::at(Place place) const {
  return name_ + ":" + std::to_string(place.line) + ":" + std::to_string(place.column) + ": ";
}

void Document::error(Errc code, Place where, std::string_view element, std::string_view message) {
  if (error_)
    return;
  error_.emplace(code, at(where) + "<" + printable(element) + ">: " + std::string(message));
}

Result<> Document::sweep() {
  if (!error_)
    sweep_node(root());
  if (error_)
    return fail(*error_);
  return {};
}

// False as soon as something is found. The recursion is bounded by kMaxDepth.
bool Document::sweep_node(pugi::xml_node node) {
  const Place here = place(node);
  if (!consumed_.contains(node.internal_object())) {
    const pugi::xml_node first = node.parent().child(node.name());
    const bool again = first != node && consumed_.contains(first.internal_object());
    error(again ? Errc::Invalid : Errc::Unsupported, here, node.name(),
          again ? "given twice" : "not implemented");
    return false;
  }
  for (pugi::xml_attribute attribute : node.attributes()) {
    if (consumed_.contains(attribute.internal_object()))
      continue;
    const std::string_view name = attribute.name();
    if (name.starts_with("xmlns:"))
      continue;  // declares a prefix; what uses it is refused itself
    const bool again = node.attribute(attribute.name()) != attribute;
    error(again ? Errc::Invalid : Errc::Unsupported, here, node.name(),
          "attribute " + quoted(name) + (again ? " given twice" : " is not implemented"));
    return false;
  }
  for (pugi::xml_node child : node.children()) {
    if (is_element(child)) {
      if (!sweep_node(child))
        return false;
    } else if (is_text(child) && !consumed_.contains(child.internal_object())) {
      error(Errc::Invalid, here, node.name(),
            "text " + quoted(trim(child.value())) + " means nothing here");
      return false;
    }
  }
  return true;
}

std::optional<std::string> Element::find(const char* attribute) const {
  const pugi::xml_attribute found = node_.attribute(attribute);
  if (!found)
    return std::nullopt;
  doc_->consume(found.internal_object());
  std::string value = found.value();
  if (value.size() > kMaxValue)
    invalid("attribute " + quoted(attribute) + " is too long");
  return value;
}

std::string Element::required(const char* attribute) const {
  auto value = find(attribute);
  if (!value || value->empty())
    invalid("attribute " + quoted(attribute) + " is missing");
  return value.value_or("");
}

std::string Element::path(const char* attribute) const {
  std::string value = string(attribute);
  if (!value.empty() && value.front() != '/') {
    invalid("attribute " + quoted(attribute) + ": " + quoted(value) + " is not an absolute path");
  }
  return value;
}

std::string Element::one_of(std::string value, std::string_view what,
                            std::initializer_list<std::string_view> allowed) const {
  if (std::ranges::find(allowed, value) != allowed.end())
    return value;
  unsupported(std::string(what) + quoted(value) + " is not implemented");
  return {};
}

std::string Element::choice(const char* attribute,
                            std::initializer_list<std::string_view> allowed) const {
  auto value = find(attribute);
  if (!value)
    return {};
  return one_of(std::move(*value), std::string(attribute) + " ", allowed);
}

std::optional<bool> Element::flag(const char* attribute) const {
  auto value = find(attribute);
  if (!value)
    return std::nullopt;
  if (*value == "yes" || *value == "on")
    return true;
  if (*value != "no" && *value != "off") {
    invalid("attribute " + quoted(attribute) + ": " + quoted(*value) + " is neither yes nor no");
  }
  return false;
}

int64_t Element::integer(std::string_view text, std::string_view attribute, int64_t low,
                         uint64_t high) const {
  const std::string what =
      attribute.empty() ? quoted(text) : "attribute " + quoted(attribute) + ": " + quoted(text);
  const bool negative = text.starts_with('-');
  std::string_view digits = negative ? text.substr(1) : text;
  const bool hex = digits.starts_with("0x") || digits.starts_with("0X");
  auto magnitude = parse_int<uint64_t>(hex ? digits.substr(2) : digits, hex ? 16 : 10);
  if (!magnitude) {
    invalid(what + " is not a number");
    return 0;
  }
  constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  const bool in_range =
      negative ? *magnitude <= kMost && -static_cast<int64_t>(*magnitude) >= low
               : *magnitude <= high && (low <= 0 || *magnitude >= static_cast<uint64_t>(low));
  if (!in_range) {
    invalid(what + " is out of range");
    return 0;
  }
  return negative ? -static_cast<int64_t>(*magnitude) : static_cast<int64_t>(*magnitude);
}

std::string Element::exact_text(size_t max_bytes) const {
  std::string value;
  for (pugi::xml_node child : node_.children()) {
    if (!is_text(child))
      continue;
    doc_->consume(child.internal_object());
    value += child.value();
  }
  if (value.size() > max_bytes)
    invalid("the text is too long");
  return value;
}

std::string Element::text() const {
  return std::string(trim(exact_text(kMaxValue)));
}

std::string Element::text_choice(std::initializer_list<std::string_view> allowed) const {
  return one_of(text(), "", allowed);
}

uint64_t Element::text_kib() const {
  const std::string unit = string("unit");
  const auto found = std::ranges::find(kUnits, unit, &Unit::name);
  if (found == kUnits.end()) {
    invalid("unit " + quoted(unit) + " is unknown");
    return 0;
  }
  const auto amount = text_number<uint64_t>();
  constexpr uint64_t kMostBytes = 1ULL << 60U;  // QEMU's sizes are signed 64-bit numbers
  if (amount > kMostBytes / found->bytes) {
    invalid("more memory than any host has");
    return 0;
  }
  return (amount * found->bytes + kKibi - 1) / kKibi;
}

std::string Element::verbatim() const {
  // Walks without recursion: what is kept unread may be of any shape that the document's bounds
  // allow.
  std::vector<pugi::xml_node> open{node_};
  while (!open.empty()) {
    const pugi::xml_node node = open.back();
    open.pop_back();
    doc_->consume(node.internal_object());
    for (pugi::xml_attribute attribute : node.attributes()) {
      doc_->consume(attribute.internal_object());
    }
    for (pugi::xml_node child : node.children()) open.push_back(child);
  }
  return Document::text_of(node_);
}

std::optional<Element> Element::child(const char* name) const {
  const pugi::xml_node found = node_.child(name);
  if (!found)
    return std::nullopt;
  return Element(*doc_, found);
}

std::vector<Element> Element::children(const char* name) const {
  std::vector<Element> all;
  for (pugi::xml_node node : node_.children(name)) all.emplace_back(*doc_, node);
  return all;
}

std::vector<std::string> Element::child_names() const {
  std::vector<std::string> names;
  for (pugi::xml_node node : node_.children()) {
    if (is_element(node))
      names.emplace_back(node.name());
  }
  return names;
}

}  // namespace tenure::domain
