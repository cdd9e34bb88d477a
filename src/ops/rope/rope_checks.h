// Argument checks that the rotating operators share.
#pragma once

#include "core/check.h"
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
inline int32_t heads_at_once(int64_t threads, int multiprocessors) {
  int32_t heads = 4;
  while (heads > 1 && threads / heads < int64_t{4096} * multiprocessors) heads /= 2;
  return heads;
}

// Whether the tables can be read 16 bytes at a time.
bool rope_tables_aligned16(const RopeAngles& a);

}  // namespace aiter
