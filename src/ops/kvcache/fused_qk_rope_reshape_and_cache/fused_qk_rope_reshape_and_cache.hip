// Some lanes of a wave, a power of two, take a head of a token. In hip_vec they hold it in registers.
// In hip_any they go over it once for each of norm, scales and result.
#include "ck/kvcache/cache_write.h"
#include "ck/rope/head_norm_rope.h"
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache_args.h"

namespace aiter {

using FusedArgs = FusedQkRopeReshapeAndCacheArgs;

// Where a head goes: its first dim is `at`.
struct Place {
  const FusedArgs& a;
  const FusedArgs::Target& target;
  int64_t page, head, at;
  uint32_t slot;

  AITER_DEVICE Place(const FusedArgs& args, const FusedArgs::Target& its_target, int64_t its_page,
                     uint32_t its_slot, int64_t its_head)
      : a(args),
        target(its_target),
        page(its_page),
        head(its_head),
        at(target.to.at_slot(page, its_slot) + head * target.to.head),
        slot(its_slot) {}

  AITER_DEVICE float given_factor() const {
    return target.quant == CacheQuant::kStatic && target.scale.data
               ? 1.0f / target.scale.data[target.scale_at(page, slot, head, 0)]
               : 1.0f;
  }
  AITER_DEVICE void store_scale(int64_t group, const Scale& scale) const {
    const int64_t index = target.scale_at(page, slot, head, group);
    for (int64_t i = 0; i < int64_t{1} << target.scale_bits; ++i)
      if (target.scale_dtype == DType::kF8E8M0)
        reinterpret_cast<uint8_t*>(target.scale.data)[index + i] = static_cast<uint8_t>(scale.code);
      else
        target.scale.data[index + i] = scale.value;
  }
  AITER_DEVICE QuantSpec spec() const {
    return {a.code, target.scale_dtype, MxRound::kUp, __builtin_inff(), 1.0f, nullptr};
  }
  AITER_DEVICE void put_dim(int64_t d, float x, bool codes, const AnyCodes& format,
                            float factor) const {
    const int64_t to = at + target.to.at_dim(static_cast<uint32_t>(d));
    if (codes)
      static_cast<uint8_t*>(target.to.data)[to] = static_cast<uint8_t>(format.encode(x * factor));
    else
      store_float(target.to.data, to, target.dtype, x);
  }
};

// N numbers, from dim d on.
template <class T, int N>
AITER_DEVICE void put_numbers(const Place& place, int64_t d, const float (&v)[N]) {
  const FusedArgs::Target& target = place.target;
  const int64_t to = place.at + target.to.at_dim(static_cast<uint32_t>(d));
  if (target.whole && target.dtype == place.a.dtype)
    return store_floats<N>(static_cast<T*>(target.to.data) + to, v);
  AITER_UNROLL
  for (int k = 0; k < N; ++k)
    store_float(target.to.data, place.at + target.to.at_dim(static_cast<uint32_t>(d + k)),
                target.dtype, v[k]);
}

template <class Codec, int N>
AITER_DEVICE void put_codes(const Place& place, int64_t d, const float (&v)[N], float factor) {
  const CacheLayout& to = place.target.to;
  uint8_t* codes = static_cast<uint8_t*>(to.data) + place.at;
  if constexpr (N % 4 == 0) {
    if (place.target.whole) {
      struct alignas(N) Words {
        uint32_t words[N / 4];
      } packed;
      Codes<Codec>(place.a.code).encode(v, factor, packed.words);
      *reinterpret_cast<Words*>(codes + to.at_dim(static_cast<uint32_t>(d))) = packed;
      return;
    }
  }
  AITER_UNROLL
  for (int k = 0; k < N; ++k)
    codes[to.at_dim(static_cast<uint32_t>(d + k))] =
        static_cast<uint8_t>(Codec::encode(v[k] * factor));
}

// The head is in registers; its scales are for all dims. All lanes of the wave must call it.
template <class T>
AITER_DEVICE void put(const Place& place, const HeadOfToken& head, const HeadPacks<T>& packs,
                      bool goes) {
  const FusedArgs::Target& target = place.target;
  float amax = 0;
  if (target.quant == CacheQuant::kDynamic)
    amax =
        lanes_reduce<Max>(max_magnitude(max_magnitude(amax, packs.v[0]), packs.v[1]), head.lanes);
  if (!goes) return;
  if (target.quant == CacheQuant::kNone) {
    AITER_UNROLL
    for (int i = 0; i < 2; ++i)
      if (packs.has[i]) put_numbers<T>(place, packs.d[i], packs.v[i]);
    return;
  }
  const bool dynamic = target.quant == CacheQuant::kDynamic;
  const float given = place.given_factor(), floor = target.amax_floor;
  const QuantSpec spec = place.spec();
  Scale scale{};
  with_cache_codec(place.a.code, [&] AITER_LAMBDA(auto codec) {
    using Codec = decltype(codec);
    if (dynamic) scale = cache_scale<Codec>(amax, floor, spec);
    const float factor = dynamic ? scale.factor : given;
    AITER_UNROLL
    for (int i = 0; i < 2; ++i)
      if (packs.has[i]) put_codes<Codec>(place, packs.d[i], packs.v[i], factor);
  });
  if (dynamic && head.lane == 0) place.store_scale(0, scale);
}

// A head of any size. All lanes of the wave must call it.
template <class T>
AITER_DEVICE void put(const Place& place, const HeadOfToken& head, const HeadDims<T>& dims,
                      bool goes) {
  const FusedArgs::Target& target = place.target;
  const bool dynamic = target.quant == CacheQuant::kDynamic;
  const bool codes = target.quant != CacheQuant::kNone;
  const int64_t group = dynamic ? target.group : head.dim;
  const AnyCodes format(place.a.code);
  AITER_NO_UNROLL
  for (int64_t g = 0; g * group < head.dim; ++g) {
    const int64_t begin = g * group, end = begin + group;
    float amax = 0;
    if (dynamic) {
      dims.each([&] AITER_LAMBDA(int64_t d, float x) {
        const float one[1] = {x};
        if (d >= begin && d < end) amax = max_magnitude(amax, one);
      });
      amax = lanes_reduce<Max>(amax, head.lanes);
    }
    if (goes) {
      float factor = place.given_factor();
      if (dynamic) {
        const Scale scale = cache_scale(amax, target.amax_floor, place.spec(), format);
        if (head.lane == 0) place.store_scale(g, scale);
        factor = scale.factor;
      }
      dims.each([&] AITER_LAMBDA(int64_t d, float x) {
        if (d >= begin && d < end) place.put_dim(d, x, codes, format, factor);
      });
    }
  }
}

// A group's head of a part.
template <class T, class Numbers>
AITER_DEVICE void write_head(const FusedArgs& a, const FusedArgs::Part& part, int64_t item) {
  const int lanes = a.lanes_per_head;
  const int64_t items = a.tokens * part.heads;
  const bool there = item < items;
  const int64_t t = there ? rope_quotient(item, items, part.heads) : 0;
  const int64_t h = there ? item - t * part.heads : 0;
  const int64_t pairs = part.turns ? a.angles.pairs : 0;
  const HeadOfToken head{part.norm,
                         a.angles,
                         part.dim,
                         t,
                         pairs,
                         part.first,
                         part.first ? 0 : 2 * pairs,
                         thread_index() & (lanes - 1),
                         lanes,
                         there};
  const T* in = static_cast<const T*>(part.from) + t * part.from_token + h * part.from_head;
  const Numbers numbers(head, in, part.norm.on);
  // The array, which may be the heads themselves, comes first in the arguments and is written last.
  AITER_NO_UNROLL
  for (int k = part.target_count - 1; k >= 0; --k) {
    const FusedArgs::Target& target = part.targets[k];
    int64_t page = 0;
    uint32_t slot = 0;
    const bool goes = there && a.find(target, t, page, slot);
    put(Place(a, target, page, slot, h), head, numbers, goes);
  }
}

// A block has heads of one part, so that its threads go the same ways.
template <class T, class Numbers>
AITER_DEVICE void write_heads(const FusedArgs& a) {
  const FusedArgs::Part& part = a.parts[block_index_y()];
  const int64_t step = block_threads() / a.lanes_per_head, items = a.tokens * part.heads;
  AITER_NO_UNROLL
  for (int64_t first = block_index_x() * step; first < items; first += grid_blocks() * step)
    write_head<T, Numbers>(a, part, first + thread_index() / a.lanes_per_head);
}

}  // namespace aiter

#define AITER_FUSED_QK_ROPE_CACHE(row, Numbers, T)               \
  AITER_KERNEL(fused_qk_rope_reshape_and_cache_##row##_##T, 128) \
  (const aiter::FusedQkRopeReshapeAndCacheArgs a) {              \
    aiter::wait_for_previous_kernel();                           \
    aiter::write_heads<aiter::T, aiter::Numbers<aiter::T>>(a);   \
  }
AITER_FUSED_QK_ROPE_CACHE(hip_vec, HeadPacks, f32)
AITER_FUSED_QK_ROPE_CACHE(hip_vec, HeadPacks, f16)
AITER_FUSED_QK_ROPE_CACHE(hip_vec, HeadPacks, bf16)
AITER_FUSED_QK_ROPE_CACHE(hip_any, HeadDims, f32)
AITER_FUSED_QK_ROPE_CACHE(hip_any, HeadDims, f16)
AITER_FUSED_QK_ROPE_CACHE(hip_any, HeadDims, bf16)
