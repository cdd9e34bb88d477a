// Norm and rotation of heads, each of which some lanes of a wave, a power of two, take: each step
// rounds to the head's dtype, as operators of their own would.
#pragma once

#include "ck/core/reduce.h"
#include "ck/rope/rope.h"
#include "ops/rope/head_norm.h"

namespace aiter {

// This group's head of a token.
struct HeadOfToken {
  const HeadNorm& norm;
  const RopeAngles& angles;
  int64_t dim, token;
  int64_t pairs;           // that turn
  int64_t turning, still;  // where the dims begin that turn, and those that do not
  int lane, lanes;         // of the group
  bool there;              // else the group has none

  AITER_DEVICE int64_t still_count() const { return dim - 2 * pairs; }
  // 1 / the root mean square, from the lanes' sums of squares. All lanes of the wave must call it.
  AITER_DEVICE float scale(float squares) const {
    AITER_UNROLL
    for (int mask = kWave / 2; mask > 0; mask /= 2)
      if (mask < lanes) squares += shuffle_xor(squares, mask);
    return scale_of_sum(squares);
  }
  AITER_DEVICE float scale_of_sum(float squares) const {
    return rsqrt_fast(fma(squares, reciprocal_fast(static_cast<float>(dim)), norm.eps));
  }
  // The N dims from d on, normalized and rounded to T.
  template <class T, int N>
  AITER_DEVICE void normalize(int64_t d, float factor, float (&v)[N]) const {
    float gain[N] = {};
    if (norm.weight) load_floats<N, T>(norm.weight, norm.weight_dtype, d, gain);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      v[k] *= factor;
      if (norm.weight) v[k] *= norm.gemma ? gain[k] + 1.0f : gain[k];
    }
    Pack<T, N>::from_floats(v).to_floats(v);
  }
};

// Where a head comes from: memory, as it is.
template <class T>
struct StoredHead {
  template <int N>
  using Loaded = Pack<T, N>;
  const T* data;

  template <int N>
  AITER_DEVICE Loaded<N> load(int64_t d) const {
    return load_pack<N>(data + d);
  }
};
// Parts of it, of T or f32, which are summed in fp32 one after the other; `rounded` then to T, as
// they are where no norm follows.
template <class T>
struct SummedHead {
  template <int N>
  struct Loaded {
    float numbers[N];
    AITER_DEVICE void to_floats(float (&v)[N]) const {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] = numbers[k];
    }
  };
  const void* data;
  DType dtype;
  int64_t at, splits, split;  // element of the first dim, number and stride of the parts
  bool rounded;

  template <int N>
  AITER_DEVICE Loaded<N> load(int64_t d) const {
    Loaded<N> sum;
    load_floats<N, T>(data, dtype, at + d, sum.numbers);
    AITER_NO_UNROLL
    for (int64_t s = 1; s < splits; ++s) {
      float part[N];
      load_floats<N, T>(data, dtype, at + d + s * split, part);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) sum.numbers[k] += part[k];
    }
    if (rounded) Pack<T, N>::from_floats(sum.numbers).to_floats(sum.numbers);
    return sum;
  }
};

// Heads in registers, of one part of a token: each lane holds two packs of each, which turn together
// or not at all. What heads have in common is loaded once. kPlain: angles are rope_is_plain(), their
// tables of T or f32, weights of T.
template <class T, bool kPlain = false>
struct HeadPacks {
  static constexpr int N = kPackSize<T, true>;
  int d[2];     // the first dim of each pack
  bool has[2];  // else the lane has none
  bool turns, near, normalizes;
  bool adds_one;  // kPlain: to weights
  int p;          // the first pair
  float gain[kPlain ? 1 : 2][kPlain ? 1 : N];
  Pack<T, N> weight[2];  // kPlain, which gets along with fewer registers so
  RopeFactors<N, false> factors;

  // Where the packs are, so that heads can be loaded; then prepare().
  AITER_DEVICE explicit HeadPacks(const HeadOfToken& head) {
    // Lanes have the dims in order, the two of a pair aside.
    const int pairs = static_cast<int>(head.pairs), turning = pairs / N;
    const int still_dims = static_cast<int>(head.still_count());
    const int stills = (still_dims / N + 1) / 2;
    const bool turns_last = head.turning > 0;
    const int its_turn = head.lane - (turns_last ? stills : 0);
    const int rest = (head.lane - (turns_last ? 0 : turning)) * 2 * N;
    const int first = static_cast<int>(head.turning), still = static_cast<int>(head.still);
    p = its_turn * N;
    turns = its_turn >= 0 && its_turn < turning;
    near = head.angles.pairs_interleaved;
    normalizes = head.norm.on;
    d[0] = turns ? first + (near ? 2 * p : p) : still + rest;
    d[1] = turns ? first + (near ? 2 * p + N : pairs + p) : still + rest + N;
    has[0] = head.there && (turns || rest < still_dims);
    has[1] = head.there && (turns || rest + N < still_dims);
  }

  // The row of the tables that turns the head, which may be known before the rest is needed.
  AITER_DEVICE int64_t row_of(const HeadOfToken& head) const {
    return turns && head.there ? rope_integer(head.angles.positions, head.angles.positions_dtype,
                                              head.token * head.angles.positions_rows.inner_stride)
                               : 0;
  }
  // `row`: row_of(head); kPlain alone needs it.
  AITER_DEVICE void prepare(const HeadOfToken& head, int64_t row = 0) {
    int64_t rows[3] = {row, 0, 0};
    turns = turns && head.there;
    if constexpr (kPlain) {
      turns = turns &&
              static_cast<uint64_t>(rows[0]) < static_cast<uint64_t>(head.angles.tables[0].rows);
    }
    const bool weighs = normalizes && head.norm.weight;
    adds_one = weighs && head.norm.gemma;
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      if constexpr (kPlain) {
        float ones[N];
        AITER_UNROLL
        for (int k = 0; k < N; ++k) ones[k] = 1;
        weight[i] = Pack<T, N>::from_floats(ones);
        if (weighs && has[i])
          weight[i] = load_pack<N>(static_cast<const T*>(head.norm.weight) + d[i]);
      } else {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) gain[i][k] = 1;
        if (!weighs || !has[i]) continue;
        load_floats<N, T>(head.norm.weight, head.norm.weight_dtype, d[i], gain[i]);
        AITER_UNROLL
        for (int k = 0; k < N; ++k) gain[i][k] = head.norm.gemma ? gain[i][k] + 1.0f : gain[i][k];
      }
    }
    if constexpr (kPlain) {
      if (turns) factors.template load_plain<T>(head.angles, rows[0], p);
    } else {
      turns = turns && rope_rows(head.angles, head.token, rows);
      if (turns) factors.load(head.angles, 0, rows, p);
    }
  }

  // A head's packs, 0 where it has none.
  template <class Source>
  AITER_DEVICE void load(const Source& source, bool there,
                         typename Source::template Loaded<N> (&packs)[2]) const {
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      packs[i] = {};
      if (there && has[i]) packs[i] = source.template load<N>(d[i]);
    }
  }
  // Norm and rotation; what comes of it is yet to be rounded to T. All lanes of the wave must call it.
  // `norms`: some head of the wave is normalized.
  AITER_DEVICE void change(const HeadOfToken& head, bool norms, float (&v)[2][N]) const {
    if (norms) normalize(head.scale(squares(v)), v);
    turn(v);
  }
  AITER_DEVICE static float squares(const float (&v)[2][N]) {
    float sums[2];  // side by side
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      sums[i] = v[i][0] * v[i][0];
      AITER_UNROLL
      for (int k = 1; k < N; ++k) sums[i] = fma(v[i][k], v[i][k], sums[i]);
    }
    return sums[0] + sums[1];
  }
  AITER_DEVICE void normalize(float factor, float (&v)[2][N]) const {
    if (!normalizes) return;
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      float its[N];
      if constexpr (kPlain) {
        Pack<T, N> its_weight = weight[i];
        its_weight.forget();
        its_weight.to_floats(its);
        if (adds_one) {
          AITER_UNROLL
          for (int k = 0; k < N; ++k) its[k] += 1.0f;
        }
      }
      AITER_UNROLL
      for (int k = 0; k < N; ++k)
        v[i][k] = v[i][k] * factor * (kPlain ? its[k] : gain[kPlain ? 0 : i][kPlain ? 0 : k]);
    }
    if (turns) round(v);
  }
  AITER_DEVICE void turn(float (&v)[2][N]) const {
    if (!turns) return;
    if (near)
      factors.template turn<true>(v[0], v[1]);
    else
      factors.template turn<false>(v[0], v[1]);
  }
  AITER_DEVICE static void round(float (&v)[2][N]) {
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) Pack<T, N>::from_floats(v[i]).to_floats(v[i]);
  }
  AITER_DEVICE static void to_floats(const Pack<T, N> (&packs)[2], float (&v)[2][N]) {
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) packs[i].to_floats(v[i]);
  }
  AITER_DEVICE static void from_floats(const float (&v)[2][N], Pack<T, N> (&packs)[2]) {
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) packs[i] = Pack<T, N>::from_floats(v[i]);
  }
  // The head times the Walsh-Hadamard matrix and `scale`, stages from distance 1 up. Its dims are a
  // power of two, of which every lane holds 2 N neighbours. All lanes of the wave must call it.
  AITER_DEVICE static void rotate(const HeadOfToken& head, float scale, float (&v)[2][N]) {
    AITER_UNROLL
    for (int h = 1; h < N; h *= 2) {
      AITER_UNROLL
      for (int i = 0; i < 2; ++i) {
        AITER_UNROLL
        for (int k = 0; k < N; ++k)
          if (!(k & h)) butterfly(v[i][k], v[i][k + h]);
      }
    }
    AITER_UNROLL
    for (int k = 0; k < N; ++k) butterfly(v[0][k], v[1][k]);
    AITER_NO_UNROLL
    for (int h = 1; h < head.lanes; h *= 2) {
      const bool upper = head.lane & h;
      AITER_UNROLL
      for (int i = 0; i < 2; ++i) {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) {
          const float other = shuffle_xor(v[i][k], h);
          v[i][k] = upper ? other - v[i][k] : v[i][k] + other;
        }
      }
    }
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[i][k] *= scale;
    }
  }

 private:
  AITER_DEVICE static void butterfly(float& a, float& b) {
    const float sum = a + b;
    b = a - b;
    a = sum;
  }
};

// The packs of the heads [first, end) of a part of a token, one after the other: the next head's are
// under way while one is worked on.
template <class T, bool kPlain = false>
struct HeadStream {
  static constexpr int N = HeadPacks<T, kPlain>::N;
  const HeadPacks<T, kPlain>& packs;
  const T* from;  // of the next head
  int64_t step;
  int left;
  Pack<T, N> next[2];

  AITER_DEVICE HeadStream(const HeadPacks<T, kPlain>& its_packs, const T* heads, int64_t stride,
                          int first, int end)
      : packs(its_packs), from(heads + first * stride), step(stride), left(end - first) {
    load();
  }
  // 0 where there is none any more.
  AITER_DEVICE void take(Pack<T, N> (&now)[2]) {
    now[0] = next[0], now[1] = next[1];
    now[0].forget(), now[1].forget();
    from += step, --left;
    load();
  }

 private:
  AITER_DEVICE void load() { packs.load(StoredHead<T>{from}, left > 0, next); }
};

// What a group of lanes does in a block that takes neighbouring tokens, both powers of two: neighbouring
// groups have a head of neighbouring tokens.
struct GroupOfBlock {
  int lane, row, head;  // row: the token's place in the block
  int heads;            // at a time
  int64_t begin;        // the block's first token

  AITER_DEVICE GroupOfBlock(int lanes, int tokens) {
    const int bits = 31 - __builtin_clz(static_cast<uint32_t>(lanes));
    const int token_bits = 31 - __builtin_clz(static_cast<uint32_t>(tokens));
    const int group = thread_index() >> bits;
    lane = thread_index() & (lanes - 1);
    row = group & (tokens - 1), head = group >> token_bits;
    heads = block_threads() >> (bits + token_bits);
    begin = (static_cast<int64_t>(block_index_z()) * grid_blocks_y() + block_index_y()) * tokens;
  }
};

// A head of any size, of which a lane takes a pair that turns, or a dim that does not, at a time.
template <class T, class Source>
struct HeadDims {
  const HeadOfToken& head;
  const Source source;
  float factor = 1.0f;  // of the norm
  int64_t rows[3] = {0, 0, 0};
  bool turns;

  // All lanes of the wave must call it. `norms`: some head of the wave is normalized.
  AITER_DEVICE HeadDims(const HeadOfToken& its_head, const Source& its_source, bool norms)
      : head(its_head), source(its_source) {
    if (norms) {
      float squares = 0;
      if (head.there && head.norm.on)
        for (int64_t i = head.lane; i < head.dim; i += head.lanes) {
          const float x[1] = {number(i)};
          squares = fma(x[0], x[0], squares);
        }
      factor = head.scale(squares);
    }
    // Of every head, so that lanes do not part ways in there.
    turns = head.angles.pairs > 0 && rope_rows(head.angles, head.token, rows);
  }
  AITER_DEVICE float number(int64_t d) const {
    float x[1];
    source.template load<1>(d).to_floats(x);
    return x[0];
  }
  // Calls put(d, x) for the dims of this lane. It may write where the head is.
  template <class Put>
  AITER_DEVICE void each(Put put) const {
    if (!head.there) return;
    const bool near = head.angles.pairs_interleaved;
    AITER_NO_UNROLL
    for (int64_t u = head.lane; u < head.pairs + head.still_count(); u += head.lanes) {
      const bool pair = u < head.pairs;
      const int64_t i = pair ? head.turning + (near ? 2 * u : u) : head.still + u - head.pairs;
      const int64_t j = pair ? i + (near ? 1 : head.pairs) : i;
      float x[1] = {number(i)}, y[1] = {number(j)};
      if (head.norm.on) {
        head.normalize<T>(i, factor, x);
        head.normalize<T>(j, factor, y);
      }
      if (pair && turns) {
        RopeFactors<1, true> factors;  // the tables may have a column for each of a pair
        factors.load(head.angles, 0, rows, u);
        factors.template turn<false>(x, y);
        Pack<T, 1>::from_floats(x).to_floats(x);
        Pack<T, 1>::from_floats(y).to_floats(y);
      }
      put(i, x[0]);
      if (pair) put(j, y[0]);
    }
  }
};

}  // namespace aiter
