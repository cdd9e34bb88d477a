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

// Whether row r begins r * step after the first.
bool evenly_apart(const Rows& rows, int64_t step) {
  if (rows.inner >= rows.count) return rows.inner_stride == step;
  if (rows.inner == 1) return rows.outer_stride == step;
  return rows.inner_stride == step && rows.outer_stride == rows.inner * step;
}

// Rows of a plane that follow each other, as groups of one row: beginning a row takes long.
GroupnormQuantArgs with_long_rows(GroupnormQuantArgs a) {
  QuantOut& q = a.out;
  const int64_t groups = q.cols / q.group_cols, space = a.norm.space;
  const bool one_scale = q.static_scale && groups == 1 && evenly_apart(q.scale_rows, 0);
  const int64_t step = groups * (groups > 1 ? q.scale_col_stride : 1);
  if (a.norm.channels_last || q.layout != ScaleLayout::kStrided || q.cols % q.group_cols ||
      space > 65536 || !evenly_apart(q.codes_rows, q.cols * code_bits(q.spec.code) / 8) ||
      (!one_scale && !evenly_apart(q.scale_rows, step)))
    return a;
  a.rows /= a.rows_of_plane;
  q.codes_rows = {a.rows, a.rows, 0, space * code_bits(q.spec.code) / 8};
  if (one_scale) {
    q.group_cols = space;
  } else {
    q.scale_rows = {a.rows, a.rows, 0, step * a.rows_of_plane};
    q.scale_col_stride = step / groups;
  }
  q.cols = space, a.rows_of_plane = 1;
  return a;
}

template <class T, class W>
void groupnorm_quant_rows(const GroupnormQuantArgs& given) {
  const GroupnormQuantArgs a = with_long_rows(given);
  const GroupnormArgs& norm = a.norm;
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
    return groups_of_columns<T, W>(norm, a.moments, cols,
                                   [&](int64_t r, const T* x, const auto& affine, float* v) {
                                     write(r, x, affine, v, a.smooth);
                                   });
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
