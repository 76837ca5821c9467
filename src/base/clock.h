// SPDX-License-Identifier: Apache-2.0
// The seam through which time is read, so that tests can hold it still.
#pragma once

#include <cstdint>

namespace tenure {

class Clock {
 public:
  virtual ~Clock() = default;
  // CLOCK_REALTIME, ns since 1970-01-01 UTC. Can step back.
  virtual int64_t realtime_ns() const = 0;
  // CLOCK_BOOTTIME, ns since boot, counts suspend, never steps back.
  virtual int64_t boottime_ns() const = 0;
};

// The kernel's clocks; stateless, thread-safe.
const Clock& system_clock();

}  // namespace tenure
