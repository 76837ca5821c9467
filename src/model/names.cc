// SPDX-License-Identifier: Apache-2.0
#include "model/names.h"

#include <algorithm>
#include <iterator>

namespace tenure::model {
namespace {

constexpr size_t kBlock = 64 * 1024;

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

Name NamePool::intern(std::string_view text) {
  if (text.empty())
    return {};
  if (auto at = names_.find(text); at != names_.end())
    return *at;
  auto size = static_cast<uint32_t>(text.size());
  char* memory = allocate(sizeof size + text.size());
  std::memcpy(memory, &size, sizeof size);
  std::memcpy(memory + sizeof size, text.data(), text.size());
  return *names_.insert(Name(memory)).first;
}

void NamePool::absorb(NamePool&& other) {
  // Before our own block, which goes on being filled.
  blocks_.insert(blocks_.begin(), std::make_move_iterator(other.blocks_.begin()),
                 std::make_move_iterator(other.blocks_.end()));
  names_.merge(other.names_);
}

}  // namespace tenure::model
