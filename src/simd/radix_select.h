// Selection without sorting, for the CPU rows; its counterpart on GPUs is
// ck/sampling/radix_select.h.
#pragma once

#include "simd/simd.h"

namespace aiter::AITER_ISA {

typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

// The order of floats as unsigned integers: -0 equals 0, NaN comes after infinity.
AITER_INLINE uint32_t order_of(float x) {
  if (x != x) return UINT32_MAX;
  const uint32_t bits = __builtin_bit_cast(uint32_t, x + 0.0f);  // -0 becomes 0
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
AITER_INLINE float float_of(uint32_t order) {
  return __builtin_bit_cast(float, order >> 31 ? order & 0x7fffffffu : ~order);
}

// A key, and the total weight of what is larger: less than what was asked for, or just as much.
struct Selected {
  uint32_t key;
  int64_t above;
};

// Weights of keys that are summed up from the largest key on reach `need`, more than 0, at key or
// just above it. each(f) calls f(key, weight) for all. key is 0 if all together do not reach it.
// Digits of 11 bits are for many keys, of 8 bits for a few hundred.
template <int kDigitBits = 11, class Each>
inline Selected radix_select(int64_t need, Each&& each) {
  int64_t sums[1 << kDigitBits];
  Selected found{0, 0};
  for (int shift = 32; shift > 0;) {
    const int bits = shift < kDigitBits ? shift : kDigitBits, above = shift;
    shift -= bits;
    memset(sums, 0, sizeof(sums));
    const uint32_t mask = (1u << bits) - 1, prefix = found.key;
    each([&](uint32_t key, int64_t weight) {
      if (uint64_t{key} >> above == prefix) sums[key >> shift & mask] += weight;
    });
    uint32_t digit = mask;
    while (digit > 0 && found.above + sums[digit] < need) found.above += sums[digit--];
    found.key = prefix << bits | digit;
    if (found.above + sums[digit] == need && found.key > 0) {  // no need to look into it
      found.above = need;
      found.key = (found.key << shift) - 1;
      return found;
    }
  }
  return found;
}

}  // namespace aiter::AITER_ISA
