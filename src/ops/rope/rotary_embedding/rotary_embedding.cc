#include <algorithm>

#include "aiter/rope.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/rope/rotary_embedding/rotary_embedding_args.h"

namespace aiter {

struct RotaryEmbeddingProblem {
  DType dtype, cache_dtype;
  int64_t tokens, query_heads, key_heads, head_size, rotary_dim;
  bool interleaved, nope_first;
  bool aligned16;  // heads and their parts, and rows of the caches, in units of 16 bytes
};

AITER_CPU_ROW(rotary_embedding_cpu_simd, RotaryEmbeddingArgs)
AITER_CPU_ROW(rotary_embedding_cpu_ref, RotaryEmbeddingArgs)

static void rotary_embedding_hip(const FloatKernels& kernels, int64_t pack,
                                 RotaryEmbeddingArgs args, const Call& call) {
  constexpr int64_t kThreads = 128, kHeadsAtOnce = 4, kFewTokens = 1024;
  const int64_t items =
      std::max<int64_t>(1, std::max(args.pairs, args.head_size - 2 * args.pairs) / pack);
  const int64_t heads = args.sides[0].heads + args.sides[1].heads;
  int64_t threads = 32;
  while (threads < kThreads && threads < items * std::min(heads, kHeadsAtOnce)) threads *= 2;
  args.threads_per_token = static_cast<int32_t>(threads);
  const int64_t tokens_per_block = kThreads / threads,
                at_once = std::max<int64_t>(1, threads / items);
  // Few tokens: blocks share out their heads.
  const int64_t shares = args.tokens <= kFewTokens ? (heads + at_once - 1) / at_once : 1;
  launch(kernels[args.dtype], call,
         {.x = std::min<int64_t>((args.tokens + tokens_per_block - 1) / tokens_per_block, 1 << 20),
          .y = std::min<int64_t>(shares, 1 << 15),
          .threads = kThreads},
         args);
}

static void rotary_embedding_hip_vec(const RotaryEmbeddingArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(rotary_embedding, hip_vec);
  rotary_embedding_hip(kernels, 16 / dtype_bytes(args.dtype), args, call);
}

static void rotary_embedding_hip_any(const RotaryEmbeddingArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(rotary_embedding, hip_any);
  rotary_embedding_hip(kernels, 1, args, call);
}

static constexpr Row<RotaryEmbeddingProblem, RotaryEmbeddingArgs> kRows[] = {
#include "ops/rope/rotary_embedding/rotary_embedding.def"
};
AITER_OP(rope, rotary_embedding)

namespace {

// Tokens, heads and head_size of query or key, whichever of its two shapes it has.
struct HeadsShape {
  bool split;  // heads are a dimension of their own
  int64_t heads;
  Rows tokens;
  int64_t head_stride;
};

HeadsShape heads_of(const Arg& t, const Arg& positions, int64_t head_size) {
  t.unit_last_stride().min_rank(positions.rank() + 1);
  HeadsShape s;
  s.split = t.rank() == positions.rank() + 2;
  t.rank(positions.rank() + (s.split ? 2 : 1));
  for (int i = 0; i < positions.rank(); ++i)
    if (t.dim(i) != positions.dim(i))
      t.refuse("has extent %lld in dimension %d, expected positions' %lld",
               static_cast<long long>(t.dim(i)), i, static_cast<long long>(positions.dim(i)));
  if (s.split ? t.dim(-1) != head_size : t.dim(-1) % head_size != 0)
    t.refuse("has last extent %lld, expected %shead_size = %lld", static_cast<long long>(t.dim(-1)),
             s.split ? "" : "a multiple of ", static_cast<long long>(head_size));
  s.heads = s.split ? t.dim(-2) : t.dim(-1) / head_size;
  s.tokens = t.rows(s.split ? 2 : 1);
  s.head_stride = s.split ? t.stride(-2) : head_size;
  return s;
}

// (max_position, R/2), or with two dimensions of extent 1 between.
void check_cache(const Arg& cache) {
  cache.unit_last_stride();
  if (cache.rank() == 4)
    cache.shape({-1, 1, 1, -1});
  else
    cache.rank(2);
}

bool heads_aligned16(const RotaryEmbeddingArgs& a) {
  const int64_t bytes = dtype_bytes(a.dtype), cache_bytes = dtype_bytes(a.cache_dtype);
  bool aligned = is_aligned16(a.cos) && is_aligned16(a.sin) && a.pairs * bytes % 16 == 0 &&
                 a.head_size * bytes % 16 == 0 && a.cos_stride * cache_bytes % 16 == 0 &&
                 a.sin_stride * cache_bytes % 16 == 0;
  for (int i = 0; i < a.side_count; ++i) {
    const RopeHeads& s = a.sides[i];
    aligned = aligned && is_aligned16(s.in, s.in_tokens, bytes) &&
              is_aligned16(s.out, s.out_tokens, bytes) && s.in_head_stride * bytes % 16 == 0 &&
              s.out_head_stride * bytes % 16 == 0;
  }
  return aligned;
}

void rotary_embedding(const aiter_tensor* positions_, const aiter_tensor* query_,
                      const aiter_tensor* key_, const aiter_tensor* cos_, const aiter_tensor* sin_,
                      const aiter_tensor* query_out_, const aiter_tensor* key_out_,
                      const aiter_rotary_embedding_opts* opts_, aiter_stream stream) {
  const Check check("rotary_embedding");
  const auto opts =
      check.options<aiter_rotary_embedding_opts>(opts_, AITER_ROTARY_EMBEDDING_OPTS_INIT);
  check.require(opts.head_size >= 0, "opts.head_size is %lld, expected at least 0",
                static_cast<long long>(opts.head_size));

  const Arg positions = check.tensor("positions", positions_);
  positions.dtype({DType::kI32, DType::kI64});
  const Arg query = check.tensor("query", query_);
  query.dtype({DType::kF32, DType::kF16, DType::kBF16});
  const Arg key = check.optional("key", key_);
  const Arg cos = check.tensor("cos_cache", cos_), sin = check.tensor("sin_cache", sin_);
  if (cos.dtype() != DType::kF32) cos.dtype_of(query);
  check_cache(cos);

  int64_t head_size = opts.head_size;
  if (head_size == 0) {
    if (query.rank() != positions.rank() + 2)
      query.refuse("has rank %d, expected %d, positions' rank + 2 (or set opts.head_size)",
                   query.rank(), positions.rank() + 2);
    head_size = query.dim(-1);
    if (head_size == 0) query.refuse("has last extent 0, expected a head_size of at least 1");
  }
  if (cos.dim(-1) > head_size / 2)
    cos.refuse("has width %lld, expected at most half of head_size = %lld",
               static_cast<long long>(cos.dim(-1)), static_cast<long long>(head_size));
  sin.dtype_of(cos).shape_of(cos).unit_last_stride();
  for (const Arg* t : {&positions, &cos, &sin}) t->on_device_of(query);

  RotaryEmbeddingArgs args{};
  auto add = [&](const Arg& in, const char* out_name, const aiter_tensor* out_) {
    in.dtype_of(query).on_device_of(query);
    const HeadsShape from = heads_of(in, positions, head_size);
    const Arg out = check.tensor(out_name, out_);
    out.dtype_of(in).shape_of(in).on_device_of(query);
    const HeadsShape to = heads_of(out, positions, head_size);
    args.sides[args.side_count++] = {in.data(),  out.data(),       from.tokens,   to.tokens,
                                     from.heads, from.head_stride, to.head_stride};
  };
  add(query, "query_out", query_out_);
  if (key)
    add(key, "key_out", key_out_);
  else
    check.require(!key_out_, "key_out is given, expected NULL as key is");
  positions.values_in(0, cos.dim(0));

  args.positions = positions.data(), args.positions_dtype = positions.dtype();
  args.positions_rows = positions.rows(0);
  args.cos = cos.data(), args.cos_stride = cos.stride(0);
  args.sin = sin.data(), args.sin_stride = sin.stride(0);
  args.max_position = cos.dim(0);
  args.cache_dtype = cos.dtype();
  args.tokens = positions.elements();
  args.head_size = head_size;
  args.pairs = cos.dim(-1);
  args.dtype = query.dtype();
  args.interleaved = opts.interleaved != 0;
  args.nope_first = opts.nope_first != 0;
  const RotaryEmbeddingProblem problem{args.dtype,           args.cache_dtype,
                                       args.tokens,          args.sides[0].heads,
                                       args.sides[1].heads,  head_size,
                                       2 * args.pairs,       args.interleaved != 0,
                                       args.nope_first != 0, heads_aligned16(args)};
  dispatch(rotary_embedding_op, kRows, problem, args, query.device(), stream, opts.flags);
}

}  // namespace
}  // namespace aiter

extern "C" aiter_status aiter_rotary_embedding(
    const aiter_tensor* positions, const aiter_tensor* query, const aiter_tensor* key,
    const aiter_tensor* cos_cache, const aiter_tensor* sin_cache, const aiter_tensor* query_out,
    const aiter_tensor* key_out, const aiter_rotary_embedding_opts* opts, aiter_stream stream) {
  return aiter::entry("rotary_embedding", [&] {
    aiter::rotary_embedding(positions, query, key, cos_cache, sin_cache, query_out, key_out, opts,
                            stream);
  });
}
