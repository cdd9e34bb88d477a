// requantize from C++: other codes for the same numbers, refusals.
#include <cstdint>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<int8_t> codes{1, 2, -4, 0, 127, -127, 3, 5};
  const std::vector<float> scale{0.5f, 1};
  std::vector<uint8_t> out(4, 77), out_scale(2, 77);
  Tensor tcodes(codes.data(), {2, 4}, test::kI8), tscale(scale.data(), {2, 1});
  Tensor tout(out.data(), {2, 2}, test::kU8), tout_scale(out_scale.data(), {2, 1}, test::kU8);
  aiter_quantize_opts to = AITER_QUANTIZE_OPTS_INIT;
  to.code_dtype = {AITER_CODE_FLOAT4_E2M1FN, 4, 2};
  to.scale_dtype = {AITER_CODE_FLOAT8_E8M0FNU, 8, 1};
  CHECK(aiter_requantize(tcodes, tscale, tout, tout_scale, nullptr, &to, nullptr) == AITER_OK);
  CHECK(out_scale[0] == 126 && out_scale[1] == 127 + 5);  // 2 / 6 -> 1/2; 127 / 6 -> 32
  CHECK(out[0] == (2 | 4 << 4) && out[1] == 14);          // 0.5, 1, -2, 0 over 1/2
  CHECK(out[2] == (6 | 14 << 4));                         // +-127 / 32 = 3.97 -> 4

  out.assign(4, 77);
  Tensor wrong(scale.data(), {2, 2});
  CHECK_FAILS(aiter_requantize(tcodes, wrong, tout, tout_scale, nullptr, &to, nullptr),
              AITER_INVALID_ARGUMENT,
              "requantize: from: scale has extent 2 in dimension 1, expected 1");
  CHECK_FAILS(aiter_requantize(tcodes, tscale, nullptr, tout_scale, nullptr, &to, nullptr),
              AITER_INVALID_ARGUMENT, "requantize: out_codes is NULL");
  CHECK(out[0] == 77);
  return test::failures;
}
