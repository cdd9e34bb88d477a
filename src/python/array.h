// aiter.Array: memory with a shape and any DLPack dtype, for those who bring no framework and for
// dtypes that their framework cannot name.
#pragma once

#include <atomic>
#include <memory>

#include "aiter/device.h"
#include "python/dtype.h"
#include "python/frameworks.h"

namespace aiter::python {

constexpr int kMaxRank = 8;

// Shape and dtype of a new array.
struct Spec {
  int ndim = 0;
  int64_t shape[kMaxRank] = {};
  aiter_dtype dtype{};
};

// unit * shape[0] * shape[1] ...; the largest number where that does not fit.
int64_t product(int ndim, const int64_t* shape, int64_t unit = 1);

struct Array {
  std::shared_ptr<void> memory;  // keeps the bytes alive: our own, or another library's array
  // GPU memory of ours: the stream of the last call that wrote there, for all views of it.
  std::shared_ptr<std::atomic<aiter_stream>> writer;
  void* data = nullptr;
  aiter_device device{AITER_CPU, 0};
  aiter_dtype dtype{};
  int ndim = 0;
  bool readonly = false;
  bool single_lanes = false;  // two packed lanes are two elements to DLPack consumers
  Kind kind = Kind::kArray;   // of results of calls that get this array first
  int64_t shape[kMaxRank] = {};
  int64_t strides[kMaxRank] = {};  // in elements

  int64_t elements() const { return product(ndim, shape); }
  int64_t bytes() const { return product(ndim, shape, bytes_of(dtype)); }
  bool contiguous() const;
  // Borrows shape and strides.
  aiter_tensor tensor() const;
};

// Uninitialized, or zeros.
Array new_array(const Spec& spec, aiter_device device, bool zero = false);
Spec parse_spec(nb::handle shape, aiter_dtype dtype);
void contiguous_strides(int ndim, const int64_t* shape, int64_t* strides);

// Null for any other object.
Array* as_array(nb::handle object);

}  // namespace aiter::python
