// Group norms: a block, or a team of them, takes a group of an image, or a bundle of neighbouring groups.
// What fits into shared memory is kept there between the passes; the rest is read again for the
// result, from the cache.
#pragma once

#include "ck/core/mma_nvidia.h"
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

// All blocks of a team have begun when each of their threads has been at both, and each other's shared
// memory may be written to. What is between them does not wait.
AITER_DEVICE void begin_meeting(const Team& team) {
#if !defined(AITER_AMD) && __CUDA_ARCH__ >= 900
  if (team.size > 1) asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}
AITER_DEVICE void end_meeting(const Team& team) {
#if !defined(AITER_AMD) && __CUDA_ARCH__ >= 900
  if (team.size > 1) asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#endif
}

// How threads go through the packs of a bundle: rows of one channel each or, with channels last, of the
// bundle's channels at one place.
enum class GroupOrder {
  kRows,    // row by row, whatever lies between them
  kFlat,    // the same, where nothing does
  kPlaces,  // place by place: a thread keeps to its channels
};

// The virtual threads of all parts of a bundle, block_threads() of each, go through its packs, of N
// elements, in steps.
template <int N, class Index, GroupOrder kOrder>
struct GroupSteps {
  static constexpr bool kPlaces = kOrder == GroupOrder::kPlaces;
  Index row_packs, rows, rows_a_step, packs_a_step;
  int rows_of_part;  // kPlaces: that its threads take at once
  int64_t begin, end, row_stride, elements_a_step, between_rows;

  AITER_DEVICE GroupSteps(const GroupnormArgs& a, int64_t channels, int64_t first) : begin(first) {
    const int threads = block_threads() * a.parts;
    row_packs = static_cast<Index>((a.channels_last ? channels : a.space) / N);
    rows = static_cast<Index>(a.channels_last ? a.space : channels);
    end = begin + channels * a.space;  // kFlat
    row_stride = a.channels_last ? a.channels : a.space;
    rows_of_part = kPlaces ? block_threads() / static_cast<int>(row_packs) : 0;
    if (kPlaces)
      rows_a_step = rows_of_part * a.parts;
    else
      rows_a_step = row_packs <= threads ? threads / static_cast<int>(row_packs) : 0;
    packs_a_step = kPlaces ? 0 : threads - rows_a_step * row_packs;
    elements_a_step = kPlaces ? rows_a_step * row_stride : static_cast<int64_t>(threads) * N;
    between_rows = row_stride - static_cast<int64_t>(row_packs) * N;
    if (kOrder == GroupOrder::kRows) elements_a_step += rows_a_step * between_rows;
  }
};

// A pack of a bundle, the p-th of its row, that begins at element `at`.
template <int N, class Index, GroupOrder kOrder>
struct GroupPack {
  using Steps = GroupSteps<N, Index, kOrder>;
  Index row, p;
  int64_t at;

  // This thread's first one of a part.
  AITER_DEVICE GroupPack(const Steps& steps, int part) {
    int t = thread_index();
    if (!Steps::kPlaces) t += part * block_threads();
    row = Steps::kPlaces || steps.rows_a_step ? t / static_cast<int>(steps.row_packs) : 0;
    p = t - row * steps.row_packs;
    if (Steps::kPlaces)
      row = row < steps.rows_of_part ? row + part * steps.rows_of_part : steps.rows;
    at = kOrder == GroupOrder::kFlat
             ? steps.begin + static_cast<int64_t>(t) * N
             : steps.begin + row * steps.row_stride + static_cast<int64_t>(p) * N;
  }
  AITER_DEVICE bool there(const Steps& steps) const {
    return kOrder == GroupOrder::kFlat ? at < steps.end : row < steps.rows;
  }
  AITER_DEVICE void next(const Steps& steps) {
    row += steps.rows_a_step, p += steps.packs_a_step, at += steps.elements_a_step;
    if (!Steps::kPlaces && p >= steps.row_packs) {
      p -= steps.row_packs, ++row;
      if (kOrder == GroupOrder::kRows) at += steps.between_rows;
    }
  }
};

// What a thread has of its team's bundle, which is of several groups with kPlaces alone. Index counts
// the packs of a bundle. What is summed together is that of a part of the bundle, of which a block
// takes one after the other: bits do not depend on how many blocks there are.
template <class T, int N, class Index, GroupOrder kOrder>
struct GroupNorm {
  static constexpr int kLoads = GroupnormArgs::kPacks;  // packs that are loaded at once
  static constexpr bool kPlaces = kOrder == GroupOrder::kPlaces;
#if defined(AITER_AMD)
  static constexpr bool kAsync = false;
#else
  static constexpr bool kAsync = N * sizeof(T) == 16 || N * sizeof(T) == 4;
#endif
  using Steps = GroupSteps<N, Index, kOrder>;
  using Place = GroupPack<N, Index, kOrder>;
  const GroupnormArgs& a;
  T* kept;  // by the block: the first a.kept packs of each thread
  Team team;
  int parts;                         // of the block
  int of_bundle;                     // groups
  int64_t in_group, image, channel;  // channels of a group; the image and the first channel
  Steps steps;
  float mean, scale;  // of the thread's group

  AITER_DEVICE GroupNorm(const GroupnormArgs& args, char* shared)
      : a(args),
        kept(reinterpret_cast<T*>(shared)),
        team(Team::own(false)),
        parts(a.parts / team.size),
        of_bundle(kPlaces ? a.bundle : 1),
        in_group(a.channels / a.groups),
        image(group() / a.groups),
        channel((group() - image * a.groups) * in_group),
        steps(a, in_group * of_bundle,
              image * a.channels * a.space + channel * (a.channels_last ? 1 : a.space)) {
    begin_meeting(team);
  }

  // The bundle's first.
  AITER_DEVICE int64_t group() const {
    return (block_index_y() * team.row_step() + team.first_row()) * of_bundle;
  }

  // The grid may have blocks that have none.
  AITER_DEVICE bool there() const { return group() < a.batch * a.groups; }

  // The first pack of a part of the block.
  AITER_DEVICE Place first(int part) const { return Place(steps, team.rank * parts + part); }

  AITER_DEVICE T* keep(int c) const { return kept + (c * block_threads() + thread_index()) * N; }

  // Calls f(place, Full<..>{}) for each kLoads packs of a part of the block: whether all are there.
  template <class F>
  AITER_DEVICE void each_batch(int part, F&& f) const {
    AITER_NO_UNROLL
    for (Place place = first(part); place.there(steps);) {
      Place last = place;
      AITER_UNROLL
      for (int i = 1; i < kLoads; ++i) last.next(steps);
      if (last.there(steps))
        f(place, Full<true>{});
      else
        f(place, Full<false>{});
      last.next(steps);
      place = last;
    }
  }
  template <bool kFull>
  struct Full {
    static constexpr bool value = kFull;
  };

  // Packs from `place` on, from where from(i, at) says; returns how many are there.
  template <bool kFull, class From>
  AITER_DEVICE int load(Place place, Pack<T, N> (&pack)[kLoads], From&& from) const {
    int here = kFull ? kLoads : 0;
    AITER_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      if (!kFull) pack[i] = {};  // compilers compute with what is not there, and drop the result
      if (kFull || place.there(steps)) {
        pack[i] = load_pack<N>(from(i, place.at));
        if (!kFull) ++here;
      }
      place.next(steps);
    }
    return here;
  }

  // Starts to copy what is kept, all of it: no register waits for it.
  AITER_DEVICE void copy_kept() const {
#if !defined(AITER_AMD)
    int c = 0;
    for (int part = 0; part < parts; ++part)
      each_batch(part, [&] AITER_LAMBDA(Place place, auto full) {
        if (c >= a.kept) return;
        AITER_UNROLL
        for (int i = 0; i < kLoads; ++i) {
          const void* from = static_cast<const T*>(a.x) + place.at;
          const uint32_t to = shared_address(keep(c + i));
          if (decltype(full)::value || place.there(steps)) {
            if constexpr (N * sizeof(T) == 16)
              copy_async16(to, from, true);
            else
              copy_async4(to, from, true);
          }
          place.next(steps);
        }
        c += kLoads;
      });
    copy_async_commit();
    copy_async_wait<0>();
#endif
  }

  // Reads the bundle, writes its sum with the residual, and finds mean and scale.
  AITER_DEVICE void read() {
    AITER_SHARED Moments of_threads[GroupnormArgs::kThreads];
    AITER_SHARED Moments of_parts[kPlaces ? 32 : 1][kMaxTeam];
    if (kAsync && !a.residual && a.kept) copy_kept();

    // The threads of a group lie next to each other, and a wave merges them.
    int own = 0, members = block_threads(), member = thread_index();
    if constexpr (kPlaces) {
      const int packs = static_cast<int>(steps.row_packs), of_group = packs / of_bundle;
      const int rows = block_threads() / packs, row = thread_index() / packs;
      const int p = thread_index() - row * packs;
      own = p / of_group;
      members = rows * of_group;
      member = row * of_group + p - own * of_group;
    }
    const int waves = block_threads() / kWave;
    const int wave = thread_index() / kWave, lane = thread_index() % kWave;
    int c = 0;
    AITER_NO_UNROLL
    for (int i = 0; i < parts; ++i) {
      const Moments of_thread = a.residual ? read_part<true>(i, c) : read_part<false>(i, c);
      if (i > 0) barrier();  // the part before has been merged
      if (member < members) of_threads[own * members + member] = of_thread;
      barrier();
      if (i == 0) end_meeting(team);
      for (int g = (wave + i) % waves; g < of_bundle; g += waves) {
        const Moments part = merge<kWave>(
            members, [&] AITER_LAMBDA(int j) -> Moments { return of_threads[g * members + j]; });
        if (lane < team.size) *team.of_rank(&of_parts[g][team.rank * parts + i], lane) = part;
      }
    }
    team.barrier();
    const Moments all =
        merge<1>(a.parts, [&] AITER_LAMBDA(int i) -> Moments { return of_parts[own][i]; });
    mean = all.mean;
    scale = rsqrt_fast(fma(all.squares, reciprocal_fast(all.count), a.eps));
  }

  // What the thread has of a part, from its c-th pack on. Deviations are from the mean of the first pack.
  template <bool kAdds>
  AITER_DEVICE Moments read_part(int index, int& c) const {
    constexpr bool kCopied = kAsync && !kAdds;
    Moments part{};
    float center = 0, deviations = 0;
    bool begun = false;
    each_batch(index, [&] AITER_LAMBDA(Place place, auto full) {
      constexpr bool kFull = decltype(full)::value;
      Pack<T, N> pack[kLoads];
      int here;
      if (kCopied && c < a.kept)
        here = load<kFull>(place, pack,
                           [&] AITER_LAMBDA(int i, int64_t) -> const T* { return keep(c + i); });
      else
        here = load<kFull>(place, pack, [&] AITER_LAMBDA(int, int64_t at) -> const T* {
          return static_cast<const T*>(a.x) + at;
        });
      if constexpr (kAdds) {
        Pack<T, N> more[kLoads];
        load<kFull>(place, more, [&] AITER_LAMBDA(int, int64_t at) -> const T* {
          return static_cast<const T*>(a.residual) + at;
        });
        AITER_UNROLL
        for (int i = 0; i < kLoads; ++i) {
          float v[N], r[N];
          pack[i].to_floats(v);
          more[i].to_floats(r);
          AITER_UNROLL
          for (int k = 0; k < N; ++k) v[k] += r[k];
          pack[i] = Pack<T, N>::from_floats(v);
          if (kFull || i < here) store_at_once(static_cast<T*>(a.sum) + place.at, pack[i]);
          place.next(steps);
        }
      }
      if (!begun) {
        float v[N];
        pack[0].to_floats(v);
        AITER_UNROLL
        for (int k = 0; k < N; ++k) center += v[k];
        center *= 1.0f / N;
        begun = true;
      }
      part.count += static_cast<float>(here * N);
      AITER_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        if (!kFull && i >= here) break;
        float v[N];
        pack[i].to_floats(v);
        AITER_UNROLL
        for (int k = 0; k < N; ++k) {
          v[k] -= center;
          deviations += v[k];
          part.squares = fma(v[k], v[k], part.squares);
        }
        if (!kCopied && c < a.kept) store_pack<N>(keep(c + i), pack[i]);
      }
      c += kLoads;
    });
    const float shift = divide_fast(deviations, max(part.count, 1.0f));
    part.mean = center + shift;
    part.squares = fma(-shift, deviations, part.squares);
    return part;
  }

  // Those of the bundle's groups, which their first threads know after read().
  AITER_DEVICE void write_moments() const {
    const int of_group = kPlaces ? static_cast<int>(steps.row_packs) / of_bundle : 1;
    const int t = thread_index(), g = t / of_group;
    if (!team.leads() || g >= of_bundle || t != g * of_group) return;
    a.moments[2 * (group() + g)] = mean;
    a.moments[2 * (group() + g) + 1] = scale;
  }

  // Calls f(pack, place) for all packs of this thread, after read().
  template <class F>
  AITER_DEVICE void each_pack(F&& f) {
    const T* stored = static_cast<const T*>(a.residual ? a.sum : a.x);
    int c = 0;
    AITER_NO_UNROLL
    for (int part = 0; part < parts; ++part)
      each_batch(part, [&] AITER_LAMBDA(Place place, auto full) {
        constexpr bool kFull = decltype(full)::value;
        Pack<T, N> pack[kLoads];
        if (c < a.kept)
          load<kFull>(place, pack,
                      [&] AITER_LAMBDA(int i, int64_t) -> const T* { return keep(c + i); });
        else
          load<kFull>(place, pack,
                      [&] AITER_LAMBDA(int, int64_t at) -> const T* { return stored + at; });
        AITER_UNROLL
        for (int i = 0; i < kLoads; ++i) {
          if (kFull || place.there(steps)) f(pack[i], place);
          place.next(steps);
        }
        c += kLoads;
      });
  }
};

}  // namespace aiter
