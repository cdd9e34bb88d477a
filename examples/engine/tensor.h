// What turns the C ABI into comfortable C++: tensors that own their memory, statuses as exceptions.
#pragma once

#include <aiter/aiter.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>
#include <stdexcept>

namespace engine {

inline void check(aiter_status status) {
  if (status != AITER_OK) throw std::runtime_error(aiter_last_error());
}

inline constexpr aiter_dtype kF32{AITER_CODE_FLOAT, 32, 1};
inline constexpr aiter_dtype kF16{AITER_CODE_FLOAT, 16, 1};
inline constexpr aiter_dtype kI8{AITER_CODE_INT, 8, 1};
inline constexpr aiter_dtype kU8{AITER_CODE_UINT, 8, 1};
inline constexpr aiter_dtype kI32{AITER_CODE_INT, 32, 1};
inline constexpr aiter_dtype kI64{AITER_CODE_INT, 64, 1};

// Uninitialized; bytes may be 0.
inline std::shared_ptr<void> allocate(size_t bytes, size_t alignment) {
  const size_t rounded = (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  std::shared_ptr<void> memory(std::aligned_alloc(alignment, rounded), std::free);
  if (!memory) throw std::bad_alloc();
  return memory;
}

// Memory for weights, one behind the other in huge pages where the system has them: a decode step
// reads all weights once, and with small pages that takes a sixth longer (Zen 5).
class Arena {
 public:
  std::shared_ptr<void> take(size_t bytes) {
    constexpr size_t kPiece = 64 << 20, kPage = 2 << 20;
    bytes = (bytes + 63) / 64 * 64;
    if (bytes > left_) {
      left_ = std::max(bytes, kPiece);
      piece_ = allocate(left_, kPage);
      next_ = static_cast<char*>(piece_.get());
#ifdef MADV_HUGEPAGE
      madvise(next_, left_, MADV_HUGEPAGE);  // a wish: without it, all works the same
#endif
    }
    std::shared_ptr<void> memory(piece_, next_);
    next_ += bytes, left_ -= bytes;
    return memory;
  }

 private:
  std::shared_ptr<void> piece_;
  char* next_ = nullptr;
  size_t left_ = 0;
};

// A tensor. Copies and views share the memory; it is freed with the last of them. An empty one
// stands for an optional argument that is not given.
class Tensor {
 public:
  Tensor() = default;

  // On the CPU: memory of 64-byte alignment, from the arena or else of its own, set to zero.
  Tensor(aiter_dtype dtype, std::initializer_list<int64_t> shape, Arena* arena = nullptr) {
    tensor_ = {nullptr, {AITER_CPU, 0}, 0, dtype, nullptr, nullptr, 0};
    set_shape(shape);
    memory_ = arena ? arena->take(bytes()) : allocate(bytes(), 64);
    tensor_.data = memory_.get();
    std::memset(tensor_.data, 0, bytes());
  }

  Tensor(const Tensor& other) { *this = other; }
  Tensor& operator=(const Tensor& other) {
    memory_ = other.memory_;
    tensor_ = other.tensor_;
    std::copy_n(other.shape_, kMaxRank, shape_);
    std::copy_n(other.strides_, kMaxRank, strides_);
    tensor_.shape = shape_, tensor_.strides = strides_;
    return *this;
  }

  // The same, contiguous, on a device: itself where it is there already, else a copy.
  Tensor to(aiter_device device) const {
    if (!memory_ || device.type == AITER_CPU) return *this;
    void* memory = nullptr;
    check(aiter_malloc(device, bytes(), &memory));
    Tensor copy = *this;
    copy.memory_ = {memory, [device](void* p) { aiter_free(device, p); }};
    copy.tensor_.data = memory, copy.tensor_.device = device, copy.tensor_.byte_offset = 0;
    copy.copy_from(*this);
    return copy;
  }

  // Takes over the contents of a tensor of the same size, of the CPU or of the same device.
  void copy_from(const Tensor& other) {
    if (other.memory_ == memory_) return;
    const aiter_device gpu =
        tensor_.device.type != AITER_CPU ? tensor_.device : other.tensor_.device;
    check(aiter_copy(gpu, data<char>(), other.data<char>(), bytes(), nullptr));
    check(aiter_stream_synchronize(gpu, nullptr));
  }

  // As an argument of the C functions.
  operator const aiter_tensor*() const { return memory_ ? &tensor_ : nullptr; }

  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(static_cast<char*>(tensor_.data) + tensor_.byte_offset);
  }
  int64_t dim(int i) const { return shape_[i]; }
  size_t bytes() const {
    int64_t elements = 1;
    for (int i = 0; i < tensor_.ndim; ++i) elements *= shape_[i];
    return static_cast<size_t>(elements) * tensor_.dtype.bits / 8;
  }

  // [:, begin : begin + count, ...] along one axis.
  Tensor slice(int axis, int64_t begin, int64_t count) const {
    Tensor view = *this;
    view.tensor_.byte_offset += begin * strides_[axis] * tensor_.dtype.bits / 8;
    view.shape_[axis] = count;
    return view;
  }
  Tensor rows(int64_t count) const { return slice(0, 0, count); }

  // The last axis cut into {heads, size}.
  Tensor split_heads(int64_t size) const {
    Tensor view = *this;
    const int last = tensor_.ndim - 1;
    view.shape_[last] /= size, view.strides_[last] = size;
    view.shape_[last + 1] = size, view.strides_[last + 1] = 1;
    view.tensor_.ndim += 1;
    return view;
  }

 private:
  static constexpr int kMaxRank = 5;

  void set_shape(std::initializer_list<int64_t> shape) {
    tensor_.ndim = static_cast<int32_t>(shape.size());
    std::copy(shape.begin(), shape.end(), shape_);
    int64_t stride = 1;
    for (int i = tensor_.ndim - 1; i >= 0; --i) strides_[i] = stride, stride *= shape_[i];
    tensor_.shape = shape_, tensor_.strides = strides_;
  }

  std::shared_ptr<void> memory_;
  aiter_tensor tensor_{};
  int64_t shape_[kMaxRank]{}, strides_[kMaxRank]{};
};

}  // namespace engine
