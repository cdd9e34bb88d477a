// One block a token: its threads share out the heads' pairs, N of them at a time.
#include "ck/core/pack.h"
#include "ops/rope/rotary_embedding/rotary_embedding_args.h"

namespace aiter {

// Turns N pairs (x[k], y[k]); in the interleaved form x and y are the even and odd elements of two
// packs that lie side by side.
template <int N, class T>
AITER_DEVICE void turn(const RotaryEmbeddingArgs& a, const T* in, T* out, int64_t pair,
                       const float (&c)[N], const float (&s)[N]) {
  float x[N], y[N];
  if (a.interleaved) {
    load_floats<N>(in + 2 * pair, x);
    load_floats<N>(in + 2 * pair + N, y);
    float turned[2 * N];
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      // Elements 2k and 2k + 1 of the two packs together.
      const float even = 2 * k < N ? x[2 * k % N] : y[2 * k % N];
      const float odd = 2 * k + 1 < N ? x[(2 * k + 1) % N] : y[(2 * k + 1) % N];
      turned[2 * k] = even * c[k] - odd * s[k];
      turned[2 * k + 1] = fma(even, s[k], odd * c[k]);
    }
    AITER_UNROLL
    for (int k = 0; k < N; ++k) x[k] = turned[k], y[k] = turned[N + k];
    store_floats<N>(out + 2 * pair, x);
    store_floats<N>(out + 2 * pair + N, y);
  } else {
    load_floats<N>(in + pair, x);
    load_floats<N>(in + a.pairs + pair, y);
    float turned_x[N], turned_y[N];
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      turned_x[k] = x[k] * c[k] - y[k] * s[k];
      turned_y[k] = fma(x[k], s[k], y[k] * c[k]);
    }
    store_floats<N>(out + pair, turned_x);
    store_floats<N>(out + a.pairs + pair, turned_y);
  }
}

template <class T, bool kAligned>
AITER_DEVICE void rotary_embedding(const RotaryEmbeddingArgs& a) {
  constexpr int N = kPackSize<T, kAligned>;
  const int turning = static_cast<int>(a.pairs) / N;                 // items of a head that turn
  const int rest = static_cast<int>(a.head_size - 2 * a.pairs) / N;  // and that do not
  const int64_t first = a.nope_first ? a.head_size - 2 * a.pairs : 0;
  const int64_t rest_first = a.nope_first ? 0 : 2 * a.pairs;
  for (int64_t t = block_index_x(); t < a.tokens; t += grid_blocks()) {
    const int64_t p = a.positions_rows.offset(t);
    int64_t row = a.positions_dtype == DType::kI32 ? static_cast<const int32_t*>(a.positions)[p]
                                                   : static_cast<const int64_t*>(a.positions)[p];
    row = min<int64_t>(max<int64_t>(row, 0), a.max_position - 1);
    for (int side = 0; side < a.side_count; ++side) {
      const RopeHeads& h = a.sides[side];
      const T* in_token = static_cast<const T*>(h.in) + h.in_tokens.offset(t);
      T* out_token = static_cast<T*>(h.out) + h.out_tokens.offset(t);
      const int heads = static_cast<int>(h.heads);
      if (a.max_position > 0)
        for (int i = thread_index(); i < heads * turning; i += block_threads()) {
          const int head = i / turning, pair = i % turning * N;
          float c[N], s[N];
          load_floats<N, T>(a.cos, a.cache_dtype, row * a.cos_stride + pair, c);
          load_floats<N, T>(a.sin, a.cache_dtype, row * a.sin_stride + pair, s);
          turn<N>(a, in_token + head * h.in_head_stride + first,
                  out_token + head * h.out_head_stride + first, pair, c, s);
        }
      if (rest > 0 && in_token != out_token)
        for (int i = thread_index(); i < heads * rest; i += block_threads()) {
          const int head = i / rest, k = i % rest * N;
          store_pack<N>(out_token + head * h.out_head_stride + rest_first + k,
                        load_pack<N>(in_token + head * h.in_head_stride + rest_first + k));
        }
    }
  }
}

}  // namespace aiter

#define AITER_ROTARY_EMBEDDING(row, aligned, T)                                         \
  AITER_KERNEL(rotary_embedding_##row##_##T, 256)(const aiter::RotaryEmbeddingArgs a) { \
    aiter::rotary_embedding<aiter::T, aligned>(a);                                      \
  }
AITER_ROTARY_EMBEDDING(hip_vec, true, f32)
AITER_ROTARY_EMBEDDING(hip_vec, true, f16)
AITER_ROTARY_EMBEDDING(hip_vec, true, bf16)
AITER_ROTARY_EMBEDDING(hip_any, false, f32)
AITER_ROTARY_EMBEDDING(hip_any, false, f16)
AITER_ROTARY_EMBEDDING(hip_any, false, bf16)
