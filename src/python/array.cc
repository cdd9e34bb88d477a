#include "python/array.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "python/import.h"
#include "python/tensor.h"

namespace aiter::python {
namespace {

// DLPack asks for aligned memory; 64 bytes are a cache line, and what XLA needs to take CPU memory
// without a copy.
constexpr size_t kAlignment = 64;

nb::handle array_type;

[[noreturn]] void refuse(PyObject* type, const std::string& text) {
  PyErr_SetString(type, text.c_str());
  throw nb::python_error();
}

nb::tuple tuple_of(int n, const int64_t* values) {
  nb::list list;
  for (int i = 0; i < n; ++i) list.append(values[i]);
  return nb::tuple(list);
}

std::string shape_text(int n, const int64_t* shape) {
  return nb::cast<const char*>(nb::object(nb::repr(tuple_of(n, shape))));
}

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::kNumpy:
      return "numpy";
    case Kind::kTorch:
      return "torch";
    case Kind::kJax:
      return "jax";
    case Kind::kCupy:
      return "cupy";
    default:
      return "aiter";
  }
}

// The same memory with elements of another type. Different sizes change the last dimension.
Array view(const Array& a, aiter_dtype dtype) {
  Array r = a;
  r.dtype = dtype;
  const int64_t from = bytes_of(a.dtype), to = bytes_of(dtype);
  if (from == to) return r;
  const int last = a.ndim - 1;
  if (last < 0 || (a.shape[last] > 1 && a.strides[last] != 1) || a.shape[last] * from % to)
    refuse(PyExc_ValueError, "view: " + shape_text(a.ndim, a.shape) + " " + dtype_text(a.dtype) +
                                 " has no whole elements of " + dtype_text(dtype) +
                                 " side by side in its last dimension");
  r.shape[last] = a.shape[last] * from / to;
  r.strides[last] = 1;
  for (int i = 0; i < last; ++i) {
    if (a.strides[i] * from % to && a.shape[i] > 1)
      refuse(PyExc_ValueError, "view: rows do not begin at whole elements of " + dtype_text(dtype));
    r.strides[i] = a.strides[i] * from / to;
  }
  return r;
}

Array reshape(const Array& a, nb::args arguments) {
  nb::handle wanted = arguments;
  if (nb::len(arguments) == 1 && nb::isinstance<nb::sequence>(arguments[0])) wanted = arguments[0];
  Spec spec;
  int open = -1;
  for (nb::handle item : wanted) {
    if (spec.ndim == kMaxRank) refuse(PyExc_ValueError, "reshape: at most 8 dimensions");
    const int64_t n = nb::cast<int64_t>(item);
    if (n < -1 || (n == -1 && open >= 0))
      refuse(PyExc_ValueError, "reshape: extents are 0 or more, and one may be -1");
    if (n == -1) open = spec.ndim;
    spec.shape[spec.ndim++] = n == -1 ? 1 : n;
  }
  if (open >= 0) {
    const int64_t known = product(spec.ndim, spec.shape);
    spec.shape[open] = known ? a.elements() / known : 0;
  }
  if (product(spec.ndim, spec.shape) != a.elements())
    refuse(PyExc_ValueError, "reshape: " + shape_text(a.ndim, a.shape) + " into " +
                                 shape_text(spec.ndim, spec.shape));
  if (!a.contiguous())
    refuse(PyExc_ValueError,
           "reshape: the array is not contiguous; copy it first "
           "(aiter.asarray(x, copy=True))");
  Array r = a;
  r.ndim = spec.ndim;
  std::memcpy(r.shape, spec.shape, sizeof(r.shape));
  contiguous_strides(r.ndim, r.shape, r.strides);
  return r;
}

// The bytes from the array's lowest element to the end of its highest.
std::pair<const char*, const char*> extent(const Array& a) {
  const int64_t size = bytes_of(a.dtype);
  const char *low = static_cast<const char*>(a.data), *high = low + size;
  for (int i = 0; i < a.ndim; ++i)
    (a.strides[i] < 0 ? low : high) += (a.shape[i] - 1) * a.strides[i] * size;
  return {low, high};
}

// For tests: any strides, as far as the array's memory reaches.
Array as_strided(const Array& a, nb::handle dtype, nb::handle shape, nb::handle strides,
                 int64_t byte_offset) {
  Array r = a;
  const Spec extents = parse_spec(shape, parse_dtype(dtype, a.dtype));
  const Spec steps = parse_spec(strides, extents.dtype);
  if (steps.ndim != extents.ndim)
    refuse(PyExc_ValueError, "as_strided: as many strides as extents");
  r.dtype = extents.dtype;
  r.ndim = extents.ndim;
  std::memcpy(r.shape, extents.shape, sizeof(r.shape));
  std::memcpy(r.strides, steps.shape, sizeof(r.strides));
  if (a.data) r.data = static_cast<char*>(a.data) + byte_offset;
  if (r.elements() > 0) {
    const auto whole = extent(a), part = extent(r);
    if (a.elements() == 0 || part.first < whole.first || part.second > whole.second)
      refuse(PyExc_ValueError, "as_strided: outside of the array's memory");
  }
  return r;
}

// Integers, slices and an ellipsis.
Array item(const Array& a, nb::handle key) {
  nb::object keys = nb::borrow(key);
  if (!PyTuple_Check(key.ptr())) keys = nb::make_tuple(key);
  const int count = static_cast<int>(nb::len(keys));
  int given = 0, ellipses = 0;
  for (nb::handle k : keys) (k.ptr() == Py_Ellipsis ? ellipses : given) += 1;
  if (ellipses > 1 || given > a.ndim)
    refuse(PyExc_IndexError,
           std::to_string(given) + " indices for an array of rank " + std::to_string(a.ndim));
  Array r = a;
  r.ndim = 0;
  int64_t offset = 0;
  int axis = 0;
  auto keep = [&](int64_t extent, int64_t stride) {
    r.shape[r.ndim] = extent;
    r.strides[r.ndim++] = stride;
    ++axis;
  };
  for (int i = 0; i < count; ++i) {
    nb::object k = keys[i];
    if (k.ptr() == Py_Ellipsis) {
      for (int rest = a.ndim - given; rest > 0; --rest) keep(a.shape[axis], a.strides[axis]);
    } else if (PySlice_Check(k.ptr())) {
      Py_ssize_t begin, end, step;
      if (PySlice_Unpack(k.ptr(), &begin, &end, &step)) throw nb::python_error();
      const Py_ssize_t n = PySlice_AdjustIndices(a.shape[axis], &begin, &end, step);
      if (n > 0) offset += begin * a.strides[axis];
      keep(n, a.strides[axis] * step);
    } else {
      if (!PyIndex_Check(k.ptr()))
        refuse(PyExc_TypeError, "an array is indexed by integers, slices and an ellipsis");
      int64_t index = PyNumber_AsSsize_t(k.ptr(), PyExc_IndexError);
      if (index == -1 && PyErr_Occurred()) throw nb::python_error();
      if (index < -a.shape[axis] || index >= a.shape[axis])
        refuse(PyExc_IndexError, "index " + std::to_string(index) + " is outside of dimension " +
                                     std::to_string(axis) + " of " + std::to_string(a.shape[axis]));
      offset += (index < 0 ? index + a.shape[axis] : index) * a.strides[axis];
      ++axis;
    }
  }
  while (axis < a.ndim) keep(a.shape[axis], a.strides[axis]);
  if (a.data) r.data = static_cast<char*>(a.data) + offset * bytes_of(a.dtype);
  return r;
}

// Where bytes are moved: within the host, or on a GPU's default stream.
struct Mover {
  aiter_device device;
  void operator()(void* to, const void* from, int64_t bytes) const {
    if (on_host(device))
      std::memcpy(to, from, bytes);
    else
      check(aiter_copy(device, to, from, bytes, nullptr));
  }
};

void copy_elements(const Mover& move, char* to, const Array& target, const char* from,
                   const Array& source, int axis) {
  const int64_t size = bytes_of(target.dtype);
  if (axis == target.ndim) {
    move(to, from, size);
    return;
  }
  if (axis == target.ndim - 1 && target.strides[axis] == 1 && source.strides[axis] == 1) {
    move(to, from, size * target.shape[axis]);
    return;
  }
  for (int64_t i = 0; i < target.shape[axis]; ++i)
    copy_elements(move, to + i * target.strides[axis] * size, target,
                  from + i * source.strides[axis] * size, source, axis + 1);
}

Array copied(const Array& a);
Array to_device(const Array& a, aiter_device device);

void copy(const Array& target, const Array& source) {
  const bool to_gpu = !on_host(target.device), from_gpu = !on_host(source.device);
  if (to_gpu && from_gpu && target.device.type != source.device.type)
    return copy(target, to_device(source, {AITER_CPU, 0}));  // no driver reaches both
  const Mover move{to_gpu ? target.device : source.device};
  if (target.elements() == 0) return;
  if (target.contiguous() && source.contiguous()) {
    if (to_gpu || from_gpu)
      move(target.data, source.data, target.bytes());
    else
      std::memmove(target.data, source.data, target.bytes());
  } else {
    const auto to = extent(target), from = extent(source);
    const bool overlap = to.first < from.second && from.first < to.second;
    const Array apart = overlap ? copied(source) : source;
    copy_elements(move, static_cast<char*>(target.data), target, static_cast<char*>(apart.data),
                  apart, 0);
    if (to_gpu || from_gpu) check(aiter_stream_synchronize(move.device, nullptr));
    return;
  }
  if (to_gpu || from_gpu) check(aiter_stream_synchronize(move.device, nullptr));
}

Array to_device(const Array& a, aiter_device device) {
  Spec spec;
  spec.ndim = a.ndim;
  std::memcpy(spec.shape, a.shape, sizeof(spec.shape));
  spec.dtype = a.dtype;
  Array r = new_array(spec, device);
  r.single_lanes = a.single_lanes;
  copy(r, a);
  return r;
}

Array copied(const Array& a) { return to_device(a, a.device); }

void set_item(const Array& a, nb::handle key, nb::handle value) {
  if (a.readonly) refuse(PyExc_ValueError, "the array is read-only");
  const Array target = item(a, key);
  const Array source = array_over(value, "assignment");
  bool same = target.ndim == source.ndim && target.dtype == source.dtype;
  for (int i = 0; same && i < target.ndim; ++i) same = target.shape[i] == source.shape[i];
  if (!same)
    refuse(PyExc_ValueError, "assignment of " + shape_text(source.ndim, source.shape) + " " +
                                 dtype_text(source.dtype) + " to " +
                                 shape_text(target.ndim, target.shape) + " " +
                                 dtype_text(target.dtype));
  copy(target, source);
}

// ---- to other libraries ----

struct Exported {
  Array array;
  DlManaged legacy;
  DlManagedVersioned versioned;
};

template <class Managed>
Managed* export_array(const Array& a, Managed Exported::* member) {
  auto* exported = new Exported{a, {}, {}};
  Managed& managed = exported->*member;
  Array& held = exported->array;
  managed.tensor = held.tensor();
  if (held.single_lanes && held.ndim > 0) {
    managed.tensor.dtype.lanes = 1;
    held.shape[held.ndim - 1] *= 2;
    for (int i = 0; i < held.ndim - 1; ++i) held.strides[i] *= 2;
  }
  if (a.elements() == 0) managed.tensor.data = nullptr;
  managed.context = exported;
  managed.deleter = [](Managed* m) { delete static_cast<Exported*>(m->context); };
  return &managed;
}

DlManagedVersioned* export_versioned(const Array& a, bool copied) {
  DlManagedVersioned* managed = export_array(a, &Exported::versioned);
  managed->version = kDlVersion;
  managed->flags = (a.readonly ? kDlReadOnly : 0) | (copied ? kDlCopied : 0);
  return managed;
}

// A capsule that nobody has taken from still owns its tensor.
template <class Managed>
nb::object capsule(Managed* managed, const char* name) {
  PyObject* made = PyCapsule_New(managed, name, [](PyObject* self) {
    const char* name = PyCapsule_GetName(self);
    if (!name || !std::strncmp(name, "used", 4)) return;
    auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(self, name));
    if (managed) managed->deleter(managed);
  });
  if (!made) {
    managed->deleter(managed);
    throw nb::python_error();
  }
  return nb::steal(made);
}

// The consumer's stream sees what calls have written, as DLPack asks.
void make_wait(const Array& a, nb::handle consumer) {
  int64_t number = consumer.is_none() ? 0 : nb::cast<int64_t>(consumer);
  constexpr int64_t kNoWait = -1, kLegacyDefault = 1;
  if (number == kNoWait) return;
  if (number == kLegacyDefault && a.device.type == AITER_CUDA) number = 0;
  const auto stream = reinterpret_cast<aiter_stream>(static_cast<intptr_t>(number));
  const aiter_stream writer = a.writer ? a.writer->load() : nullptr;
  if (stream == writer) return;
  aiter_event event;
  check(aiter_event_create(a.device, &event));
  aiter_status status = aiter_event_record(a.device, event, writer);
  if (status == AITER_OK) status = aiter_stream_wait(a.device, event, stream);
  aiter_event_destroy(a.device, event);
  check(status);
}

nb::object dlpack(const Array& a, nb::handle stream, nb::handle max_version, nb::handle dl_device,
                  nb::handle copy) {
  if (!dl_device.is_none()) {
    const aiter_device wanted = parse_device(dl_device);
    if (wanted.type != a.device.type || wanted.id != a.device.id)
      refuse(PyExc_BufferError, "the array is on " + device_text(a.device) + ", not on " +
                                    device_text(wanted) + "; use aiter.to_device");
  }
  if (!on_host(a.device)) make_wait(a, stream);
  const bool make_copy = !copy.is_none() && nb::cast<bool>(copy);
  const Array result = make_copy ? copied(a) : a;
  const bool versioned = !max_version.is_none() && nb::cast<int>(max_version[0]) >= 1;
  if (versioned) return capsule(export_versioned(result, make_copy), "dltensor_versioned");
  if (result.readonly)
    refuse(PyExc_BufferError,
           "a read-only array can be exported by DLPack 1.0 or later alone "
           "(max_version)");
  return capsule(export_array(result, &Exported::legacy), "dltensor");
}

// ---- the DLPack C exchange API ----

template <class F>
int as_status(F&& f) {
  try {
    f();
    return 0;
  } catch (nb::python_error& error) {
    error.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return -1;
}

const Array& array_at(void* object) {
  const Array* array = as_array(nb::handle(static_cast<PyObject*>(object)));
  if (!array) refuse(PyExc_TypeError, "the object is no aiter.Array");
  return *array;
}

int exchange_allocate(aiter_tensor* prototype, DlManagedVersioned** out, void* context,
                      void (*set_error)(void* context, const char* kind, const char* message)) {
  nb::gil_scoped_acquire gil;
  try {
    Spec spec;
    if (prototype->ndim < 0 || prototype->ndim > kMaxRank)
      refuse(PyExc_ValueError, "an array has at most 8 dimensions");
    spec.ndim = prototype->ndim;
    for (int i = 0; i < spec.ndim; ++i) spec.shape[i] = prototype->shape[i];
    spec.dtype = prototype->dtype;
    *out = export_versioned(new_array(spec, prototype->device), false);
    return 0;
  } catch (const nb::python_error& error) {
    const nb::str name(nb::object(nb::handle(error.type()).attr("__name__")));
    set_error(context, name.c_str(), nb::str(error.value()).c_str());
  } catch (const std::exception& error) {
    set_error(context, "RuntimeError", error.what());
  }
  return -1;
}

int exchange_export(void* object, DlManagedVersioned** out) {
  return as_status([&] { *out = export_versioned(array_at(object), false); });
}

int exchange_import(DlManagedVersioned* tensor, void** object) {
  return as_status([&] { *object = nb::cast(array_over(tensor)).release().ptr(); });
}

int exchange_borrow(void* object, aiter_tensor* out) {
  return as_status([&] {
    const Array& array = array_at(object);
    if (array.readonly)
      refuse(PyExc_BufferError, "the array is read-only, which a DLTensor cannot tell");
    *out = array.tensor();
  });
}

int exchange_stream(int32_t, int32_t, void** stream) {
  *stream = nullptr;  // calls without stream= are on the default one
  return 0;
}

constexpr DlExchange kExchange{kDlVersion,      nullptr,         exchange_allocate, exchange_export,
                               exchange_import, exchange_borrow, exchange_stream};

// NumPy's letters; empty for a dtype that NumPy itself lacks.
std::string typestr(aiter_dtype d) {
  if (d.lanes != 1) return {};
  std::string text = d.bits == 8 ? "|" : "<";
  switch (d.code) {
    case AITER_CODE_INT:
      text += 'i';
      break;
    case AITER_CODE_UINT:
      text += 'u';
      break;
    case AITER_CODE_FLOAT:
      text += 'f';
      break;
    case AITER_CODE_BOOL:
      text += 'b';
      break;
    case 5:
      text += 'c';
      break;
    default:
      return {};
  }
  return text + std::to_string(bytes_of(d));
}

nb::object array_interface(const Array& a) {
  const std::string type = typestr(a.dtype);
  if (!on_host(a.device) || type.empty())
    refuse(PyExc_AttributeError, "__array_interface__: NumPy itself has no " + dtype_text(a.dtype) +
                                     " on " + device_text(a.device) + "; use numpy()");
  int64_t strides[kMaxRank];
  for (int i = 0; i < a.ndim; ++i) strides[i] = a.strides[i] * bytes_of(a.dtype);
  nb::dict result;
  result["version"] = 3;
  result["typestr"] = nb::str(type.c_str());
  result["shape"] = tuple_of(a.ndim, a.shape);
  result["strides"] = tuple_of(a.ndim, strides);
  result["data"] = nb::make_tuple(reinterpret_cast<uintptr_t>(a.data), a.readonly);
  return result;
}

nb::object numpy(nb::handle self) {
  const Array& a = *as_array(self);
  if (!on_host(a.device))
    refuse(PyExc_ValueError,
           "numpy: the array is on " + device_text(a.device) + "; use aiter.to_device(x, \"cpu\")");
  nb::handle asarray = imported("numpy", "asarray");
  if (!typestr(a.dtype).empty()) return asarray(self);
  Array bits = a;
  bits.dtype = a.dtype.bits == 16 ? aiter_dtype{AITER_CODE_UINT, 16, 1} : kUint8;
  nb::object plain = asarray(nb::cast(std::move(bits)));
  return plain.attr("view")(dtype_object(Kind::kNumpy, a.dtype));
}

nb::object array_protocol(nb::handle self, nb::handle dtype, nb::handle copy) {
  nb::object result = numpy(self);
  if (!dtype.is_none()) result = result.attr("astype")(dtype, "copy"_a = false);
  if (!copy.is_none() && nb::cast<bool>(copy)) result = result.attr("copy")();
  return result;
}

nb::str repr(const Array& a) {
  return nb::str(("aiter.Array(shape=" + shape_text(a.ndim, a.shape) +
                  ", dtype=" + dtype_text(a.dtype) + ", device=" + device_text(a.device) + ")")
                     .c_str());
}

// ---- functions ----

// NumPy's int4, uint4 and float4_e2m1fn have one element a byte: two become one.
Array packed(nb::handle object, const char* name) {
  const std::string text(name);
  nb::object bytes = object.attr("view")("uint8");
  nb::object even = nb::borrow(
      bytes)[nb::make_tuple(nb::ellipsis(), nb::slice(nb::none(), nb::none(), nb::int_(2)))];
  nb::object odd = nb::borrow(
      bytes)[nb::make_tuple(nb::ellipsis(), nb::slice(nb::int_(1), nb::none(), nb::int_(2)))];
  const int64_t last = nb::cast<int64_t>(nb::object(bytes.attr("shape"))[-1]);
  if (last % 2)
    refuse(PyExc_ValueError, "asarray: the last dimension of " + text + " elements is odd");
  nb::object low = nb::steal(PyNumber_And(even.ptr(), nb::int_(15).ptr()));
  nb::object high = nb::steal(PyNumber_Lshift(odd.ptr(), nb::int_(4).ptr()));
  if (!low.is_valid() || !high.is_valid()) throw nb::python_error();
  nb::object both = nb::steal(PyNumber_Or(low.ptr(), high.ptr()));
  if (!both.is_valid()) throw nb::python_error();
  return view(array_over(both, "asarray"), parse_dtype(nb::str((text + "x2").c_str()), {}));
}

Array asarray(nb::handle object, nb::handle dtype, nb::handle copy) {
  Array a;
  nb::object type = nb::getattr(object, "dtype", nb::none());
  nb::object name = nb::getattr(type, "name", nb::none());
  const char* text = nb::isinstance<nb::str>(name) ? nb::cast<const char*>(name) : "";
  const bool unpacked = nb::hasattr(object, "__array_struct__") &&
                        (!std::strcmp(text, "int4") || !std::strcmp(text, "uint4") ||
                         !std::strcmp(text, "float4_e2m1fn"));
  if (unpacked && (copy.is_none() || nb::cast<bool>(copy)))
    a = packed(object, text);
  else
    a = array_over(object, "asarray");
  if (!copy.is_none() && nb::cast<bool>(copy)) a = copied(a);
  const aiter_dtype wanted = parse_dtype(dtype, a.dtype);
  if (!(wanted == a.dtype)) {
    if (!(a.dtype == kUint8) && !(a.dtype == aiter_dtype{AITER_CODE_INT, 8, 1}))
      refuse(PyExc_ValueError, "asarray: x has dtype " + dtype_text(a.dtype) + ", expected " +
                                   dtype_text(wanted) +
                                   ", or uint8 holding it; values are not "
                                   "converted (aiter.view reinterprets any type)");
    a = view(a, wanted);
  }
  a.kind = Kind::kArray;
  return a;
}

Array view_any(nb::handle object, nb::handle dtype) {
  return view(array_over(object, "view"), parse_dtype(dtype, {}));
}

Array move_to_device(nb::handle object, nb::handle device) {
  const Array a = asarray(object, nb::none(), nb::none());
  const aiter_device target = parse_device(device);
  if (target.type == a.device.type && target.id == a.device.id) return a;
  return to_device(a, target);
}

Array make(nb::handle shape, nb::handle dtype, nb::handle device, bool zero) {
  return new_array(parse_spec(shape, parse_dtype(dtype, kFloat32)), parse_device(device), zero);
}

}  // namespace

int64_t product(int ndim, const int64_t* shape, int64_t unit) {
  int64_t n = unit;
  bool fits = true;
  for (int i = 0; i < ndim; ++i) {
    if (shape[i] == 0) return 0;
    fits &= !__builtin_mul_overflow(n, shape[i], &n);
  }
  return fits ? n : INT64_MAX;
}

bool Array::contiguous() const {
  int64_t expected = 1;
  if (elements() == 0) return true;
  for (int i = ndim - 1; i >= 0; --i) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

aiter_tensor Array::tensor() const {
  return {data, device, ndim, dtype, const_cast<int64_t*>(shape), const_cast<int64_t*>(strides), 0};
}

void contiguous_strides(int ndim, const int64_t* shape, int64_t* strides) {
  int64_t stride = 1;
  for (int i = ndim - 1; i >= 0; --i) {
    strides[i] = stride;
    if (__builtin_mul_overflow(stride, shape[i], &stride)) stride = 0;  // no such memory exists
  }
}

Spec parse_spec(nb::handle shape, aiter_dtype dtype) {
  Spec spec;
  spec.dtype = dtype;
  if (PyIndex_Check(shape.ptr())) {
    spec.ndim = 1;
    spec.shape[0] = nb::cast<int64_t>(shape);
  } else {
    for (nb::handle item : shape) {
      if (spec.ndim == kMaxRank) refuse(PyExc_ValueError, "an array has at most 8 dimensions");
      spec.shape[spec.ndim++] = nb::cast<int64_t>(nb::int_(item));
    }
  }
  return spec;
}

Array new_array(const Spec& spec, aiter_device device, bool zero) {
  for (int i = 0; i < spec.ndim; ++i)
    if (spec.shape[i] < 0)
      refuse(PyExc_ValueError, "the shape " + shape_text(spec.ndim, spec.shape) + " is negative");
  const int64_t bytes = product(spec.ndim, spec.shape, bytes_of(spec.dtype));
  auto no_memory = [&] {
    refuse(PyExc_MemoryError, "no memory for " + dtype_text(spec.dtype) + " of shape " +
                                  shape_text(spec.ndim, spec.shape));
  };
  if (bytes > INT64_MAX / 2) no_memory();
  Array a;
  void* data = nullptr;
  if (!on_host(device)) {
    check(aiter_malloc(device, bytes, &data));
    a.memory = std::shared_ptr<void>(data, [device](void* p) { aiter_free(device, p); });
    a.writer = std::make_shared<std::atomic<aiter_stream>>(nullptr);
    if (zero) {
      check(aiter_fill(device, data, 0, bytes, nullptr));
      check(aiter_stream_synchronize(device, nullptr));
    }
  } else {
    if (posix_memalign(&data, kAlignment, bytes ? bytes : 1)) no_memory();
    a.memory = std::shared_ptr<void>(data, std::free);
    if (zero) std::memset(data, 0, bytes);
  }
  a.data = data;
  a.device = device;
  a.dtype = spec.dtype;
  a.ndim = spec.ndim;
  std::memcpy(a.shape, spec.shape, sizeof(a.shape));
  contiguous_strides(a.ndim, a.shape, a.strides);
  return a;
}

Array* as_array(nb::handle object) {
  if (object.type().ptr() != array_type.ptr()) return nullptr;
  return nb::inst_ptr<Array>(object);
}

void bind_array(nb::module_& m) {
  nb::class_<Array> type(m, "Array",
                         "Memory with a shape and any dtype of DLPack's: what aiter.empty, "
                         "asarray, view and to_device "
                         "make, and what calls return for arrays of unknown libraries.");
  array_type = type;
  type.def_prop_ro(
          "shape", [](const Array& a) { return tuple_of(a.ndim, a.shape); }, "Extents.",
          nb::sig("def shape(self) -> tuple[int, ...]"))
      .def_prop_ro(
          "strides", [](const Array& a) { return tuple_of(a.ndim, a.strides); },
          "Steps between neighbours, in elements.", nb::sig("def strides(self) -> tuple[int, ...]"))
      .def_ro("ndim", &Array::ndim, "Number of dimensions.")
      .def_prop_ro(
          "dtype", [](const Array& a) { return nb::str(dtype_text(a.dtype).c_str()); },
          "Name of the dtype; one that ends in x2 has two elements packed in a byte.")
      .def_prop_ro(
          "device", [](const Array& a) { return nb::str(device_text(a.device).c_str()); },
          "\"cpu\", \"cuda:0\" or \"hip:0\".")
      .def_prop_ro("size", &Array::elements, "Number of elements.")
      .def_prop_ro(
          "itemsize", [](const Array& a) { return bytes_of(a.dtype); }, "Bytes of an element.")
      .def_prop_ro("nbytes", &Array::bytes, "Bytes of all elements.")
      .def_prop_ro(
          "kind", [](const Array& a) { return kind_name(a.kind); },
          "Whose arrays calls return that get this one first: \"aiter\", \"numpy\" ...")
      .def_prop_ro(
          "readonly", [](const Array& a) { return a.readonly; }, "Must not be written.")
      .def_prop_ro(
          "data_ptr", [](const Array& a) { return reinterpret_cast<uintptr_t>(a.data); },
          "Address of the first element.")
      .def("reshape", &reshape, "The same memory in another shape; one extent may be -1.",
           nb::sig("def reshape(self, *shape: int | collections.abc.Sequence[int]) -> Array"))
      .def(
          "view", [](const Array& a, nb::handle dtype) { return view(a, parse_dtype(dtype, {})); },
          "dtype"_a, nb::sig("def view(self, dtype: object) -> Array"),
          "The same memory as elements of another dtype.")
      .def("copy", &copied, "The elements in new memory, row-major.")
      .def("numpy", &numpy, "A NumPy array over the same memory; packed 4-bit types become uint8.",
           nb::sig("def numpy(self) -> typing.Any"))
      .def("__array__", &array_protocol, "dtype"_a = nb::none(), "copy"_a = nb::none(),
           nb::sig("def __array__(self, dtype: object | None = None, copy: bool | None = None) -> "
                   "typing.Any"))
      .def_prop_ro("__array_interface__", &array_interface)
      .def("__getitem__", &item, "key"_a.none())
      .def("__setitem__", &set_item, "key"_a.none(), "value"_a.none())
      .def("__len__",
           [](const Array& a) {
             if (a.ndim == 0) refuse(PyExc_TypeError, "an array of rank 0 has no length");
             return a.shape[0];
           })
      .def("__repr__", &repr)
      .def("__dlpack__", &dlpack, nb::kw_only(), "stream"_a = nb::none(),
           "max_version"_a = nb::none(), "dl_device"_a = nb::none(), "copy"_a = nb::none())
      .def("__dlpack_device__",
           [](const Array& a) { return nb::make_tuple(a.device.type, a.device.id); });
  type.attr("__dlpack_c_exchange_api__") =
      nb::steal(PyCapsule_New(const_cast<DlExchange*>(&kExchange), "dlpack_exchange_api", nullptr));
  m.def(
      "empty",
      [](nb::handle shape, nb::handle dtype, nb::handle device) {
        return make(shape, dtype, device, false);
      },
      "shape"_a, "dtype"_a = "float32", "device"_a = "cpu");
  m.def(
      "zeros",
      [](nb::handle shape, nb::handle dtype, nb::handle device) {
        return make(shape, dtype, device, true);
      },
      "shape"_a, "dtype"_a = "float32", "device"_a = "cpu");
  m.def("asarray", &asarray, "x"_a, "dtype"_a.none() = nb::none(), "copy"_a.none() = nb::none());
  m.def("view", &view_any, "x"_a, "dtype"_a);
  m.def("as_strided", &as_strided, "x"_a, "dtype"_a, "shape"_a, "strides"_a, "byte_offset"_a);
  m.def("to_device", &move_to_device, "x"_a, "device"_a);
}

}  // namespace aiter::python
