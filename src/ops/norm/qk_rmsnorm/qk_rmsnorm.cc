#include <algorithm>

#include "aiter/norm.h"
#include "ops/norm/norm_quant_checks.h"
#include "ops/norm/qk_rmsnorm/qk_rmsnorm_args.h"

namespace aiter {

struct QkRmsnormProblem {
  NormQuantProblem q;
  int64_t k_hidden;
  bool k_aligned16;  // or there is no k
};

AITER_CPU_ROW(qk_rmsnorm_cpu_simd, QkRmsnormArgs)
AITER_CPU_ROW(qk_rmsnorm_cpu_ref, QkRmsnormArgs)

static void qk_rmsnorm_hip_vec(const QkRmsnormArgs& given, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(qk_rmsnorm, hip_vec);
  QkRmsnormArgs args = given;
  const DType dtype = args.q.norm.dtype;
  const int64_t wave = device_of(call.device).wave;
  int32_t &q = args.q.norm.threads_per_row, &k = args.k.threads_per_row;
  q = norm_quant_threads(args.q, call);
  k = args.k.x ? row_norm_threads(args.k.hidden, 16 / dtype_bytes(dtype), 1, call) : 1;
  if (q > wave && k > wave) q = k = std::max(q, k);  // what takes a block takes all of it
  Grid grid = row_grid(args.q.norm.x_rows.count, std::max(q, k), call);
  grid.y = args.k.x ? 2 : 1;
  launch(kernels[dtype], call, grid, args);
}

static void qk_rmsnorm_hip_any(const QkRmsnormArgs& args, const Call& call) {
  static constexpr Kernel kernel{"qk_rmsnorm", "qk_rmsnorm_hip_any"};
  Grid grid = norm_quant_any_grid(args.q);
  grid.y = args.k.x ? 2 : 1;
  launch(kernel, call, grid, args);
}

static constexpr Row<QkRmsnormProblem, QkRmsnormArgs> kRows[] = {
#include "ops/norm/qk_rmsnorm/qk_rmsnorm.def"
};
AITER_OP(norm, qk_rmsnorm)

}  // namespace aiter

extern "C" aiter_status aiter_qk_rmsnorm(const aiter_tensor* q, const aiter_tensor* q_residual_in,
                                         const aiter_tensor* q_w, const aiter_tensor* k,
                                         const aiter_tensor* k_w, const aiter_tensor* q_out,
                                         const aiter_tensor* q_scale,
                                         const aiter_tensor* q_unquantized,
                                         const aiter_tensor* q_residual_out,
                                         const aiter_tensor* k_out,
                                         const aiter_qk_rmsnorm_opts* opts_, aiter_stream stream) {
  return aiter::entry("qk_rmsnorm", [&] {
    using namespace aiter;
    const Check check("qk_rmsnorm");
    const auto opts = check.options<aiter_qk_rmsnorm_opts>(opts_, AITER_QK_RMSNORM_OPTS_INIT);
    QkRmsnormArgs args{};
    args.q.norm.eps = opts.q_eps, args.k.eps = opts.k_eps;
    args.q.norm.gemma = args.k.gemma = opts.gemma != 0;
    args.q.heads = 1;
    QkRmsnormProblem problem{};

    // Messages name the tensors of each norm as norm_quant and rmsnorm do: "qk_rmsnorm: q: w has".
    const Check check_q("qk_rmsnorm: q"), check_k("qk_rmsnorm: k");
    const bool add = q_residual_in || q_residual_out;
    RowNormTensors norm{.x = q,
                        .residual_in = q_residual_in,
                        .w = q_w,
                        .y = opts.quant ? q_unquantized : q_out,
                        .residual_out = q_residual_out};
    if (opts.quant) {
      problem.q = check_norm_quant(check_q, {.norm = norm, .y = q_out, .y_scale = q_scale}, add,
                                   opts.quant, &args.q);
    } else {
      check.require(!q_scale && !q_unquantized, "%s is given, expected NULL without opts.quant",
                    q_scale ? "q_scale" : "q_unquantized");
      problem.q.norm = check_row_norm(check_q, norm, add, false, &args.q.norm);
      problem.q.in_lanes = norm_quant_in_registers(problem.q.norm);
    }
    problem.k_aligned16 = true;
    check.require(!k == !k_out, "%s is NULL, expected k and k_out or neither", k ? "k_out" : "k");
    if (k) {
      const RowNormProblem of_k =
          check_row_norm(check_k, {.x = k, .w = k_w, .y = k_out}, false, false, &args.k);
      const Arg first = check.tensor("q", q);
      check.tensor("k", k).dtype_of(first).on_device_of(first);
      check.require(of_k.rows == problem.q.norm.rows, "k has %lld rows, expected q's %lld",
                    static_cast<long long>(of_k.rows), static_cast<long long>(problem.q.norm.rows));
      problem.k_hidden = of_k.hidden;
      problem.k_aligned16 = of_k.aligned16;
    }
    dispatch(qk_rmsnorm_op, kRows, problem, args, q->device, stream, opts.flags);
  });
}
