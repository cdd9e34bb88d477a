// flash_attn_varlen and flash_attn from C++: results that can be told by hand, options, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

static bool near(float got, float want) { return std::fabs(got - want) < 1e-5f; }

int main() {
  // One head of one element. Scores are 0 (q = 0), so out is the mean of the visible values.
  const std::vector<float> q(4, 0), k(6, 1), v{1, 2, 3, 4, 5, 60};
  const std::vector<int32_t> cu_q{0, 1, 4}, cu_k{0, 2, 6};
  std::vector<float> out(4, -1), lse(4, -1);
  Tensor tq(q.data(), {4, 1, 1}), tk(k.data(), {6, 1, 1}), tv(v.data(), {6, 1, 1});
  Tensor tcu_q(cu_q.data(), {3}, test::kI32), tcu_k(cu_k.data(), {3}, test::kI32);
  Tensor tout(out.data(), {4, 1, 1}), tlse(lse.data(), {1, 4});
  auto run = [&](const aiter_attention_opts* opts) {
    return aiter_flash_attn_varlen(tq, tk, tv, tcu_q, tcu_k, nullptr, nullptr, nullptr, tout, tlse,
                                   opts, nullptr);
  };

  CHECK(run(nullptr) == AITER_OK);
  CHECK(near(out[0], 1.5f) && near(lse[0], std::log(2.0f)));
  for (int i = 1; i < 4; ++i) CHECK(near(out[i], 18) && near(lse[i], std::log(4.0f)));

  aiter_attention_opts opts = AITER_ATTENTION_OPTS_INIT;
  opts.causal = 1;
  CHECK(run(&opts) == AITER_OK);
  CHECK(near(out[0], 1.5f) && near(out[1], 3.5f) && near(out[2], 4) && near(out[3], 18));
  CHECK(near(lse[1], std::log(2.0f)));

  opts.window_left = 0;
  CHECK(run(&opts) == AITER_OK);
  CHECK(near(out[0], 2) && near(out[1], 4) && near(out[3], 60) && near(lse[3], 0));
  opts.sink_tokens = 1;
  CHECK(run(&opts) == AITER_OK);
  CHECK(near(out[0], 1.5f) && near(out[1], 3.5f) && near(out[3], 31.5f));

  // The same as a dense batch.
  Tensor dq(q.data(), {1, 4, 1, 1}), dk(k.data(), {1, 6, 1, 1}), dv(v.data(), {1, 6, 1, 1});
  Tensor dout(out.data(), {1, 4, 1, 1}), dlse(lse.data(), {1, 1, 4});
  opts = AITER_ATTENTION_OPTS_INIT;
  opts.causal = 1;
  CHECK(aiter_flash_attn(dq, dk, dv, nullptr, dout, dlse, &opts, nullptr) == AITER_OK);
  CHECK(near(out[0], 2) && near(out[1], 2.5f) && near(out[3], 12.5f) &&
        near(lse[3], std::log(6.0f)));

  // Paged: pages of two keys, in another order.
  const std::vector<int32_t> table{2, 0, -1, 1}, used{3, 2};
  Tensor pk(k.data(), {3, 2, 1, 1}), pv(v.data(), {3, 2, 1, 1});
  Tensor ttable(table.data(), {2, 2}, test::kI32), tused(used.data(), {2}, test::kI32);
  out.assign(4, -1);
  CHECK_FAILS(aiter_flash_attn_varlen(tq, pk, pv, tcu_q, nullptr, tused, ttable, nullptr, tout,
                                      tlse, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "block_table[1, 0] is -1, expected 0 to 2");
  CHECK(out == std::vector<float>(4, -1));
  const std::vector<int32_t> good{2, 0, 1, -1};
  Tensor tgood(good.data(), {2, 2}, test::kI32);
  CHECK(aiter_flash_attn_varlen(tq, pk, pv, tcu_q, nullptr, tused, tgood, nullptr, tout, tlse,
                                nullptr, nullptr) == AITER_OK);
  CHECK(near(out[0], 22) && near(out[1], 3.5f) && near(out[3], 3.5f));

  opts = AITER_ATTENTION_OPTS_INIT;
  opts.flags = AITER_DRY_RUN;
  out.assign(4, -1);
  CHECK(run(&opts) == AITER_OK);
  CHECK(out[0] == -1);
  CHECK(std::strstr(aiter_last_explanation(), "flash_attn_varlen: cpu_tiles on cpu"));
  opts.window_left = -2;
  CHECK_FAILS(run(&opts), AITER_INVALID_ARGUMENT, "opts.window is (-2, -1)");
  return test::failures;
}
