#include "ops/kvcache/cache_checks.h"

#include "dispatch/dispatch.h"

namespace aiter {

Divisor divisor(int64_t n) {
  uint32_t shift = 0;
  while ((int64_t{1} << shift) < n) ++shift;
  const uint64_t magic = ((uint64_t{1} << 32) * ((uint64_t{1} << shift) - n)) / n + 1;
  return {static_cast<uint32_t>(n), static_cast<uint32_t>(magic), shift};
}

aiter_tensor with_dtype(const aiter_tensor* tensor, aiter_dtype dtype) {
  aiter_tensor typed = *tensor;
  if (dtype.bits && dtype_of(tensor->dtype) == DType::kU8) typed.dtype = dtype;
  return typed;
}

// log2 of the extent of dimension i, the x of a vectorized layout.
static int32_t group_bits(const Arg& cache, int i) {
  const int64_t x = cache.dim(i);
  if (x < 1 || x > 1024 || (x & (x - 1)))
    cache.refuse("has x = %lld in dimension %d, expected a power of two up to 1024",
                 static_cast<long long>(x), i);
  return __builtin_ctzll(x);
}

static void check_block(const Arg& cache, int64_t block) {
  if (block >= int64_t{1} << 31)
    cache.refuse("has %lld slots a page, expected less than 2^31", static_cast<long long>(block));
}

// What a slot holds is counted in 32 bits.
static void check_slot(const Arg& cache, int64_t heads, int64_t dim) {
  if (dim > 0 && heads >= (int64_t{1} << 31) / dim)
    cache.refuse("has %lld heads of %lld dims, expected less than 2^31 numbers a slot",
                 static_cast<long long>(heads), static_cast<long long>(dim));
}

static CacheLayout flash_layout(const Arg& cache) {
  return {cache.data(),    cache.stride(0), cache.stride(2), 0,        cache.stride(1),
          cache.stride(3), cache.stride(3), kNotSplit,       kNotSplit};
}

CacheLayout check_key_cache(const Arg& cache, int64_t heads, int64_t dim, CacheShape* shape) {
  check_slot(cache, heads, dim);
  cache.min_rank(4);
  if (cache.rank() == 4) {
    cache.shape({-1, -1, heads, dim}).unit_last_stride();
    *shape = {cache.dim(0), cache.dim(1), true};
    check_block(cache, shape->block);
    return flash_layout(cache);
  }
  cache.rank(5);
  const int32_t bits = group_bits(cache, 4);
  const int64_t x = cache.dim(4);
  if (dim % x)
    cache.refuse("has x = %lld, expected a divisor of the head's %lld dims",
                 static_cast<long long>(x), static_cast<long long>(dim));
  cache.shape({-1, heads, dim / x, -1, x}).unit_last_stride();
  *shape = {cache.dim(0), cache.dim(3), false};
  check_block(cache, shape->block);
  return {cache.data(),    cache.stride(0), cache.stride(1), 0,   cache.stride(3),
          cache.stride(2), cache.stride(4), kNotSplit,       bits};
}

CacheLayout check_value_cache(const Arg& cache, int64_t heads, int64_t dim,
                              const CacheShape& shape) {
  check_slot(cache, heads, dim);
  if (shape.flash) {
    cache.shape({shape.pages, shape.block, heads, dim}).unit_last_stride();
    return flash_layout(cache);
  }
  cache.min_rank(4);
  if (cache.rank() == 4) {
    cache.shape({shape.pages, heads, dim, shape.block}).unit_last_stride();
    return {cache.data(),    cache.stride(0), cache.stride(1), 0, cache.stride(3), 0,
            cache.stride(2), kNotSplit,       kNotSplit};
  }
  cache.rank(5);
  const int32_t bits = group_bits(cache, 4);
  const int64_t x = cache.dim(4);
  if (shape.block % x)
    cache.refuse("has x = %lld, expected a divisor of the page's %lld slots",
                 static_cast<long long>(x), static_cast<long long>(shape.block));
  cache.shape({shape.pages, heads, shape.block / x, dim, x}).unit_last_stride();
  return {cache.data(),    cache.stride(0),
          cache.stride(1), cache.stride(2),
          cache.stride(4), 0,
          cache.stride(3), bits,
          kNotSplit};
}

// The heads of both parts of a token.
static int64_t check_mla_tokens(const Arg& kv_c, const Arg& k_pe) {
  kv_c.min_rank(2).unit_last_stride();
  if (kv_c.rank() == 2)
    k_pe.shape({kv_c.dim(0), -1});
  else
    kv_c.rank(3), k_pe.shape({kv_c.dim(0), kv_c.dim(1), -1});
  k_pe.dtype_of(kv_c).unit_last_stride().on_device_of(kv_c);
  return kv_c.rank() == 2 ? 1 : kv_c.dim(1);
}

MlaCache check_shuffled_mla_cache(const Arg& kv_c, const Arg& k_pe, const Arg& kv_cache) {
  MlaCache cache;
  cache.heads = check_mla_tokens(kv_c, k_pe);
  const int64_t latent = kv_c.dim(-1), rope = k_pe.dim(-1), dim = latent + rope;
  const int64_t bytes = dtype_bytes(kv_cache.dtype()), x = 16 / bytes;
  check_slot(kv_cache, cache.heads, dim);
  kv_cache.on_device_of(kv_c).shape({-1, cache.heads, -1, dim}).unit_last_stride();
  cache.shape = {kv_cache.dim(0), kv_cache.dim(2), true};
  const int64_t block = cache.shape.block;
  check_block(kv_cache, block);
  if (block % 16 || latent % x || rope % x)
    kv_cache.refuse("has %lld slots of %lld and %lld dims, expected multiples of 16 and %lld",
                    static_cast<long long>(block), static_cast<long long>(latent),
                    static_cast<long long>(rope), static_cast<long long>(x));
  if (kv_cache.stride(2) != dim) kv_cache.refuse("has gaps between slots, expected none");
  auto part = [&](int64_t begin, int64_t its_dim) {
    return CacheLayout{static_cast<char*>(kv_cache.data()) + begin * block * bytes,
                       kv_cache.stride(0),
                       kv_cache.stride(1),
                       16 * its_dim,
                       x,
                       16 * x,
                       1,
                       4,
                       static_cast<int32_t>(__builtin_ctzll(x))};
  };
  cache.latent = part(0, latent), cache.rope = part(latent, rope);
  return cache;
}

Nvfp4MlaCache check_nvfp4_mla_cache(const Arg& kv_c, const Arg& k_pe, const Arg& kv_cache) {
  Nvfp4MlaCache cache;
  cache.cache.heads = check_mla_tokens(kv_c, k_pe);
  const int64_t dims[] = {kv_c.dim(-1), k_pe.dim(-1)}, heads = cache.cache.heads;
  const int64_t bytes = (dims[0] + dims[1]) / 16 * 9;  // of a slot: 8 of codes, one scale
  for (const Arg* part : {&kv_c, &k_pe})
    if (part->dim(-1) % 32)
      part->refuse("has %lld dims, expected a multiple of 32",
                   static_cast<long long>(part->dim(-1)));
  check_slot(kv_cache, heads, bytes);
  kv_cache.on_device_of(kv_c).shape({-1, heads, -1, bytes}).unit_last_stride();
  cache.cache.shape = {kv_cache.dim(0), kv_cache.dim(2), true};
  const int64_t block = cache.cache.shape.block;
  check_block(kv_cache, block);
  if (block % 128)
    kv_cache.refuse("has %lld slots, expected a multiple of 128", static_cast<long long>(block));
  if (kv_cache.stride(2) != bytes) kv_cache.refuse("has gaps between slots, expected none");
  char* data = static_cast<char*>(kv_cache.data());
  const int64_t page = kv_cache.stride(0), head = kv_cache.stride(1);
  for (int i = 0; i < 2; ++i) {
    const int64_t codes = dims[i] / 2, scales = dims[i] / 16;
    (i ? cache.cache.rope : cache.cache.latent) = {data, page, head, 16 * codes, 16, 256, 1, 4, 4};
    data += block * codes;
    int32_t bits = 0;  // of scales that stay together
    while (bits < 4 && 1 << bits < scales) ++bits;
    if (scales % (1 << bits))
      (i ? k_pe : kv_c)
          .refuse("has %lld dims, expected a power of two or a multiple of 256",
                  static_cast<long long>(dims[i]));
    cache.scales[i] = {data, page, head, 128 * scales, 1 << bits, 128 << bits, 1, 7, bits};
    data += block * scales;
  }
  return cache;
}

MlaCache check_mla_cache(const Arg& kv_c, const Arg& k_pe, const Arg& kv_cache, bool rope_first) {
  MlaCache cache;
  cache.heads = check_mla_tokens(kv_c, k_pe);
  kv_cache.on_device_of(kv_c).min_rank(2).unit_last_stride();
  const int64_t latent = kv_c.dim(-1), rope = k_pe.dim(-1), dim = latent + rope;
  check_slot(kv_cache, cache.heads, dim);
  int64_t page = kv_cache.stride(0), slot = 0, head = 0;
  int64_t second = rope_first ? rope : latent;  // where the second part begins
  if (kv_cache.rank() == 2 && cache.heads == 1) {
    const int64_t block = dim ? kv_cache.dim(1) / dim : 0;
    kv_cache.shape({-1, block * dim});
    cache.shape = {kv_cache.dim(0), block, true};
    second *= block;
  } else if (kv_cache.rank() == 3 && cache.heads == 1) {
    kv_cache.shape({-1, -1, dim});
    cache.shape = {kv_cache.dim(0), kv_cache.dim(1), true};
    slot = kv_cache.stride(1);
  } else {
    kv_cache.shape({-1, -1, cache.heads, dim});
    cache.shape = {kv_cache.dim(0), kv_cache.dim(1), true};
    slot = kv_cache.stride(1);
    head = kv_cache.stride(2);
  }
  check_block(kv_cache, cache.shape.block);
  const bool segments = kv_cache.rank() == 2;
  auto part = [&](int64_t begin, int64_t its_dim) {
    void* data = static_cast<char*>(kv_cache.data()) + begin * dtype_bytes(kv_cache.dtype());
    const int64_t its_slot = segments ? its_dim : slot;
    return CacheLayout{data, page, head, 0, its_slot, 0, 1, kNotSplit, kNotSplit};
  };
  cache.latent = part(rope_first ? second : 0, latent);
  if (rope_first)
    cache.latent = part(second, latent), cache.rope = part(0, rope);
  else
    cache.rope = part(second, rope);
  return cache;
}

IndexerCache check_indexer_cache(const Check& check, const aiter_tensor* kv_cache_,
                                 aiter_dtype dtype, const Arg& tokens, int64_t head_dim,
                                 int64_t groups, bool preshuffle) {
  check.require(kv_cache_, "kv_cache is NULL, expected a tensor");
  const aiter_dtype e4m3{AITER_CODE_FLOAT8_E4M3FN, 8, 1};
  const aiter_tensor typed = with_dtype(kv_cache_, dtype.bits ? dtype : e4m3);
  const Arg cache = check.tensor("kv_cache", &typed);
  cache.dtype({DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2, DType::kF8E5M2FNUZ})
      .rank(3)
      .unit_last_stride()
      .on_device_of(tokens);
  const int64_t block = cache.dim(1), bytes = head_dim + 4 * groups;
  check_block(cache, block);
  check_slot(cache, 1, bytes);
  if (cache.dim(2) < bytes)
    cache.refuse("has %lld bytes a slot, expected at least %lld",
                 static_cast<long long>(cache.dim(2)), static_cast<long long>(bytes));
  if (block > 1 && cache.stride(1) != cache.dim(2))
    cache.refuse("has stride %lld between slots, expected a page without gaps",
                 static_cast<long long>(cache.stride(1)));
  if (reinterpret_cast<uintptr_t>(cache.data()) % 4 || (block * head_dim) % 4 ||
      (cache.dim(0) > 1 && cache.stride(0) % 4))
    cache.refuse("has scales at addresses that are no multiples of 4");
  if (preshuffle && (block % 16 || head_dim % 16))
    cache.refuse("has pages of %lld slots of %lld dims, expected multiples of 16 with preshuffle",
                 static_cast<long long>(block), static_cast<long long>(head_dim));
  const int64_t page = cache.dim(0) > 1 ? cache.stride(0) : 0;
  IndexerCache found{{cache.dim(0), block, true}, {}, {}, cache.dtype()};
  if (preshuffle)
    found.codes = {cache.data(), page, 0, 16 * head_dim, 16, 256, 1, 4, 4};
  else
    found.codes = {cache.data(), page, 0, 0, head_dim, 0, 1, kNotSplit, kNotSplit};
  found.scales = {reinterpret_cast<float*>(static_cast<char*>(cache.data()) + block * head_dim),
                  page / 4, groups, 0, 1};
  return found;
}

CacheSlots check_slots(const Check& check, const aiter_tensor* slot_mapping, const Arg& tokens,
                       const CacheShape& shape) {
  const Arg slots = check.tensor("slot_mapping", slot_mapping);
  slots.dtype({DType::kI64, DType::kI32}).rank(1).unit_last_stride().on_device_of(tokens);
  check.require(slots.dim(0) <= tokens.dim(0), "slot_mapping has %lld entries, key has %lld tokens",
                static_cast<long long>(slots.dim(0)), static_cast<long long>(tokens.dim(0)));
  const int64_t block = shape.block > 0 ? shape.block : 1;  // without slots, no token finds one
  const CacheSlots found{slots.data(),   slots.dim(0), shape.pages, shape.pages * shape.block,
                         divisor(block), slots.dtype()};
  if (machine_of(tokens.device()).target == ANY_CPU) {
    bool ok = true;
    for (int64_t t = 0; t < found.count; ++t) ok &= found[t] < found.capacity;
    for (int64_t t = 0; !ok && t < found.count; ++t)
      check.require(found[t] < found.capacity,
                    "slot_mapping[%lld] is %lld, expected less than the cache's %lld slots",
                    static_cast<long long>(t), static_cast<long long>(found[t]),
                    static_cast<long long>(found.capacity));
  }
  return found;
}

CacheScales check_static_scale(const Arg& scale, int64_t heads, const Arg& tokens) {
  if (!scale) return {};
  scale.dtype({DType::kF32}).on_device_of(tokens);
  if (scale.elements() != 1 || scale.rank() > 1) scale.shape({heads});
  const bool shared = scale.elements() == 1;
  return {static_cast<float*>(scale.data()), 0, 0, shared ? 0 : scale.stride(0), 0};
}

CacheScales check_token_scale(const Arg& scale, int64_t heads, const CacheShape& shape,
                              const Arg& tokens) {
  scale.dtype({DType::kF32}).min_rank(2).on_device_of(tokens);
  float* data = static_cast<float*>(scale.data());
  if (scale.rank() == 3) {
    scale.shape({shape.pages, heads, shape.block});
    return {data, scale.stride(0), scale.stride(2), scale.stride(1), 0};
  }
  scale.shape({heads, -1});
  if (scale.dim(1) < shape.pages * shape.block)
    scale.refuse("has %lld tokens, expected at least the cache's %lld slots",
                 static_cast<long long>(scale.dim(1)),
                 static_cast<long long>(shape.pages * shape.block));
  return {data, shape.block * scale.stride(1), scale.stride(1), scale.stride(0), 0};
}

void fold_heads(CacheRows* rows) {
  const CacheLayout& to = rows->to;
  if (rows->from_head != rows->dim || to.head != rows->dim || to.dim_bits != kNotSplit ||
      to.dim_inner != 1 || rows->scale.head || rows->heads * rows->dim >= int64_t{1} << 31)
    return;
  rows->dim *= rows->heads;
  rows->heads = 1;
}

bool slots_by_16_bytes(const CacheLayout& to, const CacheSlots& slots, int64_t bytes) {
  const int64_t together = to.slot_bits == kNotSplit ? slots.block.divisor : 1 << to.slot_bits;
  bool aligned = to.slot_inner == 1 && to.dim_bits == kNotSplit && together * bytes % 16 == 0 &&
                 is_aligned16(to.data);
  for (int64_t n : {to.page, to.head, to.slot_outer, to.dim_inner})
    aligned = aligned && n * bytes % 16 == 0;
  return aligned;
}

bool moves_by_16_bytes(const CacheRows& rows, int64_t bytes) {
  const CacheLayout& to = rows.to;
  const bool whole = to.dim_bits == kNotSplit || (bytes << to.dim_bits) % 16 == 0;
  bool aligned = to.dim_inner == 1 && whole && is_aligned16(rows.from) && is_aligned16(to.data);
  for (int64_t n : {rows.from_token, rows.from_head, to.page, to.head, to.slot_outer, to.slot_inner,
                    to.dim_bits == kNotSplit ? 0 : to.dim_outer, rows.dim})
    aligned = aligned && n * bytes % 16 == 0;
  return aligned;
}

}  // namespace aiter
