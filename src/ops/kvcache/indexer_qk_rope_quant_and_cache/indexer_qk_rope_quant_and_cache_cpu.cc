#include "ops/kvcache/indexer_qk_rope_quant_and_cache/indexer_qk_rope_quant_and_cache_args.h"
#include "simd/cache_write.h"
#include "simd/head_norm_rope.h"
#include "simd/parallel.h"

namespace aiter::AITER_ISA {
namespace {

using Args = IndexerQkRopeQuantAndCacheArgs;

struct Vectors {
  using Head = VectorHead;

  // LayerNorm in float; two passes, as the second moment of large means would vanish.
  template <class T>
  static void normalize(const Args& a, const T* k, T* out) {
    Vec sum = zero(), squares = zero();
    for_lanes(a.dim, [&](int64_t i, int n) { sum = sum + load_some(k + i, n); });
    const Vec mean = set1(reduce_add(sum) / static_cast<float>(a.dim));
    for_lanes(a.dim, [&](int64_t i, int n) {
      float c[kLanes] = {};
      store_n(c, load_some(k + i, n) - mean, n);
      squares = fma(load(c), load(c), squares);
    });
    const Vec factor =
        set1(1.0f / __builtin_sqrtf(reduce_add(squares) / static_cast<float>(a.dim) + a.epsilon));
    for_lanes(a.dim, [&](int64_t i, int n) {
      const Vec x = (load_some(k + i, n) - mean) * factor;
      store_some(out + i, fma(x, load_some(a.norm_weight + i, n), load_some(a.norm_bias + i, n)),
                 n);
    });
  }
  template <class Codec, class T>
  static Scale encode(const Args& a, const T* x, float floor, uint8_t* codes) {
    const Scale scale = cache_scale<Codec>(VectorCodes::amax(x, a.dim), floor, a.spec);
    encode_codes<Codec>(a.dim, scale.factor, codes, false, ArrayNumbers<T>{x});
    return scale;
  }
};

struct Plain {
  using Head = PlainHead;

  template <class T>
  static void normalize(const Args& a, const T* k, T* out) {
    float sum = 0, squares = 0;
    for (int64_t i = 0; i < a.dim; ++i) sum += to_float(k[i]);
    const float mean = sum / static_cast<float>(a.dim);
    for (int64_t i = 0; i < a.dim; ++i)
      squares += (to_float(k[i]) - mean) * (to_float(k[i]) - mean);
    const float factor = 1.0f / __builtin_sqrtf(squares / static_cast<float>(a.dim) + a.epsilon);
    for (int64_t i = 0; i < a.dim; ++i)
      out[i] = from_float<T>(
          __builtin_fmaf((to_float(k[i]) - mean) * factor, a.norm_weight[i], a.norm_bias[i]));
  }
  template <class Codec, class T>
  static Scale encode(const Args& a, const T* x, float floor, uint8_t* codes) {
    const Scale scale = cache_scale<Codec>(PlainCodes::amax(x, a.dim), floor, a.spec);
    for (int64_t i = 0; i < a.dim; ++i)
      codes[i] = static_cast<uint8_t>(Codec::encode(to_float(x[i]) * scale.factor));
    return scale;
  }
};

template <class Row>
void write_tokens(const Args& a, bool parallel) {
  with_float_type(a.dtype, [&]<class T>(T) {
    with_cache_codec(a.spec.code, [&]<class Codec>(Codec) {
      const int64_t grain = parallel ? row_grain((a.heads + 1) * a.dim) : a.tokens;
      parallel_for(a.tokens, grain, [&](int64_t begin, int64_t end) {
        RopeFactors factors;
        T head[Args::kMaxDim], turned[Args::kMaxDim];
        uint8_t codes[Args::kMaxDim];
        for (int64_t t = begin; t < end; ++t) {
          int64_t rows[3] = {0, 0, 0};
          const bool turns = rope_rows(a.angles, t, rows);
          if (turns) factors.load(a.angles, 0, rows, 0, a.angles.pairs);
          auto turn_head = [&](const T* in) -> const T* {
            if (!turns) return in;
            Row::Head::turn(a.angles, factors, a.dim, 0, in, turned);
            return turned;
          };
          for (int64_t h = 0; h < a.heads; ++h) {
            const T* q = turn_head(static_cast<const T*>(a.q) + t * a.q_token + h * a.q_head);
            const Scale scale = Row::template encode<Codec>(
                a, q, 1e-10f, a.q_out + t * a.q_out_token + h * a.q_out_head);
            const T weight =
                static_cast<const T*>(a.weights)[t * a.weights_token + h * a.weights_head];
            a.weights_out[t * a.weights_out_token + h * a.weights_out_head] =
                to_float(weight) * scale.value * a.weights_scale;
          }
          int64_t page;
          uint32_t slot;
          if (t >= a.slots.count || !a.slots.find(t, page, slot)) continue;
          Row::normalize(a, static_cast<const T*>(a.k.from) + t * a.k.from_token, head);
          const Scale scale = Row::template encode<Codec>(a, turn_head(head), 1e-4f, codes);
          place(a.k.to, a.k.to.at_slot(page, slot), 0, codes, a.dim);
          a.k.scale.data[page * a.k.scale.page + slot * a.k.scale.slot] = scale.value;
        }
      });
    });
  });
}

}  // namespace

void indexer_qk_rope_quant_and_cache_cpu_simd(const Args& a) { write_tokens<Vectors>(a, true); }
void indexer_qk_rope_quant_and_cache_cpu_ref(const Args& a) { write_tokens<Plain>(a, false); }

}  // namespace aiter::AITER_ISA
