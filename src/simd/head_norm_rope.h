// Norm and rotation of one head, for the CPU rows: each step rounds to the head's dtype, as operators
// of their own would.
#pragma once

#include "ops/rope/head_norm.h"
#include "simd/rope.h"

namespace aiter::AITER_ISA {

// The dims that do not turn.
template <class T>
AITER_INLINE void copy_rest(const RopeAngles& angles, int64_t dim, int64_t first, const T* in,
                            T* row) {
  if (row == in) return;
  const int64_t end = first + 2 * angles.pairs;
  if (first > 0) memcpy(row, in, first * sizeof(T));
  if (end < dim) memcpy(row + end, in + end, (dim - end) * sizeof(T));
}

struct VectorHead {
  // `row` may be `in`.
  template <class In, class T>
  static void normalize(const HeadNorm& norm, int64_t dim, const In* in, T* row) {
    Vec sums[4] = {zero(), zero(), zero(), zero()};
    each_lanes(dim, [&](int k, Vec v) { sums[k] = fma(v, v, sums[k]); }, in);
    const float sum = reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3]));
    const Vec scale = set1(1.0f / __builtin_sqrtf(sum / static_cast<float>(dim) + norm.eps));
    const Vec one = set1(norm.gemma ? 1.0f : 0.0f);
    auto gain = [&](Vec v, Vec w) { return v * scale * (w + one); };
    if (!norm.weight)
      map_lanes(row, dim, false, [&](Vec v) { return v * scale; }, NothingAhead{}, in);
    else if (norm.weight_dtype == DType::kF32)
      map_lanes(row, dim, false, gain, NothingAhead{}, in, static_cast<const float*>(norm.weight));
    else
      map_lanes(row, dim, false, gain, NothingAhead{}, in, static_cast<const T*>(norm.weight));
  }
  // A head whose pairs begin at dim `first`; the others are copied. `row` may be `in`: what was just
  // written elsewhere is better not read again, since stores wait for the lines that they write.
  template <class T>
  static void turn(const RopeAngles& angles, const RopeFactors& factors, int64_t dim, int64_t first,
                   const T* in, T* row) {
    copy_rest(angles, dim, first, in, row);
    in += first, row += first;
    if (angles.pairs_interleaved)
      turn_neighbours(in, row, factors, 2 * angles.pairs);
    else
      turn_halves(in, row, factors, angles.pairs, angles.pairs);
  }
};

struct PlainHead {
  template <class In, class T>
  static void normalize(const HeadNorm& norm, int64_t dim, const In* in, T* row) {
    float sum = 0;
    for (int64_t i = 0; i < dim; ++i) sum += to_float(in[i]) * to_float(in[i]);
    const float scale = 1.0f / __builtin_sqrtf(sum / static_cast<float>(dim) + norm.eps);
    for (int64_t i = 0; i < dim; ++i) {
      float weight = 1.0f;
      if (norm.weight)
        weight =
            (norm.weight_dtype == DType::kF32 ? static_cast<const float*>(norm.weight)[i]
                                              : to_float(static_cast<const T*>(norm.weight)[i])) +
            (norm.gemma ? 1.0f : 0.0f);
      row[i] = from_float<T>(to_float(in[i]) * scale * weight);
    }
  }
  template <class T>
  static void turn(const RopeAngles& angles, const RopeFactors& f, int64_t dim, int64_t first,
                   const T* in, T* row) {
    copy_rest(angles, dim, first, in, row);
    const bool near = angles.pairs_interleaved;
    for (int64_t p = 0; p < angles.pairs; ++p) {
      const int64_t x = first + (near ? 2 * p : p), y = near ? x + 1 : x + angles.pairs;
      const float u = to_float(in[x]), v = to_float(in[y]);
      row[x] = from_float<T>(near ? u * f.cos[0][2 * p] + v * f.sin[0][2 * p]
                                  : u * f.cos[0][p] - v * f.sin[0][p]);
      row[y] = from_float<T>(near ? v * f.cos[0][2 * p + 1] + u * f.sin[0][2 * p + 1]
                                  : v * f.cos[1][p] + u * f.sin[1][p]);
    }
  }
};

}  // namespace aiter::AITER_ISA
