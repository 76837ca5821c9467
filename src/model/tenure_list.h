// SPDX-License-Identifier: Apache-2.0
// Tenures in the order of their beginnings, in blocks: a list of a hundred thousand never moves and
// never takes the memory of two. Those that turn out never to have been (a start that failed) are
// passed over, not taken out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "model/tenure.h"

namespace tenure::model {

// References stay valid. Not thread-safe.
class TenureList {
 public:
  static constexpr uint32_t kNever = UINT32_MAX;  // Tenure::run of one that never was

  class Iterator {
   public:
    using value_type = Tenure;
    using difference_type = std::ptrdiff_t;

    Iterator() = default;
    Iterator(const TenureList* list, size_t at) : list_(list), at_(list->real(at)) {}
    const Tenure& operator*() const { return list_->slot(at_); }
    const Tenure* operator->() const { return &list_->slot(at_); }
    Iterator& operator++() {
      at_ = list_->real(at_ + 1);
      return *this;
    }
    Iterator operator++(int) {
      Iterator before = *this;
      ++*this;
      return before;
    }
    bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    const TenureList* list_ = nullptr;
    size_t at_ = 0;
  };

  Iterator begin() const { return {this, 0}; }
  Iterator end() const { return {this, slots_}; }
  size_t size() const { return slots_ - never_; }
  bool empty() const { return size() == 0; }

  // For the book, which numbers slots: those that never were as well.
  size_t slots() const { return slots_; }
  Tenure& slot(size_t at) { return blocks_[at / kBlock][at % kBlock]; }
  const Tenure& slot(size_t at) const { return blocks_[at / kBlock][at % kBlock]; }
  Tenure& add(Tenure tenure) {
    if (slots_ % kBlock == 0)
      blocks_.emplace_back().reserve(kBlock);
    ++slots_;
    return blocks_.back().emplace_back(std::move(tenure));
  }
  void forget(size_t at) {
    slot(at).run = kNever;
    ++never_;
  }

 private:
  static constexpr size_t kBlock = 1024;

  // The first from `at` on that was.
  size_t real(size_t at) const {
    while (at < slots_ && slot(at).run == kNever) ++at;
    return at;
  }

  std::vector<std::vector<Tenure>> blocks_;
  size_t slots_ = 0;
  size_t never_ = 0;
};

}  // namespace tenure::model
