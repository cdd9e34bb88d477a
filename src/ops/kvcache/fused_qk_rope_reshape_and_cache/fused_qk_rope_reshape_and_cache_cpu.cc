#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache_args.h"
#include "simd/cache_write.h"
#include "simd/head_norm_rope.h"
#include "simd/parallel.h"

namespace aiter::AITER_ISA {
namespace {

using Args = FusedQkRopeReshapeAndCacheArgs;
using Part = Args::Part;
using Target = Args::Target;
constexpr int64_t kChunk = 1024;  // numbers converted at a time

void store_scale(const Target& target, int64_t index, const Scale& scale) {
  for (int64_t i = 0; i < int64_t{1} << target.scale_bits; ++i)
    if (target.scale_dtype == DType::kF8E8M0)
      reinterpret_cast<uint8_t*>(target.scale.data)[index + i] = static_cast<uint8_t>(scale.code);
    else
      target.scale.data[index + i] = scale.value;
}

struct Vectors : VectorHead {
  template <class T>
  static float amax(const T* x, int64_t n) {
    return group_amax(n, [&](int64_t i, int lanes) { return load_some(x + i, lanes); });
  }
  template <class Codec, class T>
  static void encode(const CacheLayout& to, int64_t at, int64_t begin, const T* x, int64_t n,
                     float factor) {
    uint8_t codes[kChunk];
    for (int64_t d = 0; d < n; d += kChunk) {
      const int64_t m = n - d < kChunk ? n - d : kChunk;
      encode_codes<Codec>(m, factor, codes, false,
                          [&](int64_t i, int lanes) { return load_some(x + d + i, lanes); });
      place(to, at, begin + d, codes, m);
    }
  }
};

struct Plain : PlainHead {
  template <class T>
  static float amax(const T* x, int64_t n) {
    float most = 0;
    for (int64_t i = 0; i < n; ++i) {
      const float v = __builtin_fabsf(to_float(x[i]));
      if (v > most) most = v < 3.4028234663852886e38f ? v : 3.4028234663852886e38f;
    }
    return most;
  }
  template <class Codec, class T>
  static void encode(const CacheLayout& to, int64_t at, int64_t begin, const T* x, int64_t n,
                     float factor) {
    uint8_t* codes = static_cast<uint8_t*>(to.data) + at;
    for (int64_t i = 0; i < n; ++i)
      codes[to.at_dim(static_cast<uint32_t>(begin + i))] =
          static_cast<uint8_t>(Codec::encode(to_float(x[i]) * factor));
  }
};

// Head h of a token or slot into its place.
template <class Row, class T>
void put(const Args& a, const Target& target, const T* head, int64_t dim, int64_t page,
         uint32_t slot, int64_t h) {
  const int64_t at = target.to.at_slot(page, slot) + h * target.to.head;
  if (target.dtype == a.dtype) {
    if (static_cast<T*>(target.to.data) + at != head) place(target.to, at, 0, head, dim);
    return;
  }
  if (target.quant == CacheQuant::kNone) {  // f16 or bf16 of floats
    with_float_type(target.dtype, [&]<class C>(C) {
      for (int64_t d = 0; d < dim; ++d) {
        const C x = from_float<C>(to_float(head[d]));
        place(target.to, at, d, &x, 1);
      }
    });
    return;
  }
  const bool dynamic = target.quant == CacheQuant::kDynamic;
  const int64_t group = dynamic ? target.group : dim;
  with_cache_codec(target.dtype, [&]<class Codec>(Codec) {
    for (int64_t d = 0, g = 0; d < dim; d += group, ++g) {
      const int64_t n = dim - d < group ? dim - d : group;
      const int64_t scale_at = target.scale_at(page, slot, h, g);
      float factor = 1.0f;
      if (dynamic) {
        const QuantSpec spec{target.dtype, target.scale_dtype, MxRound::kUp, __builtin_inff(), 1.0f,
                             nullptr};
        const Scale scale = cache_scale<Codec>(Row::amax(head + d, n), target.amax_floor, spec);
        store_scale(target, scale_at, scale);
        factor = scale.factor;
      } else if (target.scale.data) {
        factor = 1.0f / target.scale.data[scale_at];
      }
      Row::template encode<Codec>(target.to, at, d, head + d, n, factor);
    }
  });
}

template <class Row, class T>
void write_tokens(const Args& args, int64_t begin, int64_t end) {
  const Args a = args;  // what is written may alias the caller's
  RopeFactors factors;
  T row[Args::kMaxDim];
  for (int64_t t = begin; t < end; ++t) {
    int64_t rows[3] = {0, 0, 0};
    const bool turns = a.angles.pairs > 0 && rope_rows(a.angles, t, rows);
    if (turns) factors.load(a.angles, 0, rows, 0, a.angles.pairs);
    for (int i = 0; i < a.part_count; ++i) {
      const Part& part = a.parts[i];
      int64_t pages[2];
      uint32_t slots[2];
      bool goes[2] = {};
      for (int k = 0; k < part.target_count; ++k)
        goes[k] = a.find(part.targets[k], t, pages[k], slots[k]);
      if (!goes[0] && !goes[1]) continue;
      const T* in = static_cast<const T*>(part.from) + t * part.from_token;
      for (int64_t h = 0; h < part.heads; ++h, in += part.from_head) {
        const T* head = in;
        if (part.norm.on) {
          Row::normalize(part.norm, part.dim, in, row);
          head = row;
        }
        if (part.turns && turns) {
          if (head == in) memcpy(row, in, part.dim * sizeof(T));
          Row::turn(a.angles, factors, row + part.first);
          head = row;
        }
        for (int k = 0; k < part.target_count; ++k)
          if (goes[k]) put<Row>(a, part.targets[k], head, part.dim, pages[k], slots[k], h);
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
