#include "python/tensor.h"

#include <nanobind/stl/string.h>

#include <cstring>
#include <string>

namespace aiter::python {
namespace {

thread_local bool dry_run = false;

struct DtypeName {
  const char* name;
  aiter_dtype dtype;
};
constexpr DtypeName kNames[] = {
    {"float32", {AITER_CODE_FLOAT, 32, 1}},
    {"float16", {AITER_CODE_FLOAT, 16, 1}},
    {"bfloat16", {AITER_CODE_BFLOAT, 16, 1}},
    {"float64", {AITER_CODE_FLOAT, 64, 1}},
    {"int8", {AITER_CODE_INT, 8, 1}},
    {"uint8", {AITER_CODE_UINT, 8, 1}},
    {"int16", {AITER_CODE_INT, 16, 1}},
    {"uint16", {AITER_CODE_UINT, 16, 1}},
    {"int32", {AITER_CODE_INT, 32, 1}},
    {"uint32", {AITER_CODE_UINT, 32, 1}},
    {"int64", {AITER_CODE_INT, 64, 1}},
    {"uint64", {AITER_CODE_UINT, 64, 1}},
    {"bool", {AITER_CODE_BOOL, 8, 1}},
    {"float8_e4m3fn", {AITER_CODE_FLOAT8_E4M3FN, 8, 1}},
    {"float8_e4m3fnuz", {AITER_CODE_FLOAT8_E4M3FNUZ, 8, 1}},
    {"float8_e5m2", {AITER_CODE_FLOAT8_E5M2, 8, 1}},
    {"float8_e5m2fnuz", {AITER_CODE_FLOAT8_E5M2FNUZ, 8, 1}},
    {"float8_e8m0fnu", {AITER_CODE_FLOAT8_E8M0FNU, 8, 1}},
};

bool same(aiter_dtype a, aiter_dtype b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

}  // namespace

Imported::~Imported() {
  if (managed) release(managed);
}

Spec like(const aiter_tensor* t) {
  Spec s;
  s.ndim = t->ndim;
  std::memcpy(s.shape, t->shape, sizeof(int64_t) * t->ndim);
  s.dtype = t->dtype;
  return s;
}

Spec spec(aiter_dtype dtype, std::initializer_list<int64_t> shape) {
  Spec s;
  for (int64_t n : shape) s.shape[s.ndim++] = n;
  s.dtype = dtype;
  return s;
}

aiter_dtype parse_dtype(nb::handle name, aiter_dtype fallback) {
  if (name.is_none()) return fallback;
  std::string text = nb::cast<std::string>(nb::str(name));
  text = text.substr(text.rfind('.') + 1);  // "torch.bfloat16"
  for (const DtypeName& n : kNames)
    if (text == n.name) return n.dtype;
  throw nb::value_error(("unknown dtype " + text).c_str());
}

void raise(aiter_status status) {
  PyObject* type = PyExc_RuntimeError;
  switch (status) {
    case AITER_INVALID_ARGUMENT: case AITER_WORKSPACE_TOO_SMALL: type = PyExc_ValueError; break;
    case AITER_UNSUPPORTED: type = PyExc_NotImplementedError; break;
    case AITER_OUT_OF_MEMORY: type = PyExc_MemoryError; break;
    default: break;
  }
  PyErr_SetString(type, aiter_last_error());
  throw nb::python_error();
}

void set_dry_run(bool on) { dry_run = on; }

uint32_t OpCall::flags() const { return dry_run ? AITER_DRY_RUN : 0; }

void OpCall::prepare() {}

Imported& OpCall::import(const char* name, nb::handle object, bool writable) {
  Imported& t = tensors_[count_];
  nb::object interface = nb::getattr(object, "__array_interface__", nb::none());
  if (interface.is_none())
    throw nb::type_error((std::string(op_) + ": " + name + " is a " +
                          nb::type_name(object.type()).c_str() + ", expected an array").c_str());
  nb::tuple data = interface["data"];
  if (writable && nb::cast<bool>(data[1]))
    throw nb::value_error((std::string(op_) + ": " + name + " is read-only").c_str());
  nb::tuple shape = interface["shape"];
  t.tensor.dtype = parse_dtype(object.attr("dtype").attr("name"), {});
  t.tensor.data = reinterpret_cast<void*>(nb::cast<uintptr_t>(data[0]));
  t.tensor.device = {AITER_CPU, 0};
  t.tensor.ndim = static_cast<int>(nb::len(shape));
  nb::tuple strides = object.attr("strides");
  for (int i = 0; i < t.tensor.ndim; ++i) {
    t.shape[i] = nb::cast<int64_t>(shape[i]);
    t.strides[i] = nb::cast<int64_t>(strides[i]) * 8 / t.tensor.dtype.bits;
  }
  t.tensor.shape = t.shape;
  t.tensor.strides = t.strides;
  t.owner = nb::borrow(object);
  ++count_;
  return t;
}

const aiter_tensor* OpCall::in(const char* name, nb::handle object) {
  if (object.is_none()) return nullptr;
  const int index = count_;
  Imported& t = import(name, object, false);
  if (first_ < 0) first_ = index;
  return &t.tensor;
}

const aiter_tensor* OpCall::inout(const char* name, nb::handle object) {
  const int index = count_;
  Imported& t = import(name, object, true);
  if (first_ < 0) first_ = index;
  return &t.tensor;
}

const aiter_tensor* OpCall::out(const char* name, nb::handle given, const Spec& spec) {
  outs_[out_count_++] = count_;
  if (!given.is_none()) return &import(name, given, true).tensor;
  const char* dtype = "float32";
  for (const DtypeName& n : kNames)
    if (same(n.dtype, spec.dtype)) dtype = n.name;
  nb::list shape;
  for (int i = 0; i < spec.ndim; ++i) shape.append(spec.shape[i]);
  nb::object np = nb::module_::import_("numpy");
  nb::object type = nb::str(dtype);
  if (spec.dtype.code >= AITER_CODE_BFLOAT && spec.dtype.code != AITER_CODE_BOOL)
    type = nb::module_::import_("ml_dtypes").attr(dtype);
  return &import(name, np.attr("empty")(shape, type), true).tensor;
}

nb::object OpCall::result() {
  if (out_count_ == 1) return tensors_[outs_[0]].owner;
  nb::list all;
  for (int i = 0; i < out_count_; ++i) all.append(tensors_[outs_[i]].owner);
  return nb::tuple(all);
}

}  // namespace aiter::python
