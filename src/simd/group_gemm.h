// The kernels of gemm_a16w4 and gemm_a16w8: one set, over the weight format and over how x is taken.
//
// x is prepared in blocks of kBlockRows rows, interleaved so that a tile reads one stream of it; the
// weights are read as packed panels of 16 rows (row-major weights are packed on the way, a pair of
// panels at a time). A tile is (up to 4 rows of x) x (1 or 2 panels) over the whole of K.
#pragma once

#include "ops/gemm/group_gemm.h"
#include "simd/gate.h"
#include "simd/gemm_output.h"
#include "simd/parallel.h"
#include "simd/scratch.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {

// ---- weight formats -----------------------------------------------------------------------------

// kWords: uint32 per row and group. k_of_slot: the k (within a group) whose code is met as number
// `slot` when a row's words are taken word by word, part by part, byte by byte.
struct Weight4 {
  static constexpr int kWords = 4;
  static constexpr int kParts = 2;  // the low halves of a word's bytes, then the high ones
  static constexpr bool kHasMin = true;
  static constexpr uint32_t kPackXor = 0;
  static constexpr int kOffset = 0;  // what packing adds to a code
  static constexpr int k_of_slot(int slot) { return slot / 8 * 8 + slot % 4 * 2 + slot / 4 % 2; }
  static int code(const uint8_t* row, int64_t k) { return row[k / 2] >> (k % 2 * 4) & 15; }
};

struct Weight8 {
  static constexpr int kWords = 8;
  static constexpr int kParts = 1;
  static constexpr bool kHasMin = false;
  static constexpr uint32_t kPackXor = 0x80808080u;
  static constexpr int kOffset = 128;
  static constexpr int k_of_slot(int slot) { return slot; }
  static int code(const uint8_t* row, int64_t k) { return static_cast<int8_t>(row[k]); }
};

template <class W>
struct Layout {
  static constexpr int kCodeBytes = W::kWords * kPanelRows * 4;  // of a block
  int64_t scale_bytes;                                           // of one number
  int64_t block_bytes;
  int64_t panel_bytes;

  Layout(DType scale_dtype, int64_t k)
      : scale_bytes(scale_dtype == DType::kF32 ? 4 : 2),
        block_bytes(kCodeBytes + kPanelRows * scale_bytes * (W::kHasMin ? 2 : 1)),
        panel_bytes(k / kGroup * block_bytes) {}
};

// One panel of row-major weights, from row n on; rows past the last are zero.
template <class W>
inline void pack_panel(const GroupWeight& w, int64_t n, uint8_t* panel) {
  const Layout<W> layout(w.scale_dtype, w.k);
  const int rows = w.n - n < kPanelRows ? static_cast<int>(w.n - n) : kPanelRows;
  const int64_t groups = w.k / kGroup, scale_bytes = layout.scale_bytes;
  if (rows < kPanelRows) memset(panel, 0, layout.panel_bytes);
  for (int64_t g = 0; g < groups; ++g) {
    uint8_t* block = panel + g * layout.block_bytes;
    for (int r = 0; r < rows; ++r) {
      const uint8_t* codes = w.codes + (n + r) * w.codes_stride + g * W::kWords * 4;
      for (int j = 0; j < W::kWords; ++j) {
        uint32_t word;
        memcpy(&word, codes + 4 * j, 4);
        word ^= W::kPackXor;
        memcpy(block + (j * kPanelRows + r) * 4, &word, 4);
      }
      uint8_t* scales = block + layout.kCodeBytes + r * scale_bytes;
      const int64_t s = ((n + r) * w.scale_stride + g) * scale_bytes;
      memcpy(scales, static_cast<const uint8_t*>(w.scale) + s, scale_bytes);
      if (W::kHasMin) {
        const int64_t m = ((n + r) * w.min_stride + g) * scale_bytes;
        uint8_t* mins = scales + kPanelRows * scale_bytes;
        if (w.min)
          memcpy(mins, static_cast<const uint8_t*>(w.min) + m, scale_bytes);
        else
          memset(mins, 0, scale_bytes);
      }
    }
  }
}

template <class W>
inline void unpack_panel(const GroupWeight& w, int64_t n, const uint8_t* panel) {
  const Layout<W> layout(w.scale_dtype, w.k);
  const int64_t scale_bytes = layout.scale_bytes;
  auto out = [](const void* p) { return static_cast<uint8_t*>(const_cast<void*>(p)); };
  for (int64_t g = 0; g < w.k / kGroup; ++g) {
    const uint8_t* block = panel + g * layout.block_bytes;
    for (int r = 0; r < kPanelRows && n + r < w.n; ++r) {
      for (int j = 0; j < W::kWords; ++j) {
        uint32_t word;
        memcpy(&word, block + (j * kPanelRows + r) * 4, 4);
        word ^= W::kPackXor;
        memcpy(out(w.codes) + (n + r) * w.codes_stride + (g * W::kWords + j) * 4, &word, 4);
      }
      const uint8_t* scales = block + layout.kCodeBytes + r * scale_bytes;
      memcpy(out(w.scale) + ((n + r) * w.scale_stride + g) * scale_bytes, scales, scale_bytes);
      if (w.min)
        memcpy(out(w.min) + ((n + r) * w.min_stride + g) * scale_bytes,
               scales + kPanelRows * scale_bytes, scale_bytes);
    }
  }
}

template <class W>
inline void group_pack(const GroupPackArgs& a) {
  const int64_t panel_bytes = Layout<W>(a.w.scale_dtype, a.w.k).panel_bytes;
  uint8_t* panels = a.packed + sizeof(PackedHead);
  if (!a.unpack) memcpy(a.packed, &a.head, sizeof(PackedHead));
  parallel_for(a.head.padded_n / kPanelRows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      if (a.unpack)
        unpack_panel<W>(a.w, p * kPanelRows, panels + p * panel_bytes);
      else
        pack_panel<W>(a.w, p * kPanelRows, panels + p * panel_bytes);
    }
  });
}

// ---- x as it is: weights become floats ----------------------------------------------------------

constexpr int kBlockRows = 4;

// kLanes words, each shifted right and masked, as floats.
AITER_INLINE Vec code_lanes(const uint8_t* words, int shift, uint32_t mask) {
#if AITER_ISA_LEVEL == 2
  const __m512i w = _mm512_srl_epi32(_mm512_loadu_si512(words), _mm_cvtsi32_si128(shift));
  return {_mm512_cvtepi32_ps(_mm512_and_si512(w, _mm512_set1_epi32(static_cast<int>(mask))))};
#elif AITER_ISA_LEVEL == 1
  const __m256i w = _mm256_srl_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)),
                                     _mm_cvtsi32_si128(shift));
  return {_mm256_cvtepi32_ps(_mm256_and_si256(w, _mm256_set1_epi32(static_cast<int>(mask))))};
#else
  IntV w;
  memcpy(&w, words, sizeof(w));
  return {__builtin_convertvector(w >> shift & static_cast<int32_t>(mask), FloatV)};
#endif
}

struct FloatActivation {
  static constexpr int kGroupBytes = kGroup * kBlockRows * 4;  // x[slot][row], of a block

  // Group g of `rows` rows of x from row m on.
  template <class W, class T>
  static void prepare(const GroupGemmArgs& a, int64_t m, int rows, int64_t g, uint8_t* out) {
    float* to = reinterpret_cast<float*>(out);
    for (int r = 0; r < rows; ++r) {
      const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(m + r) + g * kGroup;
      float floats[kGroup];
      for (int i = 0; i < kGroup; i += kLanes) store(floats + i, load(x + i));
      for (int s = 0; s < kGroup; ++s) to[s * kBlockRows + r] = floats[W::k_of_slot(s)];
    }
  }

  // c[r][p * 16 + i]: row r of x times row i of panel p.
  template <class W, int R, int P>
  static void tile(const uint8_t* panels, const Layout<W>& layout, DType scale_dtype,
                   const uint8_t* x_block, int64_t groups, float* c) {
    constexpr int V = kPanelRows / kLanes;
    constexpr uint32_t kMask = W::kParts == 2 ? 15 : 255;
    for (int p = 0; p < P; ++p, panels += layout.panel_bytes) {
      Vec y[R][V];
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) y[r][v] = zero();
      const uint8_t* block = panels;
      const float* x = reinterpret_cast<const float*>(x_block);
      for (int64_t g = 0; g < groups; ++g, block += layout.block_bytes, x += kGroup * kBlockRows) {
        const uint8_t* scales = block + layout.kCodeBytes;
        const uint8_t* mins = scales + kPanelRows * layout.scale_bytes;
        Vec scale[V], min[V];
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) {
          scale[v] = load_as(scales, v * kLanes, scale_dtype);
          min[v] = W::kHasMin ? load_as(mins, v * kLanes, scale_dtype) : zero();
        }
        for (int s = 0; s < kGroup; s += 4) {
          const int word = s / 4 / W::kParts, part = s / 4 % W::kParts;
#pragma GCC unroll 4
          for (int b = 0; b < 4; ++b) {
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) {
              const Vec code =
                  code_lanes(block + (word * kPanelRows + v * kLanes) * 4, 8 * b + 4 * part, kMask);
              const Vec w =
                  W::kHasMin ? fma(code, scale[v], min[v]) : (code - set1(W::kOffset)) * scale[v];
#pragma GCC unroll 4
              for (int r = 0; r < R; ++r)
                y[r][v] = fma(w, set1(x[(s + b) * kBlockRows + r]), y[r][v]);
            }
          }
        }
      }
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store(c + (r * P + p) * kPanelRows + v * kLanes, y[r][v]);
    }
  }
};

// ---- x as 16-bit integers times a scale: two planes of bytes for the 8-bit dot product ----------
#if AITER_ISA_LEVEL == 2

// A group of a row of x is d * q with |q| <= 32639 = 127 * 257, d = its largest |x| / 32639, and
// q = 256 * hi + lo with signed bytes hi and lo. vpdpbusd multiplies them with the unsigned codes,
// sums exactly, and takes no longer than a 16-bit product would: sum code * q is exact in 32 bits.
struct PlanesActivation {
  struct Group {                          // of a block
    int8_t bytes[kBlockRows][2][kGroup];  // hi, lo; in the order of the slots
    float d[kBlockRows];
    union {
      float sum[kBlockRows];       // of d * q: what a minimum is multiplied with
      int32_t offset[kBlockRows];  // -kOffset * sum of q: undoes the offset of the codes
    };
  };
  static constexpr int kGroupBytes = sizeof(Group);

  template <class W, class T>
  static void prepare(const GroupGemmArgs& a, int64_t m, int rows, int64_t g, uint8_t* out) {
    Group& to = *reinterpret_cast<Group*>(out);
    for (int r = 0; r < rows; ++r) {
      const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(m + r) + g * kGroup;
      const Vec x0 = load(x), x1 = load(x + kLanes);
      // Compared as integers, NaN and infinity come out on top.
      const __m512i magnitude =
          _mm512_max_epi32(_mm512_castps_si512(abs(x0).v), _mm512_castps_si512(abs(x1).v));
      const float largest = __builtin_bit_cast(float, _mm512_reduce_max_epi32(magnitude));
      const bool finite = largest <= 0x1.fffffep127f;
      // 32639 / largest would overflow for the smallest numbers: those are scaled up first.
      const float up = largest < 0x1p-100f ? 0x1p100f : 1.0f;
      const float to_q = finite && largest > 0 ? 32639.0f / (largest * up) : 0.0f;
      const auto quantize = [&](Vec v) {
        v = v * set1(up) * set1(to_q);
        return finite ? _mm512_cvtps_epi32(v.v) : _mm512_setzero_si512();
      };
      const __m512i q0 = quantize(x0), q1 = quantize(x1);
      const auto bytes = [](__m512i q0, __m512i q1) {
        __m256i b = _mm256_set_m128i(_mm512_cvtepi32_epi8(q1), _mm512_cvtepi32_epi8(q0));
        if (W::kParts == 2)
          b = _mm256_shuffle_epi8(b, _mm256_broadcastsi128_si256(_mm_setr_epi8(
                                         0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15)));
        return b;
      };
      const auto high = [](__m512i q) {
        return _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(128)), 8);
      };
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.bytes[r][0]), bytes(high(q0), high(q1)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.bytes[r][1]), bytes(q0, q1));
      const int32_t sum = _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1));
      const float d = finite ? largest / 32639.0f : __builtin_nanf("");
      to.d[r] = d;
      if (W::kOffset != 0)
        to.offset[r] = -W::kOffset * sum;
      else
        to.sum[r] = d * static_cast<float>(sum);
    }
  }

  template <class W, int R, int P>
  static void tile(const uint8_t* panels, const Layout<W>& layout, DType scale_dtype,
                   const uint8_t* x_block, int64_t groups, float* c) {
    __m512 y[P][R];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) y[p][r] = _mm512_setzero_ps();
    const uint8_t* block = panels;
    const Group* x = reinterpret_cast<const Group*>(x_block);
    const __m512i low_half = _mm512_set1_epi8(15);
    for (int64_t g = 0; g < groups; ++g, block += layout.block_bytes, ++x) {
      // The panels after these: the hardware's own prefetch reaches 60 to 80 % of the read rate.
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p)
        for (int i = 0; i < layout.kCodeBytes + 64; i += 64)
          _mm_prefetch(block + (P + p) * layout.panel_bytes + i, _MM_HINT_T0);
      __m512i hi[P][R], lo[P][R];
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          hi[p][r] = _mm512_setzero_si512();
          lo[p][r] = W::kOffset != 0 ? _mm512_set1_epi32(x->offset[r]) : _mm512_setzero_si512();
        }
#pragma GCC unroll 8
      for (int s = 0; s < kGroup / 4; ++s) {
        __m512i codes[P];
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          const uint8_t* at = block + p * layout.panel_bytes + s / W::kParts * kPanelRows * 4;
          codes[p] = _mm512_loadu_si512(at);
          if (W::kParts == 2) {
            if (s % 2) codes[p] = _mm512_srli_epi16(codes[p], 4);
            codes[p] = _mm512_and_si512(codes[p], low_half);
          }
        }
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          int32_t word[2];
          memcpy(&word[0], &x->bytes[r][0][4 * s], 4);
          memcpy(&word[1], &x->bytes[r][1][4 * s], 4);
          const __m512i h = _mm512_set1_epi32(word[0]), l = _mm512_set1_epi32(word[1]);
#pragma GCC unroll 2
          for (int p = 0; p < P; ++p) {
            hi[p][r] = _mm512_dpbusd_epi32(hi[p][r], codes[p], h);
            lo[p][r] = _mm512_dpbusd_epi32(lo[p][r], codes[p], l);
          }
        }
      }
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const uint8_t* scales = block + p * layout.panel_bytes + layout.kCodeBytes;
        const Vec scale = load_as(scales, 0, scale_dtype);
        const Vec min = W::kHasMin ? load_as(scales, kPanelRows, scale_dtype) : zero();
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(hi[p][r], 8), lo[p][r]);
          const Vec t = Vec{_mm512_cvtepi32_ps(sum)} * set1(x->d[r]);
          y[p][r] = fma(t, scale, Vec{y[p][r]}).v;
          if (W::kHasMin) y[p][r] = fma(min, set1(x->sum[r]), Vec{y[p][r]}).v;
        }
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) _mm512_storeu_ps(c + (r * P + p) * kPanelRows, y[p][r]);
  }
};
#endif

// ---- the driver ---------------------------------------------------------------------------------

template <class W, class A, int P>
inline void run_tile(int rows, const uint8_t* panels, const Layout<W>& layout, DType scale_dtype,
                     const uint8_t* x_block, int64_t groups, float* c) {
  switch (rows) {
    case 1:
      return A::template tile<W, 1, P>(panels, layout, scale_dtype, x_block, groups, c);
    case 2:
      return A::template tile<W, 2, P>(panels, layout, scale_dtype, x_block, groups, c);
    case 3:
      return A::template tile<W, 3, P>(panels, layout, scale_dtype, x_block, groups, c);
    default:
      return A::template tile<W, 4, P>(panels, layout, scale_dtype, x_block, groups, c);
  }
}

template <class W, class A>
inline void group_gemm(const GroupGemmArgs& a) {
  const int64_t m_total = a.x_rows.count, groups = a.w.k / kGroup;
  if (m_total == 0 || a.w.n == 0) return;
  const Layout<W> layout(a.w.scale_dtype, a.w.k);
  const GemmOutput out{a.y, a.y_rows, a.y_dtype, a.bias, a.bias_dtype};

  // Rows of x in one pass: what is prepared stays in the L2 cache.
  constexpr int64_t kPassBytes = 384 << 10;
  const int64_t block_bytes = groups * A::kGroupBytes;
  const int64_t all_blocks = (m_total + kBlockRows - 1) / kBlockRows;
  int64_t pass_blocks = block_bytes ? kPassBytes / block_bytes : all_blocks;
  pass_blocks = pass_blocks < 1 ? 1 : pass_blocks < all_blocks ? pass_blocks : all_blocks;

  const int threads = num_threads();
  const bool pack = !a.w.panels;
  const int64_t pairs = (a.w.n + 2 * kPanelRows - 1) / (2 * kPanelRows);
  const int64_t pair_bytes = (2 * layout.panel_bytes + 63) / 64 * 64;
  const int64_t x_bytes = (pass_blocks * block_bytes + 63) / 64 * 64;
  uint8_t* const memory = scratch(x_bytes + (pack ? threads * pair_bytes : 0));

  for (int64_t first = 0; first < all_blocks; first += pass_blocks) {
    const int64_t blocks = all_blocks - first < pass_blocks ? all_blocks - first : pass_blocks;
    const auto rows_of = [&](int64_t block) {
      const int64_t left = m_total - block * kBlockRows;
      return left < kBlockRows ? static_cast<int>(left) : kBlockRows;
    };

    // Tasks are handed out in order: first those that prepare x, then those that use it.
    const int64_t units = blocks * groups;
    // About 20 us of work to a task, but no fewer tasks than threads when there is enough to share.
    const int64_t pair_cost = 2 * layout.panel_bytes * (4 + blocks * kBlockRows) / 4;
    int64_t tasks = pairs * pair_cost / (256 << 10);
    if (tasks < threads && pairs * pair_cost > (24 << 10)) tasks = threads;
    tasks = tasks < 1 ? 1 : tasks > pairs ? pairs : tasks;
    int64_t prepare_tasks = units / 16 + 1;
    if (prepare_tasks > threads) prepare_tasks = threads;
    if (tasks == 1) prepare_tasks = 0;  // one task does it all
    Gate prepared{static_cast<int>(prepare_tasks)};

    const auto prepare = [&](int64_t begin, int64_t end) {
      with_float_type(a.x_dtype, [&]<class T>(T) {
        for (int64_t u = begin; u < end; ++u) {
          const int64_t block = first + u / groups;
          A::template prepare<W, T>(a, block * kBlockRows, rows_of(block), u % groups,
                                    memory + u * A::kGroupBytes);
        }
      });
    };
    const auto multiply = [&](int64_t begin, int64_t end, int thread) {
      uint8_t* const packed = memory + x_bytes + thread * pair_bytes;
      for (int64_t pair = begin; pair < end; ++pair) {
        const int64_t n = pair * 2 * kPanelRows;
        const int64_t cols = a.w.n - n < 2 * kPanelRows ? a.w.n - n : 2 * kPanelRows;
        const bool both = cols > kPanelRows;
        const uint8_t* panels = packed;
        if (pack) {
          pack_panel<W>(a.w, n, packed);
          if (both) pack_panel<W>(a.w, n + kPanelRows, packed + layout.panel_bytes);
        } else {
          panels = a.w.panels + pair * 2 * layout.panel_bytes;
        }
        for (int64_t b = 0; b < blocks; ++b) {
          alignas(64) float c[kBlockRows * 2 * kPanelRows];
          const int rows = rows_of(first + b);
          const uint8_t* x = memory + b * block_bytes;
          if (both)
            run_tile<W, A, 2>(rows, panels, layout, a.w.scale_dtype, x, groups, c);
          else
            run_tile<W, A, 1>(rows, panels, layout, a.w.scale_dtype, x, groups, c);
          write_tile(out, (first + b) * kBlockRows, rows, n, cols, c,
                     both ? 2 * kPanelRows : kPanelRows);
        }
      }
    };

    parallel_tasks(prepare_tasks + tasks, [&](int64_t task, int thread) {
      if (prepare_tasks == 0) prepare(0, units);
      if (task < prepare_tasks) {
        prepare(units * task / prepare_tasks, units * (task + 1) / prepare_tasks);
        prepared.arrive();
        return;
      }
      prepared.wait();
      task -= prepare_tasks;
      multiply(pairs * task / tasks, pairs * (task + 1) / tasks, thread);
    });
  }
}

// Plain loops, in float64.
template <class W>
inline void group_gemm_plain(const GroupGemmArgs& a) {
  const GroupWeight& w = a.w;
  const Layout<W> layout(w.scale_dtype, w.k);
  const auto weight = [&](int64_t n, int64_t k) {
    const int64_t g = k / kGroup;
    if (!w.panels) {
      const double code = W::code(w.codes + n * w.codes_stride, k);
      const double min = w.min ? scalar_as(w.min, n * w.min_stride + g, w.scale_dtype) : 0;
      return code * scalar_as(w.scale, n * w.scale_stride + g, w.scale_dtype) + min;
    }
    const int64_t r = n % kPanelRows;
    const uint8_t* block = w.panels + n / kPanelRows * layout.panel_bytes + g * layout.block_bytes;
    uint32_t words[W::kWords];
    for (int j = 0; j < W::kWords; ++j) {
      memcpy(&words[j], block + (j * kPanelRows + r) * 4, 4);
      words[j] ^= W::kPackXor;
    }
    const double code = W::code(reinterpret_cast<const uint8_t*>(words), k % kGroup);
    const uint8_t* scales = block + layout.kCodeBytes;
    const double min = W::kHasMin ? scalar_as(scales, kPanelRows + r, w.scale_dtype) : 0;
    return code * scalar_as(scales, r, w.scale_dtype) + min;
  };
  const GemmOutput out{a.y, a.y_rows, a.y_dtype, a.bias, a.bias_dtype};
  for (int64_t m = 0; m < a.x_rows.count; ++m)
    for (int64_t n = 0; n < w.n; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < w.k; ++k)
        sum += weight(n, k) * scalar_as(a.x, a.x_rows.offset(m) + k, a.x_dtype);
      const float c = static_cast<float>(sum);
      write_tile(out, m, 1, n, 1, &c, 1);
    }
}

}  // namespace aiter::AITER_ISA
