#include "ops/norm/row_norm_checks.h"

#include <algorithm>

namespace aiter {

RowNormProblem check_row_norm(const Check& check, const RowNormTensors& t, bool add, bool y_is_copy,
                              RowNormArgs* args) {
  check.require(args->eps >= 0, "opts.eps is %g, expected at least 0", args->eps);
  const Arg x = check.tensor("x", t.x);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();
  const int64_t hidden = x.dim(-1), bytes = dtype_bytes(x.dtype());
  bool aligned16 = hidden * bytes % 16 == 0;
  auto rows_of = [&](const Arg& arg) {
    const Rows rows = arg.rows();
    aligned16 = aligned16 && is_aligned16(arg.data(), rows, dtype_bytes(arg.dtype()));
    return rows;
  };
  args->x = x.data(), args->x_rows = rows_of(x);
  args->hidden = hidden, args->dtype = x.dtype();

  auto vector = [&](const char* name, const aiter_tensor* tensor) {
    const Arg arg = check.optional(name, tensor);
    if (arg) {
      if (arg.dtype() != DType::kF32) arg.dtype_of(x);
      arg.shape({hidden}).contiguous().on_device_of(x);
      aligned16 = aligned16 && is_aligned16(arg.data());
    }
    return arg;
  };
  if (const Arg x_bias = vector("x_bias", t.x_bias)) args->x_bias = x_bias.dtype_of(x).data();
  const Arg w = vector("w", t.w), b = vector("b", t.b);
  if (w) args->w = w.data(), args->w_dtype = w.dtype();
  if (w && b) b.dtype_of(w);
  if (b) args->b = b.data(), args->w_dtype = b.dtype();

  if (t.y || !y_is_copy) {
    const Arg y = check.tensor(y_is_copy ? "unquantized" : "y", t.y);
    if (!y_is_copy || y.dtype() != DType::kF32) y.dtype_of(x);
    if (y_is_copy) y.shape_of(x);
    y.rank(x.rank());
    for (int i = 0; i < x.rank(); ++i)
      if (i + 1 < x.rank() ? y.dim(i) != x.dim(i) : y.dim(i) < hidden)
        y.refuse("has extent %lld in dimension %d, expected x's %lld%s",
                 static_cast<long long>(y.dim(i)), i, static_cast<long long>(x.dim(i)),
                 i + 1 < x.rank() ? "" : " or more");
    y.unit_last_stride().on_device_of(x);
    args->y = y.data(), args->y_rows = rows_of(y);
    args->y_dtype = y.dtype(), args->y_cols = y.dim(-1);
  }
  if (add) {
    auto like_x = [&](const char* name, const aiter_tensor* tensor) {
      const Arg arg = check.tensor(name, tensor);
      arg.dtype_of(x).shape_of(x).unit_last_stride().on_device_of(x);
      return arg;
    };
    const Arg in = like_x("residual_in", t.residual_in);
    const Arg out = like_x("residual_out", t.residual_out);
    args->residual_in = in.data(), args->residual_in_rows = rows_of(in);
    args->residual_out = out.data(), args->residual_out_rows = rows_of(out);
  }
  return {x.dtype(), args->x_rows.count, hidden, aligned16, add};
}

Grid row_grid(int64_t rows, int64_t threads, const Call& call) {
  const int64_t block = threads <= device_of(call.device).wave ? 128 : threads;
  const int64_t rows_per_block = block / threads;
  const int64_t blocks = (rows + rows_per_block - 1) / rows_per_block;
  constexpr int64_t kMaxBlocks = 1 << 20;  // more rows than this go round again
  return {.x = std::min(blocks, kMaxBlocks), .threads = static_cast<int>(block)};
}

int32_t row_norm_threads(int64_t hidden, int64_t pack, int64_t chunks, const Call& call) {
  const int64_t wave = device_of(call.device).wave;
  const int64_t packs = (hidden + pack - 1) / pack;
  int64_t threads = 1;
  while (threads * chunks < packs && threads < wave) threads *= 2;
  if (threads * chunks < packs)
    threads = std::min<int64_t>((packs + chunks * wave - 1) / (chunks * wave) * wave, 512);
  return static_cast<int32_t>(threads);
}

void row_norm_hip(const FloatKernels& norm, const FloatKernels& add_norm, int pack_bytes,
                  int chunks, RowNormArgs args, const Call& call) {
  if (args.y_cols == 0) return;
  const int64_t pack = std::max<int64_t>(pack_bytes / dtype_bytes(args.dtype), 1);
  args.threads_per_row = row_norm_threads(args.hidden, pack, chunks, call);
  const FloatKernels& kernels = args.residual_in || args.x_bias ? add_norm : norm;
  launch(kernels[args.dtype], call, row_grid(args.x_rows.count, args.threads_per_row, call), args);
}

void few_rows_norm_hip(const FloatKernels& norm, const FloatKernels& add_norm,
                       const RowNormArgs& args, const Call& call) {
  const int64_t wave = device_of(call.device).wave;
  const int64_t packs = std::max<int64_t>(1, args.hidden * dtype_bytes(args.dtype) / 16);
  launch((args.residual_in || args.x_bias ? add_norm : norm)[args.dtype], call,
         {.x = args.x_rows.count, .threads = static_cast<int>((packs + wave - 1) / wave * wave)},
         args);
}

}  // namespace aiter
