// Some lanes of a wave, a power of two, take a head of a token. In hip_vec they hold it in registers,
// in hip_any, if it changes on its way, in shared memory. hip_plain and hip_codes are hip_vec for what
// most models have, in kernels that know more of what there is to do. hip_pool has heads that are means
// of lines in registers, of several waves if they are long, or if they have many lines.
#include "ck/kvcache/cache_write.h"
#include "ck/kvcache/pooled_dims.h"
#include "ck/rope/head_norm_rope.h"
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache_args.h"

namespace aiter {

using FusedArgs = FusedQkRopeReshapeAndCacheArgs;

// Where a head goes: its first dim is `at`.
struct Place {
  const FusedArgs& a;
  const FusedArgs::Target& target;
  int64_t page, head, at;
  uint32_t slot;

  AITER_DEVICE Place(const FusedArgs& args, const FusedArgs::Target& its_target, int64_t its_page,
                     uint32_t its_slot, int64_t its_head)
      : a(args),
        target(its_target),
        page(its_page),
        head(its_head),
        at(target.to.at_slot(page, its_slot) + head * target.to.head),
        slot(its_slot) {}

  AITER_DEVICE float given_factor() const {
    return target.quant == CacheQuant::kStatic && target.scale.data
               ? 1.0f / target.scale.data[target.scale_at(page, slot, head, 0)]
               : 1.0f;
  }
  AITER_DEVICE void store_scale(int64_t group, const Scale& scale) const {
    const int64_t index = target.scale_at(page, slot, head, group);
    for (int64_t i = 0; i < int64_t{1} << target.scale_bits; ++i)
      if (target.scale_dtype == DType::kF8E8M0 && !target.whole_scale)
        reinterpret_cast<uint8_t*>(target.scale.data)[index + i] = static_cast<uint8_t>(scale.code);
      else
        target.scale.data[index + i] = scale.value;
  }
  AITER_DEVICE QuantSpec spec() const {
    return {a.code, target.scale_dtype, MxRound::kUp, __builtin_inff(), 1.0f, nullptr};
  }
};

// N numbers, from dim d of the target on.
template <class T, int N>
AITER_DEVICE void put_numbers(const Place& place, int64_t d, const float (&v)[N]) {
  const FusedArgs::Target& target = place.target;
  const int64_t to = place.at + target.to.at_dim(static_cast<uint32_t>(d));
  if (target.whole && target.dtype == place.a.dtype)
    return store_floats<N>(static_cast<T*>(target.to.data) + to, v);
  AITER_UNROLL
  for (int k = 0; k < N; ++k)
    store_float(target.to.data, place.at + target.to.at_dim(static_cast<uint32_t>(d + k)),
                target.dtype, v[k]);
}

template <class Codec, int N>
AITER_DEVICE void put_codes(const Place& place, int64_t d, const float (&v)[N], float factor) {
  constexpr int kBytes = N * Codec::kBits / 8;
  const CacheLayout& to = place.target.to;
  const uint32_t first = static_cast<uint32_t>(d * Codec::kBits / 8);
  uint8_t* codes = static_cast<uint8_t*>(to.data) + place.at;
  struct Words {
    uint32_t words[N / 4];
  } packed;
  Codes<Codec>(place.a.code).encode(v, factor, packed.words);
  if (place.target.whole) {
    if constexpr (kBytes >= 4) {
      struct alignas(kBytes) Bytes {
        uint32_t words[kBytes / 4];
      } whole;
      AITER_UNROLL
      for (int i = 0; i < kBytes / 4; ++i) whole.words[i] = packed.words[i];
      *reinterpret_cast<Bytes*>(codes + to.at_dim(first)) = whole;
    } else {
      *reinterpret_cast<uint16_t*>(codes + to.at_dim(first)) =
          static_cast<uint16_t>(packed.words[0]);
    }
    return;
  }
  AITER_UNROLL
  for (int i = 0; i < kBytes; ++i)
    codes[to.at_dim(first + i)] = static_cast<uint8_t>(packed.words[i / 4] >> i % 4 * 8);
}

// The head is in registers. All lanes of the wave must call it, or, as most_of(amax, lanes), the largest
// of so many lanes, has it.
template <class T, class Most>
AITER_DEVICE void put(const Place& place, const HeadOfToken& head, const HeadPacks<T>& packs,
                      const float (&v)[2][HeadPacks<T>::N], bool goes, Most&& most_of) {
  const FusedArgs::Target& target = place.target;
  const bool dynamic = target.quant == CacheQuant::kDynamic;
  const int lanes = target.lanes_per_group ? target.lanes_per_group : head.lanes;
  int d[2];  // of the target
  bool has[2];
  AITER_UNROLL
  for (int i = 0; i < 2; ++i) {
    d[i] = packs.d[i] - target.begin;
    has[i] = packs.has[i] && d[i] >= 0 && d[i] < target.count;
  }
  float amax = 0;
  if (dynamic) {
    AITER_UNROLL
    for (int i = 0; i < 2; ++i)
      if (has[i]) amax = max_magnitude(amax, v[i]);
    amax = most_of(amax, lanes);
  }
  if (!goes) return;
  if (target.quant == CacheQuant::kNone) {
    AITER_UNROLL
    for (int i = 0; i < 2; ++i)
      if (has[i]) put_numbers<T>(place, d[i], v[i]);
    return;
  }
  const float given = place.given_factor(), floor = target.amax_floor;
  const QuantSpec spec = place.spec();
  Scale scale{};
  with_head_codec(place.a.code, [&] AITER_LAMBDA(auto codec) {
    using Codec = decltype(codec);
    if (dynamic) scale = cache_scale<Codec>(amax, floor, spec);
    const float factor = dynamic ? scale.factor : given;
    AITER_UNROLL
    for (int i = 0; i < 2; ++i)
      if (has[i]) put_codes<Codec>(place, d[i], v[i], factor);
  });
  if (!dynamic) return;
  if (target.lanes_per_group == 0) {
    if (head.lane == 0) place.store_scale(0, scale);
  } else if (has[0]) {  // a group is a power of two of dims
    const uint32_t group = static_cast<uint32_t>(target.group), dim = static_cast<uint32_t>(d[0]);
    if ((dim & (group - 1)) == 0) place.store_scale(dim >> (31 - __builtin_clz(group)), scale);
  }
}

// A head of any size, of which number(d) is dim d. All lanes of the wave must call it.
template <class Number>
AITER_DEVICE void put_dims(const Place& place, const HeadOfToken& head, bool goes,
                           Number&& number) {
  const FusedArgs::Target& target = place.target;
  const bool dynamic = target.quant == CacheQuant::kDynamic;
  const int64_t group = dynamic ? target.group : target.count;
  const AnyCodes format(place.a.code);
  const CacheLayout& to = target.to;
  AITER_NO_UNROLL
  for (int64_t g = 0; g * group < target.count; ++g) {
    const int64_t begin = g * group, end = min<int64_t>(begin + group, target.count);
    float factor = place.given_factor();
    if (dynamic) {
      float amax = 0;
      if (goes)
        for (int64_t d = begin + head.lane; d < end; d += head.lanes) {
          const float one[1] = {number(target.begin + d)};
          amax = max_magnitude(amax, one);
        }
      amax = lanes_reduce<Max>(amax, head.lanes);
      const Scale scale = cache_scale(amax, target.amax_floor, place.spec(), format);
      if (goes && head.lane == 0) place.store_scale(g, scale);
      factor = scale.factor;
    }
    if (!goes) continue;
    const bool pairs = target.quant != CacheQuant::kNone && format.bits == 4;
    const int step = pairs ? 2 : 1;
    AITER_NO_UNROLL
    for (int64_t d = begin + step * head.lane; d < end; d += step * head.lanes) {
      const float x = number(target.begin + d);
      const int64_t at = place.at + to.at_dim(static_cast<uint32_t>(pairs ? d >> 1 : d));
      if (target.quant == CacheQuant::kNone) {
        store_float(to.data, at, target.dtype, x);
        continue;
      }
      uint32_t code = format.encode(x * factor);
      if (pairs) code |= format.encode(number(target.begin + d + 1) * factor) << 4;
      static_cast<uint8_t*>(to.data)[at] = static_cast<uint8_t>(code);
    }
  }
}

// Dim d of a head that is a weighted mean of lines.
AITER_DEVICE float pooled(const PooledHeads& pool, const PooledHeads::Plan& plan, int64_t state,
                          int64_t d) {
  float most = -kLargest, weights = 0, sum = 0;
  AITER_NO_UNROLL
  for (int k = pool.first(plan); k < pool.count; ++k) {
    PooledHeads::At at{};
    if (!pool.find(plan, state, k, at)) continue;
    const PooledHeads::Lines& kv = at.kept ? pool.kv_state : pool.kv;
    const PooledHeads::Lines& scores = at.kept ? pool.score_state : pool.score;
    float score = load_float(scores.data, at.score + d, scores.dtype);
    if (!at.kept) score += load_float(pool.bias.data, at.bias + d, pool.bias.dtype);
    const float now = max(most, score), before = exp(most - now), weight = exp(score - now);
    weights = weights * before + weight;
    sum = sum * before + weight * load_float(kv.data, at.kv + d, kv.dtype);
    most = now;
  }
  return weights > 0 ? sum / weights : 0.0f;
}

// Heads of a part, of a token, by some lanes. All threads of the block must call it.
template <class T, bool kInRegisters>
AITER_DEVICE void write_share(const FusedArgs& a, const FusedArgs::Part& part, int part_index,
                              int64_t item) {
  AITER_DYNAMIC_SHARED(shared);
#if defined(AITER_AMD)  // whose compiler would spill what it knows of arguments
  constexpr int heads = 1;
#else
  const int heads = a.heads_at_once;
#endif
  const int lanes = part.lanes;
  const int64_t shares = (part.heads + heads - 1) / heads, items = a.tokens * shares;
  const bool there = item < items;
  const int64_t t = there ? rope_quotient(item, items, shares) : 0;
  int h = there ? static_cast<int>(item - t * shares) * heads : 0;
  const int64_t pairs = part.turns ? a.angles.pairs : 0;
  int64_t page = 0;
  uint32_t slot = 0;
  const bool found = a.cached && there && a.find(t, page, slot);
  // That of its first position turns a head of several.
  int64_t row_of_tables = t;
  bool present = there;
  PooledHeads::Plan plan{};
  if constexpr (is_same<T, f32> && !kInRegisters)
    if (a.pool.plan) {
      present = found;
      if (found) plan = a.pool.plan_of(t);
      row_of_tables = plan.position - static_cast<uint32_t>(plan.position) % a.pool.ratio;
    }
  const HeadOfToken head{part.norm,
                         a.angles,
                         part.dim,
                         row_of_tables,
                         pairs,
                         part.first,
                         part.first ? 0 : 2 * pairs,
                         thread_index() & (lanes - 1),
                         lanes,
                         present};
  auto source = [&] AITER_LAMBDA(int its_head) {
    return SummedHead<T>{
        part.from,   part.from_dtype, t * part.from_token + its_head * part.from_head,
        part.splits, part.from_split, !part.norm.on};
  };
  // Calls put(place, goes) for each target. The array, which may be the heads themselves, comes first
  // in the arguments and is written last.
  auto each_target = [&] AITER_LAMBDA(bool its_there, auto put_it) {
    AITER_NO_UNROLL
    for (int k = a.target_count - 1; k >= 0; --k) {
      const FusedArgs::Target& target = a.targets[k];
      if (target.part != part_index) continue;
      const bool to_slots = target.to_slots;
      put_it(Place(a, target, to_slots ? page : t, to_slots ? slot : 0, h),
             its_there && (to_slots || target.cached_only ? found : there));
    }
  };
  if constexpr (kInRegisters) {
    constexpr int N = HeadPacks<T>::N;
    const int end = there ? min(h + heads, static_cast<int>(part.heads)) : h;
    HeadPacks<T> packs(head);
    const bool summed = part.summed(a.dtype);
    const T* from = static_cast<const T*>(part.from) + t * part.from_token;
    HeadStream<T> stream(packs, from, part.from_head, h, summed ? h : end);
    packs.prepare(head);
    AITER_NO_UNROLL
    for (int k = 0; k < heads; ++k, ++h) {
      float v[2][N];
      if (summed) {
        typename SummedHead<T>::template Loaded<N> sums[2];
        packs.load(source(h), h < end, sums);
        AITER_UNROLL
        for (int i = 0; i < 2; ++i) sums[i].to_floats(v[i]);
      } else {
        Pack<T, N> now[2];
        stream.take(now);
        packs.to_floats(now, v);
      }
      packs.change(head, part.norm.on, v);
      packs.round(v);
      if (a.hadamard != 0.0f) packs.rotate(head, a.hadamard, v);
      each_target(h < end, [&] AITER_LAMBDA(const Place& place, bool goes) {
        put(place, head, packs, v, goes, [] AITER_LAMBDA(float amax, int its_lanes) {
          return lanes_reduce<Max>(amax, its_lanes);
        });
      });
    }
  } else {
    const SummedHead<T> in = source(h);
    const bool changed = part.changed(a);
    const int dim = static_cast<int>(part.dim);
    float* row = reinterpret_cast<float*>(shared) + thread_index() / lanes * dim;
    bool pools = false;
    if constexpr (is_same<T, f32>) {
      pools = a.pool.plan;
      if (pools) {
        const int64_t state = found ? a.pool.state_of(plan) : -1;
        if (found)
          for (int d = head.lane; d < dim; d += lanes) row[d] = pooled(a.pool, plan, state, d);
        barrier();
        const HeadDims<T, StoredHead<T>> dims(head, StoredHead<T>{row}, part.norm.on);
        barrier();
        dims.each([&] AITER_LAMBDA(int64_t d, float x) { row[d] = x; });
        barrier();
      }
    }
    if (changed && !pools) {
      HeadDims<T, SummedHead<T>>(head, in, part.norm.on).each([&] AITER_LAMBDA(int64_t d, float x) {
        row[d] = x;
      });
      barrier();
    }
    const bool rotates = a.hadamard != 0.0f;
    AITER_NO_UNROLL
    for (int distance = 1; rotates && distance < dim; distance *= 2) {
      if (there)
        for (int k = head.lane; k < dim / 2; k += lanes) {
          const int i = (k & (distance - 1)) + (k & -distance) * 2;
          const float x = row[i], y = row[i + distance];
          row[i] = x + y, row[i + distance] = x - y;
        }
      barrier();
    }
    const float scale = rotates ? a.hadamard : 1.0f;
    const T* from = static_cast<const T*>(part.from) + in.at;
    each_target(there, [&] AITER_LAMBDA(const Place& place, bool goes) {
      put_dims(place, head, goes, [&] AITER_LAMBDA(int64_t d) {
        return changed ? row[d] * scale : to_float(from[d]);
      });
    });
  }
}

// Both packs of a lane in one store, rounded to 16 bits, if they go so.
AITER_DEVICE bool put_pair(const Place& place, const HeadPacks<f32>& packs,
                           const float (&v)[2][4]) {
  const FusedArgs::Target& target = place.target;
  const int d = packs.d[0] - target.begin;
  if (target.quant != CacheQuant::kNone || target.dtype == DType::kF32 || !target.whole ||
      !packs.has[1] || packs.d[1] != packs.d[0] + 4 || d < 0 || d + 8 > target.count)
    return false;
  const int64_t at = place.at + target.to.at_dim(static_cast<uint32_t>(d));
  uint16_t* to = static_cast<uint16_t*>(target.to.data) + at;
  if (reinterpret_cast<uint64_t>(to) % 16 ||
      place.at + target.to.at_dim(static_cast<uint32_t>(d + 4)) != at + 4)
    return false;
  float both[8];
  AITER_UNROLL
  for (int k = 0; k < 8; ++k) both[k] = v[k / 4][k % 4];
  if (target.dtype == DType::kBF16)
    store_floats<8>(reinterpret_cast<bf16*>(to), both);
  else
    store_floats<8>(reinterpret_cast<f16*>(to), both);
  return true;
}

// The result over neighbouring lanes, a power of two, of one or of several waves of the block, all of whose
// threads must call it.
template <class Op>
AITER_DEVICE float reduce_lanes(float x, int lanes, float* scratch) {
  x = lanes_reduce<Op>(x, min(lanes, kWave));
  if (lanes <= kWave) return x;
  const int waves = lanes / kWave, wave = thread_index() / kWave, begin = wave & -waves;
  if (thread_index() % kWave == 0) scratch[wave] = x;
  barrier();
  x = scratch[begin];
  AITER_NO_UNROLL
  for (int i = 1; i < waves; ++i) x = Op::combine(x, scratch[begin + i]);
  barrier();
  return x;
}

// The lines [first, kept) of a head, numbers of T in a state.
template <class T>
AITER_DEVICE void add_kept(const PooledHeads& pool, const PooledHeads::Plan& plan, int64_t state,
                           int first, int kept, int share, int shares, PooledDims& dims) {
  PooledLines<T, true> lines;
  AITER_NO_UNROLL
  for (int k = first + share * lines.kLines; k < kept; k += shares * lines.kLines) {
    lines.load(pool, plan, state, k, kept, dims);
    lines.add_to(pool, k, dims);
  }
}

// Heads that are means of lines, of T in this call, in kept states of T or f32. Some neighbouring lanes of
// a block have a head; where it has many lines, several such groups share them.
template <class T>
AITER_DEVICE void write_pooled(const FusedArgs& a) {
  constexpr int kMostWaves = 512 / kWave;
  AITER_SHARED float scratch[kMostWaves];
  AITER_DYNAMIC_SHARED(shared);  // what the groups but the first of a head have found
  const FusedArgs::Part& part = a.parts[0];
  const PooledHeads& pool = a.pool;
  const int lanes = part.lanes, bits = 31 - __builtin_clz(static_cast<uint32_t>(lanes));
  const int heads = a.tokens_of_block, head_bits = 31 - __builtin_clz(static_cast<uint32_t>(heads));
  const int group = thread_index() >> bits, share = group >> head_bits;
  const int shares = block_threads() >> (bits + head_bits);
  const int64_t t = static_cast<int64_t>(block_index_x()) * heads + (group & (heads - 1));
  PooledHeads::Plan plan{0, 0, -1, 0};
  if (t < a.tokens) plan = pool.plan_of(t);
  const int64_t pairs = part.turns ? a.angles.pairs : 0;
  const HeadOfToken head{
      part.norm,
      a.angles,
      part.dim,
      plan.position - static_cast<int64_t>(static_cast<uint32_t>(plan.position) % pool.ratio),
      pairs,
      part.first,
      part.first ? 0 : 2 * pairs,
      thread_index() & (lanes - 1),
      lanes,
      plan.position >= 0};
  HeadPacks<f32> packs(head);
  PooledDims dims(packs.d, packs.has[0]);
  int64_t page = 0;
  uint32_t slot = 0;
  const int first = pool.first(plan),
            kept = static_cast<int>(min<int64_t>(plan.window, pool.count));
  bool found;
  {
    PooledLines<T, false> lines;
    int k = max(first, kept) + share * lines.kLines;
    lines.load(pool, plan, -1, k, pool.count, dims);
    found = head.there && a.find(t, page, slot);  // while lines are under way
    AITER_NO_UNROLL
    while (true) {
      lines.add_to(pool, k, dims);
      k += shares * lines.kLines;
      if (k >= pool.count) break;
      lines.load(pool, plan, -1, k, pool.count, dims);
    }
  }
  const int64_t state = first < kept ? pool.state_of(plan) : -1;
  if (pool.kv_state.dtype == DType::kF32)
    add_kept<f32>(pool, plan, state, first, kept, share, shares, dims);
  else
    add_kept<T>(pool, plan, state, first, kept, share, shares, dims);
  if (shares > 1) {
    const int own = heads * lanes, me = thread_index() & (own - 1), others = own * (shares - 1);
    float* parts = reinterpret_cast<float*>(shared) + me;
    if (share > 0)
      dims.each_part(
          [&] AITER_LAMBDA(int q, float x) { parts[q * others + (share - 1) * own] = x; });
    barrier();
    AITER_NO_UNROLL
    for (int i = 0; share == 0 && i < shares - 1; ++i)
      dims.merge([&] AITER_LAMBDA(int q) { return parts[q * others + i * own]; });
  }
  float v[2][4];
  dims.means(v);
  packs.prepare(head);
  const float squares = reduce_lanes<Sum>(packs.squares(v), lanes, scratch);
  packs.normalize(head.scale_of_sum(squares), v);
  packs.turn(v);
  found = found && share == 0;
  AITER_NO_UNROLL
  for (int k = a.target_count - 1; k >= 0; --k) {
    const Place place(a, a.targets[k], page, slot, 0);
    const bool goes = found && !put_pair(place, packs, v);
    put(place, head, packs, v, goes, [&] AITER_LAMBDA(float amax, int its_lanes) {
      return reduce_lanes<Max>(amax, its_lanes, scratch);
    });
  }
}

// Where a lane puts the heads of its token, as packs of T or codes of 8 bits. Lanes keep it in shared
// memory: from head to head it would take registers.
struct alignas(16) PlainPlace {
  static constexpr int32_t kNowhere = static_cast<int32_t>(0x80000000u);
  uint8_t* to;        // of the first head
  int32_t offset[2];  // of the packs, in bytes
};
// Its scale, of the first head, which this lane is to store or which is given; null: none.
struct alignas(16) PlainScale {
  uint8_t* at;
  int64_t step;  // to the next head
};

// The heads of a part that the lanes of a block have, neighbouring tokens side by side.
// Kind: AnyCodes, a kind that is known when the kernel is compiled, which takes fewer registers, or
// void where there are no codes.
template <class T, class Kind>
struct PlainHeads {
  static constexpr bool kCodes = !is_same<Kind, void>;
  static constexpr int N = HeadPacks<T, true>::N, kThreads = 256;
  using Packs = HeadPacks<T, true>;
  const FusedArgs& a;
  const FusedArgs::Part& part;
  const GroupOfBlock& group;
  const Packs& packs;
  PlainPlace* places;  // of this thread, kThreads from target to target
  PlainScale* scales;  // the same
  uint8_t* stage_row;  // of this group, where heads are turned in shared memory

  AITER_DEVICE static int unit(const FusedArgs::Target& target) {
    return !kCodes || target.quant == CacheQuant::kNone ? static_cast<int>(sizeof(T)) : 1;
  }
  AITER_DEVICE void find(const FusedArgs::Target& target, int k, int64_t t, bool there, bool found,
                         int64_t page, uint32_t its_slot, int head) const {
    const int64_t row = target.to_slots ? page : t;
    const uint32_t slot = target.to_slots ? its_slot : 0;
    const bool goes = target.to_slots || target.cached_only ? found : there;
    const int bytes = unit(target);
    int d[2];  // of the target
    PlainPlace place;
    place.to = target.staged ? stage_row
                             : static_cast<uint8_t*>(target.to.data) +
                                   (target.to.at_slot(row, slot) + head * target.to.head) * bytes;
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      d[i] = packs.d[i] - target.begin;
      const int at = target.staged ? d[i] : static_cast<int>(target.to.at_dim(d[i]));
      place.offset[i] = goes && packs.has[i] && d[i] >= 0 && d[i] < target.count
                            ? at * bytes
                            : PlainPlace::kNowhere;
    }
    places[k * kThreads] = place;
    if constexpr (kCodes) {
      const int bits = 31 - __builtin_clz(static_cast<uint32_t>(target.group));
      const bool groups = target.lanes_per_group > 0;
      const bool stores =
          groups ? place.offset[0] != PlainPlace::kNowhere && (d[0] & ((1 << bits) - 1)) == 0
                 : group.lane == 0;
      const int scale_bytes = power_scale(target) ? 1 : 4;
      const int64_t at =
          target.scale_at(row, slot, head, groups && stores ? d[0] >> bits : 0) * scale_bytes;
      const bool its = target.quant == CacheQuant::kStatic ? target.scale.data != nullptr : stores;
      scales[k * kThreads] = {
          goes && its ? reinterpret_cast<uint8_t*>(target.scale.data) + at : nullptr,
          target.scale.head * scale_bytes};
    }
  }
  // The packs of head k of this group. All lanes of the wave must call it.
  AITER_DEVICE void put(int k, bool there, const Pack<T, N> (&head)[2]) const {
    // The array, which may be the heads themselves, comes first in the arguments.
    AITER_NO_UNROLL
    for (int i = part.target_count - 1; i >= 0; --i) {
      const FusedArgs::Target& target = a.targets[part.targets[i]];
      const PlainPlace place = places[i * kThreads];
      uint8_t* to = place.to;
      if (!target.staged) to += k * target.to.head * unit(target);
      if (!kCodes || target.quant == CacheQuant::kNone) {
        AITER_UNROLL
        for (int j = 0; j < 2; ++j)
          if (there && place.offset[j] != PlainPlace::kNowhere)
            store_pack<N>(reinterpret_cast<T*>(to + place.offset[j]), head[j]);
      } else if constexpr (kCodes) {
        const PlainScale scale = scales[i * kThreads];
        put_codes(target, there && scale.at ? scale.at + k * scale.step : nullptr, there, place, to,
                  head);
      }
    }
  }

 private:
  AITER_DEVICE static bool power_scale(const FusedArgs::Target& target) {
    return target.scale_dtype == DType::kF8E8M0 && !target.whole_scale;
  }
  AITER_DEVICE void put_codes(const FusedArgs::Target& target, uint8_t* scale, bool there,
                              const PlainPlace& place, uint8_t* to,
                              const Pack<T, N> (&head)[2]) const {
    float v[2 * N];
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) head[i].to_floats(reinterpret_cast<float (&)[N]>(v[i * N]));
    const Kind kind(a.code);
    float factor = 1.0f;
    if (target.quant == CacheQuant::kDynamic) {
      float amax = 0;
      AITER_UNROLL
      for (int i = 0; i < 2; ++i)
        if (place.offset[i] != PlainPlace::kNowhere)
          amax = max_magnitude(amax, reinterpret_cast<const float (&)[N]>(v[i * N]));
      amax = lanes_reduce<Max>(amax, target.lanes_per_group ? target.lanes_per_group : part.lanes);
      const QuantSpec spec{a.code, target.scale_dtype, MxRound::kUp, __builtin_inff(), 1.0f,
                           nullptr};
      const Scale its = cache_scale(amax, target.amax_floor, spec, kind);
      factor = its.factor;
      if (scale) {
        AITER_NO_UNROLL
        for (int i = 0; i < 1 << target.scale_bits; ++i)
          if (power_scale(target))
            scale[i] = its.code;
          else
            reinterpret_cast<float*>(scale)[i] = its.value;
      }
    } else if (scale) {
      factor = 1.0f / *reinterpret_cast<const float*>(scale);
    }
    uint32_t words[2 * N / 4];
    kind.encode(v, factor, words);
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      if (!there || place.offset[i] == PlainPlace::kNowhere) continue;
      struct {
        uint32_t words[N / 4];
      } its;
      AITER_UNROLL
      for (int k = 0; k < N / 4; ++k) its.words[k] = words[i * N / 4 + k];
      using Words = typename WordsOf<N>::Type;
      *reinterpret_cast<Words*>(to + place.offset[i]) = bit_cast<Words>(its);
    }
  }
};

// A block has heads of one part of neighbouring tokens. Those that go to a cache which has neighbouring
// slots together do not change on their way, but are turned in shared memory.
template <class T, class Kind>
AITER_DEVICE void write_plain(const FusedArgs& a) {
  using Heads = PlainHeads<T, Kind>;
  constexpr bool kCodes = Heads::kCodes;
  using E = typename WordsOf<kCodes ? 1 : sizeof(T)>::Type;
  constexpr int N = Heads::N, kThreads = Heads::kThreads;
  AITER_SHARED int64_t slots[kThreads], windows[kThreads / 4 + 2];
  AITER_DYNAMIC_SHARED(shared);  // places, scales, stage
  int part_index = 0, share = block_index_x();
  while (share >= a.parts[part_index].shares) share -= a.parts[part_index++].shares;
  const FusedArgs::Part& part = a.parts[part_index];
  const int lanes = part.lanes, heads = a.heads_at_once;
  const GroupOfBlock group(lanes, a.tokens_of_block);
  const int64_t t = group.begin + group.row, pairs = part.turns ? a.angles.pairs : 0;
  const int first = share * group.heads * heads, h = first + group.head * heads;
  const int most = min(heads, static_cast<int>(part.heads) - first);  // of a group
  const bool there = t < a.tokens, norms = part.norm.on;
  const HeadOfToken head{
      part.norm,  a.angles, part.dim, t, pairs, part.first, part.first ? 0 : 2 * pairs,
      group.lane, lanes,    there};
  HeadPacks<T, true> packs(head);
  HeadStream<T, true> stream(packs, static_cast<const T*>(part.from) + t * part.from_token,
                             part.from_head, h,
                             there ? min(h + heads, static_cast<int>(part.heads)) : h);
  const int64_t row = packs.row_of(head);
  int staged = -1;
  bool by_slots = false;
  AITER_NO_UNROLL
  for (int k = 0; k < part.target_count; ++k) {
    const FusedArgs::Target& target = a.targets[part.targets[k]];
    if (target.staged) staged = part.targets[k];
    by_slots = by_slots || target.to_slots || target.cached_only;
  }
  int64_t page = 0;
  uint32_t slot = 0;
  const bool found = by_slots && there && a.find(t, page, slot);
  const int mine = part.target_count * kThreads;
  PlainPlace* places = reinterpret_cast<PlainPlace*>(shared);
  PlainScale* scales = reinterpret_cast<PlainScale*>(places + mine);
  uint8_t* stage = reinterpret_cast<uint8_t*>(scales + (kCodes ? mine : 0));
  const int pitch = static_cast<int>(part.dim) * static_cast<int>(sizeof(E)) + 16;
  const int rows = a.tokens_of_block * pitch;
  const Heads its{a,
                  part,
                  group,
                  packs,
                  places + thread_index(),
                  scales + thread_index(),
                  stage + group.head * rows + group.row * pitch};
  if (staged < 0) packs.prepare(head, row);
  AITER_NO_UNROLL
  for (int k = 0; k < part.target_count; ++k)
    its.find(a.targets[part.targets[k]], k, t, there, found, page, slot, h);
  Pack<T, N> now[2];
  if (staged < 0) {
    AITER_NO_UNROLL
    for (int k = 0; k < most; ++k) {
      const bool its_there = stream.left > 0;
      stream.take(now);
      if (norms || pairs > 0) {
        float v[2][N];
        packs.to_floats(now, v);
        packs.change(head, norms, v);
        packs.from_floats(v, now);
      }
      its.put(k, its_there, now);
    }
    return;
  }
  const CacheLayout& layout = a.targets[staged].to;
  const int count = static_cast<int>(min<int64_t>(a.tokens_of_block, a.tokens - group.begin));
  if (group.lane == 0 && group.head == 0)
    slots[group.row] = found ? page * a.slots.block.divisor + slot : -1;
  barrier();
  StagedHeads<E> turned{layout,       static_cast<int>(part.dim), stage, pitch, count, slots,
                        a.slots.block};
  turned.find_windows(windows);
  AITER_NO_UNROLL
  for (int k = 0; k < most; ++k) {
    const bool its_there = stream.left > 0;
    stream.take(now);
    its.put(k, its_there, now);
    barrier();
    turned.stage = stage;
    for (int i = first + k; i < min(first + group.heads * heads, static_cast<int>(part.heads));
         i += heads, turned.stage += rows)
      turned.write_slots(i, windows);
    barrier();
  }
}

// A block has heads of one part, so that its threads go the same ways. It does not go on to other
// tokens: what it knows of arguments would take too many registers from one to the next.
template <class T, bool kInRegisters>
AITER_DEVICE void write_shares(const FusedArgs& a) {
  const int part_index = block_index_y();
  const FusedArgs::Part& part = a.parts[part_index];
  const int64_t block = static_cast<int64_t>(block_index_z()) * grid_blocks() + block_index_x();
  const int64_t first = block * (block_threads() / part.lanes);
  if (first >= a.tokens * part.heads) return;  // a smaller part
  write_share<T, kInRegisters>(a, part, part_index, first + thread_index() / part.lanes);
}

}  // namespace aiter

#define AITER_FUSED_QK_ROPE_CACHE(row, in_registers, T)          \
  AITER_KERNEL(fused_qk_rope_reshape_and_cache_##row##_##T, 128) \
  (const aiter::FusedQkRopeReshapeAndCacheArgs a) {              \
    aiter::wait_for_previous_kernel();                           \
    aiter::write_shares<aiter::T, in_registers>(a);              \
  }
#define AITER_FUSED_QK_ROPE_CACHE_POOL(T)                         \
  AITER_KERNEL(fused_qk_rope_reshape_and_cache_hip_pool_##T, 512) \
  (const aiter::FusedQkRopeReshapeAndCacheArgs a) {               \
    aiter::wait_for_previous_kernel();                            \
    aiter::write_pooled<aiter::T>(a);                             \
  }
#define AITER_FUSED_QK_ROPE_CACHE_PLAIN(row, kind, T)            \
  AITER_KERNEL(fused_qk_rope_reshape_and_cache_##row##_##T, 256) \
  (const aiter::FusedQkRopeReshapeAndCacheArgs a) {              \
    aiter::wait_for_previous_kernel();                           \
    aiter::write_plain<aiter::T, kind>(a);                       \
  }
AITER_FUSED_QK_ROPE_CACHE_PLAIN(hip_plain, void, f32)
AITER_FUSED_QK_ROPE_CACHE_PLAIN(hip_plain, void, f16)
AITER_FUSED_QK_ROPE_CACHE_PLAIN(hip_plain, void, bf16)
AITER_FUSED_QK_ROPE_CACHE_PLAIN(hip_codes, aiter::AnyCodes, f32)
AITER_FUSED_QK_ROPE_CACHE_PLAIN(hip_codes, aiter::AnyCodes, f16)
AITER_FUSED_QK_ROPE_CACHE_PLAIN(hip_codes, aiter::AnyCodes, bf16)
AITER_FUSED_QK_ROPE_CACHE_PLAIN(hip_codes_e4m3fn, aiter::Codes<aiter::E4M3FN>, f32)
AITER_FUSED_QK_ROPE_CACHE_PLAIN(hip_codes_e4m3fn, aiter::Codes<aiter::E4M3FN>, f16)
AITER_FUSED_QK_ROPE_CACHE_PLAIN(hip_codes_e4m3fn, aiter::Codes<aiter::E4M3FN>, bf16)
AITER_FUSED_QK_ROPE_CACHE_PLAIN(hip_codes_e4m3fnuz, aiter::Codes<aiter::E4M3FNUZ>, f32)
AITER_FUSED_QK_ROPE_CACHE_PLAIN(hip_codes_e4m3fnuz, aiter::Codes<aiter::E4M3FNUZ>, f16)
AITER_FUSED_QK_ROPE_CACHE_PLAIN(hip_codes_e4m3fnuz, aiter::Codes<aiter::E4M3FNUZ>, bf16)
AITER_FUSED_QK_ROPE_CACHE(hip_vec, true, f32)
AITER_FUSED_QK_ROPE_CACHE(hip_vec, true, f16)
AITER_FUSED_QK_ROPE_CACHE(hip_vec, true, bf16)
AITER_FUSED_QK_ROPE_CACHE(hip_any, false, f32)
AITER_FUSED_QK_ROPE_CACHE(hip_any, false, f16)
AITER_FUSED_QK_ROPE_CACHE(hip_any, false, bf16)
AITER_FUSED_QK_ROPE_CACHE_POOL(f32)
AITER_FUSED_QK_ROPE_CACHE_POOL(f16)
AITER_FUSED_QK_ROPE_CACHE_POOL(bf16)
