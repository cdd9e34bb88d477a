#include "ops/rope/rotary_embedding/rotary_embedding_args.h"
#include "simd/cache.h"
#include "simd/parallel.h"
#include "simd/rope.h"
#include "simd/stream.h"

namespace aiter::AITER_ISA {
namespace {

int64_t head_size(const RotaryEmbeddingArgs& a) { return a.angles.parts * a.part_size; }

// Where the turning dimensions of a part begin, and the others.
int64_t turning(const RotaryEmbeddingArgs& a) {
  return a.nope_first ? a.part_size - 2 * a.angles.pairs : 0;
}
int64_t rest(const RotaryEmbeddingArgs& a) { return a.nope_first ? 0 : 2 * a.angles.pairs; }

template <class T>
void copy(const T* in, T* out, int64_t count) {
  if (in != out && count > 0) memcpy(out, in, count * sizeof(T));
}

// f(in, out, side) for every head of token t.
template <class T, class F>
AITER_INLINE void each_head(const RotaryEmbeddingArgs& a, int64_t t, F&& f) {
  for (int side = 0; side < a.side_count; ++side) {
    const RopeHeads& s = a.sides[side];
    const T* in = static_cast<const T*>(s.in) + s.in_tokens.offset(t);
    T* out = static_cast<T*>(s.out) + s.out_tokens.offset(t);
    for (int64_t h = 0; h < s.heads; ++h)
      f(in + h * s.in_head_stride, out + h * s.out_head_stride, side);
  }
}

template <class T>
void turn_tokens(const RotaryEmbeddingArgs& args, const bool (&streamed)[2], int64_t begin,
                 int64_t end) {
  const RotaryEmbeddingArgs a = args;  // what is written may alias the caller's
  constexpr int kRun = RopeFactors::kPairs;
  const int64_t pairs = a.angles.pairs, still = a.part_size - 2 * pairs;
  const bool whole_lines = still == 0 && pairs * sizeof(T) % 64 == 0;
  LineStream streams[2];
  RopeFactors factors[2];
  for (int64_t t = begin; t < end; ++t) {
    int64_t rows[3] = {0, 0, 0};
    if (!rope_rows(a.angles, t, rows)) {
      each_head<T>(a, t, [&](const T* in, T* out, int) { copy(in, out, head_size(a)); });
      continue;
    }
    for (int64_t p0 = 0; p0 < pairs || p0 == 0; p0 += kRun) {
      const int64_t run = pairs - p0 < kRun ? pairs - p0 : kRun;
      for (int part = 0; part < a.angles.parts; ++part)
        factors[part].load(a.angles, part, rows, p0, run);
      each_head<T>(a, t, [&](const T* in, T* out, int side) {
        // Some heads ahead, as heads are not read in the order of memory.
        if (streamed[side]) prefetch<true>(in + 8192 / sizeof(T), static_cast<int>(head_size(a)));
        const bool lines = whole_lines && reinterpret_cast<uintptr_t>(out) % 64 == 0;
        const bool directly = streamed[side] && lines, collected = streamed[side] && !lines;
        if (collected)
          out = streams[side].place(out, head_size(a) * static_cast<int64_t>(sizeof(T)));
        for (int part = 0; part < a.angles.parts; ++part) {
          if (p0 == 0) copy(in + rest(a), out + rest(a), still);
          const int64_t first = turning(a) + p0;
          if (a.angles.pairs_interleaved)
            turn_neighbours(in + first + p0, out + first + p0, factors[part], 2 * run, directly);
          else
            turn_halves(in + first, out + first, factors[part], run, pairs, directly);
          in += a.part_size, out += a.part_size;
        }
        if (collected) streams[side].send();
      });
    }
  }
}

// Whether to write past the caches: a large output other than the input, head by head.
template <class T>
bool is_streamed(const RotaryEmbeddingArgs& a, const RopeHeads& s) {
  const int64_t bytes = head_size(a) * sizeof(T);
  return s.out != s.in && bytes <= LineStream::kRun && a.angles.pairs <= RopeFactors::kPairs &&
         worth_streaming(s.out, a.tokens * s.heads * bytes, sizeof(T));
}

// cos and sin of the first or second element of pair p.
struct Factor {
  float cos, sin;
};
Factor factor(const RopeAngles& a, int part, const int64_t (&rows)[3], int64_t p, bool second) {
  const RopeTable& table = a.tables[part];
  const int64_t row = rows[rope_axis(a, part, p)];
  const int64_t column = p * a.pair_stride + (second ? a.second : 0);
  Factor f{};
  with_float_type(a.dtype, [&]<class C>(C) {
    f.cos = to_float(static_cast<const C*>(table.cos)[row * table.cos_stride + column]);
    if (table.sin)
      f.sin = to_float(static_cast<const C*>(table.sin)[row * table.sin_stride + column]);
  });
  if (!table.sin) {
    float sines[kLanes], cosines[kLanes];
    Vec s, c;
    sincos(set1(f.cos), s, c);
    store(sines, s), store(cosines, c);
    f = {cosines[0], sines[0]};
  }
  return f;
}

template <class T>
void turn_plain(const RotaryEmbeddingArgs& a) {
  const RopeAngles& angles = a.angles;
  for (int64_t t = 0; t < a.tokens; ++t) {
    int64_t rows[3] = {0, 0, 0};
    const bool turns = rope_rows(angles, t, rows);
    each_head<T>(a, t, [&](const T* in, T* out, int) {
      if (!turns) return copy(in, out, head_size(a));
      for (int part = 0; part < angles.parts; ++part, in += a.part_size, out += a.part_size) {
        copy(in + rest(a), out + rest(a), a.part_size - 2 * angles.pairs);
        for (int64_t p = 0; p < angles.pairs; ++p) {
          const int64_t i = turning(a) + (angles.pairs_interleaved ? 2 * p : p);
          const int64_t j = i + (angles.pairs_interleaved ? 1 : angles.pairs);
          const Factor f = factor(angles, part, rows, p, false);
          const Factor g = factor(angles, part, rows, p, true);
          const float x = to_float(in[i]), y = to_float(in[j]);
          out[i] = from_float<T>(angles.inverse ? x * f.cos + y * g.sin : x * f.cos - y * f.sin);
          out[j] = from_float<T>(angles.inverse ? y * g.cos - x * f.sin : y * g.cos + x * g.sin);
        }
      }
    });
  }
}

}  // namespace

void rotary_embedding_cpu_simd(const RotaryEmbeddingArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    const int64_t elements = (a.sides[0].heads + a.sides[1].heads) * head_size(a);
    const bool streamed[2] = {is_streamed<T>(a, a.sides[0]),
                              a.side_count > 1 && is_streamed<T>(a, a.sides[1])};
    parallel_for(a.tokens, row_grain(elements),
                 [&](int64_t begin, int64_t end) { turn_tokens<T>(a, streamed, begin, end); });
  });
}

void rotary_embedding_cpu_ref(const RotaryEmbeddingArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) { turn_plain<T>(a); });
}

}  // namespace aiter::AITER_ISA
