#include "ops/quant/quantize_checks.h"

#include <algorithm>

namespace aiter {
namespace {

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// A uint8 tensor whose bytes are of the dtype that the options name. Any other has that dtype itself.
aiter_tensor with_dtype(const Check& check, NamedTensor given, aiter_dtype dtype,
                        const char* option) {
  aiter_tensor typed = *given.tensor;
  const aiter_dtype own = typed.dtype;
  if (!dtype.bits) return typed;
  const bool bytes = dtype_of(own) == DType::kU8;
  const bool fits =
      bytes ? dtype.bits * dtype.lanes == 8 || dtype.bits == 6
            : own.code == dtype.code && own.bits == dtype.bits && own.lanes == dtype.lanes;
  char got[48], expected[48];
  check.require(fits, "%s has dtype %s, expected %s, which %s names", given.name,
                dtype_name(own, got), dtype_name(dtype, expected), option);
  if (bytes) typed.dtype = dtype;
  return typed;
}

void check_options(const Check& check, const aiter_quantize_opts& opts) {
  check.require(opts.group_rows >= 0 && opts.group_cols >= 0,
                "opts.group_rows and group_cols are %lld and %lld, expected at least 0",
                static_cast<long long>(opts.group_rows), static_cast<long long>(opts.group_cols));
  check.require(opts.mx_round >= AITER_MX_ROUND_DOWN && opts.mx_round <= AITER_MX_ROUND_EVEN_FP4,
                "opts.mx_round is %d, expected 0 to 4", opts.mx_round);
  check.require(opts.amax_bound > 0, "opts.amax_bound is %g, expected more than 0",
                opts.amax_bound);
  check.require(opts.global_scale > 0, "opts.global_scale is %g, expected more than 0",
                opts.global_scale);
  check.require(
      opts.scale_layout == AITER_SCALE_STRIDED || opts.scale_layout == AITER_SCALE_SHUFFLED,
      "opts.scale_layout is %d, expected 0 or 1", opts.scale_layout);
  check.require(opts.num_rows_factor > 0, "opts.num_rows_factor is %d, expected more than 0",
                opts.num_rows_factor);
}

// Codes of fp6 fill three bytes with four; such tensors are of uint8 here.
constexpr aiter_dtype kUint8{AITER_CODE_UINT, 8, 1};

void check_codes(const Check& check, const Arg& x, NamedTensor given,
                 const aiter_quantize_opts& opts, QuantOut* q) {
  check.require(given.tensor, "%s is NULL, expected a tensor", given.name);
  aiter_tensor typed = with_dtype(check, given, opts.code_dtype, "opts.code_dtype");
  q->spec.code = dtype_of(typed.dtype);
  const bool fp6 = code_bits(q->spec.code) == 6;
  if (fp6) typed.dtype = given.tensor->dtype;
  const Arg codes = check.tensor(given.name, &typed);
  if (fp6)
    codes.dtype({DType::kU8});
  else
    codes.dtype({DType::kI8, DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2,
                 DType::kF8E5M2FNUZ, DType::kF4E2M1x2, DType::kI4x2});
  codes.rank(x.rank()).unit_last_stride().on_device_of(x);
  const int bits = code_bits(q->spec.code), together = bits == 8 ? 1 : bits == 6 ? 4 : 2;
  if (q->cols % together)
    x.refuse("has %lld columns, expected %s for codes of %s", static_cast<long long>(q->cols),
             together == 2 ? "an even number" : "a multiple of 4", dtype_name(q->spec.code));
  for (int i = 0; i < x.rank(); ++i) {
    const int64_t expected = i + 1 == x.rank() ? q->cols * bits / 8 : x.dim(i);
    if (codes.dim(i) != expected)
      codes.refuse("has extent %lld in dimension %d, expected %lld",
                   static_cast<long long>(codes.dim(i)), i, static_cast<long long>(expected));
  }
  check.require(q->cols == 0 || q->group_cols % together == 0,
                "opts.group_cols is %lld, expected %s for codes of %s",
                static_cast<long long>(opts.group_cols),
                together == 2 ? "an even number" : "a multiple of 4", dtype_name(q->spec.code));
  q->codes = codes.data();
  q->codes_rows = codes.rows();
}

void check_scale(const Check& check, const Arg& x, NamedTensor given,
                 const aiter_quantize_opts& opts, int64_t rows, int64_t group_rows, QuantOut* q) {
  check.require(given.tensor, "%s is NULL, expected a tensor", given.name);
  const aiter_tensor typed = with_dtype(check, given, opts.scale_dtype, "opts.scale_dtype");
  const Arg scale = check.tensor(given.name, &typed);
  scale.dtype({DType::kF32, DType::kBF16, DType::kF8E8M0, DType::kF8E4M3FN}).on_device_of(x);
  const DType code = q->spec.code;
  if (scale.dtype() == DType::kF8E8M0 && (code == DType::kI8 || code == DType::kI4x2))
    scale.refuse("has dtype float8_e8m0fnu, expected float32 for codes of %s", dtype_name(code));
  if (scale.dtype() == DType::kF8E4M3FN && code != DType::kF4E2M1x2)
    scale.refuse("has dtype float8_e4m3fn, expected float32 or float8_e8m0fnu for codes of %s",
                 dtype_name(code));
  q->spec.scale = scale.dtype();
  q->scale = scale.data();
  q->layout = static_cast<ScaleLayout>(opts.scale_layout);
  const int64_t scale_cols = (q->cols + q->group_cols - 1) / q->group_cols;
  if (q->layout == ScaleLayout::kShuffled) {
    check.require(opts.group_rows == 1, "opts.group_rows is %lld, expected 1 for shuffled scales",
                  static_cast<long long>(opts.group_rows));
    q->scale_col_stride = round_up(scale_cols, 8);
    scale.shape({round_up(rows, 256), q->scale_col_stride}).contiguous();
    return;
  }
  if (opts.group_rows == 0 && opts.group_cols == 0) {
    scale.shape({1});
    q->scale_rows = {1, 1, 0, 0};
    return;
  }
  if (opts.group_rows == 1) {
    scale.rank(x.rank());
    for (int i = 0; i < x.rank(); ++i) {
      const int64_t expected = i + 1 == x.rank() ? scale_cols : x.dim(i);
      if (scale.dim(i) != expected && rows * q->cols > 0)
        scale.refuse("has extent %lld in dimension %d, expected %lld",
                     static_cast<long long>(scale.dim(i)), i, static_cast<long long>(expected));
    }
  } else {
    x.rank(2);
    scale.shape({(rows + group_rows - 1) / group_rows, scale_cols});
  }
  q->scale_rows = scale.rows();
  q->scale_col_stride = scale.stride(-1);
}

void check_global_scale(const Check& check, const Arg& x, const aiter_quantize_opts& opts,
                        QuantSpec* spec) {
  const Arg tensor = check.optional("opts.global_scale_tensor", opts.global_scale_tensor);
  check.require(spec->scale == DType::kF8E4M3FN || (!tensor && opts.global_scale == 1),
                "opts.global_scale is given, expected scales of float8_e4m3fn with it, not %s",
                dtype_name(spec->scale));
  spec->global_scale = opts.global_scale;
  if (!tensor) return;
  tensor.dtype({DType::kF32}).on_device_of(x);
  if (tensor.rank() != 0) tensor.shape({1});
  spec->global_scale_at = static_cast<const float*>(tensor.data());
}

}  // namespace

QuantOut check_quant_blocks(const Check& check, const Arg& x, int64_t cols, NamedTensor codes,
                            NamedTensor scale, const aiter_quantize_opts& opts,
                            int64_t* group_rows) {
  check_options(check, opts);
  int64_t rows = 1;
  for (int i = 0; i + 1 < x.rank(); ++i) rows *= x.dim(i);
  QuantOut q{};
  q.cols = cols;
  q.group_cols = std::max<int64_t>(1, opts.group_cols ? std::min(opts.group_cols, cols) : cols);
  *group_rows = std::max<int64_t>(1, opts.group_rows ? std::min(opts.group_rows, rows) : rows);
  check_codes(check, x, codes, opts, &q);
  check_scale(check, x, scale, opts, rows, *group_rows, &q);
  q.static_scale = opts.static_scale != 0;
  q.spec.round = static_cast<MxRound>(opts.mx_round);
  q.spec.amax_bound = opts.amax_bound;
  check_global_scale(check, x, opts, &q.spec);
  return q;
}

QuantOut check_quant_out(const Check& check, const Arg& x, int64_t cols, NamedTensor codes,
                         NamedTensor scale, const aiter_quantize_opts* opts_) {
  const auto opts = check.options<aiter_quantize_opts>(opts_, AITER_QUANTIZE_OPTS_INIT);
  const int64_t group = opts.group_cols;
  const bool for_all = opts.group_rows == 0 && group == 0;
  check.require(opts.group_rows == 1 || for_all,
                "opts.quant.group_rows is %lld, expected 1, or 0 for all with group_cols 0",
                static_cast<long long>(opts.group_rows));
  check.require(!for_all || opts.static_scale,
                "opts.quant asks for one computed scale for all, expected a given one or one per "
                "row or group");
  check.require(group == 0 || quant_group_of_lanes(group),
                "opts.quant.group_cols is %lld, expected 0 (all), 16, 32, 64 or 128",
                static_cast<long long>(group));
  int64_t group_rows = 1;
  return check_quant_blocks(check, x, cols, codes, scale, opts, &group_rows);
}

int32_t quant_threads_per_row(const QuantOut& q, int64_t pack, int64_t chunks, int64_t wave) {
  const int64_t packs = (q.cols + pack - 1) / pack;
  int64_t threads = 1;
  while (threads < wave &&
         (threads * chunks < packs || (q.group_cols < q.cols && threads * pack < q.group_cols)))
    threads *= 2;
  if (threads * chunks >= packs) return static_cast<int32_t>(threads);
  return static_cast<int32_t>(
      std::min<int64_t>((packs + chunks * wave - 1) / (chunks * wave) * wave, 512));
}

Grid quant_grid(int64_t rows, int64_t threads_per_row, int64_t wave) {
  const int64_t block = threads_per_row <= wave ? 128 : threads_per_row;
  const int64_t rows_per_block = block / threads_per_row;
  const int64_t blocks = (rows + rows_per_block - 1) / rows_per_block;
  const int64_t x = std::clamp<int64_t>(blocks, 1, 1 << 20);
  return {.x = x, .y = (blocks + x - 1) / x, .threads = static_cast<int>(block)};
}

}  // namespace aiter
