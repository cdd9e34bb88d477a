#pragma once

#include "ops/attention/attention_args.h"

namespace aiter {

using FlashAttnVarlenArgs = AttentionArgs;

}  // namespace aiter
