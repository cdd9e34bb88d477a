// A piece of a page for each block: blocks in x take pairs, in y pieces of both caches.
#include "ck/core/pack.h"
#include "ops/kvcache/copy_blocks/copy_blocks_args.h"

namespace aiter {

// N elements of T at a time.
template <class T, int N>
AITER_DEVICE void copy_pages(const CopyBlocksArgs& a) {
  constexpr int kAtOnce = 4;
  const int64_t step = static_cast<int64_t>(grid_blocks_y()) * block_threads();
  for (int64_t pair = block_index_x(); pair < a.pairs; pair += grid_blocks()) {
    const int64_t from_page = a.page_of(pair, 0), to_page = a.page_of(pair, 1);
    AITER_NO_UNROLL
    for (int c = 0; c < a.cache_count; ++c) {
      const CopyBlocksArgs::Cache& cache = a.caches[c];
      if (from_page < 0 || from_page >= cache.from_pages || to_page < 0 ||
          to_page >= cache.to_pages)
        continue;
      const T* from = reinterpret_cast<const T*>(static_cast<const uint8_t*>(cache.from) +
                                                 from_page * cache.from_page);
      T* to = reinterpret_cast<T*>(static_cast<uint8_t*>(cache.to) + to_page * cache.to_page);
      const int64_t units = cache.page / static_cast<int64_t>(sizeof(T) * N);
      int64_t i = static_cast<int64_t>(block_index_y()) * block_threads() + thread_index();
      for (; i + (kAtOnce - 1) * step < units; i += kAtOnce * step) {
        Pack<T, N> pack[kAtOnce];
        AITER_UNROLL
        for (int u = 0; u < kAtOnce; ++u) pack[u] = load_pack<N>(from + (i + u * step) * N);
        AITER_UNROLL
        for (int u = 0; u < kAtOnce; ++u) store_pack(to + (i + u * step) * N, pack[u]);
      }
      for (; i < units; i += step) store_pack(to + i * N, load_pack<N>(from + i * N));
    }
  }
}

}  // namespace aiter

AITER_KERNEL(copy_blocks_hip_vec, 256)(const aiter::CopyBlocksArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::copy_pages<aiter::uint32_t, 4>(a);
}
AITER_KERNEL(copy_blocks_hip_any, 256)(const aiter::CopyBlocksArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::copy_pages<aiter::uint8_t, 1>(a);
}
