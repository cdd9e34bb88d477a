#include "ops/embedding/embedding/embedding_args.h"
#include "simd/cache.h"
#include "simd/parallel.h"
#include "simd/stream.h"

namespace aiter::AITER_ISA {
namespace {

int64_t id_of(const EmbeddingArgs& a, int64_t token) {
  const int64_t i = a.ids_rows.offset(token);
  return a.ids_dtype == DType::kI32 ? static_cast<const int32_t*>(a.ids)[i]
                                    : static_cast<const int64_t*>(a.ids)[i];
}

float scale_of(const EmbeddingArgs& a, int64_t id, int64_t group) {
  if (!a.scale) return 1.0f;
  float scale = 0;
  with_float_type(a.scale_dtype, [&]<class S>(S) {
    scale = to_float(static_cast<const S*>(a.scale)[id * a.scale_stride + group]);
  });
  return scale;
}

// Past the caches, in pieces that are read and written by turns with the next row's first fetch.
template <class T>
void copy_row(LineStream& stream, T* out, const T* row, int64_t bytes, int64_t next,
              int64_t stride) {
  const char* from = reinterpret_cast<const char*>(row);
  const char* ahead = reinterpret_cast<const char*>(row + next * stride);
  for (int64_t i = 0, n; i < bytes; i += n) {
    n = bytes - i < 512 ? bytes - i : 512;
    if (next) prefetch<true>(ahead + i, static_cast<int>(n));
    stream.copy(reinterpret_cast<char*>(out) + i, from + i, n);
  }
}

template <class T, class O>
void look_up_rows(const EmbeddingArgs& a, bool streamed, int64_t begin, int64_t end) {
  LineStream stream;
  for (int64_t t = begin; t < end; ++t) {
    O* out = static_cast<O*>(a.out) + a.out_rows.offset(t);
    const int64_t id = id_of(a, t);
    if (id < 0) {
      memset(out, 0, a.hidden * sizeof(O));
      continue;
    }
    const T* row = static_cast<const T*>(a.table) + id * a.table_stride;
    if constexpr (sizeof(T) == 1) {
      for (int64_t h = 0; h < a.hidden; h += a.group) {
        const Vec scale = set1(scale_of(a, id, h / a.group));
        for_lanes(a.group, [&](int64_t i, int n) {
          store_some(out + h + i, load_some(row + h + i, n) * scale, n);
        });
      }
    } else if constexpr (__is_same(T, O)) {
      const int64_t bytes = a.hidden * static_cast<int64_t>(sizeof(T));
      if (streamed)
        copy_row(stream, out, row, bytes, t + 1 < end ? id_of(a, t + 1) - id : 0, a.table_stride);
      else
        memcpy(out, row, bytes);
    } else {
      for_lanes(a.hidden, [&](int64_t i, int n) { store_some(out + i, load_some(row + i, n), n); });
    }
  }
}

template <class T, class O>
void look_up_plain(const EmbeddingArgs& a) {
  for (int64_t t = 0; t < a.tokens; ++t) {
    O* out = static_cast<O*>(a.out) + a.out_rows.offset(t);
    const int64_t id = id_of(a, t);
    for (int64_t h = 0; h < a.hidden; ++h) {
      float value = 0;
      if (id >= 0)
        value = to_float(static_cast<const T*>(a.table)[id * a.table_stride + h]) *
                scale_of(a, id, h / a.group);
      out[h] = from_float<O>(value);
    }
  }
}

// Calls f(T{}, O{}) with the types of table and out.
template <class F>
void with_types(const EmbeddingArgs& a, F&& f) {
  with_float_type(a.out_dtype, [&](auto out) {
    if (a.table_dtype == DType::kI8)
      f(int8_t{}, out);
    else
      with_float_type(a.table_dtype, [&](auto t) { f(t, out); });
  });
}

}  // namespace

void embedding_cpu_simd(const EmbeddingArgs& a) {
  with_types(a, [&]<class T, class O>(T, O) {
    const int64_t grain = 16384 / (a.hidden + 1) + 1;  // rows worth a thread of their own
    const bool streamed =
        worth_streaming(a.out, a.tokens * a.hidden * static_cast<int64_t>(sizeof(O)), sizeof(O));
    parallel_for(a.tokens, grain,
                 [&](int64_t begin, int64_t end) { look_up_rows<T, O>(a, streamed, begin, end); });
  });
}

void embedding_cpu_ref(const EmbeddingArgs& a) {
  with_types(a, [&]<class T, class O>(T, O) { look_up_plain<T, O>(a); });
}

}  // namespace aiter::AITER_ISA
