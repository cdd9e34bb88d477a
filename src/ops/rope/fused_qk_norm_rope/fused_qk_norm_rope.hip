// Some lanes of a wave, a power of two, take a head of a token. In hip_vec each holds two packs of
// it, which turn together or not at all, so that a head is read once. In hip_any lanes go over the
// head twice, one pair or one element at a time.
#include "ck/core/reduce.h"
#include "ck/rope/rope.h"
#include "ops/rope/fused_qk_norm_rope/fused_qk_norm_rope_args.h"

namespace aiter {

// This group's head of a token.
struct FusedHead {
  const FusedHeads& side;
  int64_t token, head;
  bool there;
  int64_t pairs;           // that turn
  int64_t turning, still;  // where the dims begin that turn, and those that do not
  int64_t still_count;

  AITER_DEVICE static int side_of(const FusedQkNormRopeArgs& a, int64_t head) {
    return head < a.sides[0].heads ? 0 : head < a.sides[0].heads + a.sides[1].heads ? 1 : 2;
  }
  AITER_DEVICE FusedHead(const FusedQkNormRopeArgs& a, int which, int64_t t, int64_t h,
                         bool is_there)
      : side(a.sides[which]), token(t), head(h), there(is_there) {
    if (which > 0) head -= a.sides[0].heads;
    if (which > 1) head -= a.sides[1].heads;
    pairs = which < 2 ? a.angles.pairs : 0;
    still_count = side.dim - 2 * pairs;
    turning = a.nope_first ? still_count : 0;
    still = a.nope_first ? 0 : 2 * pairs;
  }
  template <class T>
  AITER_DEVICE const T* in() const {
    return static_cast<const T*>(side.in) + side.in_tokens.offset(token) + head * side.in_head;
  }
  template <class T>
  AITER_DEVICE T* out() const {
    return static_cast<T*>(side.out) + side.out_tokens.offset(token) + head * side.out_head;
  }
};

// 1 / the root mean square, from the lanes' sums of squares. All lanes of the wave must call it.
AITER_DEVICE float norm_scale(const FusedQkNormRopeArgs& a, const FusedHead& head, float squares) {
  for (int mask = a.lanes_per_head / 2; mask > 0; mask /= 2) squares += shuffle_xor(squares, mask);
  return 1.0f / sqrt(squares / static_cast<float>(head.side.dim) + a.eps);
}

// The N dims from d on, normalized and rounded to T.
template <class T, int N>
AITER_DEVICE void normalize(const FusedQkNormRopeArgs& a, const FusedHeads& side, int64_t d,
                            float scale, float (&v)[N]) {
  float gain[N] = {};
  if (side.weight) load_floats<N, T>(side.weight, side.weight_dtype, d, gain);
  AITER_UNROLL
  for (int k = 0; k < N; ++k) {
    v[k] *= scale;
    if (side.weight) v[k] *= a.gemma ? gain[k] + 1.0f : gain[k];
  }
  Pack<T, N>::from_floats(v).to_floats(v);
}

template <class T>
AITER_DEVICE void fused_in_registers(const FusedQkNormRopeArgs& a, const FusedHead& head,
                                     bool normed) {
  constexpr int N = kPackSize<T, true>;
  // The lane's dims: N from d[0] and N from d[1].
  const int lane = thread_index() & (a.lanes_per_head - 1);
  const int turns = static_cast<int>(head.pairs) / N;
  const bool turning = lane < turns, near = a.angles.pairs_interleaved;
  const int64_t p = static_cast<int64_t>(lane) * N;
  const int64_t rest = static_cast<int64_t>(lane - turns) * 2 * N;
  const int64_t d[2] = {
      turning ? head.turning + (near ? 2 * p : p) : head.still + rest,
      turning ? head.turning + (near ? 2 * p + N : head.pairs + p) : head.still + rest + N};
  const bool has[2] = {head.there && (turning || rest < head.still_count),
                       head.there && (turning || rest + N < head.still_count)};
  float v[2][N] = {};
  AITER_UNROLL
  for (int i = 0; i < 2; ++i)
    if (has[i]) load_floats<N>(head.in<T>() + d[i], v[i]);
  if (a.norm) {
    float squares = 0;
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) squares = fma(v[i][k], v[i][k], squares);
    }
    const float scale = norm_scale(a, head, squares);
    AITER_UNROLL
    for (int i = 0; i < 2; ++i)
      if (normed && has[i]) normalize<T>(a, head.side, d[i], scale, v[i]);
  }
  int64_t rows[3] = {0, 0, 0};
  if (turning && head.there && rope_rows(a.angles, head.token, rows)) {
    RopeFactors<N, false> factors;
    factors.load(a.angles, 0, rows, p);
    if (near)
      factors.template turn<true>(v[0], v[1]);
    else
      factors.template turn<false>(v[0], v[1]);
  }
  AITER_UNROLL
  for (int i = 0; i < 2; ++i)
    if (has[i]) store_floats<N>(head.out<T>() + d[i], v[i]);
}

template <class T>
AITER_DEVICE void fused_any(const FusedQkNormRopeArgs& a, const FusedHead& head, bool normed) {
  const int lane = thread_index() & (a.lanes_per_head - 1), lanes = a.lanes_per_head;
  const T* in = head.in<T>();
  T* out = head.out<T>();
  float scale = 1.0f;
  if (a.norm) {
    float squares = 0;
    if (head.there && normed)
      for (int64_t d = lane; d < head.side.dim; d += lanes) {
        const float x = to_float(in[d]);
        squares = fma(x, x, squares);
      }
    scale = norm_scale(a, head, squares);
  }
  if (!head.there) return;
  int64_t rows[3] = {0, 0, 0};
  const bool turns = head.pairs > 0 && rope_rows(a.angles, head.token, rows);
  const bool near = a.angles.pairs_interleaved;
  for (int64_t u = lane; u < head.pairs + head.still_count; u += lanes) {
    const bool pair = u < head.pairs;
    const int64_t i = pair ? head.turning + (near ? 2 * u : u) : head.still + u - head.pairs;
    const int64_t j = pair ? head.turning + (near ? 2 * u + 1 : head.pairs + u) : i;
    float x[1] = {to_float(in[i])}, y[1] = {to_float(in[j])};
    if (normed) normalize<T>(a, head.side, i, scale, x), normalize<T>(a, head.side, j, scale, y);
    if (pair && turns) {
      RopeFactors<1, false> factors;
      factors.load(a.angles, 0, rows, u);
      factors.template turn<false>(x, y);
    }
    out[i] = from_float<T>(x[0]);
    if (pair) out[j] = from_float<T>(y[0]);
  }
}

template <class T, bool kInRegisters>
AITER_DEVICE void fused_qk_norm_rope(const FusedQkNormRopeArgs& a) {
  const int64_t block = static_cast<int64_t>(block_index_y()) * grid_blocks() + block_index_x();
  const int64_t item =
      block * (block_threads() / a.lanes_per_head) + thread_index() / a.lanes_per_head;
  const int64_t items = a.tokens * a.heads;
  const bool there = item < items;
  const int64_t t = there ? rope_quotient(item, items, a.heads) : 0;
  const int64_t h = there ? item - t * a.heads : 0;
  const int which = FusedHead::side_of(a, h);
  const FusedHead head(a, which, t, h, there);
  const bool normed = which < 2 && a.norm;
  if (kInRegisters)
    fused_in_registers<T>(a, head, normed);
  else
    fused_any<T>(a, head, normed);
}

}  // namespace aiter

#define AITER_FUSED_QK_NORM_ROPE(row, in_registers, T)                                    \
  AITER_KERNEL(fused_qk_norm_rope_##row##_##T, 128)(const aiter::FusedQkNormRopeArgs a) { \
    aiter::wait_for_previous_kernel();                                                    \
    aiter::fused_qk_norm_rope<aiter::T, in_registers>(a);                                 \
  }
AITER_FUSED_QK_NORM_ROPE(hip_vec, true, f32)
AITER_FUSED_QK_NORM_ROPE(hip_vec, true, f16)
AITER_FUSED_QK_NORM_ROPE(hip_vec, true, bf16)
AITER_FUSED_QK_NORM_ROPE(hip_any, false, f32)
AITER_FUSED_QK_NORM_ROPE(hip_any, false, f16)
AITER_FUSED_QK_NORM_ROPE(hip_any, false, bf16)
