/* Embedding lookup. */
#ifndef AITER_EMBEDDING_H_
#define AITER_EMBEDDING_H_

#include "aiter/device.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

typedef struct aiter_embedding_opts {
  uint32_t struct_size;
  uint32_t flags;
} aiter_embedding_opts;

#define AITER_EMBEDDING_OPTS_INIT {sizeof(aiter_embedding_opts), 0}

/* out[t, :] = table[ids[t], :] * scale; a negative id is padding and gives a row of zeros
 *
 * ids:   (...) int32 | int64, less than vocab; on the CPU any id past the end is refused before
 *        anything is written.
 * table: (vocab, hidden) bf16 | f16 | f32 | int8, the last stride 1.
 * scale: for int8 tables, (vocab, groups) bf16 | f16 | f32, the last stride 1: element h is scaled
 *        by scale[id, h / (hidden / groups)], so groups = 1 is a scale a row and hidden / 32 is
 *        GGUF's Q8_0. groups divides hidden. NULL for the other tables.
 * out:   (..., hidden) bf16 | f16 | f32, the last stride 1; must not overlap the inputs.
 * The leading dimensions of out fold into two. Any dimension may be 0: nothing is written.
 * Accuracy: exact where out has table's dtype or a wider one, else one rounding (int8: of the fp32
 * product). @since 0.1 unstable */
AITER_API aiter_status aiter_embedding(const aiter_tensor* ids, const aiter_tensor* table,
                                       const aiter_tensor* scale, const aiter_tensor* out,
                                       const aiter_embedding_opts* opts, aiter_stream stream);

AITER_END_DECLS

#endif /* AITER_EMBEDDING_H_ */
