// When an output is worth writing past the caches (write_lanes(..., streamed) in simd.h). Safe to
// include from files compiled per instruction set.
#pragma once

#include <cstdint>

namespace aiter {

// The bytes that one call can expect to find again in the caches.
int64_t cache_bytes();

// For an output of `bytes` in elements of `element_bytes` that is not also an input. A store past
// the caches saves the read of the line it overwrites, and costs the next reader a trip to memory: it
// pays once the output and its input fill the caches.
inline bool worth_streaming(const void* out, int64_t bytes, int64_t element_bytes) {
  return bytes >= cache_bytes() / 2 && reinterpret_cast<uintptr_t>(out) % element_bytes == 0;
}

}  // namespace aiter
