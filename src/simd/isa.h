// Which instruction set the CPU rows run on.
#pragma once

#include "dispatch/dispatch.h"

namespace aiter {

Isa current_isa();  // the best that the machine has, unless set otherwise
const char* isa_name(Isa isa);

}  // namespace aiter
