// Gated activations of rows with the halves gate and up and nothing else: no bias, no weights. Blocks
// share out a row among them, a thread takes packs of gates and ups that lie a whole pass of the
// row's blocks apart; all are loaded before the first is used.
#pragma once

#include "ck/core/activation.h"
#include "ck/core/pack.h"
#include "ops/activation/act_and_mul/act_and_mul_args.h"

namespace aiter {

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
        if (a.limit < kInfinity) {
          AITER_UNROLL
          for (int k = 0; k < N; ++k) {
            g[k] = min(g[k], a.limit);  // NaN passes
            u[k] = max(min(u[k], a.limit), -a.limit);
          }
        }
        AITER_UNROLL
        for (int k = 0; k < N; ++k)
          g[k] = gate_of(kActivation, g[k], 1.0f) * up_of(kActivation, u[k], 1.0f);
        store_floats<N>(y + i + c * step, g);
      }
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
