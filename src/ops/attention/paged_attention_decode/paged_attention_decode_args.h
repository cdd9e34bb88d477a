#pragma once

#include "ops/attention/attention_args.h"

namespace aiter {

using PagedAttentionDecodeArgs = AttentionArgs;

}  // namespace aiter
