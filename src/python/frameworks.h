// What differs among array libraries: how a type gives its memory away, who its results belong to,
// how to make an array of it. No library is imported before an array of it is seen.
#pragma once

#include "python/dlpack.h"
#include "python/dtype.h"

namespace aiter::python {

struct Spec;

enum class Kind : uint8_t { kArray, kNumpy, kTorch, kJax, kCupy, kOther };

enum class Protocol : uint8_t {
  kOwn,          // aiter.Array
  kExchange,     // __dlpack_c_exchange_api__: no Python call at all
  kArrayStruct,  // __array_struct__: NumPy, which cannot give ml_dtypes types by DLPack
  kDlpack,       // __dlpack__
};

// What is known about a Python type; found once and kept.
struct TypeInfo {
  PyTypeObject* type;
  Kind kind;
  Protocol protocol;
  bool legacy;  // __dlpack__ takes no max_version
  const DlExchange* exchange;
};

// Null for an object that is no array. The result is valid until the next call.
TypeInfo* find_type(nb::handle object);
bool is_jax_tracer(nb::handle object);

// The stream on which the library of `kind` works now, on that device.
void* current_stream(Kind kind, const DlExchange* exchange, aiter_device device);

// An uninitialized array of numpy, torch or cupy, row-major. A dtype that the library cannot name
// becomes uint8 bytes.
nb::object empty(Kind kind, const Spec& spec, aiter_device device);

// A jax.Array over the memory of an aiter.Array, which nobody else may hold.
nb::object to_jax(nb::handle array);

// The library's dtype object (NumPy, CuPy: numpy.dtype; torch: torch.dtype), uint8's where it has
// none. Borrowed.
nb::handle dtype_object(Kind kind, aiter_dtype dtype);

// The dtype of a NumPy array's `dtype` attribute where kind and size do not tell (ml_dtypes).
// False if none of ours.
bool dtype_of_numpy(nb::handle dtype, aiter_dtype* result);

// Python objects that are made once and kept. Not by a static initializer: another thread could
// wait for its lock with the GIL in hand while Python code runs inside.
template <class Make>
nb::handle kept(PyObject*& slot, Make&& make) {
  if (!slot) slot = nb::object(make()).release().ptr();
  return slot;
}

// An attribute of a module; imported on the first call and kept.
nb::handle imported(const char* module, const char* attribute);
nb::handle intern(const char* name);  // an interned str, kept

}  // namespace aiter::python
