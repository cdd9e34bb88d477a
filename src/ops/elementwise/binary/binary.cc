#include "aiter/elementwise.h"
#include "core/promote.h"
#include "ops/elementwise/binary/binary_args.h"
#include "ops/elementwise/elementwise_checks.h"

namespace aiter {

AITER_CPU_ROW(binary_cpu_simd, BinaryArgs)
AITER_CPU_ROW(binary_cpu_ref, BinaryArgs)

static void binary_hip_vec(const BinaryArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(binary, hip_vec);
  elementwise_hip_vec(kernels, args, call);
}

static bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

static void binary_hip_any(const BinaryArgs& args, const Call& call) {
  static constexpr Kernel floats{"binary", "binary_hip_any_f32"},
      doubles{"binary", "binary_hip_any_f64"}, integers{"binary", "binary_hip_any_i64"};
  elementwise_hip_any(is_float(args.common)        ? floats
                      : args.common == DType::kF64 ? doubles
                                                   : integers,
                      args, call);
}

static constexpr Row<ElementwiseProblem, BinaryArgs> kRows[] = {
#include "ops/elementwise/binary/binary.def"
};
AITER_OP(elementwise, binary)

static void binary(const aiter_tensor* a_, const aiter_tensor* b_, const aiter_tensor* y_,
                   const aiter_binary_opts* opts_, aiter_stream stream) {
  const Check check("binary");
  const auto opts = check.options<aiter_binary_opts>(opts_, AITER_BINARY_OPTS_INIT);
  check.require(opts.op >= AITER_BINARY_ADD && opts.op <= AITER_BINARY_DIV,
                "opts.op is %d, expected an aiter_binary_op (0 to 3)", opts.op);
  const Arg a = check.optional("a", a_), b = check.optional("b", b_), y = check.tensor("y", y_);
  check.require(a || b, "a and b are NULL, expected at least one tensor");
  for (const Arg* t : {&a, &b, &y})
    if (*t)
      t->dtype({DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64, DType::kI32,
                DType::kI16, DType::kI8, DType::kU8, DType::kBool});
  aiter_dtype common = a && b ? promote(a_->dtype, b_->dtype)
                       : a    ? promote(a_->dtype, opts.b)
                              : promote(b_->dtype, opts.a);
  if (opts.op == AITER_BINARY_DIV && kind_of(common) != Kind::kFloat) common = kFloat32Dtype;
  check.require(opts.op != AITER_BINARY_SUB || kind_of(common) != Kind::kBool,
                "a and b are of bool, which cannot be subtracted");
  const DType common_dtype = dtype_of(common);
  if (kind_of(y_->dtype) < kind_of(common))
    y.refuse("has dtype %s, expected one that can hold %s", dtype_name(y.dtype()),
             dtype_name(common_dtype));
  BinaryArgs args = check_elementwise(check, {{a, opts.a}, {b, opts.b}}, y);
  args.common = common_dtype;
  args.op = opts.op;
  dispatch(binary_op, kRows, problem_of(args, 2), args, y.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_binary(const aiter_tensor* a, const aiter_tensor* b,
                                     const aiter_tensor* y, const aiter_binary_opts* opts,
                                     aiter_stream stream) {
  return aiter::entry("binary", [&] { aiter::binary(a, b, y, opts, stream); });
}
