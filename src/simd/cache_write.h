// Writing heads of tokens into paged caches, as ops/kvcache/cache_layout.h describes them.
#pragma once

#include "ops/kvcache/cache_layout.h"
#include "simd/quantize.h"

namespace aiter::AITER_ISA {

// The scale of a group of numbers, where a scale makes room for `floor` at least; one that is a
// power of two is stored as the float.
template <class Codec>
AITER_INLINE Scale cache_scale(float amax, float floor, const QuantSpec& spec) {
  Scale scale = scale_for<Codec>(amax > floor ? amax : floor, spec);
  if (spec.scale == DType::kF8E8M0) scale.value = e8m0_decode(scale.code);
  return scale;
}

// n dims, from dim `begin` on, of a slot and head that begin at `at`.
template <class E>
AITER_INLINE void place(const CacheLayout& to, int64_t at, int64_t begin, const E* row, int64_t n) {
  constexpr int64_t kGroup = 16 / sizeof(E);  // the common one
  E* data = static_cast<E*>(to.data) + at;
  if (to.dim_inner != 1) {
    for (int64_t i = 0; i < n; ++i) data[to.at_dim(static_cast<uint32_t>(begin + i))] = row[i];
  } else if (to.dim_bits == kNotSplit) {
    memcpy(data + begin, row, n * sizeof(E));
  } else if (1 << to.dim_bits == kGroup && (begin | n) % kGroup == 0) {
    data += begin / kGroup * to.dim_outer;
    for (int64_t i = 0; i < n; i += kGroup, data += to.dim_outer) memcpy(data, row + i, 16);
  } else {
    for (int64_t i = 0, run; i < n; i += run) {
      run = (int64_t{1} << to.dim_bits) - ((begin + i) & ((1 << to.dim_bits) - 1));
      run = run < n - i ? run : n - i;
      memcpy(data + to.at_dim(static_cast<uint32_t>(begin + i)), row + i, run * sizeof(E));
    }
  }
}

// The largest finite magnitude of n numbers, and their codes: by vectors, and one by one.
struct VectorCodes {
  template <class X>
  static float amax(const X* x, int64_t n) {
    return group_amax(n, ArrayNumbers<X>{x});
  }
  template <class Codec, class X>
  static void encode(const X* x, int64_t n, float factor, uint8_t* codes) {
    encode_codes<Codec>(n, factor, codes, false, ArrayNumbers<X>{x});
  }
};
struct PlainCodes {
  template <class X>
  static float amax(const X* x, int64_t n) {
    float most = 0;
    for (int64_t i = 0; i < n; ++i) {
      const float v = __builtin_fabsf(to_float(x[i]));
      if (v > most) most = v < 3.4028234663852886e38f ? v : 3.4028234663852886e38f;
    }
    return most;
  }
  template <class Codec, class X>
  static void encode(const X* x, int64_t n, float factor, uint8_t* codes) {
    for (int64_t i = 0; i < n; ++i)
      put_code<Codec::kBits>(codes, i, Codec::encode(to_float(x[i]) * factor));
  }
};

// f(Codec{}) for the dtypes of codes that a cache holds.
template <class F>
AITER_INLINE void with_cache_codec(DType code, F&& f) {
  switch (code) {
    case DType::kI8:
      return f(Int8Code{});
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
AITER_INLINE void with_head_codec(DType code, F&& f) {
  if (code == DType::kF4E2M1x2) return f(E2M1FN{});
  with_cache_codec(code, f);
}

// f(C{}) with the C++ type that a cache of this dtype stores: bits, where they are only copied.
template <class F>
AITER_INLINE void with_bits(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32:
      return f(uint32_t{});
    case DType::kF16:
    case DType::kBF16:
      return f(uint16_t{});
    default:
      return f(uint8_t{});
  }
}

}  // namespace aiter::AITER_ISA
