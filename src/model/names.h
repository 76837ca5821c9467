// SPDX-License-Identifier: Apache-2.0
// Interned text: each distinct string is stored once and is then a pointer, so that a tenure is
// small and names compare in one instruction. 100,000 tenures of a log share a few hundred names.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace tenure::model {

// Lives as long as the NamePool that it came from. Names of one pool are equal if and only if their
// ids are.
class Name {
 public:
  Name() = default;
  operator std::string_view() const { return view(); }  // NOLINT(google-explicit-constructor)
  std::string_view view() const {
    if (text_ == nullptr)
      return {};
    return {text_ + sizeof(Head), head().size};
  }
  size_t size() const { return text_ == nullptr ? 0 : head().size; }
  bool empty() const { return text_ == nullptr; }
  // Printable ASCII without quote or backslash: JSON can have it as it is.
  bool is_plain() const { return text_ == nullptr || head().plain; }
  uintptr_t id() const { return reinterpret_cast<uintptr_t>(text_); }
  bool operator==(const Name& other) const {
    return text_ == other.text_ || view() == other.view();
  }

 private:
  friend class NamePool;
  struct Head {
    uint32_t size;
    bool plain;
  };
  explicit Name(const char* text) : text_(text) {}
  Head head() const {
    Head head;
    std::memcpy(&head, text_, sizeof head);
    return head;
  }
  const char* text_ = nullptr;  // a Head, then the bytes; null for the empty name
};

// Not thread-safe. Movable; names stay valid.
class NamePool {
 public:
  // The empty text is the default Name.
  Name intern(std::string_view text);

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
    size_t operator()(const Name& name) const { return (*this)(name.view()); }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(std::string_view a, std::string_view b) const { return a == b; }
  };
  static constexpr size_t kRecent = 1024;
  static size_t spot_of(std::string_view text);
  char* allocate(size_t size);
  Name keep(std::string_view text);

  // What was asked for last, by a hash that is quicker than good: the same few hundred names come
  // again and again.
  std::vector<Name> recent_ = std::vector<Name>(kRecent);
  std::unordered_set<Name, Hash, Equal> names_;
  std::vector<std::unique_ptr<char[]>> blocks_;
  size_t used_ = 0;
  size_t capacity_ = 0;
};

}  // namespace tenure::model
