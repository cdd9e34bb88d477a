// exponential from C++: known numbers of Philox, rates, seeds a row, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  // Philox 4x32-10 of counter 0 and key 0 begins 6627e8d5 e169c58d (Random123's known answers).
  std::vector<float> out(6, -7);
  Tensor tout(out.data(), {2, 3});
  aiter_exponential_opts opts = AITER_EXPONENTIAL_OPTS_INIT;
  opts.eps = 0;
  CHECK(aiter_exponential(nullptr, nullptr, tout, &opts, nullptr) == AITER_OK);
  const double first = -std::log1p(-(0x6627e8d5 + 0.5) / 4294967296.0);
  const double second = -std::log1p(-(0xe169c58d + 0.5) / 4294967296.0);
  CHECK(std::fabs(out[0] - first) < 1e-6 * first && std::fabs(out[1] - second) < 1e-6 * second);
  CHECK(out[0] != out[3]);

  opts.lambd = 2;
  opts.eps = 1;
  const float before = out[0];
  const std::vector<int32_t> seeds{0, 0};
  Tensor tseeds(seeds.data(), {2}, test::kI32);
  CHECK(aiter_exponential(tseeds, nullptr, tout, &opts, nullptr) == AITER_OK);
  CHECK(out[0] == before * 0.5f + 1 && out[3] == out[0]);

  out[0] = -7;
  opts.eps = 2;
  CHECK_FAILS(aiter_exponential(nullptr, nullptr, tout, &opts, nullptr), AITER_INVALID_ARGUMENT,
              "exponential: opts.eps is 2, expected 0 to 1");
  CHECK(out[0] == -7);
  return test::failures;
}
