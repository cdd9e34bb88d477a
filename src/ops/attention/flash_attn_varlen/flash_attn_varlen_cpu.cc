// Rows of flash_attn_varlen and flash_attn, which also serve as rows of paged_attention_decode.
//
// cpu_tiles is FlashAttention with the scores transposed. A block of query rows lies across the
// lanes of the vectors and keys go down, so that
//   - the elements of K and V are broadcast from where they are, and need no transposing;
//   - maxima, sums and exponentials of the softmax are plain vertical vector operations;
//   - each lane has its own bounds on the keys that it sees.
// The rows of a block are pairs (query, head of one group), so that all heads that share K and V
// read them once, and few queries with many heads still fill the lanes.
#include "ops/attention/flash_attn_varlen/flash_attn_varlen_args.h"
#include "simd/attention.h"
#include "simd/parallel.h"
#include "simd/scratch.h"

namespace aiter::AITER_ISA {
namespace {

// v[i][j] <-> v[j][i]
AITER_INLINE void transpose(Vec (&v)[kLanes]) {
#if AITER_ISA_LEVEL == 2
  __m512 t[16];
  for (int i = 0; i < 16; i += 4) {
    const __m512 a = _mm512_unpacklo_ps(v[i].v, v[i + 1].v);
    const __m512 b = _mm512_unpackhi_ps(v[i].v, v[i + 1].v);
    const __m512 c = _mm512_unpacklo_ps(v[i + 2].v, v[i + 3].v);
    const __m512 d = _mm512_unpackhi_ps(v[i + 2].v, v[i + 3].v);
    t[i] = _mm512_shuffle_ps(a, c, 0x44);
    t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
    t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
    t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
  }
  // t[4 g + e] has, in its 128-bit part p, elements 4 p + e of rows 4 g to 4 g + 3.
  for (int e = 0; e < 4; ++e) {
    const __m512 a = _mm512_shuffle_f32x4(t[e], t[4 + e], 0x88);
    const __m512 b = _mm512_shuffle_f32x4(t[8 + e], t[12 + e], 0x88);
    const __m512 c = _mm512_shuffle_f32x4(t[e], t[4 + e], 0xdd);
    const __m512 d = _mm512_shuffle_f32x4(t[8 + e], t[12 + e], 0xdd);
    v[e].v = _mm512_shuffle_f32x4(a, b, 0x88);
    v[8 + e].v = _mm512_shuffle_f32x4(a, b, 0xdd);
    v[4 + e].v = _mm512_shuffle_f32x4(c, d, 0x88);
    v[12 + e].v = _mm512_shuffle_f32x4(c, d, 0xdd);
  }
#else
  float m[kLanes][kLanes], t[kLanes][kLanes];
  for (int i = 0; i < kLanes; ++i) store(m[i], v[i]);
  for (int i = 0; i < kLanes; ++i)
    for (int j = 0; j < kLanes; ++j) t[j][i] = m[i][j];
  for (int i = 0; i < kLanes; ++i) v[i] = load(t[i]);
#endif
}

// ---- what is multiplied: 32-bit units of one f32, or of two bf16 --------------------------------

struct DotF32 {
  static constexpr int kPack = 1;
  static AITER_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return fma(a, b, c); }
};

#if AITER_ISA_LEVEL == 2
struct DotBF16 {
  static constexpr int kPack = 2;
  static AITER_INLINE Vec multiply_add(Vec a, Vec b, Vec c) {
    return {_mm512_dpbf16_ps(c.v, (__m512bh)a.v, (__m512bh)b.v)};
  }
};
#endif

// Registers decide: accumulators of kRows x cols vectors, beside cols + 1 operands.
constexpr int kMaxCols = AITER_ISA_LEVEL == 2 ? 4 : 2;
constexpr int rows_of(int cols) {
  return AITER_ISA_LEVEL == 2 ? (cols == 4 ? 6 : cols == 3 ? 8 : 12) : 6;
}
constexpr int kMaxRows = 12;
constexpr int kBlock = kMaxCols * kLanes;  // query rows
constexpr int kTile = 96;                  // keys; a multiple of 12

AITER_INLINE int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// ---- one block of query rows ---------------------------------------------------------------------

// A block, and the part of its tiles of keys that one task goes through.
struct Block {
  AttentionSequence seq;
  int64_t b, kv_head;
  int64_t row;  // the first; row r is query r / group of head kv_head * group + r % group
  int rows;
  VisibleKeys keys;
  int64_t tile_begin, tile_end;
};

// The working memory of one thread, and its layout. Units are 4 bytes.
struct Layout {
  int64_t units;    // of a row of Q and K
  int64_t v_width;  // of a row of V, in units
  int64_t o_rows;
  int64_t q, k, v, s, o;  // offsets in floats
  int64_t pointers;       // offset in bytes
  int64_t bytes;

  Layout(const AttentionArgs& a, int pack) {
    units = (a.head_dim + pack - 1) / pack;
    v_width = round_up(a.v_dim, kLanes);
    o_rows = v_width + kMaxRows;
    int64_t n = 0;
    auto take = [&](int64_t floats) {
      const int64_t at = n;
      n += round_up(floats, 16);
      return at;
    };
    q = take(units * kBlock);
    k = take(kTile * round_up(units, kLanes));
    v = take(kTile / pack * v_width + kMaxRows);
    s = take(kTile * kBlock);
    o = take(o_rows * kBlock);
    pointers = n * 4;
    bytes = round_up(pointers + 4 * kTile * static_cast<int64_t>(sizeof(void*)), 64);
  }
};

// What a task leaves of a block whose keys are split: maxima, sums, then O.
AITER_INLINE int64_t partial_floats(const AttentionArgs& a) {
  return (2 + round_up(a.v_dim, kLanes)) * kBlock;
}

// Lanes of `rows`, transposed: q[unit][row]. Rows past the end are zero.
template <class Dot, int C, class T>
void pack_q(const AttentionArgs& a, const Block& block, int64_t units, float* q) {
  const int64_t group = a.q_heads / a.kv_heads;
  for (int c = 0; c < C; ++c) {
    const T* rows[kLanes];
    int n = block.rows - c * kLanes;
    if (n > kLanes) n = kLanes;
    for (int i = 0; i < n; ++i) {
      const int64_t r = block.row + c * kLanes + i;
      rows[i] = static_cast<const T*>(a.q) + row_offset(a, a.q_strides, block.b,
                                                        block.seq.q_begin + r / group,
                                                        block.kv_head * group + r % group);
    }
    for_lanes(units, [&](int64_t u, int lanes) {
      Vec v[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        v[i] = zero();
        if (i >= n) continue;
        if constexpr (Dot::kPack == 1) {
          v[i] = load_some(rows[i] + u, lanes);
        } else {
#if AITER_ISA_LEVEL == 2
          int64_t left = a.head_dim - 2 * u;  // halves
          if (left > 32) left = 32;
          const __mmask32 mask = static_cast<__mmask32>((uint64_t{1} << left) - 1);
          v[i] = {_mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, rows[i] + 2 * u))};
#endif
        }
      }
      transpose(v);
      for (int i = 0; i < lanes; ++i) store(q + ((u + i) * C + c) * kLanes, v[i]);
    });
  }
}

// Rows as 32-bit units: K where it is, or converted to `copy`; V always in `v_copy`, with the pairs
// of bf16 taken from two keys.
template <class Dot, class T>
void stage(const AttentionArgs& a, const Layout& layout, int n, const void** k, const void** v,
           float* k_copy, float* v_copy) {
  if constexpr (Dot::kPack == 1) {
    if constexpr (sizeof(T) != sizeof(float)) {
      for (int j = 0; j < n; ++j) {
        float* row = k_copy + j * layout.units;
        for_lanes(a.head_dim, [&](int64_t d, int lanes) {
          store_some(row + d, load_some(static_cast<const T*>(k[j]) + d, lanes), lanes);
        });
        k[j] = row;
      }
    }
    for (int j = 0; j < n; ++j)
      for_lanes(a.v_dim, [&](int64_t d, int lanes) {
        store(v_copy + j * layout.v_width + d, load_some(static_cast<const T*>(v[j]) + d, lanes));
      });
  } else {
#if AITER_ISA_LEVEL == 2
    if (a.head_dim % 2)
      for (int j = 0; j < n; ++j) {
        float* row = k_copy + j * layout.units;
        row[layout.units - 1] = 0;
        memcpy(row, k[j], a.head_dim * sizeof(T));
        k[j] = row;
      }
    const __m512i low = interleave_low(), high = interleave_high();
    for (int j = 0; j < n; j += 2) {
      float* to = v_copy + j / 2 * layout.v_width;
      const T* even = static_cast<const T*>(v[j]);
      const T* odd = j + 1 < n ? static_cast<const T*>(v[j + 1]) : nullptr;
      for (int64_t d = 0; d < a.v_dim; d += 32) {
        const int64_t left = a.v_dim - d;
        const __mmask32 mask = left >= 32 ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
        const __m512i x = _mm512_maskz_loadu_epi16(mask, even + d);
        const __m512i y = odd ? _mm512_maskz_loadu_epi16(mask, odd + d) : _mm512_setzero_si512();
        _mm512_storeu_si512(to + d, _mm512_permutex2var_epi16(x, low, y));
        if (left > 16) _mm512_storeu_si512(to + d + 16, _mm512_permutex2var_epi16(x, high, y));
      }
    }
#endif
  }
}

// The bounds of each row, as positions in a tile.
template <int C>
struct Bounds {
  Vec begin[C], end[C];
  int sinks;  // positions below are not bounded by `begin`
};

// The rows of the next tile, fetched while this one is in work: they lie apart, as other heads are
// between them, which hardware does not foresee.
struct Ahead {
  const void* const* rows;  // of K, and kTile further of V
  int n;
  int64_t k_bytes, v_bytes;

  AITER_INLINE void fetch(int begin, int end) const {
    for (int j = begin; j < end && j < n; ++j) {
      for (int64_t i = 0; i < k_bytes; i += 64)
        __builtin_prefetch(static_cast<const char*>(rows[j]) + i);
      for (int64_t i = 0; i < v_bytes; i += 64)
        __builtin_prefetch(static_cast<const char*>(rows[kTile + j]) + i);
    }
  }
};

struct Scores {
  float scale;      // of the products, to base 2 or to soft_cap
  float soft_cap2;  // soft cap in base 2, or 0
};

// s[key][row] = the scores of a tile in base 2, and maxima over its keys.
template <class Dot, int C>
AITER_INLINE void score(const void* const* k, int n, const float* q, int64_t units,
                        const Scores& scores, const Bounds<C>* bounds, const Ahead& ahead, float* s,
                        Vec (&top)[C]) {
  constexpr int R = rows_of(C);
  const Vec scale = set1(scores.scale);
  for (int j = 0; j < n; j += R) {
    if constexpr (C < kMaxCols) ahead.fetch(j, j + R);  // full blocks reuse each row enough
    const float* rows[R];
    for (int r = 0; r < R; ++r) rows[r] = static_cast<const float*>(k[j + r]);
    Vec acc[R][C];
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) acc[r][c] = zero();
    const float* qu = q;
    for (int64_t u = 0; u < units; ++u, qu += C * kLanes) {
      Vec b[C];
      for (int c = 0; c < C; ++c) b[c] = load(qu + c * kLanes);
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const Vec x = set1(rows[r][u]);
        for (int c = 0; c < C; ++c) acc[r][c] = Dot::multiply_add(x, b[c], acc[r][c]);
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      if (j + r >= n) break;
      const Vec at = set1(static_cast<float>(j + r));
      for (int c = 0; c < C; ++c) {
        Vec x = acc[r][c] * scale;
        if (scores.soft_cap2 != 0) x = tanh(x) * set1(scores.soft_cap2);
        if (bounds) {
          x = select_lt(at, bounds->end[c], x, set1(-kInf));
          if (j + r >= bounds->sinks) x = select_lt(at, bounds->begin[c], set1(-kInf), x);
        }
        top[c] = max(top[c], x);
        store(s + ((j + r) * C + c) * kLanes, x);
      }
    }
  }
}

AITER_INLINE Vec finite_max(Vec m) {  // -infinity, of rows that have seen no key, -> 0
  return select_lt(m, set1(-3e38f), zero(), m);
}

// Scores -> weights exp2(s - m), packed as 32-bit units over the keys in place; and their sums.
template <class Dot, int C>
AITER_INLINE void softmax(float* s, int n, const Vec (&m)[C], Vec (&sum)[C]) {
  for (int c = 0; c < C; ++c) {
    Vec total = zero(), total2 = zero();
    const Vec top = m[c];
    auto weight = [&](int j) { return exp2_of_negative(load(s + (j * C + c) * kLanes) - top); };
    if constexpr (Dot::kPack == 1) {
      for (int j = 0; j < n; ++j) {
        const Vec p = weight(j);
        total = total + p;
        store(s + (j * C + c) * kLanes, p);
      }
    } else {
#if AITER_ISA_LEVEL == 2
      const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
      const __m512i half = _mm512_set1_epi32(0x8000);
      for (int j = 0; j < n; j += 2) {
        const Vec x = weight(j), y = j + 1 < n ? weight(j + 1) : zero();
        total = total + x;
        total2 = total2 + y;
        // Rounded to nearest; halves away from zero.
        const __m512i lo = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(x.v), half), 16);
        const __m512i hi = _mm512_add_epi32(_mm512_castps_si512(y.v), half);
        const __m512i pair = _mm512_ternarylogic_epi32(hi, upper, lo, 0xea);  // (hi & upper) | lo
        store(s + (j / 2 * C + c) * kLanes, Vec{_mm512_castsi512_ps(pair)});
      }
#endif
    }
    sum[c] = total + total2;
  }
}

// o[d][row] = o[d][row] * alpha[row] + sum over keys of v[key][d] * p[key][row]
template <class Dot, int C>
AITER_INLINE void accumulate(const float* v, int64_t v_width, const float* p, int64_t steps,
                             int64_t v_dim, const Vec (&alpha)[C], float* o) {
  constexpr int R = rows_of(C);
  for (int64_t d = 0; d < v_dim; d += R) {
    Vec acc[R][C];
    float* od = o + d * C * kLanes;
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) acc[r][c] = load(od + (r * C + c) * kLanes) * alpha[c];
    const float* vd = v + d;
    const float* pu = p;
    for (int64_t u = 0; u < steps; ++u, vd += v_width, pu += C * kLanes) {
      Vec b[C];
      for (int c = 0; c < C; ++c) b[c] = load(pu + c * kLanes);
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const Vec x = set1(vd[r]);
        for (int c = 0; c < C; ++c) acc[r][c] = Dot::multiply_add(x, b[c], acc[r][c]);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) store(od + (r * C + c) * kLanes, acc[r][c]);
  }
}

// Divides by the denominators and writes out and lse.
template <int C, class T>
void finish_as(const AttentionArgs& a, const Block& block, const float* max2, const float* sum,
               const float* o) {
  const int64_t group = a.q_heads / a.kv_heads;
  for (int c = 0; c < C; ++c) {
    int n = block.rows - c * kLanes;
    if (n > kLanes) n = kLanes;
    T* rows[kLanes];
    float factor[kLanes] = {};
    for (int i = 0; i < n; ++i) {
      const int64_t r = block.row + c * kLanes + i;
      const int64_t token = block.seq.q_begin + r / group, head = block.kv_head * group + r % group;
      rows[i] = static_cast<T*>(a.out) + row_offset(a, a.out_strides, block.b, token, head);
      const Denominator z = denominator(a, head, max2[c * kLanes + i], sum[c * kLanes + i]);
      factor[i] = z.factor;
      if (a.lse) a.lse[block.b * a.lse_batch + head * a.lse_head + token] = z.lse;
    }
    const Vec scale = load(factor);
    for_lanes(a.v_dim, [&](int64_t d, int lanes) {
      Vec v[kLanes];
      for (int i = 0; i < kLanes; ++i) v[i] = load(o + ((d + i) * C + c) * kLanes) * scale;
      transpose(v);
      for (int i = 0; i < n; ++i) store_some(rows[i] + d, v[i], lanes);
    });
  }
}

template <int C>
void finish(const AttentionArgs& a, const Block& block, const float* max2, const float* sum,
            const float* o) {
  with_float_type(a.dtype, [&]<class T>(T) { finish_as<C, T>(a, block, max2, sum, o); });
}

// Runs a block over its tiles. `partial` is null when these are all of them.
template <class Dot, int C>
void run_block(const AttentionArgs& a, const Block& block, const Layout& layout, char* memory,
               float* partial) {
  float* base = reinterpret_cast<float*>(memory);
  float *q = base + layout.q, *s = base + layout.s, *o = base + layout.o;
  const void** k = reinterpret_cast<const void**>(memory + layout.pointers);
  const void** next = k + 2 * kTile;
  const int64_t group = a.q_heads / a.kv_heads, shift = block.seq.k_len - block.seq.q_len;
  if constexpr (Dot::kPack == 2)
    pack_q<Dot, C, bf16>(a, block, layout.units, q);
  else
    with_float_type(a.dtype, [&]<class T>(T) { pack_q<Dot, C, T>(a, block, layout.units, q); });
  for (int64_t i = 0; i < layout.o_rows * C; ++i) store(o + i * kLanes, zero());
  Vec m[C], sum[C];
  for (int c = 0; c < C; ++c) m[c] = set1(-kInf), sum[c] = zero();

  Scores scores{a.scale * kLog2E, 0};
  if (a.soft_cap != 0) scores = {a.scale / a.soft_cap, a.soft_cap * kLog2E};
  const int64_t sink_tiles = (block.keys.sinks + kTile - 1) / kTile;
  const int64_t first_position = block.row / group + shift;
  const int64_t last_position = (block.row + block.rows - 1) / group + shift;
  struct Span {
    int64_t first;
    int n;
  };
  auto find = [&](int64_t t, const void** rows) -> Span {
    if (t >= block.tile_end) return {0, 0};
    int64_t first = t * kTile, end = block.keys.sinks;
    if (t >= sink_tiles) {
      first = block.keys.begin + (t - sink_tiles) * kTile;
      end = block.keys.end;
    }
    const int64_t n = end - first < kTile ? end - first : kTile;
    find_rows(a, block.seq, block.b, block.kv_head, first, n, rows, rows + kTile);
    return {first, static_cast<int>(n)};
  };
  const int64_t size = a.kv_dtype == DType::kF32 ? 4 : 2;
  Span span = find(block.tile_begin, k);
  for (int64_t t = block.tile_begin; t < block.tile_end; ++t) {
    const int64_t first = span.first;
    const int n = span.n;
    const void** v = k + kTile;
    span = find(t + 1, next);
    const Ahead ahead{next, span.n, a.head_dim * size, a.v_dim * size};
    if constexpr (Dot::kPack == 2)
      stage<Dot, bf16>(a, layout, n, k, v, base + layout.k, base + layout.v);
    else
      with_float_type(a.kv_dtype, [&]<class T>(T) {
        stage<Dot, T>(a, layout, n, k, v, base + layout.k, base + layout.v);
      });
    for (int j = n; j < kTile && j < n + kMaxRows; ++j) k[j] = k[n - 1];  // computed, not used

    Bounds<C> bounds;
    const bool bounded = first + n > first_position + a.right + 1 ||
                         (first < last_position - a.left && first + n > a.sink_tokens);
    if (bounded) {
      auto position = [&](int64_t key) {
        const int64_t at = key - first;
        return static_cast<float>(at < 0 ? 0 : at > n ? n : at);
      };
      bounds.sinks = static_cast<int>(position(a.sink_tokens));
      for (int c = 0; c < C; ++c) {
        float begins[kLanes], ends[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          const int64_t p = (block.row + c * kLanes + i) / group + shift;
          begins[i] = position(p - a.left);
          ends[i] = position(p + a.right + 1);
        }
        bounds.begin[c] = load(begins), bounds.end[c] = load(ends);
      }
    }
    Vec top[C], alpha[C], base_max[C], more[C];
    for (int c = 0; c < C; ++c) top[c] = m[c];
    score<Dot, C>(k, n, q, layout.units, scores, bounded ? &bounds : nullptr, ahead, s, top);
    for (int c = 0; c < C; ++c) {
      base_max[c] = finite_max(top[c]);
      alpha[c] = exp2_of_negative(m[c] - base_max[c]);
      m[c] = top[c];
    }
    softmax<Dot, C>(s, n, base_max, more);
    for (int c = 0; c < C; ++c) sum[c] = fma(sum[c], alpha[c], more[c]);
    accumulate<Dot, C>(base + layout.v, layout.v_width, s, (n + Dot::kPack - 1) / Dot::kPack,
                       a.v_dim, alpha, o);
    const void** used = k;
    k = next, next = used;
  }

  float stats[2][C * kLanes];
  float *max2 = stats[0], *sums = stats[1];
  if (partial) max2 = partial, sums = partial + C * kLanes;
  for (int c = 0; c < C; ++c) {
    store(max2 + c * kLanes, m[c]);
    store(sums + c * kLanes, sum[c]);
  }
  if (partial)
    memcpy(partial + 2 * C * kLanes, o, layout.v_width * C * kLanes * sizeof(float));
  else
    finish<C>(a, block, max2, sums, o);
}

// Adds the partial results of a block up in the first of them, and writes the block.
template <int C>
void merge_block(const AttentionArgs& a, const Block& block, float* partials, int64_t stride,
                 int64_t count) {
  constexpr int kStats = C * kLanes;
  const int64_t o_vectors = round_up(a.v_dim, kLanes) * C;
  for (int64_t i = 1; i < count; ++i) {
    const float* other = partials + i * stride;
    Vec keep[C], take[C];
    for (int c = 0; c < C; ++c) {
      const Vec m0 = load(partials + c * kLanes), m1 = load(other + c * kLanes);
      const Vec top = max(m0, m1), base = finite_max(top);
      keep[c] = exp2_of_negative(m0 - base), take[c] = exp2_of_negative(m1 - base);
      float* sum = partials + kStats + c * kLanes;
      store(sum, load(sum) * keep[c] + load(other + kStats + c * kLanes) * take[c]);
      store(partials + c * kLanes, top);
    }
    for (int64_t r = 0; r < o_vectors; r += C)
      for (int c = 0; c < C; ++c) {
        float* o = partials + 2 * kStats + (r + c) * kLanes;
        store(o, load(o) * keep[c] + load(other + 2 * kStats + (r + c) * kLanes) * take[c]);
      }
  }
  finish<C>(a, block, partials, partials + kStats, partials + 2 * kStats);
}

// ---- all blocks ----------------------------------------------------------------------------------

// Rows of q that belong to no sequence are zero, so that padding holds no stale values.
void clear_rows_outside(const AttentionArgs& a) {
  if (!a.cu_seqlens_q) return;
  const int64_t size = a.dtype == DType::kF32 ? 4 : 2;
  const int64_t begin = a.cu_seqlens_q[0], end = a.cu_seqlens_q[a.batch];
  for (int64_t t = begin > 0 ? 0 : end; t < a.total_q; t = t + 1 == begin ? end : t + 1)
    for (int64_t h = 0; h < a.q_heads; ++h) {
      memset(static_cast<char*>(a.out) + row_offset(a, a.out_strides, 0, t, h) * size, 0,
             a.v_dim * size);
      if (a.lse) a.lse[h * a.lse_head + t] = -kInf;
    }
}

// Calls f(Constant<C>{}) with the number of vectors that the block's rows fill.
template <class F>
AITER_INLINE void with_cols(const Block& block, F&& f) {
  with_constant<kMaxCols>((block.rows + kLanes - 1) / kLanes, f);
}

template <class Dot>
void run_blocks(const AttentionArgs& a) {
  clear_rows_outside(a);
  if (a.batch == 0 || a.q_heads == 0) return;
  const int64_t group = a.q_heads / a.kv_heads, threads = num_threads();
  auto blocks_of = [&](const AttentionSequence& s) {
    return (s.q_len * group + kBlock - 1) / kBlock;
  };
  int64_t max_blocks = 0, blocks = 0, max_tiles = 1;
  double work = 0;  // multiplications
  for (int64_t b = 0; b < a.batch; ++b) {
    const AttentionSequence s = attention_sequence(a, b);
    const int64_t n = blocks_of(s), tiles = (s.k_len + kTile - 1) / kTile;
    if (n > max_blocks) max_blocks = n;
    if (tiles > max_tiles) max_tiles = tiles;
    blocks += n * a.kv_heads;
    work += static_cast<double>(n) * kBlock * s.k_len * (a.head_dim + a.v_dim) * a.kv_heads;
  }
  if (blocks == 0) return;
  // Few blocks: split their keys, into as few parts as give all threads the like amount of work.
  int64_t splits = 1;
  const bool parallel = threads > 1 && work > 1e5;
  if (parallel && blocks < 4 * threads) {
    auto rounds = [&](int64_t s) { return (blocks * s + threads - 1) / threads; };
    while (splits < 2 * threads && splits < max_tiles &&
           blocks * splits * 10 < rounds(splits) * threads * 9)
      ++splits;
  }

  const Layout layout(a, Dot::kPack);
  const int64_t partial_bytes = blocks * splits * partial_floats(a) * 4;
  char* memory = reinterpret_cast<char*>(
      scratch(layout.bytes * threads + (splits > 1 ? partial_bytes + blocks * 8 : 0)));
  float* partials = reinterpret_cast<float*>(memory + layout.bytes * threads);
  int64_t* indices = reinterpret_cast<int64_t*>(memory + layout.bytes * threads + partial_bytes);

  // Blocks of one head follow each other, the last (under causal the longest) first.
  auto block_at = [&](int64_t place, int64_t split, Block& block) {
    const int64_t from_end = place % max_blocks, head = place / max_blocks;
    block.b = head / a.kv_heads, block.kv_head = head % a.kv_heads;
    block.seq = attention_sequence(a, block.b);
    const int64_t number = blocks_of(block.seq) - 1 - from_end;
    if (number < 0) return false;
    block.row = number * kBlock;
    const int64_t rows = block.seq.q_len * group - block.row;
    block.rows = static_cast<int>(rows < kBlock ? rows : kBlock);
    block.keys =
        visible_keys(a, block.seq, block.row / group, (block.row + block.rows - 1) / group);
    const int64_t tiles = (block.keys.sinks + kTile - 1) / kTile +
                          (block.keys.end - block.keys.begin + kTile - 1) / kTile;
    block.tile_begin = tiles * split / splits;
    block.tile_end = tiles * (split + 1) / splits;
    return true;
  };
  const int64_t places = max_blocks * a.batch * a.kv_heads;  // some of them empty
  auto run = [&](int64_t place, int64_t split, float* partial, int thread) {
    Block block;
    if (!block_at(place, split, block)) return;
    with_cols(block, [&]<int C>(Constant<C>) {
      run_block<Dot, C>(a, block, layout, memory + thread * layout.bytes, partial);
    });
  };
  if (!parallel) {
    for (int64_t place = 0; place < places; ++place) run(place, 0, nullptr, 0);
  } else if (splits == 1) {
    parallel_tasks(places, [&](int64_t place, int thread) { run(place, 0, nullptr, thread); });
  } else {
    Block block;
    for (int64_t place = 0, i = 0; place < places; ++place)
      if (block_at(place, 0, block)) indices[i++] = place;
    const int64_t stride = partial_floats(a);
    parallel_tasks(blocks * splits, [&](int64_t task, int thread) {
      run(indices[task / splits], task % splits, partials + task * stride, thread);
    });
    for (int64_t i = 0; i < blocks; ++i) {
      block_at(indices[i], 0, block);
      with_cols(block, [&]<int C>(Constant<C>) {
        merge_block<C>(a, block, partials + i * splits * stride, stride, splits);
      });
    }
  }
}

// ---- plain loops --------------------------------------------------------------------------------

template <class TQ, class TK>
void plain(const AttentionArgs& a) {
  clear_rows_outside(a);
  const int64_t group = a.kv_heads ? a.q_heads / a.kv_heads : 1;
  double* sums = reinterpret_cast<double*>(scratch(a.v_dim * 8 + 8));
  for (int64_t b = 0; b < a.batch; ++b) {
    const AttentionSequence seq = attention_sequence(a, b);
    for (int64_t h = 0; h < a.q_heads; ++h)
      for (int64_t i = 0; i < seq.q_len; ++i) {
        const int64_t token = seq.q_begin + i;
        const TQ* q = static_cast<const TQ*>(a.q) + row_offset(a, a.q_strides, b, token, h);
        const VisibleKeys keys = visible_keys(a, seq, i, i);
        double top = -__builtin_inf(), z = 0;
        if (a.sink) top = a.sink[h], z = 1;
        for (int64_t d = 0; d < a.v_dim; ++d) sums[d] = 0;
        for (int64_t n = 0; n < keys.sinks + keys.end - keys.begin; ++n) {
          const void *k_row, *v_row;
          find_rows(a, seq, b, h / group, n < keys.sinks ? n : n - keys.sinks + keys.begin, 1,
                    &k_row, &v_row);
          const TK *k = static_cast<const TK*>(k_row), *v = static_cast<const TK*>(v_row);
          double s = 0;
          for (int64_t d = 0; d < a.head_dim; ++d)
            s += static_cast<double>(to_float(q[d])) * to_float(k[d]);
          s *= a.scale;
          if (a.soft_cap != 0) s = a.soft_cap * __builtin_tanh(s / a.soft_cap);
          if (s == -__builtin_inf()) continue;
          if (s > top) {
            const double keep = __builtin_exp(top - s);
            z *= keep;
            for (int64_t d = 0; d < a.v_dim; ++d) sums[d] *= keep;
            top = s;
          }
          const double p = __builtin_exp(s - top);
          z += p;
          for (int64_t d = 0; d < a.v_dim; ++d) sums[d] += p * to_float(v[d]);
        }
        TQ* out = static_cast<TQ*>(a.out) + row_offset(a, a.out_strides, b, token, h);
        for (int64_t d = 0; d < a.v_dim; ++d)
          out[d] = from_float<TQ>(z == 0 ? 0 : static_cast<float>(sums[d] / z));
        if (a.lse)
          a.lse[b * a.lse_batch + h * a.lse_head + token] =
              z == 0 ? -kInf : static_cast<float>(top + __builtin_log(z));
      }
  }
}

}  // namespace

void attention_tiles(const AttentionArgs& a) {
#if AITER_ISA_LEVEL == 2
  if (a.dtype == DType::kBF16) return run_blocks<DotBF16>(a);
#endif
  run_blocks<DotF32>(a);
}

void attention_plain(const AttentionArgs& a) {
  with_float_type(a.dtype, [&]<class TQ>(TQ) {
    with_float_type(a.kv_dtype, [&]<class TK>(TK) {
      // The pairs that the contract allows.
      if constexpr (sizeof(TQ) == 4 || __is_same(TQ, TK)) plain<TQ, TK>(a);
    });
  });
}

void flash_attn_varlen_cpu_tiles(const FlashAttnVarlenArgs& a) { attention_tiles(a); }

void flash_attn_varlen_cpu_ref(const FlashAttnVarlenArgs& a) { attention_plain(a); }

}  // namespace aiter::AITER_ISA
