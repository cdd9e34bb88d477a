// The checks that quantize and dequantize share: one contract, read in both directions.
#pragma once

#include "aiter/quant.h"
#include "core/check.h"
#include "ops/quant/quantize/quantize_args.h"

namespace aiter {

// Fills the part of the arguments that describes numbers, codes and scales; `x` is the tensor of
// numbers, whichever direction they go.
QuantizeArgs check_quantize(const Check& check, const Arg& x, const aiter_tensor* codes,
                            const aiter_tensor* scale, const aiter_quantize_opts& opts);

}  // namespace aiter
