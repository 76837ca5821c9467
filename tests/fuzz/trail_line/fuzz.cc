// SPDX-License-Identifier: Apache-2.0
// Any bytes as audit lines: through the decoder into the tenure book and out as JSON. What holds
// for every line: views stay inside it, and a record that encode() accepts decodes to itself.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "model/json.h"
#include "model/tenure_book.h"
#include "trail/decode.h"

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

void check_fields(std::string_view text) {
  trail::Fields fields(text);
  std::string scratch;
  for (trail::Field field; fields.next(field);) {
    check(inside(field.key, text) && inside(field.raw, text));
    check(trail::decode_value(field, scratch).size() <= field.raw.size());
  }
}

// The encoded form is one fixed point: nothing in a value may become a field.
void check_record(const trail::LineView& view) {
  auto record = trail::decode_record(view);
  if (!record)
    return;
  auto body = trail::encode(*record);
  if (!body)
    return;
  std::string line = "type=" + std::string(trail::type_name(view.type)) +
                     " msg=audit(1.000:1): pid=1 msg='" + *body +
                     (record->success ? " res=success'" : " res=failed'");
  auto again = trail::decode_line(line);
  check(again.has_value() && again->glued_at == 0 && !again->truncated);
  auto record_again = trail::decode_record(*again);
  check(record_again.has_value() && record_again->success == record->success);
  check(trail::encode(*record_again) == *body);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  model::TenureBook book;
  uint64_t order = 0;
  while (!text.empty()) {
    size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    auto view = trail::decode_line(line);
    if (!view) {
      check(view.error().offset <= line.size() && view.error().resume <= line.size());
      continue;
    }
    for (std::string_view part : {view->node, view->outer, view->body, view->tail})
      check(inside(part, line));
    check(view->glued_at < line.size() || line.empty());
    for (std::string_view part : {view->outer, view->body, view->tail}) check_fields(part);
    check_record(*view);
    book.apply(*view, order++);
  }
  std::string out;
  for (const model::Tenure& tenure : book.tenures())
    model::append_json_line(out, tenure, book.run_of(tenure));
  for (const model::Run& run : book.runs()) model::append_json_line(out, run);
  return 0;
}
