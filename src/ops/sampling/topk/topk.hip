// A team of blocks a row, which keeps the candidates of one reading. A large k takes one block three or
// four passes, which the caches serve after the first: the k-th best element by radix selection, then
// all up to it in the order of their indices. What is asked for sorted is sorted in shared memory. A team
// that can keep the row in shared memory takes these passes there.
#include "ck/sampling/candidates.h"
#include "ck/sampling/resident.h"
#include "ops/sampling/topk/topk_args.h"

namespace aiter {

constexpr int kSorted = 2048;  // sorted at a time

template <class T, int N_>
struct TopkRow {
  static constexpr int N = N_;
  using Element = T;
  using Loaded = Pack<T, N>;
  const TopkArgs& a;
  int64_t r;
  const T* x;
  uint32_t begin, end;

  AITER_DEVICE TopkRow(const TopkArgs& args, int64_t row)
      : a(args),
        r(row),
        x(static_cast<const T*>(args.x) + args.x_rows.offset(r)),
        begin(static_cast<uint32_t>(min(args.begin(r), args.n))),
        end(static_cast<uint32_t>(max(args.end(r), int64_t{begin}))) {}

  AITER_DEVICE static T worst(bool smallest) {
    if constexpr (is_same<T, int32_t>)
      return smallest ? 0x7fffffff : -0x7fffffff - 1;
    else
      return from_float<T>(smallest ? kInfinity : -kInfinity);
  }
  AITER_DEVICE void set(int64_t j, int64_t index) const {
    store_index(a.indices, a.index_dtype, a.indices_rows.offset(r) + j * a.indices_stride, index);
    if (a.values)
      static_cast<T*>(a.values)[a.values_rows.offset(r) + j * a.values_stride] =
          index < 0 ? worst(a.smallest) : x[index * a.x_stride];
  }

  // Elements i to i + N - 1.
  AITER_DEVICE Loaded load(int64_t i) const {
    if constexpr (N == 1)
      return {x[i * a.x_stride]};
    else
      return load_pack<N>(x + i);
  }
  // As far as they are there.
  AITER_DEVICE Loaded load_part(int64_t i) const {
    if constexpr (N == 1) {
      return load(i);
    } else {
      if (i + N <= a.n) return load(i);
      Loaded pack{};
      AITER_UNROLL
      for (int j = 0; j < N; ++j) {
        if (i + j >= a.n) break;
        if constexpr (sizeof(T) == 4)
          pack.words[j] = bit_cast<uint32_t>(x[i + j]);
        else
          pack.words[j / 2] |= static_cast<uint32_t>(x[i + j].bits) << (j % 2 * 16);
      }
      return pack;
    }
  }
  AITER_DEVICE void keys(const Loaded& pack, uint32_t (&key)[N]) const {
    constexpr uint32_t kMask = 0xffffffffu >> (32 - Key<T>::kBits);
    const uint32_t flip = a.smallest ? kMask : 0;
    bits_of(pack, key);
    AITER_UNROLL
    for (int j = 0; j < N; ++j) key[j] = Key<T>::of(key[j]) ^ flip;
  }
  AITER_DEVICE bool valid(uint32_t i) const { return i >= begin && i < end; }
};

// By one block, for any k.
template <class Row>
AITER_DEVICE void topk_by_passes(const TopkArgs& a, const Row& row, uint32_t want,
                                 Candidates<2 * kSorted>& s) {
  constexpr uint32_t N = Row::N;
  RadixScratch<uint32_t>& scratch = s.radix;
  uint64_t* const items = s.items;
  const uint32_t chunk = block_threads() * N, begin = row.begin / N * N;
  // What is sorted before has been written already: elements worse than the last one are left.
  uint64_t last = ~uint64_t{0};
  AITER_NO_UNROLL
  for (uint32_t done = 0; done < want;) {
    auto left = [&](uint32_t key, uint32_t i) { return row.valid(i) && candidate(key, i) < last; };
    const uint32_t some = a.sorted && want - done > kSorted ? kSorted : want - done;
    const Selected<uint32_t> found = radix_select<Key<typename Row::Element>::kBits>(
        Team::alone(), some, scratch, [&](auto&& f, uint32_t, uint32_t) {
          for (uint32_t i = begin + thread_index() * N; i < row.end; i += chunk) {
            uint32_t key[N];
            row.keys(row.load_part(i), key);
            AITER_UNROLL
            for (uint32_t j = 0; j < N; ++j)
              if (left(key[j], i + j)) f(key[j], 1u);
          }
        });
    uint32_t written = 0, ties = some - found.above;  // of found.key itself
    AITER_NO_UNROLL
    for (uint32_t base = begin; base < row.end && written < some; base += chunk) {
      const uint32_t i = base + thread_index() * N;
      uint32_t key[N];
      uint32_t count = 0;  // larger ones, and equal ones in the upper half
      if (i < row.end) {
        row.keys(row.load_part(i), key);
        AITER_UNROLL
        for (uint32_t j = 0; j < N; ++j)
          if (left(key[j], i + j))
            count += key[j] > found.key ? 1 : key[j] == found.key ? 65536 : 0;
      }
      const Scan<uint32_t> scan = block_scan(count, scratch.waves);
      if (count) {
        uint32_t equal = scan.before >> 16;
        uint32_t at = written + (scan.before & 0xffff) + min(equal, ties);
        AITER_UNROLL
        for (uint32_t j = 0; j < N; ++j) {
          if (!left(key[j], i + j) || key[j] < found.key) continue;
          if (key[j] == found.key && equal++ >= ties) continue;
          if (a.sorted)
            items[at] = candidate(key[j], i + j);
          else
            row.set(at, i + j);
          ++at;
        }
      }
      const uint32_t equal = min(scan.total >> 16, ties);
      written += (scan.total & 0xffff) + equal;
      ties -= equal;
    }
    if (a.sorted) {
      s.sort(static_cast<int>(some), [](uint64_t c) { return c; });
      for (uint32_t j = thread_index(); j < some; j += block_threads())
        row.set(done + j, index_of(items[j]));
      last = items[some - 1];
      barrier();
    }
    done += some;
  }
}

template <class T, int N>
AITER_DEVICE void topk(const TopkArgs& a) {
  AITER_SHARED Candidates<2 * kSorted> candidates;
  const Team team = Team::own();
  for (int64_t r = team.first_row(); r < a.x_rows.count; r += team.row_step()) {
    const TopkRow<T, N> row(a, r);
    const int64_t length = row.end - row.begin;
    const int64_t want = min(a.k, length);
    if (want > 0) {
      const int count = want <= kSorted && (length <= 2 * kSorted || length >= 32 * want)
                            ? candidates.collect(team, row, static_cast<int>(want), false)
                            : -1;
      if (count < 0) {
        if (team.leads()) topk_by_passes(a, row, static_cast<uint32_t>(want), candidates);
      } else if (team.leads()) {
        const bool sorted = a.sorted;
        candidates.sort(count, [&](uint64_t c) { return sorted ? c : c << 32 | c >> 32; });
        for (int j = thread_index(); j < count; j += block_threads()) {
          const uint64_t c = candidates.items[j];
          row.set(j, index_of(sorted ? c : c >> 32));
        }
      }
    }
    if (team.leads())
      for (int64_t j = want + thread_index(); j < a.k; j += block_threads()) row.set(j, -1);
    barrier();
  }
}

#if !defined(AITER_AMD)
struct ResidentTopkScratch {
  RadixScratch<uint32_t> radix;
  uint64_t waves[kMaxWaves], ranks[kMaxTeam];
  uint64_t items[kSorted];
};

template <class T, int N>
AITER_DEVICE void topk_resident(const TopkArgs& a, char* shared) {
  AITER_SHARED ResidentTopkScratch s;
  constexpr int kBits = Key<T>::kBits;
  const Team team = Team::own(false);
  for (int64_t r = team.first_row(); r < a.x_rows.count; r += team.row_step()) {
    const TopkRow<T, N> row(a, r);
    const int64_t want = min(a.k, int64_t{row.end} - row.begin);
    if (want > 0) {
      const uint32_t base = row.begin / N * N;
      const ResidentPacks<T, N> near(team, row.x + base, row.end - base, T{}, shared);
      auto each = [&](uint32_t i, const Pack<T, N>& pack, auto&& f) {
        uint32_t key[N];
        row.keys(pack, key);
        AITER_UNROLL
        for (uint32_t j = 0; j < N; ++j)
          if (row.valid(base + i + j)) f(key[j], base + i + j);
      };
      Selected<uint32_t> found{0, 0};
      if (want < row.end - row.begin)
        found = radix_select<kBits>(team, static_cast<uint32_t>(want), s.radix,
                                    [&](auto&& f, uint32_t, uint32_t) {
                                      near.each_pack([&](uint32_t i, const Pack<T, N>& pack) {
                                        each(i, pack, [&](uint32_t key, uint32_t) { f(key, 1u); });
                                      });
                                    });
      // Larger keys, and in the upper half equal ones, of which the first are taken.
      uint64_t count = 0;
      near.each_of_run([&](uint32_t i, const Pack<T, N>& pack) {
        each(i, pack, [&](uint32_t key, uint32_t) {
          count += key > found.key ? 1 : key == found.key ? uint64_t{1} << 32 : 0;
        });
      });
      const Scan<uint64_t> scan = block_scan(count, s.waves);
      uint64_t before = scan.before;
      team.gather(scan.total, s.ranks);
      uint64_t above = 0;
      for (int i = 0; i < team.size; ++i) {
        if (i < team.rank) before += s.ranks[i];
        above += s.ranks[i];
      }
      const uint32_t ties = static_cast<uint32_t>(want) - static_cast<uint32_t>(above);
      uint32_t larger = static_cast<uint32_t>(before);
      uint32_t equal = min(static_cast<uint32_t>(before >> 32), ties);
      near.each_of_run([&](uint32_t i, const Pack<T, N>& pack) {
        each(i, pack, [&](uint32_t key, uint32_t index) {
          if (key < found.key || (key == found.key && equal >= ties)) return;
          const uint32_t at = larger + equal;
          if (a.sorted)
            *team.of_rank(s.items + at, 0) = candidate(key, index);
          else
            row.set(at, index);
          if (key == found.key)
            ++equal;
          else
            ++larger;
        });
      });
    }
    team.barrier();
    if (!team.leads()) continue;
    if (want > 0 && a.sorted) {
      int size = 1;
      while (size < want) size *= 2;
      for (int i = static_cast<int>(want) + thread_index(); i < size; i += block_threads())
        s.items[i] = 0;
      bitonic_sort(s.items, size);
      for (int j = thread_index(); j < want; j += block_threads()) row.set(j, index_of(s.items[j]));
    }
    for (int64_t j = max(want, int64_t{0}) + thread_index(); j < a.k; j += block_threads())
      row.set(j, -1);
  }
}
#endif

}  // namespace aiter

#define AITER_TOPK(row, aligned, T)                               \
  AITER_KERNEL(topk_##row##_##T, 1024)(const aiter::TopkArgs a) { \
    aiter::wait_for_previous_kernel();                            \
    aiter::topk<aiter::T, aligned>(a);                            \
  }
#define AITER_TOPK_TYPES(row, n4, n2) \
  AITER_TOPK(row, n4, f32)            \
  AITER_TOPK(row, n2, f16)            \
  AITER_TOPK(row, n2, bf16)           \
  AITER_TOPK(row, n4, i32)
namespace aiter {
using i32 = int32_t;
}
AITER_TOPK_TYPES(hip_vec, 4, 8)
AITER_TOPK_TYPES(hip_any, 1, 1)

#if !defined(AITER_AMD)
#define AITER_TOPK_RESIDENT(T, n)                                      \
  AITER_KERNEL(topk_hip_resident_##T, 1024)(const aiter::TopkArgs a) { \
    AITER_DYNAMIC_SHARED(shared);                                      \
    aiter::wait_for_previous_kernel();                                 \
    aiter::topk_resident<aiter::T, n>(a, shared);                      \
  }
AITER_TOPK_RESIDENT(f32, 4)
AITER_TOPK_RESIDENT(f16, 8)
AITER_TOPK_RESIDENT(bf16, 8)
AITER_TOPK_RESIDENT(i32, 4)
#endif
