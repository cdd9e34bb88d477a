// Two launches: the moments of all groups, then rows that are normalized with them and quantized.
#include "ck/core/activation.h"
#include "ck/norm/group_norm.h"
#include "ck/quant/quantize.h"
#include "ops/norm/groupnorm_quant/groupnorm_quant_args.h"

namespace aiter {

template <class T, int N, class Index>
AITER_DEVICE void group_moments(const GroupnormQuantArgs& a) {
  GroupNorm<T, N, Index, false, false> group(a.norm, nullptr);
  if (!group.there()) return;
  group.read();
  if (thread_index() != 0) return;
  a.moments[2 * group.group] = group.mean;
  a.moments[2 * group.group + 1] = group.scale;
}

// What the numbers of a plane's columns become: (x - mean) * gain + bias; 0 where there is no column.
template <class T>
struct ColumnAffine {
  static constexpr int N = GroupnormQuantArgs::kColumns, kPack = kPackSize<T, true>;
  float mean[N], gain[N], bias[N];

  AITER_DEVICE void load(const GroupnormQuantArgs& a, int plane, int column) {
    const GroupnormArgs& norm = a.norm;
    if (norm.channels_last)
      load_channels(a, plane, column);
    else
      load_one(a, plane, column);
  }

 private:
  // Columns are the channels of an image.
  AITER_DEVICE void load_channels(const GroupnormQuantArgs& a, int image, int column) {
    const GroupnormArgs& norm = a.norm;
    // There are few channels: their rows are in registers.
    const int in_group = static_cast<int>(norm.channels) / static_cast<int>(norm.groups);
    int group = column / in_group, left = in_group - (column - group * in_group);
    const float* moments = a.moments + 2 * (static_cast<int64_t>(image) * norm.groups + group);
    AITER_UNROLL
    for (int p = 0; p < N; p += kPack) {
      float w[kPack], b[kPack];
      AITER_UNROLL
      for (int k = 0; k < kPack; ++k) w[k] = 1, b[k] = 0;
      const bool there = column + p < norm.channels;
      if (there && norm.w) load_floats<kPack, T>(norm.w, norm.w_dtype, column + p, w);
      if (there && norm.b) load_floats<kPack, T>(norm.b, norm.w_dtype, column + p, b);
      AITER_UNROLL
      for (int k = 0; k < kPack; ++k) {
        mean[p + k] = there ? moments[0] : 0.0f;
        gain[p + k] = there ? moments[1] * w[k] : 0.0f;
        bias[p + k] = b[k];
        if (--left == 0) left = in_group, moments += 2;
      }
    }
  }

  // All columns are of one channel.
  AITER_DEVICE void load_one(const GroupnormQuantArgs& a, int plane, int column) {
    const GroupnormArgs& norm = a.norm;
    const int channels = static_cast<int>(norm.channels), groups = static_cast<int>(norm.groups);
    const int image = plane / channels, channel = plane - image * channels;
    const int64_t group = static_cast<int64_t>(image) * groups + channel / (channels / groups);
    const float* moments = a.moments + 2 * group;
    const float w = norm.w ? load_float(norm.w, channel, norm.w_dtype) : 1.0f;
    const float b = norm.b ? load_float(norm.b, channel, norm.w_dtype) : 0.0f;
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      const bool there = column + k < a.out.cols;
      mean[k] = there ? moments[0] : 0.0f;
      gain[k] = there ? moments[1] * w : 0.0f;
      bias[k] = there ? b : 0.0f;
    }
  }
};

// Rows, fewer than 2^31, of which each thread takes N columns. kPlain: without factors of channels
// and an unquantized copy.
template <class T, class Codes, RowGroups kGroups, bool kPlain>
AITER_DEVICE void quantize_rows(const GroupnormQuantArgs& a) {
  constexpr int N = GroupnormQuantArgs::kColumns;
  AITER_SHARED float scratch[1024 / kWave];
  const GroupnormArgs& norm = a.norm;
  const QuantOut& q = a.out;
  const T* numbers = static_cast<const T*>(norm.residual ? norm.sum : norm.x);
  const int threads = a.threads_per_row, t = thread_of_row(threads), column = t * N;
  const int rows_of_block = threads > kWave ? 1 : block_threads() / threads;
  const int64_t block = block_index_x() + static_cast<int64_t>(block_index_y()) * grid_blocks();
  const int in_block = threads > kWave ? 0 : thread_index() / threads;
  ColumnAffine<T> affine;
  int known = -1;  // the plane whose affine it is
  // A block has neighbouring rows, which are of one plane, mostly.
  for (int i = 0; i < a.rows_of_thread; ++i) {
    const int64_t first = (block * a.rows_of_thread + i) * rows_of_block;
    if (first >= a.rows) return;
    // Whole waves take part in the reductions: lanes without a row repeat the last one.
    const bool there = first + in_block < a.rows;
    const int64_t r = there ? first + in_block : a.rows - 1, at = r * q.cols;
    Packs<T, N> packs;
    packs.load(numbers + at, column, q.cols);
    const int plane = static_cast<int>(r) / static_cast<int>(a.rows_of_plane);
    if (plane != known) affine.load(a, plane, column);
    known = plane;
    float v[N], amax = 0;
    packs.to_floats(v);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] = fma(v[k] - affine.mean[k], affine.gain[k], affine.bias[k]);
    if (norm.silu) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] *= sigmoid(v[k]);
    }
    if (!kPlain && norm.y && there) {
      if (a.y_dtype == DType::kF32)
        Packs<float, N>::from_floats(v).store(static_cast<float*>(norm.y) + at, column, q.cols);
      else
        Packs<T, N>::from_floats(v).store(static_cast<T*>(norm.y) + at, column, q.cols);
    }
    if (!kPlain && a.smooth) {
      Packs<float, N> smooth;
      smooth.load(a.smooth, column, norm.channels_last ? q.cols : 0);
      float factor[N], one = 0;
      smooth.to_floats(factor);
      if (!norm.channels_last) one = a.smooth[plane % static_cast<int>(norm.channels)];
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] *= norm.channels_last ? factor[k] : one;
    }
    if (kGroups != RowGroups::kMany && needs_row_amax(q))
      amax = row_reduce<Max>(max_magnitude(amax, v), threads, scratch);
    const RowQuantizer<N, Codes, kGroups> quantizer(q, r, amax, t == 0, there);
    quantizer.store(column, v);
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

#define AITER_GROUP_MOMENTS(T)                                                                \
  AITER_KERNEL(groupnorm_quant_hip_vec_moments_##T, 512)(const aiter::GroupnormQuantArgs a) { \
    aiter::wait_for_previous_kernel();                                                        \
    aiter::group_moments<aiter::T, aiter::kPackSize<aiter::T, true>, int>(a);                 \
  }                                                                                           \
  AITER_KERNEL(groupnorm_quant_hip_any_moments_##T, 512)(const aiter::GroupnormQuantArgs a) { \
    aiter::wait_for_previous_kernel();                                                        \
    aiter::group_moments<aiter::T, 1, aiter::int64_t>(a);                                     \
  }                                                                                           \
  AITER_KERNEL(groupnorm_quant_hip_vec_any_##T, 512)(const aiter::GroupnormQuantArgs a) {     \
    aiter::wait_for_previous_kernel();                                                        \
    aiter::quantize_rows<aiter::T, aiter::AnyCodes, aiter::RowGroups::kAny, false>(a);        \
  }
AITER_GROUP_MOMENTS(f32)
AITER_GROUP_MOMENTS(f16)
AITER_GROUP_MOMENTS(bf16)
AITER_KERNEL(groupnorm_quant_hip_any, 256)(const aiter::GroupnormQuantArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::groupnorm_quant_any(a);
}
#define AITER_GROUPNORM_QUANT(T, kind, ...)                                                    \
  AITER_KERNEL(groupnorm_quant_hip_vec_##kind##_##T, 512)(const aiter::GroupnormQuantArgs a) { \
    aiter::wait_for_previous_kernel();                                                         \
    aiter::quantize_rows<aiter::T, __VA_ARGS__, true>(a);                                      \
  }
AITER_QUANT_KINDS(AITER_GROUPNORM_QUANT, f16)
AITER_QUANT_KINDS(AITER_GROUPNORM_QUANT, bf16)
