// One unit of a thread at a time, in the order of the packed form, so that its side of the copy is
// contiguous. What is unpacked on a GPU cannot be looked at beforehand: where the head is not the
// expected one, nothing is written.
#include "ck/core/pack.h"
#include "ops/quant/shuffle_weight/shuffle_weight_args.h"

namespace aiter {

// Whether there is work; the head of what is packed is written, that of what is unpacked compared, as
// Words: bytes where `packed` is not aligned.
template <class Word>
AITER_DEVICE bool match_head(const ShuffleArgs& a) {
  constexpr int kWords = sizeof(ShuffledHead) / sizeof(Word);
  struct Words {
    Word word[kWords];
  };
  if (!a.has_head) return true;
  const Words head = bit_cast<Words>(a.head);
  // volatile: compilers would join bytes to words that are not aligned
  volatile Word* at = reinterpret_cast<volatile Word*>(a.packed) - kWords;
  uint32_t differ = 0;
  const bool write = !a.unshuffle && block_index_x() == 0 && thread_index() == 0;
  AITER_UNROLL
  for (int i = 0; i < kWords; ++i) {
    if (a.unshuffle)
      differ |= at[i] ^ head.word[i];
    else if (write)
      at[i] = head.word[i];
  }
  return differ == 0;
}

// copy(plain, packed, bytes) of each unit; bytes is 0 where the plain form has none. Index holds
// the number of units.
template <class Index, class Copy>
AITER_DEVICE void shuffle_units(const ShuffleArgs& a, Copy&& copy) {
  const int64_t step = static_cast<int64_t>(grid_blocks()) * block_threads();
  for (int64_t unit = static_cast<int64_t>(block_index_x()) * block_threads() + thread_index();
       unit < a.units; unit += step) {
    Index rest = static_cast<Index>(unit);
    int64_t row = 0, column = 0;
    AITER_UNROLL
    for (int d = ShuffleArgs::kDims - 1; d >= 0; --d) {
      const Index extent = static_cast<Index>(a.dims[d].extent);
      const Index above = rest / extent;
      const int64_t i = rest - above * extent;
      row += i * a.dims[d].row;
      column += i * a.dims[d].column;
      rest = above;
    }
    const bool there = row < a.rows && column < a.columns;
    uint8_t* plain = a.plain + (there ? row * a.row_bytes + column * a.unit_bytes : 0);
    copy(plain, a.packed + unit * a.unit_bytes,
         !there                    ? 0
         : column + 1 == a.columns ? a.last_unit_bytes
                                   : a.unit_bytes);
  }
}

}  // namespace aiter

// Units of multiples of 16 bytes, all of them whole.
AITER_KERNEL(shuffle_weight_hip_vec, 256)(const aiter::ShuffleArgs a) {
  using namespace aiter;
  if (!match_head<uint32_t>(a)) return;
  shuffle_units<uint32_t>(a, [&] AITER_LAMBDA(uint8_t* plain, uint8_t* packed, int64_t bytes) {
    const Words4 zero = {0, 0, 0, 0};
    for (int i = 0; i < a.unit_bytes; i += 16) {
      Words4* to = reinterpret_cast<Words4*>((a.unshuffle ? plain : packed) + i);
      const Words4* from = reinterpret_cast<const Words4*>((a.unshuffle ? packed : plain) + i);
      if (bytes)
        *to = *from;
      else if (!a.unshuffle)
        *to = zero;
    }
  });
}

AITER_KERNEL(shuffle_weight_hip_any, 256)(const aiter::ShuffleArgs a) {
  using namespace aiter;
  if (!match_head<uint8_t>(a)) return;
  shuffle_units<uint64_t>(a, [&] AITER_LAMBDA(uint8_t* plain, uint8_t* packed, int64_t bytes) {
    for (int64_t i = 0; i < a.unit_bytes; ++i) {
      if (!a.unshuffle)
        packed[i] = i < bytes ? plain[i] : 0;
      else if (i < bytes)
        plain[i] = packed[i];
    }
  });
}
