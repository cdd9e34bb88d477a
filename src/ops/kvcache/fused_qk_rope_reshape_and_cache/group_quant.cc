#include "ops/kvcache/fused_qk_rope_reshape_and_cache/group_quant.h"

#include <algorithm>

#include "dispatch/dispatch.h"

namespace aiter {

namespace {

static int64_t element_bits(DType dtype) {
  return dtype_bytes(dtype) == 1 ? code_bits(dtype) : 8 * dtype_bytes(dtype);
}

static void tiled(const Arg& scale, int64_t rows, int64_t groups, int64_t tiles,
                  FusedArgs::Target* target, CacheScales* strides) {
  scale.shape({rows, groups, 16, -1});
  if (scale.dim(3) < tiles)
    scale.refuse("has %lld tiles of 16, expected %lld", static_cast<long long>(scale.dim(3)),
                 static_cast<long long>(tiles));
  target->order = FusedArgs::ScaleOrder::kRows16;
  *strides = {nullptr, scale.stride(0), scale.stride(2), scale.stride(3), scale.stride(1)};
}

// Sets how often each of a row's scales is there.
static void copies(const Arg& scale, int64_t groups, FusedArgs::Target* target) {
  const int64_t last = scale.dim(-1);
  int32_t bits = 0;
  while (bits < 3 && groups << bits < last) ++bits;
  if (groups << bits != last)
    scale.refuse("has %lld scales a head, expected %lld, or 2, 4 or 8 of each",
                 static_cast<long long>(last), static_cast<long long>(groups));
  scale.unit_last_stride();
  target->scale_bits = bits;
}

static void turned_dims(int64_t begin, FusedArgs::Target* target) {
  target->begin = static_cast<int32_t>(begin), target->count -= begin;
}

}  // namespace

void GroupQuant::into_rows(int index, const FusedOutput& to, int64_t group, bool cached_only) {
  const FusedArgs::Part& part = args_->parts[index];
  const bool has_heads = index == 0 && parts_have_heads_;
  auto shape = [&](const Arg& arg, int64_t last) {
    arg.on_device_of(heads_);
    if (has_heads)
      arg.shape({args_->tokens, part.heads, last});
    else
      arg.shape({args_->tokens, last});
    arg.unit_last_stride();
  };
  const int64_t count = check_numbers(to, part.dim);
  shape(to.out, count * element_bits(to.out.dtype()) / (8 * dtype_bytes(to.out.dtype())));
  FusedArgs::Target& target = parts_.into_rows(index, to.out, {}, 0, true);
  target.count = count, target.cached_only = cached_only;
  if (to.scale) {
    const int64_t groups = check_groups(to.out, count, &group);
    CacheScales strides{nullptr, 0, 0, 0, 0};
    if (has_heads && to.scale.rank() == 4) {
      tiled(to.scale, args_->tokens, groups, (part.heads + 15) / 16, &target, &strides);
    } else {
      shape(to.scale, -1);
      copies(to.scale, groups, &target);
      strides.page = to.scale.stride(0), strides.head = has_heads ? to.scale.stride(1) : 0;
    }
    scales(to.scale, group, strides, &target);
  }
  if (to.rope) {
    shape(to.rope, part.dim - count);
    FusedArgs::Target& rope = parts_.into_rows(index, to.rope);
    turned_dims(count, &rope);
    rope.cached_only = cached_only;
  }
}

void GroupQuant::into_cache(int index, const FusedOutput& to, int64_t group,
                            CacheShape* cache_shape) {
  const FusedArgs::Part& part = args_->parts[index];
  const int64_t count = check_numbers(to, part.dim);
  const CacheLayout layout =
      cache_layout(to.out, count * element_bits(to.out.dtype()) / (8 * dtype_bytes(to.out.dtype())),
                   cache_shape);
  FusedArgs::Target& target = parts_.into_cache(index, layout, to.out, {}, true);
  target.count = count;
  auto same_slots = [&](const Arg& arg, const CacheShape& its) {
    if (its.pages != cache_shape->pages || its.block != cache_shape->block)
      arg.refuse("has %lld pages of %lld slots, expected %lld of %lld, as kv_cache",
                 static_cast<long long>(its.pages), static_cast<long long>(its.block),
                 static_cast<long long>(cache_shape->pages),
                 static_cast<long long>(cache_shape->block));
  };
  if (to.scale) {
    const int64_t groups = check_groups(to.out, count, &group);
    CacheScales strides{nullptr, 0, 0, 0, 0};
    if (to.scale.rank() == 4) {
      if (cache_shape->block % 16)
        to.scale.refuse("has tiles of 16 slots, expected none of pages of %lld",
                        static_cast<long long>(cache_shape->block));
      tiled(to.scale, cache_shape->pages, groups, cache_shape->block / 16, &target, &strides);
    } else {
      CacheShape its;
      const CacheLayout scales_at = cache_layout(to.scale, to.scale.dim(-1), &its);
      same_slots(to.scale, its);
      copies(to.scale, groups, &target);
      strides.page = scales_at.page, strides.slot = scales_at.slot_inner;
    }
    scales(to.scale, group, strides, &target);
  }
  if (to.rope) {
    CacheShape its;
    const CacheLayout rope_at = cache_layout(to.rope, part.dim - count, &its);
    same_slots(to.rope, its);
    turned_dims(count, &parts_.into_cache(index, rope_at, to.rope, {}));
  }
}

int64_t GroupQuant::check_numbers(const FusedOutput& to, int64_t dim) const {
  const std::initializer_list<DType> floats{DType::kF32, DType::kF16, DType::kBF16};
  to.out.on_device_of(heads_).dtype({DType::kF32, DType::kF16, DType::kBF16, DType::kI8,
                                     DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2,
                                     DType::kF8E5M2FNUZ, DType::kF4E2M1x2});
  const bool codes = dtype_bytes(to.out.dtype()) == 1;
  if (codes != bool(to.scale))
    to.out.refuse("has dtype %s %s scales, expected scales for codes alone",
                  dtype_name(to.out.dtype()), to.scale ? "with" : "without");
  if (!to.rope) return dim;
  to.rope.dtype(floats).on_device_of(heads_);
  check_.require(args_->angles.pairs > 0 && !opts_.hadamard,
                 "a place for the turned dims is given, expected NULL where none turn or "
                 "opts.hadamard mixes them with others");
  return dim - 2 * args_->angles.pairs;
}

int64_t GroupQuant::check_groups(const Arg& out, int64_t count, int64_t* group) const {
  if (*group == 0) *group = std::max<int64_t>(count, 1);
  check_.require(
      *group > 0 && count % *group == 0 && *group % (element_bits(out.dtype()) == 4 ? 2 : 1) == 0,
      "the group of a scale has %lld dims, expected a divisor of the %lld coded ones, "
      "even for pairs of codes",
      static_cast<long long>(*group), static_cast<long long>(count));
  return count / *group;
}

void GroupQuant::scales(const Arg& scale, int64_t group, CacheScales strides,
                        FusedArgs::Target* target) const {
  scale.dtype({DType::kF32, DType::kF8E8M0, DType::kU8}).on_device_of(heads_);
  strides.data = static_cast<float*>(scale.data());
  if (target->order == FusedArgs::ScaleOrder::kStrided)
    strides.group = int64_t{1} << target->scale_bits;
  target->scale = strides;
  target->whole_scale = scale.dtype() == DType::kF32;
  target->scale_dtype = target->whole_scale && !opts_.power_scales ? DType::kF32 : DType::kF8E8M0;
  target->group = group;
  target->amax_floor = opts_.amax_floor;
}

CacheLayout GroupQuant::cache_layout(const Arg& cache, int64_t last, CacheShape* shape) const {
  cache.min_rank(2).on_device_of(heads_);
  if (cache.rank() > 5) cache.rank(5);
  auto log2_of = [&](int i) {
    const int64_t x = cache.dim(i);
    if (x < 1 || x > 1024 || (x & (x - 1)))
      cache.refuse("has %lld in dimension %d, expected a power of two up to 1024",
                   static_cast<long long>(x), i);
    return static_cast<int32_t>(__builtin_ctzll(x));
  };
  CacheLayout to{cache.data(), cache.stride(0), 0, 0, 0, 0, 1, kNotSplit, kNotSplit};
  *shape = {cache.dim(0), 0, true};
  if (cache.rank() == 2) {
    check_.require(opts_.page_slots > 0 && cache.dim(0) % opts_.page_slots == 0,
                   "opts.page_slots is %lld, expected a divisor of the cache's %lld slots",
                   static_cast<long long>(opts_.page_slots), static_cast<long long>(cache.dim(0)));
    cache.shape({-1, last}).unit_last_stride();
    shape->block = opts_.page_slots, shape->pages /= opts_.page_slots;
    to.slot_inner = to.page, to.page *= opts_.page_slots;
  } else if (cache.rank() == 3) {
    cache.shape({-1, -1, last}).unit_last_stride();
    shape->block = cache.dim(1);
    to.slot_inner = cache.stride(1);
  } else {
    const bool slots_split = cache.rank() == 5;
    const int tile = slots_split ? 2 : 1;
    to.dim_bits = log2_of(-1 + cache.rank());
    if (cache.dim(tile) << to.dim_bits != last)
      cache.refuse("has %lld tiles of %lld, expected %lld in all",
                   static_cast<long long>(cache.dim(tile)), static_cast<long long>(cache.dim(-1)),
                   static_cast<long long>(last));
    to.dim_outer = cache.stride(tile), to.dim_inner = cache.stride(cache.rank() - 1);
    to.slot_inner = cache.stride(cache.rank() - 2);
    shape->block = cache.dim(cache.rank() - 2);
    if (slots_split) {
      to.slot_bits = log2_of(3), to.slot_outer = cache.stride(1);
      shape->block *= cache.dim(1);
    }
  }
  if (shape->block >= int64_t{1} << 31)
    cache.refuse("has %lld slots a page, expected less than 2^31",
                 static_cast<long long>(shape->block));
  return to;
}

void check_tables(const Arg& table, const Arg& heads, const CacheShape& shape, FusedArgs* args) {
  table.dtype({DType::kI64, DType::kI32}).min_rank(1).on_device_of(heads);
  if (table.rank() > 2) table.rank(2);
  table.unit_last_stride();
  if (table.rank() == 2 && table.dim(1) == 0 && table.dim(0) > 0)
    table.refuse("has tables of no blocks, expected some");
  args->slots = {table.data(),
                 table.elements(),
                 shape.block > 0 ? shape.pages : 0,
                 shape.pages * shape.block,
                 divisor(std::max<int64_t>(shape.block, 1)),
                 table.dtype()};
  SequenceSlots& sequences = args->sequences;
  sequences.sequences = table.dim(0);
  sequences.columns = table.rank() == 2 ? table.dim(1) : 0;
  sequences.stride = table.rank() == 2 ? table.stride(0) : 1;
  sequences.ratio = divisor(1);
}

void check_pages(const Check& check, const char* name, const Arg& heads, const FusedArgs& args) {
  if (machine_of(heads.device()).target != ANY_CPU) return;
  FusedArgs any = args;
  any.slots.pages = INT64_MAX;
  for (int64_t t = 0; t < args.tokens; ++t) {
    int64_t page = 0;
    uint32_t slot = 0;
    const bool found = any.find(t, page, slot);
    check.require(!found || page < args.slots.pages,
                  "%s has %lld for token %lld, expected less than the cache's %lld pages", name,
                  static_cast<long long>(page), static_cast<long long>(t),
                  static_cast<long long>(args.slots.pages));
  }
}

}  // namespace aiter
