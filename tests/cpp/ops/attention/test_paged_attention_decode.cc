// paged_attention_decode from C++: results that can be told by hand, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

static bool near(float got, float want) { return std::fabs(got - want) < 1e-5f; }

int main() {
  // Two sequences, two heads over one. Keys are 1, so scores are equal: out is the mean of values.
  const std::vector<float> q{1, 2, 3, 4}, k(6, 1), v{1, 2, 3, 4, 5, NAN};
  const std::vector<int32_t> table{2, 0, 1, 7}, used{1, 2};
  std::vector<float> out(4, -1), lse(4, -1);
  Tensor tq(q.data(), {2, 2, 1}), tk(k.data(), {3, 2, 1, 1}), tv(v.data(), {3, 2, 1, 1});
  Tensor ttable(table.data(), {2, 2}, test::kI32), tused(used.data(), {2}, test::kI32);
  Tensor tout(out.data(), {2, 2, 1}), tlse(lse.data(), {2, 2});
  CHECK(aiter_paged_attention_decode(tq, tk, tv, ttable, tused, nullptr, tout, tlse, nullptr,
                                     nullptr) == AITER_OK);
  CHECK(near(out[0], 5) && near(out[1], 5) && near(out[2], 3.5f) && near(out[3], 3.5f));
  CHECK(near(lse[0], 1) && near(lse[1], 2) && near(lse[3], 4 + std::log(2.0f)));

  const std::vector<int32_t> none{0, 2};
  Tensor tnone(none.data(), {2}, test::kI32);
  CHECK(aiter_paged_attention_decode(tq, tk, tv, ttable, tnone, nullptr, tout, tlse, nullptr,
                                     nullptr) == AITER_OK);
  CHECK(out[0] == 0 && out[1] == 0 && std::isinf(lse[0]) && lse[0] < 0);

  out.assign(4, -1);
  const std::vector<int32_t> too_many{1, 5}, bad{1, 3};
  Tensor tmany(too_many.data(), {2}, test::kI32), tbad(bad.data(), {2}, test::kI32);
  CHECK_FAILS(aiter_paged_attention_decode(tq, tk, tv, ttable, tmany, nullptr, tout, tlse, nullptr,
                                           nullptr),
              AITER_INVALID_ARGUMENT, "sequence 1 has 5 keys, expected 0 to 4");
  CHECK_FAILS(
      aiter_paged_attention_decode(tq, tk, tv, ttable, tbad, nullptr, tout, tlse, nullptr, nullptr),
      AITER_INVALID_ARGUMENT, "block_table[1, 1] is 7, expected 0 to 2");
  CHECK_FAILS(aiter_paged_attention_decode(tq, tk, tv, ttable, nullptr, nullptr, tout, tlse,
                                           nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "seqused_k is NULL");
  CHECK(out == std::vector<float>(4, -1));
  return test::failures;
}
