#pragma once

#include "ops/quant/quantize/quantize_args.h"

namespace aiter {

// x is the output here; smooth, num_rows and spec.amax_bound are not used.
using DequantizeArgs = QuantizeArgs;

}  // namespace aiter
