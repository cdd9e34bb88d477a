// hip_any: the block of the first token of a page works on the page: it looks for the other tokens of
// the call that go there, then each wave takes heads, first of keys and then of values. hip_vec: a
// block has several neighbouring tokens, and works on the pages of which these are the first, so that all
// tokens are gone through less often; a wave has the numbers of 16 slots under way.
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

// The numbers of an array of T at 4 dims from d on, of the 16 slots from s on, 0 where no token is.
template <class T>
struct SlotNumbers {
  static constexpr int kSlots = ReshapeAndCacheWithBlockQuantArgs::kSlotsAtOnce;
  static constexpr int kDims = ReshapeAndCacheWithBlockQuantArgs::kDimsOfLane;
  Pack<T, kDims> packs[kSlots];

  AITER_DEVICE void load(const CacheRows& rows, int64_t head, const int32_t* token_of, int slots,
                         int d) {
    const T* from = static_cast<const T*>(rows.from) + head * rows.from_head + d;
    AITER_UNROLL
    for (int k = 0; k < kSlots; ++k) {
      const int64_t token = k < slots ? token_of[k] : -1;
      packs[k] = load_pack<kDims>(from + max<int64_t>(token, 0) * rows.from_token);
      if (token < 0) packs[k] = {};
    }
  }
  AITER_DEVICE float amax(float most) {
    AITER_UNROLL
    for (int k = 0; k < kSlots; ++k) {
      float v[kDims];
      packs[k].to_floats(v);
      most = max_magnitude(most, v);
      packs[k].forget();
    }
    return most;
  }
  // The first dim of all slots, or all dims of as many slots as there are dims; then the next ones come
  // first, so that loops over them are short in code.
  AITER_DEVICE void take_dim(float (&v)[kSlots]) {
    AITER_UNROLL
    for (int k = 0; k < kSlots; ++k) {
      float its[kDims];
      packs[k].to_floats(its);
      v[k] = its[0];
      uint32_t* words = packs[k].words;
      AITER_UNROLL
      for (int i = 0; i < Pack<T, kDims>::kWords; ++i) {
        const uint32_t next = i + 1 < Pack<T, kDims>::kWords ? words[i + 1] : 0;
        words[i] = sizeof(T) == 4 ? next : words[i] >> 16 | next << 16;
      }
    }
  }
  AITER_DEVICE void take_slots(float (&v)[kDims * kDims]) {
    AITER_UNROLL
    for (int k = 0; k < kDims; ++k)
      packs[k].to_floats(reinterpret_cast<float (&)[kDims]>(v[k * kDims]));
    AITER_UNROLL
    for (int k = 0; k + kDims < kSlots; ++k) packs[k] = packs[k + kDims];
  }
};

// Their codes, where tokens are: `named` has a bit for each slot, `codes` is the head's in page 0.
template <class T>
AITER_DEVICE void write_codes(const BlockQuantArgs& a, const CacheLayout& to, bool turned,
                              int64_t page, int s, uint32_t named, int d, uint8_t* codes,
                              const AnyCodes& kind, float factor, SlotNumbers<T>& numbers) {
  constexpr int kSlots = SlotNumbers<T>::kSlots, kDims = SlotNumbers<T>::kDims;
  uint8_t* base = codes + a.at_slot(to, page, s);
  if (turned && named == (1u << kSlots) - 1) {
    AITER_NO_UNROLL
    for (int i = 0; i < kDims; ++i) {
      float v[kSlots];
      numbers.take_dim(v);
      Pack<uint32_t, kSlots / 4> words;
      kind.encode(v, factor, words.words);
      store_pack(reinterpret_cast<uint32_t*>(base + to.at_dim(d + i)), words);
    }
    return;
  }
  const bool even =
      a.block.divisor % kSlots == 0 && (to.slot_bits == kNotSplit || 1 << to.slot_bits >= kSlots);
  AITER_NO_UNROLL
  for (int first = 0; first < kSlots; first += kDims) {
    float v[kDims * kDims];
    numbers.take_slots(v);
    uint32_t words[kDims];
    kind.encode(v, factor, words);
    AITER_UNROLL
    for (int k = 0; k < kDims; ++k) {
      if (!(named >> (first + k) & 1)) continue;
      uint8_t* its =
          even ? base + (first + k) * to.slot_inner : codes + a.at_slot(to, page, s + first + k);
      if (!turned) {
        *reinterpret_cast<uint32_t*>(its + to.at_dim(d)) = words[k];
        continue;
      }
      AITER_UNROLL
      for (int i = 0; i < kDims; ++i)
        its[to.at_dim(d + i)] = static_cast<uint8_t>(words[k] >> 8 * i);
    }
  }
}

template <class T>
AITER_DEVICE void write_head_vec(const BlockQuantArgs& a, const CacheRows& rows, bool turned,
                                 int64_t head, int64_t page, const int32_t* token_of,
                                 const AnyCodes& kind) {
  constexpr int kSlots = SlotNumbers<T>::kSlots, kDims = SlotNumbers<T>::kDims;
  constexpr int kStep = kWave * kDims;
  const int lane = thread_index() % kWave, dim = static_cast<int>(rows.dim);
  const int slots = static_cast<int>(a.slots.block.divisor);
  SlotNumbers<T> numbers;
  float amax = 0;
  AITER_NO_UNROLL
  for (int s = 0; s < slots; s += kSlots) {
    AITER_NO_UNROLL
    for (int d = lane * kDims; d < dim; d += kStep) {
      numbers.load(rows, head, token_of + s, slots - s, d);
      amax = numbers.amax(amax);
    }
  }
  float* stored = rows.scale.data + page * rows.scale.page + head * rows.scale.head;
  float scale = cache_scale(wave_reduce<Max>(amax), a.amax_floor, a.spec, kind).value;
  const float old = token_of[0] >= 0 ? scale : *stored;  // the page begins anew
  const float shrink = old / scale;
  const bool raised = !(old >= scale);  // NaN is no scale
  if (!raised) scale = old;
  const float factor = 1.0f / scale;
  wave_barrier();  // all lanes have read it
  if (lane == 0) *stored = scale;
  uint8_t* codes = static_cast<uint8_t*>(rows.to.data) + head * rows.to.head;
  const bool once = slots <= kSlots && dim <= kStep;  // the numbers are still there
  AITER_NO_UNROLL
  for (int s = 0; s < slots; s += kSlots) {
    const bool its = lane < min(kSlots, slots - s) && token_of[s + lane] >= 0;
    const uint32_t named = wave_reduce<Sum>(its ? 1u << lane : 0u);
    AITER_NO_UNROLL
    for (int d = lane * kDims; d < dim; d += kStep) {
      if (!once) numbers.load(rows, head, token_of + s, slots - s, d);
      write_codes(a, rows.to, turned, page, s, named, d, codes, kind, factor, numbers);
    }
  }
  if (!raised) return;
  AITER_NO_UNROLL
  for (int s = 0; s < slots; ++s) {
    if (token_of[s] >= 0) continue;
    uint8_t* to = codes + a.at_slot(rows.to, page, s);
    AITER_NO_UNROLL
    for (int d = lane; d < dim; d += kWave) {
      uint8_t* code = to + rows.to.at_dim(d);
      *code = static_cast<uint8_t>(kind.encode(kind.decode(*code) * shrink));
    }
  }
}

// *to, in shared memory, = max(*to, value).
AITER_DEVICE void shared_max(int32_t* to, int32_t value) {
#if defined(AITER_AMD)
  __hip_atomic_fetch_max(to, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
#else
  asm volatile("red.max.s32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
#endif
}

template <class T>
AITER_DEVICE void write_pages_vec(const BlockQuantArgs& a) {
  constexpr int kMost = BlockQuantArgs::kMostTokens, kTokensAtOnce = 8;
  AITER_DYNAMIC_SHARED(tables);
  AITER_SHARED int64_t pages[kMost];
  AITER_SHARED int32_t begun[kMost];  // by tokens of other blocks
  AITER_SHARED uint64_t scratch[256 / kWave];
  int32_t* token_of = reinterpret_cast<int32_t*>(tables);  // of each page: -1 = none
  const int slots = static_cast<int>(a.slots.block.divisor), own = a.tokens_of_block;
  const int64_t begin = static_cast<int64_t>(block_index_x()) * own;
  const int me = thread_index();
  int64_t page = -1;
  uint32_t slot = 0;
  if (me < own) {
    if (begin + me >= a.slots.count || !a.slots.find(begin + me, page, slot)) page = -1;
    pages[me] = page, begun[me] = 0;
  }
  for (int i = me; i < own * slots; i += block_threads()) token_of[i] = -1;
  // The pages between the least and the largest one.
  const uint64_t most = block_reduce<Max>(static_cast<uint64_t>(page + 1), scratch);
  const uint64_t least = ~block_reduce<Max>(page < 0 ? 0 : ~static_cast<uint64_t>(page), scratch);
  if (most == 0) return;  // all threads do
  // Of each page, the first of the block's tokens stands for it.
  bool again = false;
  AITER_NO_UNROLL
  for (int i = 0; me < own && i < me; ++i) again = again || pages[i] == page;
  barrier();
  if (me < own && again) pages[me] = -1;
  barrier();
  const uint64_t low = least * a.slots.block.divisor;
  const uint64_t span = (most - least) * a.slots.block.divisor;
  const int threads = block_threads();
  AITER_NO_UNROLL
  for (int64_t t = me; t < a.slots.count; t += kTokensAtOnce * threads) {
    uint32_t near = 0;
    AITER_UNROLL
    for (int k = 0; k < kTokensAtOnce; ++k) {
      const int64_t at = t + k * threads < a.slots.count ? a.slots[t + k * threads] : -1;
      near |= (static_cast<uint64_t>(at) - low < span ? 1u : 0u) << k;
    }
    AITER_NO_UNROLL
    for (int64_t its = t; near; its += threads, near >>= 1) {
      if (!(near & 1)) continue;
      const int64_t at = a.slots[its], its_page = a.slots.block.divide(at);
      int i = 0;
      while (i < own && pages[i] != its_page) ++i;
      if (i == own) continue;
      if (its < begin)
        begun[i] = 1;
      else  // of tokens with the same slot the last one counts
        shared_max(token_of + i * slots + (at - its_page * a.slots.block.divisor),
                   static_cast<int32_t>(its));
    }
  }
  barrier();
  const int waves = threads / kWave;
  const int64_t heads = a.rows[0].heads;
  const AnyCodes kind(a.spec.code);
  int next = block_index_y() * waves + me / kWave;  // head of keys or of values
  AITER_NO_UNROLL
  for (int i = 0; i < own; ++i) {
    if (pages[i] < 0 || begun[i]) continue;
    AITER_NO_UNROLL
    for (; next < 2 * heads; next += grid_blocks_y() * waves) {
      const bool second = next >= heads;
      write_head_vec<T>(a, a.rows[second], a.turned[second], next - (second ? heads : 0), pages[i],
                        token_of + i * slots, kind);
    }
    next -= static_cast<int>(2 * heads);
  }
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

#define AITER_BLOCK_QUANT_VEC(T)                                    \
  AITER_KERNEL(reshape_and_cache_with_block_quant_hip_vec_##T, 256) \
  (const aiter::ReshapeAndCacheWithBlockQuantArgs a) {              \
    aiter::wait_for_previous_kernel();                              \
    aiter::write_pages_vec<aiter::T>(a);                            \
  }
AITER_BLOCK_QUANT_VEC(f32)
AITER_BLOCK_QUANT_VEC(f16)
AITER_BLOCK_QUANT_VEC(bf16)
