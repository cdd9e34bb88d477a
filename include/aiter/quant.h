/* Quantization to int8, fp8 and fp4 with scales per tensor, token, group or block, and back. */
#ifndef AITER_QUANT_H_
#define AITER_QUANT_H_

#include "aiter/device.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

/* How the exponent of an e8m0 scale follows from the group's largest magnitude `amax`, for elements
 * whose largest number is max = m * 2^emax. Numbers as AITER's MxScaleRoundMode. */
typedef enum aiter_mx_round {
  AITER_MX_ROUND_DOWN = 0, /* floor(log2 amax) - emax (the OCP specification) */
  AITER_MX_ROUND_UP = 1,   /* the smallest power of two >= amax / max: nothing saturates */
  AITER_MX_ROUND_EVEN = 2, /* amax rounded to the element's mantissa first, then as DOWN */
  AITER_MX_ROUND_CEIL = 3, /* ceil(log2 amax) - emax */
  AITER_MX_ROUND_MAX_ENUM = 0x7fffffff
} aiter_mx_round;

/* The order of scales in memory. */
typedef enum aiter_scale_layout {
  AITER_SCALE_STRIDED = 0, /* as the tensor's strides say; column-major is a transposed view */
  /* For gfx950's matrix instructions: `scale` is contiguous, of shape (rows rounded up to 256,
   * groups of a row rounded up to 8), seen as (R/32, 2, 16, C/8, 2, 4) and permuted by
   * (0, 3, 5, 2, 4, 1). Scales of the padding are not written. */
  AITER_SCALE_SHUFFLED = 1,
  AITER_SCALE_LAYOUT_MAX_ENUM = 0x7fffffff
} aiter_scale_layout;

/* How an operator quantizes: quantize itself, and operators that quantize their result, which have
 * a pointer to these options in their own. */
typedef struct aiter_quantize_opts {
  uint32_t struct_size;
  uint32_t flags;
  int64_t group_rows;   /* rows that share a scale; 0 = all */
  int64_t group_cols;   /* neighbours of a row that share a scale; 0 = all */
  int32_t static_scale; /* nonzero: `scale` is given, not computed */
  int32_t mx_round;     /* aiter_mx_round, for e8m0 scales */
  float amax_bound;     /* the largest magnitude that a scale makes room for; > 0 */
  float global_scale;   /* factor of every e4m3fn scale (NVFP4); > 0 */
  aiter_dtype
      code_dtype; /* dtype of `codes` when that is a uint8 tensor; bits = 0: as the tensor says */
  aiter_dtype scale_dtype; /* likewise of `scale` */
  int32_t scale_layout;    /* aiter_scale_layout */
  int32_t num_rows_factor; /* num_rows counts as many rows each; > 0 */
} aiter_quantize_opts;

/* One scale per row (token), computed. */
#define AITER_QUANTIZE_OPTS_INIT \
  {sizeof(aiter_quantize_opts),  \
   0,                            \
   1,                            \
   0,                            \
   0,                            \
   AITER_MX_ROUND_UP,            \
   __builtin_inff(),             \
   1.0f,                         \
   {0, 0, 0},                    \
   {0, 0, 0},                    \
   AITER_SCALE_STRIDED,          \
   1}

/* codes = round(x * smooth / scale), scale = amax(group of x * smooth) / max(code dtype)
 *
 * x:        (..., cols) f32 | f16 | bf16; the last stride is 1, the leading dimensions may be
 *           strided as long as they fold into two. Rank 2 for blocks (group_rows > 1).
 * smooth:   (cols) f32, contiguous; multiplies x first (SmoothQuant). NULL = ones.
 * num_rows: (1) int32 on x's device: rows from num_rows * opts.num_rows_factor on are padding,
 *           neither read nor written (nor part of any amax). NULL = all rows are valid.
 * codes:    like x in shape, int8 | float8_e4m3fn | _e4m3fnuz | _e5m2 | _e5m2fnuz; or
 *           (..., cols / 2) float4_e2m1fnx2 | int4x2, the even column in the lower half of the
 *           byte; or (..., cols * 3 / 4) uint8 with opts.code_dtype float6_e2m3fnx4 |
 *           float6_e3m2fnx4 (OCP's fp6, bits = 6, lanes = 4): four codes in three bytes, the first
 *           in the lowest six bits of the little-endian 24. cols and group_cols are multiples of
 *           the codes that share bytes. Strides as for x.
 * scale:    f32 | bf16 | float8_e8m0fnu | float8_e4m3fn. group_rows = 1: (..., ceil(cols /
 *           group_cols)); blocks: (ceil(rows / group_rows), ceil(cols / group_cols)); one for all:
 *           (1). Any strides: a column-major scale is a transposed view. The last group may be
 *           short. Or in the order of opts.scale_layout, for group_rows = 1.
 * bf16 scales are rounded when they are stored; the codes are those of the unrounded scale.
 * e8m0 scales are powers of two chosen by mx_round, for codes of floats. e4m3fn scales are for
 * fp4: scale = e4m3(amax / (max * global_scale)), and a number is code * scale * global_scale.
 *
 * The arithmetic, so that codes can be compared exactly (all in fp32):
 *   v = x * smooth; amax = min(max |v|, amax_bound) over the group, where NaN does not count and
 *   infinity counts as the largest float; scale = amax / max, at least 2^-126, and 1 for a group of
 *   zeros; factor = 1 / scale; code = round_to_nearest_even(v * factor), saturated: to +-127 for
 *   int8, +-7 for int4, to the largest number for floats. NaN becomes 0 in integers, the float's
 *   NaN, or the largest number of floats that have none (fp4, fp6).
 * Exact: every row gives the same bits. Results do not depend on threads or batch.
 * Source: AITER dynamic_per_token_scaled_quant, static_per_tensor_quant, per_1x32_mx_quant_hip and
 * their kin; OCP Microscaling Formats 1.0. @since 0.1 unstable */
AITER_API aiter_status aiter_quantize(const aiter_tensor* x, const aiter_tensor* smooth,
                                      const aiter_tensor* num_rows, const aiter_tensor* codes,
                                      const aiter_tensor* scale, const aiter_quantize_opts* opts,
                                      aiter_stream stream);

/* y = codes * scale (* opts.global_scale for e4m3fn scales), in fp32, rounded to y's dtype.
 *
 * codes, scale: as aiter_quantize writes them, with the same group sizes in opts.
 * y:            the shape of the numbers, f32 | f16 | bf16; strides as for x above.
 * Source: the inverse that AITER's references compute. @since 0.1 unstable */
AITER_API aiter_status aiter_dequantize(const aiter_tensor* codes, const aiter_tensor* scale,
                                        const aiter_tensor* y, const aiter_quantize_opts* opts,
                                        aiter_stream stream);

AITER_END_DECLS

#endif /* AITER_QUANT_H_ */
