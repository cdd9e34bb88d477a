// reshape_and_cache_flash from C++: results, skipped slots, refusals.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> key{1, 2, 3, 4, 5, 6, 7, 8}, value{11, 12, 13, 14, 15, 16, 17, 18};
  std::vector<float> key_cache(24, -1), value_cache(24, -1);
  std::vector<int64_t> slots{5, -1, 0, 2};
  Tensor tkey(key.data(), {4, 1, 2}), tvalue(value.data(), {4, 1, 2});
  Tensor tkc(key_cache.data(), {3, 4, 1, 2}), tvc(value_cache.data(), {3, 4, 1, 2});
  Tensor tslots(slots.data(), {4}, test::kI64);

  CHECK(aiter_reshape_and_cache_flash(tkey, tvalue, tkc, tvc, tslots, nullptr, nullptr, nullptr,
                                      nullptr) == AITER_OK);
  std::vector<float> want(24, -1);
  want[10] = 1, want[11] = 2, want[0] = 5, want[1] = 6, want[4] = 7, want[5] = 8;
  CHECK(key_cache == want);
  for (float& w : want)
    if (w > 0) w += 10;
  CHECK(value_cache == want);

  slots[3] = 12;
  key_cache.assign(24, -1);
  CHECK_FAILS(aiter_reshape_and_cache_flash(tkey, tvalue, tkc, tvc, tslots, nullptr, nullptr,
                                            nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "slot_mapping[3] is 12, expected less than the cache's 12");
  CHECK_FAILS(aiter_reshape_and_cache_flash(tkey, tvalue, tkc, tvc, nullptr, nullptr, nullptr,
                                            nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "slot_mapping is NULL");
  aiter_reshape_and_cache_flash_opts opts = AITER_RESHAPE_AND_CACHE_FLASH_OPTS_INIT;
  opts.flags = AITER_DRY_RUN;
  slots[3] = 3;
  CHECK(aiter_reshape_and_cache_flash(tkey, tvalue, tkc, tvc, tslots, nullptr, nullptr, &opts,
                                      nullptr) == AITER_OK);
  CHECK(key_cache == std::vector<float>(24, -1));
  return test::failures;
}
