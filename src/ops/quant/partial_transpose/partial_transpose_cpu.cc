#include "ops/quant/partial_transpose/partial_transpose_args.h"
#include "simd/parallel.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

template <class T>
void transpose_plain(const PartialTransposeArgs& a) {
  const int64_t rows = a.valid_rows();
  for (int64_t c = 0; c < a.cols; ++c)
    for (int64_t r = 0; r < rows; ++r)
      static_cast<T*>(a.y)[c * rows + r] =
          static_cast<const T*>(a.x)[r * a.row_stride + c * a.col_stride];
}

// Through a tile of its own, so that a line of the cache is read and written once: lines of x that
// are a power of two apart would push each other out.
template <class T>
void transpose_tiles(const PartialTransposeArgs& a) {
  constexpr int64_t kTile = PartialTransposeArgs::kTile;
  const int64_t rows = a.valid_rows(), tiles = (a.cols + kTile - 1) / kTile;
  parallel_for(tiles, 16384 / (rows + 1) / kTile + 1, [&](int64_t begin, int64_t end) {
    T tile[kTile][kTile + 1];
    for (int64_t col = begin * kTile; col < end * kTile && col < a.cols; col += kTile)
      for (int64_t row = 0; row < rows; row += kTile) {
        const int64_t height = rows - row < kTile ? rows - row : kTile;
        const int64_t width = a.cols - col < kTile ? a.cols - col : kTile;
        const T* x = static_cast<const T*>(a.x) + row * a.row_stride + col * a.col_stride;
        T* y = static_cast<T*>(a.y) + col * rows + row;
        for (int64_t r = 0; r < height; ++r)
          for (int64_t c = 0; c < width; ++c) tile[r][c] = x[r * a.row_stride + c * a.col_stride];
        for (int64_t c = 0; c < width; ++c)
          for (int64_t r = 0; r < height; ++r) y[c * rows + r] = tile[r][c];
      }
  });
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
