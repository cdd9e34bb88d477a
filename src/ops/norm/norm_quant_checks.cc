#include "ops/norm/norm_quant_checks.h"

#include <algorithm>

#include "ops/quant/quantize_checks.h"

namespace aiter {
namespace {

// The rows of the heads of given rows, `stride` elements apart, where two levels can say so.
bool split_rows(const Rows& rows, int64_t heads, int64_t stride, Rows* split) {
  const bool one_level =
      rows.inner >= rows.count || rows.outer_stride == rows.inner * rows.inner_stride;
  if (rows.inner > 1 && !one_level) return false;
  const int64_t outer = rows.inner > 1 ? rows.inner_stride : rows.outer_stride;
  *split = {rows.count * heads, heads, outer, stride};
  return true;
}

// Groups that lie within heads are quantized head by head.
void split_heads(NormQuantArgs* args) {
  QuantOut& q = args->out;
  const int64_t hidden = args->norm.hidden;
  Rows codes, scales;
  if (args->heads == 1 || q.group_cols == q.cols || hidden % q.group_cols || args->smooth ||
      q.layout != ScaleLayout::kStrided ||
      !split_rows(q.codes_rows, args->heads, hidden * code_bits(q.spec.code) / 8, &codes) ||
      !split_rows(q.scale_rows, args->heads, hidden / q.group_cols * q.scale_col_stride, &scales))
    return;
  q.codes_rows = codes, q.scale_rows = scales;
  q.cols = hidden;
  args->heads = 1;
}

}  // namespace

NormQuantProblem check_norm_quant(const Check& check, const NormQuantTensors& t, bool add,
                                  const aiter_quantize_opts* quant, NormQuantArgs* args) {
  RowNormProblem norm = check_row_norm(check, t.norm, add, true, &args->norm);
  const Arg x = check.tensor("x", t.norm.x);
  const Arg y = check.tensor("y", t.y);

  // Codes with a dimension less join the heads of a token.
  const bool joined = x.rank() > 1 && y.rank() + 1 == x.rank();
  args->heads = joined ? x.dim(-2) : 1;
  check.require(args->heads <= NormQuantArgs::kMaxHeads,
                "x has %lld heads to a row of codes, expected at most %d",
                static_cast<long long>(args->heads), NormQuantArgs::kMaxHeads);
  const int64_t cols = args->heads * x.dim(-1);
  int64_t shape[8];
  std::copy_n(t.norm.x->shape, x.rank(), shape);
  aiter_tensor rows = *t.norm.x;
  if (joined) {
    rows.ndim -= 1;
    rows.shape = shape, rows.strides = nullptr;
    shape[rows.ndim - 1] = cols;
  }
  args->out = check_quant_out(check, check.tensor("x", &rows), cols, {"y", t.y},
                              {"y_scale", t.y_scale}, quant);
  if (joined && args->heads == 0) args->heads = 1;  // of no rows

  if (const Arg gate = check.optional("gate", t.gate)) {
    gate.dtype_of(x).shape_of(x).unit_last_stride().on_device_of(x);
    args->gate = gate.data(), args->gate_rows = gate.rows();
    norm.aligned16 =
        norm.aligned16 && is_aligned16(args->gate, args->gate_rows, dtype_bytes(x.dtype()));
  }
  if (const Arg smooth = check.optional("smooth", t.smooth)) {
    smooth.dtype({DType::kF32}).shape({cols}).contiguous().on_device_of(x);
    args->smooth = static_cast<const float*>(smooth.data());
    norm.aligned16 = norm.aligned16 && is_aligned16(args->smooth);
  }
  split_heads(args);
  const QuantOut& q = args->out;
  const bool in_lanes = norm_quant_in_registers(norm) && args->heads == 1 &&
                        (q.group_cols == q.cols || quant_group_of_lanes(q.group_cols));
  return {norm, q.spec.code, q.spec.scale, args->heads, q.group_cols, in_lanes};
}

bool norm_quant_in_registers(const RowNormProblem& norm) {
  return norm.aligned16 &&
         norm.hidden * dtype_bytes(norm.dtype) <= 512 * 16 * NormQuantArgs::kPacks;
}

int32_t norm_quant_threads(const NormQuantArgs& args, const Call& call) {
  constexpr int64_t kColumns = NormQuantArgs::kColumns;
  const int64_t hidden = args.norm.hidden, bytes = dtype_bytes(args.norm.dtype);
  // Latency decides over few rows.
  const int64_t most = args.norm.x_rows.count < 512 && hidden <= 512 * kColumns
                           ? kColumns
                           : NormQuantArgs::kPacks * 16 / bytes;
  return args.out.codes ? quant_threads_per_row(args.out, kColumns, most / kColumns,
                                                device_of(call.device).wave)
                        : row_norm_threads(hidden, kColumns, most / kColumns, call);
}

Grid norm_quant_any_grid(const NormQuantArgs& args) {
  return {.x = std::min<int64_t>(args.norm.x_rows.count / args.heads, 1 << 20), .threads = 256};
}

}  // namespace aiter
