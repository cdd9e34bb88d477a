// A tile of a block at a time goes through shared memory, so that neighbouring threads read
// neighbours of a row and write neighbours of a column.
#include "ck/core/prelude.h"
#include "ops/quant/partial_transpose/partial_transpose_args.h"

namespace aiter {

constexpr int kTile = PartialTransposeArgs::kTile;

template <class T>
AITER_DEVICE void transpose_tiles(const PartialTransposeArgs& a, uint32_t (*tile)[kTile + 1]) {
  const int64_t rows = a.valid_rows(), row_tiles = (rows + kTile - 1) / kTile;
  const int64_t tiles = row_tiles * ((a.cols + kTile - 1) / kTile);
  const int lane = thread_index() % kTile, first = thread_index() / kTile;
  const int step = block_threads() / kTile;
  const T* x = static_cast<const T*>(a.x);
  T* y = static_cast<T*>(a.y);
  for (int64_t t = block_index_x(); t < tiles; t += grid_blocks()) {
    const int64_t row = t % row_tiles * kTile, col = t / row_tiles * kTile;
    barrier();  // the tile before this one was written
    for (int r = first; r < kTile; r += step)
      if (row + r < rows && col + lane < a.cols)
        tile[r][lane] = x[(row + r) * a.row_stride + (col + lane) * a.col_stride];
    barrier();
    for (int c = first; c < kTile; c += step)
      if (row + lane < rows && col + c < a.cols)
        y[(col + c) * rows + row + lane] = static_cast<T>(tile[lane][c]);
  }
}

// One element of a thread at a time, in the order of the result.
template <class T>
AITER_DEVICE void transpose_elements(const PartialTransposeArgs& a) {
  const int64_t rows = a.valid_rows();
  const int64_t step = static_cast<int64_t>(grid_blocks()) * block_threads();
  for (int64_t i = static_cast<int64_t>(block_index_x()) * block_threads() + thread_index();
       i < rows * a.cols; i += step)
    static_cast<T*>(a.y)[i] =
        static_cast<const T*>(a.x)[i % rows * a.row_stride + i / rows * a.col_stride];
}

}  // namespace aiter

AITER_KERNEL(partial_transpose_hip_tile, 256)(const aiter::PartialTransposeArgs a) {
  using namespace aiter;
  AITER_SHARED uint32_t tile[kTile][kTile + 1];
  if (a.element_bytes == 4)
    transpose_tiles<uint32_t>(a, tile);
  else if (a.element_bytes == 2)
    transpose_tiles<uint16_t>(a, tile);
  else
    transpose_tiles<uint8_t>(a, tile);
}

AITER_KERNEL(partial_transpose_hip_any, 256)(const aiter::PartialTransposeArgs a) {
  using namespace aiter;
  if (a.element_bytes == 4)
    transpose_elements<uint32_t>(a);
  else if (a.element_bytes == 2)
    transpose_elements<uint16_t>(a);
  else
    transpose_elements<uint8_t>(a);
}
