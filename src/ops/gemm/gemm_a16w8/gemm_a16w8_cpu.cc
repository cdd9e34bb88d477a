#include "ops/gemm/gemm_a16w8/gemm_a16w8_args.h"
#include "simd/group_gemm.h"

namespace aiter::AITER_ISA {

#if AITER_ISA_LEVEL == 2
void gemm_a16w8_cpu_vnni(const GemmA16w8Args& a) { group_gemm<Weight8, PlanesActivation>(a); }
#endif
void gemm_a16w8_cpu_simd(const GemmA16w8Args& a) { group_gemm<Weight8, FloatActivation>(a); }
void gemm_a16w8_cpu_ref(const GemmA16w8Args& a) { group_gemm_plain<Weight8>(a); }
void gemm_a16w8_pack(const GemmA16w8PackArgs& a) { group_pack<Weight8>(a); }

}  // namespace aiter::AITER_ISA
