// The block of the first token of a page works on the page: it looks for the other tokens of the
// call that go there, then each wave takes heads, first of keys and then of values.
#include "ck/kvcache/cache_write.h"
#include "ops/kvcache/reshape_and_cache_with_block_quant/reshape_and_cache_with_block_quant_args.h"

namespace aiter {

using BlockQuantArgs = ReshapeAndCacheWithBlockQuantArgs;

// Whether a token goes to the page whose slots begin with `begin`; *its_slot counts from there.
AITER_DEVICE bool goes_to(const BlockQuantArgs& a, int64_t token, int64_t begin,
                          uint32_t* its_slot) {
  const uint64_t slot = static_cast<uint64_t>(a.slots[token]) - static_cast<uint64_t>(begin);
  *its_slot = static_cast<uint32_t>(slot);
  return slot < a.slots.block.divisor;
}

template <class Codec>
AITER_DEVICE void write_head(const BlockQuantArgs& a, const CacheRows& rows, int64_t head,
                             int64_t page, const int32_t* token_of) {
  const int lane = thread_index() % kWave, dim = static_cast<int>(rows.dim);
  const int slots = static_cast<int>(a.slots.block.divisor);
  const int64_t from = head * rows.from_head;
  float amax = 0;
  AITER_NO_UNROLL
  for (int s = 0; s < slots; ++s) {
    const int64_t token = token_of[s];
    if (token < 0) continue;
    AITER_NO_UNROLL
    for (int d = lane; d < dim; d += kWave) {
      const float x[1] = {load_float(rows.from, from + token * rows.from_token + d, a.dtype)};
      amax = max_magnitude(amax, x);
    }
  }
  float* stored = rows.scale.data + page * rows.scale.page + head * rows.scale.head;
  float scale = cache_scale<Codec>(wave_reduce<Max>(amax), a.amax_floor, a.spec).value;
  const bool anew = token_of[0] >= 0;
  const float old = anew ? scale : *stored;
  const float shrink = old / scale;
  const bool raised = !(old >= scale);  // NaN is no scale
  if (!raised) scale = old;
  const float factor = 1.0f / scale;
  wave_barrier();  // all lanes have read it
  if (lane == 0) *stored = scale;
  uint8_t* codes = static_cast<uint8_t*>(rows.to.data) + head * rows.to.head;
  AITER_NO_UNROLL
  for (int s = 0; s < slots; ++s) {
    const int64_t token = token_of[s];
    if (token < 0 && !raised) continue;
    const int64_t at = a.at_slot(rows.to, page, s);
    AITER_NO_UNROLL
    for (int d = lane; d < dim; d += kWave) {
      uint8_t* code = codes + at + rows.to.at_dim(d);
      const float x =
          token >= 0 ? load_float(rows.from, from + token * rows.from_token + d, a.dtype) * factor
                     : Codec::decode(*code) * shrink;
      *code = static_cast<uint8_t>(Codec::encode(x));
    }
  }
}

template <class Codec>
AITER_DEVICE void write_page(const BlockQuantArgs& a, int64_t first, int32_t* token_of,
                             int32_t* scratch) {
  int64_t page;
  uint32_t slot;
  if (!a.slots.find(first, page, slot)) return;
  const int64_t begin = page * a.slots.block.divisor;
  // The token before is the likeliest one to be of the page.
  if (first && goes_to(a, first - 1, begin, &slot)) return;
  int32_t found = 0;
  AITER_NO_UNROLL
  for (int64_t t = thread_index(); t < first; t += block_threads())
    if (goes_to(a, t, begin, &slot)) found = 1;
  if (block_reduce<Max>(found, scratch)) return;

  const int slots = static_cast<int>(a.slots.block.divisor);
  AITER_NO_UNROLL
  for (int s = thread_index(); s < slots; s += block_threads()) token_of[s] = -1;
  // Of tokens with the same slot the last one counts: until all later ones have won.
  do {
    barrier();
    found = 0;
    AITER_NO_UNROLL
    for (int64_t t = first + thread_index(); t < a.slots.count; t += block_threads())
      if (goes_to(a, t, begin, &slot) && token_of[slot] < t) {
        token_of[slot] = static_cast<int32_t>(t);
        found = 1;
      }
    barrier();
  } while (block_reduce<Max>(found, scratch));

  const int waves = block_threads() / kWave;
  AITER_NO_UNROLL
  for (int side = 0; side < 2; ++side) {
    const CacheRows& rows = a.rows[side];
    for (int64_t h = block_index_y() * waves + thread_index() / kWave; h < rows.heads;
         h += grid_blocks_y() * waves)
      write_head<Codec>(a, rows, h, page, token_of);
  }
}

template <class Codec>
AITER_DEVICE void write_pages(const BlockQuantArgs& a) {
  AITER_DYNAMIC_SHARED(table);
  AITER_SHARED int32_t scratch[256 / kWave];
  write_page<Codec>(a, block_index_x(), reinterpret_cast<int32_t*>(table), scratch);
}

}  // namespace aiter

#define AITER_BLOCK_QUANT(code, Codec)                                 \
  AITER_KERNEL(reshape_and_cache_with_block_quant_hip_any_##code, 256) \
  (const aiter::ReshapeAndCacheWithBlockQuantArgs a) {                 \
    aiter::wait_for_previous_kernel();                                 \
    aiter::write_pages<aiter::Codec>(a);                               \
  }
AITER_BLOCK_QUANT(int8, IntCode<8>)
AITER_BLOCK_QUANT(e4m3fn, E4M3FN)
AITER_BLOCK_QUANT(e4m3fnuz, E4M3FNUZ)
AITER_BLOCK_QUANT(e5m2, E5M2)
AITER_BLOCK_QUANT(e5m2fnuz, E5M2FNUZ)
