// rotary_embedding and rope from C++: results in and out of place, rows of every kind, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

// Heads of two dimensions; row r of the table makes r quarter turns.
static void rows_of_every_kind() {
  const std::vector<float> cos{1, 0, -1, 0}, sin{0, 1, 0, -1}, angles{0, 0.5f};
  Tensor tcos(cos.data(), {4, 1}), tsin(sin.data(), {4, 1}), tangles(angles.data(), {2, 1, 1, 1});
  std::vector<float> x{1, 2, 1, 2, 1, 2, 1, 2}, out(8, -1);
  const std::vector<float> turned{1, 2, -2, 1, -1, -2, 2, -1};
  Tensor tx(x.data(), {4, 1, 2}), tout(out.data(), {4, 1, 2});
  aiter_rope_opts opts = AITER_ROPE_OPTS_INIT;
  auto rope = [&](const aiter_tensor* positions, const aiter_tensor* offsets) {
    return aiter_rope(tx, nullptr, tcos, tsin, nullptr, nullptr, positions, offsets, tout, nullptr,
                      &opts, nullptr);
  };
  CHECK(rope(nullptr, nullptr) == AITER_OK);
  CHECK(out == turned);
  opts.inverse = 1;
  CHECK(aiter_rope(tout, nullptr, tcos, tsin, nullptr, nullptr, nullptr, nullptr, tout, nullptr,
                   &opts, nullptr) == AITER_OK);
  CHECK(out == x);
  opts.inverse = 0;

  opts.rows = AITER_ROPE_POSITIONS;
  std::vector<int64_t> positions{2, 0, 1, 3}, offsets{-2, 1, 1, 0};
  Tensor tpositions(positions.data(), {4}, test::kI64), toffsets(offsets.data(), {4}, test::kI64);
  CHECK(rope(tpositions, toffsets) == AITER_OK);
  CHECK(out == turned);

  opts.rows = AITER_ROPE_SEQUENCES;
  const std::vector<int32_t> bounds{0, 1, 3};
  Tensor tbounds(bounds.data(), {3}, test::kI32);
  CHECK(rope(tbounds, nullptr) == AITER_OK);
  CHECK((out == std::vector<float>{1, 2, 1, 2, -2, 1, 1, 2}));

  opts.rows = AITER_ROPE_GRID;
  opts.section0 = 0, opts.section1 = 1;  // by line
  const std::vector<int64_t> size{1, 3, 1};
  Tensor tsize(size.data(), {1, 3}, test::kI64), tvideo(x.data(), {1, 4, 1, 2});
  Tensor tvideo_out(out.data(), {1, 4, 1, 2});
  CHECK(aiter_rope(tvideo, nullptr, tcos, tsin, nullptr, nullptr, tsize, nullptr, tvideo_out,
                   nullptr, &opts, nullptr) == AITER_OK);
  CHECK((out == std::vector<float>{1, 2, -2, 1, -1, -2, 1, 2}));

  opts = AITER_ROPE_OPTS_INIT;
  opts.rows = AITER_ROPE_IMAGE;
  opts.height = 2, opts.width = 1;
  Tensor timage(x.data(), {1, 2, 1, 4}), timage_out(out.data(), {1, 2, 1, 4});
  auto image = [&](const aiter_tensor* sin_w) {
    return aiter_rope(timage, nullptr, tcos, tsin, tcos, sin_w, nullptr, nullptr, timage_out,
                      nullptr, &opts, nullptr);
  };
  CHECK(image(tsin) == AITER_OK);
  CHECK((out == std::vector<float>{1, 2, 1, 2, -2, 1, 1, 2}));
  CHECK_FAILS(image(nullptr), AITER_INVALID_ARGUMENT, "rope: cos_w and sin_w are given");

  // Two tensors, their first two dimensions sequence and batch, by angles.
  opts = AITER_ROPE_OPTS_INIT;
  Tensor tsbhd(x.data(), {2, 2, 1, 2}), tsbhd_out(out.data(), {2, 2, 1, 2});
  std::vector<float> second = x;
  Tensor tsecond(second.data(), {2, 2, 1, 2});
  CHECK(aiter_rope(tsbhd, tsecond, tangles, nullptr, nullptr, nullptr, nullptr, nullptr, tsbhd_out,
                   tsecond, &opts, nullptr) == AITER_OK);
  CHECK(out == second && out[0] == 1 && out[3] == 2);
  CHECK(std::fabs(out[4] - (std::cos(0.5f) - 2 * std::sin(0.5f))) < 1e-6f);

  out.assign(8, -1);
  opts.rows = AITER_ROPE_POSITIONS;
  positions[3] = 4;
  CHECK_FAILS(rope(tpositions, nullptr), AITER_INVALID_ARGUMENT,
              "rope: positions has 4 at flat index 3, expected less than 4");
  offsets[3] = INT64_MAX;
  CHECK_FAILS(rope(tpositions, toffsets), AITER_INVALID_ARGUMENT, "at flat index 3");
  opts.rows = 5;
  CHECK_FAILS(rope(nullptr, nullptr), AITER_INVALID_ARGUMENT, "opts.rows is 5");
  CHECK(out[0] == -1);
}

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
  rows_of_every_kind();
  return test::failures;
}
