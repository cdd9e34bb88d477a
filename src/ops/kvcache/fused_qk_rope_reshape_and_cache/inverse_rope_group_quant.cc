#include <algorithm>

#include "aiter/kvcache.h"
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_parts.h"

namespace aiter {
namespace {

void inverse_rope_group_quant(const aiter_tensor* o_, const aiter_tensor* positions,
                              const aiter_tensor* cos, const aiter_tensor* sin,
                              const aiter_tensor* codes_, const aiter_tensor* scale_,
                              const aiter_inverse_rope_group_quant_opts* opts_,
                              aiter_stream stream) {
  const Check check("inverse_rope_group_quant");
  const auto opts = check.options<aiter_inverse_rope_group_quant_opts>(
      opts_, AITER_INVERSE_ROPE_GROUP_QUANT_OPTS_INIT);
  const Arg o = check.tensor("o", o_);
  o.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(3).unit_last_stride();
  const int64_t tokens = o.dim(0), heads = o.dim(1), dim = o.dim(2), group = opts.group;
  check.require(codes_, "codes is NULL, expected a tensor");
  const aiter_tensor codes_tensor = with_dtype(codes_, opts.codes_dtype);
  const Arg codes = check.tensor("codes", &codes_tensor), scale = check.tensor("scale", scale_);
  codes.dtype({DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2, DType::kF8E5M2FNUZ})
      .rank(3)
      .on_device_of(o);
  scale.dtype({DType::kF8E8M0, DType::kU8}).on_device_of(o);
  const int64_t rows = codes.dim(1), width = codes.dim(2);
  check.require(group > 0 && dim % group == 0,
                "opts.group is %lld, expected a divisor of o's %lld dims",
                static_cast<long long>(group), static_cast<long long>(dim));
  if (rows * width != heads * dim || width % group)
    codes.refuse("has %lld rows of %lld, expected %lld in all, each a multiple of opts.group",
                 static_cast<long long>(rows), static_cast<long long>(width),
                 static_cast<long long>(heads * dim));
  codes.shape({tokens, rows, width}).unit_last_stride();
  const bool several = rows > 1 && tokens > 0;
  if (several && codes.stride(1) != width) codes.refuse("has gaps between rows, expected none");

  FusedArgs args{};
  check_tokens(check, o, &args);
  RopeTurn turn;
  turn.interleaved = opts.interleaved != 0;
  args.angles =
      rope_angles(check, turn, o, 1, check.tensor("cos_cache", cos), check.tensor("sin_cache", sin),
                  check.tensor("positions", positions), positions);
  args.angles.inverse = true;
  FusedParts parts(check, &args);
  FusedArgs::Target& target = parts.into_rows(parts.add(o, heads, true, true), codes, {}, 0, true);
  target.to.head = dim;  // rows follow each other
  const int64_t columns = width / group, tiles = (tokens + 31) / 32;
  CacheScales strides{nullptr, 0, 0, dim / group, 1};
  if (opts.scale_layout == AITER_SCALES_ROW) {
    scale.shape({tokens, rows, columns}).unit_last_stride();
    if (several && scale.stride(1) != columns) scale.refuse("has gaps between rows, expected none");
    strides.page = scale.stride(0);
  } else if (opts.scale_layout == AITER_SCALES_MFMA_TILE) {
    const int64_t pad = group == 128 ? 2 : 8, padded = (columns + pad - 1) / pad * pad;
    scale.shape({rows, tiles * 32, padded}).contiguous();
    strides.page = 32 * padded, strides.slot = tiles * 32 * padded;
    target.order = pad == 8 ? FusedArgs::ScaleOrder::kTiles8 : FusedArgs::ScaleOrder::kTiles2;
  } else {
    check.require(opts.scale_layout == AITER_SCALES_N32K4,
                  "opts.scale_layout is %d, expected 0 to 2", opts.scale_layout);
    if (columns % 4)
      codes.refuse("has %lld groups a row, expected a multiple of 4",
                   static_cast<long long>(columns));
    scale.shape({tiles, rows, 32 * columns}).contiguous();
    strides.page = rows * 32 * columns, strides.slot = 32 * columns;
    target.order = FusedArgs::ScaleOrder::kTiles4;
  }
  target.columns = divisor(std::max<int64_t>(columns, 1));
  target.amax_floor = 1e-8f;
  target.group = group, target.scale_dtype = DType::kF8E8M0;
  target.scale = strides, target.scale.data = static_cast<float*>(scale.data());
  run_fused(&args, o, codes, opts.flags, stream);
}

}  // namespace
}  // namespace aiter

extern "C" aiter_status aiter_inverse_rope_group_quant(
    const aiter_tensor* o, const aiter_tensor* positions, const aiter_tensor* cos_cache,
    const aiter_tensor* sin_cache, const aiter_tensor* codes, const aiter_tensor* scale,
    const aiter_inverse_rope_group_quant_opts* opts, aiter_stream stream) {
  return aiter::entry("inverse_rope_group_quant", [&] {
    aiter::inverse_rope_group_quant(o, positions, cos_cache, sin_cache, codes, scale, opts, stream);
  });
}
