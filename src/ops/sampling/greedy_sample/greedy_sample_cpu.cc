#include "ops/sampling/greedy_sample/greedy_sample_args.h"
#include "simd/argmax.h"
#include "simd/parallel.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

void write(const GreedySampleArgs& a, int64_t row, int64_t index) {
  store_index(a.out, a.out_dtype, row * a.out_stride, index);
}

template <class T>
const T* logits_row(const GreedySampleArgs& a, int64_t row) {
  return static_cast<const T*>(a.logits) + row * a.logits_stride;
}

}  // namespace

void greedy_sample_cpu_simd(const GreedySampleArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    const int64_t grain = 32768 / a.vocab + 1;  // rows worth a thread of their own
    each_row(a.batch, grain, [&](int64_t r, bool alone) {
      const T* row = logits_row<T>(a, r);
      write(a, r, alone ? argmax_of_one(row, a.vocab) : argmax(row, a.vocab));
    });
  });
}

void greedy_sample_cpu_ref(const GreedySampleArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    for (int64_t r = 0; r < a.batch; ++r) {
      const T* row = logits_row<T>(a, r);
      int64_t best = -1;
      for (int64_t i = 0; i < a.vocab; ++i) {
        const float v = to_float(row[i]);
        if (v == v && (best < 0 || v > to_float(row[best]))) best = i;
      }
      write(a, r, best);
    }
  });
}

}  // namespace aiter::AITER_ISA
