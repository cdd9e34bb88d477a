// A block works on a piece of one row: a pack of gates, the same of ups, one of results at a time.
#include "ck/activation/gated.h"
#include "ck/activation/gated_plain.h"
#include "ck/quant/quantize.h"
#include "ops/activation/act_and_mul/act_and_mul_args.h"

namespace aiter {

template <class X, class Y, bool kAligned>
AITER_DEVICE void act_and_mul(const ActAndMulArgs& a) {
  constexpr int N = kPackSize<X, kAligned>;
  constexpr int kPacks = ActAndMulArgs::kPacks;
  const int threads = block_threads();
  const int64_t piece = static_cast<int64_t>(threads) * N * kPacks;
  const int64_t pieces = (a.d + piece - 1) / piece;  // of a row
  const int64_t row_step = grid_blocks();
  for (int64_t r = block_index_x(); r < a.x_rows.count; r += row_step) {
    const X* x = static_cast<const X*>(a.x) + a.x_rows.offset(r);
    Y* y = static_cast<Y*>(a.y) + a.y_rows.offset(r);
    const float* bias;
    const bool known = find_bias(a, r, bias);
    for (int64_t p = block_index_y(); p < pieces; p += grid_blocks_y()) {
      GateUp<N> v[kPacks];
      AITER_UNROLL
      for (int c = 0; c < kPacks; ++c) {
        const int64_t i = p * piece + (static_cast<int64_t>(c) * threads + thread_index()) * N;
        if (i < a.d) v[c].load(x, a, i);
      }
      AITER_UNROLL
      for (int c = 0; c < kPacks; ++c) {
        const int64_t i = p * piece + (static_cast<int64_t>(c) * threads + thread_index()) * N;
        if (i < a.d) {
          float result[N] = {};
          if (known) activate<X>(a, v[c], bias, r, i, result);
          store_floats<N>(y + i, result);
        }
      }
    }
  }
}

// N results from i on, of a row that starts at x; those that are not there are 0.
template <class X, bool kAligned, int N>
AITER_DEVICE void results(const ActAndMulArgs& a, const X* x, const float* bias, bool known,
                          int64_t r, int64_t i, float (&y)[N]) {
  AITER_UNROLL
  for (int k = 0; k < N; ++k) y[k] = 0.0f;
  if (!known || i >= a.d) return;
  if constexpr (kAligned) {
    GateUp<N> v;
    v.load(x, a, i);
    activate<X>(a, v, bias, r, i, y);
  } else {
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      if (i + k >= a.d) continue;
      GateUp<1> v;
      float one[1];
      v.load(x, a, i + k);
      activate<X>(a, v, bias, r, i + k, one);
      y[k] = one[0];
    }
  }
}

// Quantized rows. Results are computed again where the row's largest magnitude must be known before
// the first code.
template <class X, bool kAligned>
AITER_DEVICE void act_and_mul_quant(const ActAndMulArgs& a) {
  constexpr int N = kAligned ? kPackSize<X, true> : 4;
  AITER_SHARED float scratch[512 / kWave];
  const QuantOut& q = a.out;
  const int threads = a.threads_per_row;
  const int t = thread_index() & (threads <= kWave ? threads - 1 : -1);
  const int rows_per_block = threads <= kWave ? block_threads() / threads : 1;
  const int64_t step = static_cast<int64_t>(grid_blocks()) * rows_per_block;
  const int64_t rows = a.x_rows.count;
  const int64_t first = static_cast<int64_t>(block_index_x()) * rows_per_block;
  const int pass = threads * N;

  for (int64_t base = first; base < rows; base += step) {
    const int64_t mine = base + (threads <= kWave ? thread_index() / threads : 0);
    // Lanes without a row repeat the last one, so that whole waves take part in the reductions.
    const int64_t r = min<int64_t>(mine, rows - 1);
    const X* x = static_cast<const X*>(a.x) + a.x_rows.offset(r);
    const float* bias;
    const bool known = find_bias(a, r, bias);
    float amax = 0, v[N];
    if (needs_row_amax(q)) {
      AITER_NO_UNROLL
      for (int64_t i = t * N; i < q.cols; i += pass) {
        results<X, kAligned>(a, x, bias, known, r, i, v);
        amax = max_magnitude(amax, v);
      }
      amax = row_reduce<Max>(amax, threads, scratch);
    }
    const RowQuantizer<N> quantizer(q, r, amax, t == 0);
    AITER_NO_UNROLL
    for (int64_t start = 0; start < q.cols; start += pass) {
      results<X, kAligned>(a, x, bias, known, r, start + t * N, v);
      quantizer.store(start + t * N, v);
    }
  }
}

}  // namespace aiter

#define AITER_ACT_AND_MUL(row, aligned, X, Y)                                      \
  AITER_KERNEL(act_and_mul_##row##_##X##_##Y, 256)(const aiter::ActAndMulArgs a) { \
    aiter::wait_for_previous_kernel();                                             \
    aiter::act_and_mul<aiter::X, aiter::Y, aligned>(a);                            \
  }
#define AITER_GATED_PLAIN(X, Y)                      \
  AITER_KERNEL(act_and_mul_hip_plain_##X##_##Y, 256) \
  (const aiter::ActAndMulPlainArgs a) {              \
    aiter::wait_for_previous_kernel();               \
    aiter::gated_plain<aiter::X, aiter::Y>(a);       \
  }
#define AITER_ACT_AND_MUL_TYPES(row, aligned) \
  AITER_ACT_AND_MUL(row, aligned, f32, f32)   \
  AITER_ACT_AND_MUL(row, aligned, f32, f16)   \
  AITER_ACT_AND_MUL(row, aligned, f32, bf16)  \
  AITER_ACT_AND_MUL(row, aligned, f16, f16)   \
  AITER_ACT_AND_MUL(row, aligned, bf16, bf16)
AITER_GATED_PLAIN(f32, f32)
AITER_GATED_PLAIN(f32, f16)
AITER_GATED_PLAIN(f32, bf16)
AITER_GATED_PLAIN(f16, f16)
AITER_GATED_PLAIN(bf16, bf16)
AITER_ACT_AND_MUL_TYPES(hip_vec, true)
AITER_ACT_AND_MUL_TYPES(hip_any, false)

#define AITER_GATED_PLAIN_CODES(X, kind, ...)                                               \
  AITER_KERNEL(act_and_mul_hip_quant_vec_##kind##_##X, 512)(const aiter::ActAndMulArgs a) { \
    aiter::wait_for_previous_kernel();                                                      \
    aiter::gated_plain_codes<aiter::X, __VA_ARGS__>(a);                                     \
  }
AITER_QUANT_KINDS(AITER_GATED_PLAIN_CODES, f16)
AITER_QUANT_KINDS(AITER_GATED_PLAIN_CODES, bf16)

#define AITER_ACT_AND_MUL_QUANT(row, aligned, X)                                       \
  AITER_KERNEL(act_and_mul_hip_quant_##row##_##X, 512)(const aiter::ActAndMulArgs a) { \
    aiter::wait_for_previous_kernel();                                                 \
    aiter::act_and_mul_quant<aiter::X, aligned>(a);                                    \
  }
AITER_ACT_AND_MUL_QUANT(vec_any, true, f32)
AITER_ACT_AND_MUL_QUANT(vec_any, true, f16)
AITER_ACT_AND_MUL_QUANT(vec_any, true, bf16)
AITER_ACT_AND_MUL_QUANT(any, false, f32)
AITER_ACT_AND_MUL_QUANT(any, false, f16)
AITER_ACT_AND_MUL_QUANT(any, false, bf16)
