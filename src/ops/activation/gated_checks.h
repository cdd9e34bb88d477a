// The checks that the gated activations share.
#pragma once

#include "aiter/activation.h"
#include "core/check.h"
#include "ops/activation/gated_args.h"

namespace aiter {

struct GatedTensors {
  Arg x, bias, expert_ids, weights;
};

GatedArgs check_gated(const Check& check, const GatedTensors& tensors,
                      const aiter_act_and_mul_opts& opts);

// `y` has x's shape with half of its last extent, x's dtype (or for f32 x a 16-bit one), its
// device.
void check_half_of(const Arg& y, const Arg& x);

// Gates, ups and `rows` (d elements of `dtype` in each) can be read as vectors of 16 bytes.
bool gated_aligned16(const GatedArgs& args, const void* data, const Rows& rows, DType dtype);

}  // namespace aiter
