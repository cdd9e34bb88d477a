// Rotation of pairs by the angles of their token, N pairs of a head at a time.
#pragma once

#include "ck/core/pack.h"
#include "ck/core/sincos.h"
#include "ops/rope/rope_angles.h"

namespace aiter {

// The compiler does not compute what depends on v before what it saw earlier: sines side by side would
// take more registers than there are.
AITER_DEVICE void one_after_the_other(float& v) {
#if defined(AITER_AMD)
  asm volatile("" : "+v"(v));
#else
  asm volatile("" : "+f"(v));
#endif
}

// The factors of N pairs: a' = a cos[0] - b sin[0], b' = b cos[1] + a sin[1]. kTwo: the elements of
// a pair have angles of their own; else [0] serves both.
template <int N, bool kTwo>
struct RopeFactors {
  float cos[kTwo ? 2 : 1][N], sin[kTwo ? 2 : 1][N];

  // Of the pairs [p, p + N) of a part, for a token whose rows are given.
  AITER_DEVICE void load(const RopeAngles& a, int part, const int64_t (&rows)[3], int64_t p) {
    const RopeTable& table = a.tables[part];
    AITER_UNROLL
    for (int i = 0; i < (kTwo ? 2 : 1); ++i) {
      load_columns(a, table.cos, table.cos_stride, part, rows, p, i, cos[i]);
      if (table.sin) {
        load_columns(a, table.sin, table.sin_stride, part, rows, p, i, sin[i]);
      } else {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) {
          one_after_the_other(cos[i][k]);
          sincos(cos[i][k], sin[i][k], cos[i][k]);
          one_after_the_other(sin[i][k]);
        }
      }
    }
    if (!a.inverse) return;
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      const float swap = sin[0][k];
      sin[0][k] = -sin[kTwo][k];
      if (kTwo) sin[kTwo][k] = -swap;
    }
  }

  // The same, but of rope_is_plain() angles, and tables of T or f32.
  template <class T>
  AITER_DEVICE void load_plain(const RopeAngles& a, int64_t row, int64_t p) {
    static_assert(!kTwo, "the elements of a pair have one angle");
    const RopeTable& table = a.tables[0];
    load_floats<N, T>(table.cos, a.dtype, row * table.cos_stride + p, cos[0]);
    load_floats<N, T>(table.sin, a.dtype, row * table.sin_stride + p, sin[0]);
    if (!a.inverse) return;
    AITER_UNROLL
    for (int k = 0; k < N; ++k) sin[0][k] = -sin[0][k];
  }

  // Turns N pairs in place: x and y hold their first and second elements, or, of neighbours, the
  // elements [0, N) and [N, 2 N) of the pairs as they lie in memory.
  template <bool kNeighbours>
  AITER_DEVICE void turn(float (&x)[N], float (&y)[N]) const {
    float first[N], second[N];
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      const float even = 2 * k < N ? x[2 * k % N] : y[2 * k % N];
      const float odd = 2 * k + 1 < N ? x[(2 * k + 1) % N] : y[(2 * k + 1) % N];
      const float a = kNeighbours ? even : x[k], b = kNeighbours ? odd : y[k];
      first[k] = a * cos[0][k] - b * sin[0][k];
      second[k] = fma(a, sin[kTwo][k], b * cos[kTwo][k]);
    }
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      x[k] = !kNeighbours ? first[k] : k % 2 ? second[k / 2] : first[k / 2];
      y[k] = !kNeighbours ? second[k] : (N + k) % 2 ? second[(N + k) / 2] : first[(N + k) / 2];
    }
  }

 private:
  AITER_DEVICE static void load_columns(const RopeAngles& a, const void* data, int64_t stride,
                                        int part, const int64_t (&rows)[3], int64_t p, int second,
                                        float (&to)[N]) {
    const int64_t column = second * a.second;
    if (N > 1 && a.axes < 3 && a.pair_stride == 1) {
      const int64_t at = (part ? rows[1] : rows[0]) * stride + column + p;
      switch (a.dtype) {
        case DType::kF32:
          return load_floats<N>(static_cast<const float*>(data) + at, to);
        case DType::kF16:
          return load_floats<N>(static_cast<const f16*>(data) + at, to);
        default:
          return load_floats<N>(static_cast<const bf16*>(data) + at, to);
      }
    }
    const int64_t first = rows[0] * stride + column, next = rows[1] * stride + column,
                  third = rows[2] * stride + column;
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      const int axis = rope_axis(a, part, p + k);
      const int64_t at = axis == 0 ? first : axis == 1 ? next : third;
      to[k] = load_float(data, at + (p + k) * a.pair_stride, a.dtype);
    }
  }
};

}  // namespace aiter
