#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache_args.h"
#include "simd/cache_write.h"
#include "simd/hadamard.h"
#include "simd/head_norm_rope.h"
#include "simd/parallel.h"

namespace aiter::AITER_ISA {
namespace {

using Args = FusedQkRopeReshapeAndCacheArgs;
using Part = Args::Part;
using Target = Args::Target;
constexpr int64_t kChunk = 1024;  // numbers converted at a time, an even number

void store_scale(const Target& target, int64_t index, const Scale& scale) {
  for (int64_t i = 0; i < int64_t{1} << target.scale_bits; ++i)
    if (target.scale_dtype == DType::kF8E8M0 && !target.whole_scale)
      reinterpret_cast<uint8_t*>(target.scale.data)[index + i] = static_cast<uint8_t>(scale.code);
    else
      target.scale.data[index + i] = scale.value;
}

struct Vectors : VectorHead, VectorCodes {
  template <class X>
  static void copy(const X* x, float* to, int64_t n) {
    map_lanes(to, n, false, [](Vec v) { return v; }, NothingAhead{}, x);
  }
  template <class X>
  static void add(const X* x, float* to, int64_t n) {
    map_lanes(to, n, false, [](Vec sum, Vec v) { return sum + v; }, NothingAhead{}, to, x);
  }
  template <class C, class X>
  static void round(const X* x, C* to, int64_t n) {
    map_lanes(to, n, false, [](Vec v) { return v; }, NothingAhead{}, x);
  }
  // A line more of heads that are weighted means: of the numbers before it, most is the largest score.
  template <class X, class S, class B>
  static void pool(const X* x, const S* score, const B* bias, int64_t n, float* most,
                   float* weights, float* sum) {
    for_lanes(n, [&](int64_t i, int lanes) {
      Vec s = load_some(score + i, lanes);
      if (bias) s = s + load_some(bias + i, lanes);
      const Vec old = load_some(most + i, lanes), now = max(old, s);
      const Vec before = exp(old - now), weight = exp(s - now);
      store_some(weights + i, load_some(weights + i, lanes) * before + weight, lanes);
      store_some(sum + i, load_some(sum + i, lanes) * before + weight * load_some(x + i, lanes),
                 lanes);
      store_some(most + i, now, lanes);
    });
  }
  static void rotate(float* row, int64_t n, float scale) {
    transform(row, n);
    const Vec factor = set1(scale);
    map_lanes(row, n, false, [&](Vec v) { return v * factor; }, NothingAhead{}, row);
  }
};

struct Plain : PlainHead, PlainCodes {
  template <class X>
  static void copy(const X* x, float* to, int64_t n) {
    for (int64_t i = 0; i < n; ++i) to[i] = to_float(x[i]);
  }
  template <class X>
  static void add(const X* x, float* to, int64_t n) {
    for (int64_t i = 0; i < n; ++i) to[i] += to_float(x[i]);
  }
  template <class C, class X>
  static void round(const X* x, C* to, int64_t n) {
    for (int64_t i = 0; i < n; ++i) to[i] = from_float<C>(to_float(x[i]));
  }
  template <class X, class S, class B>
  static void pool(const X* x, const S* score, const B* bias, int64_t n, float* most,
                   float* weights, float* sum) {
    for (int64_t i = 0; i < n; ++i) {
      const float s = to_float(score[i]) + (bias ? to_float(bias[i]) : 0.0f);
      const float now = s > most[i] ? s : most[i];
      const float before = __builtin_expf(most[i] - now), weight = __builtin_expf(s - now);
      weights[i] = weights[i] * before + weight;
      sum[i] = sum[i] * before + weight * to_float(x[i]);
      most[i] = now;
    }
  }
  static void rotate(float* row, int64_t n, float scale) {
    transform_plainly(row, n);
    for (int64_t i = 0; i < n; ++i) row[i] *= scale;
  }
};

// Head h of a token or slot, of T or, rotated, of floats, into its place.
template <class Row, class T, class X>
void put(const Args& a, const Target& target, const X* head, int64_t page, uint32_t slot,
         int64_t h) {
  const int64_t at = target.to.at_slot(page, slot) + h * target.to.head, count = target.count;
  head += target.begin;
  if constexpr (__is_same(X, T))
    if (target.dtype == a.dtype) {
      if (static_cast<T*>(target.to.data) + at != head) place(target.to, at, 0, head, count);
      return;
    }
  if (target.quant == CacheQuant::kNone) {
    with_float_type(target.dtype, [&]<class C>(C) {
      C numbers[kChunk];
      for (int64_t d = 0; d < count; d += kChunk) {
        const int64_t m = count - d < kChunk ? count - d : kChunk;
        Row::round(head + d, numbers, m);
        place(target.to, at, d, numbers, m);
      }
    });
    return;
  }
  const bool dynamic = target.quant == CacheQuant::kDynamic;
  const int64_t group = dynamic ? target.group : count;
  uint8_t codes[kChunk];
  const bool at_once = count <= kChunk;
  with_head_codec(target.dtype, [&]<class Codec>(Codec) {
    for (int64_t begin = 0, g = 0; begin < count; begin += group, ++g) {
      const int64_t end = count - begin < group ? count : begin + group;
      const int64_t scale_at = target.scale_at(page, slot, h, g);
      float factor = 1.0f;
      if (dynamic) {
        const QuantSpec spec{target.dtype, target.scale_dtype, MxRound::kUp, __builtin_inff(), 1.0f,
                             nullptr};
        const Scale scale =
            cache_scale<Codec>(Row::amax(head + begin, end - begin), target.amax_floor, spec);
        store_scale(target, scale_at, scale);
        factor = scale.factor;
      } else if (target.scale.data) {
        factor = 1.0f / target.scale.data[scale_at];
      }
      for (int64_t d = begin; d < end; d += kChunk) {
        const int64_t m = end - d < kChunk ? end - d : kChunk, byte = d * Codec::kBits / 8;
        Row::template encode<Codec>(head + d, m, factor, codes + (at_once ? byte : 0));
        if (!at_once) place(target.to, at, byte, codes, m * Codec::kBits / 8);
      }
    }
    if (at_once) place(target.to, at, 0, codes, count * Codec::kBits / 8);
  });
}

// The sum of the parts of a head.
template <class Row, class T>
void sum_parts(const Args& a, const Part& part, int64_t at, float* sum) {
  auto add_all = [&]<class X>(X) {
    const X* from = static_cast<const X*>(part.from) + at;
    Row::copy(from, sum, part.dim);
    for (int64_t s = 1; s < part.splits; ++s) Row::add(from + s * part.from_split, sum, part.dim);
  };
  if (part.from_dtype == a.dtype)
    add_all(T{});
  else
    add_all(float{});
}

// A head as the weighted mean of its lines.
template <class Row>
void pool_lines(const PooledHeads& pool, const PooledHeads::Plan& plan, int64_t dim, float* head) {
  float most[Args::kMaxDim], weights[Args::kMaxDim];
  for (int64_t i = 0; i < dim; ++i) most[i] = -3.4028234663852886e38f, weights[i] = head[i] = 0;
  const int64_t state = pool.state_of(plan);
  for (int k = pool.first(plan); k < pool.count; ++k) {
    PooledHeads::At at{};
    if (!pool.find(plan, state, k, at)) continue;
    const PooledHeads::Lines& kv = at.kept ? pool.kv_state : pool.kv;
    const PooledHeads::Lines& scores = at.kept ? pool.score_state : pool.score;
    with_float_type(kv.dtype, [&]<class X>(X) {
      with_float_type(pool.bias.dtype, [&]<class B>(B) {
        const B* bias = at.kept ? nullptr : static_cast<const B*>(pool.bias.data) + at.bias;
        Row::pool(static_cast<const X*>(kv.data) + at.kv,
                  static_cast<const X*>(scores.data) + at.score, bias, dim, most, weights, head);
      });
    });
  }
  for (int64_t i = 0; i < dim; ++i) head[i] = weights[i] > 0 ? head[i] / weights[i] : 0.0f;
}

template <class Row, class T>
void write_tokens(const Args& args, int64_t begin, int64_t end) {
  const Args a = args;  // what is written may alias the caller's
  RopeFactors factors;
  T buffer[Args::kMaxDim];
  float floats[Args::kMaxDim];  // the sum of a head's parts, or the rotated head
  for (int64_t t = begin; t < end; ++t) {
    PooledHeads::Plan plan{};
    if (a.pool.plan) plan = a.pool.plan_of(t);
    if (plan.position < 0) continue;
    // That of its first position turns a head of several.
    const int64_t turning = a.pool.plan ? plan.position - plan.position % a.pool.ratio : t;
    int64_t rows[3] = {0, 0, 0};
    const bool turns = a.angles.pairs > 0 && rope_rows(a.angles, turning, rows);
    if (turns) factors.load(a.angles, 0, rows, 0, a.angles.pairs);
    int64_t page = 0;
    uint32_t slot = 0;
    const bool found = a.cached && a.find(t, page, slot);
    bool goes[Args::kMaxTargets], needed[Args::kMaxParts] = {};
    for (int k = 0; k < a.target_count; ++k) {
      goes[k] = found || !(a.targets[k].to_slots || a.targets[k].cached_only);
      if (goes[k]) needed[a.targets[k].part] = true;
    }
    for (int i = 0; i < a.part_count; ++i) {
      if (!needed[i]) continue;
      const Part& part = a.parts[i];
      const bool summed = part.summed(a.dtype);
      const Target* whole = nullptr;  // rows that take the heads as they are: these are made there
      for (int k = 0; k < a.target_count && a.hadamard == 0.0f; ++k)
        if (a.targets[k].part == i && goes[k] && a.targets[k].takes_all(a.dtype, part.dim))
          whole = a.targets + k;
      for (int64_t h = 0; h < part.heads; ++h) {
        const int64_t at = t * part.from_token + h * part.from_head;
        const T* in = static_cast<const T*>(part.from) + at;
        const T* head = in;
        T* row = whole ? static_cast<T*>(whole->to.data) + t * whole->to.page + h * whole->to.head
                       : buffer;
        if (a.pool.plan) {
          if constexpr (__is_same(T, float)) {
            pool_lines<Row>(a.pool, plan, part.dim, row);
            if (part.norm.on) Row::normalize(part.norm, part.dim, row, row);
            head = row;
          }
        } else if (summed) {
          sum_parts<Row, T>(a, part, at, floats);
          if (part.norm.on)
            Row::normalize(part.norm, part.dim, floats, row);
          else
            Row::round(floats, row, part.dim);
          head = row;
        } else if (part.norm.on) {
          Row::normalize(part.norm, part.dim, in, row);
          head = row;
        }
        if (part.turns && turns) {
          if (head == in && row != in) memcpy(row, in, part.dim * sizeof(T));
          Row::turn(a.angles, factors, row + part.first);
          head = row;
        }
        if (a.hadamard != 0.0f) {
          Row::copy(head, floats, part.dim);
          Row::rotate(floats, part.dim, a.hadamard);
        }
        for (int k = 0; k < a.target_count; ++k) {
          const Target& target = a.targets[k];
          if (target.part != i || !goes[k]) continue;
          const int64_t its_page = target.to_slots ? page : t;
          const uint32_t its_slot = target.to_slots ? slot : 0;
          if (a.hadamard != 0.0f)
            put<Row, T>(a, target, floats, its_page, its_slot, h);
          else
            put<Row, T>(a, target, head, its_page, its_slot, h);
        }
      }
    }
  }
}

}  // namespace

void fused_qk_rope_reshape_and_cache_cpu_simd(const Args& a) {
  int64_t dims = 1;
  for (int i = 0; i < a.part_count; ++i) dims += a.parts[i].heads * a.parts[i].dim;
  with_float_type(a.dtype, [&]<class T>(T) {
    parallel_for(a.tokens, 16384 / dims + 1,
                 [&](int64_t begin, int64_t end) { write_tokens<Vectors, T>(a, begin, end); });
  });
}

void fused_qk_rope_reshape_and_cache_cpu_ref(const Args& a) {
  with_float_type(a.dtype, [&]<class T>(T) { write_tokens<Plain, T>(a, 0, a.tokens); });
}

}  // namespace aiter::AITER_ISA
