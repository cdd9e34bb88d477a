// Group norms: a block, or a team of them, takes a group of an image, or a bundle of neighbouring groups.
// What fits into shared memory is kept there between the passes; the rest is read again for the
// result, from the cache.
#pragma once

#include "ck/core/pack.h"
#include "ck/core/team.h"
#include "ops/norm/groupnorm/groupnorm_args.h"

namespace aiter {

// store_pack, as one instruction: of several stores in branches of their own, nvcc makes four of each.
template <class T, int N>
AITER_DEVICE void store_at_once(T* to, const Pack<T, N>& pack) {
#if !defined(AITER_AMD)
  if constexpr (N * sizeof(T) == 16) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(pack.words[0]),
                 "r"(pack.words[1]), "r"(pack.words[2]), "r"(pack.words[3])
                 : "memory");
    return;
  }
#endif
  store_pack<N>(to, pack);
}

// Of some numbers: squares of their deviations from their mean.
struct Moments {
  float count, mean, squares;
};

// Of the numbers of all `parts`: part(i) has their moments. With lanes > 1, those of a wave share them.
template <int kLanes, class Part>
AITER_DEVICE Moments merge(int parts, Part&& part) {
  const int first = kLanes > 1 ? thread_index() % kLanes : 0;
  Moments all{};
  _Pragma("unroll 4") for (int i = first; i < parts; i += kLanes) {
    const Moments m = part(i);
    all.count += m.count;
    all.mean = fma(m.count, m.mean, all.mean);
  }
  all.count = wave_reduce<Sum, kLanes>(all.count);
  all.mean = divide_fast(wave_reduce<Sum, kLanes>(all.mean), max(all.count, 1.0f));
  _Pragma("unroll 4") for (int i = first; i < parts; i += kLanes) {
    const Moments m = part(i);
    const float shift = m.mean - all.mean;
    all.squares += fma(shift * shift, m.count, m.squares);
  }
  all.squares = wave_reduce<Sum, kLanes>(all.squares);
  return all;
}

// What a bundle is to a team: rows of one channel each or, with channels last, of the bundle's channels
// at one place. Threads go through its packs, of N elements, in steps; with kPlaces through the places, so
// that each keeps to its channels.
template <int N, class Index, bool kPlaces>
struct GroupSteps {
  Index row_packs, rows, rows_a_step, packs_a_step;
  int64_t row_stride, elements_a_step, between_rows;

  AITER_DEVICE GroupSteps(const GroupnormArgs& a, int64_t channels, const Team& team) {
    const int threads = block_threads() * team.size;
    row_packs = static_cast<Index>((a.channels_last ? channels : a.space) / N);
    rows = static_cast<Index>(a.channels_last ? a.space : channels);
    row_stride = a.channels_last ? a.channels : a.space;
    rows_a_step = row_packs <= threads ? threads / static_cast<int>(row_packs) : 0;
    if (kPlaces) rows_a_step = block_threads() / static_cast<int>(row_packs) * team.size;
    packs_a_step = kPlaces ? 0 : threads - rows_a_step * row_packs;
    elements_a_step = rows_a_step * row_stride + static_cast<int64_t>(packs_a_step) * N;
    between_rows = row_stride - static_cast<int64_t>(row_packs) * N;
  }
};

// A pack of a bundle, the p-th of its row, that begins at element `at`.
template <int N, class Index, bool kPlaces>
struct GroupPack {
  using Steps = GroupSteps<N, Index, kPlaces>;
  Index row, p;
  int64_t at;

  // This thread's first one, of the bundle that begins at element `first`.
  AITER_DEVICE GroupPack(const Steps& steps, const Team& team, int64_t first) {
    int t = thread_index();
    if (!kPlaces) t += team.rank * block_threads();
    row = steps.rows_a_step ? t / static_cast<int>(steps.row_packs) : 0;
    p = t - row * steps.row_packs;
    if (kPlaces) {
      const int rows_of_block = block_threads() / static_cast<int>(steps.row_packs);
      row = row < rows_of_block ? row + team.rank * rows_of_block : steps.rows;
    }
    at = first + row * steps.row_stride + static_cast<int64_t>(p) * N;
  }
  AITER_DEVICE bool there(const Steps& steps) const { return row < steps.rows; }
  AITER_DEVICE void next(const Steps& steps) {
    row += steps.rows_a_step, p += steps.packs_a_step, at += steps.elements_a_step;
    if (!kPlaces && p >= steps.row_packs) p -= steps.row_packs, ++row, at += steps.between_rows;
  }
};

// What a thread has of its team's bundle, which is of several groups with kPlaces alone. Index counts
// the packs of a bundle. With kKept, the launch makes room in `shared` for the packs that are kept.
template <class T, int N, class Index, bool kPlaces, bool kKept>
struct GroupNorm {
  static constexpr int kLoads = GroupnormArgs::kPacks;  // packs that are loaded at once
  using Steps = GroupSteps<N, Index, kPlaces>;
  using Place = GroupPack<N, Index, kPlaces>;
  const GroupnormArgs& a;
  T* kept;        // by the block
  int most_kept;  // packs of a thread
  Team team;
  int of_bundle;           // groups
  int64_t group, channel;  // the bundle's first
  Steps steps;
  Place first;
  float mean, scale;  // of the thread's group

  AITER_DEVICE GroupNorm(const GroupnormArgs& args, char* shared)
      : a(args),
        kept(reinterpret_cast<T*>(shared)),
        most_kept(kKept ? GroupnormArgs::kThreads * GroupnormArgs::kPacks * 1024 / kWave /
                              (block_threads() * N * static_cast<int>(sizeof(T))) / kLoads * kLoads
                        : 0),
        team(Team::own()),
        of_bundle(kPlaces ? a.bundle : 1),
        group((block_index_y() * team.row_step() + team.first_row()) * of_bundle),
        channel(group % a.groups * (a.channels / a.groups)),
        steps(a, a.channels / a.groups * of_bundle, team),
        first(steps, team,
              group / a.groups * a.channels * a.space + channel * (a.channels_last ? 1 : a.space)) {
  }

  // The grid may have blocks that have none.
  AITER_DEVICE bool there() const { return group < a.batch * a.groups; }

  AITER_DEVICE T* keep(int c) const { return kept + (c * block_threads() + thread_index()) * N; }

  // Reads the bundle, writes its sum with the residual, and finds mean and scale. A thread's deviations
  // are from the mean of its first packs.
  AITER_DEVICE void read() {
    AITER_SHARED Moments of_threads[GroupnormArgs::kThreads];
    AITER_SHARED Moments of_blocks[kPlaces ? 32 : 1][kMaxTeam];
    Moments part{};
    float center = 0, deviations = 0;
    int c = 0;
    AITER_NO_UNROLL
    for (Place place = first; place.there(steps); c += kLoads) {
      Pack<T, N> pack[kLoads], more[kLoads];
      Place ahead = place;
      int here = 0;
      AITER_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        pack[i] = more[i] = {};  // compilers compute with what is not there, and drop the result
        if (ahead.there(steps)) {
          pack[i] = load_pack<N>(static_cast<const T*>(a.x) + ahead.at);
          if (a.residual) more[i] = load_pack<N>(static_cast<const T*>(a.residual) + ahead.at);
          ++here;
        }
        ahead.next(steps);
      }
      if (a.residual) {
        AITER_UNROLL
        for (int i = 0; i < kLoads; ++i) {
          float v[N], r[N];
          pack[i].to_floats(v);
          more[i].to_floats(r);
          AITER_UNROLL
          for (int k = 0; k < N; ++k) v[k] += r[k];
          pack[i] = Pack<T, N>::from_floats(v);
          if (i < here) store_at_once(static_cast<T*>(a.sum) + place.at, pack[i]);
          place.next(steps);
        }
      }
      place = ahead;
      if (c == 0) {
        AITER_UNROLL
        for (int i = 0; i < kLoads; ++i) {
          float v[N];
          pack[i].to_floats(v);
          AITER_UNROLL
          for (int k = 0; k < N; ++k) center += v[k];
          pack[i].forget();
        }
        center = divide_fast(center, static_cast<float>(here * N));
      }
      part.count += static_cast<float>(here * N);
      AITER_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        if (i >= here) break;
        float v[N];
        pack[i].to_floats(v);
        AITER_UNROLL
        for (int k = 0; k < N; ++k) {
          v[k] -= center;
          deviations += v[k];
          part.squares = fma(v[k], v[k], part.squares);
        }
        if (kKept && c < most_kept) store_pack<N>(keep(c + i), pack[i]);
      }
    }
    const float shift = divide_fast(deviations, max(part.count, 1.0f));
    part.mean = center + shift;
    part.squares = fma(-shift, deviations, part.squares);

    // The threads of a group lie next to each other, and a wave merges them.
    int own = 0, members = block_threads(), member = thread_index();
    if constexpr (kPlaces) {
      const int packs = static_cast<int>(steps.row_packs), of_group = packs / of_bundle;
      const int rows = block_threads() / packs, p = static_cast<int>(first.p);
      own = p / of_group;
      members = rows * of_group;
      member = thread_index() / packs * of_group + p - own * of_group;
    }
    if (member < members) of_threads[own * members + member] = part;
    barrier();
    const int wave = thread_index() / kWave, lane = thread_index() % kWave;
    for (int g = wave; g < of_bundle; g += block_threads() / kWave) {
      part = merge<kWave>(
          members, [&] AITER_LAMBDA(int i) -> Moments { return of_threads[g * members + i]; });
      if (lane < team.size) *team.of_rank(&of_blocks[g][team.rank], lane) = part;
    }
    team.barrier();
    part = merge<1>(team.size, [&] AITER_LAMBDA(int i) -> Moments { return of_blocks[own][i]; });
    mean = part.mean;
    scale = rsqrt_fast(fma(part.squares, reciprocal_fast(part.count), a.eps));
  }

  // Calls f(pack, place) for all packs of this thread, after read().
  template <class F>
  AITER_DEVICE void each_pack(F&& f) {
    const T* stored = static_cast<const T*>(a.residual ? a.sum : a.x);
    int c = 0;
    AITER_NO_UNROLL
    for (Place place = first; place.there(steps); c += kLoads) {
      Pack<T, N> pack[kLoads];
      auto load = [&] AITER_LAMBDA(auto&& from) {
        Place ahead = place;
        AITER_UNROLL
        for (int i = 0; i < kLoads; ++i) {
          pack[i] = {};
          if (ahead.there(steps)) pack[i] = load_pack<N>(from(i, ahead.at));
          ahead.next(steps);
        }
      };
      if (kKept && c < most_kept)
        load([&] AITER_LAMBDA(int i, int64_t) -> const T* { return keep(c + i); });
      else
        load([&] AITER_LAMBDA(int, int64_t at) { return stored + at; });
      AITER_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        if (place.there(steps)) f(pack[i], place);
        place.next(steps);
      }
    }
  }
};

}  // namespace aiter
