#include "simd/quantize.h"

namespace aiter::AITER_ISA {

void quantize_row(const QuantOut& q, int64_t row, const float* x, bool streamed) {
  with_codec(q.spec.code, [&]<class Codec>(Codec) {
    quantize_rows<Codec>(
        q, row, row, row + 1, streamed,
        [&](int64_t, int64_t, int64_t) { return ArrayNumbers<float>{x}; }, [](int64_t, int64_t) {});
  });
}

}  // namespace aiter::AITER_ISA
