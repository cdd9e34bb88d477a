#include "aiter/elementwise.h"

#include <algorithm>

#include "core/promote.h"
#include "python/tensor.h"

namespace aiter::python {
namespace {

// The shape that tensors broadcast to; where they do not, the C call says so by name.
Spec broadcast(std::initializer_list<const aiter_tensor*> tensors) {
  Spec s;
  for (const aiter_tensor* t : tensors)
    if (t) s.ndim = std::max(s.ndim, t->ndim);
  for (int i = 0; i < s.ndim; ++i) s.shape[i] = 1;
  for (const aiter_tensor* t : tensors)
    for (int i = 0; t && i < t->ndim; ++i) {
      int64_t& extent = s.shape[s.ndim - t->ndim + i];
      if (extent == 1) extent = t->shape[i];
    }
  return s;
}

// A Python (or NumPy) number; anything else is an array.
bool is_number(nb::handle x, double* number) {
  if (!PyFloat_Check(x.ptr()) && !PyLong_Check(x.ptr())) return false;
  *number = nb::cast<double>(nb::float_(x));
  return true;
}

nb::object unary(nb::handle x, int op, nb::handle dtype, nb::handle out, nb::handle stream) {
  OpCall call("unary", stream);
  const aiter_tensor* tx = call.in("x", x);
  Spec s = like(tx);
  s.dtype = parse_dtype(dtype, s.dtype);
  const aiter_tensor* ty = call.out("out", out, s);
  aiter_unary_opts opts = AITER_UNARY_OPTS_INIT;
  opts.flags = call.flags();
  opts.op = op;
  call.run([&] { return aiter_unary(tx, ty, &opts, call.stream()); });
  return call.result();
}

nb::object binary(nb::handle a, nb::handle b, int op, nb::handle out, nb::handle stream) {
  OpCall call("binary", stream);
  aiter_binary_opts opts = AITER_BINARY_OPTS_INIT;
  opts.flags = call.flags();
  opts.op = op;
  const aiter_tensor* ta = is_number(a, &opts.a) ? nullptr : call.in("a", a);
  const aiter_tensor* tb = is_number(b, &opts.b) ? nullptr : call.in("b", b);
  Spec s = broadcast({ta, tb});
  s.dtype = kFloat32;
  if (ta || tb) {
    s.dtype = !ta   ? promote(tb->dtype, opts.a)
              : !tb ? promote(ta->dtype, opts.b)
                    : promote(ta->dtype, tb->dtype);
    if (op == AITER_BINARY_DIV && kind_of(s.dtype) != aiter::Kind::kFloat) s.dtype = kFloat32;
  }
  const aiter_tensor* ty = call.out("out", out, s);
  call.run([&] { return aiter_binary(ta, tb, ty, &opts, call.stream()); });
  return call.result();
}

nb::object fused_mul_add(nb::handle x, nb::handle a, nb::handle b, nb::handle dtype, nb::handle out,
                         nb::handle stream) {
  OpCall call("fused_mul_add", stream);
  aiter_fused_mul_add_opts opts = AITER_FUSED_MUL_ADD_OPTS_INIT;
  opts.flags = call.flags();
  double na = 1, nb_ = 0;
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* ta = is_number(a, &na) ? nullptr : call.in("a", a);
  const aiter_tensor* tb = is_number(b, &nb_) ? nullptr : call.in("b", b);
  opts.a = static_cast<float>(na), opts.b = static_cast<float>(nb_);
  Spec s = broadcast({tx, ta, tb});
  s.dtype = parse_dtype(dtype, tx->dtype);
  const aiter_tensor* ty = call.out("out", out, s);
  call.run([&] { return aiter_fused_mul_add(tx, ta, tb, ty, &opts, call.stream()); });
  return call.result();
}

nb::object softmax(nb::handle x, nb::handle out, nb::handle stream) {
  OpCall call("softmax", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* ty = call.out("out", out, like(tx));
  aiter_softmax_opts opts = AITER_SOFTMAX_OPTS_INIT;
  opts.flags = call.flags();
  call.run([&] { return aiter_softmax(tx, ty, &opts, call.stream()); });
  return call.result();
}

}  // namespace

void bind_elementwise(nb::module_& m) {
  m.def("unary", &unary, "x"_a, "op"_a, "dtype"_a.none(), "out"_a.none(), "stream"_a.none());
  m.def("binary", &binary, "a"_a, "b"_a, "op"_a, "out"_a.none(), "stream"_a.none());
  m.def("fused_mul_add", &fused_mul_add, "x"_a, "a"_a, "b"_a, "dtype"_a.none(), "out"_a.none(),
        "stream"_a.none());
  m.def("softmax", &softmax, "x"_a, "out"_a.none(), "stream"_a.none());
  m.attr("UNARY_SIGMOID") = int{AITER_UNARY_SIGMOID};
  m.attr("UNARY_TANH") = int{AITER_UNARY_TANH};
  m.attr("UNARY_RELU") = int{AITER_UNARY_RELU};
  m.attr("UNARY_SILU") = int{AITER_UNARY_SILU};
  m.attr("UNARY_GELU") = int{AITER_UNARY_GELU};
  m.attr("UNARY_GELU_TANH") = int{AITER_UNARY_GELU_TANH};
  m.attr("BINARY_ADD") = int{AITER_BINARY_ADD};
  m.attr("BINARY_SUB") = int{AITER_BINARY_SUB};
  m.attr("BINARY_MUL") = int{AITER_BINARY_MUL};
  m.attr("BINARY_DIV") = int{AITER_BINARY_DIV};
}

}  // namespace aiter::python
