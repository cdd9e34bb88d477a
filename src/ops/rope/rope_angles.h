// By which angles the pairs of a token's heads turn: the part of a rotating operator's arguments
// that all of them share, host code and kernels.
#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

// Where the row of the tables comes from.
enum class RopeRows : int32_t {
  kSequence = 0,   // the token's index, in units of per_row tokens, modulo lines
  kPositions = 1,  // a tensor, with one or three positions a token
  kSequences = 2,  // the token's index in its sequence
  kGrid = 3,       // the token's frame, line and column in a video
  kImage = 4,      // the token's line and column in an image: one for each half of a head
};

// cos, sin: (rows, width); without sin, cos has the angles themselves.
struct RopeTable {
  const void* cos;
  const void* sin;
  int64_t cos_stride, sin_stride;
  int64_t rows;
};

struct RopeAngles {
  RopeTable tables[2];          // of each part of a head
  int64_t pairs;                // of a part
  int64_t pair_stride, second;  // pair p takes the columns p * pair_stride and this + second
  const void* positions;        // positions; bounds of sequences; (frames, lines, columns) of grids
  const void* offsets;          // added to positions, or null
  Rows positions_rows, offsets_rows;
  int64_t axis_stride;   // from a token's first position to its second
  int64_t axis_ends[2];  // pairs below turn by the first, and second, position; or, interleaved,
                         // p % 3 names the position, for p below the ends of second and third
  int64_t per_row;       // tokens: of a row (kSequence), a line (kImage), a grid (kGrid)
  int64_t lines;         // of an image; rows until a sequence begins again
  int64_t first_token;   // of a grid: index of the first one here
  int64_t sequences;     // kSequences
  int64_t tokens;
  RopeRows rows_from;
  DType positions_dtype;  // i32 or i64, of offsets too
  DType dtype;            // of the tables
  int32_t parts;          // 2 = a head is two halves with tables of their own, else 1
  int32_t axes;           // rows of a token: 1, 2 for halves, 3 for sections of the pairs
  int32_t axes_interleaved;
  int32_t pairs_interleaved;  // 2 i turns with 2 i + 1, instead of i with i + pairs
  int32_t inverse;            // turn back: the transposed matrix
};

AITER_HOST_DEVICE int64_t rope_integer(const void* data, DType dtype, int64_t i) {
  return dtype == DType::kI32 ? static_cast<const int32_t*>(data)[i]
                              : static_cast<const int64_t*>(data)[i];
}

// t / n and t % n, for t < count
AITER_HOST_DEVICE int64_t rope_quotient(int64_t t, int64_t count, int64_t n) {
  return Rows{count, n, 1, 0}.offset(t);
}
AITER_HOST_DEVICE int64_t rope_rest(int64_t t, int64_t count, int64_t n) {
  return Rows{count, n, 0, 1}.offset(t);
}

// The rows of token t on each axis. False where one lies outside of its table, or where the token
// belongs to no sequence or grid: it does not turn.
AITER_HOST_DEVICE bool rope_rows(const RopeAngles& a, int64_t t, int64_t (&rows)[3]) {
  const int64_t step = a.positions_rows.inner_stride;  // of bounds and of grids
  bool found = true;
  switch (a.rows_from) {
    case RopeRows::kSequence:
      rows[0] = rope_rest(rope_quotient(t, a.tokens, a.per_row), a.tokens, a.lines);
      break;
    case RopeRows::kPositions: {
      const int64_t offset =
          a.offsets ? rope_integer(a.offsets, a.positions_dtype, a.offsets_rows.offset(t)) : 0;
      const int64_t at = a.positions_rows.offset(t);
      for (int k = 0; k < 3; ++k)
        if (k < a.axes) {
          const int64_t position =
              rope_integer(a.positions, a.positions_dtype, at + k * a.axis_stride);
          // Wraps rather than overflows; what wraps is far from any table.
          rows[k] =
              static_cast<int64_t>(static_cast<uint64_t>(position) + static_cast<uint64_t>(offset));
        }
      break;
    }
    case RopeRows::kSequences: {
      // The last bound that is not above t.
      int64_t low = 0, high = a.sequences + 1;
      while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (rope_integer(a.positions, a.positions_dtype, middle * step) <= t)
          low = middle;
        else
          high = middle;
      }
      rows[0] = t - rope_integer(a.positions, a.positions_dtype, low * step);
      found = low < a.sequences;
      break;
    }
    case RopeRows::kGrid: {
      const int64_t batch = rope_quotient(t, a.tokens, a.per_row);
      int64_t size[3];
      // A grid that is larger than the table turns no token.
      for (int k = 0; k < 3; ++k) {
        size[k] = rope_integer(a.positions, a.positions_dtype, batch * step + k * a.axis_stride);
        found = found && size[k] >= 1 && size[k] <= a.tables[0].rows && size[k] <= 1 << 20;
      }
      const int64_t page = found ? size[1] * size[2] : 1, count = found ? size[0] * page : 0;
      int64_t index = a.first_token + rope_rest(t, a.tokens, a.per_row);
      found = index < count;
      index = found ? index : 0;
      rows[0] = rope_quotient(index, count, page);
      const int64_t rest = rope_rest(index, count, page), line = found ? size[2] : 1;
      rows[1] = rope_quotient(rest, page, line);
      rows[2] = rope_rest(rest, page, line);
      break;
    }
    case RopeRows::kImage: {
      const int64_t line = rope_quotient(t, a.tokens, a.per_row);
      rows[0] = rope_rest(line, a.tokens, a.lines);
      rows[1] = rope_rest(t, a.tokens, a.per_row);
      break;
    }
  }
  for (int k = 0; k < 3; ++k)
    if (k < a.axes) found = found && rows[k] >= 0 && rows[k] < a.tables[k < a.parts ? k : 0].rows;
  return found;
}

// One position a token names one row of a table of neighbouring cosines, and of one of sines: what most
// models have.
AITER_HOST_DEVICE bool rope_is_plain(const RopeAngles& a) {
  return a.rows_from == RopeRows::kPositions && !a.offsets && a.axes == 1 && a.parts == 1 &&
         a.pair_stride == 1 && a.second == 0 && a.tables[0].sin &&
         a.positions_rows.inner >= a.positions_rows.count;
}

// Which of a token's rows turns pair p of a part.
AITER_HOST_DEVICE int rope_axis(const RopeAngles& a, int part, int64_t p) {
  if (a.axes != 3) return part;
  if (!a.axes_interleaved) return p < a.axis_ends[0] ? 0 : p < a.axis_ends[1] ? 1 : 2;
  const int axis = static_cast<int>(p % 3);
  return axis > 0 && p < a.axis_ends[axis - 1] ? axis : 0;
}

}  // namespace aiter
