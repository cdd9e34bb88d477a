#include "ops/quant/partial_transpose/partial_transpose_args.h"
#include "simd/parallel.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

// Columns [begin, end) of x: rows of y.
template <class T>
void transpose(const PartialTransposeArgs& a, int64_t rows, int64_t row_begin, int64_t row_end,
               int64_t begin, int64_t end) {
  const T* x = static_cast<const T*>(a.x);
  T* y = static_cast<T*>(a.y);
  for (int64_t c = begin; c < end; ++c)
    for (int64_t r = row_begin; r < row_end; ++r)
      y[c * rows + r] = x[r * a.row_stride + c * a.col_stride];
}

// Tiles, so that a line of the cache is read and written once.
template <class T>
void transpose_tiles(const PartialTransposeArgs& a) {
  constexpr int64_t kTile = PartialTransposeArgs::kTile;
  const int64_t rows = a.valid_rows(), tiles = (a.cols + kTile - 1) / kTile;
  parallel_for(tiles, 16384 / (rows + 1) / kTile + 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin * kTile; c < end * kTile && c < a.cols; c += kTile)
      for (int64_t r = 0; r < rows; r += kTile)
        transpose<T>(a, rows, r, r + kTile < rows ? r + kTile : rows, c,
                     c + kTile < a.cols ? c + kTile : a.cols);
  });
}

template <class T>
void transpose_plain(const PartialTransposeArgs& a) {
  const int64_t rows = a.valid_rows();
  transpose<T>(a, rows, 0, rows, 0, a.cols);
}

}  // namespace

void partial_transpose_cpu_simd(const PartialTransposeArgs& a) {
  if (a.element_bytes == 4)
    transpose_tiles<uint32_t>(a);
  else if (a.element_bytes == 2)
    transpose_tiles<uint16_t>(a);
  else
    transpose_tiles<uint8_t>(a);
}

void partial_transpose_cpu_ref(const PartialTransposeArgs& a) {
  if (a.element_bytes == 4)
    transpose_plain<uint32_t>(a);
  else if (a.element_bytes == 2)
    transpose_plain<uint16_t>(a);
  else
    transpose_plain<uint8_t>(a);
}

}  // namespace aiter::AITER_ISA
