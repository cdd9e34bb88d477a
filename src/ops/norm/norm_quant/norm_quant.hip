#include "ck/norm/norm_quant.h"
#include "ops/norm/norm_quant/norm_quant_args.h"

#define AITER_NORM_QUANT(name, rows, ...)                                      \
  AITER_KERNEL(norm_quant_hip_vec_##name, 512)(const aiter::NormQuantArgs a) { \
    aiter::wait_for_previous_kernel();                                         \
    AITER_SHARED float scratch[1024 / aiter::kWave];                           \
    aiter::rows<__VA_ARGS__>(a, scratch);                                      \
  }
#define AITER_NORM_QUANT_ANY(T)                                                   \
  AITER_NORM_QUANT(rms_any_##T, norm_quant_rows, aiter::T, aiter::NormKind::kRms) \
  AITER_NORM_QUANT(layer_any_##T, norm_quant_rows, aiter::T, aiter::NormKind::kLayer)
AITER_NORM_QUANT_ANY(f32)
AITER_NORM_QUANT_ANY(f16)
AITER_NORM_QUANT_ANY(bf16)
AITER_KERNEL(norm_quant_hip_any, 512)(const aiter::NormQuantArgs a) {
  aiter::wait_for_previous_kernel();
  AITER_SHARED aiter::NormQuantShared shared;
  aiter::norm_quant_any(a, shared);
}
#define AITER_NORM_QUANT_LAYER(T, kind, ...)                                                     \
  AITER_NORM_QUANT(layer_##kind##_##T, plain_norm_quant_rows, aiter::T, aiter::NormKind::kLayer, \
                   __VA_ARGS__)
AITER_QUANT_KINDS(AITER_NORM_QUANT_LAYER, f16)
AITER_QUANT_KINDS(AITER_NORM_QUANT_LAYER, bf16)
#if !defined(AITER_AMD)
// Of the others, two blocks fit into a multiprocessor: with the registers that the compiler would take,
// too few warps would be there to hide the latency of a row.
#undef AITER_LAUNCH_BOUNDS
#define AITER_LAUNCH_BOUNDS(threads) __launch_bounds__(threads, 2)
#endif
#define AITER_NORM_QUANT_RMS(T, kind, ...)                                                   \
  AITER_NORM_QUANT(rms_##kind##_##T, plain_norm_quant_rows, aiter::T, aiter::NormKind::kRms, \
                   __VA_ARGS__)
AITER_QUANT_KINDS(AITER_NORM_QUANT_RMS, f16)
AITER_QUANT_KINDS(AITER_NORM_QUANT_RMS, bf16)
