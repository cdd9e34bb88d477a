#include "aiter/norm.h"

#include "python/quant.h"

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

// The result before its quantization, where an array or a dtype asks for it.
const aiter_tensor* unquantized_out(OpCall& call, const char* name, nb::handle array,
                                    nb::handle dtype, const aiter_tensor* x) {
  if (array.is_none() && dtype.is_none()) return nullptr;
  Spec copy = like(x);
  copy.dtype = parse_dtype(dtype, x->dtype);
  return call.out(name, array, copy);
}

nb::object norm_quant(nb::handle x, nb::handle x_bias, nb::handle residual_in, nb::handle w,
                      nb::handle b, nb::handle gate, nb::handle smooth, int kind, float eps,
                      bool gemma, bool model_sensitive, bool flatten, nb::handle quant_choice,
                      nb::handle unquantized_dtype, nb::handle out, nb::handle out_scale,
                      nb::handle unquantized, nb::handle residual_out, nb::handle stream) {
  OpCall call("norm_quant", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tx_bias = call.in("x_bias", x_bias);
  const aiter_tensor* tin = call.in("residual_in", residual_in);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* tb = call.in("b", b);
  const aiter_tensor* tgate = call.in("gate", gate);
  const aiter_tensor* tsmooth = call.in("smooth", smooth);
  aiter_tensor rows = *tx;  // of codes: x's, or with its last two dimensions joined
  int64_t columns = -1;
  if (flatten && tx->ndim > 1) {
    rows.ndim -= 1;
    columns = tx->shape[tx->ndim - 2] * tx->shape[tx->ndim - 1];
  }
  QuantResult quant(call, quant_choice);
  const aiter_tensor* ty = quant.codes("out", out, &rows, columns);
  const aiter_tensor* tscale = quant.scale("out_scale", out_scale, &rows, columns);
  const aiter_tensor* tunquantized =
      unquantized_out(call, "unquantized", unquantized, unquantized_dtype, tx);
  const aiter_tensor* tout =
      tin || !residual_out.is_none() ? call.out("residual_out", residual_out, like(tx)) : nullptr;
  aiter_norm_quant_opts opts = AITER_NORM_QUANT_OPTS_INIT;
  opts.flags = call.flags();
  opts.kind = kind;
  opts.eps = eps;
  opts.gemma = gemma;
  opts.model_sensitive = model_sensitive;
  opts.quant = quant.opts();
  call.run([&] {
    return aiter_norm_quant(tx, tx_bias, tin, tw, tb, tgate, tsmooth, ty, tscale, tunquantized,
                            tout, &opts, call.stream());
  });
  return call.result();
}

nb::object qk_rmsnorm(nb::handle q, nb::handle q_residual_in, nb::handle q_w, nb::handle k,
                      nb::handle k_w, float q_eps, float k_eps, bool gemma, nb::handle quant_choice,
                      nb::handle unquantized_dtype, nb::handle q_out, nb::handle q_scale,
                      nb::handle q_unquantized, nb::handle q_residual_out, nb::handle k_out,
                      nb::handle stream) {
  OpCall call("qk_rmsnorm", stream);
  const aiter_tensor* tq = call.in("q", q);
  const aiter_tensor* tin = call.in("q_residual_in", q_residual_in);
  const aiter_tensor* tq_w = call.in("q_w", q_w);
  const aiter_tensor* tk = call.in("k", k);
  const aiter_tensor* tk_w = call.in("k_w", k_w);
  QuantResult quant(call, quant_choice);
  const aiter_tensor* tq_out =
      quant ? quant.codes("q_out", q_out, tq) : call.out("q_out", q_out, like(tq));
  const aiter_tensor* tscale = quant ? quant.scale("q_scale", q_scale, tq) : nullptr;
  const aiter_tensor* tunquantized =
      unquantized_out(call, "q_unquantized", q_unquantized, unquantized_dtype, tq);
  const aiter_tensor* tq_residual_out =
      tin ? call.out("q_residual_out", q_residual_out, like(tq)) : nullptr;
  const aiter_tensor* tk_out = tk ? call.out("k_out", k_out, like(tk)) : nullptr;
  aiter_qk_rmsnorm_opts opts = AITER_QK_RMSNORM_OPTS_INIT;
  opts.flags = call.flags();
  opts.q_eps = q_eps;
  opts.k_eps = k_eps;
  opts.gemma = gemma;
  opts.quant = quant.opts();
  call.run([&] {
    return aiter_qk_rmsnorm(tq, tin, tq_w, tk, tk_w, tq_out, tscale, tunquantized, tq_residual_out,
                            tk_out, &opts, call.stream());
  });
  return call.result();
}

aiter_groupnorm_opts groupnorm_opts(const OpCall& call, int64_t num_groups, float eps,
                                    bool channels_last, bool silu) {
  aiter_groupnorm_opts opts = AITER_GROUPNORM_OPTS_INIT;
  opts.flags = call.flags();
  opts.num_groups = num_groups;
  opts.eps = eps;
  opts.channels_last = channels_last;
  opts.silu = silu;
  return opts;
}

nb::object groupnorm(nb::handle x, nb::handle w, nb::handle b, int64_t num_groups, float eps,
                     bool channels_last, bool silu, nb::handle out, nb::handle stream) {
  OpCall call("groupnorm", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* tb = call.in("b", b);
  const aiter_tensor* ty = call.out("out", out, like(tx));
  const aiter_groupnorm_opts opts = groupnorm_opts(call, num_groups, eps, channels_last, silu);
  call.run([&] { return aiter_groupnorm(tx, tw, tb, ty, &opts, call.stream()); });
  return call.result();
}

nb::object add_groupnorm(nb::handle x, nb::handle residual_in, nb::handle w, nb::handle b,
                         int64_t num_groups, float eps, bool channels_last, bool silu,
                         nb::handle out, nb::handle residual_out, nb::handle stream) {
  OpCall call("add_groupnorm", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tin = call.in("residual_in", residual_in);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* tb = call.in("b", b);
  const aiter_tensor* ty = call.out("out", out, like(tx));
  const aiter_tensor* tout = call.out("residual_out", residual_out, like(tx));
  const aiter_groupnorm_opts opts = groupnorm_opts(call, num_groups, eps, channels_last, silu);
  call.run([&] { return aiter_add_groupnorm(tx, tin, tw, tb, ty, tout, &opts, call.stream()); });
  return call.result();
}

nb::object groupnorm_quant(nb::handle x, nb::handle residual_in, nb::handle w, nb::handle b,
                           nb::handle smooth, int64_t num_groups, float eps, bool channels_last,
                           bool silu, nb::handle quant_choice, nb::handle unquantized_dtype,
                           bool return_moments, nb::handle out, nb::handle out_scale,
                           nb::handle unquantized, nb::handle residual_out, nb::handle moments,
                           nb::handle stream) {
  OpCall call("groupnorm_quant", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tin = call.in("residual_in", residual_in);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* tb = call.in("b", b);
  const aiter_tensor* tsmooth = call.in("smooth", smooth);
  QuantResult quant(call, quant_choice);
  const aiter_tensor* ty = quant.codes("out", out, tx);
  const aiter_tensor* tscale = quant.scale("out_scale", out_scale, tx);
  const aiter_tensor* tunquantized =
      unquantized_out(call, "unquantized", unquantized, unquantized_dtype, tx);
  const aiter_tensor* tout =
      tin || !residual_out.is_none() ? call.out("residual_out", residual_out, like(tx)) : nullptr;
  const aiter_dtype f32{AITER_CODE_FLOAT, 32, 1};
  const int64_t batch = tx->ndim < 2 ? 0 : tx->shape[0];
  const int64_t channels = tx->ndim < 2 ? 0 : tx->shape[channels_last ? tx->ndim - 1 : 1];
  const int64_t groups = num_groups < 1 || channels % num_groups ? 0 : num_groups;  // 0: is refused
  View scratch(tx);
  const aiter_tensor* tmoments;
  if (return_moments || !moments.is_none()) {
    tmoments = call.out("moments", moments, spec(f32, {batch, groups, 2}));
  } else {
    scratch.tensor.dtype = f32;
    scratch.tensor.byte_offset = 0;
    scratch.tensor.data = call.workspace(static_cast<uint64_t>(batch * groups) * 8);
    scratch.shape[0] = batch, scratch.shape[1] = groups, scratch.shape[2] = 2;
    tmoments = scratch.of(3);
    scratch.tensor.strides = nullptr;
  }
  aiter_groupnorm_quant_opts opts = AITER_GROUPNORM_QUANT_OPTS_INIT;
  opts.flags = call.flags();
  opts.num_groups = num_groups;
  opts.eps = eps;
  opts.channels_last = channels_last;
  opts.silu = silu;
  opts.quant = quant.opts();
  call.run([&] {
    return aiter_groupnorm_quant(tx, tin, tw, tb, tsmooth, ty, tscale, tmoments, tunquantized, tout,
                                 &opts, call.stream());
  });
  return call.result();
}

nb::object norm_backward(nb::handle dy, nb::handle x, nb::handle w, nb::handle dresidual,
                         aiter_norm_kind kind, float eps, bool gemma, bool want_dw, bool want_db,
                         bool want_dx_bias, nb::handle out, nb::handle stream) {
  OpCall call("norm_backward", stream);
  const aiter_tensor* tdy = call.in("dy", dy);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* tdresidual = call.in("dresidual", dresidual);
  const aiter_tensor* tdx = call.out("out", out, like(tx));
  if (tx->ndim < 1) want_dw = want_db = want_dx_bias = false;  // is refused
  const Spec sums = spec(tw ? tw->dtype : tx->dtype, {tx->ndim < 1 ? 0 : tx->shape[tx->ndim - 1]});
  const aiter_tensor* tdw = want_dw ? call.out("dw", nb::none(), sums) : nullptr;
  const aiter_tensor* tdb = want_db ? call.out("db", nb::none(), sums) : nullptr;
  aiter_norm_backward_opts opts = AITER_NORM_BACKWARD_OPTS_INIT;
  opts.flags = call.flags();
  opts.kind = kind;
  opts.eps = eps;
  opts.gemma = gemma;
  Spec dx_bias = sums;
  dx_bias.dtype = tx->dtype;
  if (want_dx_bias) opts.dx_bias = call.out("dx_bias", nb::none(), dx_bias);
  check(aiter_norm_backward_workspace(tx, want_dw + want_db + want_dx_bias, &opts.workspace_bytes));
  opts.workspace = call.workspace(opts.workspace_bytes);
  call.run([&] {
    return aiter_norm_backward(tdy, tx, tw, tdresidual, tdx, tdw, tdb, &opts, call.stream());
  });
  return call.result();
}

nb::object rmsnorm_backward(nb::handle dy, nb::handle x, nb::handle w, nb::handle dresidual,
                            float eps, bool gemma, nb::handle out, nb::handle stream) {
  return norm_backward(dy, x, w, dresidual, AITER_NORM_RMS, eps, gemma, !w.is_none(), false, false,
                       out, stream);
}

nb::object layernorm_backward(nb::handle dy, nb::handle x, nb::handle w, nb::handle dresidual,
                              float eps, bool bias, bool x_bias, nb::handle out,
                              nb::handle stream) {
  return norm_backward(dy, x, w, dresidual, AITER_NORM_LAYER, eps, false, !w.is_none(), bias,
                       x_bias, out, stream);
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
  m.def("norm_quant", &norm_quant, "x"_a, "x_bias"_a.none(), "residual_in"_a.none(), "w"_a.none(),
        "b"_a.none(), "gate"_a.none(), "smooth"_a.none(), "kind"_a, "eps"_a, "gemma"_a,
        "model_sensitive"_a, "flatten"_a, "quant"_a, "unquantized_dtype"_a.none(), "out"_a.none(),
        "out_scale"_a.none(), "unquantized"_a.none(), "residual_out"_a.none(), "stream"_a.none());
  m.def("qk_rmsnorm", &qk_rmsnorm, "q"_a, "q_residual_in"_a.none(), "q_w"_a.none(), "k"_a.none(),
        "k_w"_a.none(), "q_eps"_a, "k_eps"_a, "gemma"_a, "quant"_a.none(),
        "unquantized_dtype"_a.none(), "q_out"_a.none(), "q_scale"_a.none(),
        "q_unquantized"_a.none(), "q_residual_out"_a.none(), "k_out"_a.none(), "stream"_a.none());
  m.def("groupnorm", &groupnorm, "x"_a, "w"_a.none(), "b"_a.none(), "num_groups"_a, "eps"_a,
        "channels_last"_a, "silu"_a, "out"_a.none(), "stream"_a.none());
  m.def("add_groupnorm", &add_groupnorm, "x"_a, "residual_in"_a, "w"_a.none(), "b"_a.none(),
        "num_groups"_a, "eps"_a, "channels_last"_a, "silu"_a, "out"_a.none(),
        "residual_out"_a.none(), "stream"_a.none());
  m.def("groupnorm_quant", &groupnorm_quant, "x"_a, "residual_in"_a.none(), "w"_a.none(),
        "b"_a.none(), "smooth"_a.none(), "num_groups"_a, "eps"_a, "channels_last"_a, "silu"_a,
        "quant"_a, "unquantized_dtype"_a.none(), "return_moments"_a, "out"_a.none(),
        "out_scale"_a.none(), "unquantized"_a.none(), "residual_out"_a.none(), "moments"_a.none(),
        "stream"_a.none());
  m.def("rmsnorm_backward", &rmsnorm_backward, "dy"_a, "x"_a, "w"_a.none(), "dresidual"_a.none(),
        "eps"_a, "gemma"_a, "out"_a.none(), "stream"_a.none());
  m.def("layernorm_backward", &layernorm_backward, "dy"_a, "x"_a, "w"_a.none(),
        "dresidual"_a.none(), "eps"_a, "bias"_a, "x_bias"_a, "out"_a.none(), "stream"_a.none());
}

}  // namespace aiter::python
