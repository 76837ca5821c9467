// SPDX-License-Identifier: Apache-2.0
// The two searches that decoding spends its time in, 16 bytes at a step. They never read beyond
// `end`, so a view that stops at the end of a mapping is safe. Tokens are some ten bytes long,
// which is shorter than a call of memchr is worth.
#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <bit>
#include <cstdint>

namespace tenure::trail {

// First `a` or `b` in [at, end), else `end`.
inline const char* find_either(const char* at, const char* end, char a, char b) {
#if defined(__SSE2__)
  const __m128i is_a = _mm_set1_epi8(a);
  const __m128i is_b = _mm_set1_epi8(b);
  for (; end - at >= 16; at += 16) {
    __m128i block;
    __builtin_memcpy(&block, at, sizeof block);
    auto hits = static_cast<uint32_t>(
        _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(block, is_a), _mm_cmpeq_epi8(block, is_b))));
    if (hits != 0)
      return at + std::countr_zero(hits);
  }
#endif
  while (at != end && *at != a && *at != b) ++at;
  return at;
}

// First `a` in [at, end), else `end`.
inline const char* find_byte(const char* at, const char* end, char a) {
  return find_either(at, end, a, a);
}

}  // namespace tenure::trail
