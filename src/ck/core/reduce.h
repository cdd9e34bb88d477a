// Reductions over the lanes of a wave and the threads of a block.
#pragma once

#include "ck/core/prelude.h"

namespace aiter {

constexpr int kMaxWaves = 1024 / kWave;  // of a block

struct Sum {
  template <class T>
  AITER_DEVICE static T combine(T a, T b) {
    return a + b;
  }
};
struct Max {
  template <class T>
  AITER_DEVICE static T combine(T a, T b) {
    return max(a, b);
  }
};

// Every lane gets the result over its group of kLanes neighbouring lanes.
template <class Op, int kLanes = kWave, class T>
AITER_DEVICE T wave_reduce(T value) {
  AITER_UNROLL
  for (int mask = kLanes / 2; mask > 0; mask /= 2)
    value = Op::combine(value, shuffle_xor(value, mask));
  return value;
}

// The same where the number of lanes, a power of two, is known at run time.
template <class Op, class T>
AITER_DEVICE T lanes_reduce(T value, int lanes) {
  if (lanes == kWave) return wave_reduce<Op>(value);
  AITER_NO_UNROLL
  for (int mask = lanes / 2; mask > 0; mask /= 2)
    value = Op::combine(value, shuffle_xor(value, mask));
  return value;
}

// Every thread gets the result over the block, whose threads are a multiple of kWave. All threads of
// the block must take part. `scratch` holds one T for each wave; it may be used again after the call.
template <class Op, class T>
AITER_DEVICE T block_reduce(T value, T* scratch) {
  const int waves = block_threads() / kWave;
  value = wave_reduce<Op>(value);
  if (waves == 1) return value;
  if (thread_index() % kWave == 0) scratch[thread_index() / kWave] = value;
  barrier();
  value = scratch[0];
  for (int i = 1; i < waves; ++i) value = Op::combine(value, scratch[i]);
  barrier();
  return value;
}

// The sum alone, with one barrier less: for a scratch that is not used again.
AITER_DEVICE float block_sum_once(float value, float* scratch) {
  const int waves = block_threads() / kWave, lane = thread_index() % kWave;
  value = wave_reduce<Sum>(value);
  if (waves == 1) return value;
  if (lane == 0) scratch[thread_index() / kWave] = value;
  barrier();
  return wave_reduce<Sum>(lane < waves ? scratch[lane] : 0.0f);
}

// Every thread gets the result over the `threads` threads of its row: a power of two of them up to the
// wave, or the block.
template <class Op, class T>
AITER_DEVICE T row_reduce(T value, int threads, T* scratch) {
  return threads > kWave ? block_reduce<Op>(value, scratch) : lanes_reduce<Op>(value, threads);
}

// Lane l of every wave gets what wave l of the block has found, and `none` beyond the last: what they
// have in common takes a reduction over kMost lanes, at least as many as there are waves. One
// exchange serves parts of several numbers. `scratch` holds kMost T; it may be used again after the
// call.
template <int kMost, class T>
AITER_DEVICE T parts_of_waves(const T& part, T* scratch, const T& none = {}) {
  const int wave = thread_index() % kMost;
  if (thread_index() % kWave == 0) scratch[thread_index() / kWave] = part;
  barrier();
  const T all = wave < block_threads() / kWave ? scratch[wave] : none;
  barrier();
  return all;
}

}  // namespace aiter
