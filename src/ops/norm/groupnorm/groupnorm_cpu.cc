#include "ops/norm/groupnorm/groupnorm_args.h"
#include "simd/group_norm.h"

namespace aiter::AITER_ISA {

void groupnorm_cpu_simd(const GroupnormArgs& a) {
  with_groupnorm_types(a, [&]<class T, class W>(T, W) {
    const int64_t bytes = a.batch * a.channels * a.space * static_cast<int64_t>(sizeof(T));
    const bool streamed = a.y != a.x && worth_streaming(a.y, bytes, sizeof(T));
    auto write = [&](int64_t first, int64_t count, const T* x, const auto& affine) {
      normalize_columns(a, count, x, affine, static_cast<T*>(a.y) + first, streamed);
    };
    if (!a.channels_last)
      return groups_of_rows<T, W>(a, nullptr, 0,
                                  [&](int64_t plane, const T* x, const auto& affine, float*) {
                                    write(plane * a.space, a.space, x, affine);
                                  });
    const int64_t together = 1024 / a.channels + 1;
    groups_of_columns<T, W>(a, nullptr, together, 0,
                            [&](int64_t row, int64_t rows, const T* x, const auto& affine, float*) {
                              write(row * a.channels, rows * a.channels, x, affine);
                            });
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
