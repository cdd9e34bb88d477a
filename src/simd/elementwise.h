// Elementwise operators over strided operands: the order of work, and the conversion of operands.
#pragma once

#include "ops/elementwise/elementwise_args.h"
#include "simd/cache.h"
#include "simd/parallel.h"
#include "simd/scratch.h"
#include "simd/simd.h"
#include "simd/zip.h"

namespace aiter::AITER_ISA {

constexpr int kOperands = ElementwiseArgs::kMaxInputs + 1;  // inputs, then the output

struct Offsets {
  int64_t at[kOperands];
};

// Whether the neighbours of input k lie along the second innermost dimension.
AITER_INLINE bool lies_across(const ElementwiseArgs& a, int k) {
  if (!a.in[k] || a.rank < 2) return false;
  const int64_t stride = a.in_stride[k][a.rank - 1];
  return stride != 0 && stride != 1 && a.in_stride[k][a.rank - 2] == 1;
}

// The operands as pieces have them: inputs that lie across are turned.
AITER_INLINE ElementwiseArgs turned(const ElementwiseArgs& a) {
  ElementwiseArgs t = a;
  for (int k = 0; k + 1 < kOperands; ++k)
    if (lies_across(a, k)) t.in_stride[k][a.rank - 1] = 1;
  return t;
}

// A tile of an input that lies across, in memory of its own: rows of kCols elements.
struct TurnedTile {
  static constexpr int64_t kRows = 128, kCols = 64, kMaxBytes = kRows * kCols * 8;
  const char* from;
  int64_t stride, bytes;  // between columns; of an element
  uint8_t* to;

  void turn(int64_t rows, int64_t cols) const {
    auto as = [&]<class T>(T) {
      zip_rows(reinterpret_cast<const T*>(from), stride, cols, rows, reinterpret_cast<T*>(to),
               kCols);
    };
    switch (bytes) {
      case 1:
        return as(uint8_t{});
      case 2:
        return as(uint16_t{});
      case 4:
        return as(uint32_t{});
      default:
        return as(uint64_t{});
    }
  }
  // Row r's share of the tile below.
  AITER_INLINE void prefetch_below(int64_t r, int64_t cols) const {
    for (int64_t c = r * cols / kRows; c < (r + 1) * cols / kRows; ++c)
      prefetch<true>(from + (c * stride + kRows) * bytes, static_cast<int>(kRows * bytes));
  }
};

// Calls f(operands, offsets, n) for pieces of the innermost dimension, on all threads.
template <class F>
void for_pieces(const ElementwiseArgs& a, F&& f) {
  const int inner = a.rank - 1, middle = a.rank - 2;
  const int64_t cols = a.extent[inner], rows = middle < 0 ? 1 : a.extent[middle];
  int64_t outer = 1;
  for (int i = 0; i < middle; ++i) outer *= a.extent[i];
  if (cols * rows * outer == 0) return;
  auto stride = [&](int operand, int dim) {
    return operand + 1 < kOperands ? a.in_stride[operand][dim] : a.out_stride[dim];
  };
  // Inputs that lie across are read in tiles, so that their lines are used while in the cache.
  bool across = false, turns = false;
  for (int k = 0; k + 1 < kOperands; ++k) {
    across = across || (a.in[k] && a.in_stride[k][inner] != 0 && a.in_stride[k][inner] != 1);
    turns = turns || lies_across(a, k);
  }
  // Pieces of rows next to tiles are too short for the machine to see them come.
  constexpr int64_t kRowsAhead = 16;
  const int64_t piece = across && middle >= 0 ? TurnedTile::kCols : 65536;
  // Tiles end where cache lines of the output do, or lines would be written in two parts.
  const int64_t out_bytes = dtype_bytes(a.out_dtype);
  int64_t lead = 0;
  if (turns && a.out_stride[inner] == 1 && a.out_stride[middle] * out_bytes % 64 == 0)
    lead = static_cast<int64_t>(reinterpret_cast<uintptr_t>(a.out) % 64) / out_bytes;
  const int64_t pieces = (cols + lead + piece - 1) / piece;
  const int64_t block = turns ? TurnedTile::kRows : across ? 32 : cols < 32768 ? 32768 / cols : 1;
  const int64_t blocks = (rows + block - 1) / block;
  const int64_t units = outer * blocks * pieces;
  const int64_t unit_size = (cols < piece ? cols : piece) * (rows < block ? rows : block);
  parallel_for(units, row_grain(unit_size), [&](int64_t begin, int64_t end) {
    ElementwiseArgs operands = turned(a);
    TurnedTile tiles[kOperands - 1] = {};
    uint8_t* memory = turns ? scratch((kOperands - 1) * TurnedTile::kMaxBytes) : nullptr;
    for (int64_t u = begin; u < end; ++u) {
      // Downwards where tiles are turned: their lines follow each other.
      const int64_t begin_col = (turns ? u / blocks : u) % pieces * piece - lead;
      const int64_t col = begin_col > 0 ? begin_col : 0, end_col = begin_col + piece;
      const int64_t row = (turns ? u : u / pieces) % blocks * block;
      int64_t rest = u / pieces / blocks, index[ElementwiseArgs::kMaxRank];
      for (int i = middle - 1; i >= 0; --i) index[i] = rest % a.extent[i], rest /= a.extent[i];
      const int64_t n = (cols < end_col ? cols : end_col) - col;
      const int64_t row_end = rows - row < block ? rows : row + block;
      Offsets offsets, step;
      for (int k = 0; k < kOperands; ++k) {
        offsets.at[k] = col * stride(k, inner);
        if (middle >= 0) offsets.at[k] += row * stride(k, middle);
        for (int i = 0; i < middle; ++i) offsets.at[k] += index[i] * stride(k, i);
        step.at[k] = middle >= 0 ? stride(k, middle) : 0;
        if (!turns || k + 1 == kOperands || !lies_across(a, k)) continue;
        const int64_t bytes = dtype_bytes(a.in_dtype[k]);
        tiles[k] = {static_cast<const char*>(a.in[k]) + offsets.at[k] * bytes, stride(k, inner),
                    bytes, memory + k * TurnedTile::kMaxBytes};
        tiles[k].turn(row_end - row, n);
        operands.in[k] = tiles[k].to;
        offsets.at[k] = 0, step.at[k] = TurnedTile::kCols;
      }
      for (int64_t r = row; r < row_end; ++r) {
        if (turns)
          for (int k = 0; k + 1 < kOperands; ++k) {
            if (tiles[k].to && row_end < rows) tiles[k].prefetch_below(r - row, n);
            if (tiles[k].to || !a.in[k] || r + kRowsAhead >= rows) continue;
            const int64_t bytes = dtype_bytes(a.in_dtype[k]);
            prefetch<true>(static_cast<const char*>(a.in[k]) +
                               (offsets.at[k] + kRowsAhead * step.at[k]) * bytes,
                           static_cast<int>(n * bytes));
          }
        f(operands, offsets, n);
        for (int k = 0; k < kOperands; ++k) offsets.at[k] += step.at[k];
      }
    }
    stream_fence();
  });
}

// ---- operands of one float type -----------------------------------------------------------------

// Whether with_operands() serves them, along the innermost dimension.
AITER_INLINE bool are_vectors(const ElementwiseArgs& a, int inputs) {
  const DType dtype = a.out_dtype;
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16) return false;
  for (int k = 0; k < inputs; ++k) {
    const int64_t stride = a.in_stride[k][a.rank - 1];
    if (a.in[k] && (a.in_dtype[k] != dtype || stride < 0 || stride > 1)) return false;
  }
  return a.common == dtype && a.out_stride[a.rank - 1] == 1;
}

// Calls g(x...) with the inputs as map_lanes() takes them.
template <class T, int kInputs, class G, class... X>
AITER_INLINE void with_operands(const ElementwiseArgs& a, const Offsets& offsets, G&& g, X... x) {
  constexpr int k = sizeof...(X);
  if constexpr (k == kInputs) {
    g(x...);
  } else {
    const T* p = static_cast<const T*>(a.in[k]) + offsets.at[k];
    if (a.in_stride[k][a.rank - 1] == 1) return with_operands<T, kInputs>(a, offsets, g, x..., p);
    const float number = a.in[k] ? to_float(*p) : static_cast<float>(a.number[k]);
    with_operands<T, kInputs>(a, offsets, g, x..., Repeated<T>{set1(number)});
  }
}

// ---- operands of any type -----------------------------------------------------------------------
// Pieces are converted to a type of computation C: float (also for f16 and bf16), double, uint32_t
// (for integers of up to 32 bits, and bool) or uint64_t. Unsigned integers wrap around.

constexpr int kChunk = 1024;

AITER_INLINE float to_number(float x) { return x; }
AITER_INLINE float to_number(f16 x) { return to_float(x); }
AITER_INLINE float to_number(bf16 x) { return to_float(x); }
AITER_INLINE double to_number(double x) { return x; }
AITER_INLINE int8_t to_number(int8_t x) { return x; }
AITER_INLINE uint8_t to_number(uint8_t x) { return x; }
AITER_INLINE int16_t to_number(int16_t x) { return x; }
AITER_INLINE int32_t to_number(int32_t x) { return x; }
AITER_INLINE int64_t to_number(int64_t x) { return x; }
struct Bool {
  uint8_t byte;
};
AITER_INLINE uint8_t to_number(Bool x) { return x.byte != 0; }

template <class T>
inline constexpr bool kIsFloat =
    __is_same(T, float) || __is_same(T, double) || __is_same(T, f16) || __is_same(T, bf16);

template <class T, class C>
AITER_INLINE T from_number(C x) {
  if constexpr (__is_same(T, f16) || __is_same(T, bf16))
    return from_float<T>(static_cast<float>(x));
  else if constexpr (__is_same(T, Bool))
    return Bool{x != 0};
  else if constexpr (__is_same(C, uint32_t))
    return static_cast<T>(static_cast<int32_t>(x));
  else if constexpr (__is_same(C, uint64_t))
    return static_cast<T>(static_cast<int64_t>(x));
  else
    return static_cast<T>(x);
}

// Calls f(T{}) with the type of an element.
template <class F>
AITER_INLINE void with_element_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF64:
      return f(double{});
    case DType::kI64:
      return f(int64_t{});
    case DType::kI32:
      return f(int32_t{});
    case DType::kI16:
      return f(int16_t{});
    case DType::kI8:
      return f(int8_t{});
    case DType::kU8:
      return f(uint8_t{});
    case DType::kBool:
      return f(Bool{});
    default:
      return with_float_type(dtype, f);
  }
}

// n elements at offset of input k as numbers of C: in `buffer`, or where they are.
template <class C>
const C* read_chunk(const ElementwiseArgs& a, int k, int64_t offset, int64_t n, C* buffer) {
  const C* found = buffer;
  const int64_t stride = a.in_stride[k][a.rank - 1];
  if (!a.in[k]) {
    C number;
    if constexpr (kIsFloat<C>)
      number = static_cast<C>(a.number[k]);
    else
      number = static_cast<C>(static_cast<int64_t>(a.number[k]));
    for (int64_t i = 0; i < n; ++i) buffer[i] = number;
  } else {
    with_element_type(a.in_dtype[k], [&]<class T>(T) {
      if constexpr (kIsFloat<C> || !kIsFloat<T>) {
        const T* p = static_cast<const T*>(a.in[k]) + offset;
        if constexpr (sizeof(T) == sizeof(C) && kIsFloat<T> == kIsFloat<C>) {
          if (stride == 1) {  // C is the unsigned form of T, or T itself
            found = reinterpret_cast<const C*>(p);
            return;
          }
        }
        if (stride == 0) {
          const C number = static_cast<C>(to_number(*p));
          for (int64_t i = 0; i < n; ++i) buffer[i] = number;
        } else if (stride == 1) {
          if constexpr (__is_same(C, float) && (__is_same(T, f16) || __is_same(T, bf16)))
            for_lanes(n, [&](int64_t i, int m) { store_some(buffer + i, load_some(p + i, m), m); });
          else
            for (int64_t i = 0; i < n; ++i) buffer[i] = static_cast<C>(to_number(p[i]));
        } else {
          for (int64_t i = 0; i < n; ++i) buffer[i] = static_cast<C>(to_number(p[i * stride]));
        }
      }
    });
  }
  // An integer among 16-bit floats has their precision.
  if constexpr (__is_same(C, float)) {
    const DType d = a.in_dtype[k];
    if (a.in[k] && d != DType::kF32 && d != DType::kF16 && d != DType::kBF16) {
      auto round_all = [&]<class T>(T) {
        for (int64_t i = 0; i < n; ++i) buffer[i] = to_float(from_float<T>(buffer[i]));
      };
      if (a.common == DType::kF16) round_all(f16{});
      if (a.common == DType::kBF16) round_all(bf16{});
    }
  }
  return found;
}

// results[0, n) in the common dtype to the output at offset.
template <class C>
void write_chunk(const ElementwiseArgs& a, int64_t offset, int64_t n, C* results) {
  const int64_t stride = a.out_stride[a.rank - 1];
  if (a.out_dtype != a.common)
    with_element_type(a.common, [&]<class T>(T) {
      for (int64_t i = 0; i < n; ++i)
        results[i] = static_cast<C>(to_number(from_number<T>(results[i])));
    });
  with_element_type(a.out_dtype, [&]<class T>(T) {
    T* p = static_cast<T*>(a.out) + offset;
    if constexpr (__is_same(C, float) && (__is_same(T, f16) || __is_same(T, bf16))) {
      if (stride == 1) {
        for_lanes(n, [&](int64_t i, int m) { store_some(p + i, load_some(results + i, m), m); });
        return;
      }
    }
    if (stride == 1)
      for (int64_t i = 0; i < n; ++i) p[i] = from_number<T>(results[i]);
    else
      for (int64_t i = 0; i < n; ++i) p[i * stride] = from_number<T>(results[i]);
  });
}

// Whether results of C are elements of the output as they are, side by side.
template <class C>
bool writes_in_place(const ElementwiseArgs& a) {
  bool same = false;
  with_element_type(a.out_dtype, [&]<class T>(T) {
    same = sizeof(T) == sizeof(C) && kIsFloat<T> == kIsFloat<C> && a.out_dtype == a.common &&
           a.out_stride[a.rank - 1] == 1;
  });
  return same;
}

// Past the caches, in whole lines.
template <class C>
void stream_copy(C* to, const C* from, int64_t n) {
  constexpr int64_t kLine = 64 / sizeof(C);
  int64_t i = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(to) % 64 / sizeof(C));
  i = i < n ? i : n;
  memcpy(to, from, i * sizeof(C));
  for (; i + kLine <= n; i += kLine)
    for (int k = 0; k < 16; k += kLanes)
      stream(reinterpret_cast<float*>(to + i) + k,
             load(reinterpret_cast<const float*>(from + i) + k));
  memcpy(to + i, from + i, (n - i) * sizeof(C));
}

// f(n, inputs, results) for chunks of numbers of C.
template <class C, int kInputs, class F>
void for_chunks(const ElementwiseArgs& a, F&& f) {
  const bool in_place = writes_in_place<C>(a);
  int64_t bytes = sizeof(C);
  for (int i = 0; i < a.rank; ++i) bytes *= a.extent[i];
  bool streamed = in_place && worth_streaming(a.out, bytes, sizeof(C));
  for (int k = 0; k < kInputs; ++k) streamed = streamed && a.in[k] != a.out;
  for_pieces(a, [&](const ElementwiseArgs& b, const Offsets& offsets, int64_t size) {
    alignas(64) C buffers[kInputs + 1][kChunk];
    for (int64_t i = 0; i < size; i += kChunk) {
      const int64_t n = size - i < kChunk ? size - i : kChunk;
      const C* in[kInputs];
      for (int k = 0; k < kInputs; ++k)
        in[k] = read_chunk(b, k, offsets.at[k] + i * b.in_stride[k][b.rank - 1], n, buffers[k]);
      C* results = buffers[kInputs];
      const int64_t at = offsets.at[kOperands - 1] + i * a.out_stride[a.rank - 1];
      if (in_place && !streamed) {
        f(n, in, static_cast<C*>(a.out) + at);
        continue;
      }
      f(n, in, results);
      if (streamed)
        stream_copy(static_cast<C*>(a.out) + at, results, n);
      else
        write_chunk(a, at, n, results);
    }
  });
}

// y = f(x...) for float operands of any kind; f takes and gives vectors.
template <int kInputs, class F>
void elementwise_floats(const ElementwiseArgs& a, F&& f) {
  if (are_vectors(turned(a), kInputs)) {
    with_float_type(a.out_dtype, [&]<class T>(T) {
      int64_t bytes = sizeof(T);
      bool in_place = false;
      for (int i = 0; i < a.rank; ++i) bytes *= a.extent[i];
      for (int k = 0; k < kInputs; ++k) in_place = in_place || a.in[k] == a.out;
      const bool streamed = !in_place && worth_streaming(a.out, bytes, sizeof(T));
      for_pieces(a, [&](const ElementwiseArgs& b, const Offsets& offsets, int64_t n) {
        T* y = static_cast<T*>(a.out) + offsets.at[kOperands - 1];
        with_operands<T, kInputs>(
            b, offsets, [&](auto... x) { map_lanes(y, n, streamed, f, NothingAhead{}, x...); });
      });
    });
    return;
  }
  for_chunks<float, kInputs>(a, [&](int64_t n, const float* const* in, float* results) {
    for_lanes(n, [&](int64_t i, int m) {
      if constexpr (kInputs == 1)
        store_some(results + i, f(load_some(in[0] + i, m)), m);
      else if constexpr (kInputs == 2)
        store_some(results + i, f(load_some(in[0] + i, m), load_some(in[1] + i, m)), m);
      else
        store_some(results + i,
                   f(load_some(in[0] + i, m), load_some(in[1] + i, m), load_some(in[2] + i, m)), m);
    });
  });
}

// ---- the same plainly ---------------------------------------------------------------------------

// Calls f(offsets) for every element.
template <class F>
void for_elements(const ElementwiseArgs& a, F&& f) {
  int64_t index[ElementwiseArgs::kMaxRank] = {};
  for (int i = 0; i < a.rank; ++i)
    if (a.extent[i] == 0) return;
  for (int dim = 0; dim >= 0;) {
    Offsets offsets = {};
    for (int i = 0; i < a.rank; ++i) {
      for (int k = 0; k + 1 < kOperands; ++k) offsets.at[k] += index[i] * a.in_stride[k][i];
      offsets.at[kOperands - 1] += index[i] * a.out_stride[i];
    }
    f(offsets);
    for (dim = a.rank - 1; dim >= 0 && ++index[dim] == a.extent[dim]; --dim) index[dim] = 0;
  }
}

// The element of input k at an offset.
template <class C>
C plain_number(const ElementwiseArgs& a, int k, int64_t offset) {
  C value{};
  ElementwiseArgs one = a;
  one.in_stride[k][a.rank - 1] = 0;
  read_chunk(one, k, offset, 1, &value);
  return value;
}

}  // namespace aiter::AITER_ISA
