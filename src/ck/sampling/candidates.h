// The k best elements of a row in one reading: a block keeps, in shared memory, what may be among
// them, all elements from a bar on that rises from round to round; the blocks of a team put together
// what they have kept.
#pragma once

#include "ck/core/pack.h"
#include "ck/core/team.h"
#include "ck/sampling/radix_select.h"

namespace aiter {

// An element by its key and its index, the better one larger; 0 is none.
AITER_DEVICE uint64_t candidate(uint32_t key, uint32_t index) {
  return static_cast<uint64_t>(key) << 32 | ~index;
}
AITER_DEVICE uint32_t key_of(uint64_t candidate) { return candidate >> 32; }
AITER_DEVICE uint32_t index_of(uint64_t candidate) { return ~static_cast<uint32_t>(candidate); }

// Puts `size` items, a power of two, in descending order.
AITER_DEVICE void bitonic_sort(uint64_t* items, int size) {
  bool across = true;  // whether a wave needs what others have written
  for (int run = 2; run <= size; run *= 2)
    for (int step = run / 2; step > 0; step /= 2) {
      if (across || step > kWave)
        barrier();
      else
        wave_barrier();
      across = step > kWave;
      for (int t = thread_index(); t < size / 2; t += block_threads()) {
        const int left = (t & (step - 1)) | (t & ~(step - 1)) << 1, right = left | step;
        const uint64_t a = items[left], b = items[right];
        if ((a < b) == ((left & run) == 0)) items[left] = b, items[right] = a;
      }
    }
  barrier();
}

template <int kCapacity>
struct Candidates {
  uint64_t items[kCapacity];
  uint32_t added, sent, place;
  uint64_t bars[kMaxTeam];
  RadixScratch<uint32_t> radix;

  // The items become those of k best elements, in any order, in the team's first block; with `ties`
  // also all that equal the last of them. Returns how many there are (0 in the other blocks), or -1,
  // in all blocks, where they are too many.
  // Row has N, load(i) of N elements from i on, a multiple of N, and load_part(i), of which some may not
  // be there, keys(loaded, key) of them, and the range, begin to end, of the elements that count.
  template <class Row>
  AITER_DEVICE int collect(const Team& team, const Row& row, int k, bool ties) {
    const int room = kCapacity / team.size;
    if (k > room || k > kCapacity / 2) return -1;
    uint64_t bar = 1;
    int count = own_part(team, row, k, ties, bar);
    if (count > 0) count = keep_best(count, k, ties, bar);
    if (team.size == 1) return count;

    // k of all are no worse than the worst of these, each the last of a part of k.
    const int part = (k + team.size - 1) / team.size;
    uint64_t last = count < part || count > few() ? 0 : items[part - 1] >> 32 << 32;
    if (count < 0 || count > room) last = kNone;
    if (thread_index() == 0) sent = count;
    team.gather(last, bars);
    bool fits = true;
    for (int i = 0; i < team.size; ++i) {
      fits = fits && bars[i] != kNone;
      last = min(last, bars[i]);
    }
    if (fits && team.rank > 0) {
      if (last > 0) count = count_from(count, last);
      if (thread_index() == 0) place = team.fetch_add(team.of_rank(&sent, 0), count);
      barrier();
      for (int i = thread_index(); i < count; i += block_threads())
        *team.of_rank(items + place + i, 0) = items[i];
    }
    team.barrier();
    if (!fits) return -1;
    return team.rank > 0 ? 0 : keep_best(static_cast<int>(sent), k, ties, bar);
  }

  // Sorts the first items by rank(item), the largest first. What lies behind is overwritten.
  template <class Rank>
  AITER_DEVICE void sort(int count, Rank&& rank) {
    int size = 1;
    while (size < count) size *= 2;
    barrier();
    for (int i = thread_index(); i < size; i += block_threads())
      items[i] = i < count ? rank(items[i]) : 0;
    if (count <= few())
      sort_few(count);
    else
      bitonic_sort(items, size);
  }

 private:
  template <class Row>
  static constexpr int kFlight = Row::N == 8 ? 2 : 4;  // loads of a thread under way at once
  static constexpr uint64_t kNone = ~uint64_t{0};

  // Keeps this block's elements that may be among the k best of the row. Returns how many, or -1. Each
  // round is longer than all before it together, as far as there is room for what it may add.
  template <class Row>
  AITER_DEVICE int own_part(const Team& team, const Row& row, int k, bool ties, uint64_t& bar) {
    constexpr uint32_t kAlign = Row::N * kWave;
    uint32_t begin = row.begin / Row::N * Row::N;
    const uint32_t part = ((row.end - begin) / team.size / kAlign + 1) * kAlign;
    begin += team.rank * part;
    const uint32_t start = begin, end = min(row.end, begin + part);
    int64_t seen = 0;
    if (begin + kCapacity < end && k <= block_threads() / 2) {
      // The k-th best of some elements, here the best ones of threads, is no more than that of all.
      // Fewer best ones of more elements say almost as much.
      const uint32_t some = kFlight<Row> * Row::N * block_threads();
      seen = some;
      uint64_t best = 1 + thread_index();
      each(row, begin, min(end, begin + some), 0, [&](uint64_t c) { best = max(best, c); });
      int lanes = 1;
      while (lanes < kWave && block_threads() / lanes >= 4 * k) lanes *= 2;
      best = lanes_reduce<Max>(best, lanes);
      if (thread_index() % lanes == 0) items[thread_index() / lanes] = best;
      keep_best(block_threads() / lanes, k, ties, bar);
    }
    int count = 0;
    AITER_NO_UNROLL
    for (uint32_t next; begin < end; begin = next) {
      const int64_t length = seen ? seen * min(8 * k, kCapacity - k) / (2 * k) : kCapacity;
      next = end;
      if (length < end - begin)
        next = min(end, begin + (static_cast<uint32_t>(length) + kAlign - 1) / kAlign * kAlign);
      AITER_NO_UNROLL
      for (;;) {
        barrier();
        if (thread_index() == 0) added = count;
        barrier();
        each(row, begin, next, key_of(bar), [&](uint64_t c) {
          if (c < bar) return;
          const uint32_t at = shared_fetch_add(&added, 1);
          if (at < kCapacity) items[at] = c;
        });
        barrier();
        count = min(added, uint32_t{kCapacity});
        if (count == static_cast<int>(added)) break;
        // A higher bar, and this round again.
        const uint64_t before = bar;
        count = keep_best(count, k, ties, bar);
        if (bar == before) return -1;  // so many equal ones
        count = compact(count, [&](uint64_t c) { return index_of(c) < begin; });
      }
      if (next < end) count = keep_best(count, k, ties, bar);
      seen = next - start;
    }
    return count;
  }

  // Calls f(candidate) for this thread's elements from `begin` to `end` with keys of `least` or more.
  template <class Row, class F>
  AITER_DEVICE static void each(const Row& row, uint32_t begin, uint32_t end, uint32_t least,
                                F&& f) {
    constexpr uint32_t N = Row::N;
    const uint32_t step = block_threads() * N;
    auto take = [&](const typename Row::Loaded& pack, uint32_t i) {
      uint32_t key[N], best = 0;
      row.keys(pack, key);
      AITER_UNROLL
      for (uint32_t j = 0; j < N; ++j) best = max(best, key[j]);
      if (best < least) return;
      AITER_UNROLL
      for (uint32_t j = 0; j < N; ++j)
        if (key[j] >= least && i + j >= row.begin && i + j < row.end) f(candidate(key[j], i + j));
    };
    uint32_t i = begin + thread_index() * N;
    AITER_NO_UNROLL
    for (; i + (kFlight<Row> - 1) * step + N <= end; i += kFlight<Row> * step) {
      typename Row::Loaded packs[kFlight<Row>];
      AITER_UNROLL
      for (int u = 0; u < kFlight<Row>; ++u) packs[u] = row.load(i + u * step);
      AITER_UNROLL
      for (int u = 0; u < kFlight<Row>; ++u) take(packs[u], i + u * step);
    }
    AITER_NO_UNROLL
    for (; i < end; i += step) take(row.load_part(i), i);
  }

  // Keeps the k best of the first `count` items, with `ties` also those that equal the last of them,
  // to which the bar rises. Returns how many are left: sorted, if they are few().
  AITER_DEVICE int keep_best(int count, int k, bool ties, uint64_t& bar) {
    barrier();
    if (count > few()) {
      if (count <= k) return count;
      const uint64_t last = kth(count, k, ties);
      bar = max(bar, last);
      count = compact(count, [&](uint64_t c) { return c >= last; });
      if (count <= few()) sort_few(count);
      return count;
    }
    sort_few(count);
    if (count <= k) return count;
    uint64_t last = items[k - 1];
    if (ties) last = last >> 32 << 32;
    bar = max(bar, last);
    return ties ? count_from(count, last) : k;
  }

  // As many as are sorted by rank.
  AITER_DEVICE static int few() { return min(block_threads(), 512); }

  // Sorts the first `count` items, few() at most, no two equal: the rank of each is how many are larger,
  // which several threads count together if there are enough.
  AITER_DEVICE void sort_few(int count) {
    int parts = 1;
    while (2 * parts <= kWave && 2 * parts * count <= few()) parts *= 2;
    const int i = thread_index() / parts, part = thread_index() % parts;
    barrier();
    const uint64_t own = i < count ? items[i] : 0;
    int rank = 0;
    AITER_NO_UNROLL
    for (int j = part; j < count; j += 8 * parts) {
      uint64_t others[8];
      AITER_UNROLL
      for (int u = 0; u < 8; ++u) others[u] = j + u * parts < count ? items[j + u * parts] : 0;
      AITER_UNROLL
      for (int u = 0; u < 8; ++u) rank += others[u] > own ? 1 : 0;
    }
    rank = lanes_reduce<Sum>(rank, parts);
    barrier();
    if (i < count && part == 0) items[rank] = own;
    barrier();
  }

  // How many of the first `count` items, sorted, at least one, are no less than `last`.
  AITER_DEVICE int count_from(int count, uint64_t last) {
    barrier();
    const int i = thread_index();
    if (i == 0 && items[0] < last) added = 0;
    if (i < count && items[i] >= last && (i + 1 == count || items[i + 1] < last)) added = i + 1;
    barrier();
    return static_cast<int>(added);
  }

  // The k-th best of the first `count` items; with `ties` the least that has the same key.
  AITER_DEVICE uint64_t kth(int count, int k, bool ties) {
    uint64_t found = 0;
    uint32_t need = k;
    AITER_NO_UNROLL
    for (int shift = 32;; shift = 0) {  // first the keys, then the indices of the last one
      const auto part =
          radix_select<32>(Team::alone(), need, radix, [&](auto&& f, uint32_t, uint32_t) {
            AITER_NO_UNROLL
            for (int i = thread_index(); i < count; i += block_threads())
              if (shift || items[i] >> 32 == found >> 32)
                f(static_cast<uint32_t>(items[i] >> shift), 1u);
          });
      const bool settled = part.above >= need;
      found |= static_cast<uint64_t>(settled ? part.key + 1 : part.key) << shift;
      if (settled || ties || shift == 0) return found;
      need -= part.above;
    }
  }

  template <class Keep>
  AITER_DEVICE int compact(int count, Keep&& keep) {
    int left = 0;
    for (int base = 0; base < count; base += block_threads()) {
      const int i = base + thread_index();
      const uint64_t c = i < count ? items[i] : 0;
      const bool stays = i < count && keep(c);
      const Scan<uint32_t> scan = block_scan(stays ? 1u : 0u, radix.waves);
      if (stays) items[left + scan.before] = c;
      left += scan.total;
    }
    barrier();
    return left;
  }
};

}  // namespace aiter
