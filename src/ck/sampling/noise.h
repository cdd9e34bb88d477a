// Exponential noise, as loaded or made by the threads of a block.
#pragma once

#include "ck/sampling/row.h"
#include "ops/sampling/noise.h"

namespace aiter {

// What is the same for all lanes of a wave, in registers of which there is one for all.
AITER_DEVICE uint32_t uniform(uint32_t value) {
#if defined(AITER_AMD)
  return __builtin_amdgcn_readfirstlane(value);
#else
  uint32_t result;
  asm("redux.sync.or.b32 %0, %1, 0xffffffff;" : "=r"(result) : "r"(value));
  return result;
#endif
}
AITER_DEVICE uint64_t uniform(uint64_t value) {
  const uint64_t high = uniform(static_cast<uint32_t>(value >> 32));
  return high << 32 | uniform(static_cast<uint32_t>(value));
}
AITER_DEVICE Philox uniform(const Philox& random) {
  return {uniform(random.seed), uniform(random.offset), uniform(random.n)};
}

// The random words of the elements i to i + N - 1; i is a multiple of 4. Element v has word v % 4 of
// block v / 4.
template <int N>
AITER_DEVICE void random_words(const Philox& random, int64_t i, uint32_t (&words)[N]) {
  static_assert(N % 4 == 0);
  AITER_UNROLL
  for (int k = 0; k < N; k += 4)
    random.block(static_cast<uint32_t>((i + k) / 4), reinterpret_cast<uint32_t (&)[4]>(words[k]));
}

template <int N>
AITER_DEVICE void exponentials(const Philox& random, int64_t i, float (&noise)[N]) {
  uint32_t words[N];
  random_words(random, i, words);
  AITER_UNROLL
  for (int k = 0; k < N; ++k) noise[k] = exponential_of(words[k]);
}

}  // namespace aiter
