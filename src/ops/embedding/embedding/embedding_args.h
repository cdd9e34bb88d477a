#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

struct EmbeddingArgs {
  const void* ids;
  const void* table;
  const void* scale;  // null unless the table is int8
  void* out;
  Rows ids_rows, out_rows;
  int64_t tokens, vocab, hidden;
  int64_t group;  // elements that share a scale
  int64_t table_stride, scale_stride;
  DType ids_dtype;  // i32 or i64
  DType table_dtype, scale_dtype, out_dtype;
};

}  // namespace aiter
