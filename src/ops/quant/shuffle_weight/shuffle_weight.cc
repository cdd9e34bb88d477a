#include <algorithm>
#include <cstring>

#include "aiter/quant.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/quant/shuffle_weight/shuffle_weight_args.h"

namespace aiter {

struct ShuffleProblem {
  int64_t unit_bytes, units;
  bool aligned16;  // units begin at multiples of 16 bytes, and are such, the last of a row too
};

AITER_CPU_ROW(shuffle_weight_cpu_simd, ShuffleArgs)
AITER_CPU_ROW(shuffle_weight_cpu_ref, ShuffleArgs)

static void shuffle_weight_hip(const Kernel& kernel, const ShuffleArgs& args, const Call& call) {
  // At least one block: a weight without elements has a head.
  launch(kernel, call, {.x = std::clamp<int64_t>((args.units + 255) / 256, 1, 1 << 20)}, args);
}

static void shuffle_weight_hip_vec(const ShuffleArgs& args, const Call& call) {
  static constexpr Kernel kernel{"shuffle_weight", "shuffle_weight_hip_vec"};
  shuffle_weight_hip(kernel, args, call);
}

static void shuffle_weight_hip_any(const ShuffleArgs& args, const Call& call) {
  static constexpr Kernel kernel{"shuffle_weight", "shuffle_weight_hip_any"};
  shuffle_weight_hip(kernel, args, call);
}

static constexpr Row<ShuffleProblem, ShuffleArgs> kRows[] = {
#include "ops/quant/shuffle_weight/shuffle_weight.def"
};
AITER_OP(quant, shuffle_weight)

namespace {

constexpr char kMagic[8] = {'a', 'i', 't', 'e', 'r', 'W', 's', '\n'};
constexpr uint32_t kVersion = 1;
constexpr int kMostTileRows = 256;

bool on_gpu(const Arg& arg) {
  return arg.device().type == AITER_CUDA || arg.device().type == AITER_ROCM;
}

int64_t element_bytes(const ShuffledHead& head) { return head.bits * head.lanes / 8; }

int64_t packed_bytes(const ShuffledHead& head) {
  return static_cast<int64_t>(sizeof(head)) +
         head.experts * head.n * head.padded_k * element_bytes(head);
}

// What w becomes under these options.
ShuffledHead make_head(const Check& check, const Arg& w, aiter_dtype dtype,
                       const aiter_shuffle_weight_opts& opts) {
  const int bits = dtype.bits * dtype.lanes;
  if (bits != 8 && bits != 16 && bits != 32)
    w.refuse("has elements of %d bits, expected 8, 16 or 32", bits);
  if (w.rank() != 3) w.rank(2);
  w.contiguous();
  ShuffledHead head{};
  std::memcpy(head.magic, kMagic, sizeof(kMagic));
  head.version = kVersion;
  head.code = dtype.code, head.bits = dtype.bits, head.lanes = dtype.lanes;
  head.rank = static_cast<uint32_t>(w.rank());
  head.experts = w.rank() == 3 ? w.dim(0) : 1;
  head.n = w.dim(-2), head.k = w.dim(-1);
  check.require(opts.tile_rows >= 1 && opts.tile_rows <= kMostTileRows,
                "opts.tile_rows is %d, expected 1 to %d", opts.tile_rows, kMostTileRows);
  const int tile = opts.tile_elements ? opts.tile_elements : 32;
  const int pack = opts.pack_elements ? opts.pack_elements : 16 * 8 / bits;
  check.require(tile > 0 && tile <= 4096 && pack > 0 && tile % pack == 0,
                "opts.tile_elements and pack_elements are %d and %d, expected the first to be a "
                "multiple of the second, up to 4096",
                tile, pack);
  head.tile_rows = static_cast<uint16_t>(opts.tile_rows);
  head.tile_elements = static_cast<uint16_t>(tile);
  head.pack_elements = static_cast<uint16_t>(pack);
  head.gate_up = opts.gate_up != 0;
  check.require(opts.pad_k_to >= 0 && opts.pad_k_to <= int64_t{1} << 40,
                "opts.pad_k_to is %lld, expected 0 to 2^40", static_cast<long long>(opts.pad_k_to));
  const int64_t pad = std::max<int64_t>(1, opts.pad_k_to);
  head.padded_k = (head.k + pad - 1) / pad * pad;
  int64_t elements = 0;
  if (__builtin_mul_overflow(head.experts * head.n, head.padded_k, &elements) ||
      elements > int64_t{1} << 56)
    w.refuse("has N = %lld, K = %lld, padded to %lld, expected at most 2^56 elements",
             static_cast<long long>(head.n), static_cast<long long>(head.k),
             static_cast<long long>(head.padded_k));
  const int64_t rows = opts.tile_rows * (head.gate_up ? 2 : 1);
  if (head.n % rows)
    w.refuse("has N = %lld, expected a multiple of %lld", static_cast<long long>(head.n),
             static_cast<long long>(rows));
  if (head.padded_k % tile)
    w.refuse("has K = %lld, padded to %lld, expected a multiple of %d",
             static_cast<long long>(head.k), static_cast<long long>(head.padded_k), tile);
  return head;
}

// The head of shuffled weights, proven to describe exactly these bytes, unless it came alone.
ShuffledHead read_head(const Arg& packed) {
  packed.dtype({DType::kU8}).rank(1).contiguous();
  if (on_gpu(packed))
    packed.refuse("is on device %d:%d, expected host memory", packed.device().type,
                  packed.device().id);
  ShuffledHead head;
  if (packed.dim(0) < static_cast<int64_t>(sizeof(head)))
    packed.refuse("has %lld bytes, expected shuffled weights (at least %zu bytes)",
                  static_cast<long long>(packed.dim(0)), sizeof(head));
  std::memcpy(&head, packed.data(), sizeof(head));
  if (std::memcmp(head.magic, kMagic, sizeof(kMagic)) != 0)
    packed.refuse(
        "does not begin with the description of shuffled weights, expected bytes from "
        "aiter_shuffle_weight");
  if (head.version != kVersion)
    packed.refuse("is in layout version %u, expected %u: shuffle it anew", head.version, kVersion);
  constexpr int64_t kMost = int64_t{1} << 40;
  const int bits = head.bits * head.lanes;
  int64_t numbers = 0;
  const bool sane = (bits == 8 || bits == 16 || bits == 32) && (head.rank == 2 || head.rank == 3) &&
                    head.experts >= 0 && head.n >= 0 && head.k >= 0 && head.padded_k >= head.k &&
                    head.experts < kMost && head.n < kMost && head.padded_k < kMost &&
                    head.tile_rows >= 1 && head.tile_rows <= kMostTileRows &&
                    head.pack_elements > 0 &&
                    head.tile_elements > 0 && head.tile_elements % head.pack_elements == 0 &&
                    head.gate_up <= 1 && head.n % (head.tile_rows << head.gate_up) == 0 &&
                    head.padded_k % head.tile_elements == 0 && head.reserved == 0 &&
                    !__builtin_mul_overflow(head.experts, head.n, &numbers) && numbers < kMost &&
                    !__builtin_mul_overflow(numbers, head.padded_k, &numbers) && numbers < kMost;
  if (!sane) packed.refuse("has a damaged description");
  if (packed.dim(0) != packed_bytes(head) && packed.dim(0) != sizeof(head))
    packed.refuse("has %lld bytes, expected %lld by its description",
                  static_cast<long long>(packed.dim(0)),
                  static_cast<long long>(packed_bytes(head)));
  return head;
}

ShuffleArgs weight_args(const ShuffledHead& head, const Arg& w, const Arg& packed, bool unshuffle) {
  ShuffleArgs args{};
  args.plain = static_cast<uint8_t*>(w.data());
  args.packed = static_cast<uint8_t*>(packed.data()) + sizeof(head);
  const int64_t bytes = element_bytes(head), pack = head.pack_elements;
  const int64_t halves = head.gate_up ? 2 : 1;
  args.unit_bytes = pack * bytes;
  args.rows = head.experts * head.n;
  args.columns = (head.k + pack - 1) / pack;
  args.row_bytes = head.k * bytes;
  args.last_unit_bytes = args.row_bytes - (args.columns - 1) * args.unit_bytes;
  // (expert, row tile, half, column tile, pack of the tile, row of the tile)
  const int64_t tiles = head.n / halves / head.tile_rows, packs = head.tile_elements / pack;
  args.dims[0] = {head.experts, head.n, 0};
  args.dims[1] = {tiles, head.tile_rows, 0};
  args.dims[2] = {halves, head.n / halves, 0};
  args.dims[3] = {head.padded_k / head.tile_elements, 0, packs};
  args.dims[4] = {packs, 0, 1};
  args.dims[5] = {head.tile_rows, 1, 0};
  args.dims[6] = {1, 0, 0};
  args.head = head;
  args.has_head = true;
  args.unshuffle = unshuffle;
  return args;
}

void run(ShuffleArgs args, const Arg& on, aiter_stream stream, uint32_t flags) {
  args.units = 1;
  for (const auto& dim : args.dims) args.units *= dim.extent;
  const bool aligned16 = reinterpret_cast<uintptr_t>(args.plain) % 16 == 0 &&
                         reinterpret_cast<uintptr_t>(args.packed) % 16 == 0 &&
                         args.unit_bytes % 16 == 0 && args.last_unit_bytes % 16 == 0 &&
                         args.row_bytes % 16 == 0;
  dispatch(shuffle_weight_op, kRows, ShuffleProblem{args.unit_bytes, args.units, aligned16}, args,
           on.device(), stream, flags);
}

void shuffle_weight(const aiter_tensor* w_, const aiter_tensor* packed_,
                    const aiter_shuffle_weight_opts* opts_, aiter_stream stream) {
  const Check check("shuffle_weight");
  const auto opts = check.options<aiter_shuffle_weight_opts>(opts_, AITER_SHUFFLE_WEIGHT_OPTS_INIT);
  const Arg w = check.tensor("w", w_), packed = check.tensor("packed", packed_);
  const ShuffledHead head = make_head(check, w, w_->dtype, opts);
  packed.dtype({DType::kU8}).shape({packed_bytes(head)}).contiguous().on_device_of(w);
  run(weight_args(head, w, packed, false), w, stream, opts.flags);
}

void unshuffle_weight(const aiter_tensor* packed_, const aiter_tensor* w_,
                      const aiter_shuffle_weight_opts* opts_, aiter_stream stream) {
  const Check check("unshuffle_weight");
  const auto opts = check.options<aiter_shuffle_weight_opts>(opts_, AITER_SHUFFLE_WEIGHT_OPTS_INIT);
  const Arg packed = check.tensor("packed", packed_), w = check.tensor("w", w_);
  packed.on_device_of(w);
  if (on_gpu(w)) {
    const ShuffledHead head = make_head(check, w, w_->dtype, opts);
    packed.dtype({DType::kU8}).shape({packed_bytes(head)}).contiguous();
    return run(weight_args(head, w, packed, true), w, stream, opts.flags);
  }
  const ShuffledHead head = read_head(packed);
  packed.shape({packed_bytes(head)});
  const aiter_dtype dtype = w_->dtype;
  if (dtype.code != head.code || dtype.bits != head.bits || dtype.lanes != head.lanes) {
    char got[48], expected[48];
    const char* name = dtype_name(dtype, got);
    w.refuse("has dtype %s, expected %s, which was packed", name,
             dtype_name(aiter_dtype{head.code, head.bits, head.lanes}, expected));
  }
  if (head.rank == 3)
    w.shape({head.experts, head.n, head.k});
  else
    w.shape({head.n, head.k});
  w.contiguous();
  run(weight_args(head, w, packed, true), w, stream, opts.flags);
}

void shuffle_scale(const Check& check, const aiter_tensor* scale_, const aiter_tensor* shuffled_,
                   const aiter_shuffle_scale_opts* opts_, bool unshuffle, aiter_stream stream) {
  const auto opts = check.options<aiter_shuffle_scale_opts>(opts_, AITER_SHUFFLE_SCALE_OPTS_INIT);
  const std::initializer_list<DType> bytes{DType::kU8, DType::kF8E8M0, DType::kF8E4M3FN};
  const Arg scale = check.tensor("scale", scale_), shuffled = check.tensor("shuffled", shuffled_);
  scale.dtype(bytes).rank(2).unit_last_stride();
  shuffled.dtype(bytes).rank(2).contiguous().on_device_of(scale);
  check.require(opts.experts > 0 && opts.experts <= std::max<int64_t>(1, scale.dim(0)),
                "opts.experts is %lld, expected 1 to the rows of scale",
                static_cast<long long>(opts.experts));
  int64_t rows = scale.dim(0), cols = scale.dim(1);
  if (opts.experts > 1 || opts.gate_up || opts.unpadded) {
    if (rows % (32 * opts.experts))
      scale.refuse("has %lld rows, expected a multiple of 32 for each of %lld experts",
                   static_cast<long long>(rows), static_cast<long long>(opts.experts));
    if (cols % 8)
      scale.refuse("has %lld columns, expected a multiple of 8", static_cast<long long>(cols));
  } else {
    rows = (rows + 255) / 256 * 256;
    cols = (cols + 7) / 8 * 8;
  }
  shuffled.shape({rows, cols});
  ShuffleArgs args{};
  args.plain = static_cast<uint8_t*>(scale.data());
  args.packed = static_cast<uint8_t*>(shuffled.data());
  args.rows = scale.dim(0), args.columns = scale.dim(1);
  args.row_bytes = scale.stride(0);
  args.unit_bytes = args.last_unit_bytes = 1;
  // (expert; 32 rows, or 16 of each half; 8 columns; 4 columns; 16 rows; 2 columns; 2 rows)
  const int64_t matrix = rows / opts.experts;
  args.dims[0] = {opts.experts, matrix, 0};
  args.dims[1] = {matrix / 32, opts.gate_up ? 16 : 32, 0};
  args.dims[2] = {cols / 8, 0, 8};
  args.dims[3] = {4, 0, 1};
  args.dims[4] = {16, 1, 0};
  args.dims[5] = {2, 0, 4};
  args.dims[6] = {2, opts.gate_up ? matrix / 2 : 16, 0};
  args.unshuffle = unshuffle;
  run(args, scale, stream, opts.flags);
}

}  // namespace
}  // namespace aiter

extern "C" aiter_status aiter_shuffle_weight(const aiter_tensor* w, const aiter_tensor* packed,
                                             const aiter_shuffle_weight_opts* opts,
                                             aiter_stream stream) {
  return aiter::entry("shuffle_weight", [&] { aiter::shuffle_weight(w, packed, opts, stream); });
}

extern "C" aiter_status aiter_unshuffle_weight(const aiter_tensor* packed, const aiter_tensor* w,
                                               const aiter_shuffle_weight_opts* opts,
                                               aiter_stream stream) {
  return aiter::entry("unshuffle_weight",
                      [&] { aiter::unshuffle_weight(packed, w, opts, stream); });
}

extern "C" aiter_status aiter_shuffled_weight_bytes(const aiter_tensor* w_,
                                                    const aiter_shuffle_weight_opts* opts_,
                                                    int64_t* bytes) {
  return aiter::entry("shuffled_weight_bytes", [&] {
    using namespace aiter;
    const Check check("shuffled_weight_bytes");
    check.require(bytes, "bytes is NULL, expected a pointer");
    const auto opts =
        check.options<aiter_shuffle_weight_opts>(opts_, AITER_SHUFFLE_WEIGHT_OPTS_INIT);
    const Arg w = check.tensor("w", w_);
    *bytes = packed_bytes(make_head(check, w, w_->dtype, opts));
  });
}

extern "C" aiter_status aiter_shuffled_weight_info(const aiter_tensor* packed,
                                                   aiter_shuffled_weight* info) {
  return aiter::entry("shuffled_weight_info", [&] {
    using namespace aiter;
    const Check check("shuffled_weight_info");
    check.require(info, "info is NULL, expected a pointer");
    check.require(info->struct_size == sizeof(*info), "info.struct_size is %u, expected %zu",
                  info->struct_size, sizeof(*info));
    const ShuffledHead head = read_head(check.tensor("packed", packed));
    *info = {static_cast<uint32_t>(sizeof(*info)),
             static_cast<int32_t>(head.rank),
             head.experts,
             head.n,
             head.k,
             head.padded_k,
             {head.code, head.bits, head.lanes},
             head.tile_rows,
             head.tile_elements,
             head.pack_elements,
             head.gate_up};
  });
}

extern "C" aiter_status aiter_shuffle_scale(const aiter_tensor* scale, const aiter_tensor* shuffled,
                                            const aiter_shuffle_scale_opts* opts,
                                            aiter_stream stream) {
  return aiter::entry("shuffle_scale", [&] {
    aiter::shuffle_scale(aiter::Check("shuffle_scale"), scale, shuffled, opts, false, stream);
  });
}

extern "C" aiter_status aiter_unshuffle_scale(const aiter_tensor* shuffled,
                                              const aiter_tensor* scale,
                                              const aiter_shuffle_scale_opts* opts,
                                              aiter_stream stream) {
  return aiter::entry("unshuffle_scale", [&] {
    aiter::shuffle_scale(aiter::Check("unshuffle_scale"), scale, shuffled, opts, true, stream);
  });
}
