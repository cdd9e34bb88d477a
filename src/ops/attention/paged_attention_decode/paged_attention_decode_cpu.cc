#include "ops/attention/paged_attention_decode/paged_attention_decode_args.h"
#include "simd/attention.h"

namespace aiter::AITER_ISA {

void paged_attention_decode_cpu_tiles(const PagedAttentionDecodeArgs& a) { attention_tiles(a); }

void paged_attention_decode_cpu_ref(const PagedAttentionDecodeArgs& a) { attention_plain(a); }

}  // namespace aiter::AITER_ISA
