#include "ops/rope/rotary_embedding/rotary_embedding_args.h"
#include "simd/cache.h"
#include "simd/parallel.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

int64_t position(const RotaryEmbeddingArgs& a, int64_t token) {
  const int64_t i = a.positions_rows.offset(token);
  return a.positions_dtype == DType::kI32 ? static_cast<const int32_t*>(a.positions)[i]
                                          : static_cast<const int64_t*>(a.positions)[i];
}

// The dimensions of a head that do not turn.
template <class T>
void copy_rest(const RotaryEmbeddingArgs& a, const T* in, T* out) {
  const int64_t turning = 2 * a.pairs, begin = a.nope_first ? 0 : turning;
  if (in != out && turning < a.head_size)
    memcpy(out + begin, in + begin, (a.head_size - turning) * sizeof(T));
}

// Pairs whose cos and sin are held as floats while all heads of a token turn.
constexpr int kChunk = 256;

// (a, b) -> (a, b) * (cos, cos) + (b, a) * (-sin, sin), for neighbours a, b
template <class T>
AITER_INLINE void turn_neighbours(const T* in, T* out, const float* cos, const float* sin,
                                  int64_t count, bool streamed) {
  auto turn = [](Vec x, Vec c, Vec s) { return fma(swap_pairs(x), s, x * c); };
  map_lanes(out, count, streamed, turn, NothingAhead{}, in, cos, sin);
}

// The same for a, b that are `half` apart; out may be in.
template <class T>
AITER_INLINE void turn_halves(const T* in, T* out, const float* cos, const float* sin,
                              int64_t count, int64_t half, bool streamed) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    const Pair x = load_pair<false>(in + i), y = load_pair<false>(in + half + i);
    const Pair c = load_pair<false>(cos + i), s = load_pair<false>(sin + i);
    store_pair<false>(out + i, {x.a * c.a - y.a * s.a, x.b * c.b - y.b * s.b}, streamed);
    store_pair<false>(out + half + i, {fma(x.a, s.a, y.a * c.a), fma(x.b, s.b, y.b * c.b)},
                      streamed);
  }
  for_lanes(count - i, [&](int64_t j, int n) {
    const Vec x = load_some(in + i + j, n), y = load_some(in + half + i + j, n);
    const Vec c = load_some(cos + i + j, n), s = load_some(sin + i + j, n);
    store_some(out + i + j, x * c - y * s, n);
    store_some(out + half + i + j, fma(x, s, y * c), n);
  });
}

template <class T, class C>
void turn_tokens(const RotaryEmbeddingArgs& a, const bool (&streamed)[2], int64_t begin,
                 int64_t end) {
  alignas(64) float cos[2 * kChunk], sin[2 * kChunk];
  const int64_t first = a.nope_first ? a.head_size - 2 * a.pairs : 0;
  for (int64_t t = begin; t < end; ++t) {
    const int64_t row = position(a, t);
    const C* cos_row = static_cast<const C*>(a.cos) + row * a.cos_stride;
    const C* sin_row = static_cast<const C*>(a.sin) + row * a.sin_stride;
    for (int64_t p0 = 0; p0 < a.pairs || p0 == 0; p0 += kChunk) {
      const int64_t pairs = a.pairs - p0 < kChunk ? a.pairs - p0 : kChunk;
      if (a.interleaved) {
        for (int64_t p = 0; p < pairs; ++p) {
          cos[2 * p] = cos[2 * p + 1] = to_float(cos_row[p0 + p]);
          sin[2 * p + 1] = to_float(sin_row[p0 + p]);
          sin[2 * p] = -sin[2 * p + 1];
        }
      } else {
        for_lanes(pairs, [&](int64_t p, int n) {
          store_some(cos + p, load_some(cos_row + p0 + p, n), n);
          store_some(sin + p, load_some(sin_row + p0 + p, n), n);
        });
      }
      for (int side = 0; side < a.side_count; ++side) {
        const RopeHeads& s = a.sides[side];
        const T* in_token = static_cast<const T*>(s.in) + s.in_tokens.offset(t);
        T* out_token = static_cast<T*>(s.out) + s.out_tokens.offset(t);
        for (int64_t h = 0; h < s.heads; ++h) {
          const T* in = in_token + h * s.in_head_stride;
          T* out = out_token + h * s.out_head_stride;
          if (p0 == 0) copy_rest(a, in, out);
          // Some heads ahead, as heads are not read in the order of memory.
          if (streamed[side]) prefetch<false>(in + 4096 / sizeof(T), static_cast<int>(a.head_size));
          if (a.interleaved)
            turn_neighbours(in + first + 2 * p0, out + first + 2 * p0, cos, sin, 2 * pairs,
                            streamed[side]);
          else
            turn_halves(in + first + p0, out + first + p0, cos, sin, pairs, a.pairs,
                        streamed[side]);
        }
      }
    }
  }
  if (streamed[0] || streamed[1]) stream_fence();
}

// Whether to write past the caches: a large output other than the input, and every half of a head a
// whole number of cache lines.
template <class T>
bool is_streamed(const RotaryEmbeddingArgs& a, const RopeHeads& s) {
  const int64_t line = 64 / sizeof(T);
  const int64_t steps = s.out_tokens.outer_stride | s.out_tokens.inner_stride | s.out_head_stride |
                        a.head_size | (a.interleaved ? 2 * a.pairs : a.pairs);
  return s.out != s.in && steps % line == 0 && reinterpret_cast<uintptr_t>(s.out) % 64 == 0 &&
         worth_streaming(s.out, a.tokens * s.heads * a.head_size * sizeof(T), sizeof(T));
}

template <class T, class C>
void turn_plain(const RotaryEmbeddingArgs& a) {
  const int64_t first = a.nope_first ? a.head_size - 2 * a.pairs : 0;
  for (int side = 0; side < a.side_count; ++side) {
    const RopeHeads& s = a.sides[side];
    for (int64_t t = 0; t < a.tokens; ++t) {
      const int64_t row = position(a, t);
      for (int64_t h = 0; h < s.heads; ++h) {
        const T* in = static_cast<const T*>(s.in) + s.in_tokens.offset(t) + h * s.in_head_stride;
        T* out = static_cast<T*>(s.out) + s.out_tokens.offset(t) + h * s.out_head_stride;
        copy_rest(a, in, out);
        for (int64_t p = 0; p < a.pairs; ++p) {
          const int64_t i = first + (a.interleaved ? 2 * p : p);
          const int64_t j = i + (a.interleaved ? 1 : a.pairs);
          const float c = to_float(static_cast<const C*>(a.cos)[row * a.cos_stride + p]);
          const float s = to_float(static_cast<const C*>(a.sin)[row * a.sin_stride + p]);
          const float x = to_float(in[i]), y = to_float(in[j]);
          out[i] = from_float<T>(x * c - y * s);
          out[j] = from_float<T>(y * c + x * s);
        }
      }
    }
  }
}

// Calls f(T{}, C{}) with the types of the heads and of the caches.
template <class F>
void with_types(const RotaryEmbeddingArgs& a, F&& f) {
  with_float_type(a.dtype, [&](auto t) {
    if (a.cache_dtype == DType::kF32)
      f(t, float{});
    else
      f(t, t);
  });
}

}  // namespace

void rotary_embedding_cpu_simd(const RotaryEmbeddingArgs& a) {
  with_types(a, [&]<class T, class C>(T, C) {
    const int64_t elements = (a.sides[0].heads + a.sides[1].heads) * a.head_size;
    const int64_t grain = 16384 / (elements + 1) + 1;  // tokens worth a thread of their own
    const bool streamed[2] = {is_streamed<T>(a, a.sides[0]),
                              a.side_count > 1 && is_streamed<T>(a, a.sides[1])};
    parallel_for(a.tokens, grain,
                 [&](int64_t begin, int64_t end) { turn_tokens<T, C>(a, streamed, begin, end); });
  });
}

void rotary_embedding_cpu_ref(const RotaryEmbeddingArgs& a) {
  with_types(a, [&]<class T, class C>(T, C) { turn_plain<T, C>(a); });
}

}  // namespace aiter::AITER_ISA
