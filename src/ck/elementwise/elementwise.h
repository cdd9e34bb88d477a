// Elementwise kernels over strided operands: op(x...) of kInputs numbers.
#pragma once

#include "ck/core/pack.h"
#include "ops/elementwise/elementwise_args.h"

namespace aiter {

// Quotient of numbers that are not negative; GPUs divide slowly, and by 64 bits much slower.
AITER_DEVICE int64_t divide(int64_t a, int64_t b, int64_t& rest) {
  if (((a | b) >> 31) == 0) {
    const uint32_t x = static_cast<uint32_t>(a), y = static_cast<uint32_t>(b), q = x / y;
    rest = x - q * y;
    return q;
  }
  int64_t quotient = 0;
  rest = 0;
  AITER_NO_UNROLL
  for (int bit = 62; bit >= 0; --bit) {
    rest = rest << 1 | (a >> bit & 1);
    if (rest >= b) rest -= b, quotient |= int64_t{1} << bit;
  }
  return quotient;
}

// Of the dimensions around the innermost one.
template <int kInputs>
struct RowOffsets {
  int64_t in[kInputs], out;

  AITER_DEVICE RowOffsets(const ElementwiseArgs& a, int64_t row) : out(0) {
    AITER_UNROLL
    for (int k = 0; k < kInputs; ++k) in[k] = 0;
    AITER_NO_UNROLL
    for (int i = a.rank - 2; i >= 0; --i) {
      int64_t index = row;
      if (i > 0) row = divide(row, a.extent[i], index);
      out += index * a.out_stride[i];
      AITER_UNROLL
      for (int k = 0; k < kInputs; ++k) in[k] += index * a.in_stride[k][i];
    }
  }
};

AITER_DEVICE int64_t rows_of(const ElementwiseArgs& a) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < a.rank; ++i) rows *= a.extent[i];
  return rows;
}

template <class Op, class C>
AITER_DEVICE C call(Op op, const C (&x)[1]) {
  return op(x[0]);
}
template <class Op, class C>
AITER_DEVICE C call(Op op, const C (&x)[2]) {
  return op(x[0], x[1]);
}
template <class Op, class C>
AITER_DEVICE C call(Op op, const C (&x)[3]) {
  return op(x[0], x[1], x[2]);
}

// All operands are of T, their innermost rows of whole 16-byte vectors, or one number each. A block
// works on a piece of a row, with several loads of each thread under way at a time, or one where the
// grid has a thread for every pack.
template <class T, int kInputs, class Op>
AITER_DEVICE void elementwise_vec(const ElementwiseArgs& a, Op op) {
  constexpr int N = kPackSize<T, true>, kPacks = 4;
  const int64_t rows = rows_of(a), cols = a.extent[a.rank - 1];
  const int threads = block_threads();
  const int packs_of_thread =
      cols <= static_cast<int64_t>(grid_blocks_y()) * threads * N ? 1 : kPacks;
  const int64_t piece = static_cast<int64_t>(threads) * N * packs_of_thread;
  const int64_t row_step = grid_blocks(), step = piece * grid_blocks_y();
  for (int64_t r = block_index_x(); r < rows; r += row_step) {
    const RowOffsets<kInputs> offsets(a, r);
    const T* in[kInputs];
    float number[kInputs];
    bool repeated[kInputs];
    AITER_UNROLL
    for (int k = 0; k < kInputs; ++k) {
      in[k] = static_cast<const T*>(a.in[k]) + offsets.in[k];
      repeated[k] = a.in_stride[k][a.rank - 1] == 0;
      number[k] = static_cast<float>(a.number[k]);
      if (repeated[k] && a.in[k]) number[k] = to_float(*in[k]);
    }
    T* out = static_cast<T*>(a.out) + offsets.out;
    for (int64_t begin = block_index_y() * piece; begin < cols; begin += step) {
      const int64_t first = begin + thread_index() * N;
      Pack<T, N> packs[kInputs][kPacks];
      AITER_UNROLL
      for (int k = 0; k < kInputs; ++k) {
        if (repeated[k]) continue;
        AITER_UNROLL
        for (int c = 0; c < kPacks; ++c) {
          const int64_t i = first + static_cast<int64_t>(c) * threads * N;
          if (c < packs_of_thread && i < cols) packs[k][c] = load_pack<N>(in[k] + i);
        }
      }
      AITER_UNROLL
      for (int c = 0; c < kPacks; ++c) {
        const int64_t i = first + static_cast<int64_t>(c) * threads * N;
        if (c >= packs_of_thread || i >= cols) continue;
        float v[kInputs][N], y[N];
        AITER_UNROLL
        for (int k = 0; k < kInputs; ++k) {
          if (!repeated[k]) packs[k][c].to_floats(v[k]);
          AITER_UNROLL
          for (int e = 0; e < N; ++e) v[k][e] = repeated[k] ? number[k] : v[k][e];
        }
        AITER_UNROLL
        for (int e = 0; e < N; ++e) {
          float x[kInputs];
          AITER_UNROLL
          for (int k = 0; k < kInputs; ++k) x[k] = v[k][e];
          y[e] = call(op, x);
        }
        store_floats<N>(out + i, y);
      }
    }
  }
}

// ---- any dtypes and strides ---------------------------------------------------------------------
// C is float, double, or uint64_t for integers and bool.

template <class C>
constexpr bool kIsInteger = false;
template <>
inline constexpr bool kIsInteger<uint64_t> = true;

template <class C>
AITER_DEVICE C load_number(const void* data, int64_t i, DType dtype) {
  switch (dtype) {
    case DType::kI64:
      return static_cast<C>(static_cast<const int64_t*>(data)[i]);
    case DType::kI32:
      return static_cast<C>(static_cast<const int32_t*>(data)[i]);
    case DType::kI16:
      return static_cast<C>(static_cast<const int16_t*>(data)[i]);
    case DType::kI8:
      return static_cast<C>(static_cast<const int8_t*>(data)[i]);
    case DType::kU8:
      return static_cast<C>(static_cast<const uint8_t*>(data)[i]);
    case DType::kBool:
      return static_cast<C>(static_cast<const uint8_t*>(data)[i] != 0);
    default:
      if constexpr (!kIsInteger<C>) {
        if (dtype == DType::kF64) return static_cast<C>(static_cast<const double*>(data)[i]);
        return static_cast<C>(load_float(data, i, dtype));
      }
      return C{};
  }
}

// x as a number of this dtype.
template <class C>
AITER_DEVICE C as_dtype(C x, DType dtype) {
  if constexpr (kIsInteger<C>) {
    switch (dtype) {
      case DType::kI32:
        return static_cast<C>(static_cast<int64_t>(static_cast<int32_t>(x)));
      case DType::kI16:
        return static_cast<C>(static_cast<int64_t>(static_cast<int16_t>(x)));
      case DType::kI8:
        return static_cast<C>(static_cast<int64_t>(static_cast<int8_t>(x)));
      case DType::kU8:
        return static_cast<uint8_t>(x);
      case DType::kBool:
        return x != 0;
      default:
        return x;
    }
  } else {
    if (dtype == DType::kF16) return static_cast<C>(to_float(from_float<f16>(x)));
    if (dtype == DType::kBF16) return static_cast<C>(to_float(from_float<bf16>(x)));
    return x;
  }
}

template <class C>
AITER_DEVICE void store_number(void* data, int64_t i, DType dtype, C x) {
  if constexpr (kIsInteger<C>) {
    switch (dtype) {
      case DType::kI64:
        static_cast<int64_t*>(data)[i] = static_cast<int64_t>(x);
        return;
      case DType::kI32:
        static_cast<int32_t*>(data)[i] = static_cast<int32_t>(x);
        return;
      case DType::kI16:
        static_cast<int16_t*>(data)[i] = static_cast<int16_t>(x);
        return;
      case DType::kI8:
      case DType::kU8:
        static_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(x);
        return;
      case DType::kBool:
        static_cast<uint8_t*>(data)[i] = x != 0;
        return;
      default:
        break;
    }
  }
  if constexpr (kIsInteger<C>) {
    const int64_t value = static_cast<int64_t>(x);
    if (dtype == DType::kF64)
      static_cast<double*>(data)[i] = static_cast<double>(value);
    else
      store_float(data, i, dtype, static_cast<float>(value));
  } else {
    if (dtype == DType::kF64)
      static_cast<double*>(data)[i] = static_cast<double>(x);
    else
      store_float(data, i, dtype, static_cast<float>(x));
  }
}

// a.row_threads neighbours of a block are in one row.
template <class C, int kInputs, class Op>
AITER_DEVICE void elementwise_any(const ElementwiseArgs& a, Op op) {
  const int64_t rows = rows_of(a), cols = a.extent[a.rank - 1];
  const int row_threads = a.row_threads, rows_per_block = block_threads() / row_threads;
  const int64_t row_step = static_cast<int64_t>(grid_blocks()) * rows_per_block;
  const int64_t col_step = static_cast<int64_t>(grid_blocks_y()) * row_threads;
  const int64_t first_col =
      static_cast<int64_t>(block_index_y()) * row_threads + (thread_index() & (row_threads - 1));
  for (int64_t r =
           static_cast<int64_t>(block_index_x()) * rows_per_block + thread_index() / row_threads;
       r < rows; r += row_step) {
    const RowOffsets<kInputs> offsets(a, r);
    AITER_NO_UNROLL
    for (int64_t col = first_col; col < cols; col += col_step) {
      C x[kInputs];
      AITER_UNROLL
      for (int k = 0; k < kInputs; ++k) {
        if (!a.in[k]) {
          x[k] = kIsInteger<C> ? static_cast<C>(static_cast<int64_t>(a.number[k]))
                               : static_cast<C>(a.number[k]);
        } else {
          const int64_t at = offsets.in[k] + col * a.in_stride[k][a.rank - 1];
          x[k] = load_number<C>(a.in[k], at, a.in_dtype[k]);
        }
        // An integer among 16-bit floats has their precision.
        const DType d = a.in_dtype[k];
        if (a.in[k] && d != DType::kF32 && d != DType::kF16 && d != DType::kBF16)
          x[k] = as_dtype(x[k], a.common);
      }
      C y = call(op, x);
      if (a.out_dtype != a.common) y = as_dtype(y, a.common);
      store_number(a.out, offsets.out + col * a.out_stride[a.rank - 1], a.out_dtype, y);
    }
  }
}

}  // namespace aiter
