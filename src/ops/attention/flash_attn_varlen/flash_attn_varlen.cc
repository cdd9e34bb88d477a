#include "aiter/attention.h"
#include "dispatch/dispatch.h"
#include "ops/attention/attention_checks.h"
#include "ops/attention/flash_attn_varlen/flash_attn_varlen_args.h"

namespace aiter {

using FlashAttnVarlenProblem = AttentionProblem;

AITER_CPU_ROW(flash_attn_varlen_cpu_tiles, FlashAttnVarlenArgs)
AITER_CPU_ROW(flash_attn_varlen_cpu_ref, FlashAttnVarlenArgs)

static void flash_attn_varlen_hip_any(const FlashAttnVarlenArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(flash_attn_varlen, hip_any);
  launch(kernels[args.kv_dtype], call, attention_any_grid(args, call), args);
}

static constexpr Row<FlashAttnVarlenProblem, FlashAttnVarlenArgs> kRows[] = {
#include "ops/attention/flash_attn_varlen/flash_attn_varlen.def"
};
AITER_OP(attention, flash_attn_varlen)

static void flash_attn_varlen(const aiter_tensor* q_, const aiter_tensor* k_,
                              const aiter_tensor* v_, const aiter_tensor* cu_seqlens_q_,
                              const aiter_tensor* cu_seqlens_k_, const aiter_tensor* seqused_k_,
                              const aiter_tensor* block_table_, const aiter_tensor* sink_,
                              const aiter_tensor* out_, const aiter_tensor* lse_,
                              const aiter_attention_opts* opts_, aiter_stream stream) {
  const Check check("flash_attn_varlen");
  FlashAttnVarlenArgs args{};
  const auto opts = attention_options(check, opts_, args);
  const Arg q = check.tensor("q", q_), k = check.tensor("k", k_), v = check.tensor("v", v_);
  const Arg block_table = check.optional("block_table", block_table_);
  q.rank(3);
  k.rank(block_table ? 4 : 3);
  attention_tensors(opts, q, k, v, check.optional("sink", sink_), check.tensor("out", out_), args);
  attention_lse(check.optional("lse", lse_), {q.dim(1), q.dim(0)}, q, args);
  args.lse_head = args.total_q = q.dim(0);

  const Arg cu_q = check.tensor("cu_seqlens_q", cu_seqlens_q_);
  cu_q.rank(1);
  args.cu_seqlens_q = attention_ints(cu_q, {-1}, q);
  args.batch = cu_q.dim(0) - 1;
  check.require(args.batch >= 0, "cu_seqlens_q has no entries, expected batch + 1");
  const Arg cu_k = check.optional("cu_seqlens_k", cu_seqlens_k_);
  if (cu_k) args.cu_seqlens_k = attention_ints(cu_k, {args.batch + 1}, q);
  const Arg used = check.optional("seqused_k", seqused_k_);
  if (used) args.seqused_k = attention_ints(used, {args.batch}, q);
  if (block_table) {
    check.require(!cu_k != !used,
                  "cu_seqlens_k and seqused_k are %s, expected one of them beside a block_table",
                  cu_k ? "both given" : "both NULL");
    args.block_table = attention_ints(block_table, {args.batch, -1}, q);
    args.block_table_stride = block_table.stride(0);
    args.block = k.dim(1), args.max_pages = block_table.dim(1);
  } else {
    check.require(bool(cu_k), "cu_seqlens_k is NULL, expected a tensor (or a block_table)");
  }
  args.k_extent = k.dim(0);
  if (machine_of(q.device()).target == ANY_CPU)
    attention_lengths(check, opts, args, k.dim(0), k.dim(0), block_table ? block_table.dim(1) : 0);
  dispatch(flash_attn_varlen_op, kRows, attention_problem(args), args, q.device(), stream,
           opts.flags);
}

static void flash_attn(const aiter_tensor* q_, const aiter_tensor* k_, const aiter_tensor* v_,
                       const aiter_tensor* sink_, const aiter_tensor* out_,
                       const aiter_tensor* lse_, const aiter_attention_opts* opts_,
                       aiter_stream stream) {
  const Check check("flash_attn");
  FlashAttnVarlenArgs args{};
  const auto opts = attention_options(check, opts_, args);
  const Arg q = check.tensor("q", q_), k = check.tensor("k", k_), v = check.tensor("v", v_);
  q.rank(4);
  k.rank(4);
  if (k.dim(0) != q.dim(0))
    k.refuse("has batch %lld, expected q's %lld", ll(k.dim(0)), ll(q.dim(0)));
  attention_tensors(opts, q, k, v, check.optional("sink", sink_), check.tensor("out", out_), args);
  attention_lse(check.optional("lse", lse_), {q.dim(0), q.dim(2), q.dim(1)}, q, args);
  args.batch = q.dim(0), args.seqlen_q = q.dim(1), args.seqlen_k = k.dim(1);
  args.lse_batch = q.dim(2) * q.dim(1), args.lse_head = q.dim(1);
  if (machine_of(q.device()).target == ANY_CPU) attention_lengths(check, opts, args, 0, 0, 0);
  dispatch(flash_attn_varlen_op, kRows, attention_problem(args), args, q.device(), stream,
           opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_flash_attn_varlen(
    const aiter_tensor* q, const aiter_tensor* k, const aiter_tensor* v,
    const aiter_tensor* cu_seqlens_q, const aiter_tensor* cu_seqlens_k,
    const aiter_tensor* seqused_k, const aiter_tensor* block_table, const aiter_tensor* sink,
    const aiter_tensor* out, const aiter_tensor* lse, const aiter_attention_opts* opts,
    aiter_stream stream) {
  return aiter::entry("flash_attn_varlen", [&] {
    aiter::flash_attn_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, sink, out,
                             lse, opts, stream);
  });
}

extern "C" aiter_status aiter_flash_attn(const aiter_tensor* q, const aiter_tensor* k,
                                         const aiter_tensor* v, const aiter_tensor* sink,
                                         const aiter_tensor* out, const aiter_tensor* lse,
                                         const aiter_attention_opts* opts, aiter_stream stream) {
  return aiter::entry("flash_attn",
                      [&] { aiter::flash_attn(q, k, v, sink, out, lse, opts, stream); });
}
