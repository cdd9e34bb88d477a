#include "aiter/kvcache.h"

#include "python/tensor.h"

namespace aiter::python {
namespace {

void reshape_and_cache(nb::handle key, nb::handle value, nb::handle key_cache,
                       nb::handle value_cache, nb::handle slot_mapping, nb::handle k_scale,
                       nb::handle v_scale, int quant, nb::handle cache_dtype, nb::handle stream) {
  OpCall call("reshape_and_cache", stream);
  const aiter_tensor* tkey = call.in("key", key);
  const aiter_tensor* tvalue = call.in("value", value);
  const aiter_tensor* tkey_cache = call.inout("key_cache", key_cache);
  const aiter_tensor* tvalue_cache = call.inout("value_cache", value_cache);
  const aiter_tensor* tslots = call.in("slot_mapping", slot_mapping);
  const bool computed = quant != AITER_CACHE_QUANT_STATIC;
  const aiter_tensor* tk_scale =
      computed ? call.inout("k_scale", k_scale) : call.in("k_scale", k_scale);
  const aiter_tensor* tv_scale =
      computed ? call.inout("v_scale", v_scale) : call.in("v_scale", v_scale);
  aiter_reshape_and_cache_opts opts = AITER_RESHAPE_AND_CACHE_OPTS_INIT;
  opts.flags = call.flags();
  opts.quant = quant;
  opts.cache_dtype = parse_dtype(cache_dtype, {});
  call.run([&] {
    return aiter_reshape_and_cache(tkey, tvalue, tkey_cache, tvalue_cache, tslots, tk_scale,
                                   tv_scale, &opts, call.stream());
  });
}

void reshape_and_cache_with_block_quant(nb::handle key, nb::handle value, nb::handle key_cache,
                                        nb::handle value_cache, nb::handle k_scale,
                                        nb::handle v_scale, nb::handle slot_mapping,
                                        int64_t page_slots, nb::handle cache_dtype,
                                        nb::handle stream) {
  OpCall call("reshape_and_cache_with_block_quant", stream);
  const aiter_tensor* tkey = call.in("key", key);
  const aiter_tensor* tvalue = call.in("value", value);
  const aiter_tensor* tkey_cache = call.inout("key_cache", key_cache);
  const aiter_tensor* tvalue_cache = call.inout("value_cache", value_cache);
  const aiter_tensor* tk_scale = call.inout("k_scale", k_scale);
  const aiter_tensor* tv_scale = call.inout("v_scale", v_scale);
  const aiter_tensor* tslots = call.in("slot_mapping", slot_mapping);
  aiter_reshape_and_cache_with_block_quant_opts opts =
      AITER_RESHAPE_AND_CACHE_WITH_BLOCK_QUANT_OPTS_INIT;
  opts.flags = call.flags();
  opts.page_slots = page_slots;
  opts.cache_dtype = parse_dtype(cache_dtype, {});
  call.run([&] {
    return aiter_reshape_and_cache_with_block_quant(
        tkey, tvalue, tkey_cache, tvalue_cache, tk_scale, tv_scale, tslots, &opts, call.stream());
  });
}

void concat_and_cache_mla(nb::handle kv_c, nb::handle k_pe, nb::handle kv_cache,
                          nb::handle slot_mapping, nb::handle scale, bool preshuffle,
                          nb::handle cache_dtype, nb::handle stream) {
  OpCall call("concat_and_cache_mla", stream);
  const aiter_tensor* tkv_c = call.in("kv_c", kv_c);
  const aiter_tensor* tk_pe = call.in("k_pe", k_pe);
  const aiter_tensor* tkv_cache = call.inout("kv_cache", kv_cache);
  const aiter_tensor* tslots = call.in("slot_mapping", slot_mapping);
  const aiter_tensor* tscale = call.in("scale", scale);
  aiter_reshape_and_cache_opts opts = AITER_RESHAPE_AND_CACHE_OPTS_INIT;
  opts.flags = call.flags();
  opts.preshuffle = preshuffle;
  opts.cache_dtype = parse_dtype(cache_dtype, {});
  call.run([&] {
    return aiter_concat_and_cache_mla(tkv_c, tk_pe, tkv_cache, tslots, tscale, &opts,
                                      call.stream());
  });
}

aiter_indexer_cache_opts indexer_opts(const OpCall& call, int64_t quant_block_size, bool ue8m0,
                                      bool preshuffle, nb::handle cache_dtype) {
  aiter_indexer_cache_opts opts = AITER_INDEXER_CACHE_OPTS_INIT;
  opts.flags = call.flags();
  opts.quant_block_size = quant_block_size;
  opts.ue8m0 = ue8m0;
  opts.preshuffle = preshuffle;
  opts.cache_dtype = parse_dtype(cache_dtype, {});
  return opts;
}

void indexer_k_quant_and_cache(nb::handle k, nb::handle kv_cache, nb::handle slot_mapping,
                               int64_t quant_block_size, bool ue8m0, bool preshuffle,
                               nb::handle cache_dtype, nb::handle stream) {
  OpCall call("indexer_k_quant_and_cache", stream);
  const aiter_tensor* tk = call.in("k", k);
  const aiter_tensor* tkv_cache = call.inout("kv_cache", kv_cache);
  const aiter_tensor* tslots = call.in("slot_mapping", slot_mapping);
  const auto opts = indexer_opts(call, quant_block_size, ue8m0, preshuffle, cache_dtype);
  call.run(
      [&] { return aiter_indexer_k_quant_and_cache(tk, tkv_cache, tslots, &opts, call.stream()); });
}

nb::object cp_gather_indexer_k_quant_cache(nb::handle kv_cache, nb::handle block_table,
                                           nb::handle cu_seqlens, int64_t tokens, int64_t head_dim,
                                           int64_t groups, bool preshuffle, nb::handle out,
                                           nb::handle out_scale, nb::handle stream) {
  OpCall call("cp_gather_indexer_k_quant_cache", stream);
  const aiter_tensor* tkv_cache = call.in("kv_cache", kv_cache);
  const aiter_tensor* ttable = call.in("block_table", block_table);
  const aiter_tensor* tlengths = call.in("cu_seqlens", cu_seqlens);
  const aiter_tensor* tout = call.out("dst_k", out, spec(tkv_cache->dtype, {tokens, head_dim}));
  const aiter_tensor* tscale = call.out("dst_scale", out_scale, spec(kFloat32, {tokens, groups}));
  const auto opts = indexer_opts(call, 0, false, preshuffle, nb::none());
  call.run([&] {
    return aiter_cp_gather_indexer_k_quant_cache(tkv_cache, tout, tscale, ttable, tlengths, &opts,
                                                 call.stream());
  });
  return call.result();
}

// The shape of what a cache holds, (heads, dim), from the cache itself. A cache of a wrong rank is
// left for the operator to refuse.
Spec gathered(const aiter_tensor* cache, bool flash, bool values, int64_t tokens,
              aiter_dtype dtype) {
  if (cache->ndim < 4) return spec(dtype, {tokens, 0, 0});
  const int64_t* s = cache->shape;
  if (flash) return spec(dtype, {tokens, s[2], s[3]});
  if (!values) return spec(dtype, {tokens, s[1], cache->ndim == 5 ? s[2] * s[4] : 0});
  return spec(dtype, {tokens, s[1], cache->ndim == 5 ? s[3] : s[2]});
}

nb::object gather_cache(nb::handle key_cache, nb::handle value_cache, nb::handle block_table,
                        nb::handle cu_seqlens, int64_t tokens, nb::handle k_scale,
                        nb::handle v_scale, int quant, int64_t page_slots, nb::handle cache_dtype,
                        nb::handle dtype, nb::handle out, nb::handle out_value, nb::handle stream) {
  OpCall call("gather_cache", stream);
  const aiter_tensor* tkey_cache = call.in("key_cache", key_cache);
  const aiter_tensor* tvalue_cache = call.in("value_cache", value_cache);
  const aiter_tensor* ttable = call.in("block_table", block_table);
  const aiter_tensor* tlengths = call.in("cu_seqlens", cu_seqlens);
  const aiter_tensor* tk_scale = call.in("k_scale", k_scale);
  const aiter_tensor* tv_scale = call.in("v_scale", v_scale);
  const aiter_dtype type = parse_dtype(dtype, tkey_cache->dtype);
  const bool flash = tkey_cache->ndim == 4;
  const aiter_tensor* tkey = call.out("key", out, gathered(tkey_cache, flash, false, tokens, type));
  const aiter_tensor* tvalue =
      tvalue_cache ? call.out("value", out_value, gathered(tvalue_cache, flash, true, tokens, type))
                   : nullptr;
  aiter_gather_cache_opts opts = AITER_GATHER_CACHE_OPTS_INIT;
  opts.flags = call.flags();
  opts.quant = quant;
  opts.page_slots = page_slots;
  opts.cache_dtype = parse_dtype(cache_dtype, {});
  call.run([&] {
    return aiter_gather_cache(tkey_cache, tvalue_cache, ttable, tlengths, tk_scale, tv_scale, tkey,
                              tvalue, &opts, call.stream());
  });
  return call.result();
}

void copy_blocks(nb::handle key_cache, nb::handle value_cache, nb::handle block_mapping,
                 nb::handle stream) {
  OpCall call("copy_blocks", stream);
  const aiter_tensor* tkey_cache = call.inout("key_cache", key_cache);
  const aiter_tensor* tvalue_cache = call.inout("value_cache", value_cache);
  const aiter_tensor* tmapping = call.in("block_mapping", block_mapping);
  aiter_copy_blocks_opts opts = AITER_COPY_BLOCKS_OPTS_INIT;
  opts.flags = call.flags();
  call.run(
      [&] { return aiter_copy_blocks(tkey_cache, tvalue_cache, tmapping, &opts, call.stream()); });
}

void swap_blocks(nb::handle src, nb::handle dst, nb::handle block_mapping, nb::handle stream) {
  OpCall call("swap_blocks", stream);
  const aiter_tensor* tsrc = call.in("src", src);
  const aiter_tensor* tdst = call.inout("dst", dst);
  const aiter_tensor* tmapping = call.in("block_mapping", block_mapping);
  aiter_copy_blocks_opts opts = AITER_COPY_BLOCKS_OPTS_INIT;
  opts.flags = call.flags();
  call.run([&] { return aiter_swap_blocks(tsrc, tdst, tmapping, &opts, call.stream()); });
}

aiter_fused_qk_rope_cache_opts fused_opts(const OpCall& call, bool neox, nb::handle cache_dtype) {
  aiter_fused_qk_rope_cache_opts opts = AITER_FUSED_QK_ROPE_CACHE_OPTS_INIT;
  opts.flags = call.flags();
  opts.interleaved = !neox;
  opts.cache_dtype = parse_dtype(cache_dtype, {});
  return opts;
}

nb::object fused_qk_rope_reshape_and_cache(
    nb::handle q, nb::handle key, nb::handle value, nb::handle key_cache, nb::handle value_cache,
    nb::handle slot_mapping, nb::handle k_scale, nb::handle v_scale, nb::handle q_weight,
    nb::handle k_weight, nb::handle positions, nb::handle cos, nb::handle sin, bool neox,
    bool nope_first, bool full_width, bool norm, float eps, bool gemma, int64_t section0,
    int64_t section1, int64_t section2, bool sections_interleaved, int quant, int64_t page_slots,
    nb::handle cache_dtype, nb::handle q_out, nb::handle key_out, nb::handle value_out,
    nb::handle stream) {
  OpCall call("fused_qk_rope_reshape_and_cache", stream);
  const aiter_tensor* tq = call.in("q", q);
  const aiter_tensor* tkey = call.in("key", key);
  const aiter_tensor* tvalue = call.in("value", value);
  const aiter_tensor* tkey_cache = call.inout("key_cache", key_cache);
  const aiter_tensor* tvalue_cache = call.inout("value_cache", value_cache);
  const aiter_tensor* tslots = call.in("slot_mapping", slot_mapping);
  const aiter_tensor* tk_scale =
      quant ? call.inout("k_scale", k_scale) : call.in("k_scale", k_scale);
  const aiter_tensor* tv_scale =
      quant ? call.inout("v_scale", v_scale) : call.in("v_scale", v_scale);
  const aiter_tensor* tq_weight = call.in("q_weight", q_weight);
  const aiter_tensor* tk_weight = call.in("k_weight", k_weight);
  const aiter_tensor* tpositions = call.in("positions", positions);
  const aiter_tensor* tcos = call.in("cos_cache", cos);
  const aiter_tensor* tsin = call.in("sin_cache", sin);
  const aiter_tensor* tq_out = call.out("q_out", q_out, like(tq));
  const aiter_tensor* tkey_out = call.inout("key_out", key_out);
  const aiter_tensor* tvalue_out = call.inout("value_out", value_out);
  auto opts = fused_opts(call, neox, cache_dtype);
  opts.nope_first = nope_first;
  opts.full_width = full_width;
  opts.section0 = section0, opts.section1 = section1, opts.section2 = section2;
  opts.sections_interleaved = sections_interleaved;
  opts.norm = norm, opts.eps = eps, opts.gemma = gemma;
  opts.quant = quant, opts.page_slots = page_slots;
  call.run([&] {
    return aiter_fused_qk_rope_reshape_and_cache(
        tq, tkey, tvalue, tkey_cache, tvalue_cache, tslots, tk_scale, tv_scale, tq_weight,
        tk_weight, tpositions, tcos, tsin, tq_out, tkey_out, tvalue_out, &opts, call.stream());
  });
  return call.result();
}

nb::object fused_qk_rope_concat_and_cache_mla(
    nb::handle q_nope, nb::handle q_pe, nb::handle kv_c, nb::handle k_pe, nb::handle kv_cache,
    nb::handle slot_mapping, nb::handle k_scale, nb::handle q_scale, nb::handle positions,
    nb::handle cos, nb::handle sin, bool neox, bool rope_first, nb::handle out_dtype,
    nb::handle cache_dtype, nb::handle q_out, nb::handle stream) {
  OpCall call("fused_qk_rope_concat_and_cache_mla", stream);
  const aiter_tensor* tq_nope = call.in("q_nope", q_nope);
  const aiter_tensor* tq_pe = call.in("q_pe", q_pe);
  const aiter_tensor* tkv_c = call.in("kv_c", kv_c);
  const aiter_tensor* tk_pe = call.in("k_pe", k_pe);
  const aiter_tensor* tkv_cache = call.inout("kv_cache", kv_cache);
  const aiter_tensor* tslots = call.in("slot_mapping", slot_mapping);
  const aiter_tensor* tk_scale = call.in("k_scale", k_scale);
  const aiter_tensor* tq_scale = call.in("q_scale", q_scale);
  const aiter_tensor* tpositions = call.in("positions", positions);
  const aiter_tensor* tcos = call.in("cos_cache", cos);
  const aiter_tensor* tsin = call.in("sin_cache", sin);
  // Of a wrong rank, an empty one: it is left for the operator to refuse.
  const bool ranks = tq_nope->ndim == 3 && tq_pe->ndim == 3;
  const Spec queries =
      ranks ? spec(parse_dtype(out_dtype, tq_nope->dtype),
                   {tq_nope->shape[0], tq_nope->shape[1], tq_nope->shape[2] + tq_pe->shape[2]})
            : spec(tq_nope->dtype, {0, 0, 0});
  const aiter_tensor* tq_out = call.out("q_out", q_out, queries);
  auto opts = fused_opts(call, neox, cache_dtype);
  opts.rope_first = rope_first;
  call.run([&] {
    return aiter_fused_qk_rope_concat_and_cache_mla(tq_nope, tq_pe, tkv_c, tk_pe, tkv_cache, tslots,
                                                    tk_scale, tq_scale, tpositions, tcos, tsin,
                                                    tq_out, &opts, call.stream());
  });
  return call.result();
}

nb::object inverse_rope_group_quant(nb::handle o, nb::handle positions, nb::handle cos,
                                    nb::handle sin, int64_t rows, int64_t group, int scale_layout,
                                    bool neox, nb::handle quant_dtype, nb::handle codes,
                                    nb::handle scale, nb::handle stream) {
  OpCall call("inverse_rope_group_quant", stream);
  const aiter_tensor* to = call.in("o", o);
  const aiter_tensor* tpositions = call.in("positions", positions);
  const aiter_tensor* tcos = call.in("cos_cache", cos);
  const aiter_tensor* tsin = call.in("sin_cache", sin);
  const aiter_dtype dtype = parse_dtype(quant_dtype, {});
  // Of a wrong rank or number of rows, an empty one: it is left for the operator to refuse.
  const bool fits = to->ndim == 3 && rows > 0 && group > 0;
  const int64_t tokens = fits ? to->shape[0] : 0;
  const int64_t width = fits ? to->shape[1] * to->shape[2] / rows : 0;
  const int64_t columns = fits ? width / group : 0, tiles = (tokens + 31) / 32;
  const int64_t pad = group == 128 ? 2 : 8;
  const Spec scales = scale_layout == AITER_SCALES_MFMA_TILE
                          ? spec({AITER_CODE_FLOAT8_E8M0FNU, 8, 1},
                                 {rows, 32 * tiles, (columns + pad - 1) / pad * pad})
                      : scale_layout == AITER_SCALES_N32K4
                          ? spec({AITER_CODE_FLOAT8_E8M0FNU, 8, 1}, {tiles, rows, 32 * columns})
                          : spec({AITER_CODE_FLOAT8_E8M0FNU, 8, 1}, {tokens, rows, columns});
  const aiter_tensor* tcodes = call.out("codes", codes, spec(dtype, {tokens, rows, width}));
  const aiter_tensor* tscale = call.out("scale", scale, scales);
  aiter_inverse_rope_group_quant_opts opts = AITER_INVERSE_ROPE_GROUP_QUANT_OPTS_INIT;
  opts.flags = call.flags();
  opts.group = group;
  opts.scale_layout = scale_layout;
  opts.interleaved = !neox;
  opts.codes_dtype = dtype;
  call.run([&] {
    return aiter_inverse_rope_group_quant(to, tpositions, tcos, tsin, tcodes, tscale, &opts,
                                          call.stream());
  });
  return call.result();
}

// One of the three places of fused_qk_norm_rope_group_quant. `packed`: codes, their scales, twice, and
// what pads them to head_dim bytes lie side by side, and the dims that turn elsewhere.
class HeadsOut {
 public:
  HeadsOut(int64_t dim, int64_t turned, bool packed)
      : dim_(dim), turned_(turned), packed_(packed) {}

  // New arrays where none are given.
  void rows(OpCall& call, const char* const (&names)[3], const nb::handle (&given)[3], Spec heads,
            aiter_dtype dtype, aiter_dtype scale_dtype, int64_t group, bool tiled) {
    const bool codes = dtype.bits <= 8;
    int64_t& last = heads.shape[heads.ndim - 1];
    const aiter_dtype plain = heads.dtype;
    heads.dtype = stored(dtype);
    last = codes && !packed_ ? dim_ * dtype.bits / 8 : dim_;
    out = call.out(names[0], given[0], heads);
    if (!codes) return;
    heads.dtype = packed_ ? plain : scale_dtype;
    last = packed_ ? turned_ : group > 0 ? dim_ / group : 1;
    // 4 tiles of 16 heads share a word.
    if (tiled && heads.ndim == 3)
      heads = spec(scale_dtype, {heads.shape[0], last, 16, (heads.shape[1] + 63) / 64 * 4});
    (packed_ ? rope : scale) = call.out(names[packed_ ? 2 : 1], given[packed_ ? 2 : 1], heads);
    if (packed_) unpack(group);
  }
  // `tiled`: codes (pages, k, 4, block, 16) and scales (pages, k, 4, block) of tiles of 16 slots.
  void cache(OpCall& call, const nb::handle (&given)[3], int64_t group, bool tiled) {
    out = call.inout("kv_cache", given[0]);
    scale = call.inout("kv_cache_scale", given[1]);
    rope = call.inout("kv_cache_rope", given[2]);
    if (out && packed_ && bytes_of(out->dtype) == 1) unpack(group);
    if (!tiled || !out || !scale || out->ndim != 5 || scale->ndim != 4) return;
    for (const aiter_tensor* t : {out, scale})
      if (t->shape[2] != 4 || stride_of(t, 1) != 4 * stride_of(t, 2) ||
          stride_of(t, t->ndim - 1) != 1)
        throw nb::value_error(
            "fused_qk_norm_rope_group_quant: kv_cache or its scales have gaps or "
            "other than 4 rows a tile, expected (pages, k, 4, block, 16) and "
            "(pages, k, 4, block)");
    codes_view_ = View(out), scale_view_ = View(scale);
    for (View* view : {&codes_view_, &scale_view_}) {
      const aiter_tensor* t = view == &codes_view_ ? out : scale;
      view->shape[0] = t->shape[0], view->strides[0] = stride_of(t, 0);
      view->shape[1] = 4 * t->shape[1], view->strides[1] = stride_of(t, 2);
    }
    for (int i = 2; i < 4; ++i)
      codes_view_.shape[i] = out->shape[i + 1], codes_view_.strides[i] = stride_of(out, i + 1);
    scale_view_.shape[2] = 16, scale_view_.strides[2] = scale->shape[3] / 16;
    scale_view_.shape[3] = scale->shape[3] / 16, scale_view_.strides[3] = 1;
    out = codes_view_.of(4), scale = scale_view_.of(4);
  }

  const aiter_tensor *out = nullptr, *scale = nullptr, *rope = nullptr;

 private:
  void unpack(int64_t group) {
    const int64_t coded = dim_ - turned_, last = out->ndim - 1;
    // What does not fit is left for the operator to refuse.
    if (last < 0 || last >= kMaxRank || coded < 0) return;
    const int64_t scales = group > 0 ? 2 * (coded / group) : 2;
    if (out->shape[last] < coded + scales) return;
    for (View* view : {&codes_view_, &scale_view_}) {
      *view = View(out);
      for (int i = 0; i <= last; ++i)
        view->shape[i] = out->shape[i], view->strides[i] = stride_of(out, i);
    }
    codes_view_.shape[last] = coded;
    scale_view_.shape[last] = scales;
    scale_view_.tensor.dtype = kUint8;
    scale_view_.tensor.byte_offset += coded * stride_of(out, static_cast<int>(last));
    out = codes_view_.of(out->ndim), scale = scale_view_.of(codes_view_.tensor.ndim);
  }

  int64_t dim_, turned_;
  bool packed_;
  aiter_tensor none_{};
  View codes_view_{&none_}, scale_view_{&none_};
};

nb::object fused_qk_norm_rope_group_quant(
    nb::handle q, nb::handle kv, nb::handle q_weight, nb::handle kv_weight, nb::handle positions,
    nb::handle cos, nb::handle sin, nb::handle slot_mapping, nb::handle batch_ids,
    nb::handle q_dtype, nb::handle kv_dtype, nb::handle scale_dtype, bool packed, bool rows,
    bool tiled, nb::handle q_out, nb::handle q_scale, nb::handle q_rope, nb::handle kv_out,
    nb::handle kv_scale, nb::handle kv_rope, nb::handle kv_cache, nb::handle kv_cache_scale,
    nb::handle kv_cache_rope, float q_eps, float kv_eps, bool norm, bool neox, bool hadamard,
    bool skip_uncached, int64_t q_group, int64_t kv_group, int64_t page_slots, float amax_floor,
    nb::handle codes_dtype, nb::handle stream) {
  OpCall call("fused_qk_norm_rope_group_quant", stream);
  const aiter_tensor* tq = call.in("q", q);
  const aiter_tensor* tkv = call.in("kv", kv);
  const aiter_tensor* tq_weight = call.in("q_weight", q_weight);
  const aiter_tensor* tkv_weight = call.in("kv_weight", kv_weight);
  const aiter_tensor* tpositions = call.in("positions", positions);
  const aiter_tensor* tcos = call.in("cos_cache", cos);
  const aiter_tensor* tsin = call.in("sin_cache", sin);
  const aiter_tensor* tslots = call.in("slot_mapping", slot_mapping);
  const aiter_tensor* tbatch_ids = call.in("batch_ids", batch_ids);
  const aiter_tensor* heads = tkv ? tkv : tq;
  if (!heads) throw nb::value_error("fused_qk_norm_rope_group_quant: q and kv are None");
  const int64_t dim = heads->ndim > 0 ? heads->shape[heads->ndim - 1] : 0;
  const int64_t turned = tcos && tcos->ndim > 0 ? 2 * tcos->shape[tcos->ndim - 1] : 0;
  const aiter_dtype scales = parse_dtype(scale_dtype, kFloat32);
  HeadsOut to_q(dim, turned, packed), to_kv(dim, turned, packed), to_cache(dim, turned, packed);
  if (tq && tq->ndim >= 3) {
    Spec shape = spec(heads->dtype, {tq->shape[tq->ndim - 3], tq->shape[tq->ndim - 2], dim});
    to_q.rows(call, {"q_out", "q_scale", "q_rope"}, {q_out, q_scale, q_rope}, shape,
              parse_dtype(q_dtype, heads->dtype), scales, q_group, tiled);
  }
  if (tkv && rows && tkv->ndim == 2)
    to_kv.rows(call, {"kv_out", "kv_scale", "kv_rope"}, {kv_out, kv_scale, kv_rope}, like(tkv),
               parse_dtype(kv_dtype, heads->dtype), scales, kv_group, false);
  to_cache.cache(call, {kv_cache, kv_cache_scale, kv_cache_rope}, kv_group, tiled);
  aiter_fused_qk_norm_rope_group_quant_opts opts = AITER_FUSED_QK_NORM_ROPE_GROUP_QUANT_OPTS_INIT;
  opts.flags = call.flags();
  opts.q_eps = q_eps, opts.kv_eps = kv_eps;
  opts.norm = norm;
  opts.interleaved = !neox;
  opts.hadamard = hadamard;
  opts.skip_uncached = skip_uncached;
  opts.q_group = q_group, opts.kv_group = kv_group;
  opts.page_slots = page_slots;
  opts.amax_floor = amax_floor;
  opts.codes_dtype = parse_dtype(codes_dtype, {});
  call.run([&] {
    return aiter_fused_qk_norm_rope_group_quant(
        tq, tkv, tq_weight, tkv_weight, tpositions, tcos, tsin, tslots, tbatch_ids, to_q.out,
        to_q.scale, to_q.rope, to_kv.out, to_kv.scale, to_kv.rope, to_cache.out, to_cache.scale,
        to_cache.rope, &opts, call.stream());
  });
  return call.result();
}

nb::object fused_compress_attn(nb::handle kv, nb::handle score, nb::handle kv_state,
                               nb::handle score_state, nb::handle plan,
                               nb::handle state_slot_mapping, nb::handle ape, nb::handle rms_weight,
                               nb::handle cos, nb::handle sin, nb::handle block_tables,
                               nb::handle kv_cache, nb::handle kv_cache_scale,
                               nb::handle kv_cache_rope, bool overlap, int64_t ratio, float eps,
                               bool neox, int64_t group, int64_t page_slots, float amax_floor,
                               bool ue8m0, bool packed, bool tiled, bool tiles_of_16,
                               nb::handle codes_dtype, nb::handle stream) {
  OpCall call("fused_compress_attn", stream);
  const aiter_tensor* tkv = call.in("kv", kv);
  const aiter_tensor* tscore = call.in("score", score);
  const aiter_tensor* tkv_state = call.in("kv_state", kv_state);
  const aiter_tensor* tscore_state = call.in("score_state", score_state);
  const aiter_tensor* tplan = call.in("plan", plan);
  const aiter_tensor* tslots = call.in("state_slot_mapping", state_slot_mapping);
  const aiter_tensor* tape = call.in("ape", ape);
  const aiter_tensor* tweight = call.in("rms_weight", rms_weight);
  const aiter_tensor* tcos = call.in("cos_cache", cos);
  const aiter_tensor* tsin = call.in("sin_cache", sin);
  const aiter_tensor* ttables = call.in("block_tables", block_tables);
  const int64_t dim = tkv && tkv->ndim == 2 ? tkv->shape[1] / (overlap ? 2 : 1) : 0;
  const int64_t turned = tcos && tcos->ndim > 0 ? 2 * tcos->shape[tcos->ndim - 1] : 0;
  HeadsOut to(dim, turned, packed);
  to.cache(call, {kv_cache, kv_cache_scale, kv_cache_rope}, group, tiled);
  View codes(to.out), scales(to.scale ? to.scale : to.out);
  if (tiles_of_16 && to.out->ndim == 3 && to.scale && to.scale->ndim == 2) {
    const int64_t* shape = to.out->shape;
    if (shape[1] % 16 || shape[2] % 16 || stride_of(to.out, 1) != shape[2])
      throw nb::value_error(
          "fused_compress_attn: kv_cache has gaps in its pages or extents that 16 does not divide");
    const int64_t extents[5] = {shape[0], shape[1] / 16, shape[2] / 16, 16, 16};
    const int64_t strides[5] = {stride_of(to.out, 0), 16 * shape[2], 256, 16, 1};
    for (int i = 0; i < 5; ++i) codes.shape[i] = extents[i], codes.strides[i] = strides[i];
    to.out = codes.of(5);
  }
  if (to.scale && to.scale->ndim == 2 && to.out->ndim != 2) {  // one scale a slot
    for (int i = 0; i < 2; ++i)
      scales.shape[i] = to.scale->shape[i], scales.strides[i] = stride_of(to.scale, i);
    scales.shape[2] = scales.strides[2] = 1;
    to.scale = scales.of(3);
  }
  aiter_fused_compress_attn_opts opts = AITER_FUSED_COMPRESS_ATTN_OPTS_INIT;
  opts.flags = call.flags();
  opts.ratio = ratio, opts.group = group, opts.page_slots = page_slots;
  opts.eps = eps, opts.amax_floor = amax_floor;
  opts.overlap = overlap, opts.interleaved = !neox, opts.ue8m0 = ue8m0;
  opts.codes_dtype = parse_dtype(codes_dtype, {});
  call.run([&] {
    return aiter_fused_compress_attn(tkv, tscore, tkv_state, tscore_state, tplan, tslots, tape,
                                     tweight, tcos, tsin, ttables, to.out, to.scale, to.rope, &opts,
                                     call.stream());
  });
  return call.result();
}

nb::object indexer_qk_rope_quant_and_cache(
    nb::handle q, nb::handle weights, nb::handle k, nb::handle kv_cache, nb::handle slot_mapping,
    nb::handle norm_weight, nb::handle norm_bias, nb::handle positions, nb::handle cos,
    nb::handle sin, float epsilon, float weights_scale, bool ue8m0, bool preshuffle, bool neox,
    nb::handle cache_dtype, nb::handle q_out, nb::handle weights_out, nb::handle stream) {
  OpCall call("indexer_qk_rope_quant_and_cache", stream);
  const aiter_tensor* tq = call.in("q", q);
  const aiter_tensor* tweights = call.in("weights", weights);
  const aiter_tensor* tk = call.in("k", k);
  const aiter_tensor* tcache = call.inout("kv_cache", kv_cache);
  const aiter_tensor* tslots = call.in("slot_mapping", slot_mapping);
  const aiter_tensor* tnorm_weight = call.in("norm_weight", norm_weight);
  const aiter_tensor* tnorm_bias = call.in("norm_bias", norm_bias);
  const aiter_tensor* tpositions = call.in("positions", positions);
  const aiter_tensor* tcos = call.in("cos_cache", cos);
  const aiter_tensor* tsin = call.in("sin_cache", sin);
  Spec codes = like(tq), scales = like(tweights);
  codes.dtype = tcache->dtype;
  scales.dtype = kFloat32;
  const aiter_tensor* tq_out = call.out("q_out", q_out, codes);
  const aiter_tensor* tweights_out = call.out("weights_out", weights_out, scales);
  aiter_indexer_qk_opts opts = AITER_INDEXER_QK_OPTS_INIT;
  opts.flags = call.flags();
  opts.epsilon = epsilon;
  opts.weights_scale = weights_scale;
  opts.ue8m0 = ue8m0;
  opts.preshuffle = preshuffle;
  opts.interleaved = !neox;
  opts.cache_dtype = parse_dtype(cache_dtype, {});
  call.run([&] {
    return aiter_indexer_qk_rope_quant_and_cache(tq, tweights, tk, tcache, tslots, tnorm_weight,
                                                 tnorm_bias, tpositions, tcos, tsin, tq_out,
                                                 tweights_out, &opts, call.stream());
  });
  return call.result();
}

}  // namespace

void bind_kvcache(nb::module_& m) {
  m.def("reshape_and_cache", &reshape_and_cache, "key"_a, "value"_a, "key_cache"_a, "value_cache"_a,
        "slot_mapping"_a, "k_scale"_a.none(), "v_scale"_a.none(), "quant"_a, "cache_dtype"_a.none(),
        "stream"_a.none());
  m.def("reshape_and_cache_with_block_quant", &reshape_and_cache_with_block_quant, "key"_a,
        "value"_a, "key_cache"_a, "value_cache"_a, "k_scale"_a, "v_scale"_a, "slot_mapping"_a,
        "page_slots"_a, "cache_dtype"_a.none(), "stream"_a.none());
  m.def("concat_and_cache_mla", &concat_and_cache_mla, "kv_c"_a, "k_pe"_a, "kv_cache"_a,
        "slot_mapping"_a, "scale"_a.none(), "preshuffle"_a, "cache_dtype"_a.none(),
        "stream"_a.none());
  m.def("indexer_k_quant_and_cache", &indexer_k_quant_and_cache, "k"_a, "kv_cache"_a,
        "slot_mapping"_a, "quant_block_size"_a, "ue8m0"_a, "preshuffle"_a, "cache_dtype"_a.none(),
        "stream"_a.none());
  m.def("cp_gather_indexer_k_quant_cache", &cp_gather_indexer_k_quant_cache, "kv_cache"_a,
        "block_table"_a, "cu_seqlens"_a, "tokens"_a, "head_dim"_a, "groups"_a, "preshuffle"_a,
        "out"_a.none(), "out_scale"_a.none(), "stream"_a.none());
  m.def("gather_cache", &gather_cache, "key_cache"_a, "value_cache"_a.none(), "block_table"_a,
        "cu_seqlens"_a, "tokens"_a, "k_scale"_a.none(), "v_scale"_a.none(), "quant"_a,
        "page_slots"_a, "cache_dtype"_a.none(), "dtype"_a.none(), "out"_a.none(),
        "out_value"_a.none(), "stream"_a.none());
  m.def("copy_blocks", &copy_blocks, "key_cache"_a, "value_cache"_a.none(), "block_mapping"_a,
        "stream"_a.none());
  m.def("swap_blocks", &swap_blocks, "src"_a, "dst"_a, "block_mapping"_a, "stream"_a.none());
  m.def("fused_qk_rope_reshape_and_cache", &fused_qk_rope_reshape_and_cache, "q"_a, "key"_a,
        "value"_a, "key_cache"_a, "value_cache"_a, "slot_mapping"_a, "k_scale"_a.none(),
        "v_scale"_a.none(), "q_weight"_a.none(), "k_weight"_a.none(), "positions"_a.none(),
        "cos"_a.none(), "sin"_a.none(), "neox"_a, "nope_first"_a, "full_width"_a, "norm"_a, "eps"_a,
        "gemma"_a, "section0"_a, "section1"_a, "section2"_a, "sections_interleaved"_a, "quant"_a,
        "page_slots"_a, "cache_dtype"_a.none(), "q_out"_a.none(), "key_out"_a.none(),
        "value_out"_a.none(), "stream"_a.none());
  m.def("fused_qk_rope_concat_and_cache_mla", &fused_qk_rope_concat_and_cache_mla, "q_nope"_a,
        "q_pe"_a, "kv_c"_a, "k_pe"_a, "kv_cache"_a, "slot_mapping"_a, "k_scale"_a.none(),
        "q_scale"_a.none(), "positions"_a, "cos"_a, "sin"_a, "neox"_a, "rope_first"_a,
        "out_dtype"_a.none(), "cache_dtype"_a.none(), "q_out"_a.none(), "stream"_a.none());
  m.def("inverse_rope_group_quant", &inverse_rope_group_quant, "o"_a, "positions"_a, "cos"_a,
        "sin"_a, "rows"_a, "group"_a, "scale_layout"_a, "neox"_a, "quant_dtype"_a, "codes"_a.none(),
        "scale"_a.none(), "stream"_a.none());
  m.def("fused_qk_norm_rope_group_quant", &fused_qk_norm_rope_group_quant, "q"_a = nb::none(),
        "kv"_a = nb::none(), "q_weight"_a = nb::none(), "kv_weight"_a = nb::none(),
        "positions"_a = nb::none(), "cos"_a = nb::none(), "sin"_a = nb::none(),
        "slot_mapping"_a = nb::none(), "batch_ids"_a = nb::none(), "q_dtype"_a = nb::none(),
        "kv_dtype"_a = nb::none(), "scale_dtype"_a = nb::none(), "packed"_a = false,
        "rows"_a = true, "tiled"_a = false, "q_out"_a = nb::none(), "q_scale"_a = nb::none(),
        "q_rope"_a = nb::none(), "kv_out"_a = nb::none(), "kv_scale"_a = nb::none(),
        "kv_rope"_a = nb::none(), "kv_cache"_a = nb::none(), "kv_cache_scale"_a = nb::none(),
        "kv_cache_rope"_a = nb::none(), "q_eps"_a = 1e-6f, "kv_eps"_a = 1e-6f, "norm"_a = true,
        "neox"_a = false, "hadamard"_a = false, "skip_uncached"_a = false, "q_group"_a = 0,
        "kv_group"_a = 0, "page_slots"_a = 0, "amax_floor"_a = 0.0f, "codes_dtype"_a = nb::none(),
        "stream"_a = nb::none());
  m.def("fused_compress_attn", &fused_compress_attn, "kv"_a, "score"_a, "kv_state"_a,
        "score_state"_a, "plan"_a, "state_slot_mapping"_a, "ape"_a, "rms_weight"_a.none(),
        "cos"_a.none(), "sin"_a.none(), "block_tables"_a, "kv_cache"_a, "kv_cache_scale"_a.none(),
        "kv_cache_rope"_a.none(), "overlap"_a, "ratio"_a, "eps"_a, "neox"_a, "group"_a,
        "page_slots"_a, "amax_floor"_a, "ue8m0"_a, "packed"_a, "tiled"_a, "tiles_of_16"_a,
        "codes_dtype"_a.none(), "stream"_a.none());
  m.def("indexer_qk_rope_quant_and_cache", &indexer_qk_rope_quant_and_cache, "q"_a, "weights"_a,
        "k"_a, "kv_cache"_a, "slot_mapping"_a, "norm_weight"_a, "norm_bias"_a, "positions"_a,
        "cos"_a, "sin"_a, "epsilon"_a, "weights_scale"_a, "ue8m0"_a, "preshuffle"_a, "neox"_a,
        "cache_dtype"_a.none(), "q_out"_a.none(), "weights_out"_a.none(), "stream"_a.none());
}

}  // namespace aiter::python
