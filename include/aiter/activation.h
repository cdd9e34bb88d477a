/* Activations. */
#ifndef AITER_ACTIVATION_H_
#define AITER_ACTIVATION_H_

#include "aiter/device.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

/* AITER's ActivationType numbers, where it has one. */
typedef enum aiter_activation {
  AITER_ACTIVATION_SILU = 0,      /* act(g) = g * sigmoid(g) */
  AITER_ACTIVATION_GELU = 1,      /* act(g) = g * Phi(g), Phi the normal distribution (erf) */
  AITER_ACTIVATION_SWIGLU = 2,    /* GPT-OSS: act(g) = g * sigmoid(1.702 g), times (up + 1) */
  AITER_ACTIVATION_GELU_TANH = 4, /* gelu with the tanh approximation of Phi */
  AITER_ACTIVATION_MAX_ENUM = 0x7fffffff
} aiter_activation;

typedef struct aiter_act_and_mul_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t activation; /* aiter_activation */
  float limit;        /* > 0: gate = min(gate, limit), up = clamp(up, -limit, limit); 0 = none */
} aiter_act_and_mul_opts;

#define AITER_ACT_AND_MUL_OPTS_INIT {sizeof(aiter_act_and_mul_opts), 0, AITER_ACTIVATION_SILU, 0.0f}

/* y[t, i] = act(gate) * up, gate = x[t, i], up = x[t, i + d]; swiglu: act(gate) * (up + 1)
 *
 * x: (..., 2 d) bf16 | f16 | f32.
 * y: (..., d) of x's dtype; for f32 x also bf16 | f16. y may be either half of x.
 * The last stride of both is 1; the leading dimensions may be strided as long as they fold into
 * two. Any dimension may be 0: nothing is written. fp32 inside, NaN stays NaN.
 * Accuracy: aiter.testing.bound of y's dtype, times the condition of exp at its argument; factors
 * below 2^-126 may become 0.
 * Source: AITER silu_and_mul (limit as there), gelu_and_mul, gelu_tanh_and_mul, and swiglu_and_mul,
 * which has limit = 7. @since 0.1 unstable */
AITER_API aiter_status aiter_act_and_mul(const aiter_tensor* x, const aiter_tensor* y,
                                         const aiter_act_and_mul_opts* opts, aiter_stream stream);

AITER_END_DECLS

#endif /* AITER_ACTIVATION_H_ */
