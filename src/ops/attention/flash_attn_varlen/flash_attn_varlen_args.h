#pragma once

#include "ops/attention/attention_args.h"

namespace aiter {

struct FlashAttnVarlenArgs : AttentionArgs {};

}  // namespace aiter
