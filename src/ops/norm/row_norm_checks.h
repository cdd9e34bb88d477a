// What the entries of the norms share: checks of the tensors, and the launch on GPUs.
#pragma once

#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/norm/row_norm.h"

namespace aiter {

struct RowNormTensors {
  const aiter_tensor *x = nullptr, *x_bias = nullptr, *residual_in = nullptr, *w = nullptr,
                     *b = nullptr, *y = nullptr, *residual_out = nullptr;
};

struct RowNormProblem {
  DType dtype;
  int64_t rows, hidden;
  bool aligned16;  // rows begin at, and are, multiples of 16 bytes
  bool add = false;
};

// Fills what args has of the tensors. add: whether the residual is there (both of it or neither).
// y: of x's dtype, with x's columns or more. As a copy beside codes (y_is_copy) it may be missing
// or of f32, and has x's shape.
RowNormProblem check_row_norm(const Check& check, const RowNormTensors& tensors, bool add,
                              bool y_is_copy, RowNormArgs* args);

// Blocks for `rows` rows that take `threads` each, a power of two up to the wave or a multiple of
// it.
Grid row_grid(int64_t rows, int64_t threads, const Call& call);

// Threads of a row whose packs have `pack` elements, `chunks` of them for each thread.
int32_t row_norm_threads(int64_t hidden, int64_t pack, int64_t chunks, const Call& call);

// A GPU row: kernels without, and with, a bias of x or a residual (see ck/norm/row_norm.h).
void row_norm_hip(const FloatKernels& norm, const FloatKernels& add_norm, int pack_bytes,
                  int chunks, RowNormArgs args, const Call& call);
// For few rows, of up to 1024 packs of 16 bytes (see ck/norm/few_rows.h).
void few_rows_norm_hip(const FloatKernels& norm, const FloatKernels& add_norm,
                       const RowNormArgs& args, const Call& call);

}  // namespace aiter
