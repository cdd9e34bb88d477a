#include "python/frameworks.h"

#include <cstring>

#include "python/array.h"

namespace aiter::python {
namespace {

// The type's exchange table of our major version, or null.
const DlExchange* exchange_of(nb::handle type) {
  nb::object capsule = nb::getattr(type, "__dlpack_c_exchange_api__", nb::none());
  if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return nullptr;
  auto* api =
      static_cast<const DlExchange*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  while (api && api->version.major != kDlVersion.major) api = api->previous;
  return api && api->borrow && api->current_stream ? api : nullptr;
}

// Is the object an instance of that class, whose module is loaded if there are instances?
bool is_instance(nb::handle object, const char* module, const char* name) {
  nb::object modules = nb::module_::import_("sys").attr("modules");
  nb::object loaded = modules.attr("get")(module);
  if (loaded.is_none()) return false;
  nb::object type = nb::getattr(loaded, name, nb::none());
  if (type.is_none()) return false;
  const int answer = PyObject_IsInstance(object.ptr(), type.ptr());
  if (answer < 0) throw nb::python_error();
  return answer;
}

Kind kind_of(nb::handle object) {
  if (as_array(object)) return Kind::kArray;
  if (is_instance(object, "numpy", "ndarray")) return Kind::kNumpy;
  if (is_instance(object, "torch", "Tensor")) return Kind::kTorch;
  if (is_instance(object, "cupy", "ndarray")) return Kind::kCupy;
  if (is_instance(object, "jax", "Array")) return Kind::kJax;
  return Kind::kOther;
}

bool classify(nb::handle object, TypeInfo* info) {
  info->kind = kind_of(object);
  if (is_jax_tracer(object)) return false;  // a jax.Array by isinstance, but without memory
  info->exchange = exchange_of(object.type());
  info->legacy = false;
  if (info->kind == Kind::kArray)
    info->protocol = Protocol::kOwn;
  else if (info->exchange)
    info->protocol = Protocol::kExchange;
  else if (info->kind == Kind::kNumpy)
    info->protocol = Protocol::kArrayStruct;
  else if (nb::hasattr(object.type(), "__dlpack__"))
    info->protocol = Protocol::kDlpack;
  else if (nb::hasattr(object.type(), "__array_struct__"))
    info->protocol = Protocol::kArrayStruct;
  else
    return false;
  return true;
}

// The last types seen. The entries hold their types, so that none is freed and another one is made
// at its address.
constexpr int kTypes = 16;
TypeInfo types[kTypes];
int type_count = 0, next_type = 0;

nb::object shape_tuple(int ndim, const int64_t* shape) {
  nb::object tuple = nb::steal(PyTuple_New(ndim));
  for (int i = 0; i < ndim; ++i)
    if (PyTuple_SetItem(tuple.ptr(), i, PyLong_FromLongLong(shape[i]))) throw nb::python_error();
  return tuple;
}

nb::object checked(PyObject* object) {
  if (!object) throw nb::python_error();
  return nb::steal(object);
}

nb::handle find_dtype_object(Kind kind, aiter_dtype dtype) {
  const char* name = dtype_name(dtype);
  if (!name || dtype.lanes != 1) name = nullptr;
  if (kind == Kind::kTorch) {
    nb::object torch = nb::module_::import_("torch");
    if (dtype.code == AITER_CODE_FLOAT4_E2M1FN && dtype.lanes == 2) name = "float4_e2m1fn_x2";
    nb::object found = name ? nb::getattr(torch, name, nb::none()) : nb::none();
    return (found.is_none() ? nb::object(torch.attr("uint8")) : found).release();
  }
  const bool extended = dtype.code == AITER_CODE_BFLOAT || dtype.code >= 7;
  nb::object type = nb::str(name ? name : "uint8");
  if (name && extended) {
    if (kind == Kind::kCupy && dtype.code != AITER_CODE_BFLOAT) {
      type = nb::str("uint8");  // CuPy has no 8-bit floats
    } else {
      try {
        type = nb::module_::import_("ml_dtypes").attr(name);
      } catch (nb::python_error& e) {
        nb::raise_from(e, PyExc_ImportError,
                       "a NumPy array of %s needs the package ml_dtypes; or give out=", name);
      }
    }
  }
  return imported("numpy", "dtype")(type).release();
}

}  // namespace

nb::handle intern(const char* name) {
  struct Entry {
    const char* name;
    PyObject* object;
  };
  static Entry entries[64];
  int i = 0;
  for (; i < 64 && entries[i].name; ++i)
    if (entries[i].name == name) return entries[i].object;
  PyObject* object = checked(PyUnicode_InternFromString(name)).release().ptr();
  if (i < 64) entries[i] = {name, object};
  return object;
}

nb::handle imported(const char* module, const char* attribute) {
  struct Entry {
    const char *module, *attribute;
    PyObject* object;
  };
  static Entry entries[32];
  int i = 0;
  for (; i < 32 && entries[i].module; ++i)
    if (!std::strcmp(entries[i].module, module) && !std::strcmp(entries[i].attribute, attribute))
      return entries[i].object;
  PyObject* object = nb::object(nb::module_::import_(module).attr(attribute)).release().ptr();
  if (i < 32) entries[i] = {module, attribute, object};
  return object;
}

TypeInfo* find_type(nb::handle object) {
  PyTypeObject* type = Py_TYPE(object.ptr());
  for (int i = 0; i < type_count; ++i)
    if (types[i].type == type) return &types[i];
  TypeInfo info{};
  if (!classify(object, &info)) return nullptr;
  TypeInfo& entry = types[next_type];
  next_type = (next_type + 1) % kTypes;
  if (type_count < kTypes) ++type_count;
  info.type = type;
  std::swap(entry, info);
  Py_INCREF(reinterpret_cast<PyObject*>(type));
  Py_XDECREF(reinterpret_cast<PyObject*>(info.type));
  return &entry;
}

bool is_jax_tracer(nb::handle object) {
  nb::object modules = nb::module_::import_("sys").attr("modules");
  nb::object core = modules.attr("get")("jax.core");
  if (core.is_none()) return false;
  nb::object tracer = nb::getattr(core, "Tracer", nb::none());
  return !tracer.is_none() && PyObject_IsInstance(object.ptr(), tracer.ptr()) == 1;
}

void* current_stream(Kind kind, const DlExchange* exchange, aiter_device device) {
  if (exchange) {
    void* stream = nullptr;
    if (exchange->current_stream(device.type, device.id, &stream)) {
      if (!PyErr_Occurred()) PyErr_SetString(PyExc_SystemError, "no current stream, and no reason");
      throw nb::python_error();
    }
    return stream;
  }
  nb::object handle;
  if (kind == Kind::kTorch)
    handle = imported("torch.cuda", "current_stream")(device.id).attr("cuda_stream");
  else if (kind == Kind::kCupy)
    handle = imported("cupy.cuda", "get_current_stream")().attr("ptr");
  else
    return nullptr;
  return reinterpret_cast<void*>(nb::cast<uintptr_t>(handle));
}

nb::handle dtype_object(Kind kind, aiter_dtype dtype) {
  struct Entry {
    Kind kind;
    aiter_dtype dtype;
    PyObject* object;
  };
  static Entry entries[96];
  int i = 0;
  for (; i < 96 && entries[i].object; ++i)
    if (entries[i].dtype == dtype && entries[i].kind == kind) return entries[i].object;
  nb::handle object = find_dtype_object(kind, dtype);
  if (i < 96) entries[i] = {kind, dtype, object.ptr()};
  return object;
}

bool dtype_of_numpy(nb::handle dtype, aiter_dtype* result) {
  struct Entry {
    PyObject* object;
    aiter_dtype dtype;
  };
  static Entry entries[32];
  int i = 0;
  for (; i < 32 && entries[i].object; ++i)
    if (entries[i].object == dtype.ptr()) return *result = entries[i].dtype, true;
  nb::object name = dtype.attr("name");
  const char* text = nb::cast<const char*>(name);
  if (!find_dtype(text, std::strlen(text), result) || result->lanes != 1) return false;
  if (i < 32) entries[i] = {nb::borrow(dtype).release().ptr(), *result};
  return true;
}

nb::object empty(Kind kind, const Spec& spec, aiter_device device) {
  nb::object shape = shape_tuple(spec.ndim, spec.shape);
  nb::handle dtype = dtype_object(kind, spec.dtype);
  if (kind == Kind::kTorch) {
    // Not the exchange API's allocator: what that makes is foreign memory to torch, which its
    // caching allocator would not track across streams (record_stream).
    int64_t strides[kMaxRank];
    contiguous_strides(spec.ndim, spec.shape, strides);
    nb::object stride_tuple = shape_tuple(spec.ndim, strides);
    static PyObject *names, *cpu;
    kept(names, [] { return nb::make_tuple("dtype", "device"); });
    kept(cpu, [] { return imported("torch", "device")("cpu"); });
    nb::object on = nb::borrow(cpu);
    if (!on_host(device)) on = nb::str(("cuda:" + std::to_string(device.id)).c_str());
    PyObject* arguments[] = {shape.ptr(), stride_tuple.ptr(), dtype.ptr(), on.ptr()};
    return checked(
        PyObject_Vectorcall(imported("torch", "empty_strided").ptr(), arguments, 2, names));
  }
  PyObject* arguments[] = {shape.ptr(), dtype.ptr()};
  if (kind == Kind::kNumpy)
    return checked(PyObject_Vectorcall(imported("numpy", "empty").ptr(), arguments, 2, nullptr));
  nb::object scope = imported("cupy.cuda", "Device")(device.id);
  scope.attr("__enter__")();
  PyObject* made = PyObject_Vectorcall(imported("cupy", "empty").ptr(), arguments, 2, nullptr);
  nb::object result = nb::steal(made);
  if (!made) {
    nb::python_error error;
    scope.attr("__exit__")(nb::none(), nb::none(), nb::none());
    throw error;
  }
  scope.attr("__exit__")(nb::none(), nb::none(), nb::none());
  return result;
}

nb::object to_jax(nb::handle array) {
  Array& a = *as_array(array);
  if (a.dtype.lanes == 2) {
    if (a.dtype.code == AITER_CODE_FLOAT4_E2M1FN)
      a.single_lanes = true;
    else
      a.dtype = kUint8;  // JAX has no DLPack for its int4 and uint4
  }
  return imported("jax.dlpack", "from_dlpack")(array);
}

}  // namespace aiter::python
