#include "ops/sampling/exponential/exponential_args.h"
#include "simd/noise.h"
#include "simd/parallel.h"

namespace aiter::AITER_ISA {

void exponential_cpu_simd(const ExponentialArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    constexpr int64_t kPiece = 16384;  // of a row
    const int64_t pieces = (a.n + kPiece - 1) / kPiece;
    const Vec scale = set1(a.scale), eps = set1(a.eps);
    parallel_for(a.rows.count * pieces, 2, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const int64_t r = p / pieces, first = p % pieces * kPiece;
        const int64_t last = first + kPiece < a.n ? first + kPiece : a.n;
        T* out = static_cast<T*>(a.out) + a.rows.offset(r);
        const Philox random = philox_of(a.seed, a.offset, r);
        for (int64_t i = first; i < last; i += kNoise) {
          Vec noise[4];
          exponentials(random, i, noise);
          for (int k = 0; k < 4; ++k) {
            const int64_t at = i + k * kLanes, n = last - at;
            if (n > 0) store_some(out + at, noise[k] * scale + eps, n < kLanes ? n : kLanes);
          }
        }
      }
    });
  });
}

void exponential_cpu_ref(const ExponentialArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    for (int64_t r = 0; r < a.rows.count; ++r)
      for (int64_t i = 0; i < a.n; ++i) {
        uint32_t words[4];
        philox_of(a.seed, a.offset, r).block(static_cast<uint32_t>(i / 4), words);
        const float noise = aiter::exponential_of(words[i % 4]) * a.scale + a.eps;
        static_cast<T*>(a.out)[a.rows.offset(r) + i] = from_float<T>(noise);
      }
  });
}

}  // namespace aiter::AITER_ISA
