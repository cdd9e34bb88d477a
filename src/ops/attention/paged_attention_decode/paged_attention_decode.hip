#include "ck/attention/attention_any.h"
#include "ck/attention/decode_mma.h"
#include "ops/attention/paged_attention_decode/paged_attention_decode_args.h"

#define AITER_DECODE_ANY(T)                               \
  AITER_KERNEL(paged_attention_decode_hip_any_##T, 256)   \
  (const aiter::PagedAttentionDecodeArgs a) {             \
    aiter::wait_for_previous_kernel();                    \
    aiter::attention_any<aiter::T>(a);                    \
  }                                                       \
  AITER_KERNEL(paged_attention_decode_hip_split_##T, 256) \
  (const aiter::PagedAttentionDecodeArgs a) {             \
    aiter::wait_for_previous_kernel();                    \
    aiter::attention_any<aiter::T, true>(a);              \
  }                                                       \
  AITER_KERNEL(paged_attention_decode_hip_merge_##T, 128) \
  (const aiter::PagedAttentionDecodeArgs a) {             \
    aiter::wait_for_previous_kernel();                    \
    aiter::decode_merge<aiter::T>(a);                     \
  }
AITER_DECODE_ANY(f32)
AITER_DECODE_ANY(f16)
AITER_DECODE_ANY(bf16)

#if !defined(AITER_AMD)
#define AITER_DECODE_MMA(T, D)                                 \
  AITER_KERNEL(paged_attention_decode_hip_mma_d##D##_##T, 128) \
  (const aiter::PagedAttentionDecodeArgs a) {                  \
    AITER_DYNAMIC_SHARED(shared);                              \
    aiter::wait_for_previous_kernel();                         \
    aiter::DecodeMma<aiter::T, D>(a, shared).run(shared);      \
  }
AITER_DECODE_MMA(f16, 64)
AITER_DECODE_MMA(f16, 128)
AITER_DECODE_MMA(bf16, 64)
AITER_DECODE_MMA(bf16, 128)
#endif
