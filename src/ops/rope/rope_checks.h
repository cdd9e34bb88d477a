// Argument checks that the rotating operators share.
#pragma once

#include "core/check.h"
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

// On the CPU, whose kernels may report it: every token's row is one of the table. On a GPU
// tokens with others do not turn.
void rope_check_positions(const Check& check, const RopeAngles& a, const Arg& positions);

// Whether the tables can be read 16 bytes at a time.
bool rope_tables_aligned16(const RopeAngles& a);

}  // namespace aiter
