#include "ops/kvcache/gather_cache/gather_cache_args.h"
#include "simd/cache_run.h"
#include "simd/parallel.h"

namespace aiter::AITER_ISA {
namespace {

using Side = GatherCacheArgs::Side;
constexpr int64_t kChunk = 1024;  // codes at a time

// n elements of a slot and head that begin at `at`, from dim `begin` on, to neighbours: the
// opposite of place().
template <class E>
AITER_INLINE void take(const CacheLayout& from, int64_t at, int64_t begin, E* row, int64_t n) {
  const E* data = static_cast<const E*>(from.data) + at;
  if (from.dim_inner != 1) {
    for (int64_t i = 0; i < n; ++i) row[i] = data[from.at_dim(static_cast<uint32_t>(begin + i))];
  } else if (from.dim_bits == kNotSplit) {
    memcpy(row, data + begin, n * sizeof(E));
  } else {
    const int64_t group = int64_t{1} << from.dim_bits;
    for (int64_t i = 0; i < n; i += group)
      memcpy(row + i, data + from.at_dim(static_cast<uint32_t>(begin + i)), group * sizeof(E));
  }
}

// Whether the heads of a token are one row here and there.
bool heads_together(const Side& s) {
  return s.dtype == s.cache_dtype && s.from.dim_inner == 1 && s.from.dim_bits == kNotSplit &&
         s.from.head == s.dim.divisor && s.to_head == s.dim.divisor;
}

// A head of a token, or `heads` that are together, plainly or with vectors.
template <bool kPlain>
void gather_head(const GatherCacheArgs& a, const Side& s, int64_t token, int64_t page,
                 uint32_t slot, int64_t head, int64_t heads, LineStream* stream) {
  const int64_t to = token * s.to_token + head * s.to_head;
  const int64_t from = s.from.at_slot(page, slot) + head * s.from.head;
  const int64_t dim = s.dim.divisor;
  if (s.dtype == s.cache_dtype) {
    with_bits(s.dtype, [&]<class E>(E) {
      E* out = static_cast<E*>(s.to) + to;
      if constexpr (kPlain)
        for (int64_t d = 0; d < dim; ++d)
          out[d] = static_cast<const E*>(s.from.data)[from + s.from.at_dim(d)];
      else if (s.from.dim_inner == 1 && s.from.dim_bits == kNotSplit)
        write_bytes(out, static_cast<const E*>(s.from.data) + from, heads * dim * sizeof(E),
                    stream);
      else
        take(s.from, from, 0, out, dim);
    });
    return;
  }
  const float scale = s.scale.data ? s.scale.data[a.scale_index(s, page, slot, head)] : 1.0f;
  with_cache_codec(s.cache_dtype, [&]<class Codec>(Codec) {
    with_float_type(s.dtype, [&]<class T>(T) {
      T* out = static_cast<T*>(s.to) + to;
      if constexpr (kPlain) {
        const uint8_t* codes = static_cast<const uint8_t*>(s.from.data) + from;
        for (int64_t d = 0; d < dim; ++d)
          out[d] = from_float<T>(Codec::decode(codes[s.from.at_dim(d)]) * scale);
      } else {
        uint8_t codes[kChunk];
        for (int64_t d = 0; d < dim; d += kChunk) {
          const int64_t n = dim - d < kChunk ? dim - d : kChunk;
          take(s.from, from, d, codes, n);
          for_lanes(n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
            const Vec v = decode_lanes(Codec{}, load_codes<8>(codes + i, lanes));
            store_some(out + d + i, v * set1(scale), lanes);
          });
        }
      }
    });
  });
}

template <bool kPlain>
void gather(const GatherCacheArgs& a) {
  int64_t dims = 0;
  bool streamed[2] = {};
  for (int i = 0; i < a.side_count; ++i) {
    const Side& s = a.sides[i];
    const int64_t numbers = s.heads * s.dim.divisor, bytes = dtype_bytes(s.dtype);
    dims += numbers;
    streamed[i] = !kPlain && worth_streaming(s.to, a.tokens * numbers * bytes, bytes);
  }
  const int64_t end = a.begin_of(a.sequences), grain = kPlain ? end : row_grain(dims);
  parallel_for(end, grain, [&](int64_t first, int64_t last) {
    LineStream streams[2];
    int64_t sequence = 0;
    for (int64_t token = first; token < last; ++token) {
      while (a.begin_of(sequence + 1) <= token) ++sequence;
      int64_t page;
      uint32_t slot;
      if (!a.find(sequence, token - a.begin_of(sequence), page, slot)) continue;
      for (int i = 0; i < a.side_count; ++i) {
        const Side& s = a.sides[i];
        const int64_t at_once = !kPlain && heads_together(s) ? s.heads : 1;
        for (int64_t h = 0; h < s.heads; h += at_once)
          gather_head<kPlain>(a, s, token, page, slot, h, at_once,
                              streamed[i] ? &streams[i] : nullptr);
      }
    }
  });
}

}  // namespace

void gather_cache_cpu_simd(const GatherCacheArgs& a) { gather<false>(a); }
void gather_cache_cpu_ref(const GatherCacheArgs& a) { gather<true>(a); }

}  // namespace aiter::AITER_ISA
