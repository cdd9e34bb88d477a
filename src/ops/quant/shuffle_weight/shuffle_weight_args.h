#pragma once

#include "core/dtype.h"

namespace aiter {

// The head of shuffled weights.
struct ShuffledHead {
  char magic[8];
  uint32_t version;
  uint8_t code, bits;  // the dtype
  uint16_t lanes;
  int64_t experts, n, k, padded_k;
  uint32_t rank;
  uint16_t tile_rows, tile_elements, pack_elements, gate_up;
  uint32_t reserved;
};
static_assert(sizeof(ShuffledHead) == 64);

// A permutation of units of neighbouring bytes: unit (i0, i1 .. i6) of the packed form, in row-major
// order, is at sum of i * stride in the plain one. Only coordinates below the limits are there:
// row = sum of i * row_weight, column likewise.
struct ShuffleArgs {
  static constexpr int kDims = 7;
  struct Dim {
    int64_t extent, row, column;  // what a step adds to the plain form's row and column (in units)
  };
  uint8_t* plain;
  uint8_t* packed;
  Dim dims[kDims];
  int64_t rows, columns;  // of the plain form; columns in units
  int64_t row_bytes;      // stride of a row of the plain form
  int64_t unit_bytes;
  int64_t last_unit_bytes;  // of a row's last unit, which may be cut short
  int64_t units;            // of the packed form: the product of the extents
  ShuffledHead head;        // in front of the packed form if has_head
  bool has_head;
  bool unshuffle;
};

}  // namespace aiter
