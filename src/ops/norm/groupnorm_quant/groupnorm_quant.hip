// The second launch: rows that are normalized with the moments of their groups, and quantized.
#include "ck/core/activation.h"
#include "ck/quant/quantize.h"
#include "ops/norm/groupnorm_quant/groupnorm_quant_args.h"

namespace aiter {

// What the numbers of a thread's columns become: x * gain + shift. With channels last, columns are the
// channels of an image; otherwise all are of one channel.
template <class T, bool kLast>
struct ColumnAffine {
  static constexpr int N = GroupnormQuantArgs::kColumns, kPack = kPackSize<T, true>;
  static constexpr int kChunks = kLast ? GroupnormQuantArgs::kChunksLast : 1;
  static constexpr int kNumbers = kLast ? N : 1;
  float gain[kChunks][kNumbers], shift[kChunks][kNumbers];

  // For columns (c * threads + t) * N and following.
  AITER_DEVICE void load(const GroupnormQuantArgs& a, int plane, int threads, int t) {
    const GroupnormArgs& norm = a.norm;
    const uint32_t channels = static_cast<uint32_t>(norm.channels);
    const uint32_t groups = static_cast<uint32_t>(norm.groups), in_group = channels / groups;
    if constexpr (!kLast) {
      // Groups are counted through all images.
      const float* moments = a.moments + 2 * static_cast<int64_t>(plane / in_group);
      const uint32_t channel = norm.w || norm.b ? plane % channels : 0;
      set(0, 0, moments, norm.w ? load_float(norm.w, channel, norm.w_dtype) : 1.0f,
          norm.b ? load_float(norm.b, channel, norm.w_dtype) : 0.0f);
    } else {
      AITER_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        const uint32_t column = (c * threads + t) * N;
        const uint32_t group = column / in_group;
        uint32_t left = in_group - (column - group * in_group);
        const float* moments = a.moments + 2 * (static_cast<int64_t>(plane) * groups + group);
        AITER_UNROLL
        for (int p = 0; p < N; p += kPack) {
          if (column + p >= channels) {
            for (int k = 0; k < kPack; ++k) gain[c][p + k] = shift[c][p + k] = 0;
            continue;
          }
          float w[kPack], b[kPack];
          AITER_UNROLL
          for (int k = 0; k < kPack; ++k) w[k] = 1, b[k] = 0;
          if (norm.w) load_floats<kPack, T>(norm.w, norm.w_dtype, column + p, w);
          if (norm.b) load_floats<kPack, T>(norm.b, norm.w_dtype, column + p, b);
          AITER_UNROLL
          for (int k = 0; k < kPack; ++k) {
            set(c, p + k, moments, w[k], b[k]);
            if (--left == 0) left = in_group, moments += 2;
          }
        }
      }
    }
  }

  AITER_DEVICE void apply(int c, float (&v)[N]) const {
    AITER_UNROLL
    for (int k = 0; k < N; ++k)
      v[k] = fma(v[k], gain[kLast ? c : 0][kLast ? k : 0], shift[kLast ? c : 0][kLast ? k : 0]);
  }

 private:
  AITER_DEVICE void set(int c, int k, const float* moments, float w, float b) {
    gain[c][k] = moments[1] * w;
    shift[c][k] = fma(-moments[0], gain[c][k], b);
  }
};

// Rows, fewer than 2^31, of which each thread takes N columns at a time. kPlain: without factors of
// channels and an unquantized copy. With channels last, a thread takes several rows, which share what
// it knows of its columns.
template <class T, class Codes, RowGroups kGroups, bool kPlain, bool kLast>
AITER_DEVICE void quantize_rows(const GroupnormQuantArgs& a) {
  constexpr int N = GroupnormQuantArgs::kColumns, kPack = kPackSize<T, true>;
  constexpr int kChunks = kLast ? GroupnormQuantArgs::kChunksLast : GroupnormQuantArgs::kChunks;
  constexpr int kWaves = GroupnormQuantArgs::kThreads / kWave;
  AITER_SHARED float of_waves[2][kWaves];
  const GroupnormArgs& norm = a.norm;
  const QuantOut& q = a.out;
  const T* numbers = static_cast<const T*>(norm.residual ? norm.sum : norm.x);
  const int threads = a.threads_per_row, t = thread_of_row(threads);
  const int cols = static_cast<int>(q.cols);
  const int rows_of_block = threads > kWave ? 1 : block_threads() / threads;
  const int in_block = threads > kWave ? 0 : thread_index() / threads;
  const int64_t block = block_index_x() + static_cast<int64_t>(block_index_y()) * grid_blocks();
  const int rows_of_thread = kLast ? a.rows_of_thread : 1;
  const int64_t first = block * rows_of_thread * rows_of_block + in_block;
  if (first - in_block >= a.rows) return;

  // Whole waves take part in the reductions: lanes without a row repeat the last one.
  auto row = [&] AITER_LAMBDA(int i) -> int64_t {
    return min(first + static_cast<int64_t>(i) * rows_of_block, a.rows - 1);
  };
  auto column = [&] AITER_LAMBDA(int c) -> int { return (c * threads + t) * N; };
  Packs<T, N> packs[kChunks];
  ColumnAffine<T, kLast> affine;
  int plane = -1;   // whose affine it is
  int64_t end = 0;  // of its rows
  AITER_NO_UNROLL
  for (int i = 0; i < rows_of_thread; ++i) {
    const int64_t r = row(i);
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) packs[c].load(numbers + r * cols, column(c), cols);
    const bool there = first + static_cast<int64_t>(i) * rows_of_block < a.rows;
    if (r >= end) {
      plane = static_cast<uint32_t>(r) / static_cast<uint32_t>(a.rows_of_plane);
      end = (plane + int64_t{1}) * a.rows_of_plane;
      affine.load(a, plane, threads, t);
    }
    float v[kChunks][N], amax = 0;
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      packs[c].to_floats(v[c]);
      affine.apply(c, v[c]);
      if (norm.silu) {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) v[c][k] *= sigmoid(v[c][k]);
      }
      if (!kPlain && norm.y && there) {
        const int64_t at = r * cols;
        if (a.y_dtype == DType::kF32)
          Packs<float, N>::from_floats(v[c]).store(static_cast<float*>(norm.y) + at, column(c),
                                                   cols);
        else
          Packs<T, N>::from_floats(v[c]).store(static_cast<T*>(norm.y) + at, column(c), cols);
      }
      if (!kPlain && a.smooth) {
        Packs<float, N> smooth;
        float factor[N], one = 0;
        smooth.load(a.smooth, column(c), kLast ? cols : 0);
        smooth.to_floats(factor);
        if (!kLast) one = a.smooth[plane % static_cast<uint32_t>(norm.channels)];
        AITER_UNROLL
        for (int k = 0; k < N; ++k) v[c][k] *= kLast ? factor[k] : one;
      }
      AITER_UNROLL
      for (int p = 0; p < N; p += kPack)
        if (column(c) + p < cols)
          amax = max_magnitude(amax, reinterpret_cast<const float (&)[kPack]>(v[c][p]));
    }
    if (kGroups != RowGroups::kMany && needs_row_amax(q)) {
      if (threads <= kWave) {
        amax = lanes_reduce<Max>(amax, threads);
      } else {
        // Waves are at most a row apart.
        amax = wave_reduce<Max>(amax);
        if (thread_index() % kWave == 0) of_waves[i % 2][thread_index() / kWave] = amax;
        barrier();
        for (int w = 0; w < threads / kWave; ++w) amax = max(amax, of_waves[i % 2][w]);
      }
    }
    const RowQuantizer<N, Codes, kGroups> quantizer(q, r, amax, t == 0, there);
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c)
      if (c * threads * N < cols) quantizer.store(column(c), v[c]);
  }
}

// Everything that the contract allows.
AITER_DEVICE void groupnorm_quant_any(const GroupnormQuantArgs& a) {
  struct RowAt {
    bool there;
    int64_t offset, image, channel;
  };
  const GroupnormArgs& norm = a.norm;
  const QuantOut& q = a.out;
  const void* numbers = norm.residual ? norm.sum : norm.x;
  auto row_at = [&] AITER_LAMBDA(int64_t row) -> RowAt {
    const int64_t plane = row / a.rows_of_plane, offset = row * q.cols;
    if (norm.channels_last) return {true, offset, plane, 0};
    return {true, offset, plane / norm.channels, plane % norm.channels};
  };
  auto number = [&] AITER_LAMBDA(const RowAt& row, int64_t column, bool smooth) -> float {
    const int64_t channel = norm.channels_last ? column : row.channel;
    const int64_t group = row.image * norm.groups + channel / (norm.channels / norm.groups);
    float v = load_float(numbers, row.offset + column, norm.dtype);
    v = (v - a.moments[2 * group]) * a.moments[2 * group + 1];
    if (norm.w) v *= load_float(norm.w, channel, norm.w_dtype);
    if (norm.b) v += load_float(norm.b, channel, norm.w_dtype);
    if (norm.silu) v *= sigmoid(v);
    return smooth && a.smooth ? v * a.smooth[channel] : v;
  };
  if (norm.y)
    for (int64_t r = block_index_x(); r < a.rows; r += grid_blocks()) {
      const RowAt row = row_at(r);
      for (int64_t c = thread_index(); c < q.cols; c += block_threads())
        store_float(norm.y, row.offset + c, a.y_dtype, number(row, c, false));
    }
  quantize_groups(
      q, a.rows, 1, GroupnormQuantArgs::kWaveGroup, row_at,
      [&] AITER_LAMBDA(const RowAt& row, int64_t column) { return number(row, column, true); });
}

}  // namespace aiter

#define AITER_GROUPNORM_QUANT_ROWS(row, threads, T, ...)                                  \
  AITER_KERNEL(groupnorm_quant_##row##_##T, threads)(const aiter::GroupnormQuantArgs a) { \
    aiter::wait_for_previous_kernel();                                                    \
    aiter::quantize_rows<aiter::T, __VA_ARGS__>(a);                                       \
  }
#define AITER_GROUPNORM_QUANT_ANY(T)                                                              \
  AITER_GROUPNORM_QUANT_ROWS(hip_vec_any, 512, T, aiter::AnyCodes, aiter::RowGroups::kAny, false, \
                             false)                                                               \
  AITER_GROUPNORM_QUANT_ROWS(hip_vec_last_any, 512, T, aiter::AnyCodes, aiter::RowGroups::kAny,   \
                             false, true)
AITER_GROUPNORM_QUANT_ANY(f32)
AITER_GROUPNORM_QUANT_ANY(f16)
AITER_GROUPNORM_QUANT_ANY(bf16)
#if defined(AITER_AMD)
#define AITER_GROUPNORM_QUANT_LAST_THREADS 512
#else  // registers for as many threads as hide the latency of rows
#define AITER_GROUPNORM_QUANT_LAST_THREADS 768
#endif
#define AITER_GROUPNORM_QUANT_KIND(T, kind, ...)                                         \
  AITER_GROUPNORM_QUANT_ROWS(hip_vec_##kind, 512, T, __VA_ARGS__, true, false)           \
  AITER_GROUPNORM_QUANT_ROWS(hip_vec_last_##kind, AITER_GROUPNORM_QUANT_LAST_THREADS, T, \
                             __VA_ARGS__, true, true)
AITER_QUANT_KINDS(AITER_GROUPNORM_QUANT_KIND, f16)
AITER_QUANT_KINDS(AITER_GROUPNORM_QUANT_KIND, bf16)
AITER_KERNEL(groupnorm_quant_hip_any, 256)(const aiter::GroupnormQuantArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::groupnorm_quant_any(a);
}
