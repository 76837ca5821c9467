// SPDX-License-Identifier: Apache-2.0
#include "model/names.h"

#include <algorithm>
#include <bit>

namespace tenure::model {
namespace {

constexpr size_t kBlock = 64 * 1024;

bool is_plain(std::string_view text) {
  return std::ranges::all_of(text,
                             [](char c) { return c >= ' ' && c < 0x7F && c != '"' && c != '\\'; });
}

}  // namespace

char* NamePool::allocate(size_t size) {
  if (capacity_ - used_ < size) {
    capacity_ = std::max(kBlock, size);
    used_ = 0;
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(capacity_));
  }
  char* at = blocks_.back().get() + used_;
  used_ += size;
  return at;
}

// From its length, its first and its last eight bytes: uuids, addresses and paths differ there.
size_t NamePool::spot_of(std::string_view text) {
  uint64_t first = 0;
  uint64_t last = 0;
  if (text.size() >= sizeof first) {
    std::memcpy(&first, text.data(), sizeof first);
    std::memcpy(&last, text.data() + text.size() - sizeof last, sizeof last);
  } else {
    for (char c : text) first = first << 8 | static_cast<uint8_t>(c);
  }
  constexpr uint64_t kFactor = 0x9E3779B97F4A7C15;
  uint64_t mixed = (first * kFactor ^ last) + text.size();
  return mixed * kFactor >> (64 - std::countr_zero(kRecent));
}

Name NamePool::intern(std::string_view text) {
  if (text.empty())
    return {};
  Name& recent = recent_[spot_of(text)];
  if (recent.view() != text)
    recent = keep(text);
  return recent;
}

Name NamePool::keep(std::string_view text) {
  if (auto at = names_.find(text); at != names_.end())
    return *at;
  const Name::Head head{.size = static_cast<uint32_t>(text.size()), .plain = is_plain(text)};
  char* memory = allocate(sizeof head + text.size());
  std::memcpy(memory, &head, sizeof head);
  std::memcpy(memory + sizeof head, text.data(), text.size());
  return *names_.insert(Name(memory)).first;
}

}  // namespace tenure::model
