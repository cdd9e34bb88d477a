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
  for (int i = 0; i < block_threads() / kWave; ++i) {
    const T part = scratch[i];
    if (i < wave) scan.before += part;
    scan.total += part;
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
  Total waves[kMaxWaves], ranks[kMaxTeam];
  Total above, in_digit;
  uint32_t digit;
};

// Weights of keys that are summed up from the largest key on reach `need`, more than 0, at key or,
// where they are counts, just above it; key is 0 if all together do not reach it. each(f, low, high)
// calls f(key, weight) for this thread's part of the team's elements; of keys below `low` or above `high`
// it need not. Sums of integers: the result does not depend on their order.
template <int kKeyBits, class Total, class Each>
AITER_DEVICE Selected<Total> radix_select(const Team& team, Total need,
                                          RadixScratch<Total>& scratch, Each&& each) {
  const int thread = thread_index();
  Selected<Total> found{0, 0};
  // Where all together do not reach `need`, the compiler may read these all the same.
  if (thread == 0) scratch.digit = 0, scratch.above = scratch.in_digit = 0;
  AITER_NO_UNROLL
  for (int shift = kKeyBits; shift > 0;) {
    const int bits = shift < kDigitBits ? shift : kDigitBits, above = shift;
    shift -= bits;
    const int count = 1 << bits;
    for (int i = thread; i < count; i += block_threads()) scratch.bins[i] = 0;
    barrier();
    const uint32_t prefix = found.key, low = above < 32 ? prefix << above : 0;
    const uint32_t high = above < 32 ? low | ((1u << above) - 1) : ~0u;
    each(
        [&](uint32_t key, Total weight) {
          if (key >= low && key <= high)
            shared_add(&scratch.bins[key >> shift & (count - 1)], weight);
        },
        low, high);
    team.barrier();
    // Each block adds up a part of the digits, and each of its threads some of them, the largest first.
    const int digits = max(count / team.size, 1);
    const int last = count - 1 - (team.size - 1 - team.rank) * digits;
    const int part = (digits + block_threads() - 1) / block_threads();
    const int first = last - thread * part, end = max(first - part, max(last - digits, -1));
    Total own = 0;
    AITER_NO_UNROLL
    for (int digit = first; digit > end; --digit) {
      Total sum = scratch.bins[digit];
      if (team.size > 1) {
        AITER_UNROLL
        for (int i = 1; i < kMaxTeam; ++i)
          if (i < team.size)
            sum += *team.of_rank(&scratch.bins[digit], (team.rank + i) & (team.size - 1));
        scratch.bins[digit] = sum;  // which nobody else reads
      }
      own += sum;
    }
    const Scan<Total> scan = block_scan(own, scratch.waves);
    Total before = found.above, total = scan.total;  // of larger digits, and of all
    if (team.size > 1) {
      team.gather(scan.total, scratch.ranks);
      total = 0;
      for (int i = 0; i < team.size; ++i) {
        if (i > team.rank) before += scratch.ranks[i];
        total += scratch.ranks[i];
      }
    }
    before += scan.before;
    const bool enough = found.above + total >= need;
    if (enough && before < need && need <= before + own) {
      int digit = first;
      Total in_digit = scratch.bins[digit];
      while (before + in_digit < need) before += in_digit, in_digit = scratch.bins[--digit];
      for (int i = 0; i < team.size; ++i) {
        RadixScratch<Total>& to = team.size > 1 ? *team.of_rank(&scratch, i) : scratch;
        to.digit = digit;
        to.above = before;
        to.in_digit = in_digit;
      }
    }
    team.barrier();
    if (!enough) return {0, found.above + total};
    found.above = scratch.above;
    found.key = prefix << bits | scratch.digit;
    // The elements of a digit that count all are no need to look into it.
    if (is_same<Total, uint32_t> && found.above + scratch.in_digit == need && found.key > 0) {
      found.above = need;
      found.key = (found.key << shift) - 1;
      break;
    }
  }
  barrier();
  return found;
}

}  // namespace aiter
