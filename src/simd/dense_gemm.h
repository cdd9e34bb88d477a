// The CPU GEMM over plain matrices: y = x * w^T with rows of both contiguous along k.
//
// Everything is made of 32-bit units: a float, a pair of bf16 or int16, four int8. Blocks of kRows
// rows of x and panels of up to kVecs * kLanes rows of w are repacked so that the units of one k lie
// side by side; a tile multiplies one block with one panel, a unit of k at a time. x is packed once a
// pass, by all threads together; w chunk by chunk, by the thread that uses it, into its L2 cache.
#pragma once

#include "core/rows.h"
#include "simd/gate.h"
#include "simd/gemm_output.h"
#include "simd/parallel.h"
#include "simd/scratch.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {

struct DenseOperands {
  const void* x;
  Rows x_rows;
  const void* w;
  int64_t w_stride;  // elements
  int64_t n, k;
};

// ---- units --------------------------------------------------------------------------------------

// kLanes units from row[k] on, of which `left` elements (at least 1) exist; the rest is zero. They
// travel as Vec whatever they hold.

template <class T>
struct FloatUnits {
  using Element = T;
  static constexpr int kPer = 1;  // elements in a unit
  static AITER_INLINE Vec load(const T* row, int64_t k, int64_t left) {
    return left >= kLanes ? AITER_ISA::load(row + k) : load_n(row + k, static_cast<int>(left));
  }
};

#if AITER_ISA_LEVEL == 2
struct Bf16Units {
  using Element = bf16;
  static constexpr int kPer = 2;
  static AITER_INLINE Vec load(const bf16* row, int64_t k, int64_t left) {
    const __mmask32 mask = left >= 32 ? ~0u : (1u << left) - 1;
    return {_mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, row + k))};
  }
};
// Flip 128 makes signed bytes unsigned, by adding 128.
template <uint8_t kFlip>
struct ByteUnits {
  using Element = int8_t;
  static constexpr int kPer = 4;
  static AITER_INLINE Vec load(const int8_t* row, int64_t k, int64_t left) {
    const __mmask64 mask = left >= 64 ? ~0ull : (1ull << left) - 1;
    const __m512i bytes = _mm512_maskz_loadu_epi8(mask, row + k);
    return {
        _mm512_castsi512_ps(_mm512_xor_si512(bytes, _mm512_set1_epi8(static_cast<char>(kFlip))))};
  }
};
#else
// Signed bytes as pairs of int16.
struct WordUnits {
  using Element = int8_t;
  static constexpr int kPer = 2;
  static AITER_INLINE Vec load(const int8_t* row, int64_t k, int64_t left) {
    int8_t bytes[2 * kLanes];
    if (left >= 2 * kLanes) {
      memcpy(bytes, row + k, sizeof(bytes));
    } else {
      memset(bytes, 0, sizeof(bytes));
      memcpy(bytes, row + k, left);
    }
#if AITER_ISA_LEVEL == 1
    return {_mm256_castsi256_ps(
        _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes))))};
#else
    int16_t words[2 * kLanes];
    for (int i = 0; i < 2 * kLanes; ++i) words[i] = bytes[i];
    Vec v;
    memcpy(&v, words, sizeof(v));
    return v;
#endif
  }
};
#endif

AITER_INLINE void transpose(Vec (&a)[kLanes]) {
#if AITER_ISA_LEVEL == 2
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(a[i].v, a[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(a[i].v, a[i + 1].v);
  }
  __m512 s[16];  // s[4 q + j]: column 4 lane + j of rows 4 q .. 4 q + 3
  const auto pd = [](__m512 v) { return _mm512_castps_pd(v); };
  const auto ps = [](__m512d v) { return _mm512_castpd_ps(v); };
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    s[i] = ps(_mm512_unpacklo_pd(pd(t[i]), pd(t[i + 2])));
    s[i + 1] = ps(_mm512_unpackhi_pd(pd(t[i]), pd(t[i + 2])));
    s[i + 2] = ps(_mm512_unpacklo_pd(pd(t[i + 1]), pd(t[i + 3])));
    s[i + 3] = ps(_mm512_unpackhi_pd(pd(t[i + 1]), pd(t[i + 3])));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 even0 = _mm512_shuffle_f32x4(s[j], s[4 + j], 0x88);
    const __m512 even1 = _mm512_shuffle_f32x4(s[8 + j], s[12 + j], 0x88);
    const __m512 odd0 = _mm512_shuffle_f32x4(s[j], s[4 + j], 0xdd);
    const __m512 odd1 = _mm512_shuffle_f32x4(s[8 + j], s[12 + j], 0xdd);
    a[j].v = _mm512_shuffle_f32x4(even0, even1, 0x88);
    a[4 + j].v = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
    a[8 + j].v = _mm512_shuffle_f32x4(even0, even1, 0xdd);
    a[12 + j].v = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
  }
#elif AITER_ISA_LEVEL == 1
  __m256 t[8], s[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(a[i].v, a[i + 1].v);
    t[i + 1] = _mm256_unpackhi_ps(a[i].v, a[i + 1].v);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    s[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    s[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    s[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    s[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    a[j].v = _mm256_permute2f128_ps(s[j], s[4 + j], 0x20);
    a[4 + j].v = _mm256_permute2f128_ps(s[j], s[4 + j], 0x31);
  }
#else
  for (int i = 0; i < kLanes; ++i)
    for (int j = 0; j < i; ++j) {
      const float t = a[i].v[j];  // moved, never computed with: any 32 bits survive
      a[i].v[j] = a[j].v[i];
      a[j].v[i] = t;
    }
#endif
}

// ---- products -----------------------------------------------------------------------------------

#if AITER_ISA_LEVEL == 2
constexpr int kRows = 8, kVecs = 3;
#elif AITER_ISA_LEVEL == 1
constexpr int kRows = 4, kVecs = 3;
#else
constexpr int kRows = 2, kVecs = 2;
#endif
static_assert(kLanes % kRows == 0);

AITER_INLINE Vec broadcast_unit(const uint32_t* p) {
  float f;
  memcpy(&f, p, 4);
  return set1(f);
}

struct FloatProduct {
  using Number = float;  // of the sums
  static AITER_INLINE Vec add(Vec sum, Vec w, Vec x) { return fma(w, x, sum); }
};

#if AITER_ISA_LEVEL == 2
struct Bf16Product {
  using Number = float;
  static AITER_INLINE Vec add(Vec sum, Vec w, Vec x) {
    return {_mm512_dpbf16_ps(sum.v, __m512bh(_mm512_castps_si512(w.v)),
                             __m512bh(_mm512_castps_si512(x.v)))};
  }
};
#endif

// Exact: unsigned w bytes times signed x bytes, or pairs of int16.
struct IntProduct {
  using Number = int32_t;
  static AITER_INLINE Vec add(Vec sum, Vec w, Vec x) {
#if AITER_ISA_LEVEL == 2
    return {_mm512_castsi512_ps(_mm512_dpbusd_epi32(
        _mm512_castps_si512(sum.v), _mm512_castps_si512(w.v), _mm512_castps_si512(x.v)))};
#elif AITER_ISA_LEVEL == 1
    return {_mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(sum.v),
                         _mm256_madd_epi16(_mm256_castps_si256(w.v), _mm256_castps_si256(x.v))))};
#else
    const IntV a = reinterpret_cast<IntV>(w.v), b = reinterpret_cast<IntV>(x.v);
    return {reinterpret_cast<FloatV>(reinterpret_cast<IntV>(sum.v) + (a >> 16) * (b >> 16) +
                                     (a << 16 >> 16) * (b << 16 >> 16))};
#endif
  }
};

// Rows of memory to prefetch, line by line, while tiles are computed.
struct Ahead {
  const char* at;
  int64_t lines;      // left
  int64_t row_lines;  // in a row
  int64_t skip;       // bytes from the end of a row's lines to the next row
  int64_t line;       // in the row
  int64_t pace;       // lines in 16 steps

  AITER_INLINE void next() {
    if (lines <= 0) return;
    --lines;
    __builtin_prefetch(at, 0, 2);
    at += 64;
    if (++line == row_lines) line = 0, at += skip;
  }
};

// c[r][0 .. V * kLanes) += x block * w panel over `units` units; c has rows of kVecs * kLanes.
template <class Product, int R, int V>
inline void dense_tile(const uint32_t* w, const uint32_t* x, int64_t units, float* c,
                       Ahead& ahead) {
  constexpr int kStride = kVecs * kLanes;
  Vec sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) sum[r][v] = load(c + r * kStride + v * kLanes);
  const auto step = [&]() __attribute__((always_inline)) {
    Vec wv[V];
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) wv[v] = load(reinterpret_cast<const float*>(w) + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec xr = broadcast_unit(x + r);
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) sum[r][v] = Product::add(sum[r][v], wv[v], xr);
    }
    w += V * kLanes;
    x += kRows;
  };
  int64_t u = 0;
  if (ahead.lines > 0)
    for (; u + 16 <= units; u += 16)
      for (int i = 0; i < 16; ++i) {
        for (int64_t j = i; j < ahead.pace; j += 16) ahead.next();
        step();
      }
  for (; u < units; ++u) step();
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) store(c + r * kStride + v * kLanes, sum[r][v]);
}

template <class Product, int V>
inline void dense_tile_rows(int rows, const uint32_t* w, const uint32_t* x, int64_t units, float* c,
                            Ahead& ahead) {
  // The rows that a block lacks are zero, so they may be computed.
  if (rows == 1) return dense_tile<Product, 1, V>(w, x, units, c, ahead);
  if (rows == 2) return dense_tile<Product, 2, V>(w, x, units, c, ahead);
  if constexpr (kRows > 4)
    if (rows <= 4) return dense_tile<Product, 4, V>(w, x, units, c, ahead);
  if constexpr (kRows > 2) dense_tile<Product, kRows, V>(w, x, units, c, ahead);
}

// ---- packing ------------------------------------------------------------------------------------

// out[u * out_stride + i]: unit u of row i, for `units` units from element k0 on and kLanes rows, of
// which `rows` exist; the others are zero.
template <class Units>
inline void pack_rows(const typename Units::Element* const (&row)[kLanes], int rows, int64_t k0,
                      int64_t k, int64_t units, uint32_t* out, int64_t out_stride) {
  for (int64_t u = 0; u < units; u += kLanes) {
    Vec block[kLanes];
    const int64_t at = k0 + u * Units::kPer;
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) block[i] = i < rows ? Units::load(row[i], at, k - at) : zero();
    transpose(block);
    const int count = units - u < kLanes ? static_cast<int>(units - u) : kLanes;
    for (int i = 0; i < count; ++i)
      store(reinterpret_cast<float*>(out + (u + i) * out_stride), block[i]);
  }
}

// ---- the driver ---------------------------------------------------------------------------------

// Traits: XUnits, WUnits, Product; start(args, m) is what the sums of row m start from, and
// end(args, m, rows, n, cols, c, c_stride) writes a tile of sums to y.
template <class Traits, class Args>
inline void dense_gemm(const Args& args, const DenseOperands& a) {
  using XUnits = typename Traits::XUnits;
  using WUnits = typename Traits::WUnits;
  using Product = typename Traits::Product;
  using XElement = typename XUnits::Element;
  using WElement = typename WUnits::Element;
  static_assert(XUnits::kPer == WUnits::kPer);
  constexpr int kPer = XUnits::kPer;
  constexpr int kCols = kVecs * kLanes;
  constexpr int64_t kUnitBytes = kPer * sizeof(WElement);  // in memory
  constexpr int64_t kChunk = 512;          // units of k that a panel holds: 96 KiB with AVX-512
  constexpr int64_t kPassBytes = 2 << 20;  // of packed x
  constexpr int64_t kPassRows = 256;

  const int64_t m_total = a.x_rows.count;
  if (m_total == 0 || a.n == 0) return;
  const int64_t units = (a.k + kPer - 1) / kPer;
  const int threads = num_threads();
  const int64_t panels = (a.n + kCols - 1) / kCols;

  // Rows in a pass, a multiple of kLanes.
  int64_t pass_rows = kPassBytes / (4 * (units + 1)) / kLanes * kLanes;
  if (pass_rows > kPassRows) pass_rows = kPassRows;
  if (pass_rows > m_total) pass_rows = m_total;
  pass_rows = (pass_rows + kLanes - 1) / kLanes * kLanes;
  if (pass_rows == 0) pass_rows = kLanes;

  using Number = typename Product::Number;
  const int64_t start_bytes = (pass_rows * 4 + 63) / 64 * 64;
  const int64_t x_bytes = start_bytes + (pass_rows * units * 4 + 63) / 64 * 64;
  const int64_t panel_bytes = (units < kChunk ? units : kChunk) * kCols * 4;
  const int64_t thread_bytes = panel_bytes + pass_rows * kCols * 4;
  uint8_t* const memory = scratch(x_bytes + threads * thread_bytes);
  Number* const starts = reinterpret_cast<Number*>(memory);
  uint32_t* const packed_x = reinterpret_cast<uint32_t*>(memory + start_bytes);

  for (int64_t first = 0; first < m_total; first += pass_rows) {
    const int64_t rows_here = m_total - first < pass_rows ? m_total - first : pass_rows;

    // Tasks: panels, or pieces of their rows when there are few; about 20 us or more each.
    int64_t pieces = 1;
    if (panels < 2 * threads) {
      pieces = (2 * threads + panels - 1) / panels;
      const int64_t most = (rows_here + 4 * kLanes - 1) / (4 * kLanes);
      if (pieces > most) pieces = most;
    }
    const int64_t piece_rows = (rows_here + pieces * kLanes - 1) / (pieces * kLanes) * kLanes;
    const int64_t jobs = panels * pieces;
    const int64_t job_cost = kCols * units * (16 + piece_rows);  // in units of about 1/24 cycle
    int64_t tasks = jobs * job_cost / (2 << 20);
    if (tasks < threads && jobs * job_cost > (1 << 18)) tasks = threads;
    tasks = tasks < 1 ? 1 : tasks > jobs ? jobs : tasks;
    const int64_t strips = (rows_here + kLanes - 1) / kLanes;
    int64_t prepare_tasks = rows_here * units > 8192 ? strips : 1;
    if (prepare_tasks > 4 * threads) prepare_tasks = 4 * threads;
    if (tasks == 1) prepare_tasks = 0;
    Gate packed{static_cast<int>(prepare_tasks)};

    const auto pack_x = [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        const int64_t m = first + s * kLanes;
        const int rows = m_total - m < kLanes ? static_cast<int>(m_total - m) : kLanes;
        const XElement* row[kLanes];
        for (int i = 0; i < kLanes; ++i)
          row[i] = static_cast<const XElement*>(a.x) + a.x_rows.offset(m + (i < rows ? i : 0));
        for (int i = 0; i < kLanes; ++i)
          starts[s * kLanes + i] = Traits::start(args, m + (i < rows ? i : 0));
        // Unit by unit for kLanes rows, then dealt out to the blocks.
        for (int64_t u = 0; u < units; u += kLanes) {
          uint32_t strip[kLanes * kLanes];
          const int64_t count = units - u < kLanes ? units - u : kLanes;
          pack_rows<XUnits>(row, rows, u * kPer, a.k, count, strip, kLanes);
          const int64_t chunk = u / kChunk * kChunk;
          const int64_t chunk_units = units - chunk < kChunk ? units - chunk : kChunk;
          for (int b = 0; b < kLanes / kRows; ++b) {
            uint32_t* out = packed_x + chunk * strips * kLanes +
                            (s * kLanes + b * kRows) * chunk_units + (u - chunk) * kRows;
            for (int64_t i = 0; i < count; ++i)
              memcpy(out + i * kRows, strip + i * kLanes + b * kRows, kRows * 4);
          }
        }
      }
    };

    const auto w_row = [&](int64_t n) {
      return static_cast<const WElement*>(a.w) + n * a.w_stride;
    };
    const auto multiply = [&](int64_t begin, int64_t end, int thread) {
      uint32_t* const panel = reinterpret_cast<uint32_t*>(memory + x_bytes + thread * thread_bytes);
      float* const sums = reinterpret_cast<float*>(panel) + panel_bytes / 4;
      for (int64_t job = begin; job < end; ++job) {
        const int64_t n = job / pieces * kCols;
        const int64_t cols = a.n - n < kCols ? a.n - n : kCols;
        const int vecs = static_cast<int>((cols + kLanes - 1) / kLanes);
        const int64_t row0 = job % pieces * piece_rows;
        const int64_t rows = rows_here - row0 < piece_rows ? rows_here - row0 : piece_rows;
        if (rows <= 0) continue;
        for (int64_t r = 0; r < (rows + kRows - 1) / kRows * kRows; ++r)
          for (int i = 0; i < kCols; i += kLanes) {
            float start;
            memcpy(&start, &starts[row0 + r], 4);
            store(sums + r * kCols + i, set1(start));
          }

        for (int64_t u = 0; u < units; u += kChunk) {
          const int64_t count = units - u < kChunk ? units - u : kChunk;
          for (int v = 0; v < vecs; ++v) {
            const int64_t left = a.n - n - v * kLanes;
            const int lanes = left < kLanes ? static_cast<int>(left) : kLanes;
            const WElement* row[kLanes];
            for (int i = 0; i < kLanes; ++i) row[i] = w_row(n + v * kLanes + (i < lanes ? i : 0));
            pack_rows<WUnits>(row, lanes, u * kPer, a.k, count, panel + v * kLanes, vecs * kLanes);
          }
          // What is packed next comes nearer meanwhile.
          const bool last = u + kChunk >= units;
          const int64_t next_n = last ? (job + 1) / pieces * kCols : n;
          const int64_t next_u = last ? 0 : u + kChunk;
          const int64_t next_units = units - next_u < kChunk ? units - next_u : kChunk;
          const int64_t next_rows = a.n - next_n < kCols ? a.n - next_n : kCols;
          const int64_t steps = (rows + kRows - 1) / kRows * (count / 16) + 1;
          Ahead ahead{};
          ahead.at = reinterpret_cast<const char*>(w_row(next_n) + next_u * kPer);
          ahead.row_lines = (next_units * kUnitBytes + 63) / 64;
          ahead.lines = ahead.row_lines * next_rows;
          ahead.skip = a.w_stride * static_cast<int64_t>(sizeof(WElement)) - ahead.row_lines * 64;
          ahead.pace = (ahead.lines + steps - 1) / steps;

          for (int64_t r = 0; r < rows; r += kRows) {
            const int block = rows - r < kRows ? static_cast<int>(rows - r) : kRows;
            const uint32_t* x = packed_x + u * strips * kLanes + (row0 + r) * count;
            float* c = sums + r * kCols;
            if (vecs == 1)
              dense_tile_rows<Product, 1>(block, panel, x, count, c, ahead);
            else if (vecs == 2)
              dense_tile_rows<Product, 2>(block, panel, x, count, c, ahead);
            else if constexpr (kVecs > 2)
              dense_tile_rows<Product, 3>(block, panel, x, count, c, ahead);
          }
        }
        Traits::end(args, first + row0, static_cast<int>(rows), n, cols, sums, kCols);
      }
    };

    parallel_tasks(prepare_tasks + tasks, [&](int64_t task, int thread) {
      if (prepare_tasks == 0) pack_x(0, strips);
      if (task < prepare_tasks) {
        pack_x(strips * task / prepare_tasks, strips * (task + 1) / prepare_tasks);
        packed.arrive();
        return;
      }
      packed.wait();
      task -= prepare_tasks;
      multiply(jobs * task / tasks, jobs * (task + 1) / tasks, thread);
    });
  }
}

}  // namespace aiter::AITER_ISA
