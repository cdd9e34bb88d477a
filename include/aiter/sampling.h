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

typedef struct aiter_top_k_top_p_sampling_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t input_is_probs; /* 0: logits; nonzero: probabilities, not necessarily normalized */
  int32_t top_k;          /* 0 or less = all */
  float top_p;            /* in [0, 1]; 1 = all */
  float min_p;            /* in [0, 1]; 0 = all */
  float temperature;      /* >= 0, of logits; 0 = greedy */
  int32_t top_k_first;    /* nonzero: top_p is of the mass that top_k leaves; 0: of the whole */
  uint64_t seed;
  uint64_t offset; /* which draw of the stream: count it up from call to call */
} aiter_top_k_top_p_sampling_opts;

#define AITER_TOP_K_TOP_P_SAMPLING_OPTS_INIT \
  {sizeof(aiter_top_k_top_p_sampling_opts), 0, 0, 0, 1.0f, 0.0f, 1.0f, 1, 0, 0}

/* out[b]: a token v of row r = indices[b], drawn in proportion to its weight among those kept
 *
 * The weight of v is exp((logits[r, v] - max) / temperature), or probs[r, v] / max. Kept are first
 * the tokens of at least min_p times the largest weight; of these, those that fewer than top_k
 * tokens exceed; of these, those that are exceeded by a mass of less than top_p times the mass of
 * the tokens (which: see top_k_first). So tokens of equal weight are kept or dropped together, and
 * at least one token is kept.
 *
 * Weights are rounded to multiples of 2^-28 of the largest; from there on all is exact integers.
 * The result depends on the row's contents, its options, and the draw alone: neither on the other
 * rows nor on threads, instruction set or machine. The draw is the 64-bit numbers that Philox 4x32-10
 * yields for the key `seed` and the counter (offset, n, i), i = 0, 1, ...; n is b, or 0 where a row has
 * a seed of its own. Seeds and offsets a row make continuous batching reproducible.
 *
 * input:   (rows, vocab) bf16 | f16 | f32, the last stride 1. vocab is at least 1.
 * indices: (batch) int32 | int64, rows of the input; NULL = every row once.
 * temperature, top_p, min_p: (batch) f32, and top_k, seed, offset: (batch) int32 | int64, instead of
 *          the option of that name; NULL = the option for all. temperature is for logits alone.
 * out:     (batch) int32 | int64. batch may be 0.
 * NaN and negative probabilities are never drawn. A row at temperature 0, with an infinite largest
 * element, or without any weight is decided as by aiter_greedy_sample.
 * Source: AITER top_k_top_p_sampling_from_probs (input_is_probs = 1, top_k_first = 0),
 * top_p_sampling_from_probs; Salmon et al. 2011 (Philox). @since 0.1 unstable */
AITER_API aiter_status aiter_top_k_top_p_sampling(
    const aiter_tensor* input, const aiter_tensor* indices, const aiter_tensor* temperature,
    const aiter_tensor* top_k, const aiter_tensor* top_p, const aiter_tensor* min_p,
    const aiter_tensor* seed, const aiter_tensor* offset, const aiter_tensor* out,
    const aiter_top_k_top_p_sampling_opts* opts, aiter_stream stream);

typedef struct aiter_renorm_probs_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t top_k; /* 0 or less = all */
  float top_p;   /* in [0, 1]; 1 = all */
  float min_p;   /* in [0, 1]; 0 = all */
  int32_t top_k_first;
} aiter_renorm_probs_opts;

#define AITER_RENORM_PROBS_OPTS_INIT {sizeof(aiter_renorm_probs_opts), 0, 0, 1.0f, 0.0f, 1}

/* out[r, v] = probs[r, v] / sum of the kept, 0 for what is not kept
 *
 * Kept is what aiter_top_k_top_p_sampling with input_is_probs and the same options may draw from,
 * and any smaller probabilities that no option drops. A row that it decides as aiter_greedy_sample
 * does is 1 at that token; a row of nothing but NaN is 0.
 *
 * probs: (rows, vocab) bf16 | f16 | f32, not necessarily normalized. out: like probs, may be probs;
 * last strides 1. top_k: (rows) int32 | int64, top_p, min_p: (rows) f32, instead of the option of
 * that name. Which tokens are kept is exact; sums are of fp32, in a fixed order.
 * Source: AITER top_k_renorm_probs; FlashInfer top_p_renorm_probs. @since 0.1 unstable */
AITER_API aiter_status aiter_renorm_probs(const aiter_tensor* probs, const aiter_tensor* top_k,
                                          const aiter_tensor* top_p, const aiter_tensor* min_p,
                                          const aiter_tensor* out,
                                          const aiter_renorm_probs_opts* opts, aiter_stream stream);

typedef struct aiter_random_sample_opts {
  uint32_t struct_size;
  uint32_t flags;
  float temperature; /* >= 0; 0 = greedy, less than 1e-5 counts as 1e-5 */
  float lambd;       /* rate of the noise that is made here */
  float eps;         /* in [0, 1], added to the noise */
  uint64_t seed;
  uint64_t offset; /* which draw of the stream: count it up from call to call */
} aiter_random_sample_opts;

#define AITER_RANDOM_SAMPLE_OPTS_INIT \
  {sizeof(aiter_random_sample_opts), 0, 1.0f, 1.0f, 1e-10f, 0, 0}

/* out[b] = argmax_v softmax(logits[b] / temperature)[v] / (noise[b, v] + eps), the lowest v where
 * several are largest; at temperature 0 the noise is left out
 *
 * With exponential noise the tokens are distributed as the softmax. Scores are compared as doubles
 * where floats do not decide: the result is that of double arithmetic on every machine.
 *
 * logits: (batch, vocab) bf16 | f16 | f32, the last stride 1. vocab is at least 1.
 * temperature: (batch) f32, or NULL = the option for all.
 * exponentials: the noise, (batch, vocab) f32, the last stride 1 (the first may be 0), instead of a
 * seed; or NULL = what aiter_exponential makes of seed, offset and lambd, without its eps.
 * seed, offset: (batch) int32 | int64, or NULL = the option for all. out: (batch) int32 | int64.
 * Tokens whose logit is NaN, or whose noise is NaN or negative (eps included), are never chosen; -1
 * says that there are no others. batch may be 0.
 * Source: AITER random_sample, mixed_sample, *_outer_exponential. @since 0.1 unstable */
AITER_API aiter_status aiter_random_sample(
    const aiter_tensor* logits, const aiter_tensor* temperature, const aiter_tensor* exponentials,
    const aiter_tensor* seed, const aiter_tensor* offset, const aiter_tensor* out,
    const aiter_random_sample_opts* opts, aiter_stream stream);

typedef struct aiter_exponential_opts {
  uint32_t struct_size;
  uint32_t flags;
  float lambd; /* the rate: the mean is 1 / lambd */
  float eps;   /* in [0, 1], added to all */
  uint64_t seed;
  uint64_t offset;
} aiter_exponential_opts;

#define AITER_EXPONENTIAL_OPTS_INIT {sizeof(aiter_exponential_opts), 0, 1.0f, 1e-10f, 0, 0}

/* out[r, v] = -log(u) / lambd + eps, u uniform in (0, 1)
 *
 * u is made of word v % 4 of the block that Philox 4x32-10 yields for the key `seed` and the counter
 * (offset, n, v / 4); n is r, or 0 where a row has a seed of its own. Equal on every machine, bit
 * for bit; an error of 2 units in the last place before rounding to out's dtype.
 *
 * out: (.., n) bf16 | f16 | f32, the last stride 1, n < 2^34; all other dimensions are rows.
 * seed, offset: (rows) int32 | int64, or NULL = the option for all. No elements may be there.
 * Source: AITER exponential. @since 0.1 unstable */
AITER_API aiter_status aiter_exponential(const aiter_tensor* seed, const aiter_tensor* offset,
                                         const aiter_tensor* out,
                                         const aiter_exponential_opts* opts, aiter_stream stream);

typedef struct aiter_topk_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t dim;      /* the searched dimension; negative: from the end */
  int32_t smallest; /* nonzero: the smallest elements instead of the largest */
  int32_t sorted;   /* nonzero: from the best to the worst; 0: as they come in x */
  int32_t next_n;   /* rows of x that share an element of row_ends */
} aiter_topk_opts;

#define AITER_TOPK_OPTS_INIT {sizeof(aiter_topk_opts), 0, -1, 0, 1, 1}

/* indices[.., j, ..] = where in dimension dim of x the k best elements of a row are, and values[..,
 * j, ..] the elements, unchanged
 *
 * x:       (.., n, ..) bf16 | f16 | f32 | int32, n < 2^31, any strides as long as the dimensions
 *          other than dim are no more than two levels of strides.
 * indices: (.., k, ..) int32 | int64, values: (.., k, ..), dtype of x, or NULL; no overlap with x.
 * Of equal elements the lower index is better, so that there is one result, however it is computed.
 * -0 equals 0; NaN is larger than everything (as in torch). Sorted: the best element first. Not
 * sorted: by ascending index.
 *
 * row_starts, row_ends: int32 | int64, or NULL. Of row r (all dimensions but dim, in order) only
 * the elements [row_starts[r], row_ends[r]) are searched, cut to [0, n); indices still count from
 * the beginning of the row. With next_n > 1, row_ends has an element for each next_n rows, and row
 * r ends at row_ends[r / next_n] - next_n + 1 + r % next_n: the tokens of one sequence, each seeing
 * one more. Where fewer than k elements are searched, the rest of indices is -1, and of values the
 * worst number (-infinity, or infinity with smallest; of int32 its ends). Elements outside the
 * range are not looked at. Without row_ends, k is at most n. No dimension may be negative; all may
 * be 0.
 * Source: AITER topk_plain, top_k_per_row_prefill, top_k_per_row_decode (stable: not sorted here),
 * Triton topk. @since 0.1 unstable */
AITER_API aiter_status aiter_topk(const aiter_tensor* x, const aiter_tensor* row_starts,
                                  const aiter_tensor* row_ends, const aiter_tensor* values,
                                  const aiter_tensor* indices, const aiter_topk_opts* opts,
                                  aiter_stream stream);

AITER_END_DECLS

#endif /* AITER_SAMPLING_H_ */
