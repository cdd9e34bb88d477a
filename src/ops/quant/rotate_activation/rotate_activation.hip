// A block works on a row in shared memory: the stages of the transform one after the other, then
// the result in packs of four columns.
#include "ck/quant/quantize.h"
#include "ops/quant/rotate_activation/rotate_activation_args.h"

namespace aiter {

template <class T>
AITER_DEVICE void rotate_activation(const RotateActivationArgs& a) {
  constexpr int N = 4;
  AITER_DYNAMIC_SHARED(shared);
  AITER_SHARED float scratch[1024 / kWave];
  float* row = reinterpret_cast<float*>(shared);
  const QuantOut& q = a.out;
  const int threads = block_threads(), t = thread_index(), cols = static_cast<int>(a.cols);
  for (int64_t r = block_index_x(); r < a.x_rows.count; r += grid_blocks()) {
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    for (int i = t; i < cols; i += threads) row[i] = to_float(x[i]);
    barrier();
    for (int h = 1; h < cols; h *= 2) {
      for (int k = t; k < cols / 2; k += threads) {
        const int i = (k & (h - 1)) + (k & -h) * 2;
        const float u = row[i], v = row[i + h];
        row[i] = u + v;
        row[i + h] = u - v;
      }
      barrier();
    }
    if (!q.codes) {
      for (int i = t; i < cols; i += threads)
        store_float(a.y, a.y_rows.offset(r) + i, a.y_dtype, row[i] * a.scale);
    } else {
      auto values = [&](int column, float (&v)[N]) {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) v[k] = column + k < cols ? row[column + k] * a.scale : 0.0f;
      };
      float v[N], amax = 0;
      if (needs_row_amax(q)) {
        for (int i = t * N; i < cols; i += threads * N) {
          values(i, v);
          amax = max_magnitude(amax, v);
        }
        amax = row_reduce<Max>(amax, threads, scratch);
      }
      const RowQuantizer<N> quantizer(q, r, amax, t == 0);
      for (int start = 0; start < cols; start += threads * N) {
        values(start + t * N, v);
        quantizer.store(start + t * N, v);
      }
    }
    barrier();  // before the next row overwrites this one
  }
}

}  // namespace aiter

#define AITER_ROTATE_ACTIVATION(T)                                                        \
  AITER_KERNEL(rotate_activation_hip_any_##T, 512)(const aiter::RotateActivationArgs a) { \
    aiter::rotate_activation<aiter::T>(a);                                                \
  }
AITER_ROTATE_ACTIVATION(f32)
AITER_ROTATE_ACTIVATION(f16)
AITER_ROTATE_ACTIVATION(bf16)
