// Selection without sorting: a block finds the k-th largest of a row, digit by digit from
// histograms of the digits, and puts what it selects in order. Its counterpart on CPUs is
// simd/radix_select.h.
#pragma once

#include "ck/core/pack.h"
#include "ck/core/team.h"

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

// The number that has a key; of a float, -0 has become 0.
AITER_DEVICE float float_of_key(uint32_t key) {
  return bit_cast<float>(key >> 31 ? key ^ 0x80000000 : ~key);
}

// The elements of a pack as bits.
template <class T, int N>
AITER_DEVICE void bits_of(const Pack<T, N>& pack, uint32_t (&bits)[N]) {
  if constexpr (N > 1) {
    AITER_UNROLL
    for (int j = 0; j < N; ++j)
      bits[j] = sizeof(T) == 4 ? pack.words[j] : pack.words[j / 2] >> (j % 2 * 16) & 0xffff;
  } else if constexpr (sizeof(T) == 4) {
    bits[0] = bit_cast<uint32_t>(pack.element);
  } else {
    bits[0] = pack.element.bits;
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
// `scratch` holds a T for each wave.
template <class T>
AITER_DEVICE Scan<T> block_scan(T value, T* scratch) {
  const int wave = thread_index() / kWave;
  const T sum = wave_scan(value);
  if (thread_index() % kWave == kWave - 1) scratch[wave] = sum;
  barrier();
  Scan<T> scan{sum - value, 0};
  AITER_NO_UNROLL
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
AITER_DEVICE uint32_t shared_fetch_add(uint32_t* to, uint32_t value) {
  return __hip_atomic_fetch_add(to, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
}
#else
AITER_DEVICE void shared_add(uint32_t* to, uint32_t value) {
  asm volatile(
      "{ .reg .u64 at; cvta.to.shared.u64 at, %0; red.shared.add.u32 [at], %1; }" ::"l"(to),
      "r"(value)
      : "memory");
}
AITER_DEVICE uint32_t shared_fetch_add(uint32_t* to, uint32_t value) {
  uint32_t before;
  asm volatile("{ .reg .u64 at; cvta.to.shared.u64 at, %1; atom.shared.add.u32 %0, [at], %2; }"
               : "=r"(before)
               : "l"(to), "r"(value)
               : "memory");
  return before;
}
// Half by half, with the carry: as one addition of 64 bits it would be a loop of attempts.
AITER_DEVICE void shared_add(uint64_t* to, uint64_t value) {
  uint32_t* halves = reinterpret_cast<uint32_t*>(to);
  const uint32_t low = static_cast<uint32_t>(value);
  uint32_t high = static_cast<uint32_t>(value >> 32);
  if (shared_fetch_add(halves, low) + low < low) ++high;
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
  Total above, in_digit;
  uint32_t digit;
};

// Weights of keys that are summed up from the largest key on reach `need`, more than 0, at key or
// just above it; key is 0 if all together do not reach it. each(f) calls f(key, weight) for this
// thread's part of the team's elements. Sums of integers: the result does not depend on their order.
template <int kKeyBits, class Total, class Each>
AITER_DEVICE Selected<Total> radix_select(const Team& team, Total need,
                                          RadixScratch<Total>& scratch, Each&& each) {
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
    team.barrier();
    auto bin = [&](int digit) {
      Total sum = scratch.bins[digit];
      for (int i = 1; i < team.size; ++i)
        sum += *team.of_rank(&scratch.bins[digit], (team.rank + i) % team.size);
      return sum;
    };
    // Each thread adds up some digits, the first one the largest.
    const int part = (count + block_threads() - 1) / block_threads();
    const int first = count - 1 - thread * part;
    Total own = 0;
    AITER_NO_UNROLL
    for (int j = 0; j < part && j <= first; ++j) own += bin(first - j);
    const Scan<Total> scan = block_scan(own, scratch.waves);
    const Total left = need - found.above;
    const bool enough = scan.total >= left;
    if (enough && scan.before < left && left <= scan.before + own) {
      Total sum = scan.before;
      int digit = first;
      Total in_digit = bin(digit);
      while (sum + in_digit < left) sum += in_digit, in_digit = bin(--digit);
      scratch.digit = digit;
      scratch.above = found.above + sum;
      scratch.in_digit = in_digit;
    }
    team.barrier();  // after which nobody reads another one's bins
    if (!enough) return {0, found.above + scan.total};
    found.above = scratch.above;
    found.key = prefix << bits | scratch.digit;
    if (found.above + scratch.in_digit == need && found.key > 0) {
      found.above = need;  // no need to look into it
      found.key = (found.key << shift) - 1;
      break;
    }
  }
  barrier();
  return found;
}

}  // namespace aiter
