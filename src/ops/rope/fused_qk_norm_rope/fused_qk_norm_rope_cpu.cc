#include "ops/rope/fused_qk_norm_rope/fused_qk_norm_rope_args.h"
#include "simd/head_norm_rope.h"
#include "simd/parallel.h"

namespace aiter::AITER_ISA {
namespace {

using Args = FusedQkNormRopeArgs;

template <class Head, class T>
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
        const bool turned = i < 2 && turns;
        if (s.norm.on) Head::normalize(s.norm, s.dim, in, row);
        if (turned)
          Head::turn(a.angles, factors, s.dim, turning, s.norm.on ? row : in, row);
        else if (!s.norm.on && row != in)
          memcpy(row, in, s.dim * sizeof(T));
      }
    }
  }
}

}  // namespace

void fused_qk_norm_rope_cpu_simd(const Args& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    int64_t elements = 0;
    for (const FusedHeads& s : a.sides) elements += s.heads * s.dim;
    parallel_for(a.tokens, row_grain(elements),
                 [&](int64_t begin, int64_t end) { run<VectorHead, T>(a, begin, end); });
  });
}

void fused_qk_norm_rope_cpu_ref(const Args& a) {
  with_float_type(a.dtype, [&]<class T>(T) { run<PlainHead, T>(a, 0, a.tokens); });
}

}  // namespace aiter::AITER_ISA
