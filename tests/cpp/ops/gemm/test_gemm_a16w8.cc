// gemm_a16w8 from C++: results of both forms of w, packing, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  constexpr int kN = 17, kK = 64;
  std::vector<int8_t> codes(kN * kK);
  std::vector<float> scale(kN * 2), x(kK), y(kN, -1), want(kN);
  for (int i = 0; i < kN * kK; ++i) codes[i] = static_cast<int8_t>(i * 37 % 256 - 128);
  for (int i = 0; i < kN * 2; ++i) scale[i] = static_cast<float>(1 + i % 3) / 128;
  for (int k = 0; k < kK; ++k) x[k] = static_cast<float>(k % 5 - 2);
  for (int n = 0; n < kN; ++n)
    for (int k = 0; k < kK; ++k)
      want[n] += x[k] * static_cast<float>(codes[n * kK + k]) * scale[n * 2 + k / 32];
  auto matches = [&] {
    for (int n = 0; n < kN; ++n)
      if (!(std::fabs(y[n] - want[n]) < 1e-2f)) return false;
    return true;
  };
  Tensor tx(x.data(), {kK}), tw(codes.data(), {kN, kK}, test::kI8), tscale(scale.data(), {kN, 2});
  Tensor ty(y.data(), {kN});
  CHECK(aiter_gemm_a16w8(tx, tw, tscale, nullptr, ty, nullptr, nullptr) == AITER_OK);
  CHECK(matches());

  int64_t bytes = 0;
  CHECK(aiter_gemm_a16w8_packed_bytes(kN, kK, test::kF32, &bytes) == AITER_OK);
  CHECK(bytes == 64 + 32 * 2 * (32 + 4));
  std::vector<uint8_t> packed(bytes);
  Tensor tpacked(packed.data(), {bytes}, test::kU8);
  CHECK(aiter_gemm_a16w8_pack(tw, tscale, tpacked, nullptr, nullptr) == AITER_OK);
  y.assign(y.size(), -1);
  CHECK(aiter_gemm_a16w8(tx, tpacked, nullptr, nullptr, ty, nullptr, nullptr) == AITER_OK);
  CHECK(matches());

  std::vector<int8_t> back(codes.size());
  std::vector<float> back_scale(scale.size());
  Tensor tback(back.data(), {kN, kK}, test::kI8), tback_scale(back_scale.data(), {kN, 2});
  CHECK(aiter_gemm_a16w8_unpack(tpacked, tback, tback_scale, nullptr, nullptr) == AITER_OK);
  CHECK(back == codes && back_scale == scale);

  y.assign(y.size(), -1);
  CHECK_FAILS(aiter_gemm_a16w8(tx, nullptr, tscale, nullptr, ty, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "gemm_a16w8: w is NULL");
  CHECK_FAILS(aiter_gemm_a16w4(tx, tpacked, nullptr, nullptr, nullptr, ty, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "packed for gemm_a16w8 (8 bits), expected gemm_a16w4");
  Tensor elsewhere(packed.data(), {bytes}, test::kU8);
  elsewhere.t.device = {AITER_CUDA, 0};
  CHECK_FAILS(aiter_gemm_a16w8(tx, elsewhere, nullptr, nullptr, ty, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "w is on device 2:0, expected x's 1:0");
  aiter_gemm_packed_info info{};
  info.struct_size = sizeof(info);
  CHECK_FAILS(aiter_gemm_weight_info(elsewhere, &info), AITER_INVALID_ARGUMENT,
              "expected host memory");
  CHECK(y[0] == -1);
  return test::failures;
}
