#include "ops/quant/shuffle_weight/shuffle_weight_args.h"
#include "simd/parallel.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

// Units [begin, end) of the three outer dimensions.
void shuffle(const ShuffleArgs& a, int64_t begin, int64_t end) {
  const auto& d = a.dims;
  const int64_t inner = d[3].extent * d[4].extent * d[5].extent * d[6].extent;
  for (int64_t outer = begin; outer < end; ++outer) {
    uint8_t* packed = a.packed + outer * inner * a.unit_bytes;
    const int64_t i0 = outer / d[2].extent / d[1].extent, i1 = outer / d[2].extent % d[1].extent,
                  i2 = outer % d[2].extent;
    const int64_t row0 = i0 * d[0].row + i1 * d[1].row + i2 * d[2].row;
    const int64_t column0 = i0 * d[0].column + i1 * d[1].column + i2 * d[2].column;
    for (int64_t i3 = 0; i3 < d[3].extent; ++i3)
      for (int64_t i4 = 0; i4 < d[4].extent; ++i4)
        for (int64_t i5 = 0; i5 < d[5].extent; ++i5)
          for (int64_t i6 = 0; i6 < d[6].extent; ++i6, packed += a.unit_bytes) {
            const int64_t row =
                row0 + i3 * d[3].row + i4 * d[4].row + i5 * d[5].row + i6 * d[6].row;
            const int64_t column =
                column0 + i3 * d[3].column + i4 * d[4].column + i5 * d[5].column + i6 * d[6].column;
            const bool there = row < a.rows && column < a.columns;
            const int64_t n = !there                    ? 0
                              : column + 1 == a.columns ? a.last_unit_bytes
                                                        : a.unit_bytes;
            uint8_t* plain = a.plain + (there ? row * a.row_bytes + column * a.unit_bytes : 0);
            if (a.unshuffle) {
              if (n) memcpy(plain, packed, n);
            } else {
              if (n) memcpy(packed, plain, n);
              if (n < a.unit_bytes) memset(packed + n, 0, a.unit_bytes - n);
            }
          }
  }
}

int64_t outer_units(const ShuffleArgs& a) {
  return a.dims[0].extent * a.dims[1].extent * a.dims[2].extent;
}

void write_head(const ShuffleArgs& a) {
  if (a.has_head && !a.unshuffle) memcpy(a.packed - sizeof(a.head), &a.head, sizeof(a.head));
}

}  // namespace

void shuffle_weight_cpu_simd(const ShuffleArgs& a) {
  write_head(a);
  parallel_for(outer_units(a), 64, [&](int64_t begin, int64_t end) { shuffle(a, begin, end); });
}

void shuffle_weight_cpu_ref(const ShuffleArgs& a) {
  write_head(a);
  shuffle(a, 0, outer_units(a));
}

}  // namespace aiter::AITER_ISA
