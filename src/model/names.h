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

// Lives as long as the NamePool that it came from. Names of one pool are equal if their pointers
// are.
class Name {
 public:
  Name() = default;
  operator std::string_view() const { return view(); }  // NOLINT(google-explicit-constructor)
  std::string_view view() const {
    if (text_ == nullptr)
      return {};
    uint32_t size = 0;
    std::memcpy(&size, text_, sizeof size);
    return {text_ + sizeof size, size};
  }
  bool empty() const { return view().empty(); }
  bool operator==(const Name& other) const {
    return text_ == other.text_ || view() == other.view();
  }

 private:
  friend class NamePool;
  explicit Name(const char* text) : text_(text) {}
  const char* text_ = nullptr;  // uint32_t size, then the bytes
};

// Not thread-safe. Movable; names stay valid.
class NamePool {
 public:
  // The empty text is the default Name.
  Name intern(std::string_view text);
  // Takes over the storage of `other`, so that its names stay valid.
  void absorb(NamePool&& other);

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
  char* allocate(size_t size);

  std::unordered_set<Name, Hash, Equal> names_;
  std::vector<std::unique_ptr<char[]>> blocks_;
  size_t used_ = 0;
  size_t capacity_ = 0;
};

}  // namespace tenure::model
