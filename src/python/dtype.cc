#include "python/dtype.h"

#include <cstring>

namespace aiter::python {
namespace {

struct Name {
  const char* name;
  aiter_dtype dtype;
};
// NumPy's and ml_dtypes' names; a type of packed lanes ends in their number.
constexpr Name kNames[] = {
    {"float32", {AITER_CODE_FLOAT, 32, 1}},
    {"float16", {AITER_CODE_FLOAT, 16, 1}},
    {"bfloat16", {AITER_CODE_BFLOAT, 16, 1}},
    {"int32", {AITER_CODE_INT, 32, 1}},
    {"int64", {AITER_CODE_INT, 64, 1}},
    {"int8", {AITER_CODE_INT, 8, 1}},
    {"uint8", {AITER_CODE_UINT, 8, 1}},
    {"float8_e4m3fn", {AITER_CODE_FLOAT8_E4M3FN, 8, 1}},
    {"float8_e4m3fnuz", {AITER_CODE_FLOAT8_E4M3FNUZ, 8, 1}},
    {"float8_e5m2", {AITER_CODE_FLOAT8_E5M2, 8, 1}},
    {"float8_e5m2fnuz", {AITER_CODE_FLOAT8_E5M2FNUZ, 8, 1}},
    {"float8_e8m0fnu", {AITER_CODE_FLOAT8_E8M0FNU, 8, 1}},
    {"float4_e2m1fnx2", {AITER_CODE_FLOAT4_E2M1FN, 4, 2}},
    {"int4x2", {AITER_CODE_INT, 4, 2}},
    {"uint4x2", {AITER_CODE_UINT, 4, 2}},
    {"bool", {AITER_CODE_BOOL, 8, 1}},
    {"float64", {AITER_CODE_FLOAT, 64, 1}},
    {"int16", {AITER_CODE_INT, 16, 1}},
    {"uint16", {AITER_CODE_UINT, 16, 1}},
    {"uint32", {AITER_CODE_UINT, 32, 1}},
    {"uint64", {AITER_CODE_UINT, 64, 1}},
    {"complex64", {5, 64, 1}},
    {"complex128", {5, 128, 1}},
    {"float8_e3m4", {7, 8, 1}},
    {"float8_e4m3", {8, 8, 1}},
    {"float8_e4m3b11fnuz", {9, 8, 1}},
    {"float6_e2m3fnx4", {AITER_CODE_FLOAT6_E2M3FN, 6, 4}},
    {"float6_e3m2fnx4", {AITER_CODE_FLOAT6_E3M2FN, 6, 4}},
    {"float4_e2m1fn_x2", {AITER_CODE_FLOAT4_E2M1FN, 4, 2}},  // torch's name
};

std::string text_of(nb::handle object) {
  nb::object text = nb::steal(PyObject_Str(object.ptr()));
  if (!text.is_valid()) throw nb::python_error();
  return nb::cast<const char*>(text);
}

}  // namespace

bool find_dtype(const char* name, size_t size, aiter_dtype* dtype) {
  for (const Name& n : kNames)
    if (!std::strncmp(n.name, name, size) && !n.name[size]) return *dtype = n.dtype, true;
  return false;
}

aiter_dtype parse_dtype(nb::handle name, aiter_dtype fallback) {
  if (name.is_none()) return fallback;
  aiter_dtype dtype;
  if (PyUnicode_Check(name.ptr())) {
    const char* text = nb::cast<const char*>(name);
    if (find_dtype(text, std::strlen(text), &dtype)) return dtype;
  }
  std::string text = text_of(name);
  // "torch.bfloat16", "<class 'ml_dtypes.bfloat16'>"
  size_t begin = text.rfind('.') + 1, end = text.find('\'', begin);
  if (end == std::string::npos) end = text.size();
  if (find_dtype(text.c_str() + begin, end - begin, &dtype)) return dtype;
  throw nb::value_error(("unknown dtype " + text).c_str());
}

const char* dtype_name(aiter_dtype dtype) {
  for (const Name& n : kNames)
    if (n.dtype == dtype) return n.name;
  return nullptr;
}

std::string dtype_text(aiter_dtype d) {
  if (const char* name = dtype_name(d)) return name;
  return "dtype(code " + std::to_string(d.code) + ", bits " + std::to_string(d.bits) + ", lanes " +
         std::to_string(d.lanes) + ")";
}

aiter_device parse_device(nb::handle device) {
  if (device.is_none()) return {AITER_CPU, 0};
  if (PyTuple_Check(device.ptr())) {
    nb::tuple pair = nb::borrow<nb::tuple>(device);
    if (nb::len(pair) == 2) return {nb::cast<int32_t>(pair[0]), nb::cast<int32_t>(pair[1])};
  }
  const std::string text = text_of(device);
  const size_t colon = text.find(':');
  const std::string type = text.substr(0, colon);
  char* end = nullptr;
  const char* number = colon == std::string::npos ? "0" : text.c_str() + colon + 1;
  const long id = std::strtol(number, &end, 10);
  if (*number && !*end && id >= 0) {
    const int32_t index = static_cast<int32_t>(id);
    if (type == "cpu" && index == 0) return {AITER_CPU, 0};
    if (type == "cuda") return {AITER_CUDA, index};
    if (type == "hip" || type == "rocm") return {AITER_ROCM, index};
  }
  throw nb::value_error(("unknown device " + text + ", expected cpu, cuda:N or hip:N").c_str());
}

std::string device_text(aiter_device device) {
  const char* type = nullptr;
  switch (device.type) {
    case AITER_CPU:
      return "cpu";
    case AITER_CUDA:
      type = "cuda";
      break;
    case AITER_CUDA_HOST:
      type = "cuda_host";
      break;
    case AITER_ROCM:
      type = "hip";
      break;
    case AITER_ROCM_HOST:
      type = "hip_host";
      break;
    default:
      return "device(" + std::to_string(device.type) + ", " + std::to_string(device.id) + ")";
  }
  return std::string(type) + ":" + std::to_string(device.id);
}

}  // namespace aiter::python
