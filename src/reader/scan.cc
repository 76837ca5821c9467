// SPDX-License-Identifier: Apache-2.0
#include "reader/scan.h"

#include <array>
#include <bit>
#include <cstring>
#include <iterator>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tenure::reader {
namespace {

using Filter = bool (*)(std::string_view line);

bool always(std::string_view) {
  return true;
}

// A host may have crashed before it: then the line in front is the last sign of life.
bool boots(std::string_view) {
  return true;
}

bool has(std::string_view line, std::string_view word) {
  return ::memmem(line.data(), line.size(), word.data(), word.size()) != nullptr;
}

bool names_tool(std::string_view line) {
  return has(line, "virsh") || has(line, "virt-");
}

// cmd= of USER_CMD is hex as soon as it has a blank: "virsh", "virt-".
bool runs_tool(std::string_view line) {
  return names_tool(line) || has(line, "7669727368") || has(line, "766972742D");
}

bool names_guest_process(std::string_view line) {
  return has(line, "qemu") || has(line, "svirt") || has(line, "libvirt");
}

struct Interest {
  std::string_view type;  // what follows "type="
  Filter filter;
};

constexpr Interest kInterests[] = {
    {"VIRT_", always},
    {"UNKNOWN[25", always},
    {"250", always},  // the kernel's own form: audit: type=2500 audit(…)
    {"SYSTEM_BOOT", boots},
    {"SYSTEM_SHUTDOWN", always},
    {"DAEMON_START", boots},
    {"DAEMON_", always},
    {"CONFIG_CHANGE", always},
    {"ANOM_", always},
    {"AVC ", names_guest_process},
    {"EXECVE ", names_tool},
    {"USER_CMD ", runs_tool},
    {"USER_LOGIN ", always},
};

// The first four letters of each (three of "250") as a number: most lines are dismissed by
// comparing only that, without a branch for each.
struct Marks {
  static constexpr size_t kCount = 16;  // unused places repeat the first
  std::array<uint32_t, kCount> value{};
  std::array<uint32_t, kCount> mask{};

  constexpr Marks() {
    for (size_t i = 0; i < kCount; ++i) {
      const std::string_view type = kInterests[i < std::size(kInterests) ? i : 0].type;
      for (size_t byte = 0; byte < 4 && byte < type.size(); ++byte) {
        const size_t shift = 8 * (std::endian::native == std::endian::big ? 3 - byte : byte);
        value[i] |= uint32_t{static_cast<unsigned char>(type[byte])} << shift;
        mask[i] |= uint32_t{0xFF} << shift;
      }
    }
  }
};
constexpr Marks kMarks;
static_assert(std::size(kInterests) <= Marks::kCount);

// `text` has at least four bytes.
bool may_interest(const char* text) {
  uint32_t word = 0;
  std::memcpy(&word, text, sizeof word);
  uint32_t any = 0;
  for (size_t i = 0; i < Marks::kCount; ++i)
    any |= (word & kMarks.mask[i]) == kMarks.value[i] ? 1U : 0U;
  return any != 0;
}

class BlockScan {
 public:
  BlockScan(std::string_view block, ScanResult& out) : block_(block), out_(out) {}

  // `at` is where "pe=" or "VIR" begins. Returns where to go on: past the line if it was taken.
  size_t candidate(size_t at) {
    const size_t type = block_[at] == 'V' ? at : at + 3;
    if (type + 4 > block_.size() || !may_interest(block_.data() + type))
      return at + 1;
    return interesting(at, type);
  }

  size_t size() const { return block_.size(); }
  const char* data() const { return block_.data(); }

 private:
  __attribute__((noinline)) size_t interesting(size_t at, size_t type) {
    if (at < next_)
      return next_;
    const std::string_view rest = block_.substr(type);
    if (at == type)
      return rest.starts_with("VIRT_") ? take(at, always) : at + 1;
    if (at < 2 || block_[at - 1] != 'y' || block_[at - 2] != 't')
      return at + 1;
    for (const Interest& interest : kInterests) {
      if (rest.starts_with(interest.type))
        return take(at, interest.filter);
    }
    return at + 1;
  }

  size_t take(size_t at, Filter filter) {
    const size_t begin = line_begin(at);
    const size_t end = line_end(at);
    std::string_view line = block_.substr(begin, end - begin);
    // A line that its filter refuses may still hold another record (glued): look on within it.
    if (!filter(line))
      return at + 1;
    next_ = end + 1;
    if (filter == names_tool)
      take_syscall(begin, line);
    if (filter == boots)
      take_last(begin);
    keep(begin, line);
    return next_;
  }

  size_t line_begin(size_t at) const {
    const void* newline = ::memrchr(block_.data(), '\n', at);
    if (newline == nullptr)
      return 0;
    return static_cast<size_t>(static_cast<const char*>(newline) - block_.data()) + 1;
  }

  size_t line_end(size_t at) const {
    const void* newline = std::memchr(block_.data() + at, '\n', block_.size() - at);
    if (newline == nullptr)
      return block_.size();
    return static_cast<size_t>(static_cast<const char*>(newline) - block_.data());
  }

  void keep(size_t begin, std::string_view line) {
    if (const size_t nul = line.substr(0, line.find("type=")).rfind('\0');
        nul != std::string_view::npos) {
      line.remove_prefix(nul + 1);
      begin += nul + 1;
      ++out_.nul_blocks;
    }
    if (line.size() > kMaxLine) {
      line = line.substr(0, kMaxLine);
      ++out_.overlong;
    }
    out_.lines.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(line.size())});
  }

  // EXECVE says what was run, the SYSCALL of the same event, a few lines before, by whom.
  void take_syscall(size_t begin, std::string_view execve) {
    const size_t id_begin = execve.find("msg=audit(");
    const size_t id_end = execve.find(')', id_begin);
    if (id_begin == std::string_view::npos || id_end == std::string_view::npos)
      return;
    const std::string_view id = execve.substr(id_begin, id_end - id_begin + 1);
    constexpr int kLinesBack = 12;
    size_t end = begin;
    for (int i = 0; i < kLinesBack && end > 0; ++i) {
      const size_t start = line_begin(end - 1);
      const std::string_view line = block_.substr(start, end - 1 - start);
      if (line.find("type=SYSCALL ") < kMaxLine && has(line, id))
        return keep(start, line);
      end = start;
    }
  }

  void take_last(size_t begin) {
    if (begin == 0)
      return;
    const size_t start = line_begin(begin - 1);
    const bool kept = !out_.lines.empty() && out_.lines.back().offset >= start;
    if (!kept)
      keep(start, block_.substr(start, begin - 1 - start));
  }

  std::string_view block_;
  ScanResult& out_;
  size_t next_ = 0;
};

void scan_tail(BlockScan& scan, size_t at) {
  const char* p = scan.data();
  const size_t n = scan.size();
  while (at + 3 <= n) {
    const bool hit = (p[at] == 'p' && p[at + 1] == 'e' && p[at + 2] == '=') ||
                     (p[at] == 'V' && p[at + 1] == 'I' && p[at + 2] == 'R');
    at = hit ? scan.candidate(at) : at + 1;
  }
}

#if defined(__x86_64__)
using Bytes = __m256i;

__attribute__((target("avx2"))) inline Bytes equal(const char* from, char c) {
  const Bytes bytes = _mm256_loadu_si256(reinterpret_cast<const Bytes*>(from));
  return _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(c));
}

// Bit i: a candidate begins at from[i]. Three overlapping loads, 34 bytes in all.
__attribute__((target("avx2"))) inline uint32_t candidates(const char* from) {
  const Bytes type = _mm256_and_si256(_mm256_and_si256(equal(from, 'p'), equal(from + 1, 'e')),
                                      equal(from + 2, '='));
  const Bytes virt = _mm256_and_si256(_mm256_and_si256(equal(from, 'V'), equal(from + 1, 'I')),
                                      equal(from + 2, 'R'));
  return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_or_si256(type, virt)));
}

__attribute__((target("avx2"))) void scan_avx2(BlockScan& scan) {
  constexpr size_t kStep = 32;
  const char* p = scan.data();
  size_t at = 0;
  while (at + kStep + 2 <= scan.size()) {
    size_t next = at + kStep;
    for (uint32_t mask = candidates(p + at); mask != 0; mask &= mask - 1) {
      const size_t go_on = scan.candidate(at + static_cast<size_t>(__builtin_ctz(mask)));
      if (go_on <= at + kStep)
        continue;
      next = go_on;
      break;
    }
    at = next;
  }
  scan_tail(scan, at);
}
#endif

}  // namespace

void scan_block_portable(std::string_view block, ScanResult& out) {
  BlockScan scan(block, out);
  scan_tail(scan, 0);
}

void scan_block(std::string_view block, ScanResult& out) {
  BlockScan scan(block, out);
#if defined(__x86_64__)
  static const bool kHasAvx2 = __builtin_cpu_supports("avx2") != 0;
  if (kHasAvx2)
    return scan_avx2(scan);
#endif
  scan_tail(scan, 0);
}

}  // namespace tenure::reader
