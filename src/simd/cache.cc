#include "simd/cache.h"

#include <unistd.h>

namespace aiter {

int64_t cache_bytes() {
  static const int64_t bytes = [] {
#if defined(_SC_LEVEL3_CACHE_SIZE)
    if (const long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE); l3 > 0) return static_cast<int64_t>(l3);
#endif
    return int64_t{32} << 20;
  }();
  return bytes;
}

}  // namespace aiter
