#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache_args.h"
#include "simd/cache_write.h"
#include "simd/parallel.h"
#include "simd/turn_head.h"

namespace aiter::AITER_ISA {
namespace {

using Args = FusedQkRopeReshapeAndCacheArgs;
using Part = Args::Part;

template <class T>
void put(const Args& a, const Part& part, const T* head_in, int64_t to, int64_t head) {
  const CacheRows& rows = part.rows;
  if (part.to_dtype == a.dtype) return place(rows.to, to, 0, head_in, rows.dim);
  const float factor = rows.scale.data ? 1.0f / rows.scale.data[head * rows.scale.head] : 1.0f;
  with_cache_codec(part.to_dtype, [&]<class Codec>(Codec) {
    uint8_t codes[Args::kMaxDim];
    for (int64_t d = 0; d < rows.dim; d += Args::kMaxDim) {
      const int64_t n = rows.dim - d < Args::kMaxDim ? rows.dim - d : Args::kMaxDim;
      encode_codes<Codec>(n, factor, codes, false,
                          [&](int64_t i, int lanes) { return load_some(head_in + d + i, lanes); });
      place(rows.to, to, d, codes, n);
    }
  });
}

template <class Turn>
void write_tokens(const Args& a, bool parallel) {
  int64_t dims = 1;
  for (int i = 0; i < a.part_count; ++i) dims += a.parts[i].rows.heads * a.parts[i].rows.dim;
  with_float_type(a.dtype, [&]<class T>(T) {
    parallel_for(a.tokens, parallel ? 16384 / dims + 1 : a.tokens, [&](int64_t begin, int64_t end) {
      const Turn turn;
      T turned[Args::kMaxDim];
      for (int64_t t = begin; t < end; ++t) {
        const int64_t row = a.turn.row(t);
        for (int i = 0; i < a.part_count; ++i) {
          const Part& part = a.parts[i];
          const CacheRows& rows = part.rows;
          int64_t page;
          uint32_t slot;
          if (!a.find(part, t, page, slot)) continue;
          for (int64_t h = 0; h < rows.heads; ++h) {
            const T* in =
                static_cast<const T*>(rows.from) + t * rows.from_token + h * rows.from_head;
            const int64_t to = rows.to.at_slot(page, slot) + h * rows.to.head;
            if (!part.turns || row < 0) {
              put(a, part, in, to, h);
              continue;
            }
            memcpy(turned, in, rows.dim * sizeof(T));
            turn(a.turn, row, in + part.first, turned + part.first);
            put(a, part, turned, to, h);
          }
        }
      }
    });
  });
}

}  // namespace

void fused_qk_rope_reshape_and_cache_cpu_simd(const Args& a) { write_tokens<VectorTurn>(a, true); }
void fused_qk_rope_reshape_and_cache_cpu_ref(const Args& a) { write_tokens<PlainTurn>(a, false); }

}  // namespace aiter::AITER_ISA
