// The checks of quantized tensors: of quantize and dequantize, and of every operator that quantizes
// its result. Such an operator has `const aiter_quantize_opts* quant` in its options, and calls
//
//   args.out = check_quant_out(check, x, x.dim(-1), {"y", y}, {"y_scale", y_scale}, opts.quant);
#pragma once

#include "aiter/quant.h"
#include "core/check.h"
#include "core/quant_spec.h"
#include "launch/launch.h"

namespace aiter {

struct NamedTensor {
  const char* name;
  const aiter_tensor* tensor;
};

// For codes and scales of numbers that have the leading dimensions of x and `cols` columns. Groups
// are within rows, of all columns or of 16, 32, 64 or 128 of them; a given scale may also be
// one for all. opts: NULL = AITER_QUANTIZE_OPTS_INIT.
QuantOut check_quant_out(const Check& check, const Arg& x, int64_t cols, NamedTensor codes,
                         NamedTensor scale, const aiter_quantize_opts* opts);

// The same with groups of any number of rows and columns; *group_rows is at least 1.
QuantOut check_quant_blocks(const Check& check, const Arg& x, int64_t cols, NamedTensor codes,
                            NamedTensor scale, const aiter_quantize_opts& opts,
                            int64_t* group_rows);

// Whether the lanes of a wave can share a group of so many columns (src/ck/quant/quantize.h).
constexpr bool quant_group_of_lanes(int64_t columns) {
  return columns == 16 || columns == 32 || columns == 64 || columns == 128;
}

// Threads of a row for kernels whose threads hold `chunks` packs of `pack` columns: a power of two
// up to the wave, or a multiple of it up to 512; enough for groups of lanes.
int32_t quant_threads_per_row(const QuantOut& q, int64_t pack, int64_t chunks, int64_t wave);

// A block for `rows` rows of so many threads, or for one: no thread has another one (row_of_thread,
// src/ck/quant/quantize.h).
Grid quant_grid(int64_t rows, int64_t threads_per_row, int64_t wave);

// Kernels compiled for the kinds of codes of most use, and one for any (src/ck/quant/codes.h).
struct CodeKernels {
  FloatKernels i8, e4m3fn, e4m3fnuz, e2m1, any;
  const Kernel& of(DType code, DType dtype) const {
    switch (code) {
      case DType::kI8:
        return i8[dtype];
      case DType::kF8E4M3FN:
        return e4m3fn[dtype];
      case DType::kF8E4M3FNUZ:
        return e4m3fnuz[dtype];
      case DType::kF4E2M1x2:
        return e2m1[dtype];
      default:
        return any[dtype];
    }
  }
};
#define AITER_CODE_KERNELS(op, row)                                              \
  {AITER_FLOAT_KERNELS(op, row##_i8), AITER_FLOAT_KERNELS(op, row##_e4m3fn),     \
   AITER_FLOAT_KERNELS(op, row##_e4m3fnuz), AITER_FLOAT_KERNELS(op, row##_e2m1), \
   AITER_FLOAT_KERNELS(op, row##_any)}

// Kernels of an operator that quantizes its result: for 16-bit numbers and the kinds of codes and groups
// of most use (AITER_QUANT_KINDS, src/ck/quant/quantize.h), and one for any.
struct QuantKernels {
  struct Kind {
    Kernel f16, bf16;
  };
  Kind one_i8, one_e4m3fn, one_e4m3fnuz, many_e4m3fn, many_e4m3fnuz, many_e2m1;
  FloatKernels any;

  // plain: what is asked for is what the kernels for one kind do.
  const Kernel& of(const QuantOut& q, DType dtype, bool plain) const {
    const Kind* kind = plain && dtype != DType::kF32 ? find(q) : nullptr;
    return !kind ? any[dtype] : dtype == DType::kF16 ? kind->f16 : kind->bf16;
  }

 private:
  const Kind* find(const QuantOut& q) const {
    const bool many = q.group_cols < q.cols;
    switch (q.spec.code) {
      case DType::kI8:
        return many ? nullptr : &one_i8;
      case DType::kF8E4M3FN:
        return many ? &many_e4m3fn : &one_e4m3fn;
      case DType::kF8E4M3FNUZ:
        return many ? &many_e4m3fnuz : &one_e4m3fnuz;
      case DType::kF4E2M1x2:
        return many ? &many_e2m1 : nullptr;
      default:
        return nullptr;
    }
  }
};
#define AITER_QUANT_KIND(op, row) {{#op, #op "_" #row "_f16"}, {#op, #op "_" #row "_bf16"}}
#define AITER_QUANT_KERNELS(op, row)                                                   \
  {AITER_QUANT_KIND(op, row##_one_i8),        AITER_QUANT_KIND(op, row##_one_e4m3fn),  \
   AITER_QUANT_KIND(op, row##_one_e4m3fnuz),  AITER_QUANT_KIND(op, row##_many_e4m3fn), \
   AITER_QUANT_KIND(op, row##_many_e4m3fnuz), AITER_QUANT_KIND(op, row##_many_e2m1),   \
   AITER_FLOAT_KERNELS(op, row##_any)}

}  // namespace aiter
