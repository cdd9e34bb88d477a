// Rows of paged_attention_decode.
//
// cpu_rows goes through the keys once. Vectors lie along head_dim; the heads of a group take each
// row of K and V from a register. A task has all heads over a range of keys, so that memory is read
// in the order in which tokens lie there. cpu_tiles, the kernel of prefill, has the heads across the
// lanes, which pays from about nine heads a group on.
#include "ops/attention/paged_attention_decode/paged_attention_decode_args.h"
#include "simd/attention.h"
#include "simd/parallel.h"
#include "simd/scratch.h"

namespace aiter::AITER_ISA {
namespace {

constexpr int kTile = 64;                 // keys; a multiple of kLanes
constexpr int64_t kTileBytes = 64 << 10;  // keys and values of all heads: two tiles are in use
constexpr int kHeads = 4;                 // heads at a time
constexpr int kCols = AITER_ISA_LEVEL == 2 ? 4 : 2;  // vectors of the sums over v at a time

AITER_INLINE int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Lane i of the result is the sum of the lanes of v[i].
AITER_INLINE Vec reduce_each(const Vec (&v)[kLanes]) {
#if AITER_ISA_LEVEL == 2
  __m512 t[8];
  for (int i = 0; i < 8; ++i)
    t[i] = _mm512_add_ps(_mm512_unpacklo_ps(v[2 * i].v, v[2 * i + 1].v),
                         _mm512_unpackhi_ps(v[2 * i].v, v[2 * i + 1].v));
  for (int i = 0; i < 4; ++i)
    t[i] = _mm512_add_ps(_mm512_shuffle_ps(t[2 * i], t[2 * i + 1], 0x44),
                         _mm512_shuffle_ps(t[2 * i], t[2 * i + 1], 0xee));
  for (int i = 0; i < 2; ++i)
    t[i] = _mm512_add_ps(_mm512_shuffle_f32x4(t[2 * i], t[2 * i + 1], 0x44),
                         _mm512_shuffle_f32x4(t[2 * i], t[2 * i + 1], 0xee));
  return {_mm512_add_ps(_mm512_shuffle_f32x4(t[0], t[1], 0x88),
                        _mm512_shuffle_f32x4(t[0], t[1], 0xdd))};
#elif AITER_ISA_LEVEL == 1
  __m256 t[4];
  for (int i = 0; i < 4; ++i) t[i] = _mm256_hadd_ps(v[2 * i].v, v[2 * i + 1].v);
  const __m256 low = _mm256_hadd_ps(t[0], t[1]), high = _mm256_hadd_ps(t[2], t[3]);
  return {_mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20),
                        _mm256_permute2f128_ps(low, high, 0x31))};
#else
  Vec r;
  for (int i = 0; i < kLanes; ++i) r.v[i] = reduce_add(v[i]);
  return r;
#endif
}

// Fetches rows to come, in the order in which they lie in memory: the heads of a token, then the next
// token. Hardware does not, as a head's rows lie apart. Where too many fetches are under way they are
// dropped; so the row that comes next is fetched again. (Beyond the caches this is 2.5 times the
// speed of no fetches, on Zen 5.)
struct Ahead {
  const void* const* rows;  // of head 0
  int count;                // of tokens
  int64_t step;             // from head to head, in bytes
  int64_t end;              // step * kv_heads
  int token = 0;
  int64_t offset = 0;

  // The part of a row that `now` points to in the row at work. kBytes: its size, where known.
  template <int kBytes = 0>
  AITER_INLINE void fetch(const void* now, int64_t begin, int64_t size) {
    const char* next = static_cast<const char*>(now) + step;
    const char* later = static_cast<const char*>(rows[token]) + offset + begin;
    if constexpr (kBytes > 0) size = kBytes;
#pragma GCC unroll 8
    for (int64_t i = 0; i < size; i += 64) {
      __builtin_prefetch(next + i);
      __builtin_prefetch(later + i);
    }
    offset += step;
    if (offset != end) return;
    offset = 0;
    if (token + 1 < count) ++token;
  }
};

// The two products, on vectors of f32. T is the dtype of k and v.
template <class T>
struct MathF32 {
  using Kv = T;
  using Q = float;

  // s[head][key] = dot(q[head], k[key]); n is a multiple of kLanes. D is head_dim, or 0 for any.
  template <int H, int D>
  static AITER_INLINE void dot_rows(const void* const* k, int n, const Q* q, int64_t q_width,
                                    int64_t head_dim, float* s, Ahead& ahead_) {
    Ahead ahead = ahead_;
    for (int j = 0; j < n; j += kLanes) {
      Vec products[H][kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const T* row = static_cast<const T*>(k[j + i]);
        ahead.fetch<D * sizeof(T)>(row, 0, head_dim * sizeof(T));
        Vec acc[H];
        if constexpr (D > 0) {
#pragma GCC unroll 16
          for (int c = 0; c < D / kLanes; ++c) {
            const Vec x = load(row + c * kLanes);
#pragma GCC unroll 4
            for (int h = 0; h < H; ++h) {
              const Vec y = load(q + h * q_width + c * kLanes);
              acc[h] = c == 0 ? x * y : fma(x, y, acc[h]);
            }
          }
        } else {
          for (int h = 0; h < H; ++h) acc[h] = zero();
          for_lanes(head_dim, [&](int64_t d, int lanes) {
            const Vec x = load_some(row + d, lanes);
            for (int h = 0; h < H; ++h) acc[h] = fma(x, load(q + h * q_width + d), acc[h]);
          });
        }
#pragma GCC unroll 4
        for (int h = 0; h < H; ++h) products[h][i] = acc[h];
      }
      for (int h = 0; h < H; ++h) store(s + h * kTile + j, reduce_each(products[h]));
    }
    ahead_ = ahead;
  }

  static AITER_INLINE void store_weights(float* p, int j, Vec x) { store(p + j, x); }

  // o[head] = o[head] * alpha[head] + sum over keys of p[head][key] * v[key]
  template <int H>
  static AITER_INLINE void add_rows(const void* const* v, int n, const float* p, const Vec* alpha,
                                    int64_t o_width, int64_t v_dim, float* o, Ahead& ahead_) {
    Ahead ahead = ahead_;
    auto columns = [&]<int C>(Constant<C>, int64_t d, int lanes) {
      ahead = ahead_;
      Vec acc[H][C];
      for (int h = 0; h < H; ++h)
        for (int c = 0; c < C; ++c) acc[h][c] = load(o + h * o_width + d + c * kLanes) * alpha[h];
      for (int j = 0; j < n; ++j) {
        const T* row = static_cast<const T*>(v[j]) + d;
        ahead.fetch<C * kLanes * sizeof(T)>(row, d * sizeof(T), 0);
        Vec x[C];
        for (int c = 0; c < C; ++c) x[c] = load_some(row + c * kLanes, lanes);
        for (int h = 0; h < H; ++h) {
          const Vec weight = set1(p[h * kTile + j]);
          for (int c = 0; c < C; ++c) acc[h][c] = fma(weight, x[c], acc[h][c]);
        }
      }
      for (int h = 0; h < H; ++h)
        for (int c = 0; c < C; ++c) store(o + h * o_width + d + c * kLanes, acc[h][c]);
    };
    int64_t d = 0;
    for (; d + kCols * kLanes <= v_dim; d += kCols * kLanes) columns(Constant<kCols>{}, d, kLanes);
    for_lanes(v_dim - d, [&](int64_t i, int lanes) { columns(Constant<1>{}, d + i, lanes); });
    ahead_ = ahead;
  }
};

#if AITER_ISA_LEVEL == 2
// The same on pairs of bf16: no conversion, and half the instructions. Weights are rounded to bf16.
struct MathBF16 {
  using Kv = bf16;
  using Q = bf16;

  static AITER_INLINE __m512i load_pairs(const bf16* p, int64_t left) {
    const __mmask32 mask = left >= 32 ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
    return _mm512_maskz_loadu_epi16(mask, p);
  }

  template <int H, int D>
  static AITER_INLINE void dot_rows(const void* const* k, int n, const Q* q, int64_t q_width,
                                    int64_t head_dim, float* s, Ahead& ahead_) {
    Ahead ahead = ahead_;
    const int64_t dim = D > 0 ? D : head_dim;
    for (int j = 0; j < n; j += kLanes) {
      Vec products[H][kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const bf16* row = static_cast<const bf16*>(k[j + i]);
        ahead.fetch<D * sizeof(bf16)>(row, 0, head_dim * sizeof(bf16));
        __m512 acc[H];
        for (int h = 0; h < H; ++h) acc[h] = _mm512_setzero_ps();
#pragma GCC unroll 4
        for (int64_t d = 0; d < dim; d += 32) {
          const __m512i x = D > 0 ? _mm512_loadu_si512(row + d) : load_pairs(row + d, dim - d);
#pragma GCC unroll 4
          for (int h = 0; h < H; ++h)
            acc[h] = _mm512_dpbf16_ps(acc[h], (__m512bh)x,
                                      (__m512bh)_mm512_loadu_si512(q + h * q_width + d));
        }
#pragma GCC unroll 4
        for (int h = 0; h < H; ++h) products[h][i] = {acc[h]};
      }
      for (int h = 0; h < H; ++h) store(s + h * kTile + j, reduce_each(products[h]));
    }
    ahead_ = ahead;
  }

  // The first half of p[0, kTile) takes them: weights are stored after the scores were read.
  static AITER_INLINE void store_weights(float* p, int j, Vec x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(reinterpret_cast<bf16*>(p) + j),
                        (__m256i)_mm512_cvtneps_pbh(x.v));
  }

  template <int H>
  static AITER_INLINE void add_rows(const void* const* v, int n, const float* p, const Vec* alpha,
                                    int64_t o_width, int64_t v_dim, float* o, Ahead& ahead_) {
    Ahead ahead = ahead_;
    const __m512i low = interleave_low(), high = interleave_high();
    auto columns = [&]<int C>(Constant<C>, int64_t d) {  // C times 32 elements
      ahead = ahead_;
      __m512 acc[H][2 * C];
      for (int h = 0; h < H; ++h)
        for (int c = 0; c < 2 * C; ++c)
          acc[h][c] = (load(o + h * o_width + d + c * kLanes) * alpha[h]).v;
      for (int j = 0; j < n; j += 2) {
        const bf16* even = static_cast<const bf16*>(v[j]) + d;
        const bf16* odd = static_cast<const bf16*>(v[j + 1]) + d;
        ahead.fetch<C * 64>(even, d * sizeof(bf16), 0);
        ahead.fetch<C * 64>(odd, d * sizeof(bf16), 0);
        __m512i x[2 * C];
        for (int c = 0; c < C; ++c) {
          const int64_t left = C > 1 ? 32 : v_dim - d;
          const __m512i a = load_pairs(even + 32 * c, left);
          const __m512i b = j + 1 < n ? load_pairs(odd + 32 * c, left) : _mm512_setzero_si512();
          x[2 * c] = _mm512_permutex2var_epi16(a, low, b);
          x[2 * c + 1] = _mm512_permutex2var_epi16(a, high, b);
        }
        for (int h = 0; h < H; ++h) {
          const __m512i weights = _mm512_castps_si512(set1(p[h * kTile + j / 2]).v);
          for (int c = 0; c < 2 * C; ++c)
            acc[h][c] = _mm512_dpbf16_ps(acc[h][c], (__m512bh)x[c], (__m512bh)weights);
        }
      }
      for (int h = 0; h < H; ++h)
        for (int c = 0; c < 2 * C; ++c) store(o + h * o_width + d + c * kLanes, Vec{acc[h][c]});
    };
    int64_t d = 0;
    for (; d + 64 <= v_dim; d += 64) columns(Constant<2>{}, d);
    for (; d < v_dim; d += 32) columns(Constant<1>{}, d);
    ahead_ = ahead;
  }
};
#endif

// Sums over a range of the keys of one sequence, for all heads.
struct State {
  float* top;  // (q_heads): the largest score, in base 2
  float* sum;  // (q_heads): of 2^(score - top)
  float* o;    // (q_heads, o_width)
};

// Rows of keys and values.
struct Tile {
  int n;
  const void *k[kTile], *v[kTile];
};

struct Layout {
  int64_t q_width, o_width;
  int64_t q, s;   // offsets in floats, in the working memory of a thread
  int64_t bytes;  // of it
  int64_t state;  // floats of a State
  int64_t tile;   // keys

  explicit Layout(const AttentionArgs& a) {
    q_width = round_up(a.head_dim, 32), o_width = round_up(a.v_dim, 32);
    q = 0;
    s = round_up(a.q_heads * q_width, 16);
    bytes = round_up((s + kHeads * kTile) * 4, 64);
    state = round_up(2 * a.q_heads, 16) + round_up(a.q_heads * o_width, 16);
    const int64_t size = a.kv_dtype == DType::kF32 ? 4 : 2;
    tile = kTile;
    while (tile > 16 && tile * a.kv_heads * (a.head_dim + a.v_dim) * size > kTileBytes) tile /= 2;
  }
  State state_at(const AttentionArgs& a, float* p) const {
    return {p, p + a.q_heads, p + round_up(2 * a.q_heads, 16)};
  }
};

// H heads from `head` on, over a tile of their keys. factor: of the products, to base 2 or soft_cap.
template <class Math, int H, int D>
void run_tile(const AttentionArgs& a, const Layout& layout, const Tile& tile,
              const typename Math::Q* q, float factor, float* s, int64_t head, const State& state,
              Ahead& k_ahead, Ahead& v_ahead) {
  const int n = tile.n, padded = static_cast<int>(round_up(n, kLanes));
  Math::template dot_rows<H, D>(tile.k, padded, q + head * layout.q_width, layout.q_width,
                                a.head_dim, s, k_ahead);
  Vec alpha[H];
  for (int h = 0; h < H; ++h) {
    float* row = s + h * kTile;
    float &state_top = state.top[head + h], &state_sum = state.sum[head + h];
    Vec top = set1(state_top);
    for (int j = 0; j < n; j += kLanes) {
      Vec x = load(row + j) * set1(factor);
      if (a.soft_cap != 0) x = tanh(x) * set1(a.soft_cap * kLog2E);
      store(row + j, x);
      if (n - j < kLanes) {  // the last key again: without weight
        for (int i = n; i < padded; ++i) row[i] = -kInf;
        x = load(row + j);
      }
      top = max(top, x);
    }
    const float largest = reduce_max(top), base = largest == -kInf ? 0 : largest;
    Vec total = zero();
    for (int j = 0; j < n; j += kLanes) {
      const Vec p = exp2_of_negative(load(row + j) - set1(base));
      Math::store_weights(row, j, p);
      total = total + p;
    }
    alpha[h] = exp2_of_negative(set1(state_top - base));
    state_sum = state_sum * first_lane(alpha[h]) + reduce_add(total);
    state_top = largest;
  }
  Math::template add_rows<H>(tile.v, n, s, alpha, layout.o_width, a.v_dim,
                             state.o + head * layout.o_width, v_ahead);
}

// The positions [begin, end) in the list of the sequence's visible keys.
template <class Math>
void run_range(const AttentionArgs& a, const Layout& layout, int64_t b, int64_t begin, int64_t end,
               uint8_t* memory, const State& state) {
  using Q = typename Math::Q;
  const int64_t size = sizeof(typename Math::Kv);
  const AttentionSequence seq = attention_sequence(a, b);
  const VisibleKeys keys = visible_keys(a, seq, 0, 0);
  float* floats = reinterpret_cast<float*>(memory);
  Q* q = reinterpret_cast<Q*>(floats + layout.q);
  float* s = floats + layout.s;
  const int64_t group = a.q_heads / a.kv_heads;
  const float factor = a.soft_cap != 0 ? a.scale / a.soft_cap : a.scale * kLog2E;
  with_float_type(a.dtype, [&]<class T>(T) {
    for (int64_t h = 0; h < a.q_heads; ++h) {
      const T* row = static_cast<const T*>(a.q) + row_offset(a, a.q_strides, b, 0, h);
      for (int64_t d = 0; d < layout.q_width; d += kLanes) {
        const int64_t left = a.head_dim - d;
        const int lanes = left < 0 ? 0 : left < kLanes ? static_cast<int>(left) : kLanes;
        store(q + h * layout.q_width + d, load_some(row + d, lanes));
      }
    }
  });
  for (int64_t h = 0; h < a.q_heads; ++h) state.top[h] = -kInf, state.sum[h] = 0;
  memset(state.o, 0, a.q_heads * layout.o_width * sizeof(float));

  // Tile by tile, and the heads of each; meanwhile the next tile is fetched.
  Tile tile, next, of_head;  // the first two of head 0
  auto find = [&](Tile& tile, int64_t at) {
    int64_t key = at, n = keys.sinks - at;
    if (at >= keys.sinks) key = at - keys.sinks + keys.begin, n = keys.end - key;
    if (n > end - at) n = end - at;
    if (n > layout.tile) n = layout.tile;
    tile.n = static_cast<int>(n);
    if (n > 0) find_rows(a, seq, b, 0, key, n, tile.k, tile.v);
  };
  const int64_t k_step = a.k_strides.head * size, v_step = a.v_strides.head * size;
  find(tile, begin);
  for (int64_t at = begin; at < end; tile = next) {
    at += tile.n;
    find(next, at);
    const Tile& fetched = next.n > 0 ? next : tile;
    Ahead k_ahead{fetched.k, fetched.n, k_step, k_step * a.kv_heads};
    Ahead v_ahead{fetched.v, fetched.n, v_step, v_step * a.kv_heads};
    of_head.n = tile.n;
    for (int64_t g = 0; g < a.kv_heads; ++g) {
      for (int j = 0; j < tile.n; ++j) {
        of_head.k[j] = static_cast<const char*>(tile.k[j]) + g * k_step;
        of_head.v[j] = static_cast<const char*>(tile.v[j]) + g * v_step;
      }
      for (int64_t j = tile.n; j < round_up(tile.n, kLanes); ++j)
        of_head.k[j] = of_head.k[tile.n - 1], of_head.v[j] = of_head.v[tile.n - 1];
      for (int64_t i = 0; i < group; i += kHeads)
        with_constant<kHeads>(group - i, [&]<int H>(Constant<H>) {
          auto run = [&]<int D>(Constant<D>) {
            run_tile<Math, H, D>(a, layout, of_head, q, factor, s, g * group + i, state, k_ahead,
                                 v_ahead);
          };
          if (a.head_dim == 64)
            run(Constant<64>{});
          else if (a.head_dim == 128)
            run(Constant<128>{});
          else
            run(Constant<0>{});
        });
    }
  }
}

// Adds `other` to `state`.
void merge(const AttentionArgs& a, const Layout& layout, const State& state, const State& other) {
  for (int64_t h = 0; h < a.q_heads; ++h) {
    const float top = other.top[h] > state.top[h] ? other.top[h] : state.top[h];
    const float base = top == -kInf ? 0 : top;
    const float keep = __builtin_exp2f(state.top[h] - base);
    const float take = __builtin_exp2f(other.top[h] - base);
    state.top[h] = top;
    state.sum[h] = state.sum[h] * keep + other.sum[h] * take;
    float* o = state.o + h * layout.o_width;
    for (int64_t d = 0; d < layout.o_width; d += kLanes)
      store(o + d, load(o + d) * set1(keep) + load(other.o + h * layout.o_width + d) * set1(take));
  }
}

void finish(const AttentionArgs& a, const Layout& layout, int64_t b, const State& state) {
  with_float_type(a.dtype, [&]<class T>(T) {
    for (int64_t h = 0; h < a.q_heads; ++h) {
      const Denominator z = denominator(a, h, state.top[h], state.sum[h]);
      T* row = static_cast<T*>(a.out) + row_offset(a, a.out_strides, b, 0, h);
      for_lanes(a.v_dim, [&](int64_t d, int lanes) {
        store_some(row + d, load(state.o + h * layout.o_width + d) * set1(z.factor), lanes);
      });
      if (a.lse) a.lse[b * a.lse_batch + h * a.lse_head] = z.lse;
    }
  });
}

}  // namespace

void paged_attention_decode_cpu_rows(const PagedAttentionDecodeArgs& a) {
  if (a.batch == 0 || a.q_heads == 0) return;
  const Layout layout(a);
  auto count = [&](int64_t b) {
    const VisibleKeys keys = visible_keys(a, attention_sequence(a, b), 0, 0);
    return keys.sinks + keys.end - keys.begin;
  };
  int64_t longest = 0;
  double rows = 0;  // of K and V
  for (int64_t b = 0; b < a.batch; ++b) {
    const int64_t n = count(b);
    if (n > longest) longest = n;
    rows += static_cast<double>(n) * a.kv_heads;
  }
  // Split the keys of each sequence when there are few: into parts of at least 128.
  const int64_t threads = rows * (a.head_dim + a.v_dim) < 65536 ? 1 : num_threads();
  int64_t splits = 1;
  if (threads > 1 && a.batch < 4 * threads) {
    splits = (4 * threads + a.batch - 1) / a.batch;
    if (splits > longest / 128) splits = longest / 128;
    if (splits < 1) splits = 1;
  }
  const int64_t states = splits > 1 ? a.batch * splits : threads;
  uint8_t* memory = scratch(layout.bytes * threads + states * layout.state * 4);
  float* floats = reinterpret_cast<float*>(memory + layout.bytes * threads);
  auto run = [&](int64_t task, int thread) {
    const int64_t b = task / splits, split = task % splits, n = count(b);
    const State state = layout.state_at(a, floats + (splits > 1 ? task : thread) * layout.state);
    auto range = [&]<class Math>(Math) {
      run_range<Math>(a, layout, b, n * split / splits, n * (split + 1) / splits,
                      memory + thread * layout.bytes, state);
    };
#if AITER_ISA_LEVEL == 2
    if (a.dtype == DType::kBF16)
      range(MathBF16{});
    else
#endif
      with_float_type(a.kv_dtype, [&]<class T>(T) { range(MathF32<T>{}); });
    if (splits == 1) finish(a, layout, b, state);
  };
  if (threads == 1)
    for (int64_t task = 0; task < a.batch; ++task) run(task, 0);
  else
    parallel_tasks(a.batch * splits, [&](int64_t task, int thread) { run(task, thread); });
  if (splits == 1) return;
  for (int64_t b = 0; b < a.batch; ++b) {
    float* first = floats + b * splits * layout.state;
    for (int64_t i = 1; i < splits; ++i)
      merge(a, layout, layout.state_at(a, first), layout.state_at(a, first + i * layout.state));
    finish(a, layout, b, layout.state_at(a, first));
  }
}

void paged_attention_decode_cpu_tiles(const PagedAttentionDecodeArgs& a) { attention_tiles(a); }

void paged_attention_decode_cpu_ref(const PagedAttentionDecodeArgs& a) { attention_plain(a); }

}  // namespace aiter::AITER_ISA
