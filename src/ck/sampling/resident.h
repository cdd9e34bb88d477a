// A row that a team of blocks reads once, and keeps in shared memory for the passes that follow.
#pragma once

#include "ck/core/mma_nvidia.h"
#include "ck/sampling/weights.h"
#include "ops/sampling/resident.h"

#if !defined(AITER_AMD)
namespace aiter {

AITER_DEVICE int log2_of(uint32_t power) {
  int result;
  asm("bfind.u32 %0, %1;" : "=r"(result) : "r"(power));
  return result;
}

// Each block has a part of the row, and each of its threads neighbours of that part: what is added up
// over threads, and over ranks, is in the order of the row.
template <class T, int N>
struct ResidentPacks {
  Team team;
  Pack<T, N>* packs;  // of this block
  int32_t size, run;  // how many it has, and each of its threads
  uint32_t begin;     // the first element of this block

  // Of n elements from x on, and some `past` up to a multiple of N.
  AITER_DEVICE ResidentPacks(const Team& team_, const T* x, int64_t n, T past, char* shared)
      : team(team_), packs(reinterpret_cast<Pack<T, N>*>(shared)) {
    const uint32_t all = static_cast<uint32_t>((n + N - 1) / N);
    // Of powers of 2, where divisions would take longer than some of the passes.
    const uint32_t part = (all + team.size - 1) >> log2_of(team.size);
    const uint32_t first = min(team.rank * part, all);
    size = static_cast<int32_t>(min(part, all - first));
    run = static_cast<int32_t>(packs_of_thread(part, log2_of(block_threads())));
    begin = first * N;
    // All loads of a thread are under way at once.
    const uint32_t there = min(static_cast<uint32_t>(n) - begin, static_cast<uint32_t>(size * N));
    const int whole = static_cast<int>(there / N);
    const uint32_t to = shared_address(packs);
    AITER_NO_UNROLL
    for (int i = thread_index(); i < whole; i += block_threads())
      copy_async16(to + i * 16, x + begin + i * N, true);
    copy_async_commit();
    const int k = thread_index();
    if (whole < size && k < N)
      reinterpret_cast<T*>(packs + whole)[k] =
          whole * N + k < static_cast<int>(there) ? x[begin + whole * N + k] : past;
    copy_async_wait<0>();
    team.barrier();  // all blocks have begun
  }

  // Calls f(i, pack) for the elements from the i-th of the row on.
  template <class F>
  AITER_DEVICE void each_pack(F&& f) const {
    AITER_NO_UNROLL
    for (int i = thread_index(); i < size; i += block_threads()) f(begin + i * N, packs[i]);
  }
  // The same for this thread's neighbours, in their order.
  template <class F>
  AITER_DEVICE void each_of_run(F&& f) const {
    const int32_t first = thread_index() * run, end = min(first + run, size);
    AITER_NO_UNROLL
    for (int32_t i = first; i < end; ++i) f(begin + i * N, packs[i]);
  }
};

// Takes the place of WeightRow.
template <class T, int N>
struct ResidentRow : ResidentPacks<T, N> {
  using Element = T;
  using ResidentPacks<T, N>::team, ResidentPacks<T, N>::packs, ResidentPacks<T, N>::size;
  using ResidentPacks<T, N>::run, ResidentPacks<T, N>::begin;
  static constexpr int kPack = N;
  static constexpr bool kResident = true;
  const T* x;
  int64_t count;
  float largest;  // of this block, NaN passed over

  AITER_DEVICE ResidentRow(const Team& team_, const T* row, int64_t n, char* shared)
      : ResidentPacks<T, N>(team_, row, n, from_float<T>(kNaN), shared),
        x(row),
        count(n),
        largest(-kInfinity) {
    each([&](int64_t, const float (&v)[N]) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) largest = fmax(largest, v[k]);
    });
  }

  AITER_DEVICE static uint32_t key_of(float v) { return Key<float>::of(bit_cast<uint32_t>(v)); }

  // Where it is stays open.
  AITER_DEVICE Best best(TeamScratch<Best>& scratch) const {
    float* waves = reinterpret_cast<float*>(scratch.waves);
    float (&slots)[kMaxTeam] = reinterpret_cast<float (&)[kMaxTeam]>(scratch.ranks);
    const int wave = thread_index() / kWave, lane = thread_index() % kWave;
    float value = wave_reduce<Max>(largest);
    if (lane == 0) waves[wave] = value;
    barrier();
    if (wave == 0) {
      value = wave_reduce<Max>(lane < block_threads() / kWave ? waves[lane] : -kInfinity);
      if (lane < team.size) *team.of_rank(slots + team.rank, lane) = value;
    }
    team.barrier();
    value = slots[0];
    AITER_UNROLL
    for (int i = 1; i < kMaxTeam; ++i) value = max(value, i < team.size ? slots[i] : -kInfinity);
    return {value, 0};
  }

  // Calls f(i, v) for the elements v from row[i] on, N at a time, NaN past the end.
  template <class F>
  AITER_DEVICE void each(F&& f) const {
    this->each_pack([&](uint32_t i, const Pack<T, N>& pack) {
      float v[N];
      pack.to_floats(v);
      f(int64_t{i}, v);
    });
  }

  // The mass of all keys of at least `least`.
  AITER_DEVICE uint64_t mass(uint32_t least, const Weights& weights, DrawScratch& s) const {
    turn ^= 1;
    add_up_team(add_up(least, weights), s);
    uint64_t total = 0;
    for (int i = 0; i < team.size; ++i) total += s.totals[turn][i];
    return total;
  }

  // Draws an element, of those whose key is at least `least`. top_p is of the mass `whole`, or where that
  // is 0 of theirs. What is one number for all is computed by one thread of each block.
  AITER_DEVICE int64_t draw(uint32_t least, const Weights& weights, float top_p, uint64_t whole,
                            const Philox& random, DrawScratch& s) const {
    uint64_t limit = 0;
    AITER_NO_UNROLL
    for (uint32_t i = 0;; ++i) {
      turn ^= 1;
      const uint64_t own = add_up(least, weights), of_wave = add_up_team(own, s);
      if (thread_index() == 0) {
        const uint64_t (&totals)[kMaxTeam] = s.totals[turn];
        uint64_t mass = 0;
        for (int r = 0; r < team.size; ++r) mass += totals[r];
        if (i == 0) limit = share(top_p, whole ? whole : mass);
        int rank = -1;
        if (i == 0 || mass >= limit) {
          uint64_t target = multiply_high(random.number(i), mass);
          for (rank = 0; rank + 1 < team.size && target >= totals[rank]; ++rank)
            target -= totals[rank];
          s.target = target;
        }
        s.rank = rank;
      }
      barrier();
      if (s.rank < 0) return s.found;
      if (s.rank == team.rank) {
        const uint64_t before = s.before[thread_index() / kWave], target = s.target;
        if (before <= target && target < before + of_wave)
          find(own, target - before, least, weights, s);
      }
      team.barrier();
      if (!(top_p < 1)) return s.found;
      least = s.key + 1;
    }
  }

 private:
  mutable int turn = 0;  // other blocks may still look at the totals of the turn before

  // The sums of the row's blocks in s.totals, and of the waves before each one of this block in s.before.
  // Returns that of this wave.
  AITER_DEVICE uint64_t add_up_team(uint64_t own, DrawScratch& s) const {
    const int wave = thread_index() / kWave, lane = thread_index() % kWave;
    const uint64_t of_wave = wave_reduce<Sum>(own);
    if (lane == 0) s.waves[wave] = of_wave;
    barrier();
    if (wave == 0) {
      const uint64_t sum = lane < block_threads() / kWave ? s.waves[lane] : 0;
      const uint64_t through = wave_scan(sum), all = shuffle(through, kWave - 1);
      s.before[lane] = through - sum;
      if (lane < team.size) *team.of_rank(&s.totals[turn][team.rank], lane) = all;
    }
    team.barrier();
    return of_wave;
  }

  AITER_DEVICE uint64_t add_up(uint32_t least, const Weights& weights) const {
    const bool all = !least && !weights.least;
    if (weights.probs)
      return all ? add_up<true, true>(least, weights) : add_up<true, false>(least, weights);
    return all ? add_up<false, true>(least, weights) : add_up<false, false>(least, weights);
  }

  template <bool kProbs, bool kAll>
  AITER_DEVICE uint64_t add_up(uint32_t least, const Weights& weights) const {
    const float floor = least ? float_of_key(least) : -kInfinity;
    const float something = kAll ? weights.nothing : max(floor, weights.nothing);
    uint64_t sum = 0;
    this->each_of_run([&](uint32_t, const Pack<T, N>& pack) {
      float v[N];
      pack.to_floats(v);
      float most = v[0];
      AITER_UNROLL
      for (int k = 1; k < N; ++k) most = fmax(most, v[k]);
      if (!(most >= something)) return;  // those of a wave are often all too small
      uint32_t q[N];
      sum += weigh<kProbs, kAll>(weights, floor, v, q);
    });
    return sum;
  }

  // By the wave that has the element, from the sums of its threads.
  AITER_DEVICE void find(uint64_t own, uint64_t rest, uint32_t least, const Weights& weights,
                         DrawScratch& s) const {
    const float floor = least ? float_of_key(least) : -kInfinity;
    const int lane = thread_index() % kWave;
    uint64_t through = wave_scan(own);
    const int found = wave_reduce<Max>(through - own <= rest && rest < through ? lane : -1);
    rest -= shuffle(through - own, found);
    int32_t first = (thread_index() - lane + found) * run;
    const int32_t end = min(first + run, size);
    for (; first < end; first += kWave) {
      const int32_t i = first + lane;
      float v[N] = {};
      uint32_t q[N] = {}, sum = 0;
      if (i < end) {
        packs[i].to_floats(v);
        sum = weights.probs ? weigh<true, false>(weights, floor, v, q)
                            : weigh<false, false>(weights, floor, v, q);
      }
      through = wave_scan(uint64_t{sum});
      const uint64_t all = shuffle(through, kWave - 1);
      if (through - sum <= rest && rest < through) {
        uint64_t left = rest - (through - sum);
        int at = -1;
        AITER_UNROLL
        for (int k = 0; k < N; ++k) {
          if (at >= 0) continue;
          if (left < q[k])
            at = k, v[0] = v[k];
          else
            left -= q[k];
        }
        for (int r = 0; r < team.size; ++r) {
          DrawScratch& to = *team.of_rank(&s, r);
          to.found = int64_t{begin} + i * N + at;
          to.key = key_of(v[0]);
        }
      }
      if (rest < all) return;
      rest -= all;
    }
  }
};

}  // namespace aiter
#endif
