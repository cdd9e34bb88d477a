// Rotation of heads by the angles of their token, for the CPU rows.
#pragma once

#include "ops/rope/rope_angles.h"
#include "simd/simd.h"
#include "simd/sincos.h"

namespace aiter::AITER_ISA {

// The factors of a run of pairs as floats, held while all heads of a token turn:
//   pairs (a, b) that are apart:  a' = a cos[0] - b sin[0],  b' = b cos[1] + a sin[1]
//   neighbours (a, b):            element by element in cos[0] and sin[0], the sine of a negated
class RopeFactors {
 public:
  static constexpr int kPairs = 512;  // of a run

  // Pairs [p0, p0 + n) of a part, for a token whose rows are given.
  void load(const RopeAngles& a, int part, const int64_t (&rows)[3], int64_t p0, int64_t n) {
    const RopeTable& table = a.tables[part];
    const bool same = a.second == 0;  // both elements of a pair turn by one angle
    const int64_t row = rows[rope_axis(a, part, p0)];
    if (a.axes < 3 && row == row_ && part == part_ && p0 == p0_) return;  // neighbours share rows
    row_ = row, part_ = part, p0_ = p0;
    with_float_type(a.dtype, [&]<class C>(C) {
      auto gather = [&](const void* data, int64_t stride, int64_t second, float* to) {
        const C* from = static_cast<const C*>(data) + second;
        if (a.axes == 3) {
          for (int64_t p = 0; p < n; ++p)
            to[p] = to_float(
                from[rows[rope_axis(a, part, p0 + p)] * stride + (p0 + p) * a.pair_stride]);
          return;
        }
        from += row * stride;
        if (a.pair_stride == 1)
          for_lanes(n,
                    [&](int64_t p, int k) { store_some(to + p, load_some(from + p0 + p, k), k); });
        else
          for (int64_t p = 0; p < n; ++p) to[p] = to_float(from[(p0 + p) * a.pair_stride]);
      };
      for (int i = 0; i < (same ? 1 : 2); ++i) {
        gather(table.cos, table.cos_stride, i * a.second, cos_[i]);
        if (table.sin)
          gather(table.sin, table.sin_stride, i * a.second, sin_[i]);
        else
          for_lanes(n, [&](int64_t p, int k) {
            Vec s, c;
            sincos(load_some(cos_[i] + p, k), s, c);
            store_some(sin_[i] + p, s, k);
            store_some(cos_[i] + p, c, k);
          });
      }
    });
    float *s0 = sin_[0], *s1 = same ? s0 : sin_[1];
    if (a.inverse)
      for (int64_t p = 0; p < n; ++p) {
        const float swap = s0[p];
        s0[p] = -s1[p];
        if (!same) s1[p] = -swap;
      }
    cos[0] = cos_[0], cos[1] = same ? cos_[0] : cos_[1];
    sin[0] = s0, sin[1] = s1;
    if (!a.pairs_interleaved) return;
    for (int64_t p = 0; p < n; ++p) {
      zipped_[0][2 * p] = cos[0][p], zipped_[0][2 * p + 1] = cos[1][p];
      zipped_[1][2 * p] = -sin[0][p], zipped_[1][2 * p + 1] = sin[1][p];
    }
    cos[0] = zipped_[0], sin[0] = zipped_[1];
  }

  const float *cos[2], *sin[2];

 private:
  alignas(64) float cos_[2][kPairs], sin_[2][kPairs], zipped_[2][2 * kPairs];
  int64_t row_ = -1, p0_ = 0;
  int part_ = 0;
};

// (a, b) -> (a, b) * cos + (b, a) * sin, for neighbours a, b; `count` elements. streamed: past the
// caches.
template <class T>
AITER_INLINE void turn_neighbours(const T* in, T* out, const RopeFactors& f, int64_t count,
                                  bool streamed = false) {
  auto turn = [](Vec x, Vec c, Vec s) { return fma(swap_pairs(x), s, x * c); };
  map_lanes(out, count, streamed, turn, NothingAhead{}, in, f.cos[0], f.sin[0]);
}

// The same for a, b that are `half` apart; `count` pairs; out may be in. streamed: out and its second
// half are aligned to 64 bytes.
template <class T>
AITER_INLINE void turn_halves(const T* in, T* out, const RopeFactors& f, int64_t count,
                              int64_t half, bool streamed = false) {
  const float *cos0 = f.cos[0], *sin0 = f.sin[0], *cos1 = f.cos[1], *sin1 = f.sin[1];
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    const Pair x = load_pair<false>(in + i), y = load_pair<false>(in + half + i);
    const Pair c0 = load_pair<false>(cos0 + i), s0 = load_pair<false>(sin0 + i);
    const Pair c1 = load_pair<false>(cos1 + i), s1 = load_pair<false>(sin1 + i);
    store_pair<false>(out + i, {x.a * c0.a - y.a * s0.a, x.b * c0.b - y.b * s0.b}, streamed);
    store_pair<false>(out + half + i, {fma(x.a, s1.a, y.a * c1.a), fma(x.b, s1.b, y.b * c1.b)},
                      streamed);
  }
  for_lanes(count - i, [&](int64_t j, int n) {
    const int64_t k = i + j;
    const Vec x = load_some(in + k, n), y = load_some(in + half + k, n);
    store_some(out + k, x * load_some(cos0 + k, n) - y * load_some(sin0 + k, n), n);
    store_some(out + half + k, fma(x, load_some(sin1 + k, n), y * load_some(cos1 + k, n)), n);
  });
}

}  // namespace aiter::AITER_ISA
