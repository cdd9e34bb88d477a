#include "ops/gemm/group_gemm_checks.h"

#include <algorithm>
#include <cstring>

#include "ops/gemm/gemm_checks.h"

namespace aiter {
namespace {

constexpr char kMagic[8] = {'a', 'i', 't', 'e', 'r', 'W', 'g', '\n'};
constexpr uint32_t kVersion = 1;

int64_t padded(int64_t n) { return (n + kPanelRows - 1) / kPanelRows * kPanelRows; }

int64_t packed_bytes(const Check& check, int bits, int64_t n, int64_t k, DType scale_dtype) {
  const int64_t row =
      k / kGroup * (kGroup * bits / 8 + dtype_bytes(scale_dtype) * (bits == 4 ? 2 : 1));
  int64_t bytes = 0;
  check.require(
      n <= INT64_MAX - kPanelRows && !__builtin_mul_overflow(padded(n), row, &bytes) &&
          !__builtin_add_overflow(bytes, static_cast<int64_t>(sizeof(PackedHead)), &bytes),
      "n = %lld, k = %lld: the packed size overflows 64 bits", static_cast<long long>(n),
      static_cast<long long>(k));
  return bytes;
}

PackedHead make_head(int bits, int64_t n, int64_t k, DType scale_dtype, bool has_min) {
  PackedHead head{};
  std::memcpy(head.magic, kMagic, sizeof(kMagic));
  head.version = kVersion;
  head.bits = static_cast<uint32_t>(bits);
  head.n = n, head.k = k, head.padded_n = padded(n);
  head.scale_dtype = scale_dtype;
  head.has_min = has_min;
  return head;
}

const char* operator_of(uint32_t bits) { return bits == 4 ? "gemm_a16w4" : "gemm_a16w8"; }

// The head of packed weights, proven to describe exactly these bytes.
PackedHead read_head(const Check& check, const Arg& packed) {
  packed.dtype({DType::kU8}).rank(1).contiguous();
  if (packed.device().type == AITER_CUDA || packed.device().type == AITER_ROCM)
    packed.refuse("is on device %d:%d, expected host memory", packed.device().type,
                  packed.device().id);
  PackedHead head;
  if (packed.dim(0) < static_cast<int64_t>(sizeof(head)))
    packed.refuse("has %lld bytes, expected packed weights (at least %zu bytes)",
                  static_cast<long long>(packed.dim(0)), sizeof(head));
  std::memcpy(&head, packed.data(), sizeof(head));
  if (std::memcmp(head.magic, kMagic, sizeof(kMagic)) != 0)
    packed.refuse(
        "does not begin with the description of packed weights, expected bytes from "
        "aiter_gemm_*_pack");
  if (head.version != kVersion)
    packed.refuse("is packed in layout version %u, expected %u: pack it anew", head.version,
                  kVersion);
  const bool sane = (head.bits == 4 || head.bits == 8) && head.n >= 0 && head.k >= 0 &&
                    head.k % kGroup == 0 && head.n <= INT64_MAX - kPanelRows &&
                    (head.scale_dtype == DType::kF32 || head.scale_dtype == DType::kF16 ||
                     head.scale_dtype == DType::kBF16);
  if (sane) {
    const PackedHead expected = make_head(static_cast<int>(head.bits), head.n, head.k,
                                          head.scale_dtype, head.has_min & (head.bits == 4));
    const int64_t bytes =
        packed_bytes(check, static_cast<int>(head.bits), head.n, head.k, head.scale_dtype);
    if (std::memcmp(&head, &expected, sizeof(head)) == 0) {
      if (packed.dim(0) != bytes)
        packed.refuse("has %lld bytes, expected %lld for its N = %lld, K = %lld",
                      static_cast<long long>(packed.dim(0)), static_cast<long long>(bytes),
                      static_cast<long long>(head.n), static_cast<long long>(head.k));
      return head;
    }
  }
  packed.refuse("has a damaged description");
}

PackedHead read_head(const Check& check, const Arg& packed, int bits) {
  const PackedHead head = read_head(check, packed);
  if (head.bits != static_cast<uint32_t>(bits))
    packed.refuse("is packed for %s (%u bits), expected %s", operator_of(head.bits), head.bits,
                  operator_of(bits));
  return head;
}

GroupWeight packed_weight(const PackedHead& head, const Arg& packed) {
  GroupWeight w{};
  w.panels = static_cast<const uint8_t*>(packed.data()) + sizeof(PackedHead);
  w.n = head.n, w.k = head.k;
  w.scale_dtype = head.scale_dtype;
  return w;
}

GroupWeight row_major_weight(const Check& check, int bits, const Arg& w,
                             const aiter_tensor* w_scale_, const aiter_tensor* w_min_) {
  if (bits == 4)
    w.dtype({DType::kU8, DType::kU4x2});
  else
    w.dtype({DType::kI8});
  w.rank(2).unit_last_stride();
  GroupWeight weight{};
  weight.codes = static_cast<const uint8_t*>(w.data());
  weight.codes_stride = w.stride(0);
  weight.n = w.dim(0);
  check.require(w.dim(1) % (kGroup * bits / 8) == 0,
                "w has shape (%lld, %lld), K = %lld, expected a multiple of %d",
                static_cast<long long>(w.dim(0)), static_cast<long long>(w.dim(1)),
                static_cast<long long>(w.dim(1) * 8 / bits), kGroup);
  weight.k = w.dim(1) * 8 / bits;

  const Arg w_scale = check.tensor("w_scale", w_scale_);
  w_scale.dtype({DType::kF16, DType::kBF16, DType::kF32}).shape({weight.n, weight.k / kGroup});
  w_scale.unit_last_stride().on_device_of(w);
  weight.scale = w_scale.data();
  weight.scale_stride = w_scale.stride(0);
  weight.scale_dtype = w_scale.dtype();
  if (const Arg w_min = check.optional("w_min", w_min_)) {
    w_min.dtype_of(w_scale).shape_of(w_scale).unit_last_stride().on_device_of(w);
    weight.min = w_min.data();
    weight.min_stride = w_min.stride(0);
  }
  return weight;
}

}  // namespace

GroupGemmProblem check_group_gemm(const Check& check, int bits, const GroupGemmTensors& tensors,
                                  int32_t activation, GroupGemmArgs* args) {
  check.require(
      activation >= AITER_GEMM_ACTIVATION_16BIT && activation <= AITER_GEMM_ACTIVATION_32BIT,
      "opts.activation is %d, expected 0 (16 bits), 1 (8 bits) or 2 (32 bits)", activation);
  const Arg x = check.tensor("x", tensors.x);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();
  const Arg w = check.tensor("w", tensors.w);
  w.on_device_of(x);
  const bool packed = !tensors.w_scale;
  if (packed) {
    check.require(w.rank() == 1,
                  "w_scale is NULL, expected a tensor (or packed weights of rank 1 as w)");
    check.require(!tensors.w_min, "w_min is given, expected NULL with packed weights");
    args->w = packed_weight(read_head(check, w, bits), w);
  } else {
    args->w = row_major_weight(check, bits, w, tensors.w_scale, tensors.w_min);
  }
  if (x.dim(-1) != args->w.k)
    x.refuse("has %lld columns, expected w's K = %lld", static_cast<long long>(x.dim(-1)),
             static_cast<long long>(args->w.k));

  const Arg bias = check_gemm_bias(check, tensors.bias, args->w.n, x, x);
  if (bias) args->bias = bias.data(), args->bias_dtype = bias.dtype();
  const Arg y = check_gemm_output(check, tensors.y, args->w.n, x);
  args->x = x.data(), args->x_rows = x.rows(), args->x_dtype = x.dtype();
  args->y = y.data(), args->y_rows = y.rows(), args->y_dtype = y.dtype();
  const bool aligned16 = is_aligned16(args->x, args->x_rows, dtype_bytes(x.dtype())) &&
                         is_aligned16(args->w.codes) && args->w.codes_stride % 16 == 0;
  auto pairs = [&](const void* data, int64_t stride) {
    return reinterpret_cast<uintptr_t>(data) % 4 == 0 && stride % 2 == 0;
  };
  const GroupWeight& weight = args->w;
  const bool paired = weight.scale_dtype != DType::kF32 && weight.k % (2 * kGroup) == 0 &&
                      pairs(weight.scale, weight.scale_stride) &&
                      pairs(weight.min, weight.min_stride);
  return {args->x_rows.count, args->w.n, args->w.k, x.dtype(), packed,
          activation,         aligned16, paired};
}

void group_gemm_hip(const FloatKernels& kernels, const GroupGemmArgs& args, const Call& call) {
  const int threads = 256, waves = threads / device_of(call.device).wave;
  const int64_t row_tiles = (args.x_rows.count + kGroupGemmRows - 1) / kGroupGemmRows;
  launch(kernels[args.x_dtype], call,
         {.x = (args.w.n + waves - 1) / waves,
          .y = std::min<int64_t>(row_tiles, 65535),
          .threads = threads},
         args);
}

void group_narrow_hip(const GroupNarrowKernels& kernels, int span, int stage_bytes,
                      const GroupGemmArgs& args, const Call& call) {
  const int64_t rows = args.x_rows.count, blocks = (args.w.n + kNarrowColumns - 1) / kNarrowColumns;
  const int tiles = rows <= 8 ? 1 : 4,
            warps = narrow_warps(call, blocks, args.w.k / kGroup / span * 2, 8, 16);
  launch(kernels.of[rows > 8][args.x_dtype == DType::kBF16], call,
         {.x = blocks,
          .y = (rows + 8 * tiles - 1) / (8 * tiles),
          .threads = 32 * warps,
          .shared_bytes = warps * stage_bytes},
         args);
}

GroupPackArgs check_group_pack(const Check& check, int bits, const GroupGemmTensors& row_major,
                               const aiter_tensor* packed_, bool unpack) {
  const Arg w = check.tensor("w", row_major.w);
  GroupPackArgs args{};
  args.unpack = unpack;
  args.w = row_major_weight(check, bits, w, row_major.w_scale, row_major.w_min);
  const Arg packed = check.tensor("packed", packed_);
  packed.on_device_of(w);
  if (machine_of(w.device()).target != ANY_CPU)
    w.refuse("is on device %d:%d, expected host memory (GPUs take the row-major form)",
             w.device().type, w.device().id);
  const PackedHead head = args.head =
      make_head(bits, args.w.n, args.w.k, args.w.scale_dtype, args.w.min != nullptr);
  if (unpack) {
    const PackedHead found = read_head(check, packed, bits);
    if (found.n != head.n || found.k != head.k)
      packed.refuse("holds N = %lld, K = %lld, expected w's N = %lld, K = %lld",
                    static_cast<long long>(found.n), static_cast<long long>(found.k),
                    static_cast<long long>(head.n), static_cast<long long>(head.k));
    if (found.scale_dtype != head.scale_dtype)
      packed.refuse("holds scales of dtype %s, expected w_scale's %s",
                    dtype_name(found.scale_dtype), dtype_name(head.scale_dtype));
    check.require(found.has_min == head.has_min, "w_min is %s, expected %s: packed holds %s",
                  head.has_min ? "given" : "NULL", found.has_min ? "a tensor" : "NULL",
                  found.has_min ? "minimums" : "none");
  } else {
    const int64_t bytes = packed_bytes(check, bits, args.w.n, args.w.k, args.w.scale_dtype);
    packed.dtype({DType::kU8}).shape({bytes}).contiguous();
  }
  args.packed = static_cast<uint8_t*>(packed.data());
  return args;
}

int64_t group_packed_bytes(const Check& check, int bits, int64_t n, int64_t k,
                           aiter_dtype scale_dtype) {
  check.require(n >= 0, "n is %lld, expected at least 0", static_cast<long long>(n));
  check.require(k >= 0 && k % kGroup == 0, "k is %lld, expected a multiple of %d of at least 0",
                static_cast<long long>(k), kGroup);
  const DType dtype = dtype_of(scale_dtype);
  char buffer[48];
  check.require(dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF32,
                "scale_dtype is %s, expected float16, bfloat16 or float32",
                dtype_name(scale_dtype, buffer));
  return packed_bytes(check, bits, n, k, dtype);
}

}  // namespace aiter

extern "C" aiter_status aiter_gemm_weight_info(const aiter_tensor* packed_,
                                               aiter_gemm_packed_info* info) {
  return aiter::entry("gemm_weight_info", [&] {
    const aiter::Check check("gemm_weight_info");
    check.require(info != nullptr, "info is NULL, expected a struct to fill");
    check.require(info->struct_size == sizeof(*info), "info.struct_size is %u, expected %zu",
                  info->struct_size, sizeof(*info));
    const aiter::Arg packed = check.tensor("packed", packed_);
    const aiter::PackedHead head = aiter::read_head(check, packed);
    info->bits = static_cast<int32_t>(head.bits);
    info->n = head.n, info->k = head.k, info->padded_n = head.padded_n;
    info->has_min = static_cast<int32_t>(head.has_min);
    switch (head.scale_dtype) {
      case aiter::DType::kF32:
        info->scale_dtype = {AITER_CODE_FLOAT, 32, 1};
        break;
      case aiter::DType::kF16:
        info->scale_dtype = {AITER_CODE_FLOAT, 16, 1};
        break;
      default:
        info->scale_dtype = {AITER_CODE_BFLOAT, 16, 1};
        break;
    }
  });
}
