#pragma once

#include "core/quant_spec.h"

namespace aiter {

struct RequantizeArgs {
  static constexpr int kWaveGroup = 2048;  // GPU: numbers of a group that a wave takes alone

  QuantOut from, to;
  int64_t from_group_rows, to_group_rows;
  int64_t rows;
};

}  // namespace aiter
