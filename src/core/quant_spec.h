// What a quantizer makes of a group of numbers: the part of a quantizing operator's arguments that
// all of them share, and kernels too.
#pragma once

#include "core/dtype.h"
#include "core/small_float.h"

namespace aiter {

struct QuantSpec {
  DType code;          // int8, a fp8 kind, fp4x2
  DType scale;         // f32, e8m0 (a power of two) or e4m3fn (times global_scale)
  MxRound round;       // of an e8m0 scale
  float amax_bound;    // the largest magnitude that a scale makes room for; infinity = no bound
  float global_scale;  // of an e4m3fn scale
};

}  // namespace aiter
