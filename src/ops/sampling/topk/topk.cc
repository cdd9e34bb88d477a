#include <algorithm>
#include <vector>

#include "aiter/sampling.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "ops/sampling/topk/topk_args.h"
#include "ops/sampling/vocab_rows.h"

namespace aiter {

struct TopkProblem {
  DType dtype;
  int64_t rows, n, k;
  bool sorted;
  bool aligned16;  // rows of neighbours that begin at multiples of 16 bytes
  bool fits_team;  // a row in the shared memory of a team of blocks
};

AITER_CPU_ROW(topk_cpu_simd, TopkArgs)
AITER_CPU_ROW(topk_cpu_ref, TopkArgs)

struct TopkKernels {
  FloatKernels floats;
  Kernel i32;
};

static void topk_hip(const TopkKernels& kernels, const TopkArgs& args, const Call& call) {
  if (args.k == 0) return;
  const Kernel& kernel = args.dtype == DType::kI32 ? kernels.i32 : kernels.floats[args.dtype];
  // The candidates of all blocks of a team must fit in the first one. A large part of a row is found by
  // passes of one block.
  const bool part = args.n < 32 * args.k;
  const int64_t team = part ? 1 : std::clamp<int64_t>(4096 / args.k, 1, 8);
  Grid grid = vocab_grid(call, args.x_rows.count, args.n, 256, static_cast<int>(team));
  if (part && args.n >= 4096) grid.threads = 1024;
  launch(kernel, call, grid, args);
}

static void topk_hip_vec(const TopkArgs& args, const Call& call) {
  static constexpr TopkKernels kernels{AITER_FLOAT_KERNELS(topk, hip_vec),
                                       {"topk", "topk_hip_vec_i32"}};
  topk_hip(kernels, args, call);
}

static void topk_hip_any(const TopkArgs& args, const Call& call) {
  static constexpr TopkKernels kernels{AITER_FLOAT_KERNELS(topk, hip_any),
                                       {"topk", "topk_hip_any_i32"}};
  topk_hip(kernels, args, call);
}

static void topk_hip_resident(const TopkArgs& args, const Call& call) {
  static constexpr TopkKernels kernels{AITER_FLOAT_KERNELS(topk, hip_resident),
                                       {"topk", "topk_hip_resident_i32"}};
  const Kernel& kernel = args.dtype == DType::kI32 ? kernels.i32 : kernels.floats[args.dtype];
  launch(kernel, call, resident_grid(call, args.x_rows.count, args.n, args.dtype), args);
}

static constexpr Row<TopkProblem, TopkArgs> kRows[] = {
#include "ops/sampling/topk/topk.def"
};
AITER_OP(sampling, topk)

// A tensor with dimension `dim` moved to the end.
struct Moved {
  std::vector<int64_t> shape, strides;
  aiter_tensor tensor;

  Moved(const Arg& arg, const aiter_tensor& t, int dim) : tensor(t) {
    for (int i = 0; i < t.ndim; ++i)
      if (i != dim) shape.push_back(t.shape[i]), strides.push_back(arg.stride(i));
    shape.push_back(t.shape[dim]), strides.push_back(arg.stride(dim));
    tensor.shape = shape.data();
    tensor.strides = strides.data();
  }
};

static void topk(const aiter_tensor* x_, const aiter_tensor* row_starts_,
                 const aiter_tensor* row_ends_, const aiter_tensor* values_,
                 const aiter_tensor* indices_, const aiter_topk_opts* opts_, aiter_stream stream) {
  const Check check("topk");
  const auto opts = check.options<aiter_topk_opts>(opts_, AITER_TOPK_OPTS_INIT);

  const Arg x = check.tensor("x", x_);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16, DType::kI32}).min_rank(1);
  const int rank = x.rank();
  check.require(opts.dim >= -rank && opts.dim < rank, "opts.dim is %d, expected %d to %d", opts.dim,
                -rank, rank - 1);
  const int dim = opts.dim < 0 ? opts.dim + rank : opts.dim;
  const Arg indices = check.tensor("indices", indices_);
  indices.dtype({DType::kI32, DType::kI64}).rank(rank).on_device_of(x);
  const int64_t n = x.dim(dim), k = indices.dim(dim);
  for (int i = 0; i < rank; ++i)
    if (i != dim && indices.dim(i) != x.dim(i))
      indices.refuse("has extent %lld in dimension %d, expected x's %lld",
                     static_cast<long long>(indices.dim(i)), i, static_cast<long long>(x.dim(i)));
  if (n > INT32_MAX)
    x.refuse("has %lld elements in dimension %d, expected less than 2^31",
             static_cast<long long>(n), dim);
  if (!row_ends_ && k > n)
    indices.refuse("asks for k = %lld, expected at most x's %lld elements",
                   static_cast<long long>(k), static_cast<long long>(n));

  TopkArgs args{};
  const Arg values = check.optional("values", values_);
  if (values) values.dtype_of(x).shape_of(indices).on_device_of(x);
  auto rows_of = [&](const char* name, const Arg& arg, const aiter_tensor* t, int64_t& stride) {
    const Moved moved(arg, *t, dim);
    const Arg last = check.tensor(name, &moved.tensor);
    stride = last.stride(-1);
    return last.rows();
  };
  args.x = x.data(), args.x_rows = rows_of("x", x, x_, args.x_stride);
  args.indices = indices.data();
  args.indices_rows = rows_of("indices", indices, indices_, args.indices_stride);
  if (values) {
    args.values = values.data();
    args.values_rows = rows_of("values", values, values_, args.values_stride);
  }
  const int64_t rows = args.x_rows.count;

  check.require(opts.next_n >= 1, "opts.next_n is %d, expected at least 1", opts.next_n);
  args.row_starts = {nullptr, 0, DType::kI32, {.integer = 0}};
  args.row_ends = {nullptr, 0, DType::kI32, {.integer = 0}};
  args.next_n = opts.next_n;
  auto bounds = [&](const char* name, const aiter_tensor* t, int64_t count, RowOption& option) {
    const Arg arg = check.tensor(name, t);
    arg.dtype({DType::kI32, DType::kI64}).shape({count}).on_device_of(x);
    option = {arg.data(), arg.stride(0), arg.dtype(), {}};
  };
  if (row_ends_) {
    check.require(rows % opts.next_n == 0, "x has %lld rows, expected a multiple of next_n = %d",
                  static_cast<long long>(rows), opts.next_n);
    bounds("row_ends", row_ends_, rows / opts.next_n, args.row_ends);
  } else {
    check.require(!row_starts_ && opts.next_n == 1,
                  "row_ends is NULL, expected a tensor with row_starts or next_n");
  }
  if (row_starts_) bounds("row_starts", row_starts_, rows, args.row_starts);

  args.n = n, args.k = k;
  args.dtype = x.dtype(), args.index_dtype = indices.dtype();
  args.smallest = opts.smallest != 0, args.sorted = opts.sorted != 0;
  const bool aligned16 =
      (args.x_stride == 1 || n == 1) && is_aligned16(args.x, args.x_rows, dtype_bytes(args.dtype));
  const TopkProblem problem{
      x.dtype(), rows, n, k, args.sorted != 0, aligned16, fits_team(n, x.dtype())};
  dispatch(topk_op, kRows, problem, args, x.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_topk(const aiter_tensor* x, const aiter_tensor* row_starts,
                                   const aiter_tensor* row_ends, const aiter_tensor* values,
                                   const aiter_tensor* indices, const aiter_topk_opts* opts,
                                   aiter_stream stream) {
  return aiter::entry("topk",
                      [&] { aiter::topk(x, row_starts, row_ends, values, indices, opts, stream); });
}
