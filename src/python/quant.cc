#include "aiter/quant.h"

#include "python/tensor.h"

namespace aiter::python {
namespace {

constexpr aiter_dtype kUint8{AITER_CODE_UINT, 8, 1};

// Two fp4 codes a byte travel as uint8: no array library but torch has a packed fp4.
aiter_dtype stored(aiter_dtype dtype) { return dtype.bits == 4 ? kUint8 : dtype; }

struct Groups {
  int64_t rows, cols;
};

Spec codes_spec(const aiter_tensor* x, aiter_dtype dtype) {
  Spec s = like(x);
  s.dtype = stored(dtype);
  if (dtype.bits == 4 && s.ndim > 0) s.shape[s.ndim - 1] /= 2;
  return s;
}

Spec scale_spec(const aiter_tensor* x, Groups g, aiter_dtype dtype) {
  if (x->ndim == 0) return spec(dtype, {1});  // the C call refuses it by name
  const int64_t cols = x->shape[x->ndim - 1];
  const int64_t group_cols = g.cols > 0 ? (cols + g.cols - 1) / g.cols : 1;
  if (g.rows == 1) {
    Spec s = like(x);
    s.dtype = dtype;
    s.shape[s.ndim - 1] = group_cols;
    return s;
  }
  if (g.rows == 0 && g.cols == 0) return spec(dtype, {1});
  const int64_t rows = x->shape[0];
  return spec(dtype, {g.rows > 0 ? (rows + g.rows - 1) / g.rows : 1, group_cols});
}

aiter_quantize_opts quantize_opts(const OpCall& call, Groups g, aiter_dtype codes,
                                  aiter_dtype scale, float global_scale) {
  aiter_quantize_opts opts = AITER_QUANTIZE_OPTS_INIT;
  opts.flags = call.flags();
  opts.group_rows = g.rows;
  opts.group_cols = g.cols;
  opts.global_scale = global_scale;
  opts.code_dtype = codes;
  opts.scale_dtype = scale;
  return opts;
}

nb::object quantize(nb::handle x, nb::handle smooth, nb::handle num_rows, nb::handle scale,
                    int64_t group_rows, int64_t group_cols, nb::handle code_dtype,
                    nb::handle scale_dtype, int mx_round, float amax_bound, float global_scale,
                    nb::handle out, nb::handle out_scale, nb::handle stream) {
  OpCall call("quantize", stream);
  const Groups groups{group_rows, group_cols};
  const aiter_dtype codes = parse_dtype(code_dtype, {}), scales = parse_dtype(scale_dtype, {});
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tsmooth = call.in("smooth", smooth);
  const aiter_tensor* tnum_rows = call.in("num_rows", num_rows);
  aiter_quantize_opts opts = quantize_opts(call, groups, codes, scales, global_scale);
  opts.static_scale = !scale.is_none();
  opts.mx_round = mx_round;
  opts.amax_bound = amax_bound;
  const aiter_tensor* tcodes = call.out("codes", out, codes_spec(tx, codes));
  const aiter_tensor* tscale = opts.static_scale
                                   ? call.in("scale", scale)
                                   : call.out("scale", out_scale, scale_spec(tx, groups, scales));
  call.run(
      [&] { return aiter_quantize(tx, tsmooth, tnum_rows, tcodes, tscale, &opts, call.stream()); });
  return call.result();
}

nb::object dequantize(nb::handle codes, nb::handle scale, int64_t group_rows, int64_t group_cols,
                      nb::handle code_dtype, nb::handle scale_dtype, float global_scale,
                      nb::handle dtype, nb::handle out, nb::handle stream) {
  OpCall call("dequantize", stream);
  const aiter_tensor* tcodes = call.in("codes", codes);
  const aiter_tensor* tscale = call.in("scale", scale);
  const aiter_dtype code = parse_dtype(code_dtype, {}), scales = parse_dtype(scale_dtype, {});
  Spec s = like(tcodes);
  s.dtype = parse_dtype(dtype, kFloat32);
  const bool packed = (code.bits ? code : tcodes->dtype).bits == 4;
  if (packed && s.ndim > 0) s.shape[s.ndim - 1] *= 2;
  const aiter_tensor* ty = call.out("y", out, s);
  const aiter_quantize_opts opts =
      quantize_opts(call, {group_rows, group_cols}, code, scales, global_scale);
  call.run([&] { return aiter_dequantize(tcodes, tscale, ty, &opts, call.stream()); });
  return call.result();
}

}  // namespace

void bind_quant(nb::module_& m) {
  m.def("quantize", &quantize, "x"_a, "smooth"_a.none(), "num_rows"_a.none(), "scale"_a.none(),
        "group_rows"_a, "group_cols"_a, "code_dtype"_a, "scale_dtype"_a, "mx_round"_a,
        "amax_bound"_a, "global_scale"_a, "out"_a.none(), "out_scale"_a.none(), "stream"_a.none());
  m.def("dequantize", &dequantize, "codes"_a, "scale"_a, "group_rows"_a, "group_cols"_a,
        "code_dtype"_a.none(), "scale_dtype"_a.none(), "global_scale"_a, "dtype"_a.none(),
        "out"_a.none(), "stream"_a.none());
}

}  // namespace aiter::python
