// topk from C++: both orders, ranges, another dimension, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{1, 3, -2, 3, NAN, 0, 5, 4, 4, 4};
  std::vector<float> values(6, 7);
  std::vector<int32_t> indices(6, 7);
  Tensor tx(x.data(), {2, 5}), tvalues(values.data(), {2, 3}),
      tindices(indices.data(), {2, 3}, test::kI32);
  CHECK(aiter_topk(tx, nullptr, nullptr, tvalues, tindices, nullptr, nullptr) == AITER_OK);
  CHECK((indices == std::vector<int32_t>{4, 1, 3, 1, 2, 3}));
  CHECK(std::isnan(values[0]) && values[1] == 3 && values[3] == 5 && values[5] == 4);

  aiter_topk_opts opts = AITER_TOPK_OPTS_INIT;
  opts.sorted = 0;
  opts.smallest = 1;
  CHECK(aiter_topk(tx, nullptr, nullptr, nullptr, tindices, &opts, nullptr) == AITER_OK);
  CHECK((indices == std::vector<int32_t>{0, 1, 2, 0, 2, 3}));

  // Two tokens of one sequence of 3.
  const std::vector<int32_t> ends{3};
  Tensor tends(ends.data(), {1}, test::kI32);
  opts = AITER_TOPK_OPTS_INIT;
  opts.next_n = 2;
  CHECK(aiter_topk(tx, nullptr, tends, tvalues, tindices, &opts, nullptr) == AITER_OK);
  CHECK((indices == std::vector<int32_t>{1, 0, -1, 1, 2, 0}));
  CHECK(values[1] == 1 && values[2] == -INFINITY);

  // The largest of each column.
  opts = AITER_TOPK_OPTS_INIT;
  opts.dim = 0;
  std::vector<int64_t> columns(5, 7);
  Tensor tcolumns(columns.data(), {1, 5}, test::kI64);
  CHECK(aiter_topk(tx, nullptr, nullptr, nullptr, tcolumns, &opts, nullptr) == AITER_OK);
  CHECK((columns == std::vector<int64_t>{0, 1, 1, 1, 0}));

  indices.assign(6, 7);
  CHECK_FAILS(aiter_topk(tx, nullptr, nullptr, tvalues, tindices, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "topk: indices has extent 3 in dimension 1, expected x's 5");
  opts.dim = -3;
  CHECK_FAILS(aiter_topk(tx, nullptr, nullptr, tvalues, tindices, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "topk: opts.dim is -3, expected -2 to 1");
  CHECK(indices[0] == 7);
  return test::failures;
}
