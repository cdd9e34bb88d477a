// Some lanes of a wave, a power of two, for each token: 16 bytes, an element or a code at a time.
#include "ck/kvcache/cache_write.h"
#include "ops/kvcache/gather_cache/gather_cache_args.h"

namespace aiter {

AITER_DEVICE void gather_side(const GatherCacheArgs& a, const GatherCacheArgs::Side& s, int lanes,
                              int64_t token, int64_t page, uint32_t slot, bool there) {
  const int lane = thread_index() & (lanes - 1);
  const int bytes = element_bytes(s.dtype);
  const bool copied = s.dtype == s.cache_dtype;
  const int unit = s.by_16_bytes ? 16 / bytes : 1;
  const int dim = static_cast<int>(s.dim.divisor), count = static_cast<int>(s.heads) * dim;
  const int64_t from_slot = there ? s.from.at_slot(page, slot) : 0;
  for (int i = lane * unit; i < count; i += lanes * unit) {
    const int head = static_cast<int>(s.dim.divide(static_cast<uint32_t>(i))), d = i - head * dim;
    const int64_t to = token * s.to_token + head * s.to_head + d;
    const int64_t from = from_slot + head * s.from.head + s.from.at_dim(d);
    if (s.by_16_bytes) {
      Words4 words{0, 0, 0, 0};
      if (there)
        words = *reinterpret_cast<const Words4*>(static_cast<const uint8_t*>(s.from.data) +
                                                 from * bytes);
      *reinterpret_cast<Words4*>(static_cast<uint8_t*>(s.to) + to * bytes) = words;
    } else if (!there) {
      if (copied && bytes == 1)
        static_cast<uint8_t*>(s.to)[to] = 0;
      else
        store_float(s.to, to, s.dtype, 0.0f);
    } else if (copied) {
      copy_element(s.from.data, from, s.dtype, s.to, to, s.dtype);
    } else {
      const float scale = s.scale.data ? s.scale.data[a.scale_index(s, page, slot, head)] : 1.0f;
      const uint32_t code = static_cast<const uint8_t*>(s.from.data)[from];
      with_cache_codec(s.cache_dtype, [&] AITER_LAMBDA(auto codec) {
        store_float(s.to, to, s.dtype, decltype(codec)::decode(code) * scale);
      });
    }
  }
}

AITER_DEVICE void gather(const GatherCacheArgs& a, int lanes) {
  const int bits = 31 - __builtin_clz(static_cast<uint32_t>(lanes));
  const int tokens = block_threads() >> bits;
  const int64_t end = min<int64_t>(a.begin_of(a.sequences), a.tokens);
  for (int64_t token = static_cast<int64_t>(block_index_x()) * tokens + (thread_index() >> bits);
       token < end; token += static_cast<int64_t>(grid_blocks()) * tokens) {
    // The last sequence that begins at the token or before it; empty ones begin with the next.
    int64_t low = 0, high = a.sequences;
    while (high - low > 1) {
      const int64_t middle = (low + high) >> 1;
      if (a.begin_of(middle) <= token)
        low = middle;
      else
        high = middle;
    }
    const int64_t i = token - a.begin_of(low);
    int64_t page = 0;
    uint32_t slot = 0;
    const bool there = i >= 0 && a.find(low, i, page, slot);
    AITER_NO_UNROLL
    for (int side = 0; side < a.side_count; ++side)
      gather_side(a, a.sides[side], lanes, token, page, slot, there);
  }
}

}  // namespace aiter

AITER_KERNEL(gather_cache_hip_any, 256)(const aiter::GatherCacheArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::gather(a, a.lanes);
}
