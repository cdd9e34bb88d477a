// Writing heads of tokens into paged caches, as ops/kvcache/cache_layout.h describes them.
#pragma once

#include "ck/quant/quantize.h"
#include "ops/kvcache/cache_layout.h"

namespace aiter {

AITER_DEVICE int element_bytes(DType dtype) {
  return dtype == DType::kF32 ? 4 : dtype == DType::kF16 || dtype == DType::kBF16 ? 2 : 1;
}

// A dim of a head into its place: its bits, or rounded to the cache's float.
AITER_DEVICE void copy_element(const void* from, int64_t from_index, DType dtype, void* to,
                               int64_t to_index, DType cache_dtype) {
  if (dtype != cache_dtype)
    return store_float(to, to_index, cache_dtype, load_float(from, from_index, dtype));
  switch (element_bytes(dtype)) {
    case 4:
      static_cast<uint32_t*>(to)[to_index] = static_cast<const uint32_t*>(from)[from_index];
      break;
    case 2:
      static_cast<uint16_t*>(to)[to_index] = static_cast<const uint16_t*>(from)[from_index];
      break;
    default:
      static_cast<uint8_t*>(to)[to_index] = static_cast<const uint8_t*>(from)[from_index];
  }
}

// The scale of a group of numbers, where a scale makes room for `floor` at least; one that is a
// power of two is stored as the float.
template <class Kind>
AITER_DEVICE Scale cache_scale(float amax, float floor, const QuantSpec& spec, const Kind& codes) {
  Scale scale = scale_for(max(amax, floor), spec, codes);
  if (spec.scale == DType::kF8E8M0) scale.value = e8m0_decode(scale.code);
  return scale;
}
template <class Codec>
AITER_DEVICE Scale cache_scale(float amax, float floor, const QuantSpec& spec) {
  return cache_scale(amax, floor, spec, Codes<Codec>(spec.code));
}

// As it comes back from an array of the dtype.
AITER_DEVICE float rounded(float x, DType dtype) {
  return dtype == DType::kF32   ? x
         : dtype == DType::kF16 ? to_float(from_float<f16>(x))
                                : to_float(from_float<bf16>(x));
}

// f(Codec{}) for the dtypes of codes that a cache holds.
template <class F>
AITER_DEVICE void with_cache_codec(DType code, F&& f) {
  switch (code) {
    case DType::kI8:
      return f(IntCode<8>{});
    case DType::kF8E4M3FN:
      return f(E4M3FN{});
    case DType::kF8E4M3FNUZ:
      return f(E4M3FNUZ{});
    case DType::kF8E5M2:
      return f(E5M2{});
    default:
      return f(E5M2FNUZ{});
  }
}

// The same, with the codes of 4 bits that heads may go to.
template <class F>
AITER_DEVICE void with_head_codec(DType code, F&& f) {
  if (code == DType::kF4E2M1x2) return f(E2M1FN{});
  with_cache_codec(code, f);
}

// Heads of neighbouring tokens that a block has in shared memory, elements of E, into the cache.
template <class E>
struct StagedHeads {
  static constexpr int kTogether = 16 / static_cast<int>(sizeof(E));
  static constexpr int64_t kApart = static_cast<int64_t>(~uint64_t{0} >> 1);
  const CacheLayout& to;
  int dim;
  const uint8_t* stage;  // rows of `pitch` bytes
  int pitch, tokens;
  const int64_t* slots;  // of the tokens; -1: none
  const Divisor& block;  // slots of a page

  AITER_DEVICE int64_t at(int64_t slot) const {
    const int64_t page = block.divide(slot);
    return to.at_slot(page, static_cast<uint32_t>(slot - page * block.divisor));
  }
  AITER_DEVICE const E* row(int token) const {
    return reinterpret_cast<const E*>(stage + token * pitch);
  }
  // Packs of dims: neighbouring lanes have neighbouring tokens, whose slots may be so, too. There are
  // 2^token_bits tokens but in the last block.
  AITER_DEVICE void write_dims(int64_t head, int token_bits) const {
    for (int i = thread_index(); i < dim / kTogether << token_bits; i += block_threads()) {
      const int token = i & ((1 << token_bits) - 1), d = (i >> token_bits) * kTogether;
      if (token >= tokens || slots[token] < 0) continue;
      *reinterpret_cast<Words4*>(static_cast<E*>(to.data) + at(slots[token]) + head * to.head +
                                 to.at_dim(d)) = *reinterpret_cast<const Words4*>(row(token) + d);
    }
  }

  // Packs of slots. Windows end where slots would be multiples of a pack if they went on as they begin.
  AITER_DEVICE int first() const {
    return kTogether - (slots[0] < 0 ? 0 : static_cast<int>(slots[0] & (kTogether - 1)));
  }
  AITER_DEVICE int windows() const { return (tokens - first() + kTogether - 1) / kTogether + 1; }
  // Where each window goes whose tokens fill a pack, or kApart; the block must meet before it writes.
  AITER_DEVICE void find_windows(int64_t* places) const {
    for (int w = thread_index(); w < windows(); w += block_threads()) {
      const int end = first() + w * kTogether, begin = end - kTogether;
      bool together = begin >= 0 && end <= tokens;
      if (together) {
        const int64_t slot = slots[begin];
        together = slot >= 0 && (slot & (kTogether - 1)) == 0;
        AITER_UNROLL
        for (int k = 1; k < kTogether; ++k) together = together && slots[begin + k] == slot + k;
      }
      places[w] = together ? at(slots[begin]) : kApart;
    }
  }
  AITER_DEVICE void write_slots(int64_t head, const int64_t* places) const {
    E* heads = static_cast<E*>(to.data) + head * to.head;
    const int skipped = first(), count = windows();
    int w = 0, d = thread_index();
    while (true) {
      while (d >= dim) d -= dim, ++w;
      if (w >= count) return;
      const int begin = skipped + (w - 1) * kTogether;
      const int64_t place = places[w];
      E* its = heads + to.at_dim(d);
      if (place != kApart) {
        struct alignas(16) {
          E elements[kTogether];
        } pack;
        AITER_UNROLL
        for (int k = 0; k < kTogether; ++k) pack.elements[k] = row(begin + k)[d];
        *reinterpret_cast<Words4*>(its + place) = bit_cast<Words4>(pack);
      } else {
        AITER_NO_UNROLL
        for (int t = max(begin, 0); t < min(begin + kTogether, tokens); ++t)
          if (slots[t] >= 0) its[at(slots[t])] = row(t)[d];
      }
      d += block_threads();
    }
  }
};

}  // namespace aiter
