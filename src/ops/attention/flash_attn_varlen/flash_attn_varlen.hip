#include "ck/attention/attention_any.h"
#include "ops/attention/flash_attn_varlen/flash_attn_varlen_args.h"

#define AITER_FLASH_ATTN_VARLEN(T)                                                       \
  AITER_KERNEL(flash_attn_varlen_hip_any_##T, 256)(const aiter::FlashAttnVarlenArgs a) { \
    aiter::attention_any<aiter::T>(a);                                                   \
  }
AITER_FLASH_ATTN_VARLEN(f32)
AITER_FLASH_ATTN_VARLEN(f16)
AITER_FLASH_ATTN_VARLEN(bf16)
