#include "ops/kvcache/reshape_and_cache_with_block_quant/reshape_and_cache_with_block_quant_args.h"
#include "simd/cache_run.h"
#include "simd/parallel.h"

namespace aiter::AITER_ISA {
namespace {

using Args = ReshapeAndCacheWithBlockQuantArgs;

// The tokens of one page: the last one of the call for each slot, or -1.
struct Page {
  int64_t page = 0;
  int64_t slots;
  int32_t token_of[Args::kMaxPage];

  Page(const Args& a, int64_t run) : slots(a.slots.block.divisor) {
    for (int64_t s = 0; s < slots; ++s) token_of[s] = -1;
    for (int64_t i = a.begins[run]; i < a.begins[run + 1]; ++i) {
      uint32_t slot = 0;
      a.slots.find(a.tokens[i], page, slot);
      token_of[slot] = static_cast<int32_t>(a.tokens[i]);
    }
  }
};

// Codes of one head, in pieces.
template <class Codes, class Codec, class T>
void write_codes(const CacheLayout& to, int64_t at, const T* x, int64_t n, float factor) {
  constexpr int64_t kChunk = 1024;
  uint8_t codes[kChunk];
  for (int64_t d = 0; d < n; d += kChunk) {
    const int64_t m = n - d < kChunk ? n - d : kChunk;
    Codes::template encode<Codec>(x + d, m, factor, codes);
    place(to, at, d, codes, m);
  }
}

// Codes of neighbouring slots from s on that all have tokens: as many as lie together, and their number.
template <class T, class Codec>
int64_t write_together(const Args& a, const Page& page, const CacheRows& rows, int64_t head,
                       int64_t s, float factor, LineStream* stream) {
  alignas(64) uint8_t stage[kTileBytes];
  if (rows.dim > kTileBytes) return 0;
  const uint32_t part = a.block.divide(static_cast<uint32_t>(s));
  const uint32_t slot = static_cast<uint32_t>(s) - part * a.block.divisor;
  const uint32_t most = slots_at_once(rows.to, rows.dim, 1), at_once = most - slot % most;
  CacheRun run{0, page.page * a.blocks + part, slot, 0};
  const T* from = static_cast<const T*>(rows.from) + head * rows.from_head;
  while (run.slots < at_once && slot + run.slots < a.block.divisor) {
    const int32_t token = page.token_of[s + run.slots];
    if (token < 0) break;
    const T* x = from + token * rows.from_token;
    encode_codes<Codec>(rows.dim, factor, stage + run.slots * rows.dim, false, ArrayNumbers<T>{x});
    ++run.slots;
  }
  RowFetch none;
  write_run<uint8_t>(rows.to, run, head, 1, rows.dim, {stage, rows.dim, rows.dim}, stream, none);
  return run.slots;
}

template <class Codes, class T, class Codec>
void write_head(const Args& a, const Page& page, const CacheRows& rows, int64_t head,
                LineStream* stream) {
  const T* from = static_cast<const T*>(rows.from) + head * rows.from_head;
  float amax = 0;
  for (int64_t s = 0; s < page.slots; ++s) {
    if (page.token_of[s] < 0) continue;
    const float here = Codes::amax(from + page.token_of[s] * rows.from_token, rows.dim);
    amax = here > amax ? here : amax;
  }
  float* stored = rows.scale.data + page.page * rows.scale.page + head * rows.scale.head;
  float scale = cache_scale<Codec>(amax, a.amax_floor, a.spec).value;
  const bool anew = page.token_of[0] >= 0;
  const float old = anew ? scale : *stored;
  const float shrink = old / scale;
  const bool raised = !(old >= scale);  // NaN is no scale
  if (!raised) scale = old;
  const float factor = 1.0f / scale;
  *stored = scale;
  for (int64_t s = 0; s < page.slots; ++s) {
    const int32_t token = page.token_of[s];
    if (token < 0 && !raised) continue;
    if constexpr (__is_same(Codes, VectorCodes)) {
      const int64_t written =
          token < 0 ? 0 : write_together<T, Codec>(a, page, rows, head, s, factor, stream);
      if (written > 0) {
        s += written - 1;
        continue;
      }
    }
    const int64_t at =
        a.at_slot(rows.to, page.page, static_cast<uint32_t>(s)) + head * rows.to.head;
    if (token >= 0) {
      write_codes<Codes, Codec>(rows.to, at, from + token * rows.from_token, rows.dim, factor);
    } else {
      uint8_t* codes = static_cast<uint8_t*>(rows.to.data) + at;
      for (int64_t d = 0; d < rows.dim; ++d) {
        uint8_t* code = &codes[rows.to.at_dim(static_cast<uint32_t>(d))];
        *code = static_cast<uint8_t>(Codec::encode(Codec::decode(*code) * shrink));
      }
    }
  }
}

template <class Codes>
void write_pages(const Args& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    with_cache_codec(a.spec.code, [&]<class Codec>(Codec) {
      parallel_for(
          a.run_count, __is_same(Codes, VectorCodes) ? 1 : a.run_count,
          [&](int64_t begin, int64_t end) {
            LineStream streams[2];
            for (int64_t run = begin; run < end; ++run) {
              const Page page(a, run);
              for (int i = 0; i < 2; ++i) {
                const CacheRows& rows = a.rows[i];
                const bool streamed =
                    worth_streaming(rows.to.data, a.begins[a.run_count] * rows.heads * rows.dim, 1);
                for (int64_t h = 0; h < rows.heads; ++h)
                  write_head<Codes, T, Codec>(a, page, rows, h, streamed ? &streams[i] : nullptr);
              }
            }
          });
    });
  });
}

}  // namespace

void reshape_and_cache_with_block_quant_cpu_simd(const Args& a) { write_pages<VectorCodes>(a); }
void reshape_and_cache_with_block_quant_cpu_ref(const Args& a) { write_pages<PlainCodes>(a); }

}  // namespace aiter::AITER_ISA
