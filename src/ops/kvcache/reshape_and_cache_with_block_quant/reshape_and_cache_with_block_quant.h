// The operator, for others that end in it: `check` names the one that was called.
#pragma once

#include "aiter/kvcache.h"
#include "core/check.h"

namespace aiter {

void reshape_and_cache_with_block_quant(const Check& check, const aiter_tensor* key,
                                        const aiter_tensor* value, const aiter_tensor* key_cache,
                                        const aiter_tensor* value_cache,
                                        const aiter_tensor* k_scale, const aiter_tensor* v_scale,
                                        const aiter_tensor* slot_mapping,
                                        const aiter_reshape_and_cache_with_block_quant_opts* opts,
                                        aiter_stream stream);

}  // namespace aiter
