/* Normalization. */
#ifndef AITER_NORM_H_
#define AITER_NORM_H_

#include "aiter/device.h"
#include "aiter/quant.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

typedef struct aiter_rmsnorm_opts {
  uint32_t struct_size;
  uint32_t flags;
  float eps;     /* >= 0 */
  int32_t gemma; /* nonzero: multiply by (1 + w) */
  int32_t
      model_sensitive; /* nonzero: round x / rms to x's dtype before multiplying by w (T5, HF) */
} aiter_rmsnorm_opts;

#define AITER_RMSNORM_OPTS_INIT {sizeof(aiter_rmsnorm_opts), 0, 1e-6f, 0, 0}

/* y[t, h] = x[t, h] / sqrt(mean_h(x[t, :]^2) + eps) * w[h]
 *
 * x, y: (..., hidden) bf16 | f16 | f32, the same dtype and shape. The last stride is 1; the leading
 *       dimensions may be strided as long as they fold into two (so (T, H, D) slices of a fused QKV
 *       tensor work). y may be x. y may have more columns than x: they become 0 (padding for the
 *       matrix product that follows).
 * w:    (hidden), contiguous, x's dtype or f32; NULL = ones.
 * Any dimension may be 0: nothing is written. Sums and products are in fp32.
 * Accuracy: aiter.testing.bound of y's dtype over `hidden` terms.
 * Source: AITER rms_norm / rmsnorm2d_fwd; Zhang & Sennrich 2019. @since 0.1 unstable */
AITER_API aiter_status aiter_rmsnorm(const aiter_tensor* x, const aiter_tensor* w,
                                     const aiter_tensor* y, const aiter_rmsnorm_opts* opts,
                                     aiter_stream stream);

/* residual_out = x + residual_in (rounded to its dtype); y = rmsnorm(residual_out, w)
 *
 * residual_in, residual_out: like x. residual_out may be residual_in or x; y may be x.
 * The norm is computed from the rounded sum, as AITER does.
 * Source: AITER rmsnorm2d_fwd_with_add. @since 0.1 unstable */
AITER_API aiter_status aiter_add_rmsnorm(const aiter_tensor* x, const aiter_tensor* residual_in,
                                         const aiter_tensor* w, const aiter_tensor* y,
                                         const aiter_tensor* residual_out,
                                         const aiter_rmsnorm_opts* opts, aiter_stream stream);

typedef struct aiter_layernorm_opts {
  uint32_t struct_size;
  uint32_t flags;
  float eps; /* >= 0 */
} aiter_layernorm_opts;

#define AITER_LAYERNORM_OPTS_INIT {sizeof(aiter_layernorm_opts), 0, 1e-5f}

/* y[t, h] = (v[h] - mean(v)) / sqrt(variance(v) + eps) * w[h] + b[h], v = x[t, :] + x_bias
 *
 * x, y:   as for aiter_rmsnorm. y may be x, and have more columns, which become 0.
 * x_bias: (hidden), contiguous, x's dtype; NULL = zeros.
 * w, b:   (hidden), contiguous, x's dtype or f32, both the same; NULL = ones and zeros.
 * The variance is that of the population (divided by hidden). Sums and products are in fp32;
 * neither a common offset of a row nor one large number in it costs accuracy. Accuracy:
 * aiter.testing.bound of y's dtype over `hidden` terms, of |v - mean| / sqrt(...) * |w| + |b|, plus
 * the rounding of x + x_bias in fp32. Source: AITER layer_norm / layernorm2d_fwd; Ba, Kiros &
 * Hinton 2016. @since 0.1 unstable */
AITER_API aiter_status aiter_layernorm(const aiter_tensor* x, const aiter_tensor* x_bias,
                                       const aiter_tensor* w, const aiter_tensor* b,
                                       const aiter_tensor* y, const aiter_layernorm_opts* opts,
                                       aiter_stream stream);

/* residual_out = x + x_bias + residual_in (rounded to its dtype); y = layernorm(residual_out, w, b)
 *
 * residual_in, residual_out: as for aiter_add_rmsnorm.
 * Source: AITER layernorm2d_fwd_with_add. @since 0.1 unstable */
AITER_API aiter_status aiter_add_layernorm(const aiter_tensor* x, const aiter_tensor* x_bias,
                                           const aiter_tensor* residual_in, const aiter_tensor* w,
                                           const aiter_tensor* b, const aiter_tensor* y,
                                           const aiter_tensor* residual_out,
                                           const aiter_layernorm_opts* opts, aiter_stream stream);

typedef enum aiter_norm_kind {
  AITER_NORM_RMS = 0,
  AITER_NORM_LAYER = 1,
  AITER_NORM_KIND_MAX_ENUM = 0x7fffffff
} aiter_norm_kind;

typedef struct aiter_norm_quant_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t kind;                     /* aiter_norm_kind */
  float eps;                        /* >= 0 */
  int32_t gemma;                    /* as for aiter_rmsnorm; 0 for a layer norm */
  int32_t model_sensitive;          /* likewise */
  const aiter_quantize_opts* quant; /* NULL = one computed scale per row */
} aiter_norm_quant_opts;

#define AITER_NORM_QUANT_OPTS_INIT \
  {sizeof(aiter_norm_quant_opts), 0, AITER_NORM_RMS, 1e-6f, 0, 0, 0}

/* y, y_scale = quantize(v * smooth), v = norm(x + x_bias + residual_in) * silu(gate)
 *
 * v is not rounded: codes and scales are those that aiter_quantize gives for v * smooth in fp32. (v
 * itself has the accuracy of the norm: two rows of this operator may give neighbouring codes.)
 *
 * x, x_bias, residual_in, w, b, residual_out: as for aiter_rmsnorm or aiter_add_rmsnorm, or
 *              aiter_layernorm or aiter_add_layernorm (opts.kind). x_bias and b are NULL for an RMS
 *              norm. Both residuals or neither; with them the norm is that of the rounded sum.
 * gate:        like x; NULL = no gate, v is the norm.
 * smooth:      (columns of the numbers) f32, contiguous; NULL = ones (SmoothQuant).
 * y, y_scale:  as codes and scale of aiter_quantize for numbers of x's shape; or for (..., heads *
 *              hidden) numbers where x is (..., heads, hidden): then a scale per row, and shuffled
 *              scales, are those of the joined rows. At most 1024 heads are joined. Groups of all
 *              columns, 16, 32, 64 or 128; a scale for all must be given (opts.quant).
 * unquantized: like x, of x's dtype or f32: v; NULL = not wanted.
 * y and unquantized may not be x. Any dimension may be 0: nothing is written.
 * Source: AITER rmsnorm2d_fwd_with_{smoothquant,dynamicquant,add_...}, layernorm2d_fwd_with_...,
 * rmsnorm_quant, gated_rmsnorm_fp8_group_quant and their kin. @since 0.1 unstable */
AITER_API aiter_status aiter_norm_quant(const aiter_tensor* x, const aiter_tensor* x_bias,
                                        const aiter_tensor* residual_in, const aiter_tensor* w,
                                        const aiter_tensor* b, const aiter_tensor* gate,
                                        const aiter_tensor* smooth, const aiter_tensor* y,
                                        const aiter_tensor* y_scale,
                                        const aiter_tensor* unquantized,
                                        const aiter_tensor* residual_out,
                                        const aiter_norm_quant_opts* opts, aiter_stream stream);

typedef struct aiter_qk_rmsnorm_opts {
  uint32_t struct_size;
  uint32_t flags;
  float q_eps;                      /* >= 0 */
  float k_eps;                      /* >= 0 */
  int32_t gemma;                    /* nonzero: multiply by (1 + w), both */
  const aiter_quantize_opts* quant; /* of q_out; NULL = not quantized */
} aiter_qk_rmsnorm_opts;

#define AITER_QK_RMSNORM_OPTS_INIT {sizeof(aiter_qk_rmsnorm_opts), 0, 1e-6f, 1e-6f, 0, 0}

/* Two RMS norms in one launch, of rows of unlike widths, the first with residual and quantization:
 *   v = rmsnorm(q + q_residual_in, q_w);   k_out = rmsnorm(k, k_w)
 * With opts.quant, q_out and q_scale are as y and y_scale of aiter_norm_quant; without, q_out is v
 * as y of aiter_rmsnorm, and q_scale is NULL.
 *
 * q, q_residual_in, q_w, q_residual_out, q_unquantized: as for aiter_norm_quant; q_unquantized
 *        only with opts.quant.
 * k, k_w, k_out: as x, w, y of aiter_rmsnorm, of q's dtype, with as many rows as q; k and k_out may
 *        be NULL.
 * Source: AITER fused_qk_rmsnorm, fused_rms_fp8_group_quant and their kin. @since 0.1 unstable */
AITER_API aiter_status aiter_qk_rmsnorm(const aiter_tensor* q, const aiter_tensor* q_residual_in,
                                        const aiter_tensor* q_w, const aiter_tensor* k,
                                        const aiter_tensor* k_w, const aiter_tensor* q_out,
                                        const aiter_tensor* q_scale,
                                        const aiter_tensor* q_unquantized,
                                        const aiter_tensor* q_residual_out,
                                        const aiter_tensor* k_out,
                                        const aiter_qk_rmsnorm_opts* opts, aiter_stream stream);

typedef struct aiter_groupnorm_opts {
  uint32_t struct_size;
  uint32_t flags;
  int64_t num_groups;    /* > 0, divides the channels */
  float eps;             /* >= 0 */
  int32_t channels_last; /* nonzero: x is (batch, ..., channels) */
  int32_t silu;          /* nonzero: y = v * sigmoid(v) of the norm v */
} aiter_groupnorm_opts;

#define AITER_GROUPNORM_OPTS_INIT {sizeof(aiter_groupnorm_opts), 0, 1, 1e-5f, 0, 0}

/* y = (x - mean(group)) / sqrt(variance(group) + eps) * w[channel] + b[channel]
 *
 * x, y: (batch, channels, ...) or, with opts.channels_last, (batch, ..., channels), contiguous,
 * bf16 | f16 | f32, both the same. y may be x. w, b: (channels), contiguous, x's dtype or f32, both
 * the same; NULL = ones and zeros. A group is channels / num_groups neighbouring channels of one
 * image, at all places; the variance is that of the population. Sums are in fp32 or better; a
 * common offset costs no accuracy. Any dimension may be 0: nothing is written. Accuracy: as
 * aiter_layernorm, over the elements of a group. Source: AITER groupnorm_run; Wu & He 2018. @since
 * 0.1 unstable */
AITER_API aiter_status aiter_groupnorm(const aiter_tensor* x, const aiter_tensor* w,
                                       const aiter_tensor* b, const aiter_tensor* y,
                                       const aiter_groupnorm_opts* opts, aiter_stream stream);

/* residual_out = x + residual_in (rounded to its dtype); y = groupnorm(residual_out, w, b)
 *
 * residual_in, residual_out: like x. residual_out may be residual_in or x; y may be x. The rest as in
 * aiter_groupnorm, whose bits these are. @since 0.1 unstable */
AITER_API aiter_status aiter_add_groupnorm(const aiter_tensor* x, const aiter_tensor* residual_in,
                                           const aiter_tensor* w, const aiter_tensor* b,
                                           const aiter_tensor* y, const aiter_tensor* residual_out,
                                           const aiter_groupnorm_opts* opts, aiter_stream stream);

typedef struct aiter_groupnorm_quant_opts {
  uint32_t struct_size;
  uint32_t flags;
  int64_t num_groups;               /* > 0, divides the channels */
  float eps;                        /* >= 0 */
  int32_t channels_last;            /* as for aiter_groupnorm */
  int32_t silu;                     /* likewise */
  const aiter_quantize_opts* quant; /* NULL = one computed scale per row */
} aiter_groupnorm_quant_opts;

#define AITER_GROUPNORM_QUANT_OPTS_INIT {sizeof(aiter_groupnorm_quant_opts), 0, 1, 1e-5f, 0, 0, 0}

/* y, y_scale = quantize(v * smooth), v = groupnorm(x + residual_in)
 *
 * v is not rounded: codes and scales are those that aiter_quantize gives for v * smooth in fp32. (v
 * itself has the accuracy of the norm: two rows of this operator may give neighbouring codes.)
 *
 * A row, which per-token scales are of and groups of columns lie within, is x's last axis: the
 * channels of a pixel with opts.channels_last; otherwise neighbours of one channel, so that (batch,
 * channels, places) has a scale for each channel of an image.
 *
 * x, residual_in, w, b, residual_out: as for aiter_groupnorm or aiter_add_groupnorm. Both residuals
 *              or neither; with them the norm is that of the rounded sum.
 * smooth:      (channels) f32, contiguous; NULL = ones (SmoothQuant).
 * y, y_scale:  as codes and scale of aiter_quantize for numbers of x's shape. Groups of all
 *              columns, 16, 32, 64 or 128; a scale for all must be given (opts.quant).
 * moments:     (batch, num_groups, 2) f32, contiguous, an output: mean and 1 / sqrt(variance + eps)
 *              of each group.
 * unquantized: like x, contiguous, of x's dtype or f32: v; NULL = not wanted.
 * y, moments and unquantized overlap no other tensor. Any dimension of x may be 0: nothing is
 * written. Accuracy of v: as aiter_groupnorm. @since 0.1 unstable */
AITER_API aiter_status aiter_groupnorm_quant(
    const aiter_tensor* x, const aiter_tensor* residual_in, const aiter_tensor* w,
    const aiter_tensor* b, const aiter_tensor* smooth, const aiter_tensor* y,
    const aiter_tensor* y_scale, const aiter_tensor* moments, const aiter_tensor* unquantized,
    const aiter_tensor* residual_out, const aiter_groupnorm_quant_opts* opts, aiter_stream stream);

typedef struct aiter_norm_backward_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t kind;                /* aiter_norm_kind */
  float eps;                   /* >= 0 */
  int32_t gemma;               /* as for aiter_rmsnorm; 0 for a layer norm */
  void* workspace;             /* on the tensors' device, at a multiple of 16 bytes; */
  uint64_t workspace_bytes;    /* needed for sums over rows: see aiter_norm_backward_workspace */
  const aiter_tensor* dx_bias; /* sum_t(dx): the gradient of a vector that was added to all rows */
} aiter_norm_backward_opts;

#define AITER_NORM_BACKWARD_OPTS_INIT \
  {sizeof(aiter_norm_backward_opts), 0, AITER_NORM_RMS, 1e-6f, 0, NULL, 0, NULL}

/* The gradients of y = norm(x) * w + b, given that of y:
 *
 * dx = dresidual + (g - mean(g) - n * mean(g * n)) / s,  dw = sum_t(dy * n),  db = sum_t(dy)
 *
 * with g = dy * w (or dy * (1 + w)), n = (x - mean(x)) / s, s = sqrt(variance(x) + eps), means over
 * the row; for an RMS norm without mean(x) and mean(g).
 *
 * x:             (..., hidden) bf16 | f16 | f32: what the norm was taken of, so the residual_out of a
 *                norm with residual. The last stride is 1; the leading dimensions fold into two.
 * dy, dx:        like x. dx may be dy, x or dresidual. With a residual, dx is also the gradient of
 *                residual_in.
 * w:             (hidden), contiguous, x's dtype or f32; NULL = ones.
 * dresidual:     like x, the gradient of residual_out, or of x from elsewhere; NULL = zeros.
 * dw, db:        (hidden), contiguous, x's dtype or f32, w's dtype if both are given; NULL = not
 *                wanted. db is of layer norms only.
 * opts.dx_bias:  (hidden), contiguous, x's dtype or f32; NULL = not wanted. Of aiter_layernorm's
 *                x_bias, where x is the sum with it. It adds up dx before that is rounded.
 * Any dimension may be 0; without rows the sums are 0. Sums are in fp32 and in an order that depends
 * on the shape alone. The rounding of a model-sensitive norm counts as the identity.
 * Accuracy: aiter.testing.bound of dx's dtype over `hidden` terms, of dw's over the number of rows.
 * Source: AITER's Triton rms_norm and layer_norm. @since 0.1 unstable */
AITER_API aiter_status aiter_norm_backward(const aiter_tensor* dy, const aiter_tensor* x,
                                           const aiter_tensor* w, const aiter_tensor* dresidual,
                                           const aiter_tensor* dx, const aiter_tensor* dw,
                                           const aiter_tensor* db,
                                           const aiter_norm_backward_opts* opts,
                                           aiter_stream stream);

/* Bytes of opts.workspace for tensors like x, when `gradients` of dw, db and dx_bias (0 to 3) are
 * wanted. Only the shape is looked at; the result grows with both extents. @since 0.1 unstable */
AITER_API aiter_status aiter_norm_backward_workspace(const aiter_tensor* x, int32_t gradients,
                                                     uint64_t* bytes);

AITER_END_DECLS

#endif /* AITER_NORM_H_ */
