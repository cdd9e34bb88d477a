#include "ops/gemm/gemm_a16w8/gemm_a16w8_args.h"
#include "ops/gemm/group_gemm_checks.h"

namespace aiter {

AITER_AVX512_ROW(gemm_a16w8_cpu_vnni, GemmA16w8Args)
AITER_CPU_ROW(gemm_a16w8_cpu_simd, GemmA16w8Args)
AITER_CPU_ROW(gemm_a16w8_cpu_ref, GemmA16w8Args)
AITER_CPU_ROW(gemm_a16w8_pack, GemmA16w8PackArgs)

static void gemm_a16w8_hip_narrow(const GemmA16w8Args& args, const Call& call) {
  static constexpr GroupNarrowKernels kernels = AITER_GROUP_NARROW_KERNELS(gemm_a16w8);
  using Shape = GroupNarrowShape<8>;
  group_narrow_hip(kernels, Shape::kSpan, Shape::kStages * Shape::kStageBytes, args, call);
}

static void gemm_a16w8_hip_vec(const GemmA16w8Args& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(gemm_a16w8, hip_vec);
  group_gemm_hip(kernels, args, call);
}

static void gemm_a16w8_hip_any(const GemmA16w8Args& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(gemm_a16w8, hip_any);
  group_gemm_hip(kernels, args, call);
}

static constexpr Row<GroupGemmProblem, GemmA16w8Args> kRows[] = {
#include "ops/gemm/gemm_a16w8/gemm_a16w8.def"
};
AITER_OP(gemm, gemm_a16w8)

static void repack(const Check& check, const GroupGemmTensors& row_major,
                   const aiter_tensor* packed, bool unpack, const aiter_gemm_a16w8_opts* opts_,
                   aiter_stream stream) {
  const auto opts = check.options<aiter_gemm_a16w8_opts>(opts_, AITER_GEMM_A16W8_OPTS_INIT);
  const GroupPackArgs args = check_group_pack(check, 8, row_major, packed, unpack);
  const Call call{machine_of(packed->device), packed->device, stream};
  if (!(opts.flags & AITER_DRY_RUN)) gemm_a16w8_pack(args, call);
}

}  // namespace aiter

extern "C" aiter_status aiter_gemm_a16w8(const aiter_tensor* x, const aiter_tensor* w,
                                         const aiter_tensor* w_scale, const aiter_tensor* bias,
                                         const aiter_tensor* y, const aiter_gemm_a16w8_opts* opts_,
                                         aiter_stream stream) {
  using namespace aiter;
  return entry("gemm_a16w8", [&] {
    const Check check("gemm_a16w8");
    const auto opts = check.options<aiter_gemm_a16w8_opts>(opts_, AITER_GEMM_A16W8_OPTS_INIT);
    GemmA16w8Args args{};
    const auto problem =
        check_group_gemm(check, 8, {x, w, w_scale, nullptr, bias, y}, opts.activation, &args);
    dispatch(gemm_a16w8_op, kRows, problem, args, x->device, stream, opts.flags);
  });
}

extern "C" aiter_status aiter_gemm_a16w8_pack(const aiter_tensor* w, const aiter_tensor* w_scale,
                                              const aiter_tensor* packed,
                                              const aiter_gemm_a16w8_opts* opts,
                                              aiter_stream stream) {
  using namespace aiter;
  return entry("gemm_a16w8_pack", [&] {
    repack(Check("gemm_a16w8_pack"), {nullptr, w, w_scale, nullptr, nullptr, nullptr}, packed,
           false, opts, stream);
  });
}

extern "C" aiter_status aiter_gemm_a16w8_unpack(const aiter_tensor* packed, const aiter_tensor* w,
                                                const aiter_tensor* w_scale,
                                                const aiter_gemm_a16w8_opts* opts,
                                                aiter_stream stream) {
  using namespace aiter;
  return entry("gemm_a16w8_unpack", [&] {
    repack(Check("gemm_a16w8_unpack"), {nullptr, w, w_scale, nullptr, nullptr, nullptr}, packed,
           true, opts, stream);
  });
}

extern "C" aiter_status aiter_gemm_a16w8_packed_bytes(int64_t n, int64_t k, aiter_dtype scale_dtype,
                                                      int64_t* bytes) {
  using namespace aiter;
  return entry("gemm_a16w8_packed_bytes", [&] {
    const Check check("gemm_a16w8_packed_bytes");
    check.require(bytes != nullptr, "bytes is NULL, expected where to write the size");
    *bytes = group_packed_bytes(check, 8, n, k, scale_dtype);
  });
}
