#include "ck/norm/norm_quant.h"
#include "ops/norm/norm_quant/norm_quant_args.h"

#define AITER_NORM_QUANT(T)                                                       \
  AITER_KERNEL(norm_quant_hip_vec_rms_##T, 512)(const aiter::NormQuantArgs a) {   \
    aiter::wait_for_previous_kernel();                                            \
    AITER_SHARED float scratch[1024 / aiter::kWave];                              \
    aiter::norm_quant_rows<aiter::T, aiter::NormKind::kRms>(a, scratch);          \
  }                                                                               \
  AITER_KERNEL(norm_quant_hip_vec_layer_##T, 512)(const aiter::NormQuantArgs a) { \
    aiter::wait_for_previous_kernel();                                            \
    AITER_SHARED float scratch[1024 / aiter::kWave];                              \
    aiter::norm_quant_rows<aiter::T, aiter::NormKind::kLayer>(a, scratch);        \
  }
AITER_NORM_QUANT(f32)
AITER_NORM_QUANT(f16)
AITER_NORM_QUANT(bf16)
AITER_KERNEL(norm_quant_hip_any, 512)(const aiter::NormQuantArgs a) {
  aiter::wait_for_previous_kernel();
  AITER_SHARED aiter::NormQuantShared shared;
  aiter::norm_quant_any(a, shared);
}
