// Names of dtypes and devices.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "aiter/tensor.h"

namespace nb = nanobind;

namespace aiter::python {

inline constexpr aiter_dtype kFloat32{AITER_CODE_FLOAT, 32, 1};
inline constexpr aiter_dtype kFloat16{AITER_CODE_FLOAT, 16, 1};
inline constexpr aiter_dtype kBfloat16{AITER_CODE_BFLOAT, 16, 1};
inline constexpr aiter_dtype kInt8{AITER_CODE_INT, 8, 1};
inline constexpr aiter_dtype kUint8{AITER_CODE_UINT, 8, 1};
inline constexpr aiter_dtype kInt32{AITER_CODE_INT, 32, 1};
inline constexpr aiter_dtype kInt64{AITER_CODE_INT, 64, 1};

inline constexpr aiter_dtype kInt4x2{AITER_CODE_INT, 4, 2};
inline constexpr aiter_dtype kUint4x2{AITER_CODE_UINT, 4, 2};
inline constexpr aiter_dtype kFloat4x2{AITER_CODE_FLOAT4_E2M1FN, 4, 2};

inline bool operator==(aiter_dtype a, aiter_dtype b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}
inline int64_t bytes_of(aiter_dtype d) { return (int64_t{d.bits} * d.lanes + 7) / 8; }

// "float16", "bfloat16" ... or None for the fallback; also the dtype objects of NumPy, ml_dtypes,
// torch and JAX. Throws ValueError for an unknown name.
aiter_dtype parse_dtype(nb::handle name, aiter_dtype fallback);
bool find_dtype(const char* name, size_t size, aiter_dtype* dtype);
// Null for a dtype without a name.
const char* dtype_name(aiter_dtype dtype);
std::string dtype_text(aiter_dtype dtype);

// "cpu", "cuda", "cuda:1", "hip:0" ("rocm:0"), anything that prints like that (torch.device), a
// DLPack (type, id), or None for the CPU. Throws ValueError.
aiter_device parse_device(nb::handle device);
std::string device_text(aiter_device device);
inline bool on_host(aiter_device d) {
  return d.type == AITER_CPU || d.type == AITER_CUDA_HOST || d.type == AITER_ROCM_HOST;
}

}  // namespace aiter::python
