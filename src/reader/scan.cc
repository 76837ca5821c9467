// SPDX-License-Identifier: Apache-2.0
#include "reader/scan.h"

#include <algorithm>
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

// The first four letters of each as a number, in a table without collisions: most lines are
// dismissed by one multiplication and one comparison. Of the numbers, "250" stands for ten.
struct Marks {
  static constexpr uint32_t kBits = 7;
  uint32_t factor = 0;
  std::array<uint32_t, 1 << kBits> words{};

  static constexpr uint32_t word_of(std::string_view text) {
    uint32_t word = 0;
    for (size_t i = 0; i < 4; ++i) {
      const size_t shift = 8 * (std::endian::native == std::endian::big ? 3 - i : i);
      word |= uint32_t{static_cast<unsigned char>(text[i])} << shift;
    }
    return word;
  }
  constexpr uint32_t& place(uint32_t word) { return words[word * factor >> (32 - kBits)]; }
  constexpr uint32_t at(uint32_t word) const { return words[word * factor >> (32 - kBits)]; }

  // False if another word has the place.
  constexpr bool add(std::string_view letters) {
    const uint32_t word = word_of(letters);
    const bool free = place(word) == 0 || place(word) == word;
    place(word) = word;
    return free;
  }
  constexpr bool add_all() {
    bool free = true;
    for (const Interest& interest : kInterests) {
      if (interest.type.size() >= 4) {
        free = add(interest.type) && free;
        continue;
      }
      for (char digit = '0'; digit <= '9'; ++digit) {
        const std::array<char, 4> letters = {interest.type[0], interest.type[1], interest.type[2],
                                             digit};
        free = add({letters.data(), letters.size()}) && free;
      }
    }
    return free;
  }
};

// Tries factors until no two words share a place. Runs in the compiler.
constexpr Marks make_marks() {
  for (uint32_t factor = 0x9E3779B1; factor != 0x9E3779B1 + 4000; factor += 2) {
    Marks marks{.factor = factor, .words = {}};
    if (marks.add_all())
      return marks;
  }
  return {};
}
constexpr Marks kMarks = make_marks();
static_assert(kMarks.factor != 0, "no factor without collision: add bits");

// `text` has at least four bytes.
inline bool may_interest(const char* text) {
  uint32_t word = 0;
  std::memcpy(&word, text, sizeof word);
  return kMarks.at(word) == word;
}

constexpr size_t kLetters = 4;
constexpr size_t kCandidate = 3 + kLetters;  // "pe=" and four letters of the type

// Where the type stands, of a candidate at `at`.
inline size_t type_at(const char* text, size_t at) {
  return text[at] == 'V' ? at : at + 3;
}

class BlockScan {
 public:
  BlockScan(std::string_view block, ScanResult& out) : block_(block), out_(out) {}

  // `at` is where "pe=" or "VIR" may begin, in front of a word of may_interest(). Takes the line if
  // it is one to keep.
  void candidate(size_t at) {
    if (at < next_)
      return;
    const size_t type = type_at(block_.data(), at);
    const std::string_view rest = block_.substr(type);
    if (at == type) {
      if (rest.starts_with("VIRT_"))
        take(at, always);
      return;
    }
    if (at < 2 || block_.substr(at - 2, 5) != "type=")
      return;
    for (const Interest& interest : kInterests) {
      if (rest.starts_with(interest.type))
        return take(at, interest.filter);
    }
  }

  size_t size() const { return block_.size(); }
  const char* data() const { return block_.data(); }

 private:
  void take(size_t at, Filter filter) {
    if (at >= end_) {
      begin_ = line_begin(at);
      end_ = line_end(at);
      refused_by_.fill(nullptr);
    }
    // Looked at once by each filter, however often a line names a type.
    if (std::find(refused_by_.begin(), refused_by_.end(), filter) != refused_by_.end())
      return;
    const std::string_view line = block_.substr(begin_, end_ - begin_);
    // A line that its filter refuses may still hold another record (glued): look on within it.
    if (!filter(line)) {
      *std::find(refused_by_.begin(), refused_by_.end(), nullptr) = filter;
      return;
    }
    next_ = end_ + 1;
    if (filter == names_tool)
      take_syscall(begin_, line);
    if (filter == boots)
      take_last(begin_);
    keep(begin_, line);
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
  size_t begin_ = 0;  // of the line that was looked at last
  size_t end_ = 0;
  std::array<Filter, std::size(kInterests)> refused_by_{};  // those that refused it
  size_t next_ = 0;                                         // behind the last line that was taken
};

// `at` may begin a candidate. A bare test first: of the lines hardly one is wanted.
inline void test(BlockScan& scan, size_t at) {
  if (may_interest(scan.data() + type_at(scan.data(), at)))
    scan.candidate(at);
}

// The rest of a block, byte by byte.
void scan_tail(BlockScan& scan, size_t at) {
  const char* p = scan.data();
  for (; at + kLetters <= scan.size(); ++at) {
    const bool hit = (p[at] == 'p' && p[at + 2] == '=') || (p[at] == 'V' && p[at + 2] == 'R');
    if (hit && type_at(p, at) + kLetters <= scan.size())
      test(scan, at);
  }
}

#if defined(__x86_64__)
#define TENURE_AVX2 __attribute__((target("avx2,bmi")))
#define TENURE_AVX512 __attribute__((target("avx512bw,bmi")))

// Bit i: a candidate begins at from[i], by its first and third byte.
TENURE_AVX2 inline uint32_t candidates32(const char* from) {
  const auto equal = [from](int at, char c) TENURE_AVX2 {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at));
    return _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(c));
  };
  const __m256i type = _mm256_and_si256(equal(0, 'p'), equal(2, '='));
  const __m256i virt = _mm256_and_si256(equal(0, 'V'), equal(2, 'R'));
  return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_or_si256(type, virt)));
}

TENURE_AVX2 void scan_avx2(BlockScan& scan) {
  constexpr size_t kStep = 32;
  size_t at = 0;
  for (; at + kStep + kCandidate <= scan.size(); at += kStep) {
    for (uint32_t hits = candidates32(scan.data() + at); hits != 0; hits &= hits - 1)
      test(scan, at + static_cast<size_t>(std::countr_zero(hits)));
  }
  scan_tail(scan, at);
}

TENURE_AVX512 inline uint64_t candidates64(const char* from) {
  const __m512i first = _mm512_loadu_si512(from);
  const __m512i third = _mm512_loadu_si512(from + 2);
  const __mmask64 p = _mm512_cmpeq_epi8_mask(first, _mm512_set1_epi8('p'));
  const __mmask64 v = _mm512_cmpeq_epi8_mask(first, _mm512_set1_epi8('V'));
  return _mm512_mask_cmpeq_epi8_mask(p, third, _mm512_set1_epi8('=')) |
         _mm512_mask_cmpeq_epi8_mask(v, third, _mm512_set1_epi8('R'));
}

TENURE_AVX512 void scan_avx512(BlockScan& scan) {
  constexpr size_t kStep = 64;
  size_t at = 0;
  for (; at + kStep + kCandidate <= scan.size(); at += kStep) {
    for (uint64_t hits = candidates64(scan.data() + at); hits != 0; hits &= hits - 1)
      test(scan, at + static_cast<size_t>(std::countr_zero(hits)));
  }
  scan_tail(scan, at);
}
#endif

template <void (*kScan)(BlockScan&)>
void scan_with(std::string_view block, ScanResult& out) {
  BlockScan scan(block, out);
  kScan(scan);
}

void scan_bytes(BlockScan& scan) {
  scan_tail(scan, 0);
}

std::vector<ScanPath> find_paths() {
  std::vector<ScanPath> paths;
#if defined(__x86_64__)
  const bool bmi = __builtin_cpu_supports("bmi") != 0;
  if (bmi && __builtin_cpu_supports("avx512bw") != 0)
    paths.push_back({"avx512", scan_with<scan_avx512>});
  if (bmi && __builtin_cpu_supports("avx2") != 0)
    paths.push_back({"avx2", scan_with<scan_avx2>});
#endif
  paths.push_back({"portable", scan_with<scan_bytes>});
  return paths;
}

}  // namespace

void scan_block(std::string_view block, ScanResult& out) {
  scan_paths().front().scan(block, out);
}

std::span<const ScanPath> scan_paths() {
  static const std::vector<ScanPath> kPaths = find_paths();
  return kPaths;
}

}  // namespace tenure::reader
