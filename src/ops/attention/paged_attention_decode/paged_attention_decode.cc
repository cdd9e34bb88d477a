#include "ops/attention/paged_attention_decode/paged_attention_decode_args.h"

#include "aiter/attention.h"
#include "dispatch/dispatch.h"
#include "ops/attention/attention_checks.h"

namespace aiter {

using PagedAttentionDecodeProblem = AttentionProblem;

AITER_CPU_ROW(paged_attention_decode_cpu_tiles, PagedAttentionDecodeArgs)
AITER_CPU_ROW(paged_attention_decode_cpu_ref, PagedAttentionDecodeArgs)

static constexpr Row<PagedAttentionDecodeProblem, PagedAttentionDecodeArgs> kRows[] = {
#include "ops/attention/paged_attention_decode/paged_attention_decode.def"
};
AITER_OP(attention, paged_attention_decode)

static void paged_attention_decode(const aiter_tensor* q_, const aiter_tensor* key_cache_,
                                   const aiter_tensor* value_cache_,
                                   const aiter_tensor* block_table_,
                                   const aiter_tensor* seqused_k_, const aiter_tensor* sink_,
                                   const aiter_tensor* out_, const aiter_tensor* lse_,
                                   const aiter_attention_opts* opts_, aiter_stream stream) {
  const Check check("paged_attention_decode");
  AttentionArgs args{};
  const auto opts = attention_options(check, opts_, args);
  const Arg q = check.tensor("q", q_), k = check.tensor("key_cache", key_cache_);
  const Arg v = check.tensor("value_cache", value_cache_);
  q.rank(3);
  k.rank(4);
  attention_tensors(opts, q, k, v, check.optional("sink", sink_),
                    check.tensor("out", out_), args);
  attention_lse(check.optional("lse", lse_), {q.dim(0), q.dim(1)}, q, args);
  // Each token of q is a sequence of its own.
  args.batch = q.dim(0), args.seqlen_q = 1;
  args.q_strides.outer = args.q_strides.token, args.out_strides.outer = args.out_strides.token;
  args.lse_batch = q.dim(1), args.lse_head = 1;
  const Arg block_table = check.tensor("block_table", block_table_);
  args.block_table = attention_ints(block_table, {args.batch, -1}, q);
  args.block_table_stride = block_table.stride(0);
  args.block = k.dim(1);
  args.seqused_k = attention_ints(check.tensor("seqused_k", seqused_k_), {args.batch}, q);
  if (machine_of(q.device()).target == ANY_CPU)
    attention_lengths(check, opts, args, 0, k.dim(0), block_table.dim(1));
  dispatch(paged_attention_decode_op, kRows, attention_problem(args), args, q.device(), stream,
           opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_paged_attention_decode(
    const aiter_tensor* q, const aiter_tensor* key_cache, const aiter_tensor* value_cache,
    const aiter_tensor* block_table, const aiter_tensor* seqused_k, const aiter_tensor* sink,
    const aiter_tensor* out, const aiter_tensor* lse, const aiter_attention_opts* opts,
    aiter_stream stream) {
  return aiter::entry("paged_attention_decode", [&] {
    aiter::paged_attention_decode(q, key_cache, value_cache, block_table, seqused_k, sink, out, lse,
                                  opts, stream);
  });
}
