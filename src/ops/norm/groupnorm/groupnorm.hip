// A block takes a group of an image. What fits into registers stays there between the passes; the rest,
// which is looked at once for the moments, is read again for the result, from the cache.
#include "ck/core/activation.h"
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

// Index counts the packs of a group.
template <class T, int N, class Index>
AITER_DEVICE void groupnorm(const GroupnormArgs& a) {
  constexpr int kWaves = GroupnormArgs::kThreads / kWave;
  constexpr int kKept = GroupnormArgs::kPacks, kRest = 2;  // packs that are loaded at once
  using Place = GroupPack<N, Index>;
  AITER_SHARED WaveMoments shared[kWaves];
  const T* x = static_cast<const T*>(a.x);
  const T* residual = static_cast<const T*>(a.residual);
  T* sum = static_cast<T*>(a.sum);
  T* y = static_cast<T*>(a.y);
  // The numbers of the norm: x, or its sum with the residual, which is stored the first time.
  auto load = [&] AITER_LAMBDA(int64_t at) {
    Pack<T, N> pack = load_pack<N>(x + at);
    if (residual) {
      float v[N], r[N];
      pack.to_floats(v);
      load_floats<N>(residual + at, r);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] += r[k];
      pack = Pack<T, N>::from_floats(v);
      store_pack<N>(sum + at, pack);
    }
    return pack;
  };
  const T* stored = residual ? sum : x;
  const int threads = block_threads(), t = thread_index();
  const int64_t in_group = a.channels / a.groups;
  const GroupSteps<N, Index> steps(a, in_group, threads);
  const Index packs = static_cast<Index>(in_group * a.space / N);
  const int64_t block = static_cast<int64_t>(block_index_y()) * grid_blocks() + block_index_x();
  if (block >= a.batch * a.groups) return;
  const int64_t n = block / a.groups, channel = block % a.groups * in_group;
  const int64_t begin = n * a.channels * a.space + channel * (a.channels_last ? 1 : a.space);
  Pack<T, N> kept[kKept], rest[kRest];
  Place place(steps, begin, t);
  AITER_UNROLL
  for (int c = 0; c < kKept; ++c) {
    kept[c] = {};  // compilers compute with what is not there, and drop the result
    if (c * threads + t < packs) kept[c] = load(place.at);
    place.next(steps);
  }
  // Calls f(load_rest(where it begins), place) for the packs that are not kept; place is the first one's.
  auto each_rest = [&] AITER_LAMBDA(Place place, auto&& load_rest, auto&& f) {
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
  };

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
  each_rest(place, load, add);
  part.count = wave_reduce<Sum>(part.count);
  deviations = wave_reduce<Sum>(deviations);
  part.squares = wave_reduce<Sum>(part.squares);
  const float shift = divide_fast(deviations, max(part.count, 1.0f));
  part.center = center + shift;
  part.squares = fma(-shift, deviations, part.squares);
  part.total = fma(center, part.count, deviations);
  part = parts_of_waves<kWaves>(part, shared);
  const float count = wave_reduce<Sum, kWaves>(part.count);
  const float mean = divide_fast(wave_reduce<Sum, kWaves>(part.total), count);
  const float squares = wave_reduce<Sum, kWaves>(part.squares_about(mean));
  const float scale = rsqrt_fast(fma(squares, reciprocal_fast(count), a.eps));

  auto vector = [&] AITER_LAMBDA(const void* from, const Place& place, float (&to)[N]) {
    if (a.channels_last)
      return load_floats<N, T>(from, a.w_dtype, channel + static_cast<int64_t>(place.p) * N, to);
    const float one = load_float(from, channel + place.row, a.w_dtype);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) to[k] = one;
  };
  auto normalize = [&] AITER_LAMBDA(const Pack<T, N>& pack, const Place& place) {
    float v[N], gain[N];
    pack.to_floats(v);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] = (v[k] - mean) * scale;
    if (a.w) {
      vector(a.w, place, gain);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] *= gain[k];
    }
    if (a.b) {
      vector(a.b, place, gain);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] += gain[k];
    }
    if (a.silu) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] *= sigmoid(v[k]);
    }
    store_floats<N>(y + place.at, v);
  };
  place = Place(steps, begin, t);
  AITER_UNROLL
  for (int c = 0; c < kKept; ++c) {
    kept[c].forget();
    if (c * threads + t < packs) normalize(kept[c], place);
    place.next(steps);
  }
  each_rest(place, [&] AITER_LAMBDA(int64_t at) { return load_pack<N>(stored + at); }, normalize);
}

}  // namespace aiter

// Blocks have half of these threads: two of them then find registers.
#define AITER_GROUPNORM(row, N, Index, T)                                   \
  AITER_KERNEL(groupnorm_##row##_##T, 1024)(const aiter::GroupnormArgs a) { \
    aiter::wait_for_previous_kernel();                                      \
    aiter::groupnorm<aiter::T, N, Index>(a);                                \
  }
#define AITER_GROUPNORM_ROWS(T)                                        \
  AITER_GROUPNORM(hip_vec, (aiter::kPackSize<aiter::T, true>), int, T) \
  AITER_GROUPNORM(hip_any, 1, aiter::int64_t, T)
AITER_GROUPNORM_ROWS(f32)
AITER_GROUPNORM_ROWS(f16)
AITER_GROUPNORM_ROWS(bf16)
