// SPDX-License-Identifier: Apache-2.0
// The one way in which a definition's XML is read. Every look at an attribute, a child or a text
// marks it as consumed; sweep() then finds whatever nobody looked at, so that an element that is
// not implemented cannot be ignored, by construction. The first error is kept and the readers go on
// with defaults: a parser reads like a list of fields. Private to src/domain.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <pugixml.hpp>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/result.h"
#include "domain/device.h"

namespace tenure::domain {

// The text, its tree, what was read of it, and the first error.
class Document {
 public:
  // Checks bounds and characters, then builds the tree. `xml` must outlive the Document.
  static Result<std::unique_ptr<Document>> open(std::string_view xml, std::string_view source_name);
  Document(std::string_view xml, std::string_view source_name) : xml_(xml), name_(source_name) {}

  pugi::xml_node root() const { return tree_.document_element(); }
  Place place(ptrdiff_t offset) const;
  Place place(pugi::xml_node node) const;
  // The element, written out anew.
  static std::string text_of(pugi::xml_node node);

  void consume(const void* part) { consumed_.insert(part); }
  // Keeps the first one only.
  void error(Errc code, Place at, std::string_view element, std::string_view message);
  // The kept error, else one for the first part that nobody consumed, in document order.
  Result<> sweep();

 private:
  Result<> build();
  Result<> check_shape() const;
  bool sweep_node(pugi::xml_node node);
  std::string at(Place place) const;

  std::string_view xml_;
  std::string name_;
  std::vector<size_t> lines_;  // offset of the first byte of each line
  pugi::xml_document tree_;
  std::unordered_set<const void*> consumed_;
  std::optional<Error> error_;
};

// One element, by value. Cheap to copy; refers to its Document.
class Element {
 public:
  Element(Document& doc, pugi::xml_node node) : doc_(&doc), node_(node) {
    doc.consume(node.internal_object());
  }

  std::string name() const { return node_.name(); }
  Place place() const { return doc_->place(node_); }

  // The attribute's value; nullopt if it is not there.
  std::optional<std::string> find(const char* attribute) const;
  // "" if it is not there. `required`: an error then.
  std::string string(const char* attribute) const { return find(attribute).value_or(""); }
  std::string required(const char* attribute) const;
  // A path of the host: absolute, bounded; "" if it is not there.
  std::string path(const char* attribute) const;
  // One of `allowed`, or "" if it is not there; anything else is not implemented.
  std::string choice(const char* attribute, std::initializer_list<std::string_view> allowed) const;
  // yes/no, on/off.
  std::optional<bool> flag(const char* attribute) const;
  // Decimal or 0x…, within [low, high].
  template <std::integral Int>
  std::optional<Int> number(const char* attribute, Int low = 0,
                            Int high = std::numeric_limits<Int>::max()) const {
    auto value = find(attribute);
    if (!value)
      return std::nullopt;
    auto number = integer(*value, attribute, static_cast<int64_t>(low), bounded(high));
    return static_cast<Int>(number);
  }

  // The element's text, trimmed. An element whose text nobody asks for must have none.
  std::string text() const;
  // The same, not trimmed, of at most `max_bytes`.
  std::string exact_text(size_t max_bytes) const;
  std::string text_choice(std::initializer_list<std::string_view> allowed) const;
  template <std::integral Int>
  Int text_number(Int low = 0, Int high = std::numeric_limits<Int>::max()) const {
    return static_cast<Int>(integer(text(), "", static_cast<int64_t>(low), bounded(high)));
  }
  // Text as an amount of memory in KiB, rounded up; `unit` attribute as libvirt's (default KiB).
  uint64_t text_kib() const;
  // The whole element as text, everything in it consumed.
  std::string verbatim() const;

  std::optional<Element> child(const char* name) const;
  std::vector<Element> children(const char* name) const;
  // All children with an element name, in order; none is consumed by this.
  std::vector<std::string> child_names() const;
  // A child that says something by being there.
  bool has(const char* name) const { return child(name).has_value(); }

  // Reports about this element.
  void invalid(std::string_view message) const {
    doc_->error(Errc::Invalid, place(), name(), message);
  }
  void unsupported(std::string_view message) const {
    doc_->error(Errc::Unsupported, place(), name(), message);
  }

 private:
  template <class Int>
  static uint64_t bounded(Int high) {
    return static_cast<uint64_t>(high);
  }
  // As a 64-bit pattern; 0 and a kept error if it is no number or out of bounds.
  int64_t integer(std::string_view text, std::string_view attribute, int64_t low,
                  uint64_t high) const;
  std::string one_of(std::string value, std::string_view what,
                     std::initializer_list<std::string_view> allowed) const;

  Document* doc_;
  pugi::xml_node node_;
};

}  // namespace tenure::domain
