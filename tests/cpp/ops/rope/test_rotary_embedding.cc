// rotary_embedding from C++: results in and out of place, refusals.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  // Position 1 is a quarter turn, position 0 none.
  const std::vector<float> cos{1, 1, 0, 0}, sin{0, 0, 1, 1};
  std::vector<int32_t> positions{1, 0};
  const std::vector<float> q{1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<float> out(8, -1);
  Tensor tcos(cos.data(), {2, 2}), tsin(sin.data(), {2, 2}), tq(q.data(), {2, 1, 4});
  Tensor tpos(positions.data(), {2}, test::kI32), tout(out.data(), {2, 1, 4});

  auto rope = [&](const aiter_rotary_embedding_opts* opts) {
    return aiter_rotary_embedding(tpos, tq, nullptr, tcos, tsin, tout, nullptr, opts, nullptr);
  };
  CHECK(rope(nullptr) == AITER_OK);
  CHECK((out == std::vector<float>{-3, -4, 1, 2, 5, 6, 7, 8}));
  aiter_rotary_embedding_opts opts = AITER_ROTARY_EMBEDDING_OPTS_INIT;
  opts.interleaved = 1;
  CHECK(rope(&opts) == AITER_OK);
  CHECK((out == std::vector<float>{-2, 1, -4, 3, 5, 6, 7, 8}));

  std::vector<float> k = q;
  Tensor tk(k.data(), {2, 4});  // heads and head_size folded
  opts.head_size = 4;
  CHECK(aiter_rotary_embedding(tpos, tq, tk, tcos, tsin, tout, tk, &opts, nullptr) == AITER_OK);
  CHECK(k == out);

  out.assign(8, -1);
  positions[1] = 2;
  CHECK_FAILS(rope(nullptr), AITER_INVALID_ARGUMENT,
              "rotary_embedding: positions has 2 at flat index 1");
  positions[1] = 0;
  CHECK_FAILS(aiter_rotary_embedding(tpos, tq, nullptr, tcos, tsin, tout, tout, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "key_out is given");
  CHECK_FAILS(aiter_rotary_embedding(tpos, tq, tk, tcos, tsin, tout, nullptr, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "key_out is NULL");
  CHECK(out[0] == -1);
  return test::failures;
}
