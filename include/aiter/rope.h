/* Rotary position embedding (Su et al. 2021). */
#ifndef AITER_ROPE_H_
#define AITER_ROPE_H_

#include "aiter/device.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

typedef struct aiter_rotary_embedding_opts {
  uint32_t struct_size;
  uint32_t flags;
  int64_t head_size; /* needed where heads are not a dimension of their own; 0 = the last extent */
  int32_t interleaved; /* 0 = neox: i turns with i + R/2; nonzero = gptj: 2 i turns with 2 i + 1 */
  int32_t nope_first;  /* nonzero: the last R dimensions of a head turn, instead of the first R */
} aiter_rotary_embedding_opts;

#define AITER_ROTARY_EMBEDDING_OPTS_INIT {sizeof(aiter_rotary_embedding_opts), 0, 0, 0, 0}

/* Turns the pairs (a, b) of each head: a' = a cos - b sin, b' = b cos + a sin, with cos and sin of
 * the token's position and the pair's index. R = 2 * (width of the caches) <= head_size dimensions
 * turn, the rest is copied.
 *
 * positions: (...) int32 | int64, in [0, max_position). On the CPU any other value is refused before
 *            anything is written; on a GPU, where it cannot be reported, its token does not turn: it
 *            is copied.
 * query: (..., heads * head_size) or (..., heads, head_size), bf16 | f16 | f32.
 * key:   like query with its own number of heads, query's dtype; or NULL.
 * cos_cache, sin_cache: (max_position, R/2) or (max_position, 1, 1, R/2), f32 | f16 | bf16.
 * query_out, key_out: like query and key, and may be these (in place). key_out is NULL with key.
 * Last strides are 1. Heads and tokens may be strided (slices of a fused QKV tensor) as long as the
 * leading dimensions fold into two. Tokens and heads may be 0: nothing is written. fp32 inside.
 * Accuracy: aiter.testing.bound of the dtype, relative to |a| + |b|.
 * Source: AITER rotary_embedding_fwd (in place there). @since 0.1 unstable */
AITER_API aiter_status aiter_rotary_embedding(
    const aiter_tensor* positions, const aiter_tensor* query, const aiter_tensor* key,
    const aiter_tensor* cos_cache, const aiter_tensor* sin_cache, const aiter_tensor* query_out,
    const aiter_tensor* key_out, const aiter_rotary_embedding_opts* opts, aiter_stream stream);

/* Which row of the tables turns a token. */
typedef enum aiter_rope_rows {
  AITER_ROPE_SEQUENCE = 0,  /* its index in the first dimension of x */
  AITER_ROPE_POSITIONS = 1, /* positions (+ offsets) */
  AITER_ROPE_SEQUENCES = 2, /* its index in its sequence; positions has the bounds of sequences */
  AITER_ROPE_GRID = 3,      /* its frame, line and column; positions has the sizes of videos */
  AITER_ROPE_IMAGE = 4,     /* its line for the first half of a head, its column for the second */
  AITER_ROPE_ROWS_MAX_ENUM = 0x7fffffff
} aiter_rope_rows;

typedef struct aiter_rope_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t rows;        /* aiter_rope_rows */
  int32_t interleaved; /* 0 = neox: i turns with i + R/2; nonzero = gptj: 2 i turns with 2 i + 1 */
  int32_t nope_first;  /* nonzero: the last R dimensions turn, instead of the first R */
  int32_t full_width;  /* nonzero: the tables have a column for each of the R elements (AITER's
                          reuse_freqs_front_part = false), else one for each of the R/2 pairs */
  int32_t inverse;     /* nonzero: the transposed matrix, which turns back: the gradient */
  int32_t sections_interleaved; /* how sections are laid out, see below */
  int64_t head_size;            /* of heads that are no dimension of their own; 0 = they are */
  int64_t section0, section1, section2; /* pairs that turn by the first, second, third position */
  int64_t height, width;                /* AITER_ROPE_IMAGE */
  int64_t first_token;                  /* AITER_ROPE_GRID: index of the first token of x */
} aiter_rope_opts;

#define AITER_ROPE_OPTS_INIT {sizeof(aiter_rope_opts), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* The same rotation for every layout of tokens and tables: for a pair (a, b) of a head
 *   a' = a cos_a - b sin_a, b' = b cos_b + a sin_b
 * with the table's columns of a and b (one and the same unless opts.full_width); inverse:
 *   a' = a cos_a + b sin_b, b' = b cos_b - a sin_a.
 * The R dimensions that have columns turn, the rest is copied.
 *
 * x: (..., heads, head_size), or (..., heads * head_size) with opts.head_size, bf16 | f16 | f32; the
 *    last stride is 1, the leading dimensions, one or more, fold into two.
 * y: like x with its own number of heads, or NULL.
 * cos, sin: (rows, R) or (rows, R/2) f32 | f16 | bf16, with dimensions of extent 1 anywhere before
 *    the last. sin NULL: cos has angles, in radians, accurate up to 2^23.
 * x_out, y_out: like x and y, and may be these.
 *
 * The row of a token, by opts.rows:
 * SEQUENCE:  its index in x's first dimension (S, B, heads, head_size); rows >= S.
 * POSITIONS: positions[token] + offsets[token]; both int32 or int64 of the shape of the leading
 *            dimensions of x, offsets or NULL. With sections, positions is (3, ...): pair p turns by
 *            the position of its section. Sections follow each other, or, interleaved, the pairs
 *            p % 3 == 1 below 3 section1 turn by the second position, p % 3 == 2 below 3 section2
 *            by the third, all others by the first. Sections sum to R/2.
 * SEQUENCES: positions (n + 1) int32 | int64 are bounds: token t of sequence i, positions[i] <= t <
 *            positions[i + 1], takes row t - positions[i]. Other tokens do not turn.
 * GRID:      x is (batch, tokens, heads, head_size), positions (batch, 3) has each video's frames,
 *            lines and columns; token t is number t + opts.first_token of it, in row-major order;
 *            sections as for POSITIONS, of frame, line and column. Tokens past it do not turn.
 * IMAGE:     x is (batch, height * width, heads, head_size); the first half of a head turns by line
 *            with the tables cos and sin, the second by column with cos_w and sin_w, each as if a
 *            head of its own. In all other cases cos_w and sin_w are NULL.
 *
 * A row outside of the table is an error on the CPU, before anything is written. On a GPU, where it
 * cannot be reported, the token does not turn: it is copied. Memory outside of the tables is read in
 * no case. Tokens and heads may be 0. fp32 inside.
 * Accuracy: aiter.testing.bound of the dtype, relative to |a| + |b|, times the largest |cos|, |sin|.
 * Source: AITER rope_fwd, rope_cached_fwd, rope_cached_positions_2c_fwd, rope_thd_fwd, rope_2d_fwd,
 * rope_fwd_3d and their kin. @since 0.1 unstable */
AITER_API aiter_status aiter_rope(const aiter_tensor* x, const aiter_tensor* y,
                                  const aiter_tensor* cos, const aiter_tensor* sin,
                                  const aiter_tensor* cos_w, const aiter_tensor* sin_w,
                                  const aiter_tensor* positions, const aiter_tensor* offsets,
                                  const aiter_tensor* x_out, const aiter_tensor* y_out,
                                  const aiter_rope_opts* opts, aiter_stream stream);

typedef struct aiter_fused_qk_norm_rope_opts {
  uint32_t struct_size;
  uint32_t flags;
  float eps;                            /* added to the mean square */
  int32_t norm;                         /* nonzero: q and k are normalized */
  int32_t gemma;                        /* nonzero: by (1 + weight) */
  int32_t interleaved;                  /* as in aiter_rope_opts */
  int32_t nope_first;                   /* as in aiter_rope_opts */
  int32_t sections_interleaved;         /* as in aiter_rope_opts */
  int64_t section0, section1, section2; /* as in aiter_rope_opts */
} aiter_fused_qk_norm_rope_opts;

#define AITER_FUSED_QK_NORM_ROPE_OPTS_INIT \
  {sizeof(aiter_fused_qk_norm_rope_opts), 0, 1e-6f, 0, 0, 0, 0, 0, 0, 0, 0}

/* An RMS norm of each head of q and k, then their rotation, in one pass; v is copied:
 *   q_out = rope(rms_norm(q, q_weight)), k_out = rope(rms_norm(k, k_weight)), v_out = v
 * with each step rounded to q's dtype, as aiter_rmsnorm and aiter_rope of their own would.
 *
 * q: (..., heads, dim) bf16 | f16 | f32, dim 1 to 1024; k, v: like q in dtype and leading dimensions,
 *    with their own heads and dims; v or NULL. Last strides are 1, the leading dimensions, one or
 *    more, fold into two: slices of a fused QKV tensor will do.
 * q_weight, k_weight: (dim), q's dtype or f32, contiguous; NULL = ones. Given with opts.norm alone.
 * cos, sin: (rows, R/2) f32 | f16 | bf16, with dimensions of extent 1 anywhere before the last, R/2 at
 *    most half of both dims; both NULL: nothing turns.
 * positions: int32 | int64 of the shape of the leading dimensions, or (3, ...) with sections; NULL:
 *    token t, counted through all leading dimensions, takes row t % rows.
 * q_out, k_out, v_out: like q, k, v, and may be these (in place).
 * A position outside of the table: as for aiter_rope. Tokens and heads may be 0. Sums in fp32, their
 * order depends on the row. Accuracy: aiter.testing.bound(dtype, dim), three roundings.
 * Source: AITER fused_qk_norm_rope_1way, fused_qkv_split_qk_rope. @since 0.1 unstable */
AITER_API aiter_status aiter_fused_qk_norm_rope(
    const aiter_tensor* q, const aiter_tensor* k, const aiter_tensor* v,
    const aiter_tensor* q_weight, const aiter_tensor* k_weight, const aiter_tensor* cos,
    const aiter_tensor* sin, const aiter_tensor* positions, const aiter_tensor* q_out,
    const aiter_tensor* k_out, const aiter_tensor* v_out, const aiter_fused_qk_norm_rope_opts* opts,
    aiter_stream stream);

AITER_END_DECLS

#endif /* AITER_ROPE_H_ */
