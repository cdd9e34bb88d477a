#include "ops/norm/groupnorm/groupnorm_args.h"
#include "simd/group_norm.h"

namespace aiter::AITER_ISA {

void groupnorm_cpu_simd(const GroupnormArgs& a) {
  with_groupnorm_types(a, [&]<class T, class W>(T, W) {
    const int64_t bytes = a.batch * a.channels * a.space * static_cast<int64_t>(sizeof(T));
    const bool streamed = a.y != a.x && worth_streaming(a.y, bytes, sizeof(T));
    auto write = [&](int64_t columns) {
      return [&a, columns, streamed](int64_t row, const T* x, const auto& affine, float*) {
        normalize_columns(a, columns, x, affine, static_cast<T*>(a.y) + row * columns, streamed);
      };
    };
    if (a.channels_last)
      groups_of_columns<T, W>(a, nullptr, 0, write(a.channels));
    else
      groups_of_rows<T, W>(a, nullptr, 0, write(a.space));
  });
}

void groupnorm_cpu_ref(const GroupnormArgs& a) {
  with_groupnorm_types(a, [&]<class T, class W>(T, W) {
    plain_groups<T>(a, [&](int64_t, double mean, double scale, auto each) {
      each([&](int64_t i, int64_t c) {
        static_cast<T*>(a.y)[i] = from_float<T>(plain_number<T, W>(a, i, c, mean, scale));
      });
    });
  });
}

}  // namespace aiter::AITER_ISA
