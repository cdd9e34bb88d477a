#include "python/import.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>

namespace aiter::python {
namespace {

// NumPy's PyArrayInterface, in the capsule of __array_struct__.
struct ArrayStruct {
  int two;
  int ndim;
  char kind;
  int item_bytes;
  int flags;
  Py_ssize_t* shape;
  Py_ssize_t* strides;  // in bytes
  void* data;
  PyObject* description;
};
constexpr int kAligned = 0x100, kNativeOrder = 0x200, kWriteable = 0x400;

// The stream argument of __dlpack__ for a stream handle.
nb::object dlpack_stream(aiter_stream stream, int32_t device_type) {
  intptr_t number = reinterpret_cast<intptr_t>(stream);
  if (number == 0 && device_type == AITER_CUDA) number = 1;  // the legacy default stream
  return nb::int_(number);
}

}  // namespace

void StreamChoice::read_given() {
  known_ = true;
  nb::object handle = nb::borrow(given_);
  if (!PyLong_Check(handle.ptr())) {
    // The protocol of cuda.core and CuPy: (version, handle).
    if (nb::hasattr(handle, "__cuda_stream__"))
      handle = nb::object(handle.attr("__cuda_stream__")())[1];
    else if (nb::hasattr(handle, "cuda_stream"))  // torch
      handle = handle.attr("cuda_stream");
    else if (nb::hasattr(handle, "ptr"))  // CuPy
      handle = handle.attr("ptr");
  }
  if (!PyLong_Check(handle.ptr()) || PyBool_Check(handle.ptr()))
    throw nb::type_error((std::string("stream is a ") + nb::inst_name(given_).c_str() +
                          ", expected an int, a stream of torch or CuPy, or an object with "
                          "__cuda_stream__")
                             .c_str());
  const long long number = PyLong_AsLongLong(handle.ptr());
  if (number < 0) {
    PyErr_Clear();
    throw nb::value_error("stream is negative or too large, expected the handle of a stream");
  }
  stream_ = reinterpret_cast<aiter_stream>(number);
}

aiter_stream StreamChoice::on(aiter_device device, Kind kind, const DlExchange* exchange) {
  if (!known_) {
    if (!given_.is_none()) {
      read_given();
    } else {
      stream_ = current_stream(kind, exchange, device);
      known_ = true;
    }
  }
  const auto number = reinterpret_cast<uintptr_t>(stream_);
  if (device.type == AITER_ROCM && (number == 1 || number == 2))
    throw nb::value_error(
        "stream is 1 or 2, which name CUDA's default streams; on ROCm the "
        "default stream is 0");
  return stream_;
}

aiter_stream StreamChoice::resolve() {
  if (!known_ && !given_.is_none()) read_given();
  return stream_;
}

void Importer::refuse(PyObject* type, const char* format, ...) const {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  PyErr_Format(type, "%s: %s %s", op_, name_, text);
  throw nb::python_error();
}

void Importer::refuse_from(nb::python_error& error, nb::handle object) const {
  if (!error.matches(PyExc_Exception)) throw error;  // KeyboardInterrupt
  const nb::str cause(error.value());
  const std::string text = cause.c_str();
  nb::raise_from(error, PyExc_ValueError, "%s: %s cannot be taken from its %s: %s", op_, name_,
                 nb::inst_name(object).c_str(), text.substr(0, text.find('\n')).c_str());
}

void Importer::import(Imported& t, nb::handle object, bool writable) {
  const TypeInfo* found = find_type(object);
  if (!found) {
    if (is_jax_tracer(object))
      refuse(PyExc_TypeError,
             "is traced by JAX: inside jax.jit, call the operator through XLA FFI "
             "(aiter/xla_ffi.h) or jax.pure_callback");
    refuse(PyExc_TypeError,
           "is a %s, expected an array (NumPy, torch, JAX, CuPy, aiter.Array or anything with "
           "__dlpack__)",
           nb::inst_name(object).c_str());
  }
  const TypeInfo info = *found;  // a copy: the producer's code may bring in other types
  t.kind = info.kind;
  if (writable && info.kind == Kind::kJax)
    refuse(PyExc_ValueError,
           "is a JAX array, which is immutable, and would be written; leave an out argument away "
           "to get a new JAX array, keep what is updated in place (a KV cache) as an aiter.Array "
           "(aiter.asarray(x, copy=True))");
  switch (info.protocol) {
    case Protocol::kOwn:
      from_array(t, *as_array(object));
      break;
    case Protocol::kExchange:
      from_exchange(t, object, info);
      break;
    case Protocol::kArrayStruct:
      from_array_struct(t, object);
      break;
    case Protocol::kDlpack:
      from_dlpack(t, object, info);
      break;
  }
  if (writable && t.readonly)
    refuse(PyExc_ValueError, "is read-only, expected an array that can be written");
}

void Importer::take(Imported& t, const aiter_tensor& tensor, bool padded) {
  if (tensor.ndim < 0 || tensor.ndim > kMaxRank)
    refuse(PyExc_ValueError, "has rank %d, expected 0 to %d", tensor.ndim, kMaxRank);
  const int32_t device = tensor.device.type;
  if (!on_host(tensor.device) && device != AITER_CUDA && device != AITER_ROCM)
    refuse(PyExc_ValueError, "is on device type %d, expected CPU (1), CUDA (2) or ROCm (10)",
           device);
  t.tensor = tensor;
  for (int i = 0; i < tensor.ndim; ++i) t.shape[i] = tensor.shape[i];
  if (tensor.strides)
    for (int i = 0; i < tensor.ndim; ++i) t.strides[i] = tensor.strides[i];
  else
    contiguous_strides(tensor.ndim, t.shape, t.strides);
  t.tensor.shape = t.shape;
  t.tensor.strides = t.strides;
  aiter_dtype& dtype = t.tensor.dtype;
  if (dtype.bits != 4 || dtype.lanes != 1) return;
  // Packed 4-bit elements: two become one of two lanes, as the C ABI has them.
  const int last = tensor.ndim - 1;
  if (padded) refuse(PyExc_ValueError, "has 4-bit elements of a byte each, expected packed ones");
  if (last < 0 || t.shape[last] % 2 || (t.shape[last] > 1 && t.strides[last] != 1))
    refuse(PyExc_ValueError,
           "has packed 4-bit elements, expected an even number of neighbours in the last "
           "dimension");
  dtype.lanes = 2;
  t.shape[last] /= 2;
  for (int i = 0; i < last; ++i) {
    if (t.shape[i] > 1 && t.strides[i] % 2)
      refuse(PyExc_ValueError, "has packed 4-bit rows that begin inside a byte");
    t.strides[i] /= 2;
  }
}

void Importer::from_array(Imported& t, const Array& array) {
  aiter_tensor tensor = array.tensor();
  if (!on_host(tensor.device)) stream_.on(tensor.device, array.kind, nullptr);
  take(t, tensor, false);
  t.readonly = array.readonly;
  t.kind = array.kind;
  t.array = &array;
}

void Importer::from_exchange(Imported& t, nb::handle object, const TypeInfo& info) {
  aiter_tensor tensor;
  if (info.exchange->borrow(object.ptr(), &tensor)) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_SystemError, "failed without an exception");
    nb::python_error error;
    refuse_from(error, object);
  }
  if (!on_host(tensor.device)) {
    // On the producer's own stream nothing has to be waited for; on another one the producer is
    // asked to make that stream wait.
    aiter_stream stream = stream_.on(tensor.device, info.kind, info.exchange);
    if (stream != current_stream(info.kind, info.exchange, tensor.device))
      return from_dlpack(t, object, info);
  }
  take(t, tensor, false);
}

void Importer::from_array_struct(Imported& t, nb::handle object) {
  nb::object capsule = nb::steal(PyObject_GetAttr(object.ptr(), intern("__array_struct__").ptr()));
  if (!capsule.is_valid()) throw nb::python_error();
  const auto* a = static_cast<const ArrayStruct*>(PyCapsule_GetPointer(capsule.ptr(), nullptr));
  if (!a) throw nb::python_error();
  if (a->ndim > kMaxRank)
    refuse(PyExc_ValueError, "has rank %d, expected 0 to %d", a->ndim, kMaxRank);
  aiter_dtype dtype{AITER_CODE_INT, static_cast<uint8_t>(a->item_bytes * 8), 1};
  bool known = true;
  if (a->kind == 'i')
    dtype.code = AITER_CODE_INT;
  else if (a->kind == 'u')
    dtype.code = AITER_CODE_UINT;
  else if (a->kind == 'f' && a->item_bytes > 1)  // ml_dtypes calls its float8_e5m2 an 'f' too
    dtype.code = AITER_CODE_FLOAT;
  else
    known = dtype_of_numpy(object.attr("dtype"), &dtype) && dtype.bits == 8 * a->item_bytes;
  if (!known) {
    nb::str name(nb::object(object.attr("dtype")));
    const bool four_bits = std::strstr(name.c_str(), "int4") || std::strstr(name.c_str(), "float4");
    refuse(PyExc_ValueError, "has NumPy dtype %s%s", name.c_str(),
           four_bits ? ", which holds one element a byte; pack it first: aiter.asarray(x)"
                     : ", expected a number type of NumPy or ml_dtypes");
  }
  if (!(a->flags & kNativeOrder))
    refuse(PyExc_ValueError, "has swapped bytes, expected the machine's byte order");
  if (!(a->flags & kAligned))
    refuse(PyExc_ValueError, "is not aligned to its elements of %d bytes", a->item_bytes);
  t.readonly = !(a->flags & kWriteable);
  t.tensor.data = a->data;
  t.tensor.device = {AITER_CPU, 0};
  t.tensor.ndim = a->ndim;
  t.tensor.dtype = dtype;
  t.tensor.byte_offset = 0;
  for (int i = 0; i < a->ndim; ++i) {
    t.shape[i] = a->shape[i];
    t.strides[i] = a->strides[i] / a->item_bytes;
    if (a->strides[i] % a->item_bytes && a->shape[i] > 1)
      refuse(PyExc_ValueError,
             "has a stride of %lld bytes in dimension %d, expected a multiple of its element's %d "
             "bytes",
             static_cast<long long>(a->strides[i]), i, a->item_bytes);
  }
  t.tensor.shape = t.shape;
  t.tensor.strides = t.strides;
}

void Importer::adopt(Imported& t, DlManagedVersioned* managed) {
  t.managed_ = managed;
  t.release_ = [](void* p) {
    auto* managed = static_cast<DlManagedVersioned*>(p);
    if (managed->deleter) managed->deleter(managed);
  };
  // A copy would take the writes away with it.
  t.readonly = managed->flags & (kDlReadOnly | kDlCopied);
  take(t, managed->tensor, managed->flags & kDlPadded);
}

nb::object Importer::call_dlpack(nb::handle object, const TypeInfo& info, nb::handle stream) {
  static PyObject *version, *names, *names_without_stream, *stream_name;
  kept(version, [] { return nb::make_tuple(kDlVersion.major, kDlVersion.minor); });
  kept(names, [] { return nb::make_tuple("max_version", "copy", "stream"); });
  kept(names_without_stream, [] { return nb::make_tuple("max_version", "copy"); });
  kept(stream_name, [] { return nb::make_tuple("stream"); });
  const bool with_stream = stream.is_valid();
  nb::object method = object.attr("__dlpack__");
  if (!info.legacy) {
    PyObject* arguments[] = {version, Py_False, stream.ptr()};
    PyObject* capsule =
        PyObject_Vectorcall(method.ptr(), arguments, 0, with_stream ? names : names_without_stream);
    if (capsule) return nb::steal(capsule);
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw nb::python_error();
    PyErr_Clear();
  }
  // Producers from before DLPack 1.0 know no other argument than the stream.
  PyObject* argument = stream.ptr();
  PyObject* capsule =
      PyObject_Vectorcall(method.ptr(), &argument, 0, with_stream ? stream_name : nullptr);
  if (!capsule) throw nb::python_error();
  if (TypeInfo* entry = find_type(object)) entry->legacy = true;
  return nb::steal(capsule);
}

void Importer::from_dlpack(Imported& t, nb::handle object, const TypeInfo& info) {
  nb::object capsule;
  try {
    nb::object pair = object.attr("__dlpack_device__")();
    const aiter_device device{static_cast<int32_t>(nb::cast<int64_t>(nb::int_(pair[0]))),
                              static_cast<int32_t>(nb::cast<int64_t>(nb::int_(pair[1])))};
    nb::object stream;
    if (!on_host(device)) {
      aiter_stream ours = stream_.on(device, info.kind, info.exchange);
      const bool producers_own = info.kind != Kind::kJax && info.kind != Kind::kOther &&
                                 ours == current_stream(info.kind, info.exchange, device);
      stream = producers_own ? nb::object(nb::int_(-1)) : dlpack_stream(ours, device.type);
    }
    capsule = call_dlpack(object, info, stream);
  } catch (nb::python_error& error) {
    refuse_from(error, object);
  }
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    auto* managed =
        static_cast<DlManagedVersioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major != kDlVersion.major)
      refuse(PyExc_ValueError, "comes as DLPack %u.%u, expected %u.x", managed->version.major,
             managed->version.minor, kDlVersion.major);
    PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
    adopt(t, managed);
  } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor")) {
    auto* managed = static_cast<DlManaged*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    PyCapsule_SetName(capsule.ptr(), "used_dltensor");
    t.managed_ = managed;
    t.release_ = [](void* p) {
      auto* managed = static_cast<DlManaged*>(p);
      if (managed->deleter) managed->deleter(managed);
    };
    take(t, managed->tensor, false);
  } else {
    refuse(PyExc_TypeError,
           "gave a %s from __dlpack__, expected a capsule named dltensor or "
           "dltensor_versioned",
           nb::inst_name(capsule).c_str());
  }
}

namespace {

// What an Array keeps alive: an imported tensor, and the object it came from.
struct Holder {
  Imported imported;
  PyObject* object = nullptr;
};

std::shared_ptr<Holder> new_holder() {
  // Other threads, of other libraries too, may let go of the last reference.
  return std::shared_ptr<Holder>(new Holder, [](Holder* h) {
    if (!Py_IsInitialized()) return;  // at exit: the system takes it all
    nb::gil_scoped_acquire gil;
    Py_XDECREF(h->object);
    delete h;
  });
}

Array array_of(std::shared_ptr<Holder> holder) {
  const aiter_tensor& t = holder->imported.tensor;
  Array array;
  array.data = static_cast<char*>(t.data) + (t.data ? t.byte_offset : 0);
  array.device = t.device;
  array.dtype = t.dtype;
  array.ndim = t.ndim;
  array.readonly = holder->imported.readonly || holder->imported.kind == Kind::kJax;
  array.kind = holder->imported.kind;
  std::memcpy(array.shape, t.shape, sizeof(int64_t) * t.ndim);
  std::memcpy(array.strides, t.strides, sizeof(int64_t) * t.ndim);
  array.memory = std::move(holder);
  return array;
}

}  // namespace

Array array_over(nb::handle object, const char* op) {
  StreamChoice stream{nb::none()};
  const auto holder = new_holder();
  Importer(op, "x", stream).import(holder->imported, object, false);
  holder->object = nb::borrow(object).release().ptr();
  return array_of(holder);
}

Array array_over(DlManagedVersioned* managed) {
  StreamChoice stream{nb::none()};
  const auto holder = new_holder();
  Importer("aiter.Array", "tensor", stream).adopt(holder->imported, managed);
  return array_of(holder);
}

}  // namespace aiter::python
