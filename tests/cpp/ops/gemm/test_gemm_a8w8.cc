// gemm_a8w8 from C++: results, options, refusals.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<int8_t> x{1, -2, 3, -128, 127, 0}, w{1, 1, 1, -128, 127, 2};
  const std::vector<float> x_scale{1, 0.5f}, w_scale{2, 0.25f}, bias{10, 20};
  std::vector<float> y(4, -1);
  Tensor tx(x.data(), {2, 3}, test::kI8), tw(w.data(), {2, 3}, test::kI8);
  Tensor txs(x_scale.data(), {2, 1}), tws(w_scale.data(), {1, 2}), tbias(bias.data(), {2});
  Tensor ty(y.data(), {2, 2});
  CHECK(aiter_gemm_a8w8(tx, tw, txs, tws, tbias, ty, nullptr, nullptr) == AITER_OK);
  // sums: 2, -376; -1, 32513
  CHECK(y == (std::vector<float>{2 * 2 + 10, -376 * 0.25f + 20, -1 * 0.5f * 2 + 10,
                                 32513 * 0.5f * 0.25f + 20}));

  aiter_gemm_a8w8_opts opts = AITER_GEMM_A8W8_OPTS_INIT;
  opts.flags = AITER_DRY_RUN;
  y.assign(4, -1);
  CHECK(aiter_gemm_a8w8(tx, tw, txs, tws, nullptr, ty, &opts, nullptr) == AITER_OK);
  CHECK(y[0] == -1);  // a dry run writes nothing
  CHECK(std::strstr(aiter_last_explanation(), "gemm_a8w8: cpu_simd on cpu"));

  CHECK_FAILS(aiter_gemm_a8w8(tx, tw, nullptr, tws, nullptr, ty, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "gemm_a8w8: x_scale is NULL");
  CHECK_FAILS(aiter_gemm_a8w8(tx, tw, tws, tws, nullptr, ty, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "gemm_a8w8: x_scale has 2 elements in rank 2");
  Tensor tw_float(w_scale.data(), {2, 1});
  CHECK_FAILS(aiter_gemm_a8w8(tx, tw_float, txs, tws, nullptr, ty, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "gemm_a8w8: w has dtype float32, expected int8");
  CHECK(y[0] == -1);
  return test::failures;
}
