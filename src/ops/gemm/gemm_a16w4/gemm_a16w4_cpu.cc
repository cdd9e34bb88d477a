#include "ops/gemm/gemm_a16w4/gemm_a16w4_args.h"
#include "simd/group_gemm.h"

namespace aiter::AITER_ISA {

#if AITER_ISA_LEVEL == 2
void gemm_a16w4_cpu_vnni(const GemmA16w4Args& a) { group_gemm<Weight4, PlanesActivation>(a); }
#endif
void gemm_a16w4_cpu_simd(const GemmA16w4Args& a) { group_gemm<Weight4, FloatActivation>(a); }
void gemm_a16w4_cpu_ref(const GemmA16w4Args& a) { group_gemm_plain<Weight4>(a); }
void gemm_a16w4_pack(const GemmA16w4PackArgs& a) { group_pack<Weight4>(a); }

}  // namespace aiter::AITER_ISA
