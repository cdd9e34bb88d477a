// Argument checks of the C entry points. Every refusal names operator, argument, got and expected.
//
//   Check check("rmsnorm");
//   Arg x = check.tensor("x", x_tensor);
//   x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();
//   Arg w = check.optional("w", w_tensor);
//   if (w) w.shape({hidden}).contiguous().on_device_of(x);
#pragma once

#include <cstdint>
#include <initializer_list>

#include "aiter/device.h"
#include "aiter/tensor.h"
#include "core/dtype.h"
#include "core/rows.h"
#include "core/status.h"

namespace aiter {

// One tensor argument, checked step by step. A default-made Arg is an absent optional.
class Arg {
 public:
  Arg() = default;
  Arg(const char* op, const char* name, const aiter_tensor* tensor);

  explicit operator bool() const { return tensor_ != nullptr; }
  void* data() const { return data_; }  // byte_offset included
  DType dtype() const { return dtype_; }
  aiter_device device() const { return tensor_->device; }
  int rank() const { return tensor_->ndim; }
  int64_t dim(int i) const { return tensor_->shape[i < 0 ? i + tensor_->ndim : i]; }
  int64_t stride(int i) const;
  int64_t elements() const;

  const Arg& dtype(std::initializer_list<DType> allowed) const;
  const Arg& dtype_of(const Arg& other) const;
  const Arg& rank(int expected) const;
  const Arg& min_rank(int expected) const;
  // -1 = any extent.
  const Arg& shape(std::initializer_list<int64_t> expected) const;
  const Arg& shape_of(const Arg& other) const;
  const Arg& unit_last_stride() const;
  const Arg& contiguous() const;
  const Arg& on_device_of(const Arg& other) const;
  // Every value in [begin, end), of an int32 or int64 tensor in host memory; not read on a device.
  const Arg& values_in(int64_t begin, int64_t end) const;
  const Arg& values_in(float least, float most) const;  // of float32, both ends included
  // All dimensions but the last `tail` ones, folded into rows; refuses what needs three levels.
  Rows rows(int tail = 1) const;

  // Throws "<op>: <name> ..." with the given text.
  [[noreturn]] __attribute__((format(printf, 2, 3))) void refuse(const char* format, ...) const;

 private:
  const char* op_ = nullptr;
  const char* name_ = nullptr;
  const aiter_tensor* tensor_ = nullptr;
  void* data_ = nullptr;
  DType dtype_ = DType::kNone;
};

class Check {
 public:
  explicit Check(const char* op) : op_(op) {}
  const char* op() const { return op_; }
  Arg tensor(const char* name, const aiter_tensor* t) const;    // required
  Arg optional(const char* name, const aiter_tensor* t) const;  // NULL is absent

  // Throws "<op>: <text>" unless the condition holds.
  __attribute__((format(printf, 3, 4))) void require(bool condition, const char* format, ...) const;

  // The caller's options over the defaults: fields past the caller's struct_size keep theirs.
  template <class Opts>
  Opts options(const Opts* opts, Opts defaults) const {
    if (opts) merge_options(opts, &defaults, sizeof(Opts));
    return defaults;
  }

 private:
  void merge_options(const void* given, void* defaults, uint32_t size) const;
  const char* op_;
};

}  // namespace aiter
