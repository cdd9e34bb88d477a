#include "ops/kvcache/reshape_and_cache/reshape_and_cache_args.h"
#include "simd/cache.h"
#include "simd/cache_write.h"
#include "simd/parallel.h"

namespace aiter::AITER_ISA {
namespace {

using Args = ReshapeAndCacheArgs;
constexpr int64_t kChunk = 1024;  // numbers converted at a time

// Calls f(side, token, head, where the head begins in the cache, index of its scale).
template <class F>
AITER_INLINE void each_head(const Args& a, int64_t begin, int64_t end, F&& f) {
  for (int64_t t = begin; t < end; ++t) {
    int64_t page;
    uint32_t slot;
    if (!a.slots.find(t, page, slot)) continue;
    for (int i = 0; i < a.row_count; ++i) {
      const CacheRows& rows = a.rows[i];
      const int64_t at = rows.to.at_slot(page, slot);
      const int64_t scale = page * rows.scale.page + slot * rows.scale.slot;
      for (int64_t h = 0; h < rows.heads; ++h)
        f(rows, t * rows.from_token + h * rows.from_head, at + h * rows.to.head,
          scale + h * rows.scale.head);
    }
  }
}

template <class F>
void each_head_in_parallel(const Args& a, F&& f) {
  int64_t dims = 1;
  for (int i = 0; i < a.row_count; ++i) dims += a.rows[i].heads * a.rows[i].dim;
  parallel_for(a.slots.count, 16384 / dims + 1, [&](int64_t begin, int64_t end) {
    each_head(a, begin, end, f);
    stream_fence();
  });
}

// Whether the heads of a side are whole cache lines, and enough of them to go past the caches.
bool is_streamed(const Args& a, const CacheRows& rows, int64_t bytes) {
  const CacheLayout& to = rows.to;
  if (to.dim_bits != kNotSplit || to.dim_inner != 1) return false;
  const int64_t steps = (to.page | to.head | to.slot_outer | to.slot_inner | rows.dim) * bytes;
  return steps % 64 == 0 && reinterpret_cast<uintptr_t>(to.data) % 64 == 0 &&
         worth_streaming(to.data, a.slots.count * rows.heads * rows.dim * bytes, bytes);
}

void stream_bytes(void* to, const void* from, int64_t bytes) {
  float* out = static_cast<float*>(to);
  const float* in = static_cast<const float*>(from);
  for (int64_t i = 0; i < bytes / 4; i += kLanes) stream(out + i, load(in + i));
}

// A head into a cache of another float.
template <class C>
AITER_INLINE void write_rounded(const CacheRows& rows, int64_t from, int64_t to) {
  C rounded[kChunk];
  const float* x = static_cast<const float*>(rows.from) + from;
  for (int64_t d = 0; d < rows.dim; d += kChunk) {
    const int64_t n = rows.dim - d < kChunk ? rows.dim - d : kChunk;
    for_lanes(n, [&](int64_t i, int lanes) {
      store_some(rounded + i, load_some(x + d + i, lanes), lanes);
    });
    place(rows.to, to, d, rounded, n);
  }
}

template <class T, class Codec>
AITER_INLINE void write_codes(const Args& a, const CacheRows& rows, int64_t from, int64_t to,
                              int64_t scale_index) {
  const T* x = static_cast<const T*>(rows.from) + from;
  const bool dynamic = a.quant == CacheQuant::kDynamic;
  const bool in_order = rows.to.dim_inner == 1 && rows.to.dim_bits == kNotSplit;
  const int64_t group = dynamic ? a.group : rows.dim;
  for (int64_t begin = 0; begin < rows.dim; begin += group, scale_index += rows.scale.group) {
    const int64_t end = begin + group < rows.dim ? begin + group : rows.dim;
    float factor = 1.0f;
    if (dynamic) {
      const float amax = group_amax(
          end - begin, [&](int64_t i, int lanes) { return load_some(x + begin + i, lanes); });
      const Scale scale = cache_scale<Codec>(amax, a.amax_floor, a.spec);
      rows.scale.data[scale_index] = scale.value;
      factor = scale.factor;
    } else if (rows.scale.data) {
      factor = 1.0f / rows.scale.data[scale_index];
    }
    uint8_t codes[kChunk];
    for (int64_t d = begin; d < end; d += kChunk) {
      const int64_t n = end - d < kChunk ? end - d : kChunk;
      uint8_t* out = in_order ? static_cast<uint8_t*>(rows.to.data) + to + d : codes;
      encode_codes<Codec>(n, factor, out, false,
                          [&](int64_t i, int lanes) { return load_some(x + d + i, lanes); });
      if (!in_order) place(rows.to, to, d, codes, n);
    }
  }
}

}  // namespace

void reshape_and_cache_cpu_simd(const Args& a) {
  if (a.quant != CacheQuant::kNone) {
    with_float_type(a.dtype, [&]<class T>(T) {
      with_cache_codec(a.spec.code, [&]<class Codec>(Codec) {
        each_head_in_parallel(a,
                              [&](const CacheRows& rows, int64_t from, int64_t to, int64_t scale) {
                                write_codes<T, Codec>(a, rows, from, to, scale);
                              });
      });
    });
  } else if (a.dtype != a.cache_dtype) {
    each_head_in_parallel(a, [&](const CacheRows& rows, int64_t from, int64_t to, int64_t) {
      if (a.cache_dtype == DType::kF16)
        write_rounded<f16>(rows, from, to);
      else
        write_rounded<bf16>(rows, from, to);
    });
  } else {
    with_bits(a.dtype, [&]<class C>(C) {
      bool streamed[2] = {};
      for (int i = 0; i < a.row_count; ++i) streamed[i] = is_streamed(a, a.rows[i], sizeof(C));
      each_head_in_parallel(a, [&](const CacheRows& rows, int64_t from, int64_t to, int64_t) {
        if (streamed[&rows - a.rows])
          stream_bytes(static_cast<C*>(rows.to.data) + to, static_cast<const C*>(rows.from) + from,
                       rows.dim * static_cast<int64_t>(sizeof(C)));
        else
          place(rows.to, to, 0, static_cast<const C*>(rows.from) + from, rows.dim);
      });
    });
  }
}

void reshape_and_cache_cpu_ref(const Args& a) {
  if (a.quant != CacheQuant::kNone) {
    with_float_type(a.dtype, [&]<class T>(T) {
      with_cache_codec(a.spec.code, [&]<class Codec>(Codec) {
        each_head(
            a, 0, a.slots.count,
            [&](const CacheRows& rows, int64_t from, int64_t to, int64_t scale_index) {
              const T* x = static_cast<const T*>(rows.from) + from;
              const bool dynamic = a.quant == CacheQuant::kDynamic;
              float factor = 1.0f;
              if (!dynamic && rows.scale.data) factor = 1.0f / rows.scale.data[scale_index];
              for (int64_t d = 0; d < rows.dim; ++d) {
                if (dynamic && d % a.group == 0) {
                  float amax = 0;
                  for (int64_t i = d; i < rows.dim && i < d + a.group; ++i) {
                    const float v = __builtin_fabsf(to_float(x[i]));
                    if (v > amax) amax = v < 3.4028234663852886e38f ? v : 3.4028234663852886e38f;
                  }
                  const Scale scale = cache_scale<Codec>(amax, a.amax_floor, a.spec);
                  rows.scale.data[scale_index + d / a.group * rows.scale.group] = scale.value;
                  factor = scale.factor;
                }
                static_cast<uint8_t*>(rows.to.data)[to + rows.to.at_dim(static_cast<uint32_t>(d))] =
                    static_cast<uint8_t>(Codec::encode(to_float(x[d]) * factor));
              }
            });
      });
    });
  } else if (a.dtype != a.cache_dtype) {
    each_head(a, 0, a.slots.count, [&](const CacheRows& rows, int64_t from, int64_t to, int64_t) {
      for (int64_t d = 0; d < rows.dim; ++d) {
        const int64_t at = to + rows.to.at_dim(static_cast<uint32_t>(d));
        const float x = static_cast<const float*>(rows.from)[from + d];
        if (a.cache_dtype == DType::kF16)
          static_cast<f16*>(rows.to.data)[at] = from_float<f16>(x);
        else
          static_cast<bf16*>(rows.to.data)[at] = from_float<bf16>(x);
      }
    });
  } else {
    with_bits(a.dtype, [&]<class C>(C) {
      each_head(a, 0, a.slots.count, [&](const CacheRows& rows, int64_t from, int64_t to, int64_t) {
        for (int64_t d = 0; d < rows.dim; ++d)
          memcpy(static_cast<C*>(rows.to.data) + to + rows.to.at_dim(static_cast<uint32_t>(d)),
                 static_cast<const C*>(rows.from) + from + d, sizeof(C));
      });
    });
  }
}

}  // namespace aiter::AITER_ISA
