// rotate_activation from C++: the transform, its quantized form, refusals.
#include <cstdint>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{1, 2, 3, 4, 1, 0, 0, 0};
  std::vector<float> y(8, -1), scale(2, -1);
  std::vector<int8_t> codes(8, 77);
  Tensor tx(x.data(), {2, 4}), ty(y.data(), {2, 4});
  CHECK(aiter_rotate_activation(tx, ty, nullptr, nullptr, nullptr) == AITER_OK);
  const float want[] = {5, -1, -2, 0, 0.5f, 0.5f, 0.5f, 0.5f};
  for (int i = 0; i < 8; ++i) CHECK(y[i] == want[i]);

  const aiter_quantize_opts quant = AITER_QUANTIZE_OPTS_INIT;
  aiter_rotate_activation_opts opts = AITER_ROTATE_ACTIVATION_OPTS_INIT;
  opts.quant = &quant;
  Tensor tcodes(codes.data(), {2, 4}, test::kI8), tscale(scale.data(), {2, 1});
  CHECK(aiter_rotate_activation(tx, tcodes, tscale, &opts, nullptr) == AITER_OK);
  const int8_t row0[] = {127, -25, -51, 0};
  for (int i = 0; i < 4; ++i) CHECK(codes[i] == row0[i] && codes[4 + i] == 127);
  CHECK(scale[0] == 5.0f / 127);

  Tensor wrong(x.data(), {1, 6}), wrong_y(y.data(), {1, 6});
  y.assign(8, -1);
  CHECK_FAILS(aiter_rotate_activation(wrong, wrong_y, nullptr, nullptr, nullptr),
              AITER_INVALID_ARGUMENT,
              "rotate_activation: x has 6 columns, expected a power of two");
  CHECK_FAILS(aiter_rotate_activation(tx, ty, tscale, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "rotate_activation: scale is a tensor, expected NULL without opts.quant");
  CHECK(y[0] == -1);
  return test::failures;
}
