// A small group is worked on by a wave, a large one by a block; see ck/quant/quantize.h.
#include "ck/quant/quantize.h"
#include "ops/quant/requantize/requantize_args.h"

namespace aiter {

AITER_DEVICE float number(const RequantizeArgs& a, const AnyCodes& kind, int64_t r,
                          int64_t column) {
  const QuantOut& q = a.from;
  const int64_t group_row = a.from_group_rows == 1 ? r : r / a.from_group_rows;
  const uint8_t* codes = static_cast<const uint8_t*>(q.codes) + q.codes_rows.offset(r);
  return kind.decode(load_code(codes, column, kind.bits)) *
         load_scale(q, q.scale_index(group_row, column / q.group_cols));
}

AITER_DEVICE void requantize(const RequantizeArgs& a) {
  struct RowAt {
    bool there;
    int64_t row;
  };
  const AnyCodes kind(a.from.spec.code);
  quantize_groups(
      a.to, a.rows, a.to_group_rows, RequantizeArgs::kWaveGroup,
      [] AITER_LAMBDA(int64_t row) { return RowAt{true, row}; },
      [&] AITER_LAMBDA(const RowAt& at, int64_t column) {
        return number(a, kind, at.row, column);
      });
}

}  // namespace aiter

AITER_KERNEL(requantize_hip_any, 256)(const aiter::RequantizeArgs a) { aiter::requantize(a); }
