// shuffle_weight and shuffle_scale from C++: there and back, the description, refusals.
#include <cstdint>
#include <cstring>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  std::vector<int8_t> w(16 * 32), again(16 * 32, 77);
  for (int i = 0; i < 16 * 32; ++i) w[i] = static_cast<int8_t>(i % 251);
  Tensor tw(w.data(), {16, 32}, test::kI8), tagain(again.data(), {16, 32}, test::kI8);
  int64_t bytes = 0;
  CHECK(aiter_shuffled_weight_bytes(tw, nullptr, &bytes) == AITER_OK);
  CHECK(bytes == 64 + 16 * 32);
  std::vector<uint8_t> packed(bytes, 77);
  Tensor tpacked(packed.data(), {bytes}, test::kU8);
  CHECK(aiter_shuffle_weight(tw, tpacked, nullptr, nullptr) == AITER_OK);
  for (int row = 0; row < 16; ++row)  // the first packs of all rows, then the second ones
    CHECK(!std::memcmp(&packed[64 + 16 * row], &w[32 * row], 16));
  aiter_shuffled_weight info{};
  info.struct_size = sizeof(info);
  CHECK(aiter_shuffled_weight_info(tpacked, &info) == AITER_OK);
  CHECK(info.rank == 2 && info.n == 16 && info.k == 32 && info.tile_rows == 16);
  CHECK(aiter_unshuffle_weight(tpacked, tagain, nullptr, nullptr) == AITER_OK);
  CHECK(again == w);

  std::vector<uint8_t> scale{1, 2, 3}, shuffled(256 * 8, 77), back(3, 77);
  Tensor tscale(scale.data(), {1, 3}, test::kU8), tshuffled(shuffled.data(), {256, 8}, test::kU8),
      tback(back.data(), {1, 3}, test::kU8);
  CHECK(aiter_shuffle_scale(tscale, tshuffled, nullptr, nullptr) == AITER_OK);
  CHECK(shuffled[0] == 1 && shuffled[64] == 2 && shuffled[128] == 3 && shuffled[1] == 0);
  CHECK(aiter_unshuffle_scale(tshuffled, tback, nullptr, nullptr) == AITER_OK);
  CHECK(back == scale);

  packed[0] = 'x';
  again.assign(16 * 32, 77);
  CHECK_FAILS(aiter_unshuffle_weight(tpacked, tagain, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "unshuffle_weight: packed does not begin with the description");
  CHECK_FAILS(aiter_shuffle_weight(nullptr, tpacked, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "shuffle_weight: w is NULL");
  CHECK(again[0] == 77);
  return test::failures;
}
