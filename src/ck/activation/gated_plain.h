// Gated activations of rows with the halves gate and up and nothing else: no bias, no weights. Blocks
// share out a row among them, a thread takes packs of gates and ups that lie a whole pass of the
// row's blocks apart; all are loaded before the first is used.
#pragma once

#include "ck/core/activation.h"
#include "ck/core/pack.h"
#include "ck/quant/quantize.h"
#include "ops/activation/act_and_mul/act_and_mul_args.h"

namespace aiter {

// Results of gates g and ups u, in g.
template <int N>
AITER_DEVICE void gated_plain_values(int32_t activation, float limit, float (&g)[N],
                                     float (&u)[N]) {
  if (limit < kInfinity) {
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      g[k] = min(g[k], limit);  // NaN passes
      u[k] = max(min(u[k], limit), -limit);
    }
  }
  AITER_UNROLL
  for (int k = 0; k < N; ++k)
    g[k] = gate_of(activation, g[k], 1.0f) * up_of(activation, u[k], 1.0f);
}

template <int32_t kActivation, class X, class Y>
AITER_DEVICE void gated_plain_row(const ActAndMulPlainArgs& a, const X* gates, Y* y) {
  constexpr int N = kPackSize<X, true>, kPacks = ActAndMulArgs::kPacks;
  const X* ups = gates + a.d;
  const int64_t step = static_cast<int64_t>(grid_blocks_y()) * block_threads() * N;
  for (int64_t i = (static_cast<int64_t>(block_index_y()) * block_threads() + thread_index()) * N;
       i < a.d; i += kPacks * step) {
    Pack<X, N> gate[kPacks], up[kPacks];
    AITER_UNROLL
    for (int c = 0; c < kPacks; ++c)
      if (i + c * step < a.d) {
        gate[c] = load_pack<N>(gates + i + c * step);
        up[c] = load_pack<N>(ups + i + c * step);
      }
    AITER_UNROLL
    for (int c = 0; c < kPacks; ++c)
      if (i + c * step < a.d) {
        float g[N], u[N];
        gate[c].to_floats(g);
        up[c].to_floats(u);
        gated_plain_values(kActivation, a.limit, g, u);
        store_floats<N>(y + i + c * step, g);
      }
  }
}

// The same with codes of one kind, by the threads of a row (RowQuantizer): of whole rows, a thread takes
// kPacks times its columns at most. The grid has a block for each row.
template <int32_t kActivation, class X, class Codes, RowGroups kGroups>
AITER_DEVICE void gated_plain_codes(const ActAndMulArgs& a) {
  constexpr int N = ActAndMulArgs::kColumns, kPacks = ActAndMulArgs::kPacks;
  const QuantOut& q = a.out;
  const int threads = a.threads_per_row, d = static_cast<int>(a.d);
  const int t = thread_of_row(threads);
  const int64_t mine = row_of_thread(threads);
  // Lanes without a row repeat the last one, so that whole waves take part in the reductions.
  const int64_t r = min<int64_t>(mine, a.x_rows.count - 1);
  const X* x = static_cast<const X*>(a.x) + a.x_rows.offset(r);
  auto results = [&](int column, float (&v)[N]) {
    Packs<X, N> gate, up;
    gate.load(x, column, d);
    up.load(x + d, column, d);
    float u[N];
    gate.to_floats(v);
    up.to_floats(u);
    gated_plain_values(kActivation, a.limit, v, u);
  };
  if constexpr (kGroups == RowGroups::kMany) {
    const RowQuantizer<N, Codes, kGroups> quantizer(q, r, 0.0f, t == 0, mine == r);
    AITER_NO_UNROLL
    for (int start = 0; start < d; start += threads * N) {
      float v[N];
      results(start + t * N, v);
      quantizer.store(start + t * N, v);
    }
  } else {
    AITER_SHARED float scratch[512 / kWave];
    float v[kPacks][N], amax = 0;
    AITER_UNROLL
    for (int c = 0; c < kPacks; ++c) {
      if (c * threads * N >= d) break;
      results((c * threads + t) * N, v[c]);
      amax = max_magnitude(amax, v[c]);
    }
    if (!q.static_scale) amax = row_reduce<Max>(amax, threads, scratch);
    const RowQuantizer<N, Codes, kGroups> quantizer(q, r, amax, t == 0, mine == r);
    AITER_UNROLL
    for (int c = 0; c < kPacks; ++c) {
      if (c * threads * N >= d) break;
      quantizer.store((c * threads + t) * N, v[c]);
    }
  }
}

template <class X, class Codes, RowGroups kGroups>
AITER_DEVICE void gated_plain_codes(const ActAndMulArgs& a) {
  switch (a.activation) {  // others are left to the kernels for any codes
    case kSwiglu:
      return gated_plain_codes<kSwiglu, X, Codes, kGroups>(a);
    case kGeluTanh:
      return gated_plain_codes<kGeluTanh, X, Codes, kGroups>(a);
    default:
      return gated_plain_codes<kSilu, X, Codes, kGroups>(a);
  }
}

template <class X, class Y>
AITER_DEVICE void gated_plain(const ActAndMulPlainArgs& a) {
  for (int64_t r = block_index_x(); r < a.x_rows.count; r += grid_blocks()) {
    const X* x = static_cast<const X*>(a.x) + a.x_rows.offset(r);
    Y* y = static_cast<Y*>(a.y) + a.y_rows.offset(r);
    switch (a.activation) {  // once, outside of loops
      case kSilu:
        gated_plain_row<kSilu>(a, x, y);
        break;
      case kGelu:
        gated_plain_row<kGelu>(a, x, y);
        break;
      case kSwiglu:
        gated_plain_row<kSwiglu>(a, x, y);
        break;
      default:
        gated_plain_row<kGeluTanh>(a, x, y);
    }
  }
}

}  // namespace aiter
