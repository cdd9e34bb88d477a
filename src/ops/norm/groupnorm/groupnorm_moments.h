// The first launch of a group norm that goes on otherwise.
#pragma once

#include "dispatch/dispatch.h"
#include "ops/norm/groupnorm/groupnorm_args.h"

namespace aiter {

// On a GPU: writes mean and 1 / deviation of each group, and the sum with a residual. plain: by the row
// that takes everything, so that bits do not depend on how memory is aligned.
void groupnorm_moments(const GroupnormArgs& args, float* moments, bool plain, const Call& call);

}  // namespace aiter
