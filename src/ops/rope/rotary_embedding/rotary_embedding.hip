// One block a token: a thread has the same N pairs in some of the heads, so that it loads their
// factors once and divides nothing.
#include "ck/rope/rope.h"
#include "ops/rope/rotary_embedding/rotary_embedding_args.h"

namespace aiter {

// How the threads of a block share `units` of work in each of the heads: this thread takes units
// from `unit` on in steps of the block, in heads from `head` on in steps of `heads`.
struct HeadShare {
  int unit, head, heads;
  AITER_DEVICE explicit HeadShare(int units) : unit(thread_index()), head(0), heads(1) {
    if (units >= block_threads() || units == 0) return;
    heads = block_threads() / units;
    head = unit / units;
    unit -= head * units;
    if (head >= heads) unit = units;  // more threads than needed
  }
};

// Head number h of a token: query's heads come first, then key's.
template <class T>
struct TokenHeads {
  const T* in[2];
  T* out[2];
  AITER_DEVICE TokenHeads(const RotaryEmbeddingArgs& a, int64_t t) {
    AITER_UNROLL
    for (int side = 0; side < 2; ++side) {
      const RopeHeads& s = a.sides[side];
      in[side] = static_cast<const T*>(s.in) + s.in_tokens.offset(t);
      out[side] = static_cast<T*>(s.out) + s.out_tokens.offset(t);
    }
  }
  AITER_DEVICE const T* from(const RotaryEmbeddingArgs& a, int h) const {
    const int queries = static_cast<int>(a.sides[0].heads);
    return h < queries ? in[0] + h * a.sides[0].in_head_stride
                       : in[1] + (h - queries) * a.sides[1].in_head_stride;
  }
  AITER_DEVICE T* to(const RotaryEmbeddingArgs& a, int h) const {
    const int queries = static_cast<int>(a.sides[0].heads);
    return h < queries ? out[0] + h * a.sides[0].out_head_stride
                       : out[1] + (h - queries) * a.sides[1].out_head_stride;
  }
};

// Dimensions that do not turn: `count` of each part, from `first` on.
template <int N, class T>
AITER_DEVICE void copy_heads(const RotaryEmbeddingArgs& a, const TokenHeads<T>& token, int heads,
                             int64_t first, int64_t count) {
  const int in_part = static_cast<int>(count) / N;
  const HeadShare mine(a.angles.parts * in_part);
  for (int u = mine.unit; u < a.angles.parts * in_part; u += block_threads()) {
    const int part = u >= in_part;
    const int64_t at = part * a.part_size + first + (u - part * in_part) * N;
    for (int h = mine.head; h < heads; h += mine.heads) {
      const T* in = token.from(a, h);
      T* out = token.to(a, h);
      if (in != out) store_pack<N>(out + at, load_pack<N>(in + at));
    }
  }
}

template <class T, bool kAligned, bool kTwo>
AITER_DEVICE void rotary_embedding(const RotaryEmbeddingArgs& a) {
  constexpr int N = kPackSize<T, kAligned>;
  constexpr int kFlight = 2;  // heads whose loads are under way at once
  const RopeAngles& angles = a.angles;
  const int in_part = static_cast<int>(angles.pairs) / N, units = angles.parts * in_part;
  const int64_t still = a.part_size - 2 * angles.pairs, first = a.nope_first ? still : 0;
  const int heads = static_cast<int>(a.sides[0].heads + a.sides[1].heads);
  const HeadShare mine(units);
  const int64_t t = static_cast<int64_t>(block_index_y()) * grid_blocks() + block_index_x();
  if (t >= a.tokens) return;
  const TokenHeads<T> token(a, t);
  int64_t rows[3] = {0, 0, 0};
  if (!rope_rows(angles, t, rows)) return copy_heads<N>(a, token, heads, 0, a.part_size);
  for (int u = mine.unit; u < units; u += block_threads()) {
    const int part = u >= in_part;
    const int64_t p = static_cast<int64_t>(u - part * in_part) * N;
    RopeFactors<N, kTwo> factors;
    factors.load(angles, part, rows, p);
    const PairPlace<N> place(angles, p);
    const int64_t x_at = part * a.part_size + first + place.x;
    const int64_t y_at = part * a.part_size + first + place.y;
    for (int h = mine.head; h < heads; h += kFlight * mine.heads) {
      Pack<T, N> x[kFlight], y[kFlight];
      AITER_UNROLL
      for (int k = 0; k < kFlight; ++k) {
        const int head = h + k * mine.heads;
        if (head >= heads) continue;
        const T* in = token.from(a, head);
        x[k] = load_pack<N>(in + x_at), y[k] = load_pack<N>(in + y_at);
      }
      AITER_UNROLL
      for (int k = 0; k < kFlight; ++k) {
        const int head = h + k * mine.heads;
        if (head >= heads) continue;
        float first_of[N], second_of[N];
        x[k].to_floats(first_of), y[k].to_floats(second_of);
        if (angles.pairs_interleaved)
          factors.turn_neighbours(first_of, second_of);
        else
          factors.turn(first_of, second_of);
        T* out = token.to(a, head);
        store_pack<N>(out + x_at, Pack<T, N>::from_floats(first_of));
        store_pack<N>(out + y_at, Pack<T, N>::from_floats(second_of));
      }
    }
  }
  if (still > 0) copy_heads<N>(a, token, heads, a.nope_first ? 0 : 2 * angles.pairs, still);
}

}  // namespace aiter

#define AITER_ROTARY_EMBEDDING(row, aligned, two, T)                                    \
  AITER_KERNEL(rotary_embedding_##row##_##T, 256)(const aiter::RotaryEmbeddingArgs a) { \
    aiter::rotary_embedding<aiter::T, aligned, two>(a);                                 \
  }
AITER_ROTARY_EMBEDDING(hip_vec, true, false, f32)
AITER_ROTARY_EMBEDDING(hip_vec, true, false, f16)
AITER_ROTARY_EMBEDDING(hip_vec, true, false, bf16)
AITER_ROTARY_EMBEDDING(hip_vec_full, true, true, f32)
AITER_ROTARY_EMBEDDING(hip_vec_full, true, true, f16)
AITER_ROTARY_EMBEDDING(hip_vec_full, true, true, bf16)
AITER_ROTARY_EMBEDDING(hip_any, false, true, f32)
AITER_ROTARY_EMBEDDING(hip_any, false, true, f16)
AITER_ROTARY_EMBEDDING(hip_any, false, true, bf16)
