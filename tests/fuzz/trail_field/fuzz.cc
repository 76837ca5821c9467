// SPDX-License-Identifier: Apache-2.0
// Any bytes as the fields of a record, and any bytes as a value: views stay inside the text, each
// field is a step forward, and what is encoded comes back as one field with the same value,
// whatever stands around it.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "trail/decode.h"
#include "trail/record.h"

namespace {

using namespace tenure;  // NOLINT(google-build-using-namespace): a program of one file

void check(bool holds) {
  if (!holds)
    std::abort();
}

bool inside(std::string_view part, std::string_view whole) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

void check_text(std::string_view text) {
  trail::Fields fields(text);
  std::string scratch;
  const char* last = text.data();
  for (trail::Field field; fields.next(field);) {
    check(inside(field.key, text) && inside(field.raw, text));
    check(field.raw.data() == nullptr || field.raw.data() >= last);
    if (field.raw.data() != nullptr)
      last = field.raw.data();
    check(trail::decode_value(field, scratch).size() <= field.raw.size());
    check(trail::decode_value(field) == trail::decode_value(field, scratch));
  }
}

// Between two others, as libaudit's appended keys are.
void check_value(std::string_view value) {
  const std::string text = "op=attach vm=" + trail::encode_value(value) + " exe=\"/x\" res=success";
  trail::Fields fields(text);
  trail::Field field;
  const auto is = [&](std::string_view key, std::string_view expected) {
    check(fields.next(field) && field.key == key && !field.unterminated);
    check(trail::decode_value(field) == expected);
  };
  is("op", "attach");
  is("vm", value);
  is("exe", "/x");
  is("res", "success");
  check(!fields.next(field));
}

void check_set(std::string_view body) {
  trail::LineView view;
  view.type = trail::kVirtResource;
  view.has_body = true;
  view.body = body;
  trail::FieldSet fields;
  fields.collect(view);
  std::string scratch;
  for (size_t i = 0; i < trail::kKeyCount; ++i) {
    const auto key = static_cast<trail::Key>(i);
    check(inside(fields.raw(key), body));
    (void)fields.text(key, scratch);
    (void)fields.number(key);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_text(text);
  check_value(text);
  check_set(text);
  return 0;
}
