// The k largest of many, in one pass over them, for the CPU rows.
//
// Elements are compared as signed integers (order_keys). The largest of each group of elements is
// kept; the k-th largest of these is a bound that at least k elements reach, and on the whole few
// more. Those are gathered, and the k-th largest is found among them.
#pragma once

#include "simd/radix_select.h"

namespace aiter::AITER_ISA {

// Keys that order elements from worst to best; flip is -1 where the smallest are the best. NaN is
// larger than all numbers, and -0 equals 0.
template <class T>
AITER_INLINE Ints order_keys(const T* p, int32_t flip) {
  const Vec v = load(p) + zero();
  Ints key = (Ints)v.v;
  key ^= (key >> 31) & 0x7fffffff;
  const Ints nan = (Ints)(v.v != v.v);
  return ((key & ~nan) | (nan & 0x7fffffff)) ^ flip;
}
AITER_INLINE Ints order_keys(const int32_t* p, int32_t flip) {
  Ints key;
  memcpy(&key, p, sizeof(key));
  return key ^ flip;
}
template <class T>
AITER_INLINE int32_t order_key(const T* p, int32_t flip) {
  T several[kLanes] = {*p};
  return order_keys(several, flip)[0];
}

class TopK {
 public:
  static int64_t group(int64_t n, int64_t k) {  // a power of two
    int64_t g = 1;
    while (g < 64 && n / (2 * g) >= k + k / 2) g *= 2;
    return g;
  }
  static int64_t capacity(int64_t n, int64_t k) {
    return (2 * k + 1024 < n ? 2 * k + 1024 : n) + kLanes;
  }
  static int64_t scratch_bytes(int64_t n, int64_t k) {
    return (n / group(n, k) + 2 * kLanes + 4 * capacity(n, k)) * 4;
  }

  TopK(uint8_t* scratch, int64_t n, int64_t k)
      : k_(k),
        group_(group(n, k)),
        capacity_(capacity(n, k)),
        keys_(reinterpret_cast<int32_t*>(scratch)),
        indices_(keys_ + capacity_),
        spare_(indices_ + capacity_),
        maxima_(spare_ + 2 * capacity_) {}

  // Finds the k best of x[0, n), all of them if there are not more; their indices ascend.
  template <class T>
  void select(const T* x, int64_t n, int32_t flip) {
    count_ = 0;
    strict_ = false;
    floor_ = INT32_MIN;
    if (n > k_ && group_ > 1 && n >= 4 * k_) floor_ = bound(x, n, flip);
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) add(order_keys(x + i, flip), i, kLanes);
    if (i < n) {
      T rest[kLanes] = {};
      memcpy(rest, x + i, (n - i) * sizeof(T));
      add(order_keys(rest, flip), i, static_cast<int>(n - i));
    }
    if (count_ > k_) shrink();
  }

  // From the best to the worst; of equal ones the lower index first.
  void sort() {
    if (count_ <= 64) return insertion_sort();
    // Radix sort, which keeps the order of equal keys, by bytes from the lowest on.
    int32_t *keys = keys_, *indices = indices_, *to_keys = spare_, *to_indices = spare_ + capacity_;
    for (int shift = 0; shift < 32; shift += 8) {
      int64_t starts[257] = {};
      auto digit = [&](int32_t key) {  // the largest is 0
        return ((static_cast<uint32_t>(key) ^ 0x80000000u) >> shift & 255) ^ 255;
      };
      for (int64_t i = 0; i < count_; ++i) ++starts[digit(keys[i]) + 1];
      for (int d = 1; d < 256; ++d) starts[d] += starts[d - 1];
      for (int64_t i = 0; i < count_; ++i) {
        const int64_t to = starts[digit(keys[i])]++;
        to_keys[to] = keys[i], to_indices[to] = indices[i];
      }
      int32_t* swap = keys;
      keys = to_keys, to_keys = swap;
      swap = indices;
      indices = to_indices, to_indices = swap;
    }
  }

  int64_t count() const { return count_; }
  const int32_t* indices() const { return indices_; }

 private:
  void insertion_sort() {
    for (int64_t i = 1; i < count_; ++i) {
      const int32_t key = keys_[i], index = indices_[i];
      int64_t to = i;
      for (; to > 0 && keys_[to - 1] < key; --to)
        keys_[to] = keys_[to - 1], indices_[to] = indices_[to - 1];
      keys_[to] = key, indices_[to] = index;
    }
  }

  static uint32_t unsigned_key(int32_t key) { return static_cast<uint32_t>(key) ^ 0x80000000u; }

  Selected kth(const int32_t* keys, int64_t count) const {
    auto each = [&](auto&& f) {
      for (int64_t i = 0; i < count; ++i) f(unsigned_key(keys[i]), 1);
    };
    return count < 1024 ? radix_select<8>(k_, each) : radix_select(k_, each);
  }

  template <class T>
  int32_t bound(const T* x, int64_t n, int32_t flip) {
    int64_t groups = 0, i = 0;
    for (; i + group_ * kLanes <= n; i += group_ * kLanes) {
      Ints most = order_keys(x + i, flip);
      for (int64_t g = 1; g < group_; ++g) {
        const Ints key = order_keys(x + i + g * kLanes, flip);
        most = key > most ? key : most;
      }
      memcpy(maxima_ + groups, &most, sizeof(most));
      groups += kLanes;
    }
    if (groups < k_) return INT32_MIN;
    const Selected found = kth(maxima_, groups);
    // Elements of found.key itself count unless enough are above it.
    const uint32_t least = found.above >= k_ ? found.key + 1 : found.key;
    return static_cast<int32_t>(least ^ 0x80000000u);
  }

  AITER_INLINE void add(Ints key, int64_t index, int lanes) {
    const Ints floor = Ints{} + floor_, take = strict_ ? key > floor : key >= floor;
    uint32_t mask = 0;
#if AITER_ISA_LEVEL == 2
    mask = _mm512_movepi32_mask((__m512i)take);
#elif AITER_ISA_LEVEL == 1
    mask = _mm256_movemask_ps((__m256)take);
#else
    for (int j = 0; j < kLanes; ++j) mask |= (take[j] & 1u) << j;
#endif
    mask &= (1u << lanes) - 1;
    if (mask == 0) return;
#if AITER_ISA_LEVEL == 2
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i at = _mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int32_t>(index)));
    const auto m = static_cast<__mmask16>(mask);
    _mm512_storeu_si512(keys_ + count_, _mm512_maskz_compress_epi32(m, (__m512i)key));
    _mm512_storeu_si512(indices_ + count_, _mm512_maskz_compress_epi32(m, at));
    count_ += __builtin_popcount(mask);
#else
    for (; mask; mask &= mask - 1) {
      const int j = __builtin_ctz(mask);
      keys_[count_] = key[j];
      indices_[count_++] = static_cast<int32_t>(index) + j;
    }
#endif
    if (count_ + kLanes > capacity_) shrink();
  }

  // Keeps the k best of those gathered; what comes later has to be better than the worst of them.
  void shrink() {
    if (count_ <= k_) return;
    const Selected found = kth(keys_, count_);
    int64_t kept = 0, ties = k_ - found.above;
    for (int64_t i = 0; i < count_; ++i) {
      const uint32_t key = unsigned_key(keys_[i]);
      if (key < found.key || (key == found.key && ties-- <= 0)) continue;
      keys_[kept] = keys_[i], indices_[kept++] = indices_[i];
    }
    count_ = k_;
    // Above found.key if that is not among the kept ones: the next one up is no worse a floor.
    floor_ = static_cast<int32_t>(found.key ^ 0x80000000u);
    strict_ = true;
  }

  const int64_t k_, group_, capacity_;
  int32_t* const keys_;
  int32_t* const indices_;
  int32_t* const spare_;
  int32_t* const maxima_;
  int64_t count_ = 0;
  int32_t floor_ = INT32_MIN;
  bool strict_ = false;
};

}  // namespace aiter::AITER_ISA
