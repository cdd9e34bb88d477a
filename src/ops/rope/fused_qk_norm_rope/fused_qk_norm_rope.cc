#include <algorithm>

#include "aiter/rope.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/rope/fused_qk_norm_rope/fused_qk_norm_rope_args.h"
#include "ops/rope/rope_checks.h"

namespace aiter {

struct FusedQkNormRopeProblem {
  DType dtype;
  int64_t tokens, q_heads, k_heads, dim, rotary_dim;
  bool aligned16;     // heads, their parts, weights and tables in units of 16 bytes
  bool in_registers;  // a wave holds a head: at most two packs a lane
  bool plain;         // angles are rope_is_plain(), tokens lie at one stride
};

AITER_CPU_ROW(fused_qk_norm_rope_cpu_simd, FusedQkNormRopeArgs)
AITER_CPU_ROW(fused_qk_norm_rope_cpu_ref, FusedQkNormRopeArgs)

// Pairs of packs of the longest head.
static int64_t units(const FusedQkNormRopeArgs& args, int64_t pack) {
  int64_t most = 1;
  for (int i = 0; i < args.side_count; ++i)
    most = std::max(most, head_units(args.sides[i].dim, i < 2 ? args.angles.pairs : 0, pack));
  return most;
}

static void fused_qk_norm_rope_hip(const FloatKernels& kernels, int64_t pack,
                                   FusedQkNormRopeArgs args, const Call& call) {
  const Device& device = device_of(call.device);
  const int64_t lanes = args.lanes_per_head = head_lanes(units(args, pack), device.wave);
  constexpr int64_t kThreads = 128, kWidth = 1 << 20;
  const int64_t threads = args.tokens * args.heads * lanes;
  args.heads_at_once = pack > 1 ? heads_at_once(threads, device.multiprocessors) : 1;
  for (int i = 0; i < args.side_count; ++i) {
    FusedHeads& side = args.sides[i];
    side.shares = static_cast<int32_t>((side.heads + args.heads_at_once - 1) / args.heads_at_once);
    args.shares += side.shares;
  }
  const int64_t per_block = kThreads / lanes;
  const int64_t blocks = (args.tokens * args.shares + per_block - 1) / per_block;
  launch(kernels[args.dtype], call,
         {.x = std::min(blocks, kWidth), .y = (blocks + kWidth - 1) / kWidth, .threads = kThreads},
         args);
}

static void fused_qk_norm_rope_hip_plain(const FusedQkNormRopeArgs& given, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(fused_qk_norm_rope, hip_plain);
  FusedQkNormRopeArgs args = given;
  args.lanes_per_head =
      head_lanes(units(args, 16 / dtype_bytes(args.dtype)), device_of(call.device).wave);
  args.heads_at_once =
      heads_at_once(args.tokens * args.heads * args.lanes_per_head,
                    device_of(call.device).multiprocessors, BlocksOfTokens::kMostHeads);
  const BlocksOfTokens blocks(args.tokens, args.lanes_per_head);
  args.tokens_of_block = blocks.tokens;
  int64_t shares = 0;
  for (int i = 0; i < args.side_count; ++i)
    shares += args.sides[i].shares =
        blocks.shares(args.sides[i].heads, args.lanes_per_head, args.heads_at_once);
  launch(kernels[args.dtype], call, blocks.grid(shares), args);
}

static void fused_qk_norm_rope_hip_vec(const FusedQkNormRopeArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(fused_qk_norm_rope, hip_vec);
  fused_qk_norm_rope_hip(kernels, 16 / dtype_bytes(args.dtype), args, call);
}

static void fused_qk_norm_rope_hip_any(const FusedQkNormRopeArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(fused_qk_norm_rope, hip_any);
  fused_qk_norm_rope_hip(kernels, 1, args, call);
}

static constexpr Row<FusedQkNormRopeProblem, FusedQkNormRopeArgs> kRows[] = {
#include "ops/rope/fused_qk_norm_rope/fused_qk_norm_rope.def"
};
AITER_OP(rope, fused_qk_norm_rope)

namespace {

bool heads_aligned16(const FusedQkNormRopeArgs& a) {
  const int64_t bytes = dtype_bytes(a.dtype);
  bool aligned =
      a.angles.pairs == 0 || (rope_tables_aligned16(a.angles) && a.angles.pairs * bytes % 16 == 0);
  for (int i = 0; i < a.side_count; ++i) {
    const FusedHeads& s = a.sides[i];
    aligned = aligned && s.dim * bytes % 16 == 0 && is_aligned16(s.norm.weight) &&
              is_aligned16(s.in, s.in_tokens, bytes) && s.in_head * bytes % 16 == 0 &&
              is_aligned16(s.out, s.out_tokens, bytes) && s.out_head * bytes % 16 == 0;
  }
  return aligned;
}

bool is_plain(const FusedQkNormRopeArgs& a) {
  bool plain = heads_turn_plainly(a.angles, a.dtype);
  for (int i = 0; i < a.side_count; ++i) {
    const FusedHeads& s = a.sides[i];
    plain = plain && weighs_plainly(s.norm, a.dtype) && s.in_tokens.inner >= s.in_tokens.count &&
            s.out_tokens.inner >= s.out_tokens.count;
  }
  return plain;
}

// q, k or v with its weight and its output.
class Sides {
 public:
  Sides(const Check& check, FusedQkNormRopeArgs& args, const Arg& q)
      : check_(check), args_(args), q_(q) {}

  void add(const Arg& in, const Arg& weight, const Arg& out, const HeadNorm& norm) {
    FusedHeads& s = args_.sides[args_.side_count++];
    in.dtype_of(q_).rank(q_.rank()).unit_last_stride().on_device_of(q_);
    for (int i = 0; i < q_.rank() - 2; ++i)
      if (in.dim(i) != q_.dim(i))
        in.refuse("has extent %lld in dimension %d, expected q's %lld",
                  static_cast<long long>(in.dim(i)), i, static_cast<long long>(q_.dim(i)));
    s.heads = in.dim(-2), s.dim = in.dim(-1);
    constexpr int64_t kMost = FusedQkNormRopeArgs::kMaxDim;
    if (s.dim < 1 || s.dim > kMost)
      in.refuse("has last extent %lld, expected 1 to %lld", static_cast<long long>(s.dim),
                static_cast<long long>(kMost));
    s.in = in.data(), s.in_tokens = in.rows(2), s.in_head = in.stride(-2);
    s.norm = head_norm(check_, norm, weight, in);
    out.dtype_of(in).shape_of(in).unit_last_stride().on_device_of(q_);
    s.out = out.data(), s.out_tokens = out.rows(2), s.out_head = out.stride(-2);
  }

 private:
  const Check& check_;
  FusedQkNormRopeArgs& args_;
  const Arg& q_;
};

void fused_qk_norm_rope(const aiter_tensor* q_, const aiter_tensor* k_, const aiter_tensor* v_,
                        const aiter_tensor* q_weight, const aiter_tensor* k_weight,
                        const aiter_tensor* cos_, const aiter_tensor* sin_,
                        const aiter_tensor* positions, const aiter_tensor* q_out,
                        const aiter_tensor* k_out, const aiter_tensor* v_out,
                        const aiter_fused_qk_norm_rope_opts* opts_, aiter_stream stream) {
  const Check check("fused_qk_norm_rope");
  const auto opts =
      check.options<aiter_fused_qk_norm_rope_opts>(opts_, AITER_FUSED_QK_NORM_ROPE_OPTS_INIT);
  const Arg q = check.tensor("q", q_);
  q.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(3).unit_last_stride();
  const Arg k = check.tensor("k", k_), v = check.optional("v", v_);

  FusedQkNormRopeArgs args{};
  args.nope_first = opts.nope_first != 0;
  args.dtype = q.dtype();
  args.tokens = q.rows(2).count;
  Sides sides(check, args, q);
  const HeadNorm norm{nullptr, DType::kNone, opts.eps, opts.norm != 0, opts.gemma != 0};
  sides.add(q, check.optional("q_weight", q_weight), check.tensor("q_out", q_out), norm);
  sides.add(k, check.optional("k_weight", k_weight), check.tensor("k_out", k_out), norm);
  if (v)
    sides.add(v, Arg(), check.tensor("v_out", v_out), {});
  else
    check.require(!v_out, "v_out is given, expected NULL as v is");
  const RopeTurn turn{opts.interleaved != 0,
                      false,
                      {opts.section0, opts.section1, opts.section2},
                      opts.sections_interleaved != 0};
  const Arg cos = check.optional("cos", cos_);
  args.angles = rope_angles(check, turn, q, q.rank() - 2, cos, check.optional("sin", sin_),
                            check.optional("positions", positions), positions);
  for (int i = 0; i < 2; ++i)
    if (2 * args.angles.pairs > args.sides[i].dim)
      cos.refuse("has width %lld, expected at most half of %c's head size, %lld",
                 static_cast<long long>(args.angles.pairs), "qk"[i],
                 static_cast<long long>(args.sides[i].dim));
  for (const FusedHeads& s : args.sides) args.heads += s.heads;
  const FusedQkNormRopeProblem problem{
      args.dtype,
      args.tokens,
      args.sides[0].heads,
      args.sides[1].heads,
      args.sides[0].dim,
      2 * args.angles.pairs,
      heads_aligned16(args),
      units(args, 16 / dtype_bytes(args.dtype)) <= 32,
      is_plain(args),
  };
  dispatch(fused_qk_norm_rope_op, kRows, problem, args, q.device(), stream, opts.flags);
}

}  // namespace
}  // namespace aiter

extern "C" aiter_status aiter_fused_qk_norm_rope(
    const aiter_tensor* q, const aiter_tensor* k, const aiter_tensor* v,
    const aiter_tensor* q_weight, const aiter_tensor* k_weight, const aiter_tensor* cos,
    const aiter_tensor* sin, const aiter_tensor* positions, const aiter_tensor* q_out,
    const aiter_tensor* k_out, const aiter_tensor* v_out, const aiter_fused_qk_norm_rope_opts* opts,
    aiter_stream stream) {
  return aiter::entry("fused_qk_norm_rope", [&] {
    aiter::fused_qk_norm_rope(q, k, v, q_weight, k_weight, cos, sin, positions, q_out, k_out, v_out,
                              opts, stream);
  });
}
