#include "ops/kvcache/reshape_and_cache_flash/reshape_and_cache_flash_args.h"
#include "simd/parallel.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

using Args = ReshapeAndCacheFlashArgs;

int64_t slot_of(const Args& a, int64_t token) {
  return a.slot_dtype == DType::kI64 ? static_cast<const int64_t*>(a.slots)[token]
                                     : static_cast<const int32_t*>(a.slots)[token];
}

AITER_INLINE void copy_row(float* to, const float* from, int64_t n) { memcpy(to, from, n * 4); }
AITER_INLINE void copy_row(f16* to, const f16* from, int64_t n) { memcpy(to, from, n * 2); }
AITER_INLINE void copy_row(bf16* to, const bf16* from, int64_t n) { memcpy(to, from, n * 2); }
template <class To>
AITER_INLINE void copy_row(To* to, const float* from, int64_t n) {
  for_lanes(n,
            [&](int64_t i, int lanes) { store_some(to + i, load_some(from + i, lanes), lanes); });
}

template <class T, class C>
void write(const Args& a, const Args::Side& s, int64_t token, int64_t slot) {
  const T* from = static_cast<const T*>(s.from) + token * s.from_token;
  C* to = static_cast<C*>(s.cache) + slot / a.block * s.page + slot % a.block * s.slot;
  if (s.from_head == s.dim && s.head == s.dim) return copy_row(to, from, a.heads * s.dim);
  for (int64_t h = 0; h < a.heads; ++h) copy_row(to + h * s.head, from + h * s.from_head, s.dim);
}

template <class T, class C>
void write_plain(const Args& a, const Args::Side& s, int64_t token, int64_t slot) {
  const T* from = static_cast<const T*>(s.from) + token * s.from_token;
  C* to = static_cast<C*>(s.cache) + slot / a.block * s.page + slot % a.block * s.slot;
  for (int64_t h = 0; h < a.heads; ++h)
    for (int64_t i = 0; i < s.dim; ++i) {
      const T* element = &from[h * s.from_head + i];
      if constexpr (sizeof(T) == sizeof(C))
        memcpy(&to[h * s.head + i], element, sizeof(C));
      else
        to[h * s.head + i] = from_float<C>(*element);
    }
}

// Calls f(T{}, C{}) with the types of key and cache.
template <class F>
void with_types(const Args& a, F&& f) {
  with_float_type(a.dtype, [&](auto t) {
    if (a.cache_dtype == a.dtype) return f(t, t);
    if (a.cache_dtype == DType::kF16) return f(float{}, f16{});
    f(float{}, bf16{});
  });
}

}  // namespace

void reshape_and_cache_flash_cpu_simd(const Args& a) {
  with_types(a, [&]<class T, class C>(T, C) {
    const int64_t grain = 16384 / (a.heads * (a.key.dim + a.value.dim) + 1) + 1;
    parallel_for(a.tokens, grain, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t slot = slot_of(a, t);
        if (slot < 0 || slot >= a.capacity) continue;
        write<T, C>(a, a.key, t, slot);
        write<T, C>(a, a.value, t, slot);
      }
    });
  });
}

void reshape_and_cache_flash_cpu_ref(const Args& a) {
  with_types(a, [&]<class T, class C>(T, C) {
    for (int64_t t = 0; t < a.tokens; ++t) {
      const int64_t slot = slot_of(a, t);
      if (slot < 0 || slot >= a.capacity) continue;
      write_plain<T, C>(a, a.key, t, slot);
      write_plain<T, C>(a, a.value, t, slot);
    }
  });
}

}  // namespace aiter::AITER_ISA
