// Working memory of the CPU rows: tiles that are packed or converted on the way, of cache size.
#pragma once

#include <cstdint>

namespace aiter {

// At least `bytes` bytes, aligned to 64, owned by the calling thread and kept for its next call.
// The contents last until the thread's next scratch(). Threads of a parallel section share what its
// caller got before entering it. Throws OUT_OF_MEMORY.
uint8_t* scratch(int64_t bytes);

}  // namespace aiter
