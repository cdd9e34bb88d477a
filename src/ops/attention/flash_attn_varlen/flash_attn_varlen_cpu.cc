#include "ops/attention/flash_attn_varlen/flash_attn_varlen_args.h"
#include "simd/attention.h"

namespace aiter::AITER_ISA {

void flash_attn_varlen_cpu_tiles(const FlashAttnVarlenArgs& a) { attention_tiles(a); }

void flash_attn_varlen_cpu_ref(const FlashAttnVarlenArgs& a) { attention_plain(a); }

}  // namespace aiter::AITER_ISA
