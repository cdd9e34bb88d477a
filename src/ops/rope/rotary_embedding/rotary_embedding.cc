#include <algorithm>
#include <cstdlib>

#include "aiter/rope.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/rope/rope_checks.h"
#include "ops/rope/rotary_embedding/rotary_embedding_args.h"

namespace aiter {

struct RotaryEmbeddingProblem {
  DType dtype, table_dtype;
  int64_t tokens, query_heads, key_heads, head_size, rotary_dim;
  bool interleaved, nope_first;
  bool aligned16;  // heads and their parts, and rows of the tables, in units of 16 bytes
  bool plain;      // see is_plain
};

AITER_CPU_ROW(rotary_embedding_cpu_simd, RotaryEmbeddingArgs)
AITER_CPU_ROW(rotary_embedding_cpu_ref, RotaryEmbeddingArgs)

// See rotary_embedding.hip. A thread's heads are loaded all at once where there are threads enough; of
// few tokens, blocks share out the heads.
static void rotary_embedding_hip(const FloatKernels& kernels, int64_t pack,
                                 RotaryEmbeddingArgs args, const Call& call) {
  constexpr int64_t kThreads = 128, kHeadsAtOnce = RotaryEmbeddingArgs::kHeadsAtOnce,
                    kFewTokens = 1024, kWidth = 1 << 20;
  const int64_t still = args.part_size - 2 * args.angles.pairs;
  const int64_t units =
      std::max<int64_t>(args.angles.parts * std::max(args.angles.pairs, still) / pack, 1);
  const int64_t heads = args.sides[0].heads + args.sides[1].heads;
  int64_t threads = 32;
  while (threads < kThreads && threads < units * ((heads + kHeadsAtOnce - 1) / kHeadsAtOnce))
    threads *= 2;
  args.threads_per_token = static_cast<int32_t>(threads);
  const int64_t at_once = std::max<int64_t>(1, threads / units), per_block = kThreads / threads;
  const int64_t shares =
      std::min((heads + at_once - 1) / at_once, kFewTokens / std::max<int64_t>(args.tokens, 1));
  const int64_t blocks = heads ? (args.tokens + per_block - 1) / per_block : 0;
  launch(kernels[args.dtype], call,
         {.x = std::min(blocks, kWidth),
          .y = std::clamp<int64_t>(shares, 1, 1 << 15),
          .z = (blocks + kWidth - 1) / kWidth,
          .threads = kThreads},
         args);
}

static void rotary_embedding_hip_vec(const RotaryEmbeddingArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(rotary_embedding, hip_vec),
                                full = AITER_FLOAT_KERNELS(rotary_embedding, hip_vec_full);
  rotary_embedding_hip(args.angles.second ? full : kernels, 16 / dtype_bytes(args.dtype), args,
                       call);
}

static void rotary_embedding_hip_plain(const RotaryEmbeddingArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(rotary_embedding, hip_plain);
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
  int64_t heads;
  Rows tokens;
  int64_t head_stride;
};

// The leading dimensions are the first ones of `lead`.
HeadsShape heads_of(const Arg& t, const Arg& lead, int lead_rank, const char* lead_name,
                    int64_t head_size) {
  t.unit_last_stride().min_rank(lead_rank + 1);
  const bool split = t.rank() == lead_rank + 2;  // heads are a dimension of their own
  t.rank(lead_rank + (split ? 2 : 1));
  for (int i = 0; i < lead_rank; ++i) {
    const int64_t extent = lead.dim(i);
    if (t.dim(i) != extent)
      t.refuse("has extent %lld in dimension %d, expected %s %lld",
               static_cast<long long>(t.dim(i)), i, lead_name, static_cast<long long>(extent));
  }
  if (split ? t.dim(-1) != head_size : t.dim(-1) % head_size != 0)
    t.refuse("has last extent %lld, expected %shead_size = %lld", static_cast<long long>(t.dim(-1)),
             split ? "" : "a multiple of ", static_cast<long long>(head_size));
  return {split ? t.dim(-2) : t.dim(-1) / head_size, t.rows(split ? 2 : 1),
          split ? t.stride(-2) : head_size};
}

bool heads_aligned16(const RotaryEmbeddingArgs& a) {
  const int64_t bytes = dtype_bytes(a.dtype);
  bool aligned = rope_tables_aligned16(a.angles) && a.angles.pairs * bytes % 16 == 0 &&
                 a.part_size * bytes % 16 == 0;
  for (int i = 0; i < a.side_count; ++i) {
    const RopeHeads& s = a.sides[i];
    aligned = aligned && is_aligned16(s.in, s.in_tokens, bytes) &&
              is_aligned16(s.out, s.out_tokens, bytes) && s.in_head_stride * bytes % 16 == 0 &&
              s.out_head_stride * bytes % 16 == 0;
  }
  return aligned;
}

// Heads that turn as a whole, by tables of their own dtype or f32; tokens lie at one stride, and the
// heads of one within 32 bits.
bool is_plain(const RotaryEmbeddingArgs& a) {
  bool plain = rope_is_plain(a.angles) && 2 * a.angles.pairs == a.part_size &&
               (a.angles.dtype == a.dtype || a.angles.dtype == DType::kF32);
  auto near = [](int64_t heads, int64_t stride) {
    return heads == 0 || std::abs(stride) <= INT32_MAX / heads;
  };
  for (const RopeHeads& s : a.sides)
    plain = plain && s.in_tokens.inner >= s.in_tokens.count &&
            s.out_tokens.inner >= s.out_tokens.count && near(s.heads, s.in_head_stride) &&
            near(s.heads, s.out_head_stride);
  return plain;
}

void run(const RotaryEmbeddingArgs& args, aiter_device device, aiter_stream stream,
         uint32_t flags) {
  const RopeAngles& a = args.angles;
  const RotaryEmbeddingProblem problem{args.dtype,
                                       a.dtype,
                                       args.tokens,
                                       args.sides[0].heads,
                                       args.sides[1].heads,
                                       a.parts * args.part_size,
                                       2 * a.parts * a.pairs,
                                       a.pairs_interleaved != 0,
                                       args.nope_first != 0,
                                       heads_aligned16(args),
                                       is_plain(args)};
  dispatch(rotary_embedding_op, kRows, problem, args, device, stream, flags);
}

// The token tensors, in and out, under names of their entry point.
class Sides {
 public:
  Sides(const Check& check, RotaryEmbeddingArgs& args, const Arg& first, const Arg& lead,
        int lead_rank, const char* lead_name, int64_t head_size)
      : check_(check),
        args_(args),
        first_(first),
        lead_(lead),
        lead_rank_(lead_rank),
        lead_name_(lead_name),
        head_size_(head_size) {}

  void add(const Arg& in, const char* out_name, const aiter_tensor* out_) {
    in.dtype_of(first_).on_device_of(first_);
    const HeadsShape from = heads_of(in, lead_, lead_rank_, lead_name_, head_size_);
    const Arg out = check_.tensor(out_name, out_);
    out.dtype_of(in).shape_of(in).on_device_of(first_);
    const HeadsShape to = heads_of(out, lead_, lead_rank_, lead_name_, head_size_);
    args_.sides[args_.side_count++] = {in.data(),  out.data(),       from.tokens,   to.tokens,
                                       from.heads, from.head_stride, to.head_stride};
  }

 private:
  const Check& check_;
  RotaryEmbeddingArgs& args_;
  const Arg &first_, &lead_;
  int lead_rank_;
  const char* lead_name_;
  int64_t head_size_;
};

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

  int64_t head_size = opts.head_size;
  if (head_size == 0) {
    if (query.rank() != positions.rank() + 2)
      query.refuse("has rank %d, expected %d, positions' rank + 2 (or set opts.head_size)",
                   query.rank(), positions.rank() + 2);
    head_size = query.dim(-1);
    if (head_size == 0) query.refuse("has last extent 0, expected a head_size of at least 1");
  }

  RotaryEmbeddingArgs args{};
  RopeAngles& a = args.angles;
  a.parts = a.axes = 1;
  a.pairs_interleaved = opts.interleaved != 0;
  a.tables[0] = rope_table(cos, sin);
  rope_set_tables(a, cos, false);
  if (a.pairs > head_size / 2)
    cos.refuse("has width %lld, expected at most half of head_size = %lld",
               static_cast<long long>(a.pairs), static_cast<long long>(head_size));
  for (const Arg* t : {&positions, &cos}) t->on_device_of(query);

  Sides sides(check, args, query, positions, positions.rank(), "positions'", head_size);
  sides.add(query, "query_out", query_out_);
  if (key)
    sides.add(key, "key_out", key_out_);
  else
    check.require(!key_out_, "key_out is given, expected NULL as key is");

  a.rows_from = RopeRows::kPositions;
  a.positions = positions.data(), a.positions_dtype = positions.dtype();
  a.positions_rows = positions.rows(0);
  args.tokens = a.tokens = positions.elements();
  args.part_size = head_size;
  args.dtype = query.dtype();
  args.nope_first = opts.nope_first != 0;
  rope_check_positions(check, a, positions);
  run(args, query.device(), stream, opts.flags);
}

// Fills in where the rows of the tables come from; x has `lead` leading dimensions.
void set_rows(const Check& check, RotaryEmbeddingArgs& args, const aiter_rope_opts& opts,
              const Arg& x, int lead, const aiter_tensor* positions_, const Arg& offsets) {
  RopeAngles& a = args.angles;
  const Arg positions = check.optional("positions", positions_);
  if (positions) {
    positions.dtype({DType::kI32, DType::kI64}).on_device_of(x);
    a.positions = positions.data(), a.positions_dtype = positions.dtype();
  }
  check.require(!offsets || opts.rows == AITER_ROPE_POSITIONS,
                "offsets is given, expected NULL unless opts.rows is AITER_ROPE_POSITIONS");
  a.rows_from = static_cast<RopeRows>(opts.rows);
  switch (opts.rows) {
    case AITER_ROPE_SEQUENCE:
      check.require(!positions, "positions is given, expected NULL for rows by sequence");
      a.per_row = x.dim(0) ? std::max<int64_t>(a.tokens / x.dim(0), 1) : 1;
      a.lines = std::max<int64_t>(x.dim(0), 1);
      check.require(x.dim(0) <= a.tables[0].rows, "cos has %lld rows, expected at least x's %lld",
                    static_cast<long long>(a.tables[0].rows), static_cast<long long>(x.dim(0)));
      return;
    case AITER_ROPE_POSITIONS:
      rope_set_positions(check, a, x, lead, positions_, offsets);
      return rope_check_positions(check, a, positions);
    case AITER_ROPE_SEQUENCES:
      check.require(bool(positions), "positions is NULL, expected the bounds of sequences");
      positions.rank(1);
      if (positions.dim(0) < 1) positions.refuse("has extent 0, expected at least 1");
      a.sequences = positions.dim(0) - 1;
      a.positions_rows = {positions.dim(0), positions.dim(0), 0, positions.stride(0)};
      return rope_check_positions(check, a, positions);
    case AITER_ROPE_GRID:
      check.require(bool(positions), "positions is NULL, expected the sizes of grids");
      check.require(lead == 2, "x has %d leading dimensions, expected 2: batch, tokens", lead);
      check.require(opts.first_token >= 0 && opts.first_token < int64_t{1} << 40,
                    "opts.first_token is %lld, expected 0 to 2^40 - 1",
                    static_cast<long long>(opts.first_token));
      positions.shape({x.dim(0), 3});
      a.per_row = std::max<int64_t>(x.dim(1), 1);
      a.first_token = opts.first_token;
      a.positions_rows = {x.dim(0), std::max<int64_t>(x.dim(0), 1), 0, positions.stride(0)};
      a.axis_stride = positions.stride(1);
      if (a.axes != 3)
        check.require(false, "opts.sections are %lld, %lld, %lld, expected those of a grid",
                      static_cast<long long>(opts.section0), static_cast<long long>(opts.section1),
                      static_cast<long long>(opts.section2));
      return rope_check_positions(check, a, positions);
    default:  // AITER_ROPE_IMAGE
      check.require(!positions, "positions is given, expected NULL for the rows of an image");
      check.require(lead == 2, "x has %d leading dimensions, expected 2: batch, tokens", lead);
      check.require(opts.height > 0 && opts.width > 0 && opts.height <= a.tables[0].rows &&
                        opts.width <= a.tables[1].rows,
                    "opts.height is %lld and opts.width %lld, expected 1 to the rows of cos, %lld, "
                    "and cos_w, %lld",
                    static_cast<long long>(opts.height), static_cast<long long>(opts.width),
                    static_cast<long long>(a.tables[0].rows),
                    static_cast<long long>(a.tables[1].rows));
      check.require(
          opts.height <= (int64_t{1} << 56) / opts.width && opts.height * opts.width == x.dim(1),
          "x has %lld tokens, expected opts.height * opts.width = %lld * %lld",
          static_cast<long long>(x.dim(1)), static_cast<long long>(opts.height),
          static_cast<long long>(opts.width));
      a.per_row = opts.width, a.lines = opts.height;
  }
}

void rope(const aiter_tensor* x_, const aiter_tensor* y_, const aiter_tensor* cos_,
          const aiter_tensor* sin_, const aiter_tensor* cos_w_, const aiter_tensor* sin_w_,
          const aiter_tensor* positions_, const aiter_tensor* offsets_, const aiter_tensor* x_out_,
          const aiter_tensor* y_out_, const aiter_rope_opts* opts_, aiter_stream stream) {
  const Check check("rope");
  const auto opts = check.options<aiter_rope_opts>(opts_, AITER_ROPE_OPTS_INIT);
  check.require(opts.rows >= AITER_ROPE_SEQUENCE && opts.rows <= AITER_ROPE_IMAGE,
                "opts.rows is %d, expected an aiter_rope_rows, 0 to 4", opts.rows);
  const bool image = opts.rows == AITER_ROPE_IMAGE;
  const Arg x = check.tensor("x", x_);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16});
  check.require(opts.head_size >= 0, "opts.head_size is %lld, expected at least 0",
                static_cast<long long>(opts.head_size));
  const int tail = opts.head_size ? 1 : 2;  // dimensions of a token
  x.min_rank(tail + 1);
  const Arg y = check.optional("y", y_);
  const Arg cos = check.tensor("cos", cos_), sin = check.optional("sin", sin_);
  const Arg cos_w = check.optional("cos_w", cos_w_), sin_w = check.optional("sin_w", sin_w_);
  check.require(bool(cos_w) == image && bool(sin_w) == (image && sin),
                "cos_w and sin_w are %s, expected %s", cos_w || sin_w ? "given" : "NULL",
                image ? "tables for the columns of the image, sin_w where sin is"
                      : "NULL unless opts.rows is AITER_ROPE_IMAGE");

  RotaryEmbeddingArgs args{};
  RopeAngles& a = args.angles;
  a.pairs_interleaved = opts.interleaved != 0;
  a.inverse = opts.inverse != 0;
  a.parts = image ? 2 : 1;
  cos.on_device_of(x);
  a.tables[0] = rope_table(cos, sin);
  rope_set_tables(a, cos, opts.full_width != 0);
  if (image) {
    cos_w.dtype_of(cos).on_device_of(x);
    if (cos_w.rank() > 0 && cos_w.dim(-1) != cos.dim(-1))
      cos_w.refuse("has width %lld, expected cos' %lld", static_cast<long long>(cos_w.dim(-1)),
                   static_cast<long long>(cos.dim(-1)));
    a.tables[1] = rope_table(cos_w, sin_w);
  }
  const int64_t head_size = opts.head_size ? opts.head_size : x.dim(-1);
  check.require(head_size >= a.parts && head_size % a.parts == 0,
                "x has head_size %lld, expected at least %d%s", static_cast<long long>(head_size),
                a.parts, image ? ", even" : "");
  args.part_size = head_size / a.parts;
  if (a.pairs > args.part_size / 2)
    cos.refuse("turns %lld dimensions, expected at most %s, %lld",
               static_cast<long long>(2 * a.pairs), image ? "half of head_size" : "head_size",
               static_cast<long long>(args.part_size));

  rope_set_sections(check, a, {opts.section0, opts.section1, opts.section2},
                    opts.sections_interleaved != 0);
  check.require(
      a.axes == 1 || opts.rows == AITER_ROPE_POSITIONS || opts.rows == AITER_ROPE_GRID,
      "opts.sections are given, expected zeros unless opts.rows is AITER_ROPE_POSITIONS or "
      "AITER_ROPE_GRID");
  if (image) a.axes = 2;

  Sides sides(check, args, x, x, x.rank() - tail, "x's", head_size);
  sides.add(x, "x_out", x_out_);
  if (y) {
    y.rank(x.rank());
    sides.add(y, "y_out", y_out_);
  } else {
    check.require(!y_out_, "y_out is given, expected NULL as y is");
  }
  args.tokens = a.tokens = x.rows(tail).count;
  args.dtype = x.dtype();
  args.nope_first = opts.nope_first != 0;
  set_rows(check, args, opts, x, x.rank() - tail, positions_, check.optional("offsets", offsets_));
  run(args, x.device(), stream, opts.flags);
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

extern "C" aiter_status aiter_rope(const aiter_tensor* x, const aiter_tensor* y,
                                   const aiter_tensor* cos, const aiter_tensor* sin,
                                   const aiter_tensor* cos_w, const aiter_tensor* sin_w,
                                   const aiter_tensor* positions, const aiter_tensor* offsets,
                                   const aiter_tensor* x_out, const aiter_tensor* y_out,
                                   const aiter_rope_opts* opts, aiter_stream stream) {
  return aiter::entry("rope", [&] {
    aiter::rope(x, y, cos, sin, cos_w, sin_w, positions, offsets, x_out, y_out, opts, stream);
  });
}
