#include "ops/elementwise/softmax/softmax_args.h"
#include "simd/cache.h"
#include "simd/parallel.h"
#include "simd/scratch.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

constexpr float kLog2e = 1.44269504f;

// A row at a time: memory sees each element once in and once out. Exponentials of rows that fit are
// kept, those of longer ones computed twice.
template <class T>
void softmax_rows(const SoftmaxArgs& a, bool streamed, int64_t begin, int64_t end) {
  constexpr int64_t kKept = 65536;
  const bool keep = a.n <= kKept;
  float* kept = keep ? reinterpret_cast<float*>(scratch((a.n + 15) / 16 * 64)) : nullptr;
  for (int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
    const Vec lowest = set1(-__builtin_inff());
    Vec most[4] = {lowest, lowest, lowest, lowest};
    const int64_t whole = a.n / (4 * kLanes) * 4 * kLanes;
    each_lanes(whole, [&](int k, Vec v) { most[k] = max(v, most[k]); }, x);  // NaN is passed over
    float largest = reduce_max(max(max(most[0], most[1]), max(most[2], most[3])));
    for (int64_t i = whole; i < a.n; ++i) {
      const float v = to_float(x[i]);
      largest = v > largest ? v : largest;
    }
    // exp(v - largest) = 2^(v log2(e) - largest log2(e)); the difference first, for accuracy
    const Vec shift = set1(largest), scale = set1(kLog2e);
    auto exponential = [&](Vec v) { return exp2((v - shift) * scale); };
    Vec sums[4] = {zero(), zero(), zero(), zero()};
    float tail = 0;
    int64_t i = 0;
    for (; i + 4 * kLanes <= a.n; i += 4 * kLanes)
      for (int k = 0; k < 4; ++k) {
        const Vec e = exponential(load(x + i + k * kLanes));
        sums[k] = sums[k] + e;
        if (keep) store(kept + i + k * kLanes, e);
      }
    for_lanes(a.n - i, [&](int64_t j, int n) {
      float e[kLanes];
      store(e, exponential(load_some(x + i + j, n)));
      for (int k = 0; k < n; ++k) {
        tail += e[k];
        if (keep) kept[i + j + k] = e[k];
      }
    });
    const float sum = reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3])) + tail;
    const Vec factor = set1(1.0f / sum);
    const int64_t later = row_ahead(r, begin, end, a.n * static_cast<int64_t>(sizeof(T)));
    const T* next = later < 0 ? nullptr : static_cast<const T*>(a.x) + a.x_rows.offset(later);
    auto ahead = [&](int64_t at) {
      if (next) prefetch<true>(next + at, kAhead);
    };
    if (keep) {
      auto normalize = [&](Vec e) { return e * factor; };
      map_lanes(y, a.n, streamed, normalize, ahead, static_cast<const float*>(kept));
    } else {
      auto normalize = [&](Vec v) { return exponential(v) * factor; };
      map_lanes(y, a.n, streamed, normalize, ahead, x);
    }
  }
  if (streamed) stream_fence();
}

}  // namespace

void softmax_cpu_simd(const SoftmaxArgs& a) {
  if (a.n == 0) return;
  with_float_type(a.dtype, [&]<class T>(T) {
    const int64_t bytes = a.x_rows.count * a.n * sizeof(T);
    const bool streamed = a.y != a.x && worth_streaming(a.y, bytes, sizeof(T));
    parallel_for(a.x_rows.count, 8192 / a.n + 1,
                 [&](int64_t begin, int64_t end) { softmax_rows<T>(a, streamed, begin, end); });
  });
}

void softmax_cpu_ref(const SoftmaxArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    for (int64_t r = 0; r < a.x_rows.count; ++r) {
      const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
      T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
      double most = -__builtin_inf(), sum = 0;
      for (int64_t i = 0; i < a.n; ++i) {
        const double v = to_float(x[i]);
        if (v > most) most = v;
      }
      for (int64_t i = 0; i < a.n; ++i) sum += __builtin_exp(to_float(x[i]) - most);
      for (int64_t i = 0; i < a.n; ++i)
        y[i] = from_float<T>(static_cast<float>(__builtin_exp(to_float(x[i]) - most) / sum));
    }
  });
}

}  // namespace aiter::AITER_ISA
