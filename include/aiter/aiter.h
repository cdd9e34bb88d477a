/* libaiter: operators for AI engines behind a C ABI. Includes every public header. */
#ifndef AITER_AITER_H_
#define AITER_AITER_H_

#include "aiter/activation.h"
#include "aiter/attention.h"
#include "aiter/device.h"
#include "aiter/elementwise.h"
#include "aiter/embedding.h"
#include "aiter/export.h"
#include "aiter/gemm.h"
#include "aiter/gpu.h"
#include "aiter/kvcache.h"
#include "aiter/norm.h"
#include "aiter/quant.h"
#include "aiter/rope.h"
#include "aiter/sampling.h"
#include "aiter/status.h"
#include "aiter/tensor.h"
#include "aiter/version.h"

#endif /* AITER_AITER_H_ */
