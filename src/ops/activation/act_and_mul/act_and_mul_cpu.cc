#include "ops/activation/act_and_mul/act_and_mul_args.h"
#include "simd/activation.h"
#include "simd/cache.h"
#include "simd/parallel.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

template <class X, class Y, class Act>
void act_and_mul_rows(const ActAndMulArgs& a, bool streamed, int64_t begin, int64_t end) {
  const Vec limit = set1(a.limit), lowest = set1(-a.limit);
  const int64_t row_bytes = 2 * a.d * static_cast<int64_t>(sizeof(X));
  auto act = [](Vec gate, Vec up) { return Act::apply(gate, up); };
  auto clamp_and_act = [&](Vec gate, Vec up) {
    return Act::apply(min(limit, gate), max(lowest, min(limit, up)));  // in this order NaN passes
  };
  for (int64_t r = begin; r < end; ++r) {
    const X* gates = static_cast<const X*>(a.x) + a.x_rows.offset(r);
    const X* ups = gates + a.d;
    Y* y = static_cast<Y*>(a.y) + a.y_rows.offset(r);
    const int64_t later = row_ahead(r, begin, end, row_bytes);
    const X* next = later < 0 ? nullptr : static_cast<const X*>(a.x) + a.x_rows.offset(later);
    auto ahead = [&](int64_t i) {  // in the order of memory, gate and up alike
      if (next) prefetch<false>(next + 2 * i, 2 * kAhead);
    };
    if (a.limit < __builtin_inff())
      map_lanes(y, a.d, streamed, clamp_and_act, ahead, gates, ups);
    else
      map_lanes(y, a.d, streamed, act, ahead, gates, ups);
  }
  if (streamed) stream_fence();
}

double normal_distribution(double x) { return 0.5 * __builtin_erfc(-x * 0.70710678118654752440); }
double sigmoid(double x) { return 1 / (1 + __builtin_exp(-x)); }

double plain(int32_t activation, double gate, double up) {
  switch (activation) {
    case AITER_ACTIVATION_SILU:
      return gate * sigmoid(gate) * up;
    case AITER_ACTIVATION_GELU:
      return gate * normal_distribution(gate) * up;
    case AITER_ACTIVATION_SWIGLU:
      return gate * sigmoid(1.702 * gate) * (up + 1);
    default: {
      const double u = 0.79788456080286535588 * (gate + 0.044715 * gate * gate * gate);
      return gate * sigmoid(2 * u) * up;
    }
  }
}

template <class X, class Y>
void act_and_mul_plain(const ActAndMulArgs& a) {
  for (int64_t r = 0; r < a.x_rows.count; ++r) {
    const X* gates = static_cast<const X*>(a.x) + a.x_rows.offset(r);
    const X* ups = gates + a.d;
    Y* y = static_cast<Y*>(a.y) + a.y_rows.offset(r);
    for (int64_t i = 0; i < a.d; ++i) {
      float gate = to_float(gates[i]), up = to_float(ups[i]);
      if (gate > a.limit) gate = a.limit;
      if (up > a.limit) up = a.limit;
      if (up < -a.limit) up = -a.limit;
      y[i] = from_float<Y>(static_cast<float>(plain(a.activation, gate, up)));
    }
  }
}

// Calls f(X{}, Y{}) with the types of x and y.
template <class F>
void with_types(const ActAndMulArgs& a, F&& f) {
  if (a.x_dtype == a.y_dtype)
    with_float_type(a.x_dtype, [&](auto t) { f(t, t); });
  else
    with_float_type(a.y_dtype, [&](auto y) { f(float{}, y); });
}

}  // namespace

void act_and_mul_cpu_simd(const ActAndMulArgs& a) {
  with_types(a, [&]<class X, class Y>(X, Y) {
    with_activation(a.activation, [&]<class Act>(Act) {
      // Written over its own input, y is in the cache already.
      const bool in_place = a.y == a.x || a.y == static_cast<const X*>(a.x) + a.d;
      const int64_t bytes = a.x_rows.count * a.d * sizeof(Y);
      const bool streamed = !in_place && worth_streaming(a.y, bytes, sizeof(Y));
      const int64_t grain = 8192 / (a.d + 1) + 1;  // rows worth a thread of their own
      parallel_for(a.x_rows.count, grain, [&](int64_t begin, int64_t end) {
        act_and_mul_rows<X, Y, Act>(a, streamed, begin, end);
      });
    });
  });
}

void act_and_mul_cpu_ref(const ActAndMulArgs& a) {
  with_types(a, [&]<class X, class Y>(X, Y) { act_and_mul_plain<X, Y>(a); });
}

}  // namespace aiter::AITER_ISA
