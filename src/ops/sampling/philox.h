// Philox 4x32-10 (Salmon et al. 2011), the same for CPUs and GPUs.
#pragma once

#include "ops/sampling/row_option.h"

namespace aiter {

AITER_EVERYWHERE void multiply_wide(uint32_t a, uint32_t b, uint32_t& low, uint32_t& high) {
#if defined(AITER_DEVICE_CODE) && !defined(AITER_AMD)
  // nvcc adds 0 to the upper half of a shifted product.
  asm("{ .reg .b64 p; mul.wide.u32 p, %2, %3; mov.b64 {%0, %1}, p; }"
      : "=r"(low), "=r"(high)
      : "r"(a), "r"(b));
#else
  const uint64_t product = uint64_t{a} * b;
  low = static_cast<uint32_t>(product), high = static_cast<uint32_t>(product >> 32);
#endif
}

// The stream of random numbers of (seed, offset, n): blocks of four words of 32 bits, or twice as
// many numbers of 64 bits.
struct Philox {
  uint64_t seed, offset;
  uint32_t n;

  AITER_EVERYWHERE void block(uint32_t i, uint32_t (&c)[4]) const {
    c[0] = static_cast<uint32_t>(offset), c[1] = static_cast<uint32_t>(offset >> 32);
    c[2] = n, c[3] = i;
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      uint32_t a0, a1, b0, b1;
      multiply_wide(0xd2511f53u, c[0], a0, a1);
      multiply_wide(0xcd9e8d57u, c[2], b0, b1);
      c[0] = b1 ^ c[1] ^ k0, c[1] = b0;
      c[2] = a1 ^ c[3] ^ k1, c[3] = a0;
      k0 += 0x9e3779b9u, k1 += 0xbb67ae85u;
    }
  }
  AITER_EVERYWHERE uint64_t number(uint32_t i) const {
    uint32_t c[4];
    block(i / 2, c);
    return i % 2 ? c[2] | uint64_t{c[3]} << 32 : c[0] | uint64_t{c[1]} << 32;
  }
};

// The stream of row b: n is b, or 0 where rows have seeds of their own.
AITER_EVERYWHERE Philox philox_of(const RowOption& seed, const RowOption& offset, int64_t b) {
  return {static_cast<uint64_t>(seed.integer(b)), static_cast<uint64_t>(offset.integer(b)),
          seed.data ? 0u : static_cast<uint32_t>(b)};
}

// The upper half of a product of 128 bits: a number below b, for a random a.
AITER_EVERYWHERE uint64_t multiply_high(uint64_t a, uint64_t b) {
  const uint64_t a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
  const uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
  return a1 * b1 + (middle >> 32) + ((a0 * b1 + (middle & 0xffffffffu)) >> 32);
}

}  // namespace aiter
