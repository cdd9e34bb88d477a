#include "ops/activation/act_and_mul/act_and_mul_args.h"
#include "simd/cache.h"
#include "simd/gated.h"
#include "simd/parallel.h"
#include "simd/quantize.h"
#include "simd/scratch.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

// Halves of x alone, straight from memory to memory.
template <class X, class Y, class Act>
void halves_rows(const ActAndMulArgs& a, const Act& act, bool streamed, int64_t begin,
                 int64_t end) {
  const int64_t row_bytes = 2 * a.d * static_cast<int64_t>(sizeof(X));
  auto activate = [&](Vec gate, Vec up) { return gated(act, gate, up); };
  auto clamp_and_activate = [&](Vec gate, Vec up) {
    const Pair v = clamp_gate_up(a, {gate, up});
    return activate(v.a, v.b);
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
      map_lanes(y, a.d, streamed, clamp_and_activate, ahead, gates, ups);
    else
      map_lanes(y, a.d, streamed, activate, ahead, gates, ups);
  }
  if (streamed) stream_fence();
}

template <class X, class Y, class Act>
void any_rows(const ActAndMulArgs& a, const Act& act, bool streamed, int64_t begin, int64_t end) {
  constexpr int64_t kChunk = 2048;
  float chunk[kChunk];
  auto same = [](Vec v) { return v; };
  for (int64_t r = begin; r < end; ++r) {
    Y* y = static_cast<Y*>(a.y) + a.y_rows.offset(r);
    for (int64_t i = 0; i < a.d; i += kChunk) {
      const int64_t n = a.d - i < kChunk ? a.d - i : kChunk;
      activate<X>(a, act, r, i, n, chunk);
      map_lanes(y + i, n, streamed, same, NothingAhead{}, static_cast<const float*>(chunk));
    }
  }
  if (streamed) stream_fence();
}

// Rows one by one, in fp32 in the cache: activate(row, numbers), then the codes.
template <class F>
void quantized_rows(const ActAndMulArgs& a, F&& activate) {
  const int64_t stride = (a.d + 15) / 16 * 16;
  float* buffers = reinterpret_cast<float*>(
      scratch(num_threads() * stride * static_cast<int64_t>(sizeof(float))));
  const int64_t rows = a.x_rows.count, block = 8192 / (a.d + 1) + 1;
  const int64_t bytes = rows * a.d * code_bits(a.out.spec.code) / 8;
  const bool streamed = worth_streaming(a.out.codes, bytes, 1);
  parallel_tasks((rows + block - 1) / block, [&](int64_t task, int thread) {
    float* buffer = buffers + thread * stride;
    const int64_t end = rows - task * block < block ? rows : (task + 1) * block;
    for (int64_t r = task * block; r < end; ++r) {
      activate(r, buffer);
      quantize_row(a.out, r, buffer, streamed);
    }
    if (streamed) stream_fence();
  });
}

}  // namespace

void act_and_mul_cpu_simd(const ActAndMulArgs& a) {
  if (a.x_rows.count == 0 || a.d == 0) return;
  if (a.out.codes)
    return with_float_type(a.dtype, [&]<class X>(X) {
      with_activation(a.activation, a.beta, a.linear_beta, [&](const auto& act) {
        quantized_rows(a, [&](int64_t r, float* y) { activate<X>(a, act, r, 0, a.d, y); });
      });
    });
  with_types(a, a.y_dtype, [&]<class X, class Y>(X, Y) {
    with_activation(a.activation, a.beta, a.linear_beta, [&](const auto& act) {
      // Written over its own input, y is in the cache already.
      const bool in_place = a.y == a.x || a.y == static_cast<const X*>(a.x) + a.d;
      const int64_t bytes = a.x_rows.count * a.d * sizeof(Y);
      const bool streamed = !in_place && worth_streaming(a.y, bytes, sizeof(Y));
      const bool halves = !a.bias && !a.weights && !a.interleaved;
      const int64_t grain = 8192 / (a.d + 1) + 1;  // rows worth a thread of their own
      parallel_for(a.x_rows.count, grain, [&](int64_t begin, int64_t end) {
        if (halves)
          halves_rows<X, Y>(a, act, streamed, begin, end);
        else
          any_rows<X, Y>(a, act, streamed, begin, end);
      });
    });
  });
}

void act_and_mul_cpu_ref(const ActAndMulArgs& a) {
  if (a.x_rows.count == 0 || a.d == 0) return;
  if (a.out.codes)
    return with_float_type(a.dtype, [&]<class X>(X) {
      quantized_rows(a, [&](int64_t r, float* y) {
        for (int64_t i = 0; i < a.d; ++i) y[i] = activate_plainly<X>(a, r, i);
      });
    });
  with_types(a, a.y_dtype, [&]<class X, class Y>(X, Y) {
    for (int64_t r = 0; r < a.x_rows.count; ++r) {
      Y* y = static_cast<Y*>(a.y) + a.y_rows.offset(r);
      for (int64_t i = 0; i < a.d; ++i) y[i] = from_float<Y>(activate_plainly<X>(a, r, i));
    }
  });
}

}  // namespace aiter::AITER_ISA
