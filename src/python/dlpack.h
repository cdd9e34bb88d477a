// The DLPack 1.3 structures (https://dmlc.github.io/dlpack). aiter_tensor is its DLTensor.
#pragma once

#include <cstdint>

#include "aiter/tensor.h"

namespace aiter::python {

struct DlVersion {
  uint32_t major, minor;
};
inline constexpr DlVersion kDlVersion{1, 3};

inline constexpr uint64_t kDlReadOnly = 1;
inline constexpr uint64_t kDlCopied = 2;
inline constexpr uint64_t kDlPadded = 4;  // a sub-byte type with one element a byte

// Capsule "dltensor": what producers gave before 1.0.
struct DlManaged {
  aiter_tensor tensor;
  void* context;
  void (*deleter)(DlManaged*);  // may be null
};

// Capsule "dltensor_versioned". Up to `flags` the layout is that of every version.
struct DlManagedVersioned {
  DlVersion version;
  void* context;
  void (*deleter)(DlManagedVersioned*);  // may be null
  uint64_t flags;
  aiter_tensor tensor;
};

// Capsule "dlpack_exchange_api", the type's attribute __dlpack_c_exchange_api__. Nothing in it
// synchronizes. Each function returns 0, or -1 with a Python exception set (allocate: set_error).
struct DlExchange {
  DlVersion version;
  const DlExchange* previous;  // an older version's table, or null
  int (*allocate)(aiter_tensor* prototype, DlManagedVersioned** out, void* error_context,
                  void (*set_error)(void* error_context, const char* kind, const char* message));
  int (*export_managed)(void* object, DlManagedVersioned** out);
  int (*import_managed)(DlManagedVersioned* tensor, void** object);
  int (*borrow)(void* object, aiter_tensor* out);  // may be null
  int (*current_stream)(int32_t device_type, int32_t device_id, void** stream);
};

}  // namespace aiter::python
