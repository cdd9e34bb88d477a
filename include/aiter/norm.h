/* Normalization. */
#ifndef AITER_NORM_H_
#define AITER_NORM_H_

#include "aiter/device.h"
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

AITER_END_DECLS

#endif /* AITER_NORM_H_ */
