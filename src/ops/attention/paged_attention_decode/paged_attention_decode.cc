#include <algorithm>

#include "aiter/attention.h"
#include "dispatch/dispatch.h"
#include "ops/attention/attention_checks.h"
#include "ops/attention/paged_attention_decode/paged_attention_decode_args.h"

namespace aiter {

using PagedAttentionDecodeProblem = AttentionProblem;

// Blocks of row hip_mma for one sequence and one split.
static int64_t decode_blocks(const AttentionArgs& a) {
  constexpr int64_t heads = PagedAttentionDecodeArgs::kHeadsPerBlock;
  return a.kv_heads ? a.kv_heads * ((a.q_heads / a.kv_heads + heads - 1) / heads) : 0;
}

// Splits of the keys that make enough blocks to fill any GPU, as long as each has some 256 keys.
static int64_t decode_splits(const AttentionArgs& a, const aiter_attention_opts& opts) {
  constexpr int64_t kEnoughBlocks = 1024, kEnoughKeys = 256;
  int64_t keys = a.max_pages * a.block;
  if (opts.max_seqlen_k) keys = std::min<int64_t>(keys, opts.max_seqlen_k);
  const int64_t blocks = std::max<int64_t>(1, a.batch * decode_blocks(a));
  const int64_t most = std::min<int64_t>(PagedAttentionDecodeArgs::kMostSplits,
                                         (keys + kEnoughKeys - 1) / kEnoughKeys);
  return std::clamp<int64_t>((kEnoughBlocks + blocks - 1) / blocks, 1, std::max<int64_t>(1, most));
}

static int64_t decode_workspace_bytes(const AttentionArgs& a, int64_t splits) {
  return splits == 1 ? 0 : a.batch * splits * a.q_heads * (a.v_dim + 2) * 4;
}

AITER_CPU_ROW(paged_attention_decode_cpu_rows, PagedAttentionDecodeArgs)
AITER_CPU_ROW(paged_attention_decode_cpu_tiles, PagedAttentionDecodeArgs)
AITER_CPU_ROW(paged_attention_decode_cpu_ref, PagedAttentionDecodeArgs)

// The splits' results to that of the call; see ck/attention/decode_merge.h.
static void decode_merge_hip(const PagedAttentionDecodeArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(paged_attention_decode, hip_merge);
  launch(kernels[args.dtype], call, {.x = args.batch, .y = args.q_heads, .threads = 128}, args);
}

static void paged_attention_decode_hip_mma(const PagedAttentionDecodeArgs& args, const Call& call) {
  static constexpr Kernel kernels[2][2] = {
      {{"paged_attention_decode", "paged_attention_decode_hip_mma_d64_f16"},
       {"paged_attention_decode", "paged_attention_decode_hip_mma_d64_bf16"}},
      {{"paged_attention_decode", "paged_attention_decode_hip_mma_d128_f16"},
       {"paged_attention_decode", "paged_attention_decode_hip_mma_d128_bf16"}}};
  if (args.batch == 0 || args.q_heads == 0) return;
  const bool bf16 = args.dtype == DType::kBF16;
  launch(
      kernels[args.head_dim == 128][bf16], call,
      {.x = args.batch,
       .y = decode_blocks(args),
       .z = args.splits,
       .threads = PagedAttentionDecodeArgs::kMmaWarps * 32,
       .shared_bytes = PagedAttentionDecodeArgs::mma_shared_bytes(static_cast<int>(args.head_dim))},
      args);
  if (args.splits > 1) decode_merge_hip(args, call);
}

static void paged_attention_decode_hip_any(const PagedAttentionDecodeArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(paged_attention_decode, hip_any);
  static constexpr FloatKernels split = AITER_FLOAT_KERNELS(paged_attention_decode, hip_split);
  Grid grid = attention_any_grid(args, call);
  if (args.splits == 1) return launch(kernels[args.kv_dtype], call, grid, args);
  grid.x = std::min<int64_t>(grid.x * args.splits, 1 << 20);
  launch(split[args.kv_dtype], call, grid, args);
  if (grid.x > 0) decode_merge_hip(args, call);
}

static constexpr Row<PagedAttentionDecodeProblem, PagedAttentionDecodeArgs> kRows[] = {
#include "ops/attention/paged_attention_decode/paged_attention_decode.def"
};
AITER_OP(attention, paged_attention_decode)

// The arguments of a call. lse, sink and out may be absent when only the workspace is asked for.
static PagedAttentionDecodeArgs decode_args(
    const Check& check, const aiter_tensor* q_, const aiter_tensor* key_cache_,
    const aiter_tensor* value_cache_, const aiter_tensor* block_table_, const aiter_tensor* sink_,
    const aiter_tensor* out_, const aiter_attention_opts* opts_, aiter_attention_opts& opts) {
  PagedAttentionDecodeArgs args{};
  opts = attention_options(check, opts_, args);
  const Arg q = check.tensor("q", q_), k = check.tensor("key_cache", key_cache_);
  const Arg v = check.tensor("value_cache", value_cache_);
  q.rank(3);
  k.rank(4);
  attention_tensors(opts, q, k, v, check.optional("sink", sink_), check.tensor("out", out_), args);
  // Each token of q is a sequence of its own.
  args.batch = q.dim(0), args.seqlen_q = 1;
  args.q_strides.outer = args.q_strides.token, args.out_strides.outer = args.out_strides.token;
  const Arg block_table = check.tensor("block_table", block_table_);
  args.block_table = attention_ints(block_table, {args.batch, -1}, q);
  args.block_table_stride = block_table.stride(0);
  args.block = k.dim(1), args.max_pages = block_table.dim(1), args.k_extent = k.dim(0);
  args.splits = 1;
  return args;
}

static void paged_attention_decode(const aiter_tensor* q_, const aiter_tensor* key_cache,
                                   const aiter_tensor* value_cache, const aiter_tensor* block_table,
                                   const aiter_tensor* seqused_k, const aiter_tensor* sink,
                                   const aiter_tensor* out, const aiter_tensor* lse,
                                   const aiter_attention_opts* opts_, aiter_stream stream) {
  const Check check("paged_attention_decode");
  aiter_attention_opts opts;
  PagedAttentionDecodeArgs args =
      decode_args(check, q_, key_cache, value_cache, block_table, sink, out, opts_, opts);
  const Arg q = check.tensor("q", q_);
  attention_lse(check.optional("lse", lse), {q.dim(0), q.dim(1)}, q, args);
  args.lse_batch = q.dim(1), args.lse_head = 1;
  args.seqused_k = attention_ints(check.tensor("seqused_k", seqused_k), {args.batch}, q);
  if (machine_of(q.device()).target == ANY_CPU) {
    attention_lengths(check, opts, args, 0, args.k_extent, args.max_pages);
  } else if (opts.workspace) {
    args.splits = decode_splits(args, opts);
    const int64_t bytes = decode_workspace_bytes(args, args.splits);
    if (opts.workspace_bytes < static_cast<uint64_t>(bytes) ||
        reinterpret_cast<uintptr_t>(opts.workspace) % 16)
      fail(AITER_WORKSPACE_TOO_SMALL,
           "paged_attention_decode: opts.workspace has %llu bytes at %p, expected %lld at a "
           "multiple of 16",
           static_cast<unsigned long long>(opts.workspace_bytes), opts.workspace, ll(bytes));
    args.partial = static_cast<float*>(opts.workspace);
  }
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

extern "C" aiter_status aiter_paged_attention_decode_workspace(
    const aiter_tensor* q, const aiter_tensor* key_cache, const aiter_tensor* value_cache,
    const aiter_tensor* block_table, const aiter_tensor* out, const aiter_attention_opts* opts_,
    uint64_t* bytes) {
  return aiter::entry("paged_attention_decode_workspace", [&] {
    const aiter::Check check("paged_attention_decode_workspace");
    check.require(bytes, "bytes is NULL, expected where to store the size");
    aiter_attention_opts opts;
    const auto args = aiter::decode_args(check, q, key_cache, value_cache, block_table, nullptr,
                                         out, opts_, opts);
    const bool gpu = q->device.type == AITER_CUDA || q->device.type == AITER_ROCM;
    *bytes = gpu ? static_cast<uint64_t>(
                       aiter::decode_workspace_bytes(args, aiter::decode_splits(args, opts)))
                 : 0;
  });
}
