#pragma once

#include "core/quant_spec.h"
#include "ops/activation/gated_args.h"

namespace aiter {

struct ActAndMulArgs : GatedArgs {
  static constexpr int kPacks = 2;     // GPU: packs (16 bytes, or an element) of a thread at a time
  static constexpr int kColumns = 16;  // GPU: of such a pack where results become codes of one kind

  void* y;
  Rows y_rows;
  DType y_dtype;
  int32_t threads_per_row;  // GPU, of quantized rows
  QuantOut out;             // codes is null when y is not quantized
};

// Of row hip_plain: what halves of gates and ups need. Little is read before a short kernel starts.
struct ActAndMulPlainArgs {
  const void* x;
  void* y;
  Rows x_rows, y_rows;
  int64_t d;
  int32_t activation;
  float limit;
};

}  // namespace aiter
