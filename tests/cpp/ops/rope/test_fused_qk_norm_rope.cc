// fused_qk_norm_rope from C++: results in and out of place, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  // Row 0 of the table makes no turn, row 1 a quarter.
  const std::vector<float> cos{1, 0}, sin{0, 1}, q{3, 4, 4, 3}, v{5, 6}, weight{1, 2};
  std::vector<float> k{3, 4, 3, 4}, q_out(4, -1), v_out(2, -1);
  std::vector<int32_t> positions{0, 1};
  Tensor tcos(cos.data(), {2, 1}), tsin(sin.data(), {2, 1}), tweight(weight.data(), {2});
  Tensor tq(q.data(), {2, 1, 2}), tk(k.data(), {2, 1, 2}), tv(v.data(), {2, 1, 1});
  Tensor tq_out(q_out.data(), {2, 1, 2}), tv_out(v_out.data(), {2, 1, 1});
  Tensor tpositions(positions.data(), {2}, test::kI32);
  aiter_fused_qk_norm_rope_opts opts = AITER_FUSED_QK_NORM_ROPE_OPTS_INIT;
  opts.norm = 1, opts.eps = 0;
  auto fused = [&](const aiter_tensor* at, const aiter_tensor* w) {
    return aiter_fused_qk_norm_rope(tq, tk, tv, w, nullptr, tcos, tsin, at, tq_out, tk, tv_out,
                                    &opts, nullptr);
  };
  CHECK(fused(tpositions, tweight) == AITER_OK);
  const float rms = std::sqrt(12.5f);
  const float turned[] = {3 / rms, 8 / rms, -6 / rms, 4 / rms},
              keys[] = {3 / rms, 4 / rms, -4 / rms, 3 / rms};
  for (int i = 0; i < 4; ++i) CHECK(std::fabs(q_out[i] - turned[i]) < 1e-6f);
  for (int i = 0; i < 4; ++i) CHECK(std::fabs(k[i] - keys[i]) < 1e-6f);  // in place
  CHECK(v_out == v);

  k = {3, 4, 3, 4};
  opts.norm = 0;
  CHECK(fused(nullptr, nullptr) == AITER_OK);  // rows by their index
  CHECK((q_out == std::vector<float>{3, 4, -3, 4}));
  CHECK((k == std::vector<float>{3, 4, -4, 3}));

  q_out.assign(4, -1);
  positions[1] = 2;
  CHECK_FAILS(fused(tpositions, nullptr), AITER_INVALID_ARGUMENT,
              "fused_qk_norm_rope: positions has 2 at flat index 1, expected less than 2");
  CHECK_FAILS(fused(nullptr, tweight), AITER_INVALID_ARGUMENT, "weights are given");
  opts.section0 = 2;
  CHECK_FAILS(fused(nullptr, nullptr), AITER_INVALID_ARGUMENT, "opts.sections are 2, 0, 0");
  CHECK(q_out[0] == -1);
  return test::failures;
}
