
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache_args.h"
#include "simd/cache_run.h"
#include "simd/hadamard.h"
#include "simd/head_norm_rope.h"
#include "simd/parallel.h"
#include "simd/scratch.h"

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

// What a head has in a target: elements, or bytes of codes.
int64_t row_elements(const Target& target) {
  return target.count * (target.dtype == DType::kF4E2M1x2 ? 4 : 8) / 8;
}

// How heads get to the slots of caches: through a stage, where they wait for those of the neighbouring
// slots, if the layout puts a slot's dims apart or if lines go past the machine's caches.
struct Ways {
  static constexpr int64_t kBytes = 128 << 10;
  uint32_t slots = 32;                            // that wait at most
  int64_t slot_bytes = 0, at[Args::kMaxTargets];  // where a target's begin, of each slot; or -1
  bool streamed[Args::kMaxTargets];

  explicit Ways(const Args& a) {
    for (int k = 0; k < a.target_count; ++k) {
      const Target& target = a.targets[k];
      const int64_t elements = row_elements(target), element = dtype_bytes(target.dtype);
      const int64_t row = a.parts[target.part].heads * elements * element;
      at[k] = -1;
      if (!target.to_slots || row == 0) continue;
      streamed[k] = worth_streaming(target.to.data, a.tokens * row, element);
      const uint32_t together = slots_at_once(target.to, elements, element);
      if (together == 1 && !streamed[k]) continue;
      at[k] = slot_bytes;
      slot_bytes += row;
      if (together > 1 && together < slots) slots = together;
    }
    while (slots > 1 && slots * slot_bytes > kBytes) slots /= 2;
  }
  int64_t stage_bytes() const { return (slots * slot_bytes + 63) / 64 * 64; }
};

// The heads of one thread on their way.
class Outputs {
 public:
  // stage: as many bytes as `ways` asks for; null where all goes straight to its place.
  Outputs(const Args& a, const Ways& ways, uint8_t* stage) : a_(a), ways_(ways), stage_(stage) {}

  bool staged() const { return stage_ && ways_.slot_bytes > 0; }

  // The next token's heads of a part go to this slot.
  void begin_slot(int part, int64_t page, uint32_t slot) {
    if (!stage_) return;
    const uint32_t next = run_.slot + run_.slots;
    if (run_.slots > 0 && (page != run_.page || slot != next || slot % ways_.slots == 0))
      flush(part);
    if (run_.slots == 0) run_ = {0, page, slot, 0};
    ++run_.slots;
  }
  // Dims or bytes [begin, begin + n) of a head in a target.
  template <class E>
  AITER_INLINE void put(int k, int64_t page, uint32_t slot, int64_t head, int64_t begin,
                        const E* row, int64_t n) {
    const Target& target = a_.targets[k];
    const CacheLayout& to = target.to;
    if (stage_ && ways_.at[k] >= 0) {
      memcpy(staged<E>(k) + (run_.slots - 1) * heads(k) * row_elements(target) +
                 head * row_elements(target) + begin,
             row, n * sizeof(E));
      return;
    }
    const int64_t at = to.at_slot(page, slot) + head * to.head;
    if (static_cast<E*>(to.data) + at + begin != row) place(to, at, begin, row, n);
  }
  // What waits of a part.
  void flush(int part) {
    if (run_.slots == 0) return;
    for (int k = 0; k < a_.target_count; ++k) {
      if (a_.targets[k].part != part || ways_.at[k] < 0) continue;
      const int64_t elements = row_elements(a_.targets[k]);
      with_bits(a_.targets[k].dtype, [&]<class E>(E) {
        RowFetch none;
        write_run<E>(a_.targets[k].to, run_, 0, heads(k), elements,
                     {staged<E>(k), heads(k) * elements, elements},
                     ways_.streamed[k] ? &streams_[k] : nullptr, none);
      });
    }
    run_.slots = 0;
  }

 private:
  int64_t heads(int k) const { return a_.parts[a_.targets[k].part].heads; }
  template <class E>
  E* staged(int k) const {
    return reinterpret_cast<E*>(stage_ + ways_.at[k] * ways_.slots);
  }

  const Args& a_;
  const Ways& ways_;
  uint8_t* stage_;
  CacheRun run_{};
  LineStream streams_[Args::kMaxTargets];
};

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

// Head h of a token or slot, of T or, rotated, of floats, into target k.
template <class Row, class T, class X>
void put(const Args& a, int k, const X* head, int64_t page, uint32_t slot, int64_t h,
         Outputs& outputs) {
  const Target& target = a.targets[k];
  const int64_t count = target.count;
  head += target.begin;
  if constexpr (__is_same(X, T))
    if (target.dtype == a.dtype) return outputs.put(k, page, slot, h, 0, head, count);
  if (target.quant == CacheQuant::kNone) {
    with_float_type(target.dtype, [&]<class C>(C) {
      C numbers[kChunk];
      for (int64_t d = 0; d < count; d += kChunk) {
        const int64_t m = count - d < kChunk ? count - d : kChunk;
        Row::round(head + d, numbers, m);
        outputs.put(k, page, slot, h, d, numbers, m);
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
        if (!at_once) outputs.put(k, page, slot, h, byte, codes, m * Codec::kBits / 8);
      }
    }
    if (at_once) outputs.put(k, page, slot, h, 0, codes, count * Codec::kBits / 8);
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

// Heads [0, heads) of a part, of tokens [begin, end).
template <class Row, class T>
void write_part(const Args& a, int i, int64_t begin, int64_t end, Outputs& outputs) {
  const Part& part = a.parts[i];
  const bool summed = part.summed(a.dtype), turns_too = part.turns && a.angles.pairs > 0;
  RopeFactors factors;
  alignas(64) T buffer[Args::kMaxDim];
  alignas(64) float floats[Args::kMaxDim];  // the sum of a head's parts, or the rotated head
  RowFetch next;                            // the rows of tokens that come soon
  if (outputs.staged() && !summed && !a.pool.plan) {
    const int64_t bytes = sizeof(T), row = part.heads * part.from_head * bytes;
    const int64_t ahead = begin + 8192 / (row + 1) + 1, stride = part.from_token * bytes;
    next = {static_cast<const char*>(part.from) + ahead * stride, row, stride};
  }
  for (int64_t t = begin; t < end; ++t) {
    PooledHeads::Plan plan{};
    if (a.pool.plan) plan = a.pool.plan_of(t);
    if (plan.position < 0) continue;
    int64_t page = 0;
    uint32_t slot = 0;
    const bool found = a.cached && a.find(t, page, slot);
    int to[Args::kMaxTargets], count = 0;
    int whole = -1;  // rows that take the heads as they are: these are made there
    for (int k = 0; k < a.target_count; ++k) {
      const Target& target = a.targets[k];
      if (target.part != i || (!found && (target.to_slots || target.cached_only))) continue;
      to[count++] = k;
      if (a.hadamard == 0.0f && target.takes_all(a.dtype, part.dim)) whole = k;
    }
    if (count == 0) continue;
    if (found) outputs.begin_slot(i, page, slot);
    // That of its first position turns a head of several.
    const int64_t turning = a.pool.plan ? plan.position - plan.position % a.pool.ratio : t;
    int64_t rows[3] = {0, 0, 0};
    const bool turns = turns_too && rope_rows(a.angles, turning, rows);
    if (turns) factors.load(a.angles, 0, rows, 0, a.angles.pairs);
    for (int64_t h = 0; h < part.heads; ++h) {
      next.more(part.dim * static_cast<int64_t>(sizeof(T)));
      const int64_t at = t * part.from_token + h * part.from_head;
      const T* in = static_cast<const T*>(part.from) + at;
      const T* head = in;
      T* row = buffer;
      if (whole >= 0) {
        const CacheLayout& rows_of = a.targets[whole].to;
        row = static_cast<T*>(rows_of.data) + t * rows_of.page + h * rows_of.head;
      }
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
      if (turns) {
        Row::turn(a.angles, factors, part.dim, part.first, head, row);
        head = row;
      }
      if (a.hadamard != 0.0f) {
        Row::copy(head, floats, part.dim);
        Row::rotate(floats, part.dim, a.hadamard);
      }
      for (int c = 0; c < count; ++c) {
        if (to[c] == whole && head == row) continue;
        const bool to_slots = a.targets[to[c]].to_slots;
        const int64_t its_page = to_slots ? page : t;
        const uint32_t its_slot = to_slots ? slot : 0;
        if (a.hadamard != 0.0f)
          put<Row, T>(a, to[c], floats, its_page, its_slot, h, outputs);
        else
          put<Row, T>(a, to[c], head, its_page, its_slot, h, outputs);
      }
    }
  }
  outputs.flush(i);
}

// stage: for Outputs. Part after part, as few rows at a time as possible are read and written side by
// side, but those of a token stay in the machine's caches.
template <class Row, class T>
void write_tokens(const Args& args, int64_t begin, int64_t end, const Ways& ways, uint8_t* stage) {
  constexpr int64_t kTokens = 64;
  const Args a = args;  // what is written may alias the caller's
  Outputs outputs(a, ways, stage);
  for (int64_t t = begin; t < end; t += kTokens)
    for (int i = 0; i < a.part_count; ++i)
      write_part<Row, T>(a, i, t, t + kTokens < end ? t + kTokens : end, outputs);
}

}  // namespace

void fused_qk_rope_reshape_and_cache_cpu_simd(const Args& a) {
  int64_t dims = 0;
  for (int i = 0; i < a.part_count; ++i) dims += a.parts[i].heads * a.parts[i].dim;
  if (a.tokens == 0) return;
  const int64_t pieces = row_pieces(a.tokens, dims);
  const Ways ways(a);
  const int64_t bytes = ways.stage_bytes() + 64;
  uint8_t* stages = scratch(pieces * bytes);
  with_float_type(a.dtype, [&]<class T>(T) {
    parallel_tasks(pieces, [&](int64_t piece, int) {
      write_tokens<Vectors, T>(a, a.tokens * piece / pieces, a.tokens * (piece + 1) / pieces, ways,
                               stages + piece * bytes);
    });
  });
}

void fused_qk_rope_reshape_and_cache_cpu_ref(const Args& a) {
  with_float_type(a.dtype,
                  [&]<class T>(T) { write_tokens<Plain, T>(a, 0, a.tokens, Ways(a), nullptr); });
}

}  // namespace aiter::AITER_ISA
