#include "ops/rope/fused_qk_norm_rope/fused_qk_norm_rope_args.h"
#include "simd/parallel.h"
#include "simd/rope.h"

namespace aiter::AITER_ISA {
namespace {

using Args = FusedQkNormRopeArgs;

// Each step rounds to T, as operators of their own would. `row` may be `in`.
template <class T>
void normalize(const Args& a, const FusedHeads& s, const T* in, T* row) {
  Vec sums[4] = {zero(), zero(), zero(), zero()};
  each_lanes(s.dim, [&](int k, Vec v) { sums[k] = fma(v, v, sums[k]); }, in);
  const float sum = reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3]));
  const Vec scale = set1(1.0f / __builtin_sqrtf(sum / static_cast<float>(s.dim) + a.eps));
  const Vec one = set1(a.gemma ? 1.0f : 0.0f);
  auto gain = [&](Vec v, Vec w) { return v * scale * (w + one); };
  if (!s.weight)
    map_lanes(row, s.dim, false, [&](Vec v) { return v * scale; }, NothingAhead{}, in);
  else if (s.weight_dtype == DType::kF32)
    map_lanes(row, s.dim, false, gain, NothingAhead{}, in, static_cast<const float*>(s.weight));
  else
    map_lanes(row, s.dim, false, gain, NothingAhead{}, in, static_cast<const T*>(s.weight));
}

template <class T>
void normalize_plain(const Args& a, const FusedHeads& s, const T* in, T* row) {
  float sum = 0;
  for (int64_t i = 0; i < s.dim; ++i) sum += to_float(in[i]) * to_float(in[i]);
  const float scale = 1.0f / __builtin_sqrtf(sum / static_cast<float>(s.dim) + a.eps);
  for (int64_t i = 0; i < s.dim; ++i) {
    float weight = 1.0f;
    if (s.weight)
      weight = (s.weight_dtype == DType::kF32 ? static_cast<const float*>(s.weight)[i]
                                              : to_float(static_cast<const T*>(s.weight)[i])) +
               (a.gemma ? 1.0f : 0.0f);
    row[i] = from_float<T>(to_float(in[i]) * scale * weight);
  }
}

template <class T>
void turn(const Args& a, const RopeFactors& factors, T* row) {
  const int64_t pairs = a.angles.pairs;
  if (a.angles.pairs_interleaved)
    turn_neighbours(row, row, factors, 2 * pairs);
  else
    turn_halves(row, row, factors, pairs, pairs);
}

template <class T>
void turn_plain(const Args& a, const RopeFactors& f, T* row) {
  const int64_t pairs = a.angles.pairs;
  for (int64_t p = 0; p < pairs; ++p) {
    const bool near = a.angles.pairs_interleaved;
    T &x = row[near ? 2 * p : p], &y = row[near ? 2 * p + 1 : pairs + p];
    const float u = to_float(x), v = to_float(y);
    x = from_float<T>(near ? u * f.cos[0][2 * p] + v * f.sin[0][2 * p]
                           : u * f.cos[0][p] - v * f.sin[0][p]);
    y = from_float<T>(near ? v * f.cos[0][2 * p + 1] + u * f.sin[0][2 * p + 1]
                           : v * f.cos[1][p] + u * f.sin[1][p]);
  }
}

template <class T, bool kPlain>
void run(const Args& args, int64_t begin, int64_t end) {
  const Args a = args;  // what is written may alias the caller's
  RopeFactors factors;
  for (int64_t t = begin; t < end; ++t) {
    int64_t rows[3] = {0, 0, 0};
    const bool turns = a.angles.pairs > 0 && rope_rows(a.angles, t, rows);
    if (turns) factors.load(a.angles, 0, rows, 0, a.angles.pairs);
    for (int i = 0; i < a.side_count; ++i) {
      const FusedHeads& s = a.sides[i];
      const T* in = static_cast<const T*>(s.in) + s.in_tokens.offset(t);
      T* row = static_cast<T*>(s.out) + s.out_tokens.offset(t);
      const int64_t turning = a.nope_first ? s.dim - 2 * a.angles.pairs : 0;
      for (int64_t h = 0; h < s.heads; ++h, in += s.in_head, row += s.out_head) {
        if (i < 2 && a.norm) {
          if constexpr (kPlain)
            normalize_plain(a, s, in, row);
          else
            normalize(a, s, in, row);
        } else if (row != in) {
          memcpy(row, in, s.dim * sizeof(T));
        }
        if (i < 2 && turns) {
          if constexpr (kPlain)
            turn_plain(a, factors, row + turning);
          else
            turn(a, factors, row + turning);
        }
      }
    }
  }
}

}  // namespace

void fused_qk_norm_rope_cpu_simd(const Args& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    int64_t elements = 1;
    for (const FusedHeads& s : a.sides) elements += s.heads * s.dim;
    parallel_for(a.tokens, 16384 / elements + 1,
                 [&](int64_t begin, int64_t end) { run<T, false>(a, begin, end); });
  });
}

void fused_qk_norm_rope_cpu_ref(const Args& a) {
  with_float_type(a.dtype, [&]<class T>(T) { run<T, true>(a, 0, a.tokens); });
}

}  // namespace aiter::AITER_ISA
