// SPDX-License-Identifier: Apache-2.0
// A single pass over the bytes with the little state that tells markup from text: inside a comment
// or CDATA section '&' is an ordinary character, elsewhere it starts a reference.
#include "domain/xml_text.h"

#include <array>
#include <cstdint>
#include <optional>

#include "base/text.h"

namespace tenure::domain {
namespace {

// XML 1.0 §2.2 [2] Char.
bool is_char(uint32_t c) {
  return c == 0x9 || c == 0xA || c == 0xD || (c >= 0x20 && c <= 0xD7FF) ||
         (c >= 0xE000 && c <= 0xFFFD) || (c >= 0x10000 && c <= 0x10FFFF);
}

uint32_t byte_at(std::string_view text, size_t i) {
  return static_cast<unsigned char>(text[i]);
}

// Length of the reference at the start of `text` (which is '&'), 0 if there is no acceptable one.
size_t reference_length(std::string_view text) {
  static constexpr std::array<std::string_view, 5> kNamed = {"&lt;", "&gt;", "&amp;", "&quot;",
                                                             "&apos;"};
  for (std::string_view named : kNamed) {
    if (text.starts_with(named))
      return named.size();
  }
  const size_t end = text.substr(0, 12).find(';');
  if (end == std::string_view::npos || !text.starts_with("&#"))
    return 0;
  const bool hex = text.starts_with("&#x");
  const size_t first = hex ? 3 : 2;
  auto code = parse_int<uint32_t>(text.substr(first, end - first), hex ? 16 : 10);
  return code && is_char(*code) ? end + 1 : 0;
}

struct Section {
  std::string_view open, close;
};
constexpr std::array<Section, 2> kVerbatim = {{{"<!--", "-->"}, {"<![CDATA[", "]]>"}}};

// Length of the comment or CDATA section at the start; 0 if there is none; all of `text` if it does
// not end (the parser reports that).
size_t verbatim_length(std::string_view text) {
  for (const Section& section : kVerbatim) {
    if (!text.starts_with(section.open))
      continue;
    const size_t end = text.find(section.close, section.open.size());
    return end == std::string_view::npos ? text.size() : end + section.close.size();
  }
  return 0;
}

const char* declaration_fault(std::string_view text, size_t offset) {
  if (text.starts_with("<!"))
    return "document type declarations are refused";
  if (text.starts_with("<?") && !(offset == 0 && text.starts_with("<?xml "))) {
    return "processing instructions are refused";
  }
  return nullptr;
}

// Malformed bytes and forbidden characters, whatever they are part of.
TextFault find_character_fault(std::string_view xml) {
  for (size_t i = 0; i < xml.size();) {
    const uint32_t c = byte_at(xml, i);
    if (c < 0x80) {
      if (!is_char(c))
        return {i, "control characters are refused"};
      ++i;
      continue;
    }
    const size_t length = utf8_length(xml.substr(i));
    if (length == 0)
      return {i, "not UTF-8"};
    i += length;
  }
  return {};
}

}  // namespace

size_t utf8_length(std::string_view text) {
  if (text.empty())
    return 0;
  const uint32_t lead = byte_at(text, 0);
  if (lead < 0x80)
    return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length)
    return 0;
  uint32_t code = lead & (0x7FU >> length);
  for (size_t i = 1; i < length; ++i) {
    const uint32_t next = byte_at(text, i);
    if ((next & 0xC0U) != 0x80U)
      return 0;
    code = (code << 6U) | (next & 0x3FU);
  }
  static constexpr std::array<uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  return code >= kLeast.at(length) && is_char(code) ? length : 0;
}

TextFault find_text_fault(std::string_view xml) {
  if (TextFault fault = find_character_fault(xml); fault.what != nullptr)
    return fault;
  char quote = 0;       // inside an attribute's value: which one ends it
  bool in_tag = false;  // between '<' and '>'
  for (size_t i = 0; i < xml.size();) {
    const std::string_view rest = xml.substr(i);
    const char c = xml[i];
    size_t length = 1;
    if (c == '&') {
      length = reference_length(rest);
      if (length == 0)
        return {i, "entities other than lt, gt, amp, quot, apos are refused"};
    } else if (quote != 0) {
      if (c == '<')
        return {i, "'<' in an attribute's value"};
      if (c == quote)
        quote = 0;
    } else if (in_tag) {
      if (c == '\'' || c == '"')
        quote = c;
      in_tag = c != '>';
    } else if (c == '<') {
      length = verbatim_length(rest);
      if (length == 0) {
        if (const char* fault = declaration_fault(rest, i); fault != nullptr)
          return {i, fault};
        in_tag = true;
        length = 1;
      }
    }
    i += length;
  }
  return {};
}

}  // namespace tenure::domain
