#include "ops/activation/gated_checks.h"

#include <cmath>

namespace aiter {

GatedArgs check_gated(const Check& check, const GatedTensors& tensors,
                      const aiter_act_and_mul_opts& opts) {
  check.require(
      opts.activation >= AITER_ACTIVATION_SILU && opts.activation <= AITER_ACTIVATION_GELU_TANH,
      "opts.activation is %d, expected an aiter_activation (0 to 4)", opts.activation);
  check.require(opts.limit >= 0, "opts.limit is %g, expected at least 0", opts.limit);
  check.require(opts.beta > 0 && std::isfinite(opts.beta),
                "opts.beta is %g, expected a number above 0", opts.beta);
  check.require(opts.linear_beta > 0 && std::isfinite(opts.linear_beta),
                "opts.linear_beta is %g, expected a number above 0", opts.linear_beta);

  const auto& [x, bias, expert_ids, weights] = tensors;
  x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();
  if (x.dim(-1) % 2)
    x.refuse("has last extent %lld, expected an even one (gate and up)",
             static_cast<long long>(x.dim(-1)));
  GatedArgs args{};
  args.x = x.data(), args.x_rows = x.rows(), args.dtype = x.dtype();
  args.d = x.dim(-1) / 2;

  if (bias) {
    bias.dtype({DType::kF32}).shape({-1, x.dim(-1)}).contiguous().on_device_of(x);
    args.bias = static_cast<const float*>(bias.data());
    args.experts = bias.dim(0);
    check.require(expert_ids || args.experts == 1,
                  "expert_ids is NULL, expected a tensor, as bias has %lld rows",
                  static_cast<long long>(args.experts));
  }
  if (expert_ids) {
    check.require(static_cast<bool>(bias), "bias is NULL, expected a tensor, as expert_ids is one");
    expert_ids.dtype({DType::kI32, DType::kI64}).rank(x.rank() - 1).contiguous().on_device_of(x);
    for (int i = 0; i + 1 < x.rank(); ++i)
      if (expert_ids.dim(i) != x.dim(i))
        expert_ids.refuse("has extent %lld in dimension %d, expected x's %lld",
                          static_cast<long long>(expert_ids.dim(i)), i,
                          static_cast<long long>(x.dim(i)));
    args.expert_ids = expert_ids.data(), args.id_dtype = expert_ids.dtype();
  }
  if (weights) {
    if (weights.dtype() != DType::kF32) weights.dtype_of(x);
    weights.rank(x.rank()).unit_last_stride().on_device_of(x);
    for (int i = 0; i < x.rank(); ++i) {
      const int64_t expected = i + 1 == x.rank() ? args.d : x.dim(i);
      if (weights.dim(i) != expected && !(i + 1 == x.rank() && weights.dim(i) == 1))
        weights.refuse("has extent %lld in dimension %d, expected %lld%s",
                       static_cast<long long>(weights.dim(i)), i, static_cast<long long>(expected),
                       i + 1 == x.rank() ? " or 1" : "");
    }
    args.weights = weights.data(), args.weights_rows = weights.rows();
    args.weights_dtype = weights.dtype();
    args.weight_per_row = weights.dim(-1) == 1;
  }
  args.interleaved = opts.interleaved != 0;
  args.activation = opts.activation;
  args.limit = opts.limit > 0 ? opts.limit : INFINITY;
  args.beta = opts.beta, args.linear_beta = opts.linear_beta;
  return args;
}

void check_half_of(const Arg& y, const Arg& x) {
  if (x.dtype() == DType::kF32)
    y.dtype({DType::kF32, DType::kF16, DType::kBF16});
  else
    y.dtype_of(x);
  y.rank(x.rank()).unit_last_stride().on_device_of(x);
  for (int i = 0; i < x.rank(); ++i) {
    const int64_t expected = i + 1 == x.rank() ? x.dim(i) / 2 : x.dim(i);
    if (y.dim(i) != expected)
      y.refuse("has extent %lld in dimension %d, expected %lld (x's shape, the last one halved)",
               static_cast<long long>(y.dim(i)), i, static_cast<long long>(expected));
  }
}

bool gated_aligned16(const GatedArgs& args, const void* data, const Rows& rows, DType dtype) {
  const int64_t bytes = dtype_bytes(args.dtype);
  bool aligned = is_aligned16(args.x, args.x_rows, bytes) && args.d * bytes % 16 == 0 &&
                 is_aligned16(data, rows, dtype_bytes(dtype)) && is_aligned16(args.bias) &&
                 args.d % 4 == 0;
  if (args.weights && !args.weight_per_row)
    aligned =
        aligned && is_aligned16(args.weights, args.weights_rows, dtype_bytes(args.weights_dtype));
  return aligned;
}

}  // namespace aiter
