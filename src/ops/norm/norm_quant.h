// A norm whose result is quantized: the arguments of norm_quant, and of the first norm of
// qk_rmsnorm.
#pragma once

#include "core/quant_spec.h"
#include "ops/norm/row_norm.h"

namespace aiter {

struct NormQuantArgs {
  static constexpr int kMaxHeads = 1024;
  static constexpr int kPacks = 4;     // GPU: of 16 bytes, that a thread holds of a row at most
  static constexpr int kColumns = 16;  // GPU: neighbouring columns of a thread

  RowNormArgs norm;     // its y is the unquantized copy
  const void* gate;     // or null; of norm.dtype
  Rows gate_rows;       // as norm.x_rows
  const float* smooth;  // or null; out.cols factors
  QuantOut out;         // codes are null only in qk_rmsnorm
  int64_t heads;        // rows of the norm in a row of codes
  NormKind kind;
};

}  // namespace aiter
