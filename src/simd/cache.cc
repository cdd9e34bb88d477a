#include "simd/cache.h"

#include <fstream>

namespace aiter {

int64_t cache_bytes() {
  // sysconf(_SC_LEVEL3_CACHE_SIZE) counts what other cores cannot share (384 MB of 32 on an EPYC).
  static const int64_t bytes = [] {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index3/size");  // "32768K"
    int64_t kilobytes = 0;
    file >> kilobytes;
    return kilobytes > 0 ? kilobytes << 10 : int64_t{32} << 20;
  }();
  return bytes;
}

}  // namespace aiter
