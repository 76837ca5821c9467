// SPDX-License-Identifier: Apache-2.0
// Numbers found by a hash: the open tenures of the book. A hash table whose entries are taken from
// one array and given back to it, because a trail opens and closes a tenure with each second record
// and an allocation for each would cost more than the rest of its understanding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace tenure::model {

// Not thread-safe.
class OpenIndex {
 public:
  void insert(uint64_t hash, uint32_t value) {
    if (used_ == heads_.size())
      grow();
    uint32_t at = free_;
    if (at == kNone) {
      at = static_cast<uint32_t>(entries_.size());
      entries_.push_back({});
    } else {
      free_ = entries_[at].next;
    }
    uint32_t& head = head_of(hash);
    entries_[at] = {.hash = hash, .value = value, .next = head};
    head = at;
    ++used_;
  }

  // One entry with this hash and value; no-op if there is none.
  void erase(uint64_t hash, uint32_t value) {
    if (heads_.empty())
      return;
    for (uint32_t* link = &head_of(hash); *link != kNone; link = &entries_[*link].next) {
      Entry& entry = entries_[*link];
      if (entry.hash != hash || entry.value != value)
        continue;
      const uint32_t at = *link;
      *link = entry.next;
      entry.next = free_;
      free_ = at;
      --used_;
      return;
    }
  }

  // Calls `take` with each value of this hash, the last inserted first.
  template <typename Take>
  void each(uint64_t hash, Take take) const {
    if (heads_.empty())
      return;
    for (uint32_t at = heads_[hash >> shift_]; at != kNone; at = entries_[at].next)
      if (entries_[at].hash == hash)
        take(entries_[at].value);
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr unsigned kFirstBits = 8;
  struct Entry {
    uint64_t hash = 0;
    uint32_t value = 0;
    uint32_t next = kNone;
  };

  uint32_t& head_of(uint64_t hash) { return heads_[hash >> shift_]; }

  void grow() {
    shift_ = heads_.empty() ? 64 - kFirstBits : shift_ - 1;
    std::vector<uint32_t> old(size_t{1} << (64 - shift_), kNone);
    old.swap(heads_);
    for (uint32_t at : old) {
      while (at != kNone) {
        uint32_t& head = head_of(entries_[at].hash);
        at = std::exchange(entries_[at].next, std::exchange(head, at));
      }
    }
  }

  std::vector<Entry> entries_;
  std::vector<uint32_t> heads_;  // by the highest bits of the hash
  unsigned shift_ = 64;
  uint32_t free_ = kNone;
  size_t used_ = 0;
};

}  // namespace tenure::model
