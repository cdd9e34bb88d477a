#include "core/check.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>

namespace aiter {
namespace {

constexpr int kMaxRank = 8;

// More elements or bytes than any memory holds. What is below can be summed and multiplied by
// element sizes without overflow.
constexpr int64_t kTooMany = int64_t{1} << 56;

std::string shape_text(const int64_t* dims, int rank) {
  std::string text = "(";
  for (int i = 0; i < rank; ++i) {
    if (i) text += ", ";
    text += dims[i] < 0 ? std::string("any") : std::to_string(dims[i]);
  }
  return text + (rank == 1 ? ",)" : ")");
}

std::string vformat(const char* format, va_list args) {
  char buffer[768];
  std::vsnprintf(buffer, sizeof(buffer), format, args);
  return buffer;
}

bool in_host_memory(aiter_device device) {
  return device.type == AITER_CPU || device.type == AITER_CUDA_HOST ||
         device.type == AITER_ROCM_HOST;
}

}  // namespace

Arg::Arg(const char* op, const char* name, const aiter_tensor* t)
    : op_(op), name_(name), tensor_(t) {
  if (t->ndim < 0 || t->ndim > kMaxRank) refuse("has rank %d, expected 0 to %d", t->ndim, kMaxRank);
  if (t->ndim > 0 && !t->shape) refuse("has shape NULL, expected %d extents", t->ndim);
  int64_t elements_but_0 = 1;
  for (int i = 0; i < t->ndim; ++i) {
    const int64_t extent = t->shape[i];
    if (extent < 0)
      refuse("has shape %s, expected extents of at least 0", shape_text(t->shape, t->ndim).c_str());
    if (extent <= 1) continue;  // its stride may be anything
    if (__builtin_mul_overflow(elements_but_0, extent, &elements_but_0) ||
        elements_but_0 > kTooMany)
      refuse("has shape %s, expected at most 2^56 elements", shape_text(t->shape, t->ndim).c_str());
    int64_t reach = 0;
    if (t->strides && (__builtin_mul_overflow(extent, t->strides[i], &reach) || reach > kTooMany ||
                       reach < -kTooMany))
      refuse("has stride %lld in dimension %d, expected to reach at most 2^56 elements",
             static_cast<long long>(t->strides[i]), i);
  }
  if (t->byte_offset > kTooMany)
    refuse("has byte_offset %llu, expected at most 2^56",
           static_cast<unsigned long long>(t->byte_offset));
  switch (t->device.type) {
    case AITER_CPU:
    case AITER_CUDA:
    case AITER_CUDA_HOST:
    case AITER_ROCM:
    case AITER_ROCM_HOST:
      break;
    default:
      refuse("is on device type %d, expected CPU (1), CUDA (2) or ROCm (10)", t->device.type);
  }
  dtype_ = aiter::dtype_of(t->dtype);
  if (!t->data && elements() > 0)
    refuse("has data NULL, expected %lld elements", static_cast<long long>(elements()));
  data_ = static_cast<char*>(t->data) + (t->data ? t->byte_offset : 0);
}

void Arg::refuse(const char* format, ...) const {
  va_list args;
  va_start(args, format);
  std::string text = vformat(format, args);
  va_end(args);
  fail(AITER_INVALID_ARGUMENT, "%s: %s %s", op_, name_, text.c_str());
}

int64_t Arg::stride(int i) const {
  if (i < 0) i += tensor_->ndim;
  if (tensor_->strides) return tensor_->strides[i];
  int64_t stride = 1;
  for (int k = tensor_->ndim - 1; k > i; --k) stride *= tensor_->shape[k];
  return stride;
}

int64_t Arg::elements() const {
  int64_t n = 1;
  for (int i = 0; i < tensor_->ndim; ++i) n *= tensor_->shape[i];
  return n;
}

const Arg& Arg::dtype(std::initializer_list<DType> allowed) const {
  for (DType d : allowed)
    if (d == dtype_) return *this;
  std::string names;
  size_t i = 0;
  for (DType d : allowed) {
    if (i) names += i + 1 == allowed.size() ? " or " : ", ";
    names += dtype_name(d);
    ++i;
  }
  char buffer[48];
  refuse("has dtype %s, expected %s", dtype_name(tensor_->dtype, buffer), names.c_str());
}

const Arg& Arg::dtype_of(const Arg& other) const {
  if (dtype_ == other.dtype_) return *this;
  char buffer[48];
  refuse("has dtype %s, expected %s's %s", dtype_name(tensor_->dtype, buffer), other.name_,
         dtype_name(other.dtype_));
}

const Arg& Arg::rank(int expected) const {
  if (rank() != expected)
    refuse("has rank %d (shape %s), expected rank %d", rank(),
           shape_text(tensor_->shape, rank()).c_str(), expected);
  return *this;
}

const Arg& Arg::min_rank(int expected) const {
  if (rank() < expected) refuse("has rank %d, expected at least %d", rank(), expected);
  return *this;
}

const Arg& Arg::shape(std::initializer_list<int64_t> expected) const {
  bool same = static_cast<size_t>(rank()) == expected.size();
  int i = 0;
  for (int64_t e : expected) {
    if (!same) break;
    same = e < 0 || e == dim(i);
    ++i;
  }
  if (!same)
    refuse("has shape %s, expected %s", shape_text(tensor_->shape, rank()).c_str(),
           shape_text(expected.begin(), static_cast<int>(expected.size())).c_str());
  return *this;
}

const Arg& Arg::shape_of(const Arg& other) const {
  bool same = rank() == other.rank();
  for (int i = 0; same && i < rank(); ++i) same = dim(i) == other.dim(i);
  if (!same)
    refuse("has shape %s, expected %s's %s", shape_text(tensor_->shape, rank()).c_str(),
           other.name_, shape_text(other.tensor_->shape, other.rank()).c_str());
  return *this;
}

const Arg& Arg::unit_last_stride() const {
  if (rank() > 0 && dim(-1) > 1 && stride(-1) != 1 && elements() > 0)
    refuse("has last stride %lld, expected 1 (neighbours in memory)",
           static_cast<long long>(stride(-1)));
  return *this;
}

const Arg& Arg::contiguous() const {
  int64_t expected = 1;
  if (elements() == 0) return *this;
  for (int i = rank() - 1; i >= 0; --i) {
    if (dim(i) != 1 && stride(i) != expected)
      refuse("has stride %lld in dimension %d, expected %lld (row-major and contiguous)",
             static_cast<long long>(stride(i)), i, static_cast<long long>(expected));
    expected *= dim(i);
  }
  return *this;
}

const Arg& Arg::on_device_of(const Arg& other) const {
  aiter_device a = device(), b = other.device();
  if (!(in_host_memory(a) && in_host_memory(b)) && (a.type != b.type || a.id != b.id))
    refuse("is on device %d:%d, expected %s's %d:%d", a.type, a.id, other.name_, b.type, b.id);
  return *this;
}

const Arg& Arg::values_in(int64_t begin, int64_t end) const {
  if (!in_host_memory(device())) return *this;
  const Rows values = rows(0);
  auto scan = [&]<class T>(const T* data) {
    for (int64_t i = 0; i < values.count; ++i) {
      const int64_t value = data[values.offset(i)];
      if (value >= end)
        refuse("has %lld at flat index %lld, expected less than %lld",
               static_cast<long long>(value), static_cast<long long>(i),
               static_cast<long long>(end));
      if (value < begin)
        refuse("has %lld at flat index %lld, expected at least %lld", static_cast<long long>(value),
               static_cast<long long>(i), static_cast<long long>(begin));
    }
  };
  if (dtype_ == DType::kI32)
    scan(static_cast<const int32_t*>(data_));
  else
    scan(static_cast<const int64_t*>(data_));
  return *this;
}

const Arg& Arg::values_in(float least, float most) const {
  if (!in_host_memory(device())) return *this;
  const Rows values = rows(0);
  for (int64_t i = 0; i < values.count; ++i) {
    const float value = static_cast<const float*>(data_)[values.offset(i)];
    if (!(value >= least && value <= most))
      refuse("has %g at flat index %lld, expected %g to %g", value, static_cast<long long>(i),
             least, most);
  }
  return *this;
}

Rows Arg::rows(int tail) const {
  Rows rows{1, 1, 0, 0};
  // Levels from the innermost outwards; a dimension that continues the level below joins it.
  struct Level {
    int64_t extent, stride;
  } levels[2] = {{1, 0}, {1, 0}};
  int used = 0;
  for (int i = rank() - tail - 1; i >= 0; --i) {
    rows.count *= dim(i);
    if (dim(i) == 1) continue;
    int64_t s = stride(i);
    if (used > 0 && s == levels[used - 1].stride * levels[used - 1].extent) {
      levels[used - 1].extent *= dim(i);
    } else if (used < 2) {
      levels[used++] = {dim(i), s};
    } else if (elements() > 0) {
      refuse("has leading dimensions whose strides need more than two levels; make it contiguous");
    }
  }
  rows.inner = levels[0].extent > 0 ? levels[0].extent : 1;
  rows.inner_stride = levels[0].stride;
  rows.outer_stride = used > 1 ? levels[1].stride : levels[0].stride * levels[0].extent;
  return rows;
}

Arg Check::tensor(const char* name, const aiter_tensor* t) const {
  require(t != nullptr, "%s is NULL, expected a tensor", name);
  return Arg(op_, name, t);
}

Arg Check::optional(const char* name, const aiter_tensor* t) const {
  return t ? Arg(op_, name, t) : Arg();
}

void Check::require(bool condition, const char* format, ...) const {
  if (condition) return;
  va_list args;
  va_start(args, format);
  std::string text = vformat(format, args);
  va_end(args);
  fail(AITER_INVALID_ARGUMENT, "%s: %s", op_, text.c_str());
}

void Check::merge_options(const void* given, void* defaults, uint32_t size) const {
  uint32_t head[2];
  std::memcpy(head, given, sizeof(uint32_t));
  require(head[0] >= sizeof(head) && head[0] <= size,
          "opts.struct_size is %u, expected %zu to %u (set it to sizeof the opts struct; a larger "
          "one comes from newer headers)",
          head[0], sizeof(head), size);
  std::memcpy(head, given, sizeof(head));
  require((head[1] & ~static_cast<uint32_t>(AITER_DRY_RUN)) == 0,
          "opts.flags is 0x%x, expected bits of AITER_DRY_RUN (0x%x) alone", head[1],
          AITER_DRY_RUN);
  std::memcpy(defaults, given, head[0]);
}

}  // namespace aiter
