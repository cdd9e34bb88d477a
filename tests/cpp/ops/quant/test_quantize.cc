// quantize from C++: codes and scales, uint8 with a named dtype, refusals.
#include <cstdint>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{1, -2, 0.5f, 0, 0, 0, 0, 0};
  std::vector<int8_t> codes(8, 77);
  std::vector<float> scale(2, -1);
  Tensor tx(x.data(), {2, 4}), tcodes(codes.data(), {2, 4}, test::kI8),
      tscale(scale.data(), {2, 1});
  CHECK(aiter_quantize(tx, nullptr, nullptr, tcodes, tscale, nullptr, nullptr) == AITER_OK);
  const int8_t row0[] = {64, -127, 32, 0};  // 63.5 and 31.75 round to even and up
  for (int i = 0; i < 4; ++i) CHECK(codes[i] == row0[i]);
  CHECK(scale[0] == 2.0f / 127 && scale[1] == 1.0f);

  // MXFP4 into plain bytes: the options name what they hold.
  aiter_quantize_opts opts = AITER_QUANTIZE_OPTS_INIT;
  opts.group_cols = 4;
  opts.code_dtype = {AITER_CODE_FLOAT4_E2M1FN, 4, 2};
  opts.scale_dtype = {AITER_CODE_FLOAT8_E8M0FNU, 8, 1};
  std::vector<uint8_t> fp4(4, 77), e8m0(2, 77);
  Tensor tfp4(fp4.data(), {2, 2}, test::kU8), te8m0(e8m0.data(), {2, 1}, test::kU8);
  CHECK(aiter_quantize(tx, nullptr, nullptr, tfp4, te8m0, &opts, nullptr) == AITER_OK);
  CHECK(e8m0[0] == 126 && e8m0[1] == 127);        // 2 / 6 rounds up to 1/2
  CHECK(fp4[0] == (4 | 14 << 4) && fp4[1] == 2);  // 2, -4, 1, 0

  // NVFP4 with a global scale in memory, times the one in the options.
  float global_scale = 0.5f;
  Tensor tglobal(&global_scale, {1});
  opts.scale_dtype = {AITER_CODE_FLOAT8_E4M3FN, 8, 1};
  opts.global_scale = 0.25f;
  opts.global_scale_tensor = tglobal;
  CHECK(aiter_quantize(tx, nullptr, nullptr, tfp4, te8m0, &opts, nullptr) == AITER_OK);
  CHECK(e8m0[0] == 0x43 && e8m0[1] == 0);         // 2 / 6 / 0.125 = 2.67 rounds to 2.75
  CHECK(fp4[0] == (5 | 15 << 4) && fp4[1] == 3);  // 2.91, -5.82, 1.45 become 3, -6, 1.5
  opts.scale_dtype = {AITER_CODE_FLOAT8_E8M0FNU, 8, 1};
  CHECK_FAILS(aiter_quantize(tx, nullptr, nullptr, tfp4, te8m0, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "quantize: opts.global_scale is given, expected scales");

  codes.assign(8, 77);
  Tensor wrong(scale.data(), {2, 2});
  CHECK_FAILS(aiter_quantize(tx, nullptr, nullptr, tcodes, wrong, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "quantize: scale has extent 2 in dimension 1, expected 1");
  CHECK_FAILS(aiter_quantize(tx, nullptr, nullptr, nullptr, tscale, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "quantize: codes is NULL");
  CHECK(codes[0] == 77);
  return test::failures;
}
