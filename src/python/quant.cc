#include "python/quant.h"

#include <cmath>
#include <cstring>
#include <string>
#include <utility>

namespace aiter::python {
namespace {

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

// A scale that is given has its own dtype, unless it comes as bytes.
const aiter_tensor* given_scale(OpCall& call, const char* name, nb::handle scale,
                                aiter_quantize_opts* opts) {
  const aiter_tensor* t = call.in(name, scale);
  if (!(t->dtype == kUint8)) opts->scale_dtype = {};
  return t;
}

// A number, or an array of one on the device of the others.
void give_global_scale(OpCall& call, const char* name, nb::handle value,
                       aiter_quantize_opts* opts) {
  if (nb::hasattr(value, "__dlpack__"))
    opts->global_scale_tensor = call.in(name, value);
  else
    opts->global_scale = nb::cast<float>(value);
}

nb::object quantize(nb::handle x, nb::handle smooth, nb::handle smooth_map, nb::handle num_rows,
                    nb::handle scale, int64_t group_rows, int64_t group_cols, nb::handle code_dtype,
                    nb::handle scale_dtype, int mx_round, float amax_bound, nb::handle global_scale,
                    nb::handle scale_layout, int num_rows_factor, nb::handle out,
                    nb::handle out_scale, nb::handle stream) {
  OpCall call("quantize", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tsmooth = call.in("smooth", smooth);
  const aiter_tensor* tmap = call.in("smooth_map", smooth_map);
  const aiter_tensor* tnum_rows = call.in("num_rows", num_rows);
  aiter_quantize_opts opts = AITER_QUANTIZE_OPTS_INIT;
  opts.flags = call.flags();
  opts.group_rows = group_rows;
  opts.group_cols = group_cols;
  give_global_scale(call, "global_scale", global_scale, &opts);
  opts.code_dtype = parse_dtype(code_dtype, {});
  opts.scale_dtype = parse_dtype(scale_dtype, {});
  opts.static_scale = !scale.is_none();
  opts.mx_round = mx_round;
  opts.amax_bound = amax_bound;
  opts.scale_layout = parse_layout(scale_layout);
  opts.num_rows_factor = num_rows_factor;
  opts.smooth_map = tmap;
  const aiter_tensor* tcodes = call.out("codes", out, codes_spec(tx, -1, opts));
  const aiter_tensor* tscale = opts.static_scale
                                   ? given_scale(call, "scale", scale, &opts)
                                   : call.out("scale", out_scale, scale_spec(tx, -1, opts));
  call.run(
      [&] { return aiter_quantize(tx, tsmooth, tnum_rows, tcodes, tscale, &opts, call.stream()); });
  return call.result();
}

// Each token once for each of its experts: x is repeated by a stride of 0.
nb::object moe_smoothquant(nb::handle x, nb::handle smooth, nb::handle topk_ids,
                           nb::handle code_dtype, nb::handle out, nb::handle out_scale,
                           nb::handle stream) {
  OpCall call("quantize", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tsmooth = call.in("smooth", smooth);
  const aiter_tensor* tids = call.in("topk_ids", topk_ids);
  if (tx->ndim != 2 || tids->ndim != 2 || tids->shape[0] != tx->shape[0])
    throw nb::value_error(
        "moe_smoothquant: x and topk_ids have other shapes than (tokens, columns) "
        "and (tokens, topk)");
  const int64_t tokens = tx->shape[0], cols = tx->shape[1], topk = tids->shape[1];
  View repeated(tx), map(tids);
  repeated.shape[0] = topk, repeated.strides[0] = 0;
  for (int i = 0; i < 2; ++i)
    repeated.shape[i + 1] = tx->shape[i], repeated.strides[i + 1] = stride_of(tx, i);
  for (int i = 0; i < 2; ++i)
    map.shape[i] = tids->shape[1 - i], map.strides[i] = stride_of(tids, 1 - i);
  aiter_quantize_opts opts = AITER_QUANTIZE_OPTS_INIT;
  opts.flags = call.flags();
  opts.code_dtype = parse_dtype(code_dtype, {});
  opts.smooth_map = map.of(2);
  Spec codes = spec(stored(opts.code_dtype), {topk, tokens, cols * opts.code_dtype.bits / 8});
  const aiter_tensor* tcodes = call.out("codes", out, codes);
  const aiter_tensor* tscale =
      call.out("scale", out_scale, spec({AITER_CODE_FLOAT, 32, 1}, {topk, tokens, 1}));
  call.run([&] {
    return aiter_quantize(repeated.of(3), tsmooth, nullptr, tcodes, tscale, &opts, call.stream());
  });
  return call.result();
}

aiter_quantize_opts grouped(const nb::tuple& group, nb::handle code_dtype, nb::handle scale_dtype,
                            nb::handle scale_layout) {
  aiter_quantize_opts opts = AITER_QUANTIZE_OPTS_INIT;
  opts.group_rows = nb::cast<int64_t>(group[0]);
  opts.group_cols = nb::cast<int64_t>(group[1]);
  opts.code_dtype = parse_dtype(code_dtype, {});
  opts.scale_dtype = parse_dtype(scale_dtype, {});
  opts.scale_layout = parse_layout(scale_layout);
  return opts;
}

// Columns of the numbers behind codes.
int64_t numbers_of(const aiter_tensor* codes, aiter_dtype code) {
  if (codes->ndim == 0) return 0;
  const int bits = (code.bits ? code : codes->dtype).bits;
  const int64_t last = codes->shape[codes->ndim - 1];
  return bits > 0 && bits < 8 ? last * 8 / bits : last;
}

nb::object requantize(nb::handle codes, nb::handle scale, nb::tuple group, nb::handle code_dtype,
                      nb::handle scale_dtype, nb::handle global_scale, nb::handle scale_layout,
                      nb::tuple out_group, nb::handle out_code_dtype, nb::handle out_scale_dtype,
                      nb::handle out_global_scale, nb::handle out_scale_layout, int mx_round,
                      nb::handle given, nb::handle out, nb::handle out_scale, nb::handle stream) {
  OpCall call("requantize", stream);
  const aiter_tensor* tcodes = call.in("codes", codes);
  const aiter_tensor* tscale = call.in("scale", scale);
  aiter_quantize_opts from = grouped(group, code_dtype, scale_dtype, scale_layout);
  aiter_quantize_opts to = grouped(out_group, out_code_dtype, out_scale_dtype, out_scale_layout);
  give_global_scale(call, "from.global_scale", global_scale, &from);
  give_global_scale(call, "global_scale", out_global_scale, &to);
  to.flags = call.flags();
  to.mx_round = mx_round;
  to.static_scale = !given.is_none();
  const int64_t cols = numbers_of(tcodes, from.code_dtype);
  const aiter_tensor* tout = call.out("out_codes", out, codes_spec(tcodes, cols, to));
  const aiter_tensor* tout_scale =
      to.static_scale ? given_scale(call, "out_scale", given, &to)
                      : call.out("out_scale", out_scale, scale_spec(tcodes, cols, to));
  call.run([&] {
    return aiter_requantize(tcodes, tscale, tout, tout_scale, &from, &to, call.stream());
  });
  return call.result();
}

nb::object rotate_activation(nb::handle x, nb::handle quant_argument, nb::handle dtype,
                             nb::handle out, nb::handle out_scale, nb::handle stream) {
  OpCall call("rotate_activation", stream);
  const aiter_tensor* tx = call.in("x", x);
  QuantResult quant(call, quant_argument);
  Spec plain = like(tx);
  plain.dtype = parse_dtype(dtype, tx->dtype);
  const aiter_tensor* ty = quant ? quant.codes("out", out, tx) : call.out("out", out, plain);
  const aiter_tensor* tscale = quant ? quant.scale("scale", out_scale, tx) : nullptr;
  aiter_rotate_activation_opts opts = AITER_ROTATE_ACTIVATION_OPTS_INIT;
  opts.flags = call.flags();
  opts.quant = quant.opts();
  call.run([&] { return aiter_rotate_activation(tx, ty, tscale, &opts, call.stream()); });
  return call.result();
}

nb::object shuffle_weight(nb::handle w, int tile_rows, int tile_elements, int pack_elements,
                          bool gate_up, int64_t pad_k_to, nb::handle out, nb::handle stream) {
  OpCall call("shuffle_weight", stream);
  const aiter_tensor* tw = call.in("w", w);
  aiter_shuffle_weight_opts opts = AITER_SHUFFLE_WEIGHT_OPTS_INIT;
  opts.flags = call.flags();
  opts.tile_rows = tile_rows;
  opts.tile_elements = tile_elements;
  opts.pack_elements = pack_elements;
  opts.gate_up = gate_up;
  opts.pad_k_to = pad_k_to;
  int64_t bytes = 0;
  check(aiter_shuffled_weight_bytes(tw, &opts, &bytes));
  const aiter_tensor* tpacked = call.out("out", out, spec(kUint8, {bytes}));
  call.run([&] { return aiter_shuffle_weight(tw, tpacked, &opts, call.stream()); });
  return call.result();
}

// What the head says; waits for the stream where that is on a GPU.
aiter_shuffled_weight read_info(nb::handle packed, nb::handle stream) {
  OpCall call("shuffled_weight_info", stream);
  const aiter_tensor* tpacked = call.in("packed", packed);
  aiter_shuffled_weight info{};
  info.struct_size = sizeof(info);
  const aiter_device device = tpacked->device;
  const bool on_gpu = device.type == AITER_CUDA || device.type == AITER_ROCM;
  if (!on_gpu || tpacked->ndim != 1 || tpacked->shape[0] < 64) {
    check(aiter_shuffled_weight_info(tpacked, &info));
    return info;
  }
  uint8_t head[64];
  aiter_tensor host = *tpacked;
  host.data = head, host.byte_offset = 0, host.device = {AITER_CPU, 0};
  call.run([&] {
    const void* at = static_cast<const uint8_t*>(tpacked->data) + tpacked->byte_offset;
    aiter_status status = aiter_copy(device, head, at, sizeof(head), call.stream());
    if (status == AITER_OK) status = aiter_stream_synchronize(device, call.stream());
    return status == AITER_OK ? aiter_shuffled_weight_info(&host, &info) : status;
  });
  return info;
}

nb::object unshuffle_weight(nb::handle packed, nb::tuple shape, nb::handle dtype_name,
                            int64_t padded_k, int tile_rows, int tile_elements, int pack_elements,
                            bool gate_up, nb::handle out, nb::handle stream) {
  OpCall call("unshuffle_weight", stream);
  const aiter_tensor* tpacked = call.in("packed", packed);
  Spec s = spec(parse_dtype(dtype_name, {}), {0, 0, 0});
  s.ndim = shape.size() == 3 ? 3 : 2;
  for (int i = 0; i < s.ndim; ++i) s.shape[i] = nb::cast<int64_t>(shape[i]);
  const aiter_tensor* tw = call.out("out", out, s);
  if (!(tw->dtype == s.dtype))
    throw nb::value_error(("unshuffle_weight: w has dtype " + dtype_text(tw->dtype) +
                           ", expected " + dtype_text(s.dtype) + ", which was packed")
                              .c_str());
  aiter_shuffle_weight_opts opts = AITER_SHUFFLE_WEIGHT_OPTS_INIT;
  opts.flags = call.flags();
  opts.tile_rows = tile_rows;
  opts.tile_elements = tile_elements;
  opts.pack_elements = pack_elements;
  opts.gate_up = gate_up;
  opts.pad_k_to = padded_k;
  call.run([&] { return aiter_unshuffle_weight(tpacked, tw, &opts, call.stream()); });
  return call.result();
}

nb::tuple shuffled_weight_info(nb::handle packed, nb::handle stream) {
  const aiter_shuffled_weight info = read_info(packed, stream);
  const nb::tuple shape = info.rank == 3 ? nb::make_tuple(info.experts, info.n, info.k)
                                         : nb::make_tuple(info.n, info.k);
  return nb::make_tuple(shape, dtype_text(info.dtype).c_str(), info.padded_k, info.tile_rows,
                        info.tile_elements, info.pack_elements, info.gate_up != 0);
}

nb::object partial_transpose(nb::handle x, nb::handle num_rows, nb::handle out, nb::handle stream) {
  OpCall call("partial_transpose", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tnum_rows = call.in("num_rows", num_rows);
  Spec s = like(tx);
  if (s.ndim == 2) std::swap(s.shape[0], s.shape[1]);
  const aiter_tensor* ty = call.out("y", out, s);
  aiter_partial_transpose_opts opts = AITER_PARTIAL_TRANSPOSE_OPTS_INIT;
  opts.flags = call.flags();
  call.run([&] { return aiter_partial_transpose(tx, tnum_rows, ty, &opts, call.stream()); });
  return call.result();
}

nb::object shuffle_scale(nb::handle scale, int64_t experts, bool gate_up, bool unpadded,
                         nb::handle out, nb::handle stream) {
  OpCall call("shuffle_scale", stream);
  const aiter_tensor* tscale = call.in("scale", scale);
  aiter_shuffle_scale_opts opts = AITER_SHUFFLE_SCALE_OPTS_INIT;
  opts.flags = call.flags();
  opts.experts = experts;
  opts.gate_up = gate_up;
  opts.unpadded = unpadded;
  Spec s = like(tscale);
  if (s.ndim == 2 && experts == 1 && !gate_up && !unpadded)
    s = spec(tscale->dtype, {ceil_div(s.shape[0], 256) * 256, ceil_div(s.shape[1], 8) * 8});
  const aiter_tensor* tout = call.out("out", out, s);
  call.run([&] { return aiter_shuffle_scale(tscale, tout, &opts, call.stream()); });
  return call.result();
}

nb::object unshuffle_scale(nb::handle shuffled, int64_t rows, int64_t cols, int64_t experts,
                           bool gate_up, nb::handle out, nb::handle stream) {
  OpCall call("unshuffle_scale", stream);
  const aiter_tensor* tshuffled = call.in("shuffled", shuffled);
  aiter_shuffle_scale_opts opts = AITER_SHUFFLE_SCALE_OPTS_INIT;
  opts.flags = call.flags();
  opts.experts = experts;
  opts.gate_up = gate_up;
  opts.unpadded = cols % 8 == 0 && tshuffled->ndim == 2 && tshuffled->shape[0] == rows &&
                  tshuffled->shape[1] == cols;
  const aiter_tensor* tout = call.out("out", out, spec(tshuffled->dtype, {rows, cols}));
  call.run([&] { return aiter_unshuffle_scale(tshuffled, tout, &opts, call.stream()); });
  return call.result();
}

nb::object dequantize(nb::handle codes, nb::handle scale, int64_t group_rows, int64_t group_cols,
                      nb::handle code_dtype, nb::handle scale_dtype, nb::handle global_scale,
                      nb::handle scale_layout, nb::handle dtype, nb::handle out,
                      nb::handle stream) {
  OpCall call("dequantize", stream);
  const aiter_tensor* tcodes = call.in("codes", codes);
  const aiter_tensor* tscale = call.in("scale", scale);
  aiter_quantize_opts opts = AITER_QUANTIZE_OPTS_INIT;
  opts.flags = call.flags();
  opts.group_rows = group_rows;
  opts.group_cols = group_cols;
  give_global_scale(call, "global_scale", global_scale, &opts);
  opts.code_dtype = parse_dtype(code_dtype, {});
  opts.scale_dtype = parse_dtype(scale_dtype, {});
  opts.scale_layout = parse_layout(scale_layout);
  Spec s = with_cols(tcodes, numbers_of(tcodes, opts.code_dtype));
  s.dtype = parse_dtype(dtype, kFloat32);
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
  give_global_scale(call, "quant.global_scale", items[7], &opts_);
}

const aiter_tensor* QuantResult::codes(const char* name, nb::handle given, const aiter_tensor* x,
                                       int64_t cols) const {
  return call_.out(name, given, codes_spec(x, cols, opts_));
}

const aiter_tensor* QuantResult::scale(const char* name, nb::handle given, const aiter_tensor* x,
                                       int64_t cols) {
  if (!opts_.static_scale) return call_.out(name, given, scale_spec(x, cols, opts_));
  const aiter_tensor* scale = given_scale(call_, name, static_scale_, &opts_);
  // One number for all.
  if (scale->ndim == 1 && scale->shape[0] == 1 && opts_.group_cols == 0) opts_.group_rows = 0;
  return scale;
}

void bind_quant(nb::module_& m) {
  m.def("moe_smoothquant", &moe_smoothquant, "x"_a, "smooth"_a, "topk_ids"_a, "code_dtype"_a,
        "out"_a.none(), "out_scale"_a.none(), "stream"_a.none());
  m.def("requantize", &requantize, "codes"_a, "scale"_a, "group"_a, "code_dtype"_a.none(),
        "scale_dtype"_a.none(), "global_scale"_a, "scale_layout"_a, "out_group"_a,
        "out_code_dtype"_a, "out_scale_dtype"_a, "out_global_scale"_a, "out_scale_layout"_a,
        "mx_round"_a, "given_scale"_a.none(), "out"_a.none(), "out_scale"_a.none(),
        "stream"_a.none());
  m.def("rotate_activation", &rotate_activation, "x"_a, "quant"_a.none(), "dtype"_a.none(),
        "out"_a.none(), "out_scale"_a.none(), "stream"_a.none());
  m.def("partial_transpose", &partial_transpose, "x"_a, "num_rows"_a, "out"_a.none(),
        "stream"_a.none());
  m.def("shuffle_weight", &shuffle_weight, "w"_a, "tile_rows"_a, "tile_elements"_a,
        "pack_elements"_a, "gate_up"_a, "pad_k_to"_a, "out"_a.none(), "stream"_a.none());
  m.def("unshuffle_weight", &unshuffle_weight, "packed"_a, "shape"_a, "dtype"_a, "padded_k"_a,
        "tile_rows"_a, "tile_elements"_a, "pack_elements"_a, "gate_up"_a, "out"_a.none(),
        "stream"_a.none());
  m.def("shuffled_weight_info", &shuffled_weight_info, "packed"_a, "stream"_a.none());
  m.def("shuffle_scale", &shuffle_scale, "scale"_a, "experts"_a, "gate_up"_a, "unpadded"_a,
        "out"_a.none(), "stream"_a.none());
  m.def("unshuffle_scale", &unshuffle_scale, "shuffled"_a, "rows"_a, "cols"_a, "experts"_a,
        "gate_up"_a, "out"_a.none(), "stream"_a.none());
  m.def("quantize", &quantize, "x"_a, "smooth"_a.none(), "smooth_map"_a.none(), "num_rows"_a.none(),
        "scale"_a.none(), "group_rows"_a, "group_cols"_a, "code_dtype"_a, "scale_dtype"_a,
        "mx_round"_a, "amax_bound"_a, "global_scale"_a, "scale_layout"_a, "num_rows_factor"_a,
        "out"_a.none(), "out_scale"_a.none(), "stream"_a.none());
  m.def("dequantize", &dequantize, "codes"_a, "scale"_a, "group_rows"_a, "group_cols"_a,
        "code_dtype"_a.none(), "scale_dtype"_a.none(), "global_scale"_a, "scale_layout"_a,
        "dtype"_a.none(), "out"_a.none(), "stream"_a.none());
}

}  // namespace aiter::python
