// qk_rmsnorm from C++: results, options, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> q{3, 4, 0, 0, 1, 1, 1, 1}, k{2, 2, 3, -3};
  const std::vector<float> q_w{1, 2, 3, 4}, k_w{1, 5};
  std::vector<float> q_out(8, -1), sum(8, -1), k_out(4, -1), scale(2, -1);
  std::vector<int8_t> codes(8, -1);
  Tensor tq(q.data(), {2, 4}), tk(k.data(), {2, 2}), tq_w(q_w.data(), {4}), tk_w(k_w.data(), {2});
  Tensor tq_out(q_out.data(), {2, 4}), tsum(sum.data(), {2, 4}), tk_out(k_out.data(), {2, 2});
  Tensor tscale(scale.data(), {2, 1}), tcodes(codes.data(), {2, 4}, test::kI8);
  aiter_qk_rmsnorm_opts opts = AITER_QK_RMSNORM_OPTS_INIT;
  opts.q_eps = opts.k_eps = 0;

  CHECK(aiter_qk_rmsnorm(tq, tq, tq_w, tk, tk_w, tq_out, nullptr, nullptr, tsum, tk_out, &opts,
                         nullptr) == AITER_OK);
  CHECK(std::fabs(q_out[1] - 2 * 4 / 2.5f) < 1e-5f && sum[1] == 8);
  CHECK(std::fabs(k_out[1] - 5) < 1e-5f && std::fabs(k_out[3] + 5) < 1e-5f);

  aiter_quantize_opts quant = AITER_QUANTIZE_OPTS_INIT;
  opts.quant = &quant;
  CHECK(aiter_qk_rmsnorm(tq, nullptr, tq_w, nullptr, nullptr, tcodes, tscale, tq_out, nullptr,
                         nullptr, &opts, nullptr) == AITER_OK);
  CHECK(codes[1] == 127 && codes[7] == 127 && std::fabs(q_out[7] - 4) < 1e-5f);

  codes.assign(8, -1);
  CHECK_FAILS(aiter_qk_rmsnorm(tq, nullptr, tq_w, tk, tk_w, tcodes, tscale, nullptr, nullptr,
                               nullptr, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "k_out is NULL");
  CHECK_FAILS(aiter_qk_rmsnorm(tq, nullptr, tk_w, tk, tk_w, tcodes, tscale, nullptr, nullptr,
                               tk_out, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "qk_rmsnorm: q: w has shape (2,)");
  opts.quant = nullptr;
  CHECK_FAILS(aiter_qk_rmsnorm(tq, nullptr, tq_w, tk, tk_w, tq_out, tscale, nullptr, nullptr,
                               tk_out, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "q_scale is given");
  opts.q_eps = -1;
  CHECK_FAILS(aiter_qk_rmsnorm(tq, nullptr, tq_w, tk, tk_w, tq_out, nullptr, nullptr, nullptr,
                               tk_out, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "opts.eps is -1");
  CHECK(codes[0] == -1);
  return test::failures;
}
