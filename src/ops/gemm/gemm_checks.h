// Argument checks that the GEMMs share.
#pragma once

#include "core/check.h"
#include "launch/launch.h"

namespace aiter {

// (N), contiguous, f32 or the dtype of `like`; on x's device.
inline Arg check_gemm_bias(const Check& check, const aiter_tensor* tensor, int64_t n, const Arg& x,
                           const Arg& like) {
  const Arg bias = check.optional("bias", tensor);
  if (bias) {
    if (bias.dtype() != DType::kF32) bias.dtype_of(like);
    bias.shape({n}).contiguous().on_device_of(x);
  }
  return bias;
}

// A float tensor with x's leading dimensions, then N.
inline Arg check_gemm_output(const Check& check, const aiter_tensor* tensor, int64_t n,
                             const Arg& x) {
  const Arg y = check.tensor("y", tensor);
  y.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(x.rank()).unit_last_stride();
  y.on_device_of(x);
  bool same = y.dim(-1) == n;
  for (int i = 0; i + 1 < x.rank(); ++i) same = same && y.dim(i) == x.dim(i);
  if (!same)
    y.refuse("differs from the expected shape: x's leading dimensions, then w's N = %lld",
             static_cast<long long>(n));
  return y;
}

// Warps of a block in the kernels of ck/gemm for few rows of x: the blocks fill the device between
// them, and each warp has a step along k.
inline int narrow_warps(const Call& call, int64_t blocks, int64_t steps, int most,
                        int64_t per_multiprocessor) {
  const int64_t wanted = per_multiprocessor * device_of(call.device).multiprocessors;
  int warps = 1;
  while (warps < most && warps * blocks < wanted && 2 * warps <= steps) warps *= 2;
  return warps;
}

}  // namespace aiter
