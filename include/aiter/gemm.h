/* Matrix products with weights stored row by row: y[m, n] = sum_k x[m, k] * w[n, k] + bias[n]. */
#ifndef AITER_GEMM_H_
#define AITER_GEMM_H_

#include "aiter/device.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

/* ---- Plain matrices ---------------------------------------------------------------------------- */

typedef struct aiter_gemm_a16w16_opts {
  uint32_t struct_size;
  uint32_t flags;
} aiter_gemm_a16w16_opts;

#define AITER_GEMM_A16W16_OPTS_INIT {sizeof(aiter_gemm_a16w16_opts), 0}

/* y[m, n] = sum_k x[m, k] * w[n, k] + bias[n]
 *
 * x:    (..., K) bf16 | f16 | f32, last stride 1; the leading dimensions fold into two.
 * w:    (N, K), x's dtype, last stride 1; rows may be strided.
 * bias: (N), contiguous, x's dtype or f32; NULL = 0.
 * y:    (..., N) bf16 | f16 | f32, x's leading dimensions, last stride 1. No overlap with inputs.
 * Any dimension may be 0: nothing is written, except that K = 0 gives the bias.
 * Accuracy: aiter.testing.bound of y's dtype over K terms, of fp32 products and sums. With bf16 on
 * AVX-512, denormal x, w and partial sums may count as 0.
 * The order of the sums, and so the last bits, depends on the shape, not on the number of threads.
 * Source: AITER gemm_a16w16. @since 0.1 unstable */
AITER_API aiter_status aiter_gemm_a16w16(const aiter_tensor* x, const aiter_tensor* w,
                                         const aiter_tensor* bias, const aiter_tensor* y,
                                         const aiter_gemm_a16w16_opts* opts, aiter_stream stream);

typedef struct aiter_gemm_a8w8_opts {
  uint32_t struct_size;
  uint32_t flags;
} aiter_gemm_a8w8_opts;

#define AITER_GEMM_A8W8_OPTS_INIT {sizeof(aiter_gemm_a8w8_opts), 0}

/* y[m, n] = (sum_k x[m, k] * w[n, k]) * x_scale[m] * w_scale[n] + bias[n]
 *
 * x:       (..., K) int8, last stride 1; the leading dimensions fold into two.
 * w:       (N, K) int8, last stride 1; rows may be strided.
 * x_scale: f32, one per row of x: (M), (M, 1) or x's leading dimensions, with a 1 or not; contiguous.
 * w_scale: f32, one per row of w: (N), (1, N) or (N, 1); contiguous.
 * bias:    (N), contiguous, y's dtype or f32; NULL = 0.
 * y:       (..., N) bf16 | f16 | f32, x's leading dimensions, last stride 1. No overlap with inputs.
 * Any dimension may be 0: nothing is written, except that K = 0 gives the bias. K is at most 131071.
 * The sum is exact in int32; scaling and bias are in fp32 (x_scale first), then rounded to y's dtype.
 * Source: AITER gemm_a8w8. @since 0.1 unstable */
AITER_API aiter_status aiter_gemm_a8w8(const aiter_tensor* x, const aiter_tensor* w,
                                       const aiter_tensor* x_scale, const aiter_tensor* w_scale,
                                       const aiter_tensor* bias, const aiter_tensor* y,
                                       const aiter_gemm_a8w8_opts* opts, aiter_stream stream);

/* ---- Weights of 4 or 8 bits in groups of 32, activations of 16 or 32 bits --------------------- */

/* How precisely the products of gemm_a16w4 and gemm_a16w8 take x. A kernel may always be more
 * precise. "a group's largest |x|" is over the 32 values of a row that share a weight group. */
typedef enum aiter_gemm_activation {
  AITER_GEMM_ACTIVATION_16BIT = 0, /* each x off by at most 1/64000 of its group's largest |x| */
  AITER_GEMM_ACTIVATION_8BIT = 1,  /* each x off by at most 1/250 of its group's largest |x| */
  AITER_GEMM_ACTIVATION_32BIT = 2, /* x as it is */
  AITER_GEMM_ACTIVATION_MAX_ENUM = 0x7fffffff
} aiter_gemm_activation;

typedef struct aiter_gemm_a16w4_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t activation; /* aiter_gemm_activation */
} aiter_gemm_a16w4_opts;

#define AITER_GEMM_A16W4_OPTS_INIT {sizeof(aiter_gemm_a16w4_opts), 0, AITER_GEMM_ACTIVATION_16BIT}

/* y[m, n] = sum_k x[m, k] * (code[n, k] * scale[n, k / 32] + min[n, k / 32]) + bias[n]
 *
 * x:       (..., K) bf16 | f16 | f32, last stride 1; the leading dimensions fold into two.
 * w:       row-major codes 0..15: (N, K/2) uint8 or uint4x2, the code of an even k in the low half
 *          of its byte; rows may be strided. Or the packed form: see aiter_gemm_a16w4_pack.
 * w_scale: (N, K/32) f16 | bf16 | f32, rows may be strided. NULL exactly when w is packed.
 * w_min:   like w_scale, the same dtype; NULL = 0 (and NULL when w is packed).
 * bias:    (N), contiguous, x's dtype or f32; NULL = 0.
 * y:       (..., N) bf16 | f16 | f32, x's leading dimensions, last stride 1. No overlap with inputs.
 * K is a multiple of 32. M or N may be 0: nothing is written; K = 0 gives the bias.
 * GGUF's Q4_1 is this form; Q4_0 is min = -8 * scale, which is exact.
 * Accuracy: x as opts.activation says, fp32 products and sums, one rounding to y's dtype.
 * A row of x with a NaN gives a row of NaN. One with an infinity gives what IEEE arithmetic gives
 * or, in the modes of 16 and 8 bits, a row of NaN.
 * Results of a row do not depend on the other rows, nor on the number of threads.
 * Source: AITER gemm_a16w4 (weight-only 4-bit); GGML Q4_1. @since 0.1 unstable */
AITER_API aiter_status aiter_gemm_a16w4(const aiter_tensor* x, const aiter_tensor* w,
                                        const aiter_tensor* w_scale, const aiter_tensor* w_min,
                                        const aiter_tensor* bias, const aiter_tensor* y,
                                        const aiter_gemm_a16w4_opts* opts, aiter_stream stream);

/* The packed form, which the products read fastest: one contiguous uint8 tensor of rank 1 that
 * begins with its own description (format, N, K, scale dtype, padding) and holds codes, scales and
 * minimums in the order in which they are used. Every call checks the description: bytes of another
 * format, size or version are an INVALID_ARGUMENT. Its layout may change between versions of the
 * library: store the row-major form. Align it to 64 bytes for speed.
 *
 * packed: (aiter_gemm_a16w4_packed_bytes(N, K, w_scale's dtype)) uint8. w, w_scale, w_min: as above.
 * @since 0.1 unstable */
AITER_API aiter_status aiter_gemm_a16w4_pack(const aiter_tensor* w, const aiter_tensor* w_scale,
                                             const aiter_tensor* w_min, const aiter_tensor* packed,
                                             const aiter_gemm_a16w4_opts* opts,
                                             aiter_stream stream);

/* The exact inverse. w: (N, K/2) uint8 or uint4x2; w_scale, w_min: (N, K/32) of the dtype that was
 * packed; w_min is NULL exactly when none was packed. @since 0.1 unstable */
AITER_API aiter_status aiter_gemm_a16w4_unpack(const aiter_tensor* packed, const aiter_tensor* w,
                                               const aiter_tensor* w_scale,
                                               const aiter_tensor* w_min,
                                               const aiter_gemm_a16w4_opts* opts,
                                               aiter_stream stream);

/* Size of the packed form. n, k >= 0, k a multiple of 32. @since 0.1 unstable */
AITER_API aiter_status aiter_gemm_a16w4_packed_bytes(int64_t n, int64_t k, aiter_dtype scale_dtype,
                                                     int64_t* bytes);

typedef struct aiter_gemm_a16w8_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t activation; /* aiter_gemm_activation */
} aiter_gemm_a16w8_opts;

#define AITER_GEMM_A16W8_OPTS_INIT {sizeof(aiter_gemm_a16w8_opts), 0, AITER_GEMM_ACTIVATION_16BIT}

/* y[m, n] = sum_k x[m, k] * code[n, k] * scale[n, k / 32] + bias[n]
 *
 * w: row-major codes -128..127: (N, K) int8, rows may be strided; or the packed form.
 * All else is as in aiter_gemm_a16w4. GGUF's Q8_0 is this form. @since 0.1 unstable */
AITER_API aiter_status aiter_gemm_a16w8(const aiter_tensor* x, const aiter_tensor* w,
                                        const aiter_tensor* w_scale, const aiter_tensor* bias,
                                        const aiter_tensor* y, const aiter_gemm_a16w8_opts* opts,
                                        aiter_stream stream);

/* As the functions of gemm_a16w4, without minimums. @since 0.1 unstable */
AITER_API aiter_status aiter_gemm_a16w8_pack(const aiter_tensor* w, const aiter_tensor* w_scale,
                                             const aiter_tensor* packed,
                                             const aiter_gemm_a16w8_opts* opts,
                                             aiter_stream stream);
AITER_API aiter_status aiter_gemm_a16w8_unpack(const aiter_tensor* packed, const aiter_tensor* w,
                                               const aiter_tensor* w_scale,
                                               const aiter_gemm_a16w8_opts* opts,
                                               aiter_stream stream);
AITER_API aiter_status aiter_gemm_a16w8_packed_bytes(int64_t n, int64_t k, aiter_dtype scale_dtype,
                                                     int64_t* bytes);

/* What a packed weight holds. */
typedef struct aiter_gemm_packed_info {
  uint32_t struct_size; /* set by the caller */
  int32_t bits;         /* 4 (gemm_a16w4) or 8 (gemm_a16w8) */
  int64_t n, k;         /* of the matrix */
  int64_t padded_n;     /* rows in the panels; the rows past n are zero */
  aiter_dtype scale_dtype;
  int32_t has_min;
} aiter_gemm_packed_info;

/* Reads the description at the head of packed weights. @since 0.1 unstable */
AITER_API aiter_status aiter_gemm_weight_info(const aiter_tensor* packed,
                                              aiter_gemm_packed_info* info);

AITER_END_DECLS

#endif /* AITER_GEMM_H_ */
