#include "aiter/embedding.h"

#include <algorithm>

#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/embedding/embedding/embedding_args.h"

namespace aiter {

struct EmbeddingProblem {
  DType table_dtype, out_dtype;
  int64_t tokens, vocab, hidden, group;
  bool aligned16;  // rows of table and out begin at, and are, multiples of 16 bytes
};

AITER_CPU_ROW(embedding_cpu_simd, EmbeddingArgs)
AITER_CPU_ROW(embedding_cpu_ref, EmbeddingArgs)

static void embedding_hip(const Kernel& kernel, const EmbeddingArgs& args, const Call& call) {
  const int64_t packs = (args.hidden + 7) / 8;  // a thread each, in whole waves
  launch(kernel, call,
         {.x = args.hidden ? std::min<int64_t>(args.tokens, 1 << 20) : 0,
          .threads = static_cast<int>(std::clamp<int64_t>((packs + 63) / 64 * 64, 64, 256))},
         args);
}

static void embedding_hip_vec(const EmbeddingArgs& args, const Call& call) {
  static constexpr Kernel kernel{"embedding", "embedding_hip_vec"};
  embedding_hip(kernel, args, call);
}

static void embedding_hip_any(const EmbeddingArgs& args, const Call& call) {
  static constexpr Kernel kernel{"embedding", "embedding_hip_any"};
  embedding_hip(kernel, args, call);
}

static constexpr Row<EmbeddingProblem, EmbeddingArgs> kRows[] = {
#include "ops/embedding/embedding/embedding.def"
};
AITER_OP(embedding, embedding)

static void embedding(const aiter_tensor* ids_, const aiter_tensor* table_,
                      const aiter_tensor* scale_, const aiter_tensor* out_,
                      const aiter_embedding_opts* opts_, aiter_stream stream) {
  const Check check("embedding");
  const auto opts = check.options<aiter_embedding_opts>(opts_, AITER_EMBEDDING_OPTS_INIT);

  const Arg table = check.tensor("table", table_);
  table.dtype({DType::kF32, DType::kF16, DType::kBF16, DType::kI8}).rank(2).unit_last_stride();
  const int64_t vocab = table.dim(0), hidden = table.dim(1);
  const Arg ids = check.tensor("ids", ids_);
  ids.dtype({DType::kI32, DType::kI64}).on_device_of(table);
  const Arg out = check.tensor("out", out_);
  out.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(ids.rank() + 1).unit_last_stride();
  out.on_device_of(table);
  for (int i = 0; i <= ids.rank(); ++i) {
    const int64_t expected = i < ids.rank() ? ids.dim(i) : hidden;
    if (out.dim(i) != expected)
      out.refuse("has extent %lld in dimension %d, expected %lld (ids' shape, then hidden)",
                 static_cast<long long>(out.dim(i)), i, static_cast<long long>(expected));
  }

  EmbeddingArgs args{};
  args.group = hidden;
  const Arg scale = check.optional("scale", scale_);
  if (table.dtype() == DType::kI8) {
    check.require(bool(scale), "scale is NULL, expected a tensor as table is int8");
    scale.dtype({DType::kF32, DType::kF16, DType::kBF16}).shape({vocab, -1}).unit_last_stride();
    scale.on_device_of(table);
    const int64_t groups = scale.dim(1);
    if (hidden > 0) {
      if (groups == 0 || hidden % groups != 0)
        scale.refuse("has %lld groups, expected a divisor of hidden = %lld",
                     static_cast<long long>(groups), static_cast<long long>(hidden));
      args.group = hidden / groups;
    }
    args.scale = scale.data(), args.scale_dtype = scale.dtype();
    args.scale_stride = scale.stride(0);
  } else if (scale) {
    scale.refuse("is given, expected NULL unless table is int8");
  }
  args.ids = ids.data(), args.ids_dtype = ids.dtype(), args.ids_rows = ids.rows(0);
  args.table = table.data(), args.table_dtype = table.dtype(), args.table_stride = table.stride(0);
  args.out = out.data(), args.out_dtype = out.dtype(), args.out_rows = out.rows();
  args.tokens = ids.elements();
  args.vocab = vocab;
  args.hidden = hidden;
  ids.values_in(INT64_MIN, vocab);
  const int64_t bytes = dtype_bytes(args.out_dtype);
  const bool aligned16 = is_aligned16(args.table) && args.table_stride * bytes % 16 == 0 &&
                         is_aligned16(args.out, args.out_rows, bytes) && hidden * bytes % 16 == 0;
  const EmbeddingProblem problem{args.table_dtype, args.out_dtype, args.tokens, vocab,
                                 hidden,           args.group,     aligned16};
  dispatch(embedding_op, kRows, problem, args, table.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_embedding(const aiter_tensor* ids, const aiter_tensor* table,
                                        const aiter_tensor* scale, const aiter_tensor* out,
                                        const aiter_embedding_opts* opts, aiter_stream stream) {
  return aiter::entry("embedding", [&] { aiter::embedding(ids, table, scale, out, opts, stream); });
}
