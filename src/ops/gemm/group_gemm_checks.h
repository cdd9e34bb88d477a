// The argument checks of gemm_a16w4 and gemm_a16w8.
#pragma once

#include "aiter/gemm.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/gemm/group_gemm.h"

namespace aiter {

struct GroupGemmProblem {
  int64_t m, n, k;
  DType x_dtype;
  bool packed;
  int32_t activation;
  bool aligned16;  // rows of x and of row-major w begin at multiples of 16 bytes
  bool paired;     // scales (and minimums) are of 16 bits, and come in pairs aligned to 4 bytes
};

// The launch of a GPU row; see ck/gemm/group_gemm.h.
void group_gemm_hip(const FloatKernels& kernels, const GroupGemmArgs& args, const Call& call);

// The kernels of ck/gemm/group_narrow.h by the tiles of x, then by its dtype, f16 or bf16.
struct GroupNarrowKernels {
  Kernel of[2][2];
};
#define AITER_GROUP_NARROW_KERNELS(op)                                   \
  {                                                                      \
    {                                                                    \
      {{#op, #op "_hip_narrow1_f16"}, {#op, #op "_hip_narrow1_bf16"}}, { \
        {#op, #op "_hip_narrow4_f16"}, {#op, #op "_hip_narrow4_bf16"}    \
      }                                                                  \
    }                                                                    \
  }
// span: groups of a step; stage_bytes: shared memory of a warp.
void group_narrow_hip(const GroupNarrowKernels& kernels, int span, int stage_bytes,
                      const GroupGemmArgs& args, const Call& call);

struct GroupGemmTensors {
  const aiter_tensor *x, *w, *w_scale, *w_min, *bias, *y;
};

// Fills args from checked tensors. bits: 4 or 8, the format that the operator takes.
GroupGemmProblem check_group_gemm(const Check& check, int bits, const GroupGemmTensors& tensors,
                                  int32_t activation, GroupGemmArgs* args);

// Of packing, or unpacking.
GroupPackArgs check_group_pack(const Check& check, int bits, const GroupGemmTensors& row_major,
                               const aiter_tensor* packed, bool unpack);

int64_t group_packed_bytes(const Check& check, int bits, int64_t n, int64_t k,
                           aiter_dtype scale_dtype);

}  // namespace aiter
