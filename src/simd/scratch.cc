#include "simd/scratch.h"

#include <cstdlib>

#include "core/status.h"

namespace aiter {
namespace {

struct Buffer {
  uint8_t* data = nullptr;
  int64_t size = 0;
  ~Buffer() { std::free(data); }
};

thread_local Buffer buffer;

}  // namespace

uint8_t* scratch(int64_t bytes) {
  if (bytes > buffer.size) {
    std::free(buffer.data);
    buffer.size = 0;
    bytes = (bytes + 4095) / 4096 * 4096;
    buffer.data = static_cast<uint8_t*>(std::aligned_alloc(64, static_cast<size_t>(bytes)));
    if (!buffer.data)
      fail(AITER_OUT_OF_MEMORY, "out of memory: no %lld bytes for working memory",
           static_cast<long long>(bytes));
    buffer.size = bytes;
  }
  return buffer.data;
}

}  // namespace aiter
