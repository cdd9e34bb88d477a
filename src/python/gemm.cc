#include "aiter/gemm.h"

#include <cstring>

#include "python/tensor.h"

namespace aiter::python {
namespace {

// "16bit", "8bit", "32bit"; anything else goes on as -1, for the C check to refuse.
int32_t parse_activation(const char* name) {
  if (std::strcmp(name, "16bit") == 0) return AITER_GEMM_ACTIVATION_16BIT;
  if (std::strcmp(name, "8bit") == 0) return AITER_GEMM_ACTIVATION_8BIT;
  if (std::strcmp(name, "32bit") == 0) return AITER_GEMM_ACTIVATION_32BIT;
  return -1;
}

aiter_gemm_packed_info read_info(const aiter_tensor* packed) {
  aiter_gemm_packed_info info{};
  info.struct_size = sizeof(info);
  check(aiter_gemm_weight_info(packed, &info));
  return info;
}

// y's shape: x's with N as the last extent. N comes from the packed form when there are no scales;
// bytes that are no packed form are left for the operator to refuse.
Spec output_spec(const aiter_tensor* x, const aiter_tensor* w, const aiter_tensor* w_scale,
                 nb::handle dtype) {
  Spec s = like(x);
  s.dtype = parse_dtype(dtype, x->dtype);
  aiter_gemm_packed_info info{};
  info.struct_size = sizeof(info);
  int64_t n = 0;
  if (w->ndim == 2)
    n = w->shape[0];
  else if (!w_scale && aiter_gemm_weight_info(w, &info) == AITER_OK)
    n = info.n;
  if (s.ndim > 0) s.shape[s.ndim - 1] = n;
  return s;
}

nb::object gemm_a16w16(nb::handle x, nb::handle w, nb::handle bias, nb::handle dtype,
                       nb::handle out, nb::handle stream) {
  OpCall call("gemm_a16w16", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* tbias = call.in("bias", bias);
  const aiter_tensor* ty = call.out("out", out, output_spec(tx, tw, nullptr, dtype));
  aiter_gemm_a16w16_opts opts = AITER_GEMM_A16W16_OPTS_INIT;
  opts.flags = call.flags();
  call.run([&] { return aiter_gemm_a16w16(tx, tw, tbias, ty, &opts, call.stream()); });
  return call.result();
}

nb::object gemm_a8w8(nb::handle x, nb::handle w, nb::handle x_scale, nb::handle w_scale,
                     nb::handle bias, nb::handle dtype, nb::handle out, nb::handle stream) {
  OpCall call("gemm_a8w8", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* txs = call.in("x_scale", x_scale);
  const aiter_tensor* tws = call.in("w_scale", w_scale);
  const aiter_tensor* tbias = call.in("bias", bias);
  const aiter_tensor* ty = call.out("out", out, output_spec(tx, tw, txs, dtype));
  aiter_gemm_a8w8_opts opts = AITER_GEMM_A8W8_OPTS_INIT;
  opts.flags = call.flags();
  call.run([&] { return aiter_gemm_a8w8(tx, tw, txs, tws, tbias, ty, &opts, call.stream()); });
  return call.result();
}

nb::object gemm_a16w4(nb::handle x, nb::handle w, nb::handle w_scale, nb::handle w_min,
                      nb::handle bias, nb::handle dtype, const char* activation, nb::handle out,
                      nb::handle stream) {
  OpCall call("gemm_a16w4", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* tscale = call.in("w_scale", w_scale);
  const aiter_tensor* tmin = call.in("w_min", w_min);
  const aiter_tensor* tbias = call.in("bias", bias);
  const aiter_tensor* ty = call.out("out", out, output_spec(tx, tw, tscale, dtype));
  aiter_gemm_a16w4_opts opts = AITER_GEMM_A16W4_OPTS_INIT;
  opts.flags = call.flags();
  opts.activation = parse_activation(activation);
  call.run([&] { return aiter_gemm_a16w4(tx, tw, tscale, tmin, tbias, ty, &opts, call.stream()); });
  return call.result();
}

nb::object gemm_a16w8(nb::handle x, nb::handle w, nb::handle w_scale, nb::handle bias,
                      nb::handle dtype, const char* activation, nb::handle out, nb::handle stream) {
  OpCall call("gemm_a16w8", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* tscale = call.in("w_scale", w_scale);
  const aiter_tensor* tbias = call.in("bias", bias);
  const aiter_tensor* ty = call.out("out", out, output_spec(tx, tw, tscale, dtype));
  aiter_gemm_a16w8_opts opts = AITER_GEMM_A16W8_OPTS_INIT;
  opts.flags = call.flags();
  opts.activation = parse_activation(activation);
  call.run([&] { return aiter_gemm_a16w8(tx, tw, tscale, tbias, ty, &opts, call.stream()); });
  return call.result();
}

constexpr aiter_dtype kUint8{AITER_CODE_UINT, 8, 1};
constexpr aiter_dtype kInt8{AITER_CODE_INT, 8, 1};

nb::object gemm_a16w4_pack(nb::handle w, nb::handle w_scale, nb::handle w_min, nb::handle out,
                           nb::handle stream) {
  OpCall call("gemm_a16w4_pack", stream);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* tscale = call.in("w_scale", w_scale);
  const aiter_tensor* tmin = call.in("w_min", w_min);
  int64_t bytes = 0;
  if (tw->ndim == 2)
    check(aiter_gemm_a16w4_packed_bytes(tw->shape[0], 2 * tw->shape[1], tscale->dtype, &bytes));
  const aiter_tensor* tpacked = call.out("out", out, spec(kUint8, {bytes}));
  aiter_gemm_a16w4_opts opts = AITER_GEMM_A16W4_OPTS_INIT;
  opts.flags = call.flags();
  call.run([&] { return aiter_gemm_a16w4_pack(tw, tscale, tmin, tpacked, &opts, call.stream()); });
  return call.result();
}

nb::object gemm_a16w8_pack(nb::handle w, nb::handle w_scale, nb::handle out, nb::handle stream) {
  OpCall call("gemm_a16w8_pack", stream);
  const aiter_tensor* tw = call.in("w", w);
  const aiter_tensor* tscale = call.in("w_scale", w_scale);
  int64_t bytes = 0;
  if (tw->ndim == 2)
    check(aiter_gemm_a16w8_packed_bytes(tw->shape[0], tw->shape[1], tscale->dtype, &bytes));
  const aiter_tensor* tpacked = call.out("out", out, spec(kUint8, {bytes}));
  aiter_gemm_a16w8_opts opts = AITER_GEMM_A16W8_OPTS_INIT;
  opts.flags = call.flags();
  call.run([&] { return aiter_gemm_a16w8_pack(tw, tscale, tpacked, &opts, call.stream()); });
  return call.result();
}

nb::object gemm_a16w4_unpack(nb::handle packed, nb::handle stream) {
  OpCall call("gemm_a16w4_unpack", stream);
  const aiter_tensor* tpacked = call.in("packed", packed);
  const aiter_gemm_packed_info info = read_info(tpacked);
  const Spec group = spec(info.scale_dtype, {info.n, info.k / 32});
  const aiter_tensor* tw = call.out("w", nb::none(), spec(kUint8, {info.n, info.k / 2}));
  const aiter_tensor* tscale = call.out("w_scale", nb::none(), group);
  const aiter_tensor* tmin = info.has_min ? call.out("w_min", nb::none(), group) : nullptr;
  aiter_gemm_a16w4_opts opts = AITER_GEMM_A16W4_OPTS_INIT;
  opts.flags = call.flags();
  call.run(
      [&] { return aiter_gemm_a16w4_unpack(tpacked, tw, tscale, tmin, &opts, call.stream()); });
  return info.has_min ? call.result() : call.result() + nb::make_tuple(nb::none());
}

nb::object gemm_a16w8_unpack(nb::handle packed, nb::handle stream) {
  OpCall call("gemm_a16w8_unpack", stream);
  const aiter_tensor* tpacked = call.in("packed", packed);
  const aiter_gemm_packed_info info = read_info(tpacked);
  const aiter_tensor* tw = call.out("w", nb::none(), spec(kInt8, {info.n, info.k}));
  const aiter_tensor* tscale =
      call.out("w_scale", nb::none(), spec(info.scale_dtype, {info.n, info.k / 32}));
  aiter_gemm_a16w8_opts opts = AITER_GEMM_A16W8_OPTS_INIT;
  opts.flags = call.flags();
  call.run([&] { return aiter_gemm_a16w8_unpack(tpacked, tw, tscale, &opts, call.stream()); });
  return call.result();
}

// (bits, n, k, padded n, scale dtype's code and bits, has minimums)
nb::tuple gemm_weight_info(nb::handle packed) {
  OpCall call("gemm_weight_info", nb::none());
  const aiter_gemm_packed_info info = read_info(call.in("packed", packed));
  const char* scale = info.scale_dtype.bits == 32                  ? "float32"
                      : info.scale_dtype.code == AITER_CODE_BFLOAT ? "bfloat16"
                                                                   : "float16";
  return nb::make_tuple(info.bits, info.n, info.k, info.padded_n, scale, info.has_min != 0);
}

}  // namespace

void bind_gemm(nb::module_& m) {
  m.def("gemm_a16w16", &gemm_a16w16, "x"_a, "w"_a, "bias"_a.none(), "dtype"_a.none(),
        "out"_a.none(), "stream"_a.none());
  m.def("gemm_a8w8", &gemm_a8w8, "x"_a, "w"_a, "x_scale"_a, "w_scale"_a, "bias"_a.none(), "dtype"_a,
        "out"_a.none(), "stream"_a.none());
  m.def("gemm_a16w4", &gemm_a16w4, "x"_a, "w"_a, "w_scale"_a.none(), "w_min"_a.none(),
        "bias"_a.none(), "dtype"_a.none(), "activation"_a, "out"_a.none(), "stream"_a.none());
  m.def("gemm_a16w4_pack", &gemm_a16w4_pack, "w"_a, "w_scale"_a, "w_min"_a.none(), "out"_a.none(),
        "stream"_a.none());
  m.def("gemm_a16w4_unpack", &gemm_a16w4_unpack, "packed"_a, "stream"_a.none());
  m.def("gemm_a16w8", &gemm_a16w8, "x"_a, "w"_a, "w_scale"_a.none(), "bias"_a.none(),
        "dtype"_a.none(), "activation"_a, "out"_a.none(), "stream"_a.none());
  m.def("gemm_a16w8_pack", &gemm_a16w8_pack, "w"_a, "w_scale"_a, "out"_a.none(), "stream"_a.none());
  m.def("gemm_a16w8_unpack", &gemm_a16w8_unpack, "packed"_a, "stream"_a.none());
  m.def("gemm_weight_info", &gemm_weight_info, "packed"_a);
}

}  // namespace aiter::python
