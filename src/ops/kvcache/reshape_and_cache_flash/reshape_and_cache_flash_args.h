#pragma once

#include "core/dtype.h"

namespace aiter {

struct ReshapeAndCacheFlashArgs {
  struct Side {  // keys or values; strides are in elements
    const void* from;
    void* cache;
    int64_t from_token, from_head;
    int64_t page, slot, head;
    int64_t dim;
  } key, value;
  const void* slots;
  int64_t tokens, heads, block;
  int64_t capacity;  // pages * block
  DType dtype;       // of key and value
  DType cache_dtype;
  DType slot_dtype;
  int32_t threads_per_token;  // GPU
};

}  // namespace aiter
