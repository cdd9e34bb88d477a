// Decode over a paged cache on NVIDIA's tensor cores. One query a sequence makes a matrix of the
// heads that share a kv head: 16 rows, of which the group's are used.
//
// A block has one sequence, one kv head, up to 16 of its query heads, and one split of the keys. Its
// warps take tiles of 16 keys in turn, each with a softmax and a pipeline of its own, and meet once
// at the end; so keys and values are read once, and no warp waits for another while they stream.
#pragma once

#include "ck/attention/decode_merge.h"
#include "ck/core/mma_nvidia.h"
#include "ops/attention/paged_attention_decode/paged_attention_decode_args.h"

#if !defined(AITER_AMD)
namespace aiter {

template <class T, int D>
struct DecodeMma {
  using Args = PagedAttentionDecodeArgs;
  static constexpr int kRows = Args::kHeadsPerBlock, kTile = 16, kWarps = Args::kMmaWarps;
  static constexpr int kStages = Args::kMmaStages;
  static constexpr int kRowBytes = D * 2, kChunks = kRowBytes / 16;  // of 16 bytes
  static constexpr int kTileBytes = kTile * kRowBytes;
  static constexpr int kWarpBytes = kStages * 2 * kTileBytes;
  static constexpr int kRowsPerCopy = kWave / kChunks;  // rows that a warp copies at a time
  static_assert(kWarps * kWarpBytes == Args::mma_shared_bytes(D));

  // Rows are 128 or 256 bytes; swapping chunks by row keeps ldmatrix free of bank conflicts.
  static AITER_DEVICE uint32_t swizzle(int row, int chunk) {
    return static_cast<uint32_t>(row * kRowBytes + ((chunk ^ (row & 7)) << 4));
  }

  const Args& a;
  const int warp, lane, b, kv_head, first_head, heads;
  uint32_t stages;  // this warp's part of shared memory
  VisibleKeys keys;
  int visible, tile_begin, tile_end;  // of this split

  AITER_DEVICE DecodeMma(const Args& args, char* shared)
      : a(args),
        warp(thread_index() / kWave),
        lane(thread_index() % kWave),
        b(block_index_x()),
        kv_head(block_index_y() % static_cast<int>(args.kv_heads)),
        first_head(block_index_y() / static_cast<int>(args.kv_heads) * kRows),
        heads(min<int>(kRows, static_cast<int>(args.q_heads / args.kv_heads) - first_head)),
        stages(shared_address(shared) + warp * kWarpBytes) {
    const AttentionSequence s = attention_sequence(a, b);
    keys = visible_keys(a, s, 0, 0);
    visible = static_cast<int>(keys.sinks + keys.end - keys.begin);
    const int tiles = (visible + kTile - 1) / kTile, split = block_index_z();
    const int splits = static_cast<int>(a.splits);
    const int per_split = (tiles + splits - 1) / splits;
    tile_begin = min(tiles, split * per_split);
    tile_end = min(tiles, tile_begin + per_split);
  }

  AITER_DEVICE int head() const {
    return kv_head * static_cast<int>(a.q_heads / a.kv_heads) + first_head;
  }

  // The key that row lane % 16 of a tile stands for, and its page: looked up well before its use.
  struct Row {
    int token, page;
  };
  AITER_DEVICE Row row_of(int tile) const {
    const int i = tile * kTile + lane % kTile;
    if (tile >= tile_end || i >= visible) return {-1, 0};
    const int sinks = static_cast<int>(keys.sinks);
    const int token = i < sinks ? i : static_cast<int>(keys.begin) + i - sinks;
    const int column = token / static_cast<int>(a.block);
    if (column >= a.max_pages) return {-1, 0};
    const int page = a.block_table[b * a.block_table_stride + column];
    return {page >= 0 && page < a.k_extent ? token : -1, page};
  }

  AITER_DEVICE void load(int stage, Row row) const {
    const int slot = row.token < 0 ? 0 : row.token % static_cast<int>(a.block);
    const int64_t k_offset = row.page * a.k_strides.outer + slot * a.k_strides.token;
    const int64_t v_offset = row.page * a.v_strides.outer + slot * a.v_strides.token;
    const char* k = static_cast<const char*>(a.k) + kv_head * a.k_strides.head * 2;
    const char* v = static_cast<const char*>(a.v) + kv_head * a.v_strides.head * 2;
    const uint32_t to = stages + stage * 2 * kTileBytes;
    const int chunk = lane % kChunks;
    AITER_UNROLL
    for (int r = 0; r < kTile; r += kRowsPerCopy) {
      const int mine = r + lane / kChunks;
      const bool valid = static_cast<int>(shuffle(static_cast<uint32_t>(row.token), mine)) >= 0;
      const uint32_t at = to + swizzle(mine, chunk);
      copy_async16(at, k + (shuffle(k_offset, mine) * 2 + chunk * 16), valid);
      copy_async16(at + kTileBytes, v + (shuffle(v_offset, mine) * 2 + chunk * 16), valid);
    }
  }

  AITER_DEVICE void load_q(uint32_t (&q)[D / 16][4]) const {
    const T* from = static_cast<const T*>(a.q) + b * a.q_strides.outer;
    // As ldmatrix would: rows lane / 4 and 8 below, columns 2 * (lane % 4) and 8 to the right.
    AITER_UNROLL
    for (int step = 0; step < D / 16; ++step) AITER_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i % 2 * 8, col = step * 16 + lane % 4 * 2 + i / 2 * 8;
      const T* p = from + (head() + row) * a.q_strides.head + col;
      q[step][i] = row < heads ? p[0].bits | static_cast<uint32_t>(p[1].bits) << 16 : 0u;
    }
  }

  AITER_DEVICE void run(char* shared) const {
    uint32_t q[D / 16][4];
    load_q(q);
    float out[D / 8][4] = {};
    float most[2] = {-kInfinity, -kInfinity}, sum[2] = {0, 0};  // scores times log2(e)

    int tile = tile_begin + warp;
    Row next = row_of(tile);
    AITER_UNROLL
    for (int stage = 0; stage < kStages - 1; ++stage) {
      load(stage, next);
      copy_async_commit();
      next = row_of(tile + (stage + 1) * kWarps);
    }
    int stage = 0;
    for (; tile < tile_end; tile += kWarps) {
      load((stage + kStages - 1) % kStages, next);
      copy_async_commit();
      next = row_of(tile + kStages * kWarps);
      copy_async_wait<kStages - 1>();
      warp_barrier();

      const uint32_t k = stages + stage * 2 * kTileBytes, v = k + kTileBytes;
      float s[2][4] = {};
      AITER_UNROLL
      for (int step = 0; step < D / 16; ++step) {
        uint32_t r[4];
        load_matrices(k + swizzle(lane % 8 + lane / 16 * 8, step * 2 + lane / 8 % 2), r);
        mma_16x8x16<T>(s[0], q[step], r[0], r[1]);
        mma_16x8x16<T>(s[1], q[step], r[2], r[3]);
      }

      const int left = visible - tile * kTile;
      float here[2] = {-kInfinity, -kInfinity};
      AITER_UNROLL
      for (int n = 0; n < 2; ++n) AITER_UNROLL
      for (int i = 0; i < 4; ++i) {
        float x = s[n][i] * a.scale;
        if (a.soft_cap > 0) x = a.soft_cap * tanh(x / a.soft_cap);
        x = n * 8 + lane % 4 * 2 + i % 2 < left ? x * kLog2E : -kInfinity;
        s[n][i] = x;
        here[i / 2] = max(here[i / 2], x);
      }
      AITER_UNROLL
      for (int h = 0; h < 2; ++h) {
        here[h] = max(here[h], shuffle_xor(here[h], 1));
        here[h] = max(here[h], shuffle_xor(here[h], 2));
        const float more = max(most[h], here[h]);
        const float keep = exp2_fast(most[h] - more);  // 0 at first: most is -infinity
        most[h] = more;
        sum[h] *= keep;
        AITER_UNROLL
        for (int d = 0; d < D / 8; ++d) out[d][2 * h] *= keep, out[d][2 * h + 1] *= keep;
      }
      uint32_t p[4];
      AITER_UNROLL
      for (int n = 0; n < 2; ++n) {
        AITER_UNROLL
        for (int i = 0; i < 4; ++i) {
          s[n][i] = exp2_fast(s[n][i] - most[i / 2]);
          sum[i / 2] += s[n][i];
        }
        p[2 * n] = pack2<T>(s[n][0], s[n][1]);
        p[2 * n + 1] = pack2<T>(s[n][2], s[n][3]);
      }
      AITER_UNROLL
      for (int d = 0; d < D / 16; ++d) {
        uint32_t r[4];
        load_matrices_transposed(v + swizzle(lane % 16, d * 2 + lane / 16), r);
        mma_16x8x16<T>(out[2 * d], p, r[0], r[1]);
        mma_16x8x16<T>(out[2 * d + 1], p, r[2], r[3]);
      }
      warp_barrier();  // before the next copies overwrite this stage
      stage = (stage + 1) % kStages;
    }
    copy_async_wait<0>();
    AITER_UNROLL
    for (int h = 0; h < 2; ++h) {
      sum[h] += shuffle_xor(sum[h], 1);
      sum[h] += shuffle_xor(sum[h], 2);
    }
    barrier();
    merge(shared, out, most, sum);
  }

  // The warps' results, in shared memory, to this split's result.
  AITER_DEVICE void merge(char* shared, const float (&out)[D / 8][4], const float (&most)[2],
                          const float (&sum)[2]) const {
    float* values = reinterpret_cast<float*>(shared);  // [warp][row][D + 4]
    constexpr int kPitch = D + 4;
    AITER_UNROLL
    for (int h = 0; h < 2; ++h) {
      float* row = values + (warp * kRows + lane / 4 + 8 * h) * kPitch;
      AITER_UNROLL
      for (int d = 0; d < D / 8; ++d) {
        row[d * 8 + lane % 4 * 2] = out[d][2 * h];
        row[d * 8 + lane % 4 * 2 + 1] = out[d][2 * h + 1];
      }
      if (lane % 4 == 0) row[D] = most[h], row[D + 1] = sum[h];
    }
    barrier();
    for (int i = thread_index(); i < heads * D; i += kWarps * kWave) {
      const int row = i / D, d = i % D;
      float top = -kInfinity;
      AITER_UNROLL
      for (int w = 0; w < kWarps; ++w) top = max(top, values[(w * kRows + row) * kPitch + D]);
      float all = 0, weight = 0;
      AITER_UNROLL
      for (int w = 0; w < kWarps; ++w) {
        const float* from = values + (w * kRows + row) * kPitch;
        const float f = top == -kInfinity ? 0.0f : exp2_fast(from[D] - top);
        all = fma(from[D + 1], f, all);
        weight = fma(from[d], f, weight);
      }
      if (a.splits == 1) {
        decode_finish<T>(a, b, head() + row, d, top * kLn2, all, weight);
      } else {
        float* to = decode_partial(a, b, block_index_z(), head() + row);
        to[d] = weight;
        if (d == 0) to[D] = top * kLn2, to[D + 1] = all;
      }
    }
  }
};

}  // namespace aiter
#endif
