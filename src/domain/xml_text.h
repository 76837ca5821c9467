// SPDX-License-Identifier: Apache-2.0
// What the text of a definition may contain, checked before the XML parser sees it. pugixml leaves
// unknown entities, control characters and malformed UTF-8 as they are; we do not. Private to
// src/domain.
#pragma once

#include <cstddef>
#include <string_view>

namespace tenure::domain {

struct TextFault {
  size_t offset = 0;
  const char* what = nullptr;  // nullptr: none
};

// First offence against: UTF-8, the characters of XML 1.0 §2.2, the five predefined entities and
// character references to such characters, no document type declaration, no processing instruction
// but the XML declaration, no '<' in an attribute's value.
TextFault find_text_fault(std::string_view xml);

// Length of the well-formed UTF-8 sequence at the start of `text` (RFC 3629), 0 if there is none.
size_t utf8_length(std::string_view text);

}  // namespace tenure::domain
