// In hip_vec the lanes of a head hold it in registers, and go from head to head of q, k or v of a token.
// In hip_any they go over one head twice.
#include "ck/rope/head_norm_rope.h"
#include "ops/rope/fused_qk_norm_rope/fused_qk_norm_rope_args.h"

namespace aiter {

template <class T, bool kInRegisters>
AITER_DEVICE void fused_qk_norm_rope(const FusedQkNormRopeArgs& a) {
  const int64_t block = static_cast<int64_t>(block_index_y()) * grid_blocks() + block_index_x();
  const int lanes = a.lanes_per_head, heads = a.heads_at_once;
  const int64_t item = block * (block_threads() / lanes) + thread_index() / lanes;
  const int64_t items = a.tokens * a.shares;
  const bool there = item < items;
  const int64_t t = there ? rope_quotient(item, items, a.shares) : 0;
  int h = there ? static_cast<int>(item - t * a.shares) : 0;
  int which = 0;
  while (which < 2 && h >= a.sides[which].shares) h -= a.sides[which++].shares;
  h *= heads;
  const FusedHeads& side = a.sides[which];
  const int64_t pairs = which < 2 ? a.angles.pairs : 0;
  const int64_t still = side.dim - 2 * pairs;
  const HeadOfToken head{side.norm,
                         a.angles,
                         side.dim,
                         t,
                         pairs,
                         a.nope_first ? still : 0,
                         a.nope_first ? 0 : 2 * pairs,
                         thread_index() & (lanes - 1),
                         lanes,
                         there};
  const T* in = static_cast<const T*>(side.in) + side.in_tokens.offset(t);
  T* out = static_cast<T*>(side.out) + side.out_tokens.offset(t);
  const bool norms = a.sides[0].norm.on;
  if constexpr (kInRegisters) {
    constexpr int N = HeadPacks<T>::N;
    Pack<T, N> next[2];  // under way while a head is worked on
    const int end = there ? min(h + heads, static_cast<int>(side.heads)) : h;
    const HeadPacks<T> packs(head);
    packs.load(StoredHead<T>{in + h * side.in_head}, h < end, next);
    AITER_NO_UNROLL
    for (int k = 0; k < heads; ++k, ++h) {
      float v[2][N];
      AITER_UNROLL
      for (int i = 0; i < 2; ++i) next[i].to_floats(v[i]);
      if (k + 1 < heads) packs.load(StoredHead<T>{in + (h + 1) * side.in_head}, h + 1 < end, next);
      packs.change(head, norms, v);
      AITER_UNROLL
      for (int i = 0; i < 2; ++i)
        if (h < end && packs.has[i]) store_floats<N>(out + h * side.out_head + packs.d[i], v[i]);
    }
  } else {
    const StoredHead<T> source{in + h * side.in_head};
    HeadDims<T, StoredHead<T>>(head, source, norms).each([&] AITER_LAMBDA(int64_t d, float x) {
      out[h * side.out_head + d] = from_float<T>(x);
    });
  }
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
