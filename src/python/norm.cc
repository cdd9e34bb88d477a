#include "aiter/norm.h"

#include "python/tensor.h"

namespace aiter::python {
namespace {

aiter_rmsnorm_opts rmsnorm_opts(const OpCall& call, float eps, bool gemma, bool model_sensitive) {
  aiter_rmsnorm_opts opts = AITER_RMSNORM_OPTS_INIT;
  opts.flags = call.flags();
  opts.eps = eps;
  opts.gemma = gemma;
  opts.model_sensitive = model_sensitive;
  return opts;
}

// Like x, with columns up to a multiple of pad.
Spec padded(const aiter_tensor* x, int64_t pad) {
  Spec s = like(x);
  if (pad > 0 && s.ndim > 0) {
    int64_t& columns = s.shape[s.ndim - 1];
    columns = (columns + pad - 1) / pad * pad;
  }
  return s;
}

nb::object rmsnorm(nb::handle x, nb::handle w, float eps, bool gemma, bool model_sensitive,
                   int64_t pad, nb::handle out, nb::handle stream) {
  OpCall call("rmsnorm", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* ty = call.out("out", out, padded(tx, pad));
  const auto opts = rmsnorm_opts(call, eps, gemma, model_sensitive);
  call.run([&] { return aiter_rmsnorm(tx, tw, ty, &opts, call.stream()); });
  return call.result();
}

aiter_layernorm_opts layernorm_opts(const OpCall& call, float eps) {
  aiter_layernorm_opts opts = AITER_LAYERNORM_OPTS_INIT;
  opts.flags = call.flags();
  opts.eps = eps;
  return opts;
}

nb::object layernorm(nb::handle x, nb::handle x_bias, nb::handle w, nb::handle b, float eps,
                     nb::handle out, nb::handle stream) {
  OpCall call("layernorm", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tx_bias = call.in("x_bias", x_bias);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* tb = call.in("b", b);
  const aiter_tensor* ty = call.out("out", out, like(tx));
  const auto opts = layernorm_opts(call, eps);
  call.run([&] { return aiter_layernorm(tx, tx_bias, tw, tb, ty, &opts, call.stream()); });
  return call.result();
}

nb::object add_layernorm(nb::handle x, nb::handle x_bias, nb::handle residual_in, nb::handle w,
                         nb::handle b, float eps, nb::handle out, nb::handle residual_out,
                         nb::handle stream) {
  OpCall call("add_layernorm", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tx_bias = call.in("x_bias", x_bias);
  const aiter_tensor* tin = call.in("residual_in", residual_in);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* tb = call.in("b", b);
  const aiter_tensor* ty = call.out("out", out, like(tx));
  const aiter_tensor* tout = call.out("residual_out", residual_out, like(tx));
  const auto opts = layernorm_opts(call, eps);
  call.run([&] {
    return aiter_add_layernorm(tx, tx_bias, tin, tw, tb, ty, tout, &opts, call.stream());
  });
  return call.result();
}

nb::object add_rmsnorm(nb::handle x, nb::handle residual_in, nb::handle w, float eps, bool gemma,
                       bool model_sensitive, int64_t pad, nb::handle out, nb::handle residual_out,
                       nb::handle stream) {
  OpCall call("add_rmsnorm", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tin = call.in("residual_in", residual_in);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* ty = call.out("out", out, padded(tx, pad));
  const aiter_tensor* tout = call.out("residual_out", residual_out, like(tx));
  const auto opts = rmsnorm_opts(call, eps, gemma, model_sensitive);
  call.run([&] { return aiter_add_rmsnorm(tx, tin, tw, ty, tout, &opts, call.stream()); });
  return call.result();
}

}  // namespace

void bind_norm(nb::module_& m) {
  m.def("rmsnorm", &rmsnorm, "x"_a, "w"_a.none(), "eps"_a, "gemma"_a, "model_sensitive"_a, "pad"_a,
        "out"_a.none(), "stream"_a.none());
  m.def("add_rmsnorm", &add_rmsnorm, "x"_a, "residual_in"_a, "w"_a.none(), "eps"_a, "gemma"_a,
        "model_sensitive"_a, "pad"_a, "out"_a.none(), "residual_out"_a.none(), "stream"_a.none());
  m.def("layernorm", &layernorm, "x"_a, "x_bias"_a.none(), "w"_a.none(), "b"_a.none(), "eps"_a,
        "out"_a.none(), "stream"_a.none());
  m.def("add_layernorm", &add_layernorm, "x"_a, "x_bias"_a.none(), "residual_in"_a, "w"_a.none(),
        "b"_a.none(), "eps"_a, "out"_a.none(), "residual_out"_a.none(), "stream"_a.none());
}

}  // namespace aiter::python
