// The checks of norms whose result is quantized.
#pragma once

#include "aiter/quant.h"
#include "ops/norm/norm_quant.h"
#include "ops/norm/row_norm_checks.h"

namespace aiter {

struct NormQuantTensors {
  RowNormTensors norm;  // its y is the unquantized copy
  const aiter_tensor *gate = nullptr, *smooth = nullptr, *y = nullptr, *y_scale = nullptr;
};

struct NormQuantProblem {
  RowNormProblem norm;
  DType code, scale;
  int64_t heads, group_cols;
  bool in_lanes;  // aligned rows of one head that fit in registers, with groups of 16, 32, 64, 128
                  // or all columns: see ck/norm/norm_quant.h
};

// Fills args but for its kind.
NormQuantProblem check_norm_quant(const Check& check, const NormQuantTensors& tensors, bool add,
                                  const aiter_quantize_opts* quant, NormQuantArgs* args);

// Aligned rows of at most a pack for each thread of a block.
bool norm_quant_in_registers(const RowNormProblem& norm);

// Threads of a row for norm_quant_rows, and blocks for norm_quant_any (ck/norm/norm_quant.h).
int32_t norm_quant_threads(const NormQuantArgs& args, const Call& call);
Grid norm_quant_any_grid(const NormQuantArgs& args);

}  // namespace aiter
