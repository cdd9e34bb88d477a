/* Elementwise operators with broadcasting and any strides, and the softmax of rows. */
#ifndef AITER_ELEMENTWISE_H_
#define AITER_ELEMENTWISE_H_

#include "aiter/device.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

/* Of all operators but softmax: inputs are broadcast to y's shape as in NumPy (leading dimensions
 * may be missing, extents of 1 are repeated). Strides are free, elements of y must not overlap. An
 * input may be y itself, or else must not overlap it. Any dimension may be 0: nothing is written. */

typedef enum aiter_unary_op {
  AITER_UNARY_SIGMOID = 0, /* 1 / (1 + exp(-x)) */
  AITER_UNARY_TANH = 1,
  AITER_UNARY_RELU = 2,      /* max(x, 0); NaN stays NaN */
  AITER_UNARY_SILU = 3,      /* x * sigmoid(x) */
  AITER_UNARY_GELU = 4,      /* x * Phi(x), Phi the normal distribution (erf) */
  AITER_UNARY_GELU_TANH = 5, /* gelu with the tanh approximation of Phi */
  AITER_UNARY_MAX_ENUM = 0x7fffffff
} aiter_unary_op;

typedef struct aiter_unary_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t op; /* aiter_unary_op */
  int32_t unused;
} aiter_unary_opts;

#define AITER_UNARY_OPTS_INIT {sizeof(aiter_unary_opts), 0, AITER_UNARY_SIGMOID, 0}

/* y = op(x)
 *
 * x, y: f32 | f16 | bf16, not necessarily the same. fp32 inside.
 * Accuracy: aiter.testing.bound of y's dtype, times the condition of exp at its argument.
 * Source: AITER sigmoid, tanh, gelu_fast (GELU_TANH). @since 0.1 unstable */
AITER_API aiter_status aiter_unary(const aiter_tensor* x, const aiter_tensor* y,
                                   const aiter_unary_opts* opts, aiter_stream stream);

typedef enum aiter_binary_op {
  AITER_BINARY_ADD = 0,
  AITER_BINARY_SUB = 1,
  AITER_BINARY_MUL = 2,
  AITER_BINARY_DIV = 3,
  AITER_BINARY_MAX_ENUM = 0x7fffffff
} aiter_binary_op;

typedef struct aiter_binary_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t op; /* aiter_binary_op */
  int32_t unused;
  double a, b; /* the number for an a or b that is NULL */
} aiter_binary_opts;

#define AITER_BINARY_OPTS_INIT {sizeof(aiter_binary_opts), 0, AITER_BINARY_ADD, 0, 0.0, 0.0}

/* y = a op b
 *
 * a, b: f64 | f32 | f16 | bf16 | int64 | int32 | int16 | int8 | uint8 | bool. One of them may be NULL:
 *       a number of opts.
 * Both are first converted to a common dtype, the one that torch has for them: the larger of two
 * floats (f32 for f16 and bf16) or of two integers (int16 for uint8 and int8), the float of a float
 * and an integer; bool gives way to all. A number takes the dtype of the tensor beside it (but is
 * not rounded to 16 bits); where that is an integer or bool, and the number is not a whole one of
 * int64, f32; bool and a whole number make int64. Division of integers or bools is of f32.
 * Subtraction of bools is refused.
 * y:    any of these dtypes whose kind (bool, integer, float) is not below that of the common one.
 * f32 inside for f16 and bf16. Integers wrap around; bools add up to `or`.
 * Exact: the rounded result of the operation in the common dtype, converted to y's.
 * Source: AITER add, sub, mul, div. @since 0.1 unstable */
AITER_API aiter_status aiter_binary(const aiter_tensor* a, const aiter_tensor* b,
                                    const aiter_tensor* y, const aiter_binary_opts* opts,
                                    aiter_stream stream);

typedef struct aiter_fused_mul_add_opts {
  uint32_t struct_size;
  uint32_t flags;
  float a, b; /* the number for an a or b that is NULL */
} aiter_fused_mul_add_opts;

#define AITER_FUSED_MUL_ADD_OPTS_INIT {sizeof(aiter_fused_mul_add_opts), 0, 1.0f, 0.0f}

/* y = x * a + b, rounded once to fp32 and once to y's dtype
 *
 * x, a, b, y: f32 | f16 | bf16, not necessarily the same; a and b may be NULL: numbers of opts.
 * Source: AITER fused_mul_add. @since 0.1 unstable */
AITER_API aiter_status aiter_fused_mul_add(const aiter_tensor* x, const aiter_tensor* a,
                                           const aiter_tensor* b, const aiter_tensor* y,
                                           const aiter_fused_mul_add_opts* opts,
                                           aiter_stream stream);

typedef struct aiter_softmax_opts {
  uint32_t struct_size;
  uint32_t flags;
} aiter_softmax_opts;

#define AITER_SOFTMAX_OPTS_INIT {sizeof(aiter_softmax_opts), 0}

/* y[t, i] = exp(x[t, i] - max_j x[t, j]) / sum_j exp(x[t, j] - max_j x[t, j])
 *
 * x, y: (..., n) f32 | f16 | bf16, the same dtype and shape. The last stride is 1; the leading
 *       dimensions may be strided as long as they fold into two. y may be x.
 * Any dimension may be 0: nothing is written. fp32 inside. -infinity gives 0; a row with NaN or
 * infinity, or of -infinity alone, gives NaN, as in torch.
 * Accuracy: aiter.testing.bound of y's dtype over n terms, times the condition of exp.
 * Source: AITER softmax. @since 0.1 unstable */
AITER_API aiter_status aiter_softmax(const aiter_tensor* x, const aiter_tensor* y,
                                     const aiter_softmax_opts* opts, aiter_stream stream);

AITER_END_DECLS

#endif /* AITER_ELEMENTWISE_H_ */
