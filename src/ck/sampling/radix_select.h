// Selection without sorting: a block finds the k-th largest of a row, digit by digit from
// histograms of the digits, and puts what it selects in order. Its counterpart on CPUs is
// simd/radix_select.h.
#pragma once

#include "ck/core/pack.h"

namespace aiter {

// ---- keys: unsigned integers in the order of the elements ---------------------------------------

// NaN is larger than all numbers, and -0 equals 0.
template <class T>
struct Key {  // f16 and bf16
  static constexpr int kBits = 16;
  static constexpr uint32_t kInfinityBits =
      static_cast<uint32_t>(is_same<T, f16> ? 0x7c00 : 0x7f80);
  AITER_DEVICE static uint32_t of(uint32_t bits) {
    if ((bits & 0x7fff) > kInfinityBits) return 0xffff;
    if (bits == 0x8000) bits = 0;
    return bits & 0x8000 ? bits ^ 0xffff : bits | 0x8000;
  }
};
template <>
struct Key<float> {
  static constexpr int kBits = 32;
  AITER_DEVICE static uint32_t of(uint32_t bits) {
    if ((bits & 0x7fffffff) > 0x7f800000) return 0xffffffff;
    if (bits == 0x80000000) bits = 0;
    return bits >> 31 ? ~bits : bits | 0x80000000;
  }
};
template <>
struct Key<int32_t> {
  static constexpr int kBits = 32;
  AITER_DEVICE static uint32_t of(uint32_t bits) { return bits ^ 0x80000000; }
};

// N neighbours as bits, from row[i] on. Elements from `end` on are not read.
template <int N, class T>
AITER_DEVICE void load_bits(const T* row, int64_t i, int64_t end, uint32_t (&bits)[N]) {
  if (N > 1 && i + N <= end) {
    constexpr int kWords = N * sizeof(T) / 4;
    const Words4 words = *reinterpret_cast<const Words4*>(row + i);
    const uint32_t w[4] = {words.x, words.y, words.z, words.w};
    AITER_UNROLL
    for (int j = 0; j < N; ++j) bits[j] = kWords == N ? w[j] : w[j / 2] >> (j % 2 * 16) & 0xffff;
    return;
  }
  AITER_UNROLL
  for (int j = 0; j < N; ++j) {
    if (i + j >= end) break;
    if constexpr (sizeof(T) == 4)
      bits[j] = bit_cast<uint32_t>(row[i + j]);
    else
      bits[j] = row[i + j].bits;
  }
}

// ---- sums over a block --------------------------------------------------------------------------

// The sum of the lanes up to this one, itself included.
template <class T>
AITER_DEVICE T wave_scan(T value) {
  const int lane = thread_index() % kWave;
  AITER_UNROLL
  for (int step = 1; step < kWave; step *= 2) {
    const T below = shuffle(value, lane < step ? lane : lane - step);
    if (lane >= step) value += below;
  }
  return value;
}

template <class T>
struct Scan {
  T before, total;  // the sum of the threads before this one, and of all
};
constexpr int kMaxWaves = 1024 / kWave;
// `scratch` holds a T for each wave.
template <class T>
AITER_DEVICE Scan<T> block_scan(T value, T* scratch) {
  const int wave = thread_index() / kWave;
  const T sum = wave_scan(value);
  if (thread_index() % kWave == kWave - 1) scratch[wave] = sum;
  barrier();
  Scan<T> scan{sum - value, 0};
  for (int i = 0; i < block_threads() / kWave; ++i) {
    if (i < wave) scan.before += scratch[i];
    scan.total += scratch[i];
  }
  barrier();
  return scan;
}

#if defined(AITER_AMD)
template <class T>
AITER_DEVICE void shared_add(T* to, T value) {
  __hip_atomic_fetch_add(to, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
}
#else
AITER_DEVICE void shared_add(uint32_t* to, uint32_t value) {
  asm volatile(
      "{ .reg .u64 at; cvta.to.shared.u64 at, %0; red.shared.add.u32 [at], %1; }" ::"l"(to),
      "r"(value)
      : "memory");
}
// Half by half, with the carry: as one addition of 64 bits it would be a loop of attempts.
AITER_DEVICE void shared_add(uint64_t* to, uint64_t value) {
  uint32_t* halves = reinterpret_cast<uint32_t*>(to);
  const uint32_t low = static_cast<uint32_t>(value);
  uint32_t high = static_cast<uint32_t>(value >> 32), before;
  asm volatile("{ .reg .u64 at; cvta.to.shared.u64 at, %1; atom.shared.add.u32 %0, [at], %2; }"
               : "=r"(before)
               : "l"(halves), "r"(low)
               : "memory");
  if (before + low < low) ++high;
  if (high) shared_add(halves + 1, high);
}
#endif

// ---- selection ----------------------------------------------------------------------------------

// A key, and the total weight of what is larger: less than what was asked for, or just as much.
template <class Total>
struct Selected {
  uint32_t key;
  Total above;
};

constexpr int kDigitBits = 11;
template <class Total>
struct RadixScratch {
  Total bins[1 << kDigitBits];
  Total waves[kMaxWaves];
  Total above;
  uint32_t digit;
};

// Weights of keys that are summed up from the largest key on reach `need`, more than 0, at key or
// just above it; key is 0 if all together do not reach it. each(f) calls f(key, weight) for this
// thread's part of the elements. Sums of integers: the result does not depend on their order.
template <int kKeyBits, class Total, class Each>
AITER_DEVICE Selected<Total> radix_select(Total need, RadixScratch<Total>& scratch, Each&& each) {
  const int thread = thread_index();
  Selected<Total> found{0, 0};
  AITER_NO_UNROLL
  for (int shift = kKeyBits; shift > 0;) {
    const int bits = shift < kDigitBits ? shift : kDigitBits, above = shift;
    shift -= bits;
    const int count = 1 << bits;
    for (int i = thread; i < count; i += block_threads()) scratch.bins[i] = 0;
    barrier();
    const uint32_t prefix = found.key;
    each([&](uint32_t key, Total weight) {
      if (static_cast<uint64_t>(key) >> above == prefix)
        shared_add(&scratch.bins[key >> shift & (count - 1)], weight);
    });
    barrier();
    // Each thread adds up some digits, the first one the largest.
    const int part = (count + block_threads() - 1) / block_threads();
    const int first = count - 1 - thread * part;
    Total own = 0;
    for (int j = 0; j < part && j <= first; ++j) own += scratch.bins[first - j];
    const Scan<Total> scan = block_scan(own, scratch.waves);
    const Total left = need - found.above;
    if (scan.total < left) return {0, found.above + scan.total};
    if (scan.before < left && left <= scan.before + own) {
      Total sum = scan.before;
      int digit = first;
      while (sum + scratch.bins[digit] < left) sum += scratch.bins[digit--];
      scratch.digit = digit;
      scratch.above = found.above + sum;
    }
    barrier();
    found.above = scratch.above;
    found.key = prefix << bits | scratch.digit;
    if (found.above + scratch.bins[scratch.digit] == need && found.key > 0) {
      found.above = need;  // no need to look into it
      found.key = (found.key << shift) - 1;
      barrier();
      return found;
    }
    barrier();
  }
  return found;
}

}  // namespace aiter
