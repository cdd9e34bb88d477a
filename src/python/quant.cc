#include "python/quant.h"

#include <cmath>
#include <cstring>
#include <string>

namespace aiter::python {
namespace {

// Packed codes travel as uint8: no array library but torch has a packed fp4, and none has fp6.
aiter_dtype stored(aiter_dtype dtype) { return dtype.bits < 8 ? kUint8 : dtype; }

int64_t ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }

// The shape of x with its last extent replaced, unless that is -1.
Spec with_cols(const aiter_tensor* x, int64_t cols) {
  Spec s = like(x);
  if (s.ndim > 0 && cols >= 0) s.shape[s.ndim - 1] = cols;
  return s;
}

Spec codes_spec(const aiter_tensor* x, int64_t cols, const aiter_quantize_opts& opts) {
  Spec s = with_cols(x, cols);
  s.dtype = stored(opts.code_dtype);
  if (s.ndim > 0) s.shape[s.ndim - 1] = s.shape[s.ndim - 1] * opts.code_dtype.bits / 8;
  return s;
}

Spec scale_spec(const aiter_tensor* x, int64_t cols, const aiter_quantize_opts& opts) {
  const aiter_dtype dtype = opts.scale_dtype;
  if (x->ndim == 0) return spec(dtype, {1});  // the C call refuses it by name
  Spec s = with_cols(x, cols);
  s.dtype = dtype;
  int64_t& last = s.shape[s.ndim - 1];
  last = opts.group_cols > 0 ? ceil_div(last, opts.group_cols) : 1;
  if (opts.scale_layout == AITER_SCALE_SHUFFLED) {
    int64_t rows = 1;
    for (int i = 0; i + 1 < x->ndim; ++i) rows *= x->shape[i];
    return spec(dtype, {ceil_div(rows, 256) * 256, ceil_div(last, 8) * 8});
  }
  if (opts.group_rows == 1) return s;
  if (opts.group_rows == 0 && opts.group_cols == 0) return spec(dtype, {1});
  return spec(dtype, {opts.group_rows > 0 ? ceil_div(x->shape[0], opts.group_rows) : 1, last});
}

int32_t parse_layout(nb::handle layout) {
  const char* text = nb::cast<const char*>(layout);
  if (!std::strcmp(text, "strided")) return AITER_SCALE_STRIDED;
  if (!std::strcmp(text, "shuffled")) return AITER_SCALE_SHUFFLED;
  throw nb::value_error(
      (std::string("scale_layout is \"") + text + "\", expected \"strided\" or \"shuffled\"")
          .c_str());
}

nb::object quantize(nb::handle x, nb::handle smooth, nb::handle num_rows, nb::handle scale,
                    int64_t group_rows, int64_t group_cols, nb::handle code_dtype,
                    nb::handle scale_dtype, int mx_round, float amax_bound, float global_scale,
                    nb::handle scale_layout, int num_rows_factor, nb::handle out,
                    nb::handle out_scale, nb::handle stream) {
  OpCall call("quantize", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tsmooth = call.in("smooth", smooth);
  const aiter_tensor* tnum_rows = call.in("num_rows", num_rows);
  aiter_quantize_opts opts = AITER_QUANTIZE_OPTS_INIT;
  opts.flags = call.flags();
  opts.group_rows = group_rows;
  opts.group_cols = group_cols;
  opts.global_scale = global_scale;
  opts.code_dtype = parse_dtype(code_dtype, {});
  opts.scale_dtype = parse_dtype(scale_dtype, {});
  opts.static_scale = !scale.is_none();
  opts.mx_round = mx_round;
  opts.amax_bound = amax_bound;
  opts.scale_layout = parse_layout(scale_layout);
  opts.num_rows_factor = num_rows_factor;
  const aiter_tensor* tcodes = call.out("codes", out, codes_spec(tx, -1, opts));
  const aiter_tensor* tscale = opts.static_scale
                                   ? call.in("scale", scale)
                                   : call.out("scale", out_scale, scale_spec(tx, -1, opts));
  call.run(
      [&] { return aiter_quantize(tx, tsmooth, tnum_rows, tcodes, tscale, &opts, call.stream()); });
  return call.result();
}

nb::object dequantize(nb::handle codes, nb::handle scale, int64_t group_rows, int64_t group_cols,
                      nb::handle code_dtype, nb::handle scale_dtype, float global_scale,
                      nb::handle scale_layout, nb::handle dtype, nb::handle out,
                      nb::handle stream) {
  OpCall call("dequantize", stream);
  const aiter_tensor* tcodes = call.in("codes", codes);
  const aiter_tensor* tscale = call.in("scale", scale);
  aiter_quantize_opts opts = AITER_QUANTIZE_OPTS_INIT;
  opts.flags = call.flags();
  opts.group_rows = group_rows;
  opts.group_cols = group_cols;
  opts.global_scale = global_scale;
  opts.code_dtype = parse_dtype(code_dtype, {});
  opts.scale_dtype = parse_dtype(scale_dtype, {});
  opts.scale_layout = parse_layout(scale_layout);
  Spec s = like(tcodes);
  s.dtype = parse_dtype(dtype, kFloat32);
  const int bits = (opts.code_dtype.bits ? opts.code_dtype : tcodes->dtype).bits;
  if (bits < 8 && bits > 0 && s.ndim > 0) s.shape[s.ndim - 1] = s.shape[s.ndim - 1] * 8 / bits;
  const aiter_tensor* ty = call.out("y", out, s);
  call.run([&] { return aiter_dequantize(tcodes, tscale, ty, &opts, call.stream()); });
  return call.result();
}

}  // namespace

// The items of aiter.Quant, in its order.
QuantResult::QuantResult(OpCall& call, nb::handle quant) : call_(call) {
  if (quant.is_none()) return;
  given_ = true;
  const nb::tuple items = nb::cast<nb::tuple>(quant);
  opts_.code_dtype = parse_dtype(items[0], {});
  opts_.group_cols = nb::cast<int64_t>(items[1]);
  static_scale_ = nb::borrow(items[2]);
  opts_.static_scale = !static_scale_.is_none();
  opts_.scale_dtype = parse_dtype(items[3], {});
  opts_.scale_layout = parse_layout(items[4]);
  opts_.mx_round = nb::cast<int>(items[5]);
  opts_.amax_bound = items[6].is_none() ? INFINITY : nb::cast<float>(items[6]);
  opts_.global_scale = nb::cast<float>(items[7]);
}

const aiter_tensor* QuantResult::codes(const char* name, nb::handle given, const aiter_tensor* x,
                                       int64_t cols) const {
  return call_.out(name, given, codes_spec(x, cols, opts_));
}

const aiter_tensor* QuantResult::scale(const char* name, nb::handle given, const aiter_tensor* x,
                                       int64_t cols) {
  if (!opts_.static_scale) return call_.out(name, given, scale_spec(x, cols, opts_));
  const aiter_tensor* scale = call_.in(name, static_scale_);
  // One number for all.
  if (scale->ndim == 1 && scale->shape[0] == 1 && opts_.group_cols == 0) opts_.group_rows = 0;
  return scale;
}

void bind_quant(nb::module_& m) {
  m.def("quantize", &quantize, "x"_a, "smooth"_a.none(), "num_rows"_a.none(), "scale"_a.none(),
        "group_rows"_a, "group_cols"_a, "code_dtype"_a, "scale_dtype"_a, "mx_round"_a,
        "amax_bound"_a, "global_scale"_a, "scale_layout"_a, "num_rows_factor"_a, "out"_a.none(),
        "out_scale"_a.none(), "stream"_a.none());
  m.def("dequantize", &dequantize, "codes"_a, "scale"_a, "group_rows"_a, "group_cols"_a,
        "code_dtype"_a.none(), "scale_dtype"_a.none(), "global_scale"_a, "scale_layout"_a,
        "dtype"_a.none(), "out"_a.none(), "stream"_a.none());
}

}  // namespace aiter::python
