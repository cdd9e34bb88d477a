// The arguments that the gated activations share: where gates and ups come from, and what is made
// of them.
#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

struct GatedArgs {
  const void* x;
  const float* bias;       // or null
  const void* expert_ids;  // or null: row 0 of bias
  const void* weights;     // or null
  Rows x_rows, weights_rows;
  int64_t d, experts;
  DType dtype;  // of x
  DType id_dtype, weights_dtype;
  int32_t weight_per_row;  // weights have one column
  int32_t interleaved;
  int32_t activation;  // aiter_activation
  float limit;         // infinity = none
  float beta, linear_beta;
};

}  // namespace aiter
