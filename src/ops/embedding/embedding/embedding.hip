// One block a token. hip_vec copies rows of a table that has out's dtype; hip_any converts.
#include "ck/core/pack.h"
#include "ops/embedding/embedding/embedding_args.h"

namespace aiter {

AITER_DEVICE int64_t load_id(const EmbeddingArgs& a, int64_t token) {
  const int64_t i = a.ids_rows.offset(token);
  const int64_t id = a.ids_dtype == DType::kI32 ? static_cast<const int32_t*>(a.ids)[i]
                                                : static_cast<const int64_t*>(a.ids)[i];
  return id < a.vocab ? id : -1;
}

AITER_DEVICE void embedding_copy(const EmbeddingArgs& a) {
  const int bytes = a.out_dtype == DType::kF32 ? 4 : 2;
  const int64_t words = a.hidden * bytes / 16;
  for (int64_t t = block_index_x(); t < a.tokens; t += grid_blocks()) {
    const int64_t id = load_id(a, t);
    const auto* row = reinterpret_cast<const Words4*>(static_cast<const uint8_t*>(a.table) +
                                                      id * a.table_stride * bytes);
    auto* out =
        reinterpret_cast<Words4*>(static_cast<uint8_t*>(a.out) + a.out_rows.offset(t) * bytes);
    for (int64_t i = thread_index(); i < words; i += block_threads())
      out[i] = id < 0 ? Words4{0, 0, 0, 0} : row[i];
  }
}

AITER_DEVICE void embedding_convert(const EmbeddingArgs& a) {
  for (int64_t t = block_index_x(); t < a.tokens; t += grid_blocks()) {
    const int64_t id = load_id(a, t);
    const int64_t to = a.out_rows.offset(t);
    for (int64_t h = thread_index(); h < a.hidden; h += block_threads()) {
      float value = 0;
      if (id >= 0 && a.table_dtype == DType::kI8)
        value = static_cast<const int8_t*>(a.table)[id * a.table_stride + h] *
                load_float(a.scale, id * a.scale_stride + h / a.group, a.scale_dtype);
      else if (id >= 0)
        value = load_float(a.table, id * a.table_stride + h, a.table_dtype);
      store_float(a.out, to + h, a.out_dtype, value);
    }
  }
}

}  // namespace aiter

AITER_KERNEL(embedding_hip_vec, 256)(const aiter::EmbeddingArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::embedding_copy(a);
}
AITER_KERNEL(embedding_hip_any, 256)(const aiter::EmbeddingArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::embedding_convert(a);
}
