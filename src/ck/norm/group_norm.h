// Group norms: a block takes a group of an image. What fits into registers stays there between the
// passes; the rest, which is looked at once for the moments, is read again for the result, from the
// cache.
#pragma once

#include "ck/core/pack.h"
#include "ck/norm/row_norm.h"
#include "ops/norm/groupnorm/groupnorm_args.h"

namespace aiter {

// What steps of `threads` packs of N elements are in a group, of rows of one channel each or, with
// channels last, of the group's channels.
template <int N, class Index>
struct GroupSteps {
  Index row_packs, rows_a_step, packs_a_step;
  int64_t elements_a_step, between_rows;

  AITER_DEVICE GroupSteps(const GroupnormArgs& a, int64_t in_group, int threads)
      : row_packs(static_cast<Index>((a.channels_last ? in_group : a.space) / N)),
        rows_a_step(row_packs <= threads ? threads / static_cast<int>(row_packs) : 0),
        packs_a_step(threads - rows_a_step * row_packs) {
    const int64_t row_stride = a.channels_last ? a.channels : a.space;
    elements_a_step = rows_a_step * row_stride + static_cast<int64_t>(packs_a_step) * N;
    between_rows = row_stride - static_cast<int64_t>(row_packs) * N;
  }
};

// A pack of a group, the p-th of its row, that begins at element `at`.
template <int N, class Index>
struct GroupPack {
  Index row, p;
  int64_t at;

  // The t-th of the group that begins at element `first`.
  AITER_DEVICE GroupPack(const GroupSteps<N, Index>& steps, int64_t first, int t)
      : row(steps.rows_a_step ? t / static_cast<int>(steps.row_packs) : 0),
        p(t - row * steps.row_packs),
        at(first + row * (steps.between_rows + static_cast<int64_t>(steps.row_packs) * N) +
           static_cast<int64_t>(p) * N) {}
  AITER_DEVICE void next(const GroupSteps<N, Index>& steps) {
    row += steps.rows_a_step, p += steps.packs_a_step, at += steps.elements_a_step;
    if (p >= steps.row_packs) p -= steps.row_packs, ++row, at += steps.between_rows;
  }
};

// What a thread has of its block's group. Index counts the packs of a group; kKept of a thread stay in
// registers, and a block has kThreads at most.
template <class T, int N, class Index, int kKept, int kThreads>
struct GroupNorm {
  static constexpr int kWaves = kThreads / kWave, kRest = 2;  // packs that are loaded at once
  using Place = GroupPack<N, Index>;
  const GroupnormArgs& a;
  int threads, t;
  int64_t in_group, group, channel, begin;  // channel: the group's first
  GroupSteps<N, Index> steps;
  Index packs;
  Pack<T, N> kept[kKept], rest[kRest];
  float mean, scale;

  AITER_DEVICE explicit GroupNorm(const GroupnormArgs& args)
      : a(args),
        threads(block_threads()),
        t(thread_index()),
        in_group(a.channels / a.groups),
        group(static_cast<int64_t>(block_index_y()) * grid_blocks() + block_index_x()),
        channel(group % a.groups * in_group),
        begin(group / a.groups * a.channels * a.space + channel * (a.channels_last ? 1 : a.space)),
        steps(a, in_group, threads),
        packs(static_cast<Index>(in_group * a.space / N)) {}

  // The grid may have blocks that have none.
  AITER_DEVICE bool there() const { return group < a.batch * a.groups; }

  // The numbers of the norm: x, or its sum with the residual, which is stored the first time.
  AITER_DEVICE Pack<T, N> load(int64_t at) {
    Pack<T, N> pack = load_pack<N>(static_cast<const T*>(a.x) + at);
    if (a.residual) {
      float v[N], r[N];
      pack.to_floats(v);
      load_floats<N>(static_cast<const T*>(a.residual) + at, r);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] += r[k];
      pack = Pack<T, N>::from_floats(v);
      store_pack<N>(static_cast<T*>(a.sum) + at, pack);
    }
    return pack;
  }

  // Calls f(load_rest(where it begins), place) for the packs that are not kept; place is the first
  // one's.
  template <class Load, class F>
  AITER_DEVICE void each_rest(Place place, Load&& load_rest, F&& f) {
    AITER_NO_UNROLL
    for (Index p = kKept * threads + t; p < packs; p += kRest * threads) {
      Place ahead = place;
      AITER_UNROLL
      for (int c = 0; c < kRest; ++c) {
        if (N == 1) rest[c] = {};
        if (p + c * threads < packs) rest[c] = load_rest(ahead.at);
        ahead.next(steps);
      }
      AITER_UNROLL
      for (int c = 0; c < kRest; ++c) {
        if (p + c * threads < packs) f(rest[c], place);
        place.next(steps);
      }
    }
  }

  // Reads the group, writes its sum with the residual, and finds mean and scale.
  AITER_DEVICE void read() {
    AITER_SHARED WaveMoments shared[kWaves];
    Place place(steps, begin, t);
    AITER_UNROLL
    for (int c = 0; c < kKept; ++c) {
      kept[c] = {};  // compilers compute with what is not there, and drop the result
      if (c * threads + t < packs) kept[c] = load(place.at);
      place.next(steps);
    }
    // Deviations are from the mean of what the wave keeps, then from that of all that it has seen.
    WaveMoments part{};
    AITER_UNROLL
    for (int c = 0; c < kKept; ++c) {
      if (c * threads + t >= packs) continue;
      float v[N];
      kept[c].to_floats(v);
      part.count += N;
      AITER_UNROLL
      for (int k = 0; k < N; ++k) part.total += v[k];
    }
    part.center_at_mean(kWave);
    const float center = part.center;
    float deviations = 0;
    part.count = 0;
    auto add = [&] AITER_LAMBDA(const Pack<T, N>& pack, const Place&) {
      float v[N];
      pack.to_floats(v);
      part.count += N;
      AITER_UNROLL
      for (int k = 0; k < N; ++k) {
        v[k] -= center;
        deviations += v[k];
        part.squares = fma(v[k], v[k], part.squares);
      }
    };
    AITER_UNROLL
    for (int c = 0; c < kKept; ++c) {
      kept[c].forget();
      if (c * threads + t < packs) add(kept[c], place);
    }
    each_rest(place, [&] AITER_LAMBDA(int64_t at) { return load(at); }, add);
    part.count = wave_reduce<Sum>(part.count);
    deviations = wave_reduce<Sum>(deviations);
    part.squares = wave_reduce<Sum>(part.squares);
    const float shift = divide_fast(deviations, max(part.count, 1.0f));
    part.center = center + shift;
    part.squares = fma(-shift, deviations, part.squares);
    part.total = fma(center, part.count, deviations);
    part = parts_of_waves<kWaves>(part, shared);
    const float count = wave_reduce<Sum, kWaves>(part.count);
    mean = divide_fast(wave_reduce<Sum, kWaves>(part.total), count);
    const float squares = wave_reduce<Sum, kWaves>(part.squares_about(mean));
    scale = rsqrt_fast(fma(squares, reciprocal_fast(count), a.eps));
  }

  // Calls f(pack, place) for all packs of this thread, after read().
  template <class F>
  AITER_DEVICE void each_pack(F&& f) {
    const T* stored = static_cast<const T*>(a.residual ? a.sum : a.x);
    Place place(steps, begin, t);
    AITER_UNROLL
    for (int c = 0; c < kKept; ++c) {
      kept[c].forget();
      if (c * threads + t < packs) f(kept[c], place);
      place.next(steps);
    }
    each_rest(place, [&] AITER_LAMBDA(int64_t at) { return load_pack<N>(stored + at); }, f);
  }
};

}  // namespace aiter
