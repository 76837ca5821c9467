// SPDX-License-Identifier: Apache-2.0
// Which tenures, runs and records an answer is about: guests by name or uuid, resources in the ways
// that people name them. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/device_number.h"
#include "base/result.h"
#include "reader/reading.h"

namespace tenure::reader {

// Names match exactly, uuids without case and by a prefix that only one guest has.
class GuestSelector {
 public:
  GuestSelector() = default;  // every guest
  // NotFound if no run in the reading is of such a guest, or the prefix is of several.
  static Result<GuestSelector> find(const Reading& reading, const std::string& text, bool glob);
  // For records that are not in a reading yet: a uuid prefix need not be unique.
  static GuestSelector loose(const std::string& text);

  bool matches(std::string_view name, std::string_view uuid) const;

 private:
  bool all_ = true;
  std::set<std::string, std::less<>> uuids_;
  std::set<std::string, std::less<>> names_;
  std::string prefix_;  // of a uuid, lower case
};

// A resource as typed: "/dev/sdb", "b 8:16", "8:16", "52:54:00:00:00:01", "0000:05:00.0",
// "05:00.0", "001.002" (USB bus.device), "mem", "vcpu", "iothread".
class ResourceSelector {
 public:
  ResourceSelector() = default;  // every resource
  explicit ResourceSelector(const std::string& text);

  struct Thing {
    std::string_view kind, id, rdev, category, holder;
    char devtype = 0;
  };
  // A class=major rule (rdev "88:*", category pty) matches every device of that major.
  bool matches(const Thing& thing) const;
  static Thing thing_of(const model::Tenure& tenure);

 private:
  enum class Form : uint8_t { All, Kind, Path, Device, Mac, Address };
  bool matches_device(const Thing& thing) const;
  Form form_ = Form::All;
  std::string text_;
  char devtype_ = 0;
  uint32_t major_ = 0, minor_ = 0;
};

// Whether it was (or may have been) held at some time of the range.
bool in_range(const model::Tenure& tenure, const TimeRange& range);
bool in_range(const model::Run& run, const TimeRange& range);

// "b 8:16", "136:*" where the type is not known; "" if `rdev` (hex, "08:10") is no number.
std::string device_text(char devtype, std::string_view rdev);

std::string lower_case(std::string_view text);

}  // namespace tenure::reader
