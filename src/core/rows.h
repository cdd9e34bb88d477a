// A strided view of rows, shared by host code and kernels (so: no library headers in device code).
#pragma once

#ifndef AITER_DEVICE_CODE
#include <stdint.h>
#endif

namespace aiter {

// Row r starts r / inner * outer_stride + r % inner * inner_stride elements after the first.
struct Rows {
  int64_t count;
  int64_t inner;  // at least 1
  int64_t outer_stride;
  int64_t inner_stride;

#ifndef AITER_DEVICE_CODE
  int64_t offset(int64_t r) const { return r / inner * outer_stride + r % inner * inner_stride; }
#endif
};

}  // namespace aiter
