/* Gated activations, forward and backward. */
#ifndef AITER_ACTIVATION_H_
#define AITER_ACTIVATION_H_

#include "aiter/device.h"
#include "aiter/quant.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

/* AITER's ActivationType numbers, where it has one. */
typedef enum aiter_activation {
  AITER_ACTIVATION_SILU = 0,      /* act(g, u) = g * sigmoid(g) * u */
  AITER_ACTIVATION_GELU = 1,      /* g * Phi(g) * u, Phi the normal distribution (erf) */
  AITER_ACTIVATION_SWIGLU = 2,    /* GPT-OSS: g * sigmoid(1.702 g) * (u + 1) */
  AITER_ACTIVATION_SITUV2 = 3,    /* Kimi-K3: beta tanh(g / beta) sigmoid(g) * linear_beta
                                     tanh(u / linear_beta) */
  AITER_ACTIVATION_GELU_TANH = 4, /* gelu with the tanh approximation of Phi */
  AITER_ACTIVATION_MAX_ENUM = 0x7fffffff
} aiter_activation;

typedef struct aiter_act_and_mul_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t activation;  /* aiter_activation */
  float limit;         /* > 0: gate = min(gate, limit), up = clamp(up, -limit, limit); 0 = none */
  int32_t interleaved; /* nonzero: gate and up alternate in x, and in bias */
  float beta;          /* > 0, of situv2 */
  float linear_beta;   /* likewise */
  const aiter_quantize_opts* quant; /* how y is quantized; NULL: it is not */
} aiter_act_and_mul_opts;

#define AITER_ACT_AND_MUL_OPTS_INIT \
  {sizeof(aiter_act_and_mul_opts), 0, AITER_ACTIVATION_SILU, 0.0f, 0, 4.0f, 25.0f, 0}

/* y[t, i] = act(gate, up) * weights[t, i], (gate, up) = (x + bias[expert_ids[t]])[t, (i, i + d)],
 * or (2 i, 2 i + 1) if interleaved; limit is applied after the bias
 *
 * x: (..., 2 d) bf16 | f16 | f32.
 * bias: (experts, 2 d) f32, contiguous; NULL = zeros. expert_ids: (...) int32 | int64, contiguous:
 *     a row of bias for each row of x; NULL only with experts = 1. A row of x whose id is not in
 *     [0, experts) gives zeros.
 * weights: (..., d) or (..., 1), f32 or x's dtype; NULL = ones.
 * y: (..., d) of x's dtype; for f32 x also bf16 | f16. y may be either half of x; where x is
 *     interleaved, y must not overlap it. With opts.quant: codes of the fp32 results, and y_scale,
 *     as aiter_quantize makes them, in groups of all columns or 16, 32, 64 or 128, or with given
 *     scales; they must not overlap x.
 * The last stride of x, weights and y is 1; the leading dimensions may be strided as long as they
 * fold into two. Any dimension may be 0: nothing is written. fp32 inside, NaN stays NaN.
 * Accuracy: aiter.testing.bound of y's dtype, times the condition of exp at its argument; factors
 * below 2^-126 may become 0.
 * Source: AITER silu_and_mul (limit as there), gelu_and_mul, gelu_tanh_and_mul, swiglu_and_mul,
 * which has limit = 7, their _bias forms, scaled_silu_and_mul, silu_and_mul_quant,
 * act_mul_and_mxfp4_quant, fused_clamp_act_mul and their kin. @since 0.1 unstable */
AITER_API aiter_status aiter_act_and_mul(const aiter_tensor* x, const aiter_tensor* bias,
                                         const aiter_tensor* expert_ids,
                                         const aiter_tensor* weights, const aiter_tensor* y,
                                         const aiter_tensor* y_scale,
                                         const aiter_act_and_mul_opts* opts, aiter_stream stream);

/* dx = the gradient of sum(dy * aiter_act_and_mul(x)) by x
 *
 * x:  as above; there is no bias, nor are there weights; opts.quant must be NULL.
 * dy: (..., d) of x's dtype; for f32 x also bf16 | f16.
 * dx: like x; may be x. Where limit clamps a gate or an up, its gradient is 0.
 * Strides and the empty case as above. fp32 inside.
 * Accuracy: aiter.testing.bound of x's dtype, relative to the sum of the magnitudes of the terms of
 * the derivative, times the condition of exp. @since 0.1 unstable */
AITER_API aiter_status aiter_act_and_mul_backward(const aiter_tensor* dy, const aiter_tensor* x,
                                                  const aiter_tensor* dx,
                                                  const aiter_act_and_mul_opts* opts,
                                                  aiter_stream stream);

AITER_END_DECLS

#endif /* AITER_ACTIVATION_H_ */
