// SPDX-License-Identifier: Apache-2.0
// Starts a real QEMU (under TCG, paused) with a command line, waits for its QMP greeting, tells it
// to quit. What QEMU refuses comes back as the text it wrote.
#pragma once

#include <string>
#include <vector>

#include "qemu/command_line.h"

namespace tenure::qemu::test {

// True if the emulator that definitions name is installed.
bool has_qemu();

// A folder that is removed, with what is in it, at the end.
class TempDir {
 public:
  TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir();
  const std::string& path() const { return path_; }
  // A file of this size in bytes, all zero; its path.
  std::string file(const std::string& name, uint64_t size) const;

 private:
  std::string path_;
};

// "" if QEMU started and quit when told; else why not.
std::string run_qemu(const domain::Domain& domain, Wiring wiring);

}  // namespace tenure::qemu::test
