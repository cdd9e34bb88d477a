// gemm_a16w16 from C++: results, options, refusals.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{1, 2, 3, 4, 5, 6}, w{1, 0, 1, 0, 2, 0}, bias{10, 20};
  std::vector<float> y(4, -1);
  Tensor tx(x.data(), {2, 3}), tw(w.data(), {2, 3}), tbias(bias.data(), {2}), ty(y.data(), {2, 2});
  CHECK(aiter_gemm_a16w16(tx, tw, tbias, ty, nullptr, nullptr) == AITER_OK);
  CHECK(y == (std::vector<float>{14, 24, 20, 30}));
  CHECK(aiter_gemm_a16w16(tx, tw, nullptr, ty, nullptr, nullptr) == AITER_OK);
  CHECK(y == (std::vector<float>{4, 4, 10, 10}));

  // bf16 in, fp16 out; 0x3f80 and 0x3c00 are 1
  const std::vector<uint16_t> xb(6, 0x3f80), wb(6, 0x3f80);
  std::vector<uint16_t> yh(4);
  Tensor txb(xb.data(), {2, 3}, test::kBF16), twb(wb.data(), {2, 3}, test::kBF16);
  Tensor tyh(yh.data(), {2, 2}, test::kF16);
  CHECK(aiter_gemm_a16w16(txb, twb, nullptr, tyh, nullptr, nullptr) == AITER_OK);
  CHECK(yh == std::vector<uint16_t>(4, 0x4200));  // 3

  aiter_gemm_a16w16_opts opts = AITER_GEMM_A16W16_OPTS_INIT;
  opts.flags = AITER_DRY_RUN;
  y.assign(4, -1);
  CHECK(aiter_gemm_a16w16(tx, tw, tbias, ty, &opts, nullptr) == AITER_OK);
  CHECK(y[0] == -1);  // a dry run writes nothing
  CHECK(std::strstr(aiter_last_explanation(), "gemm_a16w16: cpu_gemv on cpu"));

  CHECK_FAILS(aiter_gemm_a16w16(tx, twb, nullptr, ty, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "gemm_a16w16: w has dtype bfloat16, expected x's float32");
  CHECK_FAILS(aiter_gemm_a16w16(tx, tw, nullptr, nullptr, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "gemm_a16w16: y is NULL");
  Tensor wide(w.data(), {1, 6});
  CHECK_FAILS(aiter_gemm_a16w16(tx, wide, nullptr, ty, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "gemm_a16w16: w has shape (1, 6), expected (any, 3)");
  CHECK(y[0] == -1);
  return test::failures;
}
