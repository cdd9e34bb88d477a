#include "ops/activation/act_and_mul_backward/act_and_mul_backward_args.h"
#include "simd/cache.h"
#include "simd/gated.h"
#include "simd/parallel.h"

namespace aiter::AITER_ISA {
namespace {

// The gradients of gates (a) and ups (b).
template <class Act>
AITER_INLINE Pair gradients(const ActAndMulBackwardArgs& a, const Act& act, Pair x, Vec dy) {
  const Pair clamped = clamp_gate_up(a, x);
  const Pair gate = act.gate_slope(clamped.a), up = act.up_slope(clamped.b);
  const Vec limit = set1(a.limit);
  return {select_lt(limit, x.a, zero(), dy * up.a * gate.b),
          select_lt(limit, abs(x.b), zero(), dy * gate.a * up.b)};
}

template <class X, class Y, class Act>
void backward_rows(const ActAndMulBackwardArgs& a, const Act& act, bool streamed, int64_t begin,
                   int64_t end) {
  constexpr bool kEvenFirst = kAllBf16<X, Y>;
  for (int64_t r = begin; r < end; ++r) {
    const X* x = static_cast<const X*>(a.x) + a.x_rows.offset(r);
    const Y* dy = static_cast<const Y*>(a.dy) + a.dy_rows.offset(r);
    X* dx = static_cast<X*>(a.dx) + a.dx_rows.offset(r);
    int64_t i = 0;
    if (!a.interleaved) {
      const bool lines = reinterpret_cast<uintptr_t>(dx) % 64 == 0 && a.d * sizeof(X) % 64 == 0;
      for (; i + 2 * kLanes <= a.d; i += 2 * kLanes) {
        const Pair gate = load_pair<kEvenFirst>(x + i), up = load_pair<kEvenFirst>(x + a.d + i);
        const Pair g = load_pair<kEvenFirst>(dy + i);
        const Pair first = gradients(a, act, {gate.a, up.a}, g.a);
        const Pair second = gradients(a, act, {gate.b, up.b}, g.b);
        store_pair<kEvenFirst>(dx + i, {first.a, second.a}, streamed && lines);
        store_pair<kEvenFirst>(dx + a.d + i, {first.b, second.b}, streamed && lines);
      }
    }
    for_lanes(a.d - i, [&](int64_t j, int n) {
      const Pair v = load_gate_up(x, a, i + j, n);
      store_gate_up(dx, a, i + j, n, gradients(a, act, v, load_some(dy + i + j, n)));
    });
  }
  if (streamed) stream_fence();
}

}  // namespace

void act_and_mul_backward_cpu_simd(const ActAndMulBackwardArgs& a) {
  with_types(a, a.dy_dtype, [&]<class X, class Y>(X, Y) {
    with_activation(a.activation, a.beta, a.linear_beta, [&](const auto& act) {
      const int64_t bytes = a.x_rows.count * 2 * a.d * sizeof(X);
      const bool streamed = a.dx != a.x && worth_streaming(a.dx, bytes, sizeof(X));
      const int64_t grain = 8192 / (a.d + 1) + 1;  // rows worth a thread of their own
      parallel_for(a.x_rows.count, grain, [&](int64_t begin, int64_t end) {
        backward_rows<X, Y>(a, act, streamed, begin, end);
      });
    });
  });
}

void act_and_mul_backward_cpu_ref(const ActAndMulBackwardArgs& a) {
  with_types(a, a.dy_dtype, [&]<class X, class Y>(X, Y) {
    for (int64_t r = 0; r < a.x_rows.count; ++r) {
      const X* x = static_cast<const X*>(a.x) + a.x_rows.offset(r);
      const Y* dy = static_cast<const Y*>(a.dy) + a.dy_rows.offset(r);
      X* dx = static_cast<X*>(a.dx) + a.dx_rows.offset(r);
      for (int64_t i = 0; i < a.d; ++i) {
        const int64_t at_gate = a.interleaved ? 2 * i : i;
        const int64_t at_up = a.interleaved ? 2 * i + 1 : a.d + i;
        const float g = to_float(x[at_gate]), u = to_float(x[at_up]);
        const bool gate_clamped = g > a.limit, up_clamped = u > a.limit || u < -a.limit;
        const PlainSlope gate = plain_gate(a, gate_clamped ? a.limit : g);
        const PlainSlope up = plain_up(a, u > a.limit ? a.limit : u < -a.limit ? -a.limit : u);
        const double dg = to_float(dy[i]) * up.value * gate.slope;
        const double du = to_float(dy[i]) * gate.value * up.slope;
        dx[at_gate] = from_float<X>(gate_clamped ? 0 : static_cast<float>(dg));
        dx[at_up] = from_float<X>(up_clamped ? 0 : static_cast<float>(du));
      }
    }
  });
}

}  // namespace aiter::AITER_ISA
