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
};

// Fills what args has of the tensors. add: whether the residual is there (both of it or neither).
// y may have more columns than x where its dtype is x's, which is required unless any_y.
RowNormProblem check_row_norm(const Check& check, const RowNormTensors& tensors, bool add,
                              bool any_y, RowNormArgs* args);

// How many threads take a row whose packs have `pack` elements, `chunks` of them for each thread,
// and how many blocks of which size take all.
struct RowNormGrid {
  int64_t threads_per_row;
  Grid grid;
};
RowNormGrid row_norm_grid(const RowNormArgs& args, int pack, int chunks, const Call& call);

// A GPU row: kernels without and with residual (see ck/norm/row_norm.h).
void row_norm_hip(const FloatKernels& norm, const FloatKernels& add_norm, int pack_bytes,
                  int chunks, RowNormArgs args, const Call& call);

}  // namespace aiter
