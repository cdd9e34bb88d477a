/* Quantization to int8, int4, fp8, fp6 and fp4 with scales per tensor, token, group or block, and
 * back; rotation before it; layouts of quantized weights and their scales. */
#ifndef AITER_QUANT_H_
#define AITER_QUANT_H_

#include "aiter/device.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

/* How the exponent of an e8m0 scale follows from the group's largest magnitude `amax`, for elements
 * whose largest number is max = m * 2^emax. 0 to 3 as AITER's MxScaleRoundMode. */
typedef enum aiter_mx_round {
  AITER_MX_ROUND_DOWN = 0, /* floor(log2 amax) - emax (the OCP specification) */
  AITER_MX_ROUND_UP = 1,   /* the smallest power of two >= amax / max: nothing saturates */
  AITER_MX_ROUND_EVEN = 2, /* amax rounded to the element's mantissa first, then as DOWN */
  AITER_MX_ROUND_CEIL = 3, /* ceil(log2 amax) - emax */
  /* EVEN with fp4's mantissa, whatever the codes: what AITER's Triton kernels do for fp8. */
  AITER_MX_ROUND_EVEN_FP4 = 4,
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
  aiter_dtype scale_dtype;        /* likewise of `scale` */
  int32_t scale_layout;           /* aiter_scale_layout */
  int32_t num_rows_factor;        /* num_rows counts as many rows each; > 0 */
  const aiter_tensor* smooth_map; /* quantize: which row of `smooth` each row takes, or NULL */
  const aiter_tensor* global_scale_tensor; /* a factor of global_scale on the device, or NULL */
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
   1,                            \
   NULL,                         \
   NULL}

/* codes = round(x * smooth / scale), scale = amax(group of x * smooth) / max(code dtype)
 *
 * x:        (..., cols) f32 | f16 | bf16; the last stride is 1, the leading dimensions may be
 *           strided as long as they fold into two. Rank 2 for blocks (group_rows > 1).
 * smooth:   (cols) f32, contiguous; multiplies x first (SmoothQuant). NULL = ones. With
 *           opts.smooth_map: (experts, cols).
 * opts.smooth_map: int32, the leading dimensions of x, any strides: which row of smooth a row of x
 *           takes. Rows whose entry is not in [0, experts) are neither read nor written. For
 *           mixtures of experts x may be repeated: a view (topk, tokens, cols) whose first stride
 *           is 0, with the transposed topk_ids as the map. Needs group_rows = 1.
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
 * opts.global_scale_tensor: one f32 on x's device, read when the kernel runs, so that a captured
 *           graph follows it: global_scale is then its product with opts.global_scale. Only with
 *           e4m3fn scales, as any opts.global_scale but 1. What is not > 0 gives codes of 0.
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

/* aiter_quantize of what aiter_dequantize would give in fp32, without storing it: other codes, other
 * groups, FNUZ for OCP.
 *
 * codes, scale:         as for aiter_dequantize, with `from`.
 * out_codes, out_scale: as for aiter_quantize, with opts; the shape of the numbers is that of codes.
 *                       No overlap with the inputs.
 * from, opts: NULL = AITER_QUANTIZE_OPTS_INIT. The flags of opts count; smooth_map is NULL in both.
 * The same bits mean twice as much in float8_e4m3fn as in float8_e4m3fnuz. So with a given
 * out_scale of half the scale (twice, back again) codes keep their bits, but for the largest of
 * e4m3fnuz, 240, which saturates to 224, and NaN and negative zero, which have other codes.
 * Source: AITER fp8_legacy_to_mxfp8. @since 0.1 unstable */
AITER_API aiter_status aiter_requantize(const aiter_tensor* codes, const aiter_tensor* scale,
                                        const aiter_tensor* out_codes,
                                        const aiter_tensor* out_scale,
                                        const aiter_quantize_opts* from,
                                        const aiter_quantize_opts* opts, aiter_stream stream);

/* ---- Rotation ---------------------------------------------------------------------------------- */

typedef struct aiter_rotate_activation_opts {
  uint32_t struct_size;
  uint32_t flags;
  const aiter_quantize_opts* quant; /* quantize the result; NULL = do not */
} aiter_rotate_activation_opts;

#define AITER_ROTATE_ACTIVATION_OPTS_INIT {sizeof(aiter_rotate_activation_opts), 0, NULL}

/* y[.., j] = sum_i x[.., i] * (-1)^popcount(i & j) / sqrt(n): the Walsh-Hadamard transform of each
 * row, its own inverse. It spreads outliers over the row before quantization.
 *
 * x:     (..., n) f32 | f16 | bf16, n a power of two up to 8192; last stride 1, the leading
 *        dimensions fold into two.
 * y:     the shape of x, f32 | f16 | bf16; may be x. With opts.quant: codes, as in aiter_quantize.
 * scale: NULL, or with opts.quant as in aiter_quantize; groups of 16, 32, 64, 128 or all columns.
 * In fp32: stages a + b, a - b of distance 1, 2, 4 .. n / 2, then one product with the rounded
 * 1 / sqrt(n). Every row gives the same bits.
 * Source: AITER rotate_activation. @since 0.1 unstable */
AITER_API aiter_status aiter_rotate_activation(const aiter_tensor* x, const aiter_tensor* y,
                                               const aiter_tensor* scale,
                                               const aiter_rotate_activation_opts* opts,
                                               aiter_stream stream);

/* ---- Layouts of weights and scales ------------------------------------------------------------- */

typedef struct aiter_shuffle_weight_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t tile_rows;     /* rows of a tile: 1 to 256 */
  int32_t tile_elements; /* elements of a row of a tile; 0 = 32 */
  int32_t pack_elements; /* neighbours that stay together; 0 = 16 bytes of them */
  int32_t gate_up;       /* nonzero: tiles of the first and second half of the rows alternate */
  int64_t pad_k_to;      /* K is padded with zeros to a multiple of this; 0 or 1 = not */
} aiter_shuffle_weight_opts;

#define AITER_SHUFFLE_WEIGHT_OPTS_INIT {sizeof(aiter_shuffle_weight_opts), 0, 16, 0, 0, 0, 0}

/* Weights in the order in which matrix kernels read them: per matrix, tiles of tile_rows x
 * tile_elements; within a tile, pack after pack of all rows. So (N, K) seen as (N / tile_rows,
 * tile_rows, K / tile_elements, tile_elements / pack, pack) is permuted by (0, 2, 3, 1, 4). With
 * gate_up, N / tile_rows counts (2, N / 2 / tile_rows), and goes in the order (1, 0).
 *
 * w:      (experts, N, K) or (N, K), of elements of 1, 2 or 4 bytes (two 4-bit codes are one
 *         element), last stride 1, contiguous. N is a multiple of tile_rows (twice that with
 *         gate_up), the padded K one of tile_elements.
 * packed: (aiter_shuffled_weight_bytes(w, opts)) uint8, contiguous: a head of 64 bytes, which
 *         describes layout, shape and padding, then the elements.
 * AITER's layouts are tile_rows = 16 | 32 and, for 4-bit codes in bytes of their
 * own, pack_elements = 32; of a16w4, tile_rows = 16, tile_elements = 64, gate_up.
 * Source: AITER shuffle_weight. @since 0.1 unstable */
AITER_API aiter_status aiter_shuffle_weight(const aiter_tensor* w, const aiter_tensor* packed,
                                            const aiter_shuffle_weight_opts* opts,
                                            aiter_stream stream);

/* The exact inverse, by the description at the head of `packed`; w has the shape that was packed.
 * Bytes of another format, layout version or size are an INVALID_ARGUMENT.
 * On a GPU no call reads the head: opts are those of the packing there, and where the head does not
 * agree with them and with w, w is left as it is. aiter_shuffled_weight_info tells what a copy of
 * the head in host memory says. @since 0.1 unstable */
AITER_API aiter_status aiter_unshuffle_weight(const aiter_tensor* packed, const aiter_tensor* w,
                                              const aiter_shuffle_weight_opts* opts,
                                              aiter_stream stream);

/* Size of the packed form. @since 0.1 unstable */
AITER_API aiter_status aiter_shuffled_weight_bytes(const aiter_tensor* w,
                                                   const aiter_shuffle_weight_opts* opts,
                                                   int64_t* bytes);

/* What a shuffled weight holds. */
typedef struct aiter_shuffled_weight {
  uint32_t struct_size; /* set by the caller */
  int32_t rank;         /* 2 or 3 */
  int64_t experts, n, k;
  int64_t padded_k;
  aiter_dtype dtype;
  int32_t tile_rows, tile_elements, pack_elements, gate_up;
} aiter_shuffled_weight;

/* Reads the description at the head of shuffled weights. packed: in host memory; the whole, whose
 * size is checked, or the first 64 bytes of it alone. @since 0.1 unstable */
AITER_API aiter_status aiter_shuffled_weight_info(const aiter_tensor* packed,
                                                  aiter_shuffled_weight* info);

typedef struct aiter_shuffle_scale_opts {
  uint32_t struct_size;
  uint32_t flags;
  int64_t experts;  /* matrices, one below the other */
  int32_t gate_up;  /* nonzero: rows of the first and second half of a matrix alternate */
  int32_t unpadded; /* nonzero: without padding also for one matrix without gate_up */
} aiter_shuffle_scale_opts;

#define AITER_SHUFFLE_SCALE_OPTS_INIT {sizeof(aiter_shuffle_scale_opts), 0, 1, 0, 0}

/* Scales in the order AITER_SCALE_SHUFFLED, or back.
 *
 * scale:    (rows, cols), of one byte each (e8m0, e4m3fn, uint8), last stride 1.
 * shuffled: contiguous, of one byte each: (rows rounded up to 256, cols rounded up to 8), with zeros
 *           for the padding. With experts > 1, gate_up or unpadded there is no padding: rows /
 *           experts is a multiple of 32, cols one of 8, and shuffled has the shape of scale.
 * With gate_up the two rows of a pair are those of the halves, not 16 apart.
 * Source: AITER shuffle_scale, e8m0_shuffle, moe_shuffle_scale. @since 0.1
 * unstable */
AITER_API aiter_status aiter_shuffle_scale(const aiter_tensor* scale, const aiter_tensor* shuffled,
                                           const aiter_shuffle_scale_opts* opts,
                                           aiter_stream stream);
AITER_API aiter_status aiter_unshuffle_scale(const aiter_tensor* shuffled,
                                             const aiter_tensor* scale,
                                             const aiter_shuffle_scale_opts* opts,
                                             aiter_stream stream);

/* ---- Transposed scales ------------------------------------------------------------------------- */

typedef struct aiter_partial_transpose_opts {
  uint32_t struct_size;
  uint32_t flags;
} aiter_partial_transpose_opts;

#define AITER_PARTIAL_TRANSPOSE_OPTS_INIT {sizeof(aiter_partial_transpose_opts), 0}

/* The valid rows of x, transposed and dense: y seen as (cols, n) is x[:n]^T, with n = *num_rows, at
 * least 0 and at most rows. For buffers with room for more rows than there are, whose column-major
 * form a kernel reads with the stride n: the scales of activations.
 *
 * x:        (rows, cols) f32 | f16 | bf16 | uint8 | float8_e8m0fnu, any strides.
 * num_rows: (1) int32 on x's device, read when the kernel runs.
 * y:        (cols, rows), dtype of x, contiguous; its first cols * n elements are written. No
 *           overlap with x.
 * rows or cols may be 0. Exact. Source: AITER partial_transpose. @since 0.1 unstable */
AITER_API aiter_status aiter_partial_transpose(const aiter_tensor* x, const aiter_tensor* num_rows,
                                               const aiter_tensor* y,
                                               const aiter_partial_transpose_opts* opts,
                                               aiter_stream stream);

AITER_END_DECLS

#endif /* AITER_QUANT_H_ */
