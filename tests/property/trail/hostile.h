// SPDX-License-Identifier: Apache-2.0
// Generators of records: every kind, with values that try to break out of their field.
#pragma once

#include <rapidcheck.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "trail/record.h"

namespace tenure::trail {

inline rc::Gen<std::string> hostile_text() {
  using Texts = std::vector<std::string>;
  static const Texts kTexts{
      "",
      "?",
      "'",
      "\"",
      "o'brien",
      "q'res=failed",
      " res=success",
      "x res=failed vm=\"other\" uuid=1",
      "a\nb",
      "\r\n----\n",
      "type=VIRT_CONTROL msg=audit(1.000:1): ",
      "\ntype=VIRT_CONTROL msg=audit(1.000:1): pid=1 msg='op=stop",
      "\x1DUID=\"root\"",
      std::string("\0nul\0", 5),
      "CAFE",
      "4142",
      "caf\xC3\xA9",
      "\xFF\xFE",
      "/dev/mapper/vg-lv",
      "/a b/exe=\"x\" res=failed",
      std::string(255, '\xE9'),
      std::string(255, 'A'),
  };
  return rc::gen::oneOf(rc::gen::elementOf(kTexts), rc::gen::arbitrary<std::string>());
}

inline rc::Gen<std::string> bare_word() {
  constexpr std::string_view kBytes =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:/+*,";
  auto byte = rc::gen::elementOf(std::string(kBytes));
  return rc::gen::oneOf(rc::gen::just(std::string("?")),
                        rc::gen::nonEmpty(rc::gen::container<std::string>(byte)));
}

inline Record arbitrary_record(Kind kind) {
  Record record(kind);
  record.success = *rc::gen::arbitrary<bool>();
  for (const KeySpec& key : spec(kind).keys) {
    if (!key.fixed.empty())
      continue;
    if (key.need == Need::Optional && *rc::gen::arbitrary<bool>())
      continue;
    std::string value;
    if (key.encoding == Encoding::Number)
      value = std::to_string(*rc::gen::arbitrary<uint64_t>());
    else
      value = *(key.encoding == Encoding::Text ? hostile_text() : bare_word());
    record.set(key.name, value);
  }
  return record;
}

}  // namespace tenure::trail
