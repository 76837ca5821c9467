// SPDX-License-Identifier: Apache-2.0
// At most one telling a period of each thing that keeps happening, and an exact count of what was
// not told: a guest that opens and closes its tray a thousand times a second must not fill the
// trail. Pure; the periods are the caller's.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace tenure::guest {

class EventPacer {
 public:
  // It happened. True: tell it now, and ask due() when a period has passed, and again after each
  // one until that returns 0. False: it is counted, due() will say so.
  bool happened(const std::string& what) {
    auto [it, first] = untold_.try_emplace(what, 0);
    if (!first)
      ++it->second;
    return first;
  }
  // How often it happened in the period that ends now, to be told as one; 0: not at all, and it is
  // forgotten.
  uint64_t due(const std::string& what) {
    auto it = untold_.find(what);
    if (it == untold_.end())
      return 0;
    uint64_t count = it->second;
    it->second = 0;
    if (count == 0)
      untold_.erase(it);
    return count;
  }

 private:
  std::map<std::string, uint64_t> untold_;
};

}  // namespace tenure::guest
