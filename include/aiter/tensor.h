/* The tensor descriptor. It has exactly the layout of DLPack's DLTensor, and DLPack's codes for
 * devices and dtypes, so a DLTensor* may be passed wherever an aiter_tensor* is expected. */
#ifndef AITER_TENSOR_H_
#define AITER_TENSOR_H_

#include <stdint.h>

#include "aiter/export.h"

AITER_BEGIN_DECLS

typedef enum aiter_device_type {
  AITER_CPU = 1,
  AITER_CUDA = 2,
  AITER_CUDA_HOST = 3, /* pinned host memory: treated as CPU */
  AITER_ROCM = 10,
  AITER_ROCM_HOST = 11,
  AITER_DEVICE_TYPE_MAX_ENUM = 0x7fffffff
} aiter_device_type;

typedef struct aiter_device {
  int32_t type; /* aiter_device_type */
  int32_t id;
} aiter_device;

/* DLPack's type codes. bits is the width of one lane; packed 4-bit types have two lanes. */
typedef enum aiter_dtype_code {
  AITER_CODE_INT = 0,
  AITER_CODE_UINT = 1,
  AITER_CODE_FLOAT = 2,
  AITER_CODE_BFLOAT = 4,
  AITER_CODE_BOOL = 6,
  AITER_CODE_FLOAT8_E4M3FN = 10,
  AITER_CODE_FLOAT8_E4M3FNUZ = 11,
  AITER_CODE_FLOAT8_E5M2 = 12,
  AITER_CODE_FLOAT8_E5M2FNUZ = 13,
  AITER_CODE_FLOAT8_E8M0FNU = 14,
  AITER_CODE_FLOAT6_E2M3FN = 15,
  AITER_CODE_FLOAT6_E3M2FN = 16,
  AITER_CODE_FLOAT4_E2M1FN = 17,
  AITER_DTYPE_CODE_MAX_ENUM = 0x7fffffff
} aiter_dtype_code;

typedef struct aiter_dtype {
  uint8_t code; /* aiter_dtype_code */
  uint8_t bits;
  uint16_t lanes;
} aiter_dtype;

typedef struct aiter_tensor {
  void* data; /* may be NULL when the tensor has no elements */
  aiter_device device;
  int32_t ndim;
  aiter_dtype dtype;
  int64_t* shape;       /* ndim extents, in elements (an element of two lanes counts as one) */
  int64_t* strides;     /* ndim strides, in elements; NULL = row-major and contiguous */
  uint64_t byte_offset; /* of the first element, from data */
} aiter_tensor;

AITER_END_DECLS

#endif /* AITER_TENSOR_H_ */
