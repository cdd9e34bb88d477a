#include "python/tensor.h"

#include <cstring>
#include <memory>
#include <string>

namespace aiter::python {
namespace {

// Beneath this many bytes a CPU call takes about as long as letting another Python thread in.
constexpr int64_t kSmallBytes = 32 << 10;

// What aiter.explain() collects on this thread; null outside of it.
thread_local std::string* explanations = nullptr;

bool has_no_name(Kind kind, aiter_dtype dtype) {
  if (kind != Kind::kNumpy && kind != Kind::kTorch && kind != Kind::kCupy) return false;
  return dtype_object(kind, dtype).ptr() == dtype_object(kind, kUint8).ptr();
}

}  // namespace

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

void raise(aiter_status status) {
  PyObject* type = PyExc_RuntimeError;
  switch (status) {
    case AITER_INVALID_ARGUMENT:
    case AITER_WORKSPACE_TOO_SMALL:
      type = PyExc_ValueError;
      break;
    case AITER_UNSUPPORTED:
      type = PyExc_NotImplementedError;
      break;
    case AITER_OUT_OF_MEMORY:
      type = PyExc_MemoryError;
      break;
    default:
      break;
  }
  PyErr_SetString(type, aiter_last_error());
  throw nb::python_error();
}

uint32_t OpCall::flags() const { return explanations ? AITER_DRY_RUN : 0; }

bool OpCall::prepare() {
  stream_ = stream_choice_.resolve();
  int64_t bytes = 0;
  for (int i = 0; i < count_; ++i) {
    const aiter_tensor& t = tensors_[i].tensor;
    if (!on_host(t.device)) return true;
    const int64_t size = product(t.ndim, t.shape, bytes_of(t.dtype));
    if (size > kSmallBytes || (bytes += size) > kSmallBytes) return true;
  }
  return false;
}

void OpCall::finish(aiter_status status) {
  check(status);
  if (!explanations) {
    for (int i = 0; written_ >> i; ++i)
      if (const Array* array = tensors_[i].array; written_ >> i & 1 && array && array->writer)
        array->writer->store(stream_);
    return;
  }
  if (!explanations->empty()) *explanations += "\n";
  *explanations += aiter_last_explanation();
}

Imported& OpCall::next() {
  if (count_ == kMaxTensors) throw std::runtime_error("a binding has too many tensors");
  return tensors_[count_++];
}

Imported& OpCall::import(const char* name, nb::handle object, bool writable) {
  if (writable) written_ |= 1u << count_;
  Imported& t = next();
  Importer(op_, name, stream_choice_).import(t, object, writable);
  return t;
}

const aiter_tensor* OpCall::in(const char* name, nb::handle object, aiter_dtype packed) {
  if (object.is_none()) return nullptr;
  const int index = count_;
  Imported& t = import(name, object, false);
  if (t.tensor.dtype == kUint8) t.tensor.dtype = packed;
  if (first_ < 0) first_ = index;
  return &t.tensor;
}

const aiter_tensor* OpCall::inout(const char* name, nb::handle object) {
  if (object.is_none()) return nullptr;
  const int index = count_;
  Imported& t = import(name, object, true);
  if (first_ < 0) first_ = index;
  return &t.tensor;
}

const aiter_tensor* OpCall::out(const char* name, nb::handle given, const Spec& spec) {
  if (out_count_ == static_cast<int>(outs_.size()))
    throw std::runtime_error("a binding has too many outputs");
  outs_[out_count_] = count_;
  if (!given.is_none()) {
    ++out_count_;
    Imported& t = import(name, given, true);
    t.owner = nb::borrow(given);
    if (t.tensor.dtype == kUint8 && has_no_name(t.kind, spec.dtype)) t.tensor.dtype = spec.dtype;
    return &t.tensor;
  }
  fresh_ |= 1u << out_count_++;
  written_ |= 1u << count_;
  Imported& t = next();
  allocate(t, spec);
  return &t.tensor;
}

// In the kind, and on the device, of the first tensor.
void OpCall::allocate(Imported& t, const Spec& spec) {
  const Kind kind = first_ < 0 ? Kind::kArray : tensors_[first_].kind;
  aiter_device device{AITER_CPU, 0};
  if (first_ >= 0 && !on_host(tensors_[first_].tensor.device))
    device = tensors_[first_].tensor.device;
  if (kind == Kind::kNumpy || kind == Kind::kTorch || kind == Kind::kCupy)
    t.owner = empty(kind, spec, device);
  else
    t.owner = nb::cast(new_array(spec, device));
  Importer(op_, "out", stream_choice_).import(t, t.owner, true);
  t.tensor.dtype = spec.dtype;  // where the library has uint8 for it
}

void* OpCall::workspace(uint64_t bytes) {
  if (bytes == 0) return nullptr;
  Imported& t = next();
  allocate(t, spec(kUint8, {static_cast<int64_t>(bytes)}));
  return static_cast<char*>(t.tensor.data) + t.tensor.byte_offset;
}

nb::object OpCall::result() {
  for (int i = 0; i < out_count_; ++i)
    if (fresh_ >> i & 1 && first_ >= 0 && tensors_[first_].kind == Kind::kJax)
      tensors_[outs_[i]].owner = to_jax(tensors_[outs_[i]].owner);
  if (out_count_ == 0) return nb::none();
  if (out_count_ == 1) return std::move(tensors_[outs_[0]].owner);
  nb::object all = nb::steal(PyTuple_New(out_count_));
  for (int i = 0; i < out_count_; ++i)
    PyTuple_SetItem(all.ptr(), i, tensors_[outs_[i]].owner.release().ptr());
  return all;
}

void bind_core(nb::module_& m) {
  m.def("version", &aiter_version);
  m.def("set_num_threads", [](int n) { check(aiter_set_num_threads(n)); }, "n"_a);
  m.def("get_num_threads", &aiter_get_num_threads);
  m.def(
      "set_cpu_isa",
      [](nb::handle name) {
        check(aiter_set_cpu_isa(name.is_none() ? nullptr : nb::cast<const char*>(name)));
      },
      "name"_a.none());
  m.def("get_cpu_isa", &aiter_get_cpu_isa);
  m.def("set_force", [](const char* rows) { check(aiter_set_force(rows)); }, "rows"_a);
  m.def("dispatch_table", &aiter_dispatch_table);
  m.def(
      "device_count",
      [](int type) {
        int32_t n = 0;
        check(aiter_device_count(type, &n));
        return n;
      },
      "type"_a);
  m.def(
      "device_info",
      [](nb::handle device) {
        aiter_device_info info{};
        info.struct_size = sizeof(info);
        check(aiter_get_device_info(parse_device(device), &info));
        nb::dict d;
        d["name"] = info.name;
        d["arch"] = info.arch;
        d["multiprocessors"] = info.multiprocessors;
        d["wave_size"] = info.wave_size;
        d["shared_bytes"] = info.shared_bytes;
        d["cache_bytes"] = info.cache_bytes;
        d["memory_bytes"] = info.memory_bytes;
        return d;
      },
      "device"_a);
  m.def(
      "prepare",
      [](nb::handle device, nb::handle ops) {
        const aiter_device d = parse_device(device);
        const char* names = ops.is_none() ? nullptr : nb::cast<const char*>(ops);
        aiter_status status;
        {
          nb::gil_scoped_release release;
          status = aiter_prepare(d, names);
        }
        check(status);
      },
      "device"_a, "ops"_a.none());
  m.def(
      "explain",
      [](nb::handle function, nb::args args, nb::kwargs kwargs) {
        std::string text;
        struct Scope {
          std::string* outer = explanations;
          ~Scope() { explanations = outer; }
        } scope;
        explanations = &text;
        function(*args, **kwargs);
        return nb::str(text.c_str());
      },
      "function"_a, "args"_a, "kwargs"_a);
}

}  // namespace aiter::python
