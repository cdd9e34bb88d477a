// gemm_a16w4 from C++: results of both forms of w, packing, options, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  // w[n, k] = (n + k) % 16 * 0.5 - 2, K = 32
  constexpr int kM = 2, kN = 3, kK = 32;
  std::vector<uint8_t> codes(kN * kK / 2);
  for (int n = 0; n < kN; ++n)
    for (int k = 0; k < kK; k += 2)
      codes[(n * kK + k) / 2] = static_cast<uint8_t>((n + k) % 16 | (n + k + 1) % 16 << 4);
  const std::vector<float> scale(kN, 0.5f), min(kN, -2), bias{10, 20, 30};
  std::vector<float> x(kM * kK), y(kM * kN, -1), want(kM * kN);
  for (int i = 0; i < kM * kK; ++i) x[i] = static_cast<float>(i % 7 - 3);
  for (int m = 0; m < kM; ++m)
    for (int n = 0; n < kN; ++n) {
      want[m * kN + n] = bias[n];
      for (int k = 0; k < kK; ++k)
        want[m * kN + n] += x[m * kK + k] * (static_cast<float>((n + k) % 16) * 0.5f - 2);
    }
  auto matches = [&] {
    for (int i = 0; i < kM * kN; ++i)
      if (!(std::fabs(y[i] - want[i]) < 1e-2f)) return false;
    return true;
  };
  Tensor tx(x.data(), {kM, kK}), tw(codes.data(), {kN, kK / 2}, test::kU8);
  Tensor tscale(scale.data(), {kN, 1}), tmin(min.data(), {kN, 1}), tbias(bias.data(), {kN});
  Tensor ty(y.data(), {kM, kN});
  CHECK(aiter_gemm_a16w4(tx, tw, tscale, tmin, tbias, ty, nullptr, nullptr) == AITER_OK);
  CHECK(matches());

  Tensor tw4(codes.data(), {kN, kK / 2}, {AITER_CODE_UINT, 4, 2});
  y.assign(y.size(), -1);
  CHECK(aiter_gemm_a16w4(tx, tw4, tscale, tmin, tbias, ty, nullptr, nullptr) == AITER_OK);
  CHECK(matches());

  int64_t bytes = 0;
  CHECK(aiter_gemm_a16w4_packed_bytes(kN, kK, test::kF32, &bytes) == AITER_OK);
  CHECK(bytes == 64 + 16 * (kK / 2 + 8));
  std::vector<uint8_t> packed(bytes);
  Tensor tpacked(packed.data(), {bytes}, test::kU8);
  aiter_gemm_a16w4_opts opts = AITER_GEMM_A16W4_OPTS_INIT;
  opts.flags = AITER_DRY_RUN;
  CHECK(aiter_gemm_a16w4_pack(tw, tscale, tmin, tpacked, &opts, nullptr) == AITER_OK);
  CHECK(packed[0] == 0);  // a dry run writes nothing
  CHECK(aiter_gemm_a16w4_pack(tw, tscale, tmin, tpacked, nullptr, nullptr) == AITER_OK);
  y.assign(y.size(), -1);
  CHECK(aiter_gemm_a16w4(tx, tpacked, nullptr, nullptr, tbias, ty, nullptr, nullptr) == AITER_OK);
  CHECK(matches());

  aiter_gemm_packed_info info{};
  CHECK_FAILS(aiter_gemm_weight_info(tpacked, &info), AITER_INVALID_ARGUMENT, "struct_size is 0");
  info.struct_size = sizeof(info);
  CHECK(aiter_gemm_weight_info(tpacked, &info) == AITER_OK);
  CHECK(info.bits == 4 && info.n == kN && info.k == kK && info.padded_n == 16 && info.has_min);

  std::vector<uint8_t> back(codes.size());
  std::vector<float> back_scale(kN), back_min(kN);
  Tensor tback(back.data(), {kN, kK / 2}, test::kU8);
  Tensor tback_scale(back_scale.data(), {kN, 1}), tback_min(back_min.data(), {kN, 1});
  CHECK(aiter_gemm_a16w4_unpack(tpacked, tback, tback_scale, tback_min, nullptr, nullptr) ==
        AITER_OK);
  CHECK(back == codes && back_scale == scale && back_min == min);
  CHECK_FAILS(aiter_gemm_a16w4_unpack(tpacked, tback, tback_scale, nullptr, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "w_min is NULL, expected a tensor");

  y.assign(y.size(), -1);
  CHECK_FAILS(aiter_gemm_a16w8(tx, tpacked, nullptr, tbias, ty, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "packed for gemm_a16w4 (4 bits), expected gemm_a16w8");
  tpacked.shape[0] = bytes - 1;
  CHECK_FAILS(aiter_gemm_a16w4(tx, tpacked, nullptr, nullptr, tbias, ty, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "gemm_a16w4: w has");
  opts = AITER_GEMM_A16W4_OPTS_INIT;
  opts.activation = 3;
  CHECK_FAILS(aiter_gemm_a16w4(tx, tw, tscale, tmin, tbias, ty, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "opts.activation is 3");
  CHECK_FAILS(aiter_gemm_a16w4(tx, tw, nullptr, nullptr, tbias, ty, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "w_scale is NULL");
  CHECK_FAILS(aiter_gemm_a16w4_packed_bytes(4, 33, test::kF16, &bytes), AITER_INVALID_ARGUMENT,
              "k is 33");
  CHECK_FAILS(aiter_gemm_a16w4_packed_bytes(INT64_MAX, 64, test::kF16, &bytes),
              AITER_INVALID_ARGUMENT, "overflows");
  CHECK(y[0] == -1);
  return test::failures;
}
