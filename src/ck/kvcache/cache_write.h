// Writing heads of tokens into paged caches, as ops/kvcache/cache_layout.h describes them.
#pragma once

#include "ck/quant/quantize.h"
#include "ops/kvcache/cache_layout.h"

namespace aiter {

AITER_DEVICE int element_bytes(DType dtype) {
  return dtype == DType::kF32 ? 4 : dtype == DType::kF16 || dtype == DType::kBF16 ? 2 : 1;
}

// A dim of a head into its place: its bits, or rounded to the cache's float.
AITER_DEVICE void copy_element(const void* from, int64_t from_index, DType dtype, void* to,
                               int64_t to_index, DType cache_dtype) {
  if (dtype != cache_dtype)
    return store_float(to, to_index, cache_dtype, load_float(from, from_index, dtype));
  switch (element_bytes(dtype)) {
    case 4:
      static_cast<uint32_t*>(to)[to_index] = static_cast<const uint32_t*>(from)[from_index];
      break;
    case 2:
      static_cast<uint16_t*>(to)[to_index] = static_cast<const uint16_t*>(from)[from_index];
      break;
    default:
      static_cast<uint8_t*>(to)[to_index] = static_cast<const uint8_t*>(from)[from_index];
  }
}

// The scale of a group of numbers, where a scale makes room for `floor` at least; one that is a
// power of two is stored as the float.
template <class Kind>
AITER_DEVICE Scale cache_scale(float amax, float floor, const QuantSpec& spec, const Kind& codes) {
  Scale scale = scale_for(max(amax, floor), spec, codes);
  if (spec.scale == DType::kF8E8M0) scale.value = e8m0_decode(scale.code);
  return scale;
}
template <class Codec>
AITER_DEVICE Scale cache_scale(float amax, float floor, const QuantSpec& spec) {
  return cache_scale(amax, floor, spec, Codes<Codec>(spec.code));
}

// As it comes back from an array of the dtype.
AITER_DEVICE float rounded(float x, DType dtype) {
  return dtype == DType::kF32   ? x
         : dtype == DType::kF16 ? to_float(from_float<f16>(x))
                                : to_float(from_float<bf16>(x));
}

// f(Codec{}) for the dtypes of codes that a cache holds.
template <class F>
AITER_DEVICE void with_cache_codec(DType code, F&& f) {
  switch (code) {
    case DType::kI8:
      return f(IntCode<8>{});
    case DType::kF8E4M3FN:
      return f(E4M3FN{});
    case DType::kF8E4M3FNUZ:
      return f(E4M3FNUZ{});
    case DType::kF8E5M2:
      return f(E5M2{});
    default:
      return f(E5M2FNUZ{});
  }
}

// The same, with the codes of 4 bits that heads may go to.
template <class F>
AITER_DEVICE void with_head_codec(DType code, F&& f) {
  if (code == DType::kF4E2M1x2) return f(E2M1FN{});
  with_cache_codec(code, f);
}

}  // namespace aiter
