// Norm and rotation of one head, for the CPU rows: each step rounds to the head's dtype, as operators
// of their own would.
#pragma once

#include "ops/rope/head_norm.h"
#include "simd/rope.h"

namespace aiter::AITER_ISA {

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
  // The pairs of `row`, the dims that turn.
  template <class T>
  static void turn(const RopeAngles& angles, const RopeFactors& factors, T* row) {
    if (angles.pairs_interleaved)
      turn_neighbours(row, row, factors, 2 * angles.pairs);
    else
      turn_halves(row, row, factors, angles.pairs, angles.pairs);
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
  static void turn(const RopeAngles& angles, const RopeFactors& f, T* row) {
    const bool near = angles.pairs_interleaved;
    for (int64_t p = 0; p < angles.pairs; ++p) {
      T &x = row[near ? 2 * p : p], &y = row[near ? 2 * p + 1 : angles.pairs + p];
      const float u = to_float(x), v = to_float(y);
      x = from_float<T>(near ? u * f.cos[0][2 * p] + v * f.sin[0][2 * p]
                             : u * f.cos[0][p] - v * f.sin[0][p]);
      y = from_float<T>(near ? v * f.cos[0][2 * p + 1] + u * f.sin[0][2 * p + 1]
                             : v * f.cos[1][p] + u * f.sin[1][p]);
    }
  }
};

}  // namespace aiter::AITER_ISA
