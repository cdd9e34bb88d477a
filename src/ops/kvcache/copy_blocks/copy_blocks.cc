#include <algorithm>

#include "aiter/kvcache.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/device.h"
#include "launch/launch.h"
#include "ops/kvcache/copy_blocks/copy_blocks_args.h"

namespace aiter {

struct CopyBlocksProblem {
  int64_t pairs;
  bool aligned16;  // pages begin at, and are, multiples of 16 bytes
};

AITER_CPU_ROW(copy_blocks_cpu_simd, CopyBlocksArgs)
AITER_CPU_ROW(copy_blocks_cpu_ref, CopyBlocksArgs)

static void copy_blocks_hip(const Kernel& kernel, int64_t unit, const CopyBlocksArgs& args,
                            const Call& call) {
  const int64_t units = args.caches[0].page / unit;
  // Enough blocks for every processor, of at least four units a thread.
  const int64_t wanted = 8 * device_of(call.device).multiprocessors;
  const int64_t most = std::clamp<int64_t>((units + 1023) / 1024, 1, 65535);
  const int64_t x = std::min<int64_t>(args.pairs, 1 << 20);
  launch(kernel, call,
         {.x = x, .y = std::clamp<int64_t>(wanted / std::max<int64_t>(x, 1), 1, most)}, args);
}

static void copy_blocks_hip_vec(const CopyBlocksArgs& args, const Call& call) {
  static constexpr Kernel kernel{"copy_blocks", "copy_blocks_hip_vec"};
  copy_blocks_hip(kernel, 16, args, call);
}

static void copy_blocks_hip_any(const CopyBlocksArgs& args, const Call& call) {
  static constexpr Kernel kernel{"copy_blocks", "copy_blocks_hip_any"};
  copy_blocks_hip(kernel, 1, args, call);
}

static constexpr Row<CopyBlocksProblem, CopyBlocksArgs> kRows[] = {
#include "ops/kvcache/copy_blocks/copy_blocks.def"
};
AITER_OP(kvcache, copy_blocks)

static bool on_host(const Arg& t) {
  const int32_t type = t.device().type;
  return type != AITER_CUDA && type != AITER_ROCM;
}

// A cache of pages without gaps, of any dtype. The caches are seen as bytes.
static CopyBlocksArgs::Cache check_pages(const Arg& from, const Arg& to) {
  from.min_rank(1);
  if (from.dtype() == DType::kNone)
    from.dtype({DType::kF32, DType::kF16, DType::kBF16, DType::kI8, DType::kU8, DType::kF8E4M3FN});
  to.rank(from.rank());
  CopyBlocksArgs::Cache cache{from.data(), to.data(), dtype_bytes(from.dtype()), 0, 0,
                              from.dim(0), to.dim(0)};
  to.dtype_of(from);
  const int64_t element = cache.page;
  for (int i = from.rank() - 1; i > 0; --i) {
    if (to.dim(i) != from.dim(i))
      to.refuse("has extent %lld in dimension %d, expected %lld", static_cast<long long>(to.dim(i)),
                i, static_cast<long long>(from.dim(i)));
    for (const Arg* t : {&from, &to})
      if (t->dim(i) > 1 && t->stride(i) * element != cache.page)
        t->refuse("has stride %lld in dimension %d, expected pages without gaps",
                  static_cast<long long>(t->stride(i)), i);
    cache.page *= from.dim(i);
  }
  cache.from_page = from.stride(0) * element;
  cache.to_page = to.stride(0) * element;
  return cache;
}

static void check_mapping(const Arg& mapping, CopyBlocksArgs* args) {
  mapping.dtype({DType::kI64, DType::kI32}).shape({-1, 2});
  args->wide_mapping = mapping.dtype() == DType::kI64;
  args->mapping = mapping.data();
  args->pairs = mapping.dim(0);
  args->pair_stride = mapping.stride(0);
  args->end_stride = mapping.stride(1);
  if (!on_host(mapping)) return;
  for (int64_t i = 0; i < args->pairs; ++i)
    for (int c = 0; c < args->cache_count; ++c)
      for (int end = 0; end < 2; ++end) {
        const int64_t page = args->page_of(i, end);
        const int64_t pages = end ? args->caches[c].to_pages : args->caches[c].from_pages;
        if (page < 0 || page >= pages)
          mapping.refuse("has page %lld in pair %lld, expected 0 to %lld",
                         static_cast<long long>(page), static_cast<long long>(i),
                         static_cast<long long>(pages - 1));
      }
}

static void run(CopyBlocksArgs& args, aiter_device device, uint32_t flags, aiter_stream stream) {
  bool aligned16 = true;
  int64_t bytes = 0;
  for (int i = 0; i < args.cache_count; ++i) {
    const CopyBlocksArgs::Cache& c = args.caches[i];
    bytes += c.page;
    aligned16 = aligned16 && is_aligned16(c.from) && is_aligned16(c.to) &&
                (c.page | c.from_page | c.to_page) % 16 == 0;
  }
  if (!bytes) args.pairs = 0;
  dispatch(copy_blocks_op, kRows, CopyBlocksProblem{args.pairs, aligned16}, args, device, stream,
           flags);
}

static void copy_blocks(const aiter_tensor* key_cache_, const aiter_tensor* value_cache_,
                        const aiter_tensor* mapping_, const aiter_copy_blocks_opts* opts_,
                        aiter_stream stream) {
  const Check check("copy_blocks");
  const auto opts = check.options<aiter_copy_blocks_opts>(opts_, AITER_COPY_BLOCKS_OPTS_INIT);
  const Arg key_cache = check.tensor("key_cache", key_cache_);
  CopyBlocksArgs args{};
  args.caches[args.cache_count++] = check_pages(key_cache, key_cache);
  if (const Arg value_cache = check.optional("value_cache", value_cache_)) {
    value_cache.on_device_of(key_cache);
    args.caches[args.cache_count++] = check_pages(value_cache, value_cache);
  }
  const Arg mapping = check.tensor("block_mapping", mapping_);
  mapping.on_device_of(key_cache);
  check_mapping(mapping, &args);
  run(args, key_cache.device(), opts.flags, stream);
}

// Neighbouring pages go in one copy.
static void copy_between_memories(const CopyBlocksArgs& args, const Device& device,
                                  aiter_stream stream) {
  const CopyBlocksArgs::Cache& c = args.caches[0];
  DeviceScope scope(device);
  for (int64_t i = 0, n; i < args.pairs; i += n) {
    const int64_t from = args.page_of(i, 0), to = args.page_of(i, 1);
    n = 1;
    if (c.from_page == c.page && c.to_page == c.page)
      while (i + n < args.pairs && args.page_of(i + n, 0) == from + n &&
             args.page_of(i + n, 1) == to + n)
        ++n;
    check_driver(device,
                 device.driver->copy(static_cast<char*>(c.to) + to * c.to_page,
                                     static_cast<const char*>(c.from) + from * c.from_page,
                                     static_cast<size_t>(c.page * n), stream),
                 "swap_blocks: copy");
  }
}

static void swap_blocks(const aiter_tensor* src_, const aiter_tensor* dst_,
                        const aiter_tensor* mapping_, const aiter_copy_blocks_opts* opts_,
                        aiter_stream stream) {
  const Check check("swap_blocks");
  const auto opts = check.options<aiter_copy_blocks_opts>(opts_, AITER_COPY_BLOCKS_OPTS_INIT);
  const Arg src = check.tensor("src", src_);
  const Arg dst = check.tensor("dst", dst_);
  CopyBlocksArgs args{};
  args.caches[args.cache_count++] = check_pages(src, dst);
  const Arg mapping = check.tensor("block_mapping", mapping_);
  if (!on_host(mapping)) mapping.refuse("is on a GPU, expected host memory");
  if (!on_host(src) && !on_host(dst)) dst.on_device_of(src);
  check_mapping(mapping, &args);
  if (on_host(src) && on_host(dst)) return run(args, src.device(), opts.flags, stream);
  const Device& device = device_of(on_host(src) ? dst.device() : src.device());
  if (args.caches[0].page && !(opts.flags & AITER_DRY_RUN))
    copy_between_memories(args, device, stream);
}

}  // namespace aiter

extern "C" aiter_status aiter_copy_blocks(const aiter_tensor* key_cache,
                                          const aiter_tensor* value_cache,
                                          const aiter_tensor* block_mapping,
                                          const aiter_copy_blocks_opts* opts, aiter_stream stream) {
  return aiter::entry("copy_blocks", [&] {
    aiter::copy_blocks(key_cache, value_cache, block_mapping, opts, stream);
  });
}

extern "C" aiter_status aiter_swap_blocks(const aiter_tensor* src, const aiter_tensor* dst,
                                          const aiter_tensor* block_mapping,
                                          const aiter_copy_blocks_opts* opts, aiter_stream stream) {
  return aiter::entry("swap_blocks",
                      [&] { aiter::swap_blocks(src, dst, block_mapping, opts, stream); });
}
