// In hip_vec the lanes of a head hold it in registers, and go from head to head of q, k or v of a token;
// in hip_plain, too, and know more of what there is to do.
// In hip_any they go over one head twice.
#include "ck/rope/head_norm_rope.h"
#include "ops/rope/fused_qk_norm_rope/fused_qk_norm_rope_args.h"

namespace aiter {

// So many heads of a stream, one after the other.
template <class T, bool kPlain>
AITER_DEVICE void change_heads(const HeadOfToken& head, const HeadPacks<T, kPlain>& packs,
                               HeadStream<T, kPlain>& stream, bool norms, int heads, T* out,
                               int64_t step) {
  constexpr int N = HeadPacks<T, kPlain>::N;
  AITER_NO_UNROLL
  for (int k = 0; k < heads; ++k, out += step) {
    const bool there = stream.left > 0;
    Pack<T, N> now[2];
    stream.take(now);
    float v[2][N];
    packs.to_floats(now, v);
    packs.change(head, norms, v);
    packs.from_floats(v, now);
    AITER_UNROLL
    for (int i = 0; i < 2; ++i)
      if (there && packs.has[i]) store_pack<N>(out + packs.d[i], now[i]);
  }
}

// One side to a block, and neighbouring tokens, each in one place.
template <class T>
AITER_DEVICE void norm_rope_plain(const FusedQkNormRopeArgs& a) {
  int which = 0, share = block_index_x();
  while (share >= a.sides[which].shares) share -= a.sides[which++].shares;
  const FusedHeads& side = a.sides[which];
  const GroupOfBlock group(a.lanes_per_head, a.tokens_of_block);
  const int64_t t = group.begin + group.row, pairs = which < 2 ? a.angles.pairs : 0;
  const int64_t still = side.dim - 2 * pairs;
  const int heads = a.heads_at_once, h = (share * group.heads + group.head) * heads;
  const bool there = t < a.tokens;
  const HeadOfToken head{side.norm,
                         a.angles,
                         side.dim,
                         t,
                         pairs,
                         a.nope_first ? still : 0,
                         a.nope_first ? 0 : 2 * pairs,
                         group.lane,
                         a.lanes_per_head,
                         there};
  HeadPacks<T, true> packs(head);
  const T* in = static_cast<const T*>(side.in) + t * side.in_tokens.inner_stride;
  T* out = static_cast<T*>(side.out) + t * side.out_tokens.inner_stride + h * side.out_head;
  HeadStream<T, true> stream(packs, in, side.in_head, h,
                             there ? min(h + heads, static_cast<int>(side.heads)) : h);
  packs.prepare(head, packs.row_of(head));
  const int most = static_cast<int>(side.heads) - share * group.heads * heads;
  change_heads(head, packs, stream, side.norm.on, min(heads, most), out, side.out_head);
}

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
    const int end = there ? min(h + heads, static_cast<int>(side.heads)) : h;
    HeadPacks<T> packs(head);
    HeadStream<T> stream(packs, in, side.in_head, h, end);
    packs.prepare(head);
    change_heads(head, packs, stream, norms, heads, out + h * side.out_head, side.out_head);
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
#define AITER_NORM_ROPE_PLAIN(T)                                                            \
  AITER_KERNEL(fused_qk_norm_rope_hip_plain_##T, 256)(const aiter::FusedQkNormRopeArgs a) { \
    aiter::wait_for_previous_kernel();                                                      \
    aiter::norm_rope_plain<aiter::T>(a);                                                    \
  }
AITER_NORM_ROPE_PLAIN(f32)
AITER_NORM_ROPE_PLAIN(f16)
AITER_NORM_ROPE_PLAIN(bf16)
AITER_FUSED_QK_NORM_ROPE(hip_vec, true, f32)
AITER_FUSED_QK_NORM_ROPE(hip_vec, true, f16)
AITER_FUSED_QK_NORM_ROPE(hip_vec, true, bf16)
AITER_FUSED_QK_NORM_ROPE(hip_any, false, f32)
AITER_FUSED_QK_NORM_ROPE(hip_any, false, f16)
AITER_FUSED_QK_NORM_ROPE(hip_any, false, bf16)
