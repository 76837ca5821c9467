// SPDX-License-Identifier: Apache-2.0
// `tenure report --html`: one HTML page that needs no network and no other file. What it shows is
// in it as JSON lines of tenure-json(5), so that a program can take them out again; its looks and
// its code are web/, built into the library. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "reader/event_view.h"
#include "reader/gaps.h"
#include "reader/select.h"

namespace tenure::reader {

struct PageData {
  std::string about;    // one JSON object, see append_about() in cli/read_page.cc
  std::string tenures;  // JSON lines, as are the next three
  std::string runs;
  std::string marks;    // events: failures, denials, changes from outside
  std::string records;  // {"proof":…,"node":…,"text":…}: the lines that the tenures rest on
};

// No text in `data` can end the element that it stands in, and a content security policy in the
// page forbids every script and style but ours, and every request.
std::string render_page(const PageData& data);

// Picks the events that are marks: what failed, what was refused or denied, what somebody changed
// behind our back.
class MarkFinder {
 public:
  static constexpr uint64_t kMaxMarks = 50'000;

  explicit MarkFinder(TimeRange range) : range_(range) {}
  // Every event of every stream.
  void event(const Event& event, uint64_t order, const GuestSelector& guest);

  const std::string& lines() const { return lines_; }  // JSON lines
  uint64_t left_out() const { return left_out_; }      // beyond kMaxMarks
  // Of all events in the range, marks or not.
  std::optional<int64_t> first_ms() const { return first_ms_; }
  std::optional<int64_t> last_ms() const { return last_ms_; }

 private:
  TimeRange range_;
  EventReader reader_;
  std::string lines_;
  uint64_t count_ = 0;
  uint64_t left_out_ = 0;
  std::optional<int64_t> first_ms_, last_ms_;
};

}  // namespace tenure::reader
