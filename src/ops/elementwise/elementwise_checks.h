// What the elementwise operators share: broadcasting, and the order of dimensions.
#pragma once

#include <initializer_list>

#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/elementwise/elementwise_args.h"

namespace aiter {

struct ElementwiseInput {
  Arg tensor;  // absent: the number
  double number;
};

// Shapes, strides, pointers and dtypes of operands that broadcast to y; the rest is zero.
ElementwiseArgs check_elementwise(const Check& check, std::initializer_list<ElementwiseInput> in,
                                  const Arg& y);

struct ElementwiseProblem {
  DType common, out_dtype;
  int64_t elements, inner;  // all, and those of the innermost dimension
  bool same_floats;         // all are of one of f32, f16, bf16
  bool aligned16;           // and innermost rows begin at, and are, multiples of 16 bytes
};

ElementwiseProblem problem_of(const ElementwiseArgs& args, int inputs);

// Launches for rows of vectors, and for anything.
void elementwise_hip_vec(const FloatKernels& kernels, const ElementwiseArgs& args,
                         const Call& call);
void elementwise_hip_any(const Kernel& kernel, ElementwiseArgs args, const Call& call);

}  // namespace aiter
