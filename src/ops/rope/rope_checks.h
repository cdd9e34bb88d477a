// Argument checks that the rotating operators share.
#pragma once

#include <algorithm>

#include "core/check.h"
#include "launch/launch.h"
#include "ops/rope/head_norm.h"
#include "ops/rope/rope_angles.h"

namespace aiter {

// The tables, of any float dtype, (rows, width), dimensions of extent 1 aside. Without sin, cos has
// the angles. `full`: a column for each element of a pair, else one for each pair.
RopeTable rope_table(const Arg& cos, const Arg& sin);
void rope_set_tables(RopeAngles& a, const Arg& cos, bool full);

// Sections of the pairs that turn by three positions, which sum to the pairs; zeros: by one.
void rope_set_sections(const Check& check, RopeAngles& a, const int64_t (&sections)[3],
                       bool interleaved);

// Rows by positions (+ offsets), of the first `lead` extents of x, with sections (3, ...).
void rope_set_positions(const Check& check, RopeAngles& a, const Arg& x, int lead,
                        const aiter_tensor* positions, const Arg& offsets);

// How a fused operator's options say that heads turn.
struct RopeTurn {
  bool interleaved = false, full_width = false;
  int64_t sections[3] = {};
  bool sections_interleaved = false;
};

// The rotation of a fused operator, whose heads x have `lead` dimensions before heads and dims:
// without cos none, without positions token t by row t modulo the rows.
RopeAngles rope_angles(const Check& check, const RopeTurn& turn, const Arg& x, int lead,
                       const Arg& cos, const Arg& sin, const Arg& positions,
                       const aiter_tensor* positions_tensor);

// `norm` with a weight, or none, for the heads x.
HeadNorm head_norm(const Check& check, HeadNorm norm, const Arg& weight, const Arg& x);

// On the CPU, whose kernels may report it: every token's row is one of the table. On a GPU
// tokens with others do not turn.
void rope_check_positions(const Check& check, const RopeAngles& a, const Arg& positions);

// Pairs of packs of a head, packs that turn first.
inline int64_t head_units(int64_t dim, int64_t pairs, int64_t pack) {
  return pairs / pack + ((dim - 2 * pairs) / pack + 1) / 2;
}
// Lanes of a wave that take a head of so many units.
inline int32_t head_lanes(int64_t units, int64_t wave) {
  int32_t lanes = 1;
  while (lanes < units && lanes < wave) lanes *= 2;
  return lanes;
}
// Heads that the same lanes take one after the other, where one for each would be so many threads: a few,
// as long as the GPU stays full.
inline int32_t heads_at_once(int64_t threads, int multiprocessors, int32_t most = 4) {
  int32_t heads = most;
  while (heads > 1 && threads / heads < int64_t{4096} * multiprocessors) heads /= 2;
  return heads;
}

// Blocks that take neighbouring tokens, of which a block of x has a share of a part's heads
// (GroupOfBlock of ck/rope/head_norm_rope.h).
struct BlocksOfTokens {
  static constexpr int kThreads = 256, kMostHeads = 8;
  int64_t all;
  int32_t tokens;

  // Of parts whose heads take up to so many lanes.
  BlocksOfTokens(int64_t its_tokens, int64_t most_lanes)
      : all(its_tokens), tokens(static_cast<int32_t>(kThreads / most_lanes)) {}
  int32_t shares(int64_t heads, int64_t lanes, int64_t at_once) const {
    const int64_t share = kThreads / lanes / tokens * at_once;
    return static_cast<int32_t>((heads + share - 1) / share);
  }
  Grid grid(int64_t shares) const {
    constexpr int64_t kMostY = 1 << 15;
    const int64_t blocks = (all + tokens - 1) / tokens;
    return {.x = shares,
            .y = std::min(blocks, kMostY),
            .z = (blocks + kMostY - 1) / kMostY,
            .threads = kThreads};
  }
};

// Whether heads either do not turn, or do by rope_is_plain() angles, from tables of their dtype or
// f32.
inline bool heads_turn_plainly(const RopeAngles& a, DType dtype) {
  return a.pairs == 0 || (rope_is_plain(a) && (a.dtype == dtype || a.dtype == DType::kF32));
}

inline bool weighs_plainly(const HeadNorm& norm, DType dtype) {
  return !norm.on || !norm.weight || norm.weight_dtype == dtype;
}

// Whether the tables can be read 16 bytes at a time.
bool rope_tables_aligned16(const RopeAngles& a);

}  // namespace aiter
