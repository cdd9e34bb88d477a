// dequantize from C++: the inverse of quantize.
#include <cstdint>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<int8_t> codes{64, -127, 32, 0};
  const std::vector<float> scale{0.5f};
  std::vector<float> y(4, -1);
  Tensor tcodes(codes.data(), {1, 4}, test::kI8), tscale(scale.data(), {1, 1}),
      ty(y.data(), {1, 4});
  CHECK(aiter_dequantize(tcodes, tscale, ty, nullptr, nullptr) == AITER_OK);
  for (int i = 0; i < 4; ++i) CHECK(y[i] == codes[i] * 0.5f);

  y.assign(4, -1);
  Tensor small(y.data(), {1, 3});
  CHECK_FAILS(aiter_dequantize(tcodes, tscale, small, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "dequantize: codes has extent 4 in dimension 1, expected 3");
  CHECK(y[0] == -1);
  return test::failures;
}
