// A group of threads takes a token. A thread keeps to the same N pairs, whose cos and sin it reads
// once, and goes from head to head, those of query before those of key; blocks in y share out heads.
#include "ck/core/pack.h"
#include "ops/rope/rotary_embedding/rotary_embedding_args.h"

namespace aiter {

// N pairs as they lie in memory: in the interleaved form two packs side by side of x0 y0 x1 y1 ...,
// else one of x and one of y.
template <class T, int N, bool kInterleaved>
struct Pairs {
  Pack<T, N> a, b;

  AITER_DEVICE void turn(const float (&c)[N], const float (&s)[N]) {
    float x[N], y[N], first[N], second[N];
    a.to_floats(x);
    b.to_floats(y);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      // Elements 2k and 2k + 1 of the two packs together.
      const float even = 2 * k < N ? x[2 * k % N] : y[2 * k % N];
      const float odd = 2 * k + 1 < N ? x[(2 * k + 1) % N] : y[(2 * k + 1) % N];
      const float u = kInterleaved ? even : x[k], v = kInterleaved ? odd : y[k];
      const float turned_u = u * c[k] - v * s[k], turned_v = fma(u, s[k], v * c[k]);
      float* to = kInterleaved && 2 * k >= N ? second : first;
      to[kInterleaved ? 2 * k % N : k] = turned_u;
      float* to_v = kInterleaved ? (2 * k + 1 >= N ? second : first) : second;
      to_v[kInterleaved ? (2 * k + 1) % N : k] = turned_v;
    }
    a = Pack<T, N>::from_floats(first);
    b = Pack<T, N>::from_floats(second);
  }
};

// N cos and sin at an offset of the caches; both loads are under way before one is waited for.
template <class T, int N>
AITER_DEVICE void load_turn(const RotaryEmbeddingArgs& a, int64_t cos_at, int64_t sin_at,
                            float (&c)[N], float (&s)[N]) {
  if (a.cache_dtype == DType::kF32) {
    load_floats<N>(static_cast<const float*>(a.cos) + cos_at, c);
    load_floats<N>(static_cast<const float*>(a.sin) + sin_at, s);
  } else {
    const auto cos = load_pack<N>(static_cast<const T*>(a.cos) + cos_at);
    const auto sin = load_pack<N>(static_cast<const T*>(a.sin) + sin_at);
    cos.to_floats(c);
    sin.to_floats(s);
  }
}

// The heads of a thread: `first`, and every `step` behind it below `end`.
struct HeadRange {
  int first, step, end;
};

// Turns the N pairs `item` of heads whose turning parts begin at `in` and `out`; row_of_caches()
// waits for the position.
template <class T, int N, bool kInterleaved, class F>
AITER_DEVICE void turn_heads(const RotaryEmbeddingArgs& a, const RopeHeads& side, const T* in,
                             T* out, F&& row_of_caches, int item, const HeadRange& heads) {
#if defined(AITER_AMD)  // whose compiler spills more
  constexpr int kMost = 2;
#else
  constexpr int kMost = 4;
#endif
  constexpr int kHeads = N == 1 ? 1 : kMost;  // at a time
  const int64_t at = (kInterleaved ? 2 * item : item) * N;
  const int64_t other = kInterleaved ? N : a.pairs;
  const int64_t in_step = heads.step * side.in_head_stride;
  const int64_t out_step = heads.step * side.out_head_stride;
  in += at + heads.first * side.in_head_stride;
  out += at + heads.first * side.out_head_stride;
  float c[N], s[N];
  AITER_NO_UNROLL
  for (int head = heads.first; head < heads.end; head += kHeads * heads.step) {
    Pairs<T, N, kInterleaved> pairs[kHeads];
    AITER_UNROLL
    for (int i = 0; i < kHeads; ++i)
      if (head + i * heads.step < heads.end) {
        pairs[i].a = load_pack<N>(in + i * in_step);
        pairs[i].b = load_pack<N>(in + i * in_step + other);
      }
    if (head == heads.first) {  // while those are under way
      const int64_t row = row_of_caches();
      load_turn<T>(a, row * a.cos_stride + item * N, row * a.sin_stride + item * N, c, s);
    }
    AITER_UNROLL
    for (int i = 0; i < kHeads; ++i)
      if (head + i * heads.step < heads.end) {
        pairs[i].turn(c, s);
        store_pack<N>(out + i * out_step, pairs[i].a);
        store_pack<N>(out + i * out_step + other, pairs[i].b);
      }
    in += kHeads * in_step, out += kHeads * out_step;
  }
}

template <class T, bool kAligned>
AITER_DEVICE void rotary_embedding(const RotaryEmbeddingArgs& a) {
  constexpr int N = kPackSize<T, kAligned>;
  const int turning = static_cast<int>(a.pairs) / N;                 // items of a head that turn
  const int rest = static_cast<int>(a.head_size - 2 * a.pairs) / N;  // and that do not
  const int64_t first = a.nope_first ? a.head_size - 2 * a.pairs : 0;
  const int64_t rest_first = a.nope_first ? 0 : 2 * a.pairs;
  const int threads = a.threads_per_token, me = thread_index() % threads;
  const int tokens_per_block = block_threads() / threads;
  const int q_heads = static_cast<int>(a.sides[0].heads);

  // f(side, item, heads): the thread's share of the heads of query and of key, where heads have
  // `items` parts; blocks in y share out the heads of both.
  auto each_share = [&] AITER_LAMBDA(int items, auto&& f) {
    const int at_once = max(1, threads / items), group = me / items;
    if (group >= at_once) return;
    const int step = at_once * grid_blocks_y();
    const int head = group + static_cast<int>(block_index_y()) * at_once;
    // Key's heads go on where query's end, so that few heads find a thread each.
    const int key_head = (head + step - q_heads % step) % step;
    for (int item = me % items; item < items; item += threads) {
      AITER_NO_UNROLL
      for (int side = 0; side < a.side_count; ++side)
        f(side, item,
          HeadRange{side ? key_head : head, step, static_cast<int>(a.sides[side].heads)});
    }
  };
  for (int64_t t =
           static_cast<int64_t>(block_index_x()) * tokens_per_block + thread_index() / threads;
       t < a.tokens; t += static_cast<int64_t>(grid_blocks()) * tokens_per_block) {
    const int64_t p = a.positions_rows.offset(t);
    // As words: to widen one here would be to wait for it before anything else is loaded.
    const bool wide = a.positions_dtype == DType::kI64;
    Words2 position{0, 0};
    if (wide)
      position = static_cast<const Words2*>(a.positions)[p];
    else
      position.x = static_cast<const uint32_t*>(a.positions)[p];
    auto in = [&] AITER_LAMBDA(const RopeHeads& s) {
      return static_cast<const T*>(s.in) + s.in_tokens.offset(t);
    };
    auto out = [&] AITER_LAMBDA(const RopeHeads& s) {
      return static_cast<T*>(s.out) + s.out_tokens.offset(t);
    };
    if (turning > 0 && a.max_position > 0)
      each_share(turning, [&] AITER_LAMBDA(int side, int item, const HeadRange& heads) {
        if (heads.first >= heads.end) return;
        auto row = [&] AITER_LAMBDA() {
          const int64_t wanted = wide ? bit_cast<int64_t>(position)
                                      : static_cast<int64_t>(static_cast<int32_t>(position.x));
          return min<int64_t>(max<int64_t>(wanted, 0), a.max_position - 1);
        };
        const RopeHeads& s = a.sides[side];
        if (a.interleaved)
          turn_heads<T, N, true>(a, s, in(s) + first, out(s) + first, row, item, heads);
        else
          turn_heads<T, N, false>(a, s, in(s) + first, out(s) + first, row, item, heads);
      });
    if (rest > 0)
      each_share(rest, [&] AITER_LAMBDA(int side, int item, const HeadRange& heads) {
        const RopeHeads& s = a.sides[side];
        if (s.in == s.out) return;
        for (int head = heads.first; head < heads.end; head += heads.step)
          store_pack<N>(out(s) + head * s.out_head_stride + rest_first + item * N,
                        load_pack<N>(in(s) + head * s.in_head_stride + rest_first + item * N));
      });
  }
}

}  // namespace aiter

#define AITER_ROTARY_EMBEDDING(row, aligned, T)                                         \
  AITER_KERNEL(rotary_embedding_##row##_##T, 256)(const aiter::RotaryEmbeddingArgs a) { \
    aiter::wait_for_previous_kernel();                                                  \
    aiter::rotary_embedding<aiter::T, aligned>(a);                                      \
  }
AITER_ROTARY_EMBEDDING(hip_vec, true, f32)
AITER_ROTARY_EMBEDDING(hip_vec, true, f16)
AITER_ROTARY_EMBEDDING(hip_vec, true, bf16)
AITER_ROTARY_EMBEDDING(hip_any, false, f32)
AITER_ROTARY_EMBEDDING(hip_any, false, f16)
AITER_ROTARY_EMBEDDING(hip_any, false, bf16)
