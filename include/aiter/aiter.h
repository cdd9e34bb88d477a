/* libaiter: operators for AI engines behind a C ABI. Includes every public header. */
#ifndef AITER_AITER_H_
#define AITER_AITER_H_

#include "aiter/device.h"
#include "aiter/export.h"
#include "aiter/status.h"
#include "aiter/tensor.h"
#include "aiter/version.h"

#include "aiter/kvcache.h"
#include "aiter/norm.h"

#endif /* AITER_AITER_H_ */
