// hip_vec gives a token to a group of threads, its keys and values side by side, and moves 16 bytes
// at a time into a cache of the same dtype. hip_quant gives a lane 16 numbers, and a team of lanes those
// that share a scale. hip_tiles does so with a head of several tokens, which it turns in shared memory
// where the cache has neighbouring slots together. hip_nvfp4 gives a thread a group. hip_any gives each head of a token to a wave: bits,
// floats rounded to the cache's, codes.
#include "ck/kvcache/cache_write.h"
#include "ops/kvcache/reshape_and_cache/reshape_and_cache_args.h"

namespace aiter {

AITER_DEVICE void cache_vectors(const ReshapeAndCacheArgs& a) {
  constexpr int kMost = 2;  // packs of keys, and of values, that are loaded at once
  const int bytes = element_bytes(a.dtype), unit = 16 / bytes;
  const int threads = a.threads_per_token, tokens_per_block = block_threads() / threads;
  const int64_t block = static_cast<int64_t>(block_index_y()) * grid_blocks() + block_index_x();
  const int64_t t = block * tokens_per_block + thread_index() / threads;
  if (t >= a.slots.count) return;
  int count[2], packs[2];
  const uint8_t* from[2];
  uint8_t* to[2] = {};
  AITER_UNROLL
  for (int side = 0; side < 2; ++side) {
    const CacheRows& rows = a.rows[side];
    packs[side] = static_cast<int>(rows.dim / unit);
    count[side] = static_cast<int>(rows.heads) * packs[side];
    from[side] = static_cast<const uint8_t*>(rows.from) + t * rows.from_token * bytes;
  }
  for (int i = thread_index() % threads; i < max(count[0], count[1]); i += kMost * threads) {
    Pack<uint32_t, 4> pack[2][kMost];
    int64_t offset[2][kMost];
    AITER_UNROLL
    for (int side = 0; side < 2; ++side) {
      const CacheRows& rows = a.rows[side];
      AITER_UNROLL
      for (int c = 0; c < kMost; ++c) {
        const int at = i + c * threads;
        if (at >= count[side]) continue;
        const int head = rows.heads > 1 ? at / packs[side] : 0;
        const int dim = (at - head * packs[side]) * unit;
        pack[side][c] = load_pack<4>(
            reinterpret_cast<const uint32_t*>(from[side] + (head * rows.from_head + dim) * bytes));
        offset[side][c] = (head * rows.to.head + (dim >> rows.to.dim_bits) * rows.to.dim_outer +
                           (dim & static_cast<int>((1u << rows.to.dim_bits) - 1))) *
                          bytes;
      }
    }
    if (!to[0]) {  // after the loads, which need not wait for it
      int64_t page;
      uint32_t slot;
      if (!a.slots.find(t, page, slot)) return;
      AITER_UNROLL
      for (int side = 0; side < 2; ++side)
        to[side] = static_cast<uint8_t*>(a.rows[side].to.data) +
                   a.rows[side].to.at_slot(page, slot) * bytes;
    }
    AITER_UNROLL
    for (int side = 0; side < 2; ++side) {
      AITER_UNROLL
      for (int c = 0; c < kMost; ++c)
        if (i + c * threads < count[side])
          store_pack(reinterpret_cast<uint32_t*>(to[side] + offset[side][c]), pack[side][c]);
    }
  }
}

// The codes of 16 numbers of a head, of which the lanes of a team have a scale in common. All lanes of
// the wave must call it. Kind: AnyCodes, or a kind that is known when the kernel is compiled.
template <class Kind>
AITER_DEVICE void encode_numbers(const ReshapeAndCacheArgs& a, const float (&v)[16],
                                 float* scale_at, int lane, bool there, uint32_t (&words)[4]) {
  const bool dynamic = a.quant == CacheQuant::kDynamic;
  float amax = 0;
  if (dynamic) amax = lanes_reduce<Max>(max_magnitude(amax, v), 1 << a.team_bits);
  const Kind kind(a.spec.code);
  float factor = 1.0f;
  if (dynamic) {
    const Scale scale = cache_scale(amax, a.amax_floor, a.spec, kind);
    factor = scale.factor;
    if (there && lane == 0) *scale_at = scale.value;
  } else if (scale_at && there) {
    factor = 1.0f / *scale_at;
  }
  kind.encode(v, factor, words);
}

AITER_DEVICE float* scale_of(const CacheScales& scale, int64_t page, uint32_t slot, int64_t head,
                             int64_t group) {
  return scale.data ? scale.data + page * scale.page + slot * scale.slot + head * scale.head +
                          group * scale.group
                    : nullptr;
}

template <class T, class Kind>
AITER_DEVICE void cache_packs(const ReshapeAndCacheArgs& a) {
  constexpr int N = 16;
  const int side = block_index_y();
  const CacheRows& rows = a.rows[side];
  const Divisor head_groups = a.head_groups[side];
  const int dim = static_cast<int>(rows.dim), lanes = 1 << a.team_bits;
  const int group = static_cast<int>(head_groups.divide(static_cast<uint32_t>(dim)));
  const int count = static_cast<int>(rows.heads * head_groups.divisor) << a.team_bits;
  const int threads = a.threads_per_token,
            bits = 31 - __builtin_clz(static_cast<uint32_t>(threads));
  const int64_t token =
      static_cast<int64_t>(block_index_x()) * (block_threads() >> bits) + (thread_index() >> bits);
  int64_t page = 0;
  uint32_t slot = 0;
  bool goes = false;
  for (int first = 0; first < count; first += threads) {
    const int i = first + (thread_index() & (threads - 1)), lane = i & (lanes - 1);
    const uint32_t team = i >> a.team_bits, head = head_groups.divide(team);
    const int g = static_cast<int>(team - head * head_groups.divisor);
    const int d = g * group + lane * N;
    bool there = token < a.slots.count && i < count && lane * N < group;
    float v[N] = {};
    // Before it is known where they go, so that they need not wait for that.
    if (there)
      load_floats<N>(
          static_cast<const T*>(rows.from) + token * rows.from_token + head * rows.from_head + d,
          v);
    if (first == 0) goes = token < a.slots.count && a.slots.find(token, page, slot);
    there = there && goes;
    Pack<uint32_t, 4> codes;
    encode_numbers<Kind>(a, v, scale_of(rows.scale, page, slot, head, g), lane, there, codes.words);
    if (!there) continue;
    uint8_t* to =
        static_cast<uint8_t*>(rows.to.data) + rows.to.at_slot(page, slot) + head * rows.to.head;
    if (a.whole[side]) {
      store_pack(reinterpret_cast<uint32_t*>(to + rows.to.at_dim(d)), codes);
    } else {
      AITER_UNROLL
      for (int k = 0; k < N; ++k)
        to[rows.to.at_dim(d + k)] = static_cast<uint8_t>(codes.words[k / 4] >> k % 4 * 8);
    }
  }
}

// A block has one head of as many tokens as its threads hold by 16 dims each. Kind: of codes, void for
// floats.
template <class T, class Kind>
AITER_DEVICE void cache_tiles(const ReshapeAndCacheArgs& a) {
  constexpr int N = 16, kThreadBits = 8, kThreads = 1 << kThreadBits, kMostTokens = kThreads;
  constexpr bool kCodes = !is_same<Kind, void>;
  AITER_SHARED alignas(16) uint8_t stage[kThreads * N * (kCodes ? 1 : 4) + kMostTokens * 16];
  AITER_SHARED int64_t slots[kMostTokens], places[kMostTokens / 4 + 2];
  const bool second = block_index_y() >= a.rows[0].heads;
  const CacheRows& rows = a.rows[second];
  const int64_t head = second ? block_index_y() - a.rows[0].heads : block_index_y();
  const int lanes = 1 << a.team_bits, tokens = kThreads >> a.team_bits;
  const int lane = thread_index() & (lanes - 1), own = thread_index() >> a.team_bits;
  const int bytes = kCodes ? 1 : element_bytes(a.cache_dtype), pitch = lanes * N * bytes + 16;
  const int64_t begin = static_cast<int64_t>(block_index_x()) * tokens;
  const int64_t token = begin + own;
  const bool there = token < a.slots.count && lane * N < rows.dim;
  const T* from =
      static_cast<const T*>(rows.from) + token * rows.from_token + head * rows.from_head;
  Packs<T, N> packs;
  packs.load(from, lane * N, there ? rows.dim : 0);
  int64_t page = 0;
  uint32_t slot = 0;
  const bool goes = token < a.slots.count && a.slots.find(token, page, slot);
  if (lane == 0) slots[own] = goes ? page * a.slots.block.divisor + slot : -1;
  uint8_t* to = stage + own * pitch + lane * N * bytes;
  if constexpr (kCodes) {
    float v[N];
    packs.to_floats(v);
    Pack<uint32_t, 4> codes;
    encode_numbers<Kind>(a, v, scale_of(rows.scale, page, slot, head, 0), lane, there && goes,
                         codes.words);
    store_pack(reinterpret_cast<uint32_t*>(to), codes);
  } else if (a.dtype == a.cache_dtype) {
    packs.store(reinterpret_cast<T*>(to), 0, N);
  } else {
    float v[N];
    packs.to_floats(v);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) store_float(to, k, a.cache_dtype, v[k]);
  }
  barrier();
  const int count = static_cast<int>(min<int64_t>(tokens, a.slots.count - begin));
  auto write = [&] AITER_LAMBDA(auto element) {
    const StagedHeads<decltype(element)> staged{
        rows.to, static_cast<int>(rows.dim), stage, pitch, count, slots, a.slots.block};
    if (a.whole[second]) return staged.write_dims(head, kThreadBits - a.team_bits);
    staged.find_windows(places);
    barrier();
    staged.write_slots(head, places);
  };
  if constexpr (kCodes)
    write(uint8_t{});
  else if (bytes == 2)
    write(uint16_t{});
  else
    write(uint32_t{});
}

// Groups of 16 numbers in NVFP4, one to a thread, those of a token side by side.
template <class T>
AITER_DEVICE void cache_nvfp4(const ReshapeAndCacheArgs& a) {
  constexpr int N = 16;
  const uint32_t item = static_cast<uint32_t>(block_index_x()) * block_threads() + thread_index();
  const int64_t token = a.head_groups[0].divide(item);
  if (token >= a.slots.count) return;
  uint32_t g = item - static_cast<uint32_t>(token) * a.head_groups[0].divisor;
  const uint32_t first = static_cast<uint32_t>(a.rows[0].heads * a.rows[0].dim / N);
  const int side = g >= first;
  const CacheRows& rows = a.rows[side];
  const CacheLayout& scales = a.nvfp4_scales[side];
  g -= side ? first : 0;
  const uint32_t groups = static_cast<uint32_t>(rows.dim / N);
  const uint32_t head = rows.heads > 1 ? g / groups : 0;
  g -= head * groups;
  float v[N];
  load_floats<N>(
      static_cast<const T*>(rows.from) + token * rows.from_token + head * rows.from_head + g * N,
      v);
  int64_t page;
  uint32_t slot;
  if (!a.slots.find(token, page, slot)) return;
  const Codes<E2M1FN> kind(a.spec.code);
  const Scale scale = scale_for(max_magnitude(0.0f, v), a.spec, kind);
  static_cast<uint8_t*>(
      scales.data)[head * scales.head + scales.at_slot(page, nvfp4_scale_slot(slot)) +
                   scales.at_dim(g)] = scale.code;
  uint32_t words[N / 4];
  kind.encode(v, scale.factor, words);
  *reinterpret_cast<Words2*>(static_cast<uint8_t*>(rows.to.data) + head * rows.to.head +
                             rows.to.at_slot(page, slot) +
                             rows.to.at_dim(g * (N / 2))) = {words[0], words[1]};
}

// One head of a token in NVFP4, by a wave: a lane has groups of its own.
AITER_DEVICE void cache_nvfp4_head(const ReshapeAndCacheArgs& a, int side, int64_t token,
                                   int64_t head, int64_t page, uint32_t slot) {
  constexpr int N = 16;
  const CacheRows& rows = a.rows[side];
  const CacheLayout& scales = a.nvfp4_scales[side];
  const Codes<E2M1FN> kind(a.spec.code);
  const int64_t from = token * rows.from_token + head * rows.from_head;
  uint8_t* codes =
      static_cast<uint8_t*>(rows.to.data) + head * rows.to.head + rows.to.at_slot(page, slot);
  uint8_t* scale_at = static_cast<uint8_t*>(scales.data) + head * scales.head +
                      scales.at_slot(page, nvfp4_scale_slot(slot));
  const int groups = static_cast<int>(rows.dim / N);
  for (int g = thread_index() % kWave; g < groups; g += kWave) {
    float v[N];
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] = load_float(rows.from, from + g * N + k, a.dtype);
    const Scale scale = scale_for(max_magnitude(0.0f, v), a.spec, kind);
    scale_at[scales.at_dim(g)] = scale.code;
    uint32_t words[N / 4];
    kind.encode(v, scale.factor, words);
    uint8_t* to = codes + rows.to.at_dim(g * (N / 2));
    AITER_UNROLL
    for (int i = 0; i < N / 2; ++i) to[i] = static_cast<uint8_t>(words[i / 4] >> i % 4 * 8);
  }
}

// One head of a token, by a wave.
AITER_DEVICE void cache_head(const ReshapeAndCacheArgs& a, const CacheRows& rows, int64_t token,
                             int64_t head, int64_t page, uint32_t slot) {
  const int lane = thread_index() % kWave, dim = static_cast<int>(rows.dim);
  const int64_t from = token * rows.from_token + head * rows.from_head;
  const int64_t to = head * rows.to.head + rows.to.at_slot(page, slot);
  if (a.quant == CacheQuant::kNone) {
    for (int d = lane; d < dim; d += kWave)
      copy_element(rows.from, from + d, a.dtype, rows.to.data, to + rows.to.at_dim(d),
                   a.cache_dtype);
    return;
  }
  with_cache_codec(a.spec.code, [&] AITER_LAMBDA(auto codec) {
    using Codec = decltype(codec);
    const int64_t scale_index =
        page * rows.scale.page + slot * rows.scale.slot + head * rows.scale.head;
    const int group = a.quant == CacheQuant::kDynamic ? static_cast<int>(a.group) : dim;
    for (int begin = 0, g = 0; begin < dim; begin += group, ++g) {
      const int end = min(begin + group, dim);
      float* scale_at = rows.scale.data + scale_index + g * rows.scale.group;
      float factor = 1.0f;
      if (a.quant == CacheQuant::kDynamic) {
        float amax = 0;
        for (int d = begin + lane; d < end; d += kWave) {
          const float x[1] = {load_float(rows.from, from + d, a.dtype)};
          amax = max_magnitude(amax, x);
        }
        const Scale scale = cache_scale<Codec>(wave_reduce<Max>(amax), a.amax_floor, a.spec);
        if (lane == 0) *scale_at = scale.value;
        factor = scale.factor;
      } else if (rows.scale.data) {
        factor = 1.0f / *scale_at;
      }
      for (int d = begin + lane; d < end; d += kWave)
        static_cast<uint8_t*>(rows.to.data)[to + rows.to.at_dim(d)] =
            static_cast<uint8_t>(Codec::encode(load_float(rows.from, from + d, a.dtype) * factor));
    }
  });
}

AITER_DEVICE void cache_heads(const ReshapeAndCacheArgs& a) {
  const int waves = block_threads() / kWave;
  const int64_t heads = a.rows[0].heads + (a.row_count > 1 ? a.rows[1].heads : 0);
  for (int64_t i = static_cast<int64_t>(block_index_x()) * waves + thread_index() / kWave;
       i < a.slots.count * heads; i += static_cast<int64_t>(grid_blocks()) * waves) {
    const int64_t token = i / heads, head = i - token * heads;
    int64_t page;
    uint32_t slot;
    if (!a.slots.find(token, page, slot)) continue;
    const bool second = head >= a.rows[0].heads;
    if (a.quant == CacheQuant::kNvfp4) {
      cache_nvfp4_head(a, second, token, second ? head - a.rows[0].heads : head, page, slot);
      continue;
    }
    cache_head(a, a.rows[second], token, second ? head - a.rows[0].heads : head, page, slot);
  }
}

}  // namespace aiter

AITER_KERNEL(reshape_and_cache_hip_vec, 256)(const aiter::ReshapeAndCacheArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::cache_vectors(a);
}
#define AITER_CACHE_KIND(row, function, T, Kind)                                             \
  AITER_KERNEL(reshape_and_cache_hip_##row##_##T, 256)(const aiter::ReshapeAndCacheArgs a) { \
    aiter::wait_for_previous_kernel();                                                       \
    aiter::function<aiter::T, Kind>(a);                                                      \
  }
#define AITER_CACHE_KINDS(T)                                                      \
  AITER_CACHE_KIND(tiles, cache_tiles, T, void)                                   \
  AITER_CACHE_KIND(tiles_codes, cache_tiles, T, aiter::AnyCodes)                  \
  AITER_CACHE_KIND(tiles_e4m3fn, cache_tiles, T, aiter::Codes<aiter::E4M3FN>)     \
  AITER_CACHE_KIND(tiles_e4m3fnuz, cache_tiles, T, aiter::Codes<aiter::E4M3FNUZ>) \
  AITER_CACHE_KIND(quant_codes, cache_packs, T, aiter::AnyCodes)                  \
  AITER_CACHE_KIND(quant_e4m3fn, cache_packs, T, aiter::Codes<aiter::E4M3FN>)     \
  AITER_CACHE_KIND(quant_e4m3fnuz, cache_packs, T, aiter::Codes<aiter::E4M3FNUZ>)
AITER_CACHE_KINDS(f32)
AITER_CACHE_KINDS(f16)
AITER_CACHE_KINDS(bf16)
AITER_KERNEL(reshape_and_cache_hip_nvfp4_f32, 256)(const aiter::ReshapeAndCacheArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::cache_nvfp4<aiter::f32>(a);
}
AITER_KERNEL(reshape_and_cache_hip_nvfp4_f16, 256)(const aiter::ReshapeAndCacheArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::cache_nvfp4<aiter::f16>(a);
}
AITER_KERNEL(reshape_and_cache_hip_nvfp4_bf16, 256)(const aiter::ReshapeAndCacheArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::cache_nvfp4<aiter::bf16>(a);
}
AITER_KERNEL(reshape_and_cache_hip_any, 256)(const aiter::ReshapeAndCacheArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::cache_heads(a);
}
