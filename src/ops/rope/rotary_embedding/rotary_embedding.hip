// A group of threads takes a token. A thread keeps to the same N pairs, whose factors it loads once,
// and goes from head to head, those of query before those of key; blocks in y share out heads.
#include "ck/rope/rope.h"
#include "ops/rope/rotary_embedding/rotary_embedding_args.h"

namespace aiter {

// What a thread does where heads have `units` of work: those from `unit` on in steps of the token's
// threads, in the heads from `head` on in steps of `step`.
struct HeadShare {
  int unit, head, step;
  AITER_DEVICE HeadShare(int units, int threads) {
    const int me = thread_index() % threads, at_once = units < threads ? threads / units : 1;
    const int group = units < threads ? me / units : 0;
    unit = group < at_once ? me - group * units : units;  // more threads than needed: none
    head = group + block_index_y() * at_once;
    step = at_once * grid_blocks_y();
  }
};

// The heads of a token: query's first, then key's.
template <class T, bool kPlain>
struct TokenHeads {
  const T* in[2];
  T* out[2];
  int queries, count;
  AITER_DEVICE TokenHeads(const RotaryEmbeddingArgs& a, int64_t t)
      : queries(static_cast<int>(a.sides[0].heads)),
        count(queries + static_cast<int>(a.sides[1].heads)) {
    AITER_UNROLL
    for (int side = 0; side < 2; ++side) {
      const RopeHeads& s = a.sides[side];
      in[side] = static_cast<const T*>(s.in) + offset(s.in_tokens, t);
      out[side] = static_cast<T*>(s.out) + offset(s.out_tokens, t);
    }
  }
  AITER_DEVICE static int64_t offset(const Rows& rows, int64_t t) {
    return kPlain ? t * rows.inner_stride : rows.offset(t);
  }
  AITER_DEVICE const T* from(const RotaryEmbeddingArgs& a, int h) const {
    return h < queries ? in[0] + times(h, a.sides[0].in_head_stride)
                       : in[1] + times(h - queries, a.sides[1].in_head_stride);
  }
  AITER_DEVICE T* to(const RotaryEmbeddingArgs& a, int h) const {
    return h < queries ? out[0] + times(h, a.sides[0].out_head_stride)
                       : out[1] + times(h - queries, a.sides[1].out_head_stride);
  }
  AITER_DEVICE static int64_t times(int h, int64_t stride) {
    return kPlain ? h * static_cast<int>(stride) : h * stride;
  }
};

// Dimensions that do not turn: `count` of each part, from `first` on.
template <int N, class T>
AITER_DEVICE void copy_heads(const RotaryEmbeddingArgs& a, const TokenHeads<T, false>& token,
                             int64_t first, int64_t count) {
  const int in_part = static_cast<int>(count) / N, units = a.angles.parts * in_part;
  const HeadShare mine(max(units, 1), a.threads_per_token);
  for (int u = mine.unit; u < units; u += a.threads_per_token) {
    const int part = u >= in_part;
    const int64_t at = part * a.part_size + first + static_cast<int64_t>(u - part * in_part) * N;
    for (int h = mine.head; h < token.count; h += mine.step) {
      const T* in = token.from(a, h);
      T* out = token.to(a, h);
      if (in != out) store_pack<N>(out + at, load_pack<N>(in + at));
    }
  }
}

// Turns the N pairs from p on of one part, which begins at `first` of a head. The first heads are loaded
// before anything waits for the position.
template <class T, int N, bool kTwo, bool kPlain>
AITER_DEVICE void turn_heads(const RotaryEmbeddingArgs& a, const TokenHeads<T, kPlain>& token,
                             const HeadShare& mine, int64_t t, int part, int64_t p, int64_t first) {
#if defined(AITER_AMD)  // whose compiler spills more
  constexpr int kMost = 2;
#else
  constexpr int kMost = RotaryEmbeddingArgs::kHeadsAtOnce;
#endif
  constexpr int kHeads = N == 1 ? 1
                         : kTwo ? kMost / 2
                                : kMost;  // whose loads are under way at once
  const bool neighbours = a.angles.pairs_interleaved;
  const int64_t x_at = first + (neighbours ? 2 * p : p);
  const int64_t y_at = x_at + (neighbours ? N : a.angles.pairs);
  Pack<T, N> x[kHeads], y[kHeads];
  auto load = [&] AITER_LAMBDA(int h) {
    AITER_UNROLL
    for (int k = 0; k < kHeads; ++k)
      if (h + k * mine.step < token.count) {
        const T* in = token.from(a, h + k * mine.step);
        x[k] = load_pack<N>(in + x_at), y[k] = load_pack<N>(in + y_at);
      }
  };
  load(mine.head);
  RopeFactors<N, kTwo> factors{};
  int64_t rows[3] = {0, 0, 0};
  bool turns;
  if constexpr (kPlain) {
    rows[0] = rope_integer(a.angles.positions, a.angles.positions_dtype,
                           t * a.angles.positions_rows.inner_stride);
    turns = static_cast<uint64_t>(rows[0]) < static_cast<uint64_t>(a.angles.tables[0].rows);
    if (turns) factors.template load_plain<T>(a.angles, rows[0], p);
  } else {
    turns = rope_rows(a.angles, t, rows);
    if (turns) factors.load(a.angles, part, rows, p);
  }
  AITER_NO_UNROLL
  for (int h = mine.head; h < token.count; h += kHeads * mine.step) {
    if (h != mine.head) load(h);
    AITER_UNROLL
    for (int k = 0; k < kHeads; ++k)
      if (h + k * mine.step < token.count) {
        T* out = token.to(a, h + k * mine.step);
        if (turns) {
          float u[N], v[N];
          x[k].to_floats(u), y[k].to_floats(v);
          if (neighbours)
            factors.template turn<true>(u, v);
          else
            factors.template turn<false>(u, v);
          x[k] = Pack<T, N>::from_floats(u), y[k] = Pack<T, N>::from_floats(v);
        }
        store_pack<N>(out + x_at, x[k]);
        store_pack<N>(out + y_at, y[k]);
      }
  }
}

// kPlain: see is_plain() of rotary_embedding.cc.
template <class T, bool kAligned, bool kTwo, bool kPlain>
AITER_DEVICE void rotary_embedding(const RotaryEmbeddingArgs& a) {
  constexpr int N = kPackSize<T, kAligned>;
  const int threads = a.threads_per_token;
  const int64_t block = static_cast<int64_t>(block_index_z()) * grid_blocks() + block_index_x();
  const int64_t t = block * (block_threads() / threads) + thread_index() / threads;
  if (t >= a.tokens) return;
  const RopeAngles& angles = a.angles;
  const TokenHeads<T, kPlain> token(a, t);
  const int64_t still = a.part_size - 2 * angles.pairs;
  const int in_part = static_cast<int>(angles.pairs) / N, units = angles.parts * in_part;
  if (units > 0) {
    const HeadShare mine(units, threads);
    for (int u = mine.unit; u < units; u += threads) {
      const int part = !kPlain && u >= in_part;
      const int64_t p = static_cast<int64_t>(u - part * in_part) * N;
      const int64_t first = part * a.part_size + (!kPlain && a.nope_first ? still : 0);
      turn_heads<T, N, kTwo, kPlain>(a, token, mine, t, part, p, first);
    }
  }
  if constexpr (!kPlain) copy_heads<N>(a, token, a.nope_first ? 0 : 2 * angles.pairs, still);
}

}  // namespace aiter

#define AITER_ROTARY_EMBEDDING(row, aligned, two, plain, T)                             \
  AITER_KERNEL(rotary_embedding_##row##_##T, 128)(const aiter::RotaryEmbeddingArgs a) { \
    aiter::wait_for_previous_kernel();                                                  \
    aiter::rotary_embedding<aiter::T, aligned, two, plain>(a);                          \
  }
#define AITER_ROTARY_EMBEDDING_TYPES(row, aligned, two, plain) \
  AITER_ROTARY_EMBEDDING(row, aligned, two, plain, f32)        \
  AITER_ROTARY_EMBEDDING(row, aligned, two, plain, f16)        \
  AITER_ROTARY_EMBEDDING(row, aligned, two, plain, bf16)
AITER_ROTARY_EMBEDDING_TYPES(hip_plain, true, false, true)
AITER_ROTARY_EMBEDDING_TYPES(hip_vec, true, false, false)
AITER_ROTARY_EMBEDDING_TYPES(hip_vec_full, true, true, false)
AITER_ROTARY_EMBEDDING_TYPES(hip_any, false, true, false)
