#include "ops/norm/groupnorm_quant/groupnorm_quant_args.h"
#include "simd/group_norm.h"
#include "simd/quantize.h"

namespace aiter::AITER_ISA {
namespace {

// The unquantized copy, and codes, of row r, whose norm is v; factor: of smooth, as in Affine.
template <class T, class P>
AITER_INLINE void store_row(const GroupnormQuantArgs& a, int64_t r, float* v, P factor,
                            bool y_streamed, bool codes_streamed) {
  const int64_t cols = a.out.cols;
  auto copy = [&](auto* y) {
    map_lanes(y + r * cols, cols, y_streamed, [](Vec n) { return n; }, NothingAhead{}, v);
  };
  if (a.norm.y && a.y_dtype == DType::kF32)
    copy(static_cast<float*>(a.norm.y));
  else if (a.norm.y)
    copy(static_cast<T*>(a.norm.y));
  if (a.smooth)
    map_lanes(v, cols, false, [](Vec n, Vec f) { return n * f; }, NothingAhead{}, v, factor);
  quantize_row(a.out, r, v, codes_streamed);
}

template <class T, class W>
void groupnorm_quant_rows(const GroupnormQuantArgs& given) {
  GroupnormQuantArgs a = given;
  const GroupnormArgs& norm = a.norm;
  if (!norm.channels_last && norm.space <= 65536 && join_rows(a.out, a.rows_of_plane))
    a.rows /= a.rows_of_plane, a.rows_of_plane = 1;
  int64_t together = 1;  // places whose channels make one row
  if (norm.channels_last && !a.smooth) {
    while (norm.space % (2 * together) == 0 && 2 * together * norm.channels <= 1536) together *= 2;
    if (join_rows(a.out, together))
      a.rows /= together;
    else
      together = 1;
  }
  const int64_t cols = a.out.cols, numbers = a.rows * cols;
  const bool codes_streamed =
      worth_streaming(a.out.codes, numbers * code_bits(a.out.spec.code) / 8, 1);
  const int64_t y_bytes = norm.y ? dtype_bytes(a.y_dtype) : 0;
  const bool y_streamed = norm.y && worth_streaming(norm.y, numbers * y_bytes, y_bytes);
  auto write = [&](int64_t r, const T* x, const auto& affine, float* v, auto factor) {
    normalize_columns(norm, cols, x, affine, v, false);
    store_row<T>(a, r, v, factor, y_streamed, codes_streamed);
  };
  if (norm.channels_last)
    return groups_of_columns<T, W>(norm, a.moments, together, cols,
                                   [&](int64_t r, int64_t, const T* x, const auto& affine,
                                       float* v) { write(r / together, x, affine, v, a.smooth); });
  groups_of_rows<T, W>(norm, a.moments, cols,
                       [&](int64_t plane, const T* x, const auto& affine, float* v) {
                         const float factor = a.smooth ? a.smooth[plane % norm.channels] : 1.0f;
                         for (int64_t i = 0; i < a.rows_of_plane; ++i)
                           write(plane * a.rows_of_plane + i, x + i * cols, affine, v,
                                 Repeated<float>{set1(factor)});
                       });
}

template <class T, class W>
void plain_groupnorm_quant_rows(const GroupnormQuantArgs& a) {
  const GroupnormArgs& norm = a.norm;
  plain_groups<T>(norm, [&](int64_t group, double mean, double scale, auto) {
    a.moments[2 * group] = static_cast<float>(mean);
    a.moments[2 * group + 1] = static_cast<float>(scale);
  });
  const int64_t cols = a.out.cols;
  float* v = reinterpret_cast<float*>(scratch(cols * 4));
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t plane = r / a.rows_of_plane;
    const int64_t image = norm.channels_last ? plane : plane / norm.channels;
    auto channel = [&](int64_t i) { return norm.channels_last ? i : plane % norm.channels; };
    for (int64_t i = 0; i < cols; ++i) {
      const float* moments =
          a.moments + 2 * (image * norm.groups + channel(i) / (norm.channels / norm.groups));
      v[i] = plain_number<T, W>(norm, r * cols + i, channel(i), moments[0], moments[1]);
      if (norm.y && a.y_dtype == DType::kF32)
        static_cast<float*>(norm.y)[r * cols + i] = v[i];
      else if (norm.y)
        static_cast<T*>(norm.y)[r * cols + i] = from_float<T>(v[i]);
      if (a.smooth) v[i] *= a.smooth[channel(i)];
    }
    quantize_row(a.out, r, v);
  }
}

}  // namespace

void groupnorm_quant_cpu_simd(const GroupnormQuantArgs& a) {
  with_groupnorm_types(a.norm, [&]<class T, class W>(T, W) { groupnorm_quant_rows<T, W>(a); });
}

void groupnorm_quant_cpu_ref(const GroupnormQuantArgs& a) {
  with_groupnorm_types(a.norm,
                       [&]<class T, class W>(T, W) { plain_groupnorm_quant_rows<T, W>(a); });
}

}  // namespace aiter::AITER_ISA
