// SPDX-License-Identifier: Apache-2.0
// Finds the lines of a block that the reader cares for, without looking at the rest: of a usual log
// a few per cent. Instead of splitting everything at newlines, it looks for the text of a record
// type and only there for the line's ends.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace tenure::reader {

// Longer than any line that auditd (8970 bytes) or a kernel message makes, with room for prefixes.
inline constexpr size_t kMaxLine = 65536;

// One line within a block, without its newline and without NULs in front.
struct LineSpan {
  uint32_t offset = 0;
  uint32_t size = 0;
};

struct ScanResult {
  std::vector<LineSpan> lines;  // in the block's order
  uint64_t nul_blocks = 0;      // lines with NULs in front: what a power loss leaves
  uint64_t overlong = 0;        // lines cut at kMaxLine
};

// `block` is shorter than 4 GiB, begins at the start of a line and ends at the end of one (or of
// the input). Kept are VIRT_* records in every form, boots, shutdowns, auditd's own records,
// configuration changes, anomalies; and where they speak of libvirt's tools or of QEMU: AVC, EXECVE
// with the SYSCALL of the same event, USER_CMD; logins. Appends to `out`.
void scan_block(std::string_view block, ScanResult& out);

// The code paths that this processor has, the fastest, which scan_block() takes, first; the last is
// the portable one. All do the same; for tests.
struct ScanPath {
  std::string_view name;
  void (*scan)(std::string_view block, ScanResult& out);
};
std::span<const ScanPath> scan_paths();

}  // namespace tenure::reader
