/* Choosing tokens from logits or probabilities. */
#ifndef AITER_SAMPLING_H_
#define AITER_SAMPLING_H_

#include "aiter/device.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

typedef struct aiter_greedy_sample_opts {
  uint32_t struct_size;
  uint32_t flags;
} aiter_greedy_sample_opts;

#define AITER_GREEDY_SAMPLE_OPTS_INIT {sizeof(aiter_greedy_sample_opts), 0}

/* out[b] = argmax_v logits[b, v], the lowest v where several are largest
 *
 * logits: (batch, vocab) bf16 | f16 | f32, the last stride 1. vocab is at least 1.
 * out:    (batch) int32 | int64.
 * NaN is never chosen; -1 says that a row has nothing but NaN. batch may be 0.
 * Source: AITER greedy_sample. @since 0.1 unstable */
AITER_API aiter_status aiter_greedy_sample(const aiter_tensor* logits, const aiter_tensor* out,
                                           const aiter_greedy_sample_opts* opts,
                                           aiter_stream stream);

AITER_END_DECLS

#endif /* AITER_SAMPLING_H_ */
