/* The paged cache of keys and values. */
#ifndef AITER_KVCACHE_H_
#define AITER_KVCACHE_H_

#include "aiter/device.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

/* Scales of a cache that holds codes (int8 or an 8-bit float); the number is code * scale. */
typedef enum aiter_cache_quant {
  AITER_CACHE_QUANT_STATIC = 0,    /* given */
  AITER_CACHE_QUANT_PER_TOKEN = 1, /* computed, one for each token and head */
  AITER_CACHE_QUANT_PER_PAGE = 2,  /* one for each page and head; for reading */
  AITER_CACHE_QUANT_MAX_ENUM = 0x7fffffff
} aiter_cache_quant;

typedef struct aiter_reshape_and_cache_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t quant;           /* aiter_cache_quant */
  aiter_dtype cache_dtype; /* dtype of caches that are uint8 tensors; bits = 0: as they say */
  int32_t preshuffle;      /* of MLA, see aiter_concat_and_cache_mla */
  int32_t reserved;
} aiter_reshape_and_cache_opts;

#define AITER_RESHAPE_AND_CACHE_OPTS_INIT \
  {sizeof(aiter_reshape_and_cache_opts), 0, AITER_CACHE_QUANT_STATIC, {0, 0, 0}, 0, 0}

/* cache[slot s = slot_mapping[t], head h] = key[t, h, :], and value likewise; s is slot s % block
 * of page s / block.
 *
 * key:          (tokens, heads, head_dim) f32 | f16 | bf16, or codes that are copied.
 * value:        (tokens, heads, v_dim) like key; v_dim may differ from head_dim.
 * key_cache, value_cache: one of three layouts,
 *   flash       (pages, block, heads, head_dim) and (pages, block, heads, v_dim)
 *   vectorized  (pages, heads, head_dim / x, block, x) and (pages, heads, v_dim, block)
 *   asm         (pages, heads, head_dim / x, block, x) and (pages, heads, block / x, v_dim, x)
 *   with x a power of two (AITER: 16 bytes of elements). Of key's dtype; f16 | bf16 under an f32
 *   key (rounded to nearest even); or int8 | float8_e4m3fn | _e4m3fnuz | _e5m2 | _e5m2fnuz, codes
 *   of the arithmetic of aiter_quantize. All last strides are 1, all others free: a flash cache
 *   that lies in memory as (pages, heads, block, head_dim) is passed as a transposed view.
 * slot_mapping: (n) int64 | int32, stride 1, n <= tokens; rows of key from n on are padding. A
 *   negative slot skips its token. A slot >= pages * block is an error on the CPU, before anything
 *   is written; on a GPU, where it cannot be reported, its token is skipped. Memory outside the
 *   caches is touched in no case. A slot that is named twice gets numbers of either token.
 * k_scale, v_scale: for caches of codes, f32. STATIC: (1) or (heads), read; NULL = 1. PER_TOKEN:
 *   (heads, slots >= pages * block) or (pages, heads, block), any strides, written for the slots
 *   that are named.
 *
 * The caches are updated in place; slots that are not named keep their bits. Any dimension may be
 * 0. Exact: bits are copied when the dtypes agree, and codes are those of aiter_quantize with
 * static scales or one group a head. Source: vLLM and AITER reshape_and_cache,
 * reshape_and_cache_flash, reshape_and_cache_with_pertoken_quant. @since 0.1 unstable */
AITER_API aiter_status aiter_reshape_and_cache(
    const aiter_tensor* key, const aiter_tensor* value, const aiter_tensor* key_cache,
    const aiter_tensor* value_cache, const aiter_tensor* slot_mapping, const aiter_tensor* k_scale,
    const aiter_tensor* v_scale, const aiter_reshape_and_cache_opts* opts, aiter_stream stream);

typedef struct aiter_reshape_and_cache_with_block_quant_opts {
  uint32_t struct_size;
  uint32_t flags;
  int64_t page_slots;      /* slots that share a scale: a multiple of block; 0 = block */
  aiter_dtype cache_dtype; /* dtype of caches that are uint8 tensors; bits = 0: as they say */
} aiter_reshape_and_cache_with_block_quant_opts;

#define AITER_RESHAPE_AND_CACHE_WITH_BLOCK_QUANT_OPTS_INIT \
  {sizeof(aiter_reshape_and_cache_with_block_quant_opts), 0, 0, {0, 0, 0}}

/* aiter_reshape_and_cache into caches of codes, with one scale for each page and head. When later
 * tokens need a larger one, the codes that are there already are rescaled.
 *
 * key, value: (tokens, heads, head_dim) and (tokens, heads, v_dim) f32 | f16 | bf16.
 * key_cache, value_cache: int8 or an 8-bit float, in a layout of aiter_reshape_and_cache.
 * k_scale, v_scale: (heads, scaled pages) f32, any strides. A scaled page is opts.page_slots (at
 * most 8192) neighbouring slots, which are a page of the caches or several. slot_mapping: as above;
 * tokens < 2^24; of tokens with the same slot the last one counts.
 *
 * For a scaled page of which the call names slots, and each head: s = max(1e-6, amax) / max(codes),
 * with amax over the page's tokens of this call as in aiter_quantize. If the page's slot 0 is
 * named, the page begins anew with s. Otherwise, if s exceeds the scale that is there (or that is
 * NaN), it takes its place, and the codes of all slots of the page that are not named become code *
 * (old / s), rounded likewise. The tokens' codes are those of aiter_quantize with the page's scale.
 * Other pages keep their bits. Exact, in fp32, and independent of the order of pages. Source: AITER
 * reshape_and_cache_with_block_quant, ..._for_asm_pa. @since 0.1 unstable */
AITER_API aiter_status aiter_reshape_and_cache_with_block_quant(
    const aiter_tensor* key, const aiter_tensor* value, const aiter_tensor* key_cache,
    const aiter_tensor* value_cache, const aiter_tensor* k_scale, const aiter_tensor* v_scale,
    const aiter_tensor* slot_mapping, const aiter_reshape_and_cache_with_block_quant_opts* opts,
    aiter_stream stream);

/* A token's row of an MLA cache: [kv_c | k_pe] at its slot, as aiter_reshape_and_cache would write
 * it.
 *
 * kv_c: (tokens, latent) or (tokens, heads, latent); k_pe: (tokens, rope) or (tokens, heads, rope),
 * of kv_c's dtype; last strides are 1.
 * kv_cache: (pages, block, latent + rope) or (pages, block, heads, latent + rope), last stride 1;
 * or (pages, block * (latent + rope)) in segments: the page's kv_c, then its k_pe. Or, with
 *   opts.preshuffle, (pages, heads, block, latent + rope) without gaps in a head: its kv_c in tiles
 *   of 16 slots x 16 bytes, tiles of the same slots side by side, then its k_pe likewise; block is a
 *   multiple of 16. Dtypes as for aiter_reshape_and_cache. Or NVFP4, with opts.preshuffle and fp4
 *   codes by its dtype or opts.cache_dtype: (pages, heads, block, (latent + rope) / 16 * 9) bytes
 *   without gaps in a head, which are the codes of kv_c in such tiles, its scales, the codes of k_pe,
 *   its scales. Scales are float8_e4m3fn of 16 dims each, as those of aiter_quantize: for each 128
 *   slots and W = min(16, dims / 16) scales, (32, 4, W), slot 32 * i + j at (j, i). block is a
 *   multiple of 128; latent and rope are powers of two from 32 on or multiples of 256.
 * scale: (1) f32 for a cache of codes, of NVFP4 the global scale, or NULL for 1. opts.quant: STATIC.
 * Source: AITER concat_and_cache_mla, concat_and_cache_mla_seg, cat_and_cache_mla. @since 0.1
 * unstable */
AITER_API aiter_status aiter_concat_and_cache_mla(
    const aiter_tensor* kv_c, const aiter_tensor* k_pe, const aiter_tensor* kv_cache,
    const aiter_tensor* slot_mapping, const aiter_tensor* scale,
    const aiter_reshape_and_cache_opts* opts, aiter_stream stream);

typedef struct aiter_indexer_cache_opts {
  uint32_t struct_size;
  uint32_t flags;
  int64_t quant_block_size; /* dims that share a scale; 0 = all */
  int32_t ue8m0;            /* nonzero: scales are powers of two, the next above amax / max */
  int32_t preshuffle;       /* nonzero: codes lie in tiles of 16 slots x 16 dims */
  aiter_dtype cache_dtype;  /* what a cache of uint8 holds; bits = 0: float8_e4m3fn */
} aiter_indexer_cache_opts;

#define AITER_INDEXER_CACHE_OPTS_INIT {sizeof(aiter_indexer_cache_opts), 0, 0, 0, 0, {0, 0, 0}}

/* Keys of the sparse-attention indexer as codes with scales of max(amax, 1e-4) / max(codes).
 *
 * k:        (tokens, head_dim) f32 | f16 | bf16, last stride 1.
 * kv_cache: (pages, block, bytes >= head_dim + 4 * head_dim / quant_block_size) of an 8-bit float
 * or uint8. A page, without gaps, holds the codes of all its slots and then their scales, f32, at
 * multiples of 4 bytes; what is left at its end is not touched. slot_mapping: as for
 * aiter_reshape_and_cache. Codes are those of aiter_quantize with that scale. Source: AITER and
 * vLLM indexer_k_quant_and_cache. @since 0.1 unstable */
AITER_API aiter_status aiter_indexer_k_quant_and_cache(const aiter_tensor* k,
                                                       const aiter_tensor* kv_cache,
                                                       const aiter_tensor* slot_mapping,
                                                       const aiter_indexer_cache_opts* opts,
                                                       aiter_stream stream);

typedef struct aiter_gather_cache_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t quant; /* aiter_cache_quant: which scales are given */
  int32_t reserved;
  int64_t page_slots;      /* PER_PAGE: slots that share a scale; 0 = block */
  aiter_dtype cache_dtype; /* dtype of caches that are uint8 tensors; bits = 0: as they say */
} aiter_gather_cache_opts;

#define AITER_GATHER_CACHE_OPTS_INIT \
  {sizeof(aiter_gather_cache_opts), 0, AITER_CACHE_QUANT_STATIC, 0, 0, {0, 0, 0}}

/* The inverse of aiter_reshape_and_cache: token i of sequence b, in slot i % block of page
 * block_table[b, i / block], becomes row cu_seqlens[b] + i of key and of value.
 *
 * key_cache, value_cache: as for aiter_reshape_and_cache; value_cache and value may both be NULL.
 * block_table: (sequences, n) int32 | int64, last stride 1. cu_seqlens: (sequences + 1) int32 |
 *   int64, stride 1, from 0 on and never falling.
 * key: (tokens, heads, head_dim), value: (tokens, heads, v_dim), last strides 1: of the caches'
 *   dtype, then bits are copied; or f32 | f16 | bf16 for codes, then code * scale, in fp32. Rows
 *   from the last of cu_seqlens on are not written.
 * k_scale, v_scale: f32. STATIC: (1) or (heads), NULL = 1. PER_TOKEN: (heads, slots) or (pages,
 *   heads, block). PER_PAGE: (heads, scaled pages).
 * A page outside of the cache, or a table that is too short, is an error on the CPU, before
 * anything is written; on a GPU such a token becomes 0. @since 0.1 unstable */
AITER_API aiter_status aiter_gather_cache(const aiter_tensor* key_cache,
                                          const aiter_tensor* value_cache,
                                          const aiter_tensor* block_table,
                                          const aiter_tensor* cu_seqlens,
                                          const aiter_tensor* k_scale, const aiter_tensor* v_scale,
                                          const aiter_tensor* key, const aiter_tensor* value,
                                          const aiter_gather_cache_opts* opts, aiter_stream stream);

/* The inverse of aiter_indexer_k_quant_and_cache, of the sequences in block_table.
 *
 * dst_k: (tokens, head_dim) of kv_cache's dtype or uint8; dst_scale: (tokens, head_dim /
 * quant_block_size) f32; last strides 1. opts: preshuffle as written. The rest as for
 * aiter_gather_cache. Source: AITER and vLLM cp_gather_indexer_k_quant_cache. @since 0.1 unstable
 */
AITER_API aiter_status aiter_cp_gather_indexer_k_quant_cache(
    const aiter_tensor* kv_cache, const aiter_tensor* dst_k, const aiter_tensor* dst_scale,
    const aiter_tensor* block_table, const aiter_tensor* cu_seqlens,
    const aiter_indexer_cache_opts* opts, aiter_stream stream);

typedef struct aiter_copy_blocks_opts {
  uint32_t struct_size;
  uint32_t flags;
} aiter_copy_blocks_opts;

#define AITER_COPY_BLOCKS_OPTS_INIT {sizeof(aiter_copy_blocks_opts), 0}

/* Page block_mapping[i, 1] becomes page block_mapping[i, 0], in both caches.
 *
 * key_cache, value_cache: (pages, ...) of any dtype and layout whose pages have no gaps;
 * value_cache may be NULL. block_mapping: (n, 2) int64 | int32 on the caches' device. No page may
 * be written twice, or be written and read. A page outside of the caches is an error on the CPU,
 * before anything is written; on a GPU its pair is skipped. Source: AITER copy_blocks. @since 0.1
 * unstable */
AITER_API aiter_status aiter_copy_blocks(const aiter_tensor* key_cache,
                                         const aiter_tensor* value_cache,
                                         const aiter_tensor* block_mapping,
                                         const aiter_copy_blocks_opts* opts, aiter_stream stream);

/* Page block_mapping[i, 1] of dst becomes page block_mapping[i, 0] of src, another cache.
 *
 * src, dst: (pages, ...) of one dtype and page shape, without gaps in a page; each in host memory
 * or on a GPU, the same if both are. block_mapping: (n, 2) int64 | int32 in host memory; pages
 * outside are an error before anything is written. With a GPU the copies are queued on the stream,
 * in order; those of neighbouring pages are one. Source: AITER and vLLM swap_blocks. @since 0.1
 * unstable */
AITER_API aiter_status aiter_swap_blocks(const aiter_tensor* src, const aiter_tensor* dst,
                                         const aiter_tensor* block_mapping,
                                         const aiter_copy_blocks_opts* opts, aiter_stream stream);

typedef struct aiter_fused_qk_rope_cache_opts {
  uint32_t struct_size;
  uint32_t flags;
  int32_t interleaved;     /* 0 = neox: i turns with i + R/2; nonzero = gptj: 2 i with 2 i + 1 */
  int32_t nope_first;      /* nonzero: the last R dims of a head turn, instead of the first R */
  int32_t rope_first;      /* MLA, nonzero: rows are [k_pe | kv_c], instead of [kv_c | k_pe] */
  aiter_dtype cache_dtype; /* what uint8 tensors (caches, q_out of MLA) hold; bits = 0: uint8 */
  int32_t full_width;      /* as in aiter_rope_opts */
  int32_t sections_interleaved;         /* as in aiter_rope_opts */
  int64_t section0, section1, section2; /* as in aiter_rope_opts */
  float eps;                            /* of the norm: added to the mean square */
  int32_t norm;                         /* nonzero: q and key are normalized before they turn */
  int32_t gemma;                        /* nonzero: by (1 + weight) */
  int32_t quant;                        /* aiter_cache_quant, of caches of codes */
  int64_t page_slots;                   /* PER_PAGE: slots that share a scale; 0 = block */
} aiter_fused_qk_rope_cache_opts;

#define AITER_FUSED_QK_ROPE_CACHE_OPTS_INIT \
  {sizeof(aiter_fused_qk_rope_cache_opts),  \
   0,                                       \
   0,                                       \
   0,                                       \
   0,                                       \
   {0, 0, 0},                               \
   0,                                       \
   0,                                       \
   0,                                       \
   0,                                       \
   0,                                       \
   1e-6f,                                   \
   0,                                       \
   0,                                       \
   AITER_CACHE_QUANT_STATIC,                \
   0}

/* An RMS norm of each head of q and key, if opts.norm, their rotation, and the write of key and
 * value into the caches, in one pass: aiter_fused_qk_norm_rope, then aiter_reshape_and_cache or, with
 * PER_PAGE, aiter_reshape_and_cache_with_block_quant (in two).
 *
 * q: (tokens, q_heads, head_dim) f32 | f16 | bf16; key: (tokens, heads, head_dim), value: (tokens,
 * heads, v_dim) of q's dtype; last strides are 1; head_dim <= 1024.
 * key_cache, value_cache, slot_mapping, k_scale, v_scale: as for these operators; caches of q's
 * dtype or of codes.
 * q_weight, k_weight: (head_dim), q's dtype or f32, contiguous; NULL = ones. Given with opts.norm
 * alone.
 * positions: (tokens) int32 | int64 in [0, max_position), or (3, tokens) with sections; NULL: token
 * t takes row t % max_position. On the CPU any other value is refused before anything is written;
 * on a GPU such a token does not turn. cos_cache, sin_cache: (max_position, R/2), or R with
 * full_width, R <= head_dim, f32 | f16 | bf16; both NULL: nothing turns.
 * q_out: like q, written for every token; key_out, value_out: what goes to the caches, like key and
 * value, or of the caches' dtype with STATIC scales: then the codes; or NULL. They may be q, key and
 * value. PER_PAGE needs key_out. Norm and rotation are in fp32, each rounded to q's dtype before
 * codes are made, as by the operators alone. Source: AITER fused_qk_rope_reshape_and_cache,
 * fused_qk_norm_rope_cache_quant_shuffle, ..._pts_quant_shuffle, ..._block_quant_shuffle,
 * fused_qk_norm_mrope_3d_cache_pts_quant_shuffle. @since 0.1 unstable */
AITER_API aiter_status aiter_fused_qk_rope_reshape_and_cache(
    const aiter_tensor* q, const aiter_tensor* key, const aiter_tensor* value,
    const aiter_tensor* key_cache, const aiter_tensor* value_cache,
    const aiter_tensor* slot_mapping, const aiter_tensor* k_scale, const aiter_tensor* v_scale,
    const aiter_tensor* q_weight, const aiter_tensor* k_weight, const aiter_tensor* positions,
    const aiter_tensor* cos_cache, const aiter_tensor* sin_cache, const aiter_tensor* q_out,
    const aiter_tensor* key_out, const aiter_tensor* value_out,
    const aiter_fused_qk_rope_cache_opts* opts, aiter_stream stream);

/* q_out = [q_nope | turned q_pe], and [kv_c | turned k_pe] into an MLA cache, in one pass.
 *
 * q_nope: (tokens, q_heads, latent) f32 | f16 | bf16; q_pe: (tokens, q_heads, rope); kv_c, k_pe,
 * kv_cache, slot_mapping: as for aiter_concat_and_cache_mla, of q_nope's dtype, the cache also of
 * codes. q_out: (tokens, q_heads, at least latent + rope) of q_nope's dtype or of the cache's codes,
 * written for every token; what is behind stays. k_scale, q_scale: (1) f32 for codes, or NULL for
 * 1. R is at most rope. The rest as above. Source: AITER fused_qk_rope_concat_and_cache_mla, ..._seg. @since
 * 0.1 unstable */
AITER_API aiter_status aiter_fused_qk_rope_concat_and_cache_mla(
    const aiter_tensor* q_nope, const aiter_tensor* q_pe, const aiter_tensor* kv_c,
    const aiter_tensor* k_pe, const aiter_tensor* kv_cache, const aiter_tensor* slot_mapping,
    const aiter_tensor* k_scale, const aiter_tensor* q_scale, const aiter_tensor* positions,
    const aiter_tensor* cos_cache, const aiter_tensor* sin_cache, const aiter_tensor* q_out,
    const aiter_fused_qk_rope_cache_opts* opts, aiter_stream stream);

/* The order of the scales of aiter_inverse_rope_group_quant, for `columns` scales a row. */
typedef enum aiter_group_scales {
  AITER_SCALES_ROW = 0, /* (tokens, rows, columns) */
  /* (rows, tokens to 32, columns to 2 with groups of 128, else to 8), in the tiles of 32 tokens by
   * as many columns that gfx950's matrix instructions read */
  AITER_SCALES_MFMA_TILE = 1,
  AITER_SCALES_N32K4 = 2, /* (tokens / 32, rows, 32 columns): 4 columns of 32 tokens together */
  AITER_SCALES_MAX_ENUM = 0x7fffffff
} aiter_group_scales;

typedef struct aiter_inverse_rope_group_quant_opts {
  uint32_t struct_size;
  uint32_t flags;
  int64_t group;           /* dims that share a scale, a divisor of head_dim */
  int32_t scale_layout;    /* aiter_group_scales */
  int32_t interleaved;     /* nonzero = gptj: 2 i turns with 2 i + 1; 0 = neox */
  aiter_dtype codes_dtype; /* what codes of uint8 hold; bits = 0: uint8 */
} aiter_inverse_rope_group_quant_opts;

#define AITER_INVERSE_ROPE_GROUP_QUANT_OPTS_INIT \
  {sizeof(aiter_inverse_rope_group_quant_opts), 0, 128, AITER_SCALES_ROW, 1, {0, 0, 0}}

/* The last R dims of each head of o turned back, then codes with a power of two for each group.
 *
 * o: (tokens, heads, head_dim) f32 | f16 | bf16, last stride 1, head_dim <= 1024.
 * positions: (tokens) int32 | int64; cos_cache, sin_cache: (max_position, R/2) f32 | f16 | bf16; a
 *   position outside: as for aiter_rope.
 * codes: (tokens, rows, heads * head_dim / rows), an 8-bit float, without gaps between rows.
 * scale: float8_e8m0 or uint8, in the order of opts.scale_layout, whose padding is not written: the
 *   next power of two above max(amax, 1e-8) / max(codes), as of aiter_quantize (ROUND_UP).
 * Turned in fp32 and rounded to o's dtype before codes are made. Source: AITER
 * inverse_rope_group_quant, which does not round between. @since 0.1 unstable */
AITER_API aiter_status aiter_inverse_rope_group_quant(
    const aiter_tensor* o, const aiter_tensor* positions, const aiter_tensor* cos_cache,
    const aiter_tensor* sin_cache, const aiter_tensor* codes, const aiter_tensor* scale,
    const aiter_inverse_rope_group_quant_opts* opts, aiter_stream stream);

typedef struct aiter_fused_qk_norm_rope_group_quant_opts {
  uint32_t struct_size;
  uint32_t flags;
  float q_eps, kv_eps;   /* of the norms: added to the mean square */
  int32_t norm;          /* nonzero: q and kv are normalized before they turn */
  int32_t interleaved;   /* nonzero = gptj: 2 i turns with 2 i + 1; 0 = neox */
  int32_t hadamard;      /* nonzero: and then rotated as by aiter_rotate_activation */
  int32_t skip_uncached; /* nonzero: kv_out and kv_rope are written for tokens with a slot alone */
  int64_t q_group, kv_group; /* dims that share a scale; 0 = all */
  int64_t page_slots;        /* slots of a page, of caches (slots, ...) */
  float amax_floor;          /* scales make room for this much at least */
  aiter_dtype codes_dtype;   /* what outputs of uint8 hold; bits = 0: uint8 */
} aiter_fused_qk_norm_rope_group_quant_opts;

#define AITER_FUSED_QK_NORM_ROPE_GROUP_QUANT_OPTS_INIT \
  {sizeof(aiter_fused_qk_norm_rope_group_quant_opts),  \
   0,                                                  \
   1e-6f,                                              \
   1e-6f,                                              \
   1,                                                  \
   1,                                                  \
   0,                                                  \
   0,                                                  \
   0,                                                  \
   0,                                                  \
   0,                                                  \
   0.0f,                                               \
   {0, 0, 0}}

/* Queries, and one head of keys (or keys and values) for each token, in one pass: an RMS norm of each
 * head, the rotation of its last R dims, a Hadamard rotation, codes with computed scales, rows and a
 * cache of a sliding window.
 *
 * q: (tokens, heads, head_dim), or parts to be summed in fp32, (splits, tokens, heads, head_dim), f32
 *   or of kv's dtype; kv: (tokens, head_dim) f32 | f16 | bf16; last strides are 1, head_dim <= 1024;
 *   either may be NULL. The heads' dtype, to which norm and rotation round, is kv's, without kv q's.
 * q_weight, kv_weight: (head_dim), the heads' dtype or f32, contiguous; NULL = ones.
 * positions: (tokens) int32 | int64; cos_cache, sin_cache: (max_position, R/2): as for
 *   aiter_fused_qk_rope_reshape_and_cache; the three NULL: nothing turns.
 * Three places, each optional: q_out (tokens, heads, n) with q_scale and q_rope, kv_out (tokens, n) with
 *   kv_scale and kv_rope, and kv_cache with kv_cache_scale and kv_cache_rope.
 *   ..._rope: (..., R) f32 | f16 | bf16, for the dims that turn; n then is head_dim - R, else head_dim.
 *     NULL with opts.hadamard.
 *   The first: f32 | f16 | bf16, or int8, an 8-bit float or fp4 (n / 2 pairs), all codes of one dtype.
 *     A float output in the heads' dtype may be the input.
 *   ..._scale: of codes. f32: max(amax, amax_floor) / max(codes); or float8_e8m0 | uint8: the power of
 *     two of AITER_MX_ROUND_UP. (..., n / group), or a power of two of copies of each side by side, up
 *     to 8; or with heads (of a cache: slots) in tiles of 16, (tokens or pages, n / group, 16, tiles).
 * kv_cache: (pages, block, n), (slots, n), (pages, n / x, block, x) or (pages, block / y, n / x, y, x),
 *   x and y powers of two; of fp4, n and x count pairs. Scales and turned dims: (pages, block, ...) or
 *   (slots, ...).
 * slot_mapping: (tokens) int32 | int64, a negative slot skips its token. With batch_ids, (tokens) int32
 *   | int64, negative to skip: (sequences, blocks) block tables, of which entries below 0 and positions
 *   beyond the table skip, or (sequences) pages, each the window of a sequence: position p goes to slot
 *   p % block. On the CPU values beyond cache or table are refused before anything is written. Of
 *   tokens with one slot, each dim may be that of another.
 * Source: AITER fused_qk_norm_rope_group_quant, fused_kv_norm_rope_group_quant,
 * fused_reduce_qk_norm_rope_swa_write, rope_rotate_activation,
 * rmsnorm_rope_rotate_activation_fp4quant_kvcache, which do not round between. @since 0.1 unstable */
AITER_API aiter_status aiter_fused_qk_norm_rope_group_quant(
    const aiter_tensor* q, const aiter_tensor* kv, const aiter_tensor* q_weight,
    const aiter_tensor* kv_weight, const aiter_tensor* positions, const aiter_tensor* cos_cache,
    const aiter_tensor* sin_cache, const aiter_tensor* slot_mapping, const aiter_tensor* batch_ids,
    const aiter_tensor* q_out, const aiter_tensor* q_scale, const aiter_tensor* q_rope,
    const aiter_tensor* kv_out, const aiter_tensor* kv_scale, const aiter_tensor* kv_rope,
    const aiter_tensor* kv_cache, const aiter_tensor* kv_cache_scale,
    const aiter_tensor* kv_cache_rope, const aiter_fused_qk_norm_rope_group_quant_opts* opts,
    aiter_stream stream);

typedef struct aiter_fused_compress_attn_opts {
  uint32_t struct_size;
  uint32_t flags;
  int64_t ratio;      /* positions that share a slot of the cache */
  int64_t group;      /* dims that share a scale; 0 = all */
  int64_t page_slots; /* slots of a page, of caches (slots, ...) */
  float eps;          /* of the norm */
  float amax_floor;   /* scales make room for this much at least */
  int32_t overlap;    /* nonzero: heads are of 2 ratio lines, the later ones of dims of their own */
  int32_t interleaved;     /* nonzero = gptj: 2 i turns with 2 i + 1; 0 = neox */
  int32_t ue8m0;           /* nonzero: scales of f32 are powers of two */
  aiter_dtype codes_dtype; /* what a cache of uint8 holds; bits = 0: uint8 */
} aiter_fused_compress_attn_opts;

#define AITER_FUSED_COMPRESS_ATTN_OPTS_INIT \
  {sizeof(aiter_fused_compress_attn_opts), 0, 4, 0, 0, 1e-6f, 0.0f, 0, 1, 0, {0, 0, 0}}

/* The compressor of DeepSeek V4: the lines of some positions become one, their mean weighted for each
 * dim by the softmax of their scores; its RMS norm, turned, goes into the cache.
 *
 * plan: (heads, 4) int32, for each head to write: the row of kv of its last line, its sequence, the
 *   position p of that line (negative: no head), and how many of its first lines come from the state.
 *   A head is the mean of the lines of positions p - n + 1 to p that are not negative, n being
 *   opts.ratio, or twice it with overlap. Line k of the n is line position % lines of state
 *   state_slot_mapping[sequence], or, from that number on, row - (n - 1 - k) of kv, to whose score
 *   ape[k % ratio] is added. With overlap there are 2 head_dim dims, of which lines k < ratio take the
 *   first half, the others the second.
 * kv, score: (rows, dims) f32 | f16 | bf16; kv_state, score_state: (states, lines, dims) likewise; ape:
 *   (ratio, dims) likewise; state_slot_mapping: (sequences) int32 | int64; last strides are 1.
 * rms_weight: (head_dim) f32, contiguous, or NULL for ones. cos_cache, sin_cache: (max_position, R/2),
 *   or both NULL: the last R dims turn by row p - p % ratio.
 * kv_cache, kv_cache_scale, kv_cache_rope: as for aiter_fused_qk_norm_rope_group_quant. The head goes
 *   to slot c % block of page block_tables[sequence, c / block], c = p / ratio; block_tables:
 *   (sequences, blocks) int32 | int64; a page below 0, or beyond the table: nowhere.
 * All is in fp32, rounded for the cache alone. On the CPU a plan that names what is not there is
 * refused before anything is written; on a GPU such a line does not count, nor such a head. Source:
 * AITER fused_compress_attn. @since 0.1 unstable */
AITER_API aiter_status aiter_fused_compress_attn(
    const aiter_tensor* kv, const aiter_tensor* score, const aiter_tensor* kv_state,
    const aiter_tensor* score_state, const aiter_tensor* plan,
    const aiter_tensor* state_slot_mapping, const aiter_tensor* ape, const aiter_tensor* rms_weight,
    const aiter_tensor* cos_cache, const aiter_tensor* sin_cache, const aiter_tensor* block_tables,
    const aiter_tensor* kv_cache, const aiter_tensor* kv_cache_scale,
    const aiter_tensor* kv_cache_rope, const aiter_fused_compress_attn_opts* opts,
    aiter_stream stream);

typedef struct aiter_indexer_qk_opts {
  uint32_t struct_size;
  uint32_t flags;
  float epsilon;           /* of the norm */
  float weights_scale;     /* factor of every weight */
  int32_t ue8m0;           /* nonzero: scales are powers of two */
  int32_t preshuffle;      /* as in aiter_indexer_cache_opts */
  int32_t interleaved;     /* 0 = neox, nonzero = gptj */
  aiter_dtype cache_dtype; /* what uint8 tensors hold; bits = 0: float8_e4m3fn */
} aiter_indexer_qk_opts;

#define AITER_INDEXER_QK_OPTS_INIT \
  {sizeof(aiter_indexer_qk_opts), 0, 1e-6f, 1.0f, 0, 0, 0, {0, 0, 0}}

/* Queries and keys of the sparse-attention indexer, in one pass:
 *   q_out = codes of the turned q, with a scale max(amax, 1e-10) / max(codes) for each head;
 *   weights_out = weights * scale * opts.weights_scale;
 *   and into the cache, as aiter_indexer_k_quant_and_cache, the turned LayerNorm of k.
 *
 * q: (tokens, heads, dim) f32 | f16 | bf16, dim <= 512; weights: (tokens, heads), k: (tokens, dim),
 * of q's dtype. norm_weight, norm_bias: (dim) f32. kv_cache: as for aiter_indexer_k_quant_and_cache,
 * with one scale a slot. positions, cos_cache, sin_cache: as for
 * aiter_fused_qk_rope_reshape_and_cache; the first R dims turn. q_out: like q, of the cache's dtype;
 * weights_out: (tokens, heads) f32; both are written for every token. Last strides of q, k and q_out
 * are 1. Norm and rotation are in fp32, each rounded to q's dtype. Source: AITER
 * indexer_qk_rope_quant_and_cache. @since 0.1 unstable */
AITER_API aiter_status aiter_indexer_qk_rope_quant_and_cache(
    const aiter_tensor* q, const aiter_tensor* weights, const aiter_tensor* k,
    const aiter_tensor* kv_cache, const aiter_tensor* slot_mapping, const aiter_tensor* norm_weight,
    const aiter_tensor* norm_bias, const aiter_tensor* positions, const aiter_tensor* cos_cache,
    const aiter_tensor* sin_cache, const aiter_tensor* q_out, const aiter_tensor* weights_out,
    const aiter_indexer_qk_opts* opts, aiter_stream stream);

AITER_END_DECLS

#endif /* AITER_KVCACHE_H_ */
