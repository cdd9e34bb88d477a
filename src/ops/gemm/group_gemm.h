// What gemm_a16w4 and gemm_a16w8 share: weights of 4 or 8 bits in groups of 32 along k, row-major or
// packed, and the arguments of their kernels.
//
// The packed form is a PackedHead, then one panel per 16 rows (the last one padded with zeros). A
// panel has one block per group:
//   uint32 codes[kWords][16]   word j of a row: its bytes 4j .. 4j+3 of the row-major form (8-bit
//                              codes with the sign bit flipped, so that they are unsigned)
//   scale  scales[16]
//   scale  minimums[16]        4-bit only; zero when there are none
#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

constexpr int kGroup = 32;         // k that share a scale
constexpr int kPanelRows = 16;     // rows of w in a panel
constexpr int kGroupGemmRows = 4;  // GPU: rows of x that a wave takes at a time
// Row hip_narrow (ck/gemm/group_narrow.h): what a warp has in shared memory, stages of 128 bytes of
// codes for each of its columns, apart by kPitch to keep banks free of conflicts; scales; minimums.
template <int kBits>
struct GroupNarrowShape {
  static constexpr int kColumns = 32, kStages = 3;
  static constexpr int kSpan = 32 / kBits;  // groups
  static constexpr int kPitch = kBits == 4 ? 144 : 160;
  static constexpr int kScales = kColumns * kPitch, kMins = kScales + kColumns * kSpan * 2;
  static constexpr int kStageBytes = kMins + (kBits == 4 ? kColumns * kSpan * 2 : 0);
};
constexpr int kNarrowColumns = 32;  // GPU: columns of y that a block of row hip_narrow makes

struct PackedHead {
  char magic[8];
  uint32_t version;
  uint32_t bits;
  int64_t n, k, padded_n;
  DType scale_dtype;
  uint32_t has_min;
  uint32_t reserved[4];
};
static_assert(sizeof(PackedHead) == 64);

struct GroupWeight {
  const uint8_t* panels;  // packed, or null
  const uint8_t* codes;   // row-major, or null
  const void* scale;
  const void* min;       // or null
  int64_t codes_stride;  // bytes
  int64_t scale_stride, min_stride;
  int64_t n, k;
  DType scale_dtype;
};

struct GroupGemmArgs {
  GroupWeight w;
  const void* x;
  const void* bias;  // or null
  void* y;
  Rows x_rows, y_rows;
  DType x_dtype, bias_dtype, y_dtype;
};

// From w's row-major members to `packed`, or back.
struct GroupPackArgs {
  GroupWeight w;
  PackedHead head;
  uint8_t* packed;
  bool unpack;
};

}  // namespace aiter
