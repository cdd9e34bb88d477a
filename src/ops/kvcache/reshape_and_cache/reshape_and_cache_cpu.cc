#include "ops/kvcache/reshape_and_cache/reshape_and_cache_args.h"
#include "simd/cache_run.h"
#include "simd/parallel.h"
#include "simd/scratch.h"

namespace aiter::AITER_ISA {
namespace {

using Args = ReshapeAndCacheArgs;

// Calls f(side, token, head, where the head begins in the cache, index of its scale).
template <class F>
AITER_INLINE void each_head(const Args& a, int64_t begin, int64_t end, F&& f) {
  for (int64_t t = begin; t < end; ++t) {
    int64_t page;
    uint32_t slot;
    if (!a.slots.find(t, page, slot)) continue;
    for (int i = 0; i < a.row_count; ++i) {
      const CacheRows& rows = a.rows[i];
      const int64_t at = rows.to.at_slot(page, slot);
      const int64_t scale = page * rows.scale.page + slot * rows.scale.slot;
      for (int64_t h = 0; h < rows.heads; ++h)
        f(rows, t * rows.from_token + h * rows.from_head, at + h * rows.to.head,
          scale + h * rows.scale.head);
    }
  }
}

// The heads of tokens that become NVFP4: f(numbers, how many, where their codes begin, layout of
// their bytes, where their scales begin, layout of them).
template <class T, class F>
void each_nvfp4_head(const Args& a, F&& f) {
  const int64_t dims = a.rows[0].heads * (a.rows[0].dim + a.rows[1].dim);
  parallel_for(a.slots.count, row_grain(dims), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      int64_t page;
      uint32_t slot;
      if (!a.slots.find(t, page, slot)) continue;
      for (int i = 0; i < a.row_count; ++i) {
        const CacheRows& rows = a.rows[i];
        const CacheLayout& scales = a.nvfp4_scales[i];
        const T* x = static_cast<const T*>(rows.from) + t * rows.from_token;
        uint8_t* codes = static_cast<uint8_t*>(rows.to.data) + rows.to.at_slot(page, slot);
        uint8_t* scale =
            static_cast<uint8_t*>(scales.data) + scales.at_slot(page, nvfp4_scale_slot(slot));
        for (int64_t h = 0; h < rows.heads; ++h)
          f(x + h * rows.from_head, rows.dim, codes + h * rows.to.head, rows.to,
            scale + h * scales.head, scales);
      }
    }
  });
}

// Numbers of one side that become elements of the cache: of `slots` tokens from `token` on, heads from
// `head` on.
struct Block {
  const CacheRows& rows;
  int64_t token, slots, head, heads;
  int64_t scale;  // index of the first one's; 0 where there are none
  RowFetch& next;

  // f(where a head's numbers begin, where its elements go, index of its scale)
  template <class T, class E, class F>
  AITER_INLINE void each(const T*, E* out, F&& f) const {
    for (int64_t s = 0; s < slots; ++s)
      for (int64_t h = head; h < head + heads; ++h, out += rows.dim) {
        next.more(rows.dim * static_cast<int64_t>(sizeof(T)));
        f((token + s) * rows.from_token + h * rows.from_head, out,
          scale + s * rows.scale.slot + h * rows.scale.head);
      }
  }
};

// Another float.
struct Rounding {
  static constexpr int64_t kBytes = 4;
  template <class E>
  AITER_INLINE void operator()(const Block& block, E* out) const {
    const float* x = static_cast<const float*>(block.rows.from);
    block.each(x, out, [&](int64_t from, E* to, int64_t) {
      for_lanes(block.rows.dim, [&](int64_t i, int lanes) {
        store_some(to + i, load_some(x + from + i, lanes), lanes);
      });
    });
  }
};

// Codes. Scales are computed for many groups at a time, so that none waits for the last step of
// another.
template <class T, class Codec>
struct Encoding {
  static constexpr int64_t kBytes = sizeof(T);
  const Args& a;

  void operator()(const Block& block, uint8_t* out) const {
    const CacheRows& rows = block.rows;
    const T* x = static_cast<const T*>(rows.from);
    typedef ArrayNumbers<T> Numbers;
    if (a.quant == CacheQuant::kStatic) {
      block.each(x, out, [&](int64_t from, uint8_t* to, int64_t scale) {
        const float factor = rows.scale.data ? 1.0f / rows.scale.data[scale] : 1.0f;
        encode_codes<Codec>(rows.dim, factor, to, false, Numbers{x + from});
      });
      return;
    }
    struct Group {
      Numbers numbers;
      int64_t n;
      uint8_t* to;
      float* scale;
    } groups[kLanes];
    Words most[kLanes] = {};
    int count = 0;
    auto flush = [&] {
      Vec amax;
      amax_of_each<Numbers::kHalves>(
          most, count, [&](int k) { return group_amax(groups[k].n, groups[k].numbers); }, &amax);
      Scales s;
      scales_for<Codec>(max(amax, set1(a.amax_floor)), a.spec, &s);
      for (int k = 0; k < count; ++k) {
        const bool power = a.spec.scale == DType::kF8E8M0;
        *groups[k].scale = power ? e8m0_decode(s.code[k]) : s.value[k];
        encode_codes<Codec>(groups[k].n, s.factor[k], groups[k].to, false, groups[k].numbers);
      }
      count = 0;
    };
    block.each(x, out, [&](int64_t from, uint8_t* to, int64_t scale) {
      for (int64_t d = 0; d < rows.dim; d += a.group, scale += rows.scale.group) {
        const int64_t n = rows.dim - d < a.group ? rows.dim - d : a.group;
        const Numbers numbers{x + from + d};
        groups[count] = {numbers, n, to + d, rows.scale.data + scale};
        most[count++] = range_magnitudes(0, n, numbers);
        if (count == kLanes) flush();
      }
    });
    if (count > 0) flush();
  }
};

// As they are.
struct Copying {};

// The rows of the tokens that come some way after a run's.
RowFetch rows_after(const CacheRows& rows, const CacheRun& run, int64_t bytes) {
  const char* from = static_cast<const char*>(rows.from);
  const int64_t stride = rows.from_token * bytes, row = rows.heads * rows.from_head * bytes;
  int64_t ahead = 8192 / (row + 1);
  ahead = ahead > run.slots ? ahead : run.slots;
  return {from + (run.token + ahead) * stride, row, stride};
}

template <class E, class Convert>
void write_side(const CacheRows& rows, const CacheRun& run, const Convert& convert, E* stage,
                LineStream* stream) {
  if constexpr (__is_same(Convert, Copying)) {
    const E* from = static_cast<const E*>(rows.from) + run.token * rows.from_token;
    RowFetch next;
    if (stream && run.slots > 1) next = rows_after(rows, run, sizeof(E));
    write_run<E>(rows.to, run, 0, rows.heads, rows.dim, {from, rows.from_token, rows.from_head},
                 stream, next);
  } else {
    const int64_t scale = run.page * rows.scale.page + run.slot * rows.scale.slot;
    const int64_t bytes = run.slots * rows.dim * static_cast<int64_t>(sizeof(E));
    const int64_t at_once = bytes < kTileBytes ? kTileBytes / (bytes + 1) : 1;
    RowFetch next, none;
    if (stream) next = rows_after(rows, run, convert.kBytes);
    for (int64_t h = 0; h < rows.heads; h += at_once) {
      const int64_t heads = rows.heads - h < at_once ? rows.heads - h : at_once;
      convert(Block{rows, run.token, run.slots, h, heads, scale, next}, stage);
      write_run<E>(rows.to, run, h, heads, rows.dim, {stage, heads * rows.dim, rows.dim}, stream,
                   none);
    }
  }
}

template <class E, class Convert>
void write_tokens(const Args& a, const Convert& convert) {
  constexpr int64_t kBytes = sizeof(E);
  int64_t dims = 0, stage_bytes = kTileBytes;
  uint32_t at_once = 64;
  bool streamed[2] = {};
  for (int i = 0; i < a.row_count; ++i) {
    const CacheRows& rows = a.rows[i];
    dims += rows.heads * rows.dim;
    stage_bytes =
        rows.dim * kBytes > stage_bytes ? (rows.dim * kBytes + 63) / 64 * 64 : stage_bytes;
    const uint32_t slots = slots_at_once(rows.to, rows.dim, kBytes);
    at_once = slots < at_once ? slots : at_once;
    streamed[i] =
        worth_streaming(rows.to.data, a.slots.count * rows.heads * rows.dim * kBytes, kBytes);
  }
  const int64_t pieces = row_pieces(a.slots.count, dims);
  uint8_t* memory = __is_same(Convert, Copying) ? nullptr : scratch(pieces * stage_bytes);
  parallel_tasks(pieces, [&](int64_t piece, int) {
    LineStream streams[2];
    E* stage = reinterpret_cast<E*>(memory + piece * stage_bytes);
    each_run(a.slots, a.slots.count * piece / pieces, a.slots.count * (piece + 1) / pieces, at_once,
             [&](const CacheRun& run) {
               for (int i = 0; i < a.row_count; ++i)
                 write_side<E>(a.rows[i], run, convert, stage, streamed[i] ? &streams[i] : nullptr);
             });
  });
}

}  // namespace

void reshape_and_cache_cpu_simd(const Args& a) {
  if (a.quant == CacheQuant::kNvfp4) {
    with_float_type(a.dtype, [&]<class T>(T) {
      each_nvfp4_head<T>(a, [&](const T* x, int64_t n, uint8_t* codes, const CacheLayout& at,
                                uint8_t* scale, const CacheLayout& scales) {
        const int64_t groups = n / 16;
        for (int64_t first = 0; first < groups; first += kLanes) {
          const int64_t count = groups - first < kLanes ? groups - first : kLanes;
          typedef ArrayNumbers<T> Numbers;
          auto numbers = [&](int k) { return Numbers{x + (first + k) * 16}; };
          Words most[kLanes] = {};
          for (int k = 0; k < count; ++k) most[k] = range_magnitudes(0, 16, numbers(k));
          Vec amax;
          amax_of_each<Numbers::kHalves>(
              most, static_cast<int>(count), [&](int k) { return group_amax(16, numbers(k)); },
              &amax);
          Scales s;
          scales_for<E2M1FN>(amax, a.spec, &s);
          for (int64_t k = 0; k < count; ++k) {
            const uint32_t g = static_cast<uint32_t>(first + k);
            scale[scales.at_dim(g)] = static_cast<uint8_t>(s.code[k]);
            encode_codes<E2M1FN>(16, s.factor[k], codes + at.at_dim(8 * g), false,
                                 Numbers{x + 16 * g});
          }
        }
      });
    });
  } else if (a.quant != CacheQuant::kNone) {
    with_float_type(a.dtype, [&]<class T>(T) {
      with_cache_codec(a.spec.code, [&]<class Codec>(Codec) {
        write_tokens<uint8_t>(a, Encoding<T, Codec>{a});
      });
    });
  } else if (a.dtype == a.cache_dtype) {
    with_bits(a.dtype, [&]<class E>(E) { write_tokens<E>(a, Copying{}); });
  } else if (a.cache_dtype == DType::kF16) {
    write_tokens<f16>(a, Rounding{});
  } else {
    write_tokens<bf16>(a, Rounding{});
  }
}

void reshape_and_cache_cpu_ref(const Args& a) {
  if (a.quant == CacheQuant::kNvfp4) {
    with_float_type(a.dtype, [&]<class T>(T) {
      each_nvfp4_head<T>(a, [&](const T* x, int64_t n, uint8_t* codes, const CacheLayout& at,
                                uint8_t* scale, const CacheLayout& scales) {
        for (uint32_t g = 0; g < n / 16; ++g, x += 16) {
          const Scale s = scale_for<E2M1FN>(PlainCodes::amax(x, 16), a.spec);
          scale[scales.at_dim(g)] = static_cast<uint8_t>(s.code);
          for (uint32_t k = 0; k < 16; k += 2)
            codes[at.at_dim(8 * g + k / 2)] =
                static_cast<uint8_t>(E2M1FN::encode(to_float(x[k]) * s.factor) |
                                     E2M1FN::encode(to_float(x[k + 1]) * s.factor) << 4);
        }
      });
    });
  } else if (a.quant != CacheQuant::kNone) {
    with_float_type(a.dtype, [&]<class T>(T) {
      with_cache_codec(a.spec.code, [&]<class Codec>(Codec) {
        each_head(
            a, 0, a.slots.count,
            [&](const CacheRows& rows, int64_t from, int64_t to, int64_t scale_index) {
              const T* x = static_cast<const T*>(rows.from) + from;
              const bool dynamic = a.quant == CacheQuant::kDynamic;
              float factor = 1.0f;
              if (!dynamic && rows.scale.data) factor = 1.0f / rows.scale.data[scale_index];
              for (int64_t d = 0; d < rows.dim; ++d) {
                if (dynamic && d % a.group == 0) {
                  const int64_t n = rows.dim - d < a.group ? rows.dim - d : a.group;
                  const float amax = PlainCodes::amax(x + d, n);
                  const Scale scale = cache_scale<Codec>(amax, a.amax_floor, a.spec);
                  rows.scale.data[scale_index + d / a.group * rows.scale.group] = scale.value;
                  factor = scale.factor;
                }
                static_cast<uint8_t*>(rows.to.data)[to + rows.to.at_dim(static_cast<uint32_t>(d))] =
                    static_cast<uint8_t>(Codec::encode(to_float(x[d]) * factor));
              }
            });
      });
    });
  } else if (a.dtype != a.cache_dtype) {
    each_head(a, 0, a.slots.count, [&](const CacheRows& rows, int64_t from, int64_t to, int64_t) {
      for (int64_t d = 0; d < rows.dim; ++d) {
        const int64_t at = to + rows.to.at_dim(static_cast<uint32_t>(d));
        const float x = static_cast<const float*>(rows.from)[from + d];
        if (a.cache_dtype == DType::kF16)
          static_cast<f16*>(rows.to.data)[at] = from_float<f16>(x);
        else
          static_cast<bf16*>(rows.to.data)[at] = from_float<bf16>(x);
      }
    });
  } else {
    with_bits(a.dtype, [&]<class C>(C) {
      each_head(a, 0, a.slots.count, [&](const CacheRows& rows, int64_t from, int64_t to, int64_t) {
        for (int64_t d = 0; d < rows.dim; ++d)
          memcpy(static_cast<C*>(rows.to.data) + to + rows.to.at_dim(static_cast<uint32_t>(d)),
                 static_cast<const C*>(rows.from) + from + d, sizeof(C));
      });
    });
  }
}

}  // namespace aiter::AITER_ISA
