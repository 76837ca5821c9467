// SPDX-License-Identifier: Apache-2.0
// Text whose last byte is the last byte of a page, with a page behind it that nobody may touch: a
// load that reads beyond the end, however little, ends the test.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

namespace tenure::reader {

class PageEnd {
 public:
  explicit PageEnd(size_t room)
      : page_(static_cast<size_t>(::sysconf(_SC_PAGESIZE))),
        room_((room + page_ - 1) / page_ * page_) {
    void* memory =
        ::mmap(nullptr, room_ + page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    memory_ = static_cast<char*>(memory);
    EXPECT_EQ(::mprotect(memory_ + room_, page_, PROT_NONE), 0);
  }
  PageEnd(const PageEnd&) = delete;
  PageEnd& operator=(const PageEnd&) = delete;
  ~PageEnd() { ::munmap(memory_, room_ + page_); }

  // The same bytes, the last of them at the page's end. Not more than the room; valid until put()
  // is called again.
  std::string_view put(std::string_view text) {
    char* const at = memory_ + room_ - text.size();
    std::memcpy(at, text.data(), text.size());
    return {at, text.size()};
  }

 private:
  size_t page_;
  size_t room_;
  char* memory_ = nullptr;
};

}  // namespace tenure::reader
