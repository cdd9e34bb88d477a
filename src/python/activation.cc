#include "aiter/activation.h"

#include "python/tensor.h"

namespace aiter::python {
namespace {

nb::object act_and_mul(nb::handle x, int activation, float limit, nb::handle dtype, nb::handle out,
                       nb::handle stream) {
  OpCall call("act_and_mul", stream);
  const aiter_tensor* tx = call.in("x", x);
  Spec half = like(tx);
  if (half.ndim > 0) half.shape[half.ndim - 1] /= 2;
  half.dtype = parse_dtype(dtype, half.dtype);
  const aiter_tensor* ty = call.out("out", out, half);
  aiter_act_and_mul_opts opts = AITER_ACT_AND_MUL_OPTS_INIT;
  opts.flags = call.flags();
  opts.activation = activation;
  opts.limit = limit;
  call.run([&] { return aiter_act_and_mul(tx, ty, &opts, call.stream()); });
  return call.result();
}

}  // namespace

void bind_activation(nb::module_& m) {
  m.def("act_and_mul", &act_and_mul, "x"_a, "activation"_a, "limit"_a, "dtype"_a.none(),
        "out"_a.none(), "stream"_a.none());
  m.attr("ACTIVATION_SILU") = int{AITER_ACTIVATION_SILU};
  m.attr("ACTIVATION_GELU") = int{AITER_ACTIVATION_GELU};
  m.attr("ACTIVATION_GELU_TANH") = int{AITER_ACTIVATION_GELU_TANH};
  m.attr("ACTIVATION_SWIGLU") = int{AITER_ACTIVATION_SWIGLU};
}

}  // namespace aiter::python
