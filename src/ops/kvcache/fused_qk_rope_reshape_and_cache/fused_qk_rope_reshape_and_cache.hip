// A wave for each head of a token.
#include "ck/kvcache/cache_write.h"
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache_args.h"

namespace aiter {

using FusedArgs = FusedQkRopeReshapeAndCacheArgs;

// Where a head goes.
struct Target {
  const FusedArgs& a;
  const FusedArgs::Part& part;
  int64_t at;
  float factor;  // 1 / scale of codes

  AITER_DEVICE void put(int d, float x) const {
    const int64_t to = at + part.rows.to.at_dim(d);
    if (part.to_dtype == a.dtype) return store_float(part.rows.to.data, to, a.dtype, x);
    with_cache_codec(part.to_dtype, [&] AITER_LAMBDA(auto codec) {
      static_cast<uint8_t*>(part.rows.to.data)[to] =
          static_cast<uint8_t>(decltype(codec)::encode(x * factor));
    });
  }
};

// `row`: of the tables, or negative where the token does not turn.
AITER_DEVICE void write_head(const FusedArgs& a, const FusedArgs::Part& part, int64_t token,
                             int64_t head, int64_t row) {
  int64_t page;
  uint32_t slot;
  if (!a.find(part, token, page, slot)) return;
  const CacheRows& rows = part.rows;
  const int64_t from = token * rows.from_token + head * rows.from_head;
  const Target target{a, part, rows.to.at_slot(page, slot) + head * rows.to.head,
                      rows.scale.data ? 1.0f / rows.scale.data[head * rows.scale.head] : 1.0f};
  const int lane = thread_index() % kWave, dim = static_cast<int>(rows.dim);
  const int pairs = static_cast<int>(a.turn.pairs), begin = part.first;
  const bool turns = part.turns && row >= 0;
  AITER_NO_UNROLL
  for (int d = lane; d < dim; d += kWave)
    if (!turns || d < begin || d >= begin + 2 * pairs)
      target.put(d, load_float(rows.from, from + d, a.dtype));
  if (!turns) return;
  AITER_NO_UNROLL
  for (int p = lane; p < pairs; p += kWave) {
    const int i = begin + static_cast<int>(a.turn.first(p));
    const int j = i + static_cast<int>(a.turn.apart());
    float x = load_float(rows.from, from + i, a.dtype),
          y = load_float(rows.from, from + j, a.dtype);
    turn_pair(a.turn, row, p, x, y);
    target.put(i, rounded(x, a.dtype));
    target.put(j, rounded(y, a.dtype));
  }
}

AITER_DEVICE void write_token(const FusedArgs& a) {
  const int64_t token = block_index_x();
  const int waves = block_threads() / kWave, wave = thread_index() / kWave;
  const int64_t row = a.turn.row(token);
  AITER_NO_UNROLL
  for (int i = 0; i < a.part_count; ++i)
    for (int64_t head = wave; head < a.parts[i].rows.heads; head += waves)
      write_head(a, a.parts[i], token, head, row);
}

}  // namespace aiter

AITER_KERNEL(fused_qk_rope_reshape_and_cache_hip_any, 256)
(const aiter::FusedQkRopeReshapeAndCacheArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::write_token(a);
}
