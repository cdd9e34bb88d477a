#include "aiter/activation.h"

#include "python/quant.h"
#include "python/tensor.h"

namespace aiter::python {
namespace {

aiter_act_and_mul_opts act_and_mul_opts(const OpCall& call, int activation, float limit,
                                        bool interleaved, float beta, float linear_beta) {
  aiter_act_and_mul_opts opts = AITER_ACT_AND_MUL_OPTS_INIT;
  opts.flags = call.flags();
  opts.activation = activation;
  opts.limit = limit;
  opts.interleaved = interleaved;
  opts.beta = beta;
  opts.linear_beta = linear_beta;
  return opts;
}

Spec half_of(const aiter_tensor* x) {
  Spec half = like(x);
  if (half.ndim > 0) half.shape[half.ndim - 1] /= 2;
  return half;
}

nb::object act_and_mul(nb::handle x, nb::handle bias, nb::handle expert_ids, nb::handle weights,
                       int activation, float limit, bool interleaved, float beta, float linear_beta,
                       nb::handle dtype, nb::handle quant_, nb::handle out, nb::handle out_scale,
                       nb::handle stream) {
  OpCall call("act_and_mul", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tbias = call.in("bias", bias);
  const aiter_tensor* tids = call.in("expert_ids", expert_ids);
  const aiter_tensor* tweights = call.in("weights", weights);
  QuantResult quant(call, quant_);
  Spec half = half_of(tx);
  half.dtype = parse_dtype(dtype, half.dtype);
  const int64_t d = half.ndim > 0 ? half.shape[half.ndim - 1] : 0;
  const aiter_tensor* ty = quant ? quant.codes("out", out, tx, d) : call.out("out", out, half);
  const aiter_tensor* tscale = quant ? quant.scale("out_scale", out_scale, tx, d) : nullptr;
  auto opts = act_and_mul_opts(call, activation, limit, interleaved, beta, linear_beta);
  opts.quant = quant.opts();
  call.run([&] {
    return aiter_act_and_mul(tx, tbias, tids, tweights, ty, tscale, &opts, call.stream());
  });
  return call.result();
}

nb::object act_and_mul_backward(nb::handle dy, nb::handle x, int activation, float limit,
                                bool interleaved, float beta, float linear_beta, nb::handle out,
                                nb::handle stream) {
  OpCall call("act_and_mul_backward", stream);
  const aiter_tensor* tdy = call.in("dy", dy);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tdx = call.out("out", out, like(tx));
  const auto opts = act_and_mul_opts(call, activation, limit, interleaved, beta, linear_beta);
  call.run([&] { return aiter_act_and_mul_backward(tdy, tx, tdx, &opts, call.stream()); });
  return call.result();
}

}  // namespace

void bind_activation(nb::module_& m) {
  m.def("act_and_mul", &act_and_mul, "x"_a, "bias"_a.none(), "expert_ids"_a.none(),
        "weights"_a.none(), "activation"_a, "limit"_a, "interleaved"_a, "beta"_a, "linear_beta"_a,
        "dtype"_a.none(), "quant"_a.none(), "out"_a.none(), "out_scale"_a.none(),
        "stream"_a.none());
  m.def("act_and_mul_backward", &act_and_mul_backward, "dy"_a, "x"_a, "activation"_a, "limit"_a,
        "interleaved"_a, "beta"_a, "linear_beta"_a, "out"_a.none(), "stream"_a.none());
  m.attr("ACTIVATION_SILU") = int{AITER_ACTIVATION_SILU};
  m.attr("ACTIVATION_GELU") = int{AITER_ACTIVATION_GELU};
  m.attr("ACTIVATION_GELU_TANH") = int{AITER_ACTIVATION_GELU_TANH};
  m.attr("ACTIVATION_SWIGLU") = int{AITER_ACTIVATION_SWIGLU};
  m.attr("ACTIVATION_SITUV2") = int{AITER_ACTIVATION_SITUV2};
}

}  // namespace aiter::python
