#include "aiter/attention.h"

#include "python/tensor.h"

namespace aiter::python {
namespace {

// What all functions take: softmax_scale None = the default.
aiter_attention_opts attention_opts(const OpCall& call, nb::handle softmax_scale,
                                    float logits_soft_cap, bool causal, nb::handle window_size,
                                    int max_seqlen_q, int max_seqlen_k) {
  aiter_attention_opts opts = AITER_ATTENTION_OPTS_INIT;
  opts.flags = call.flags();
  if (!softmax_scale.is_none()) {
    opts.softmax_scale = nb::cast<float>(softmax_scale);
    if (opts.softmax_scale == 0)
      throw nb::value_error("softmax_scale is 0, expected another number, or None for the default");
  }
  opts.logits_soft_cap = logits_soft_cap;
  opts.causal = causal;
  const size_t n = nb::len(window_size);
  if (n != 2 && n != 3)
    throw nb::value_error("window_size: expected (left, right) or (left, right, sink_tokens)");
  opts.window_left = nb::cast<int>(window_size[0]);
  opts.window_right = nb::cast<int>(window_size[1]);
  if (n == 3) opts.sink_tokens = nb::cast<int>(window_size[2]);
  opts.max_seqlen_q = max_seqlen_q;
  opts.max_seqlen_k = max_seqlen_k;
  return opts;
}

// The shape of q with v's last extent.
Spec out_spec(const aiter_tensor* q, const aiter_tensor* v) {
  Spec s = like(q);
  if (s.ndim > 0 && v->ndim > 0) s.shape[s.ndim - 1] = v->shape[v->ndim - 1];
  return s;
}

Spec lse_spec(const aiter_tensor* q, std::initializer_list<int> axes) {
  Spec s;
  s.dtype = kFloat32;
  for (int axis : axes) s.shape[s.ndim++] = axis < q->ndim ? q->shape[axis] : 0;
  return s;
}

nb::object flash_attn_varlen(nb::handle q, nb::handle k, nb::handle v, nb::handle cu_seqlens_q,
                             nb::handle cu_seqlens_k, nb::handle seqused_k, nb::handle block_table,
                             nb::handle sink, int max_seqlen_q, int max_seqlen_k,
                             nb::handle softmax_scale, float logits_soft_cap, bool causal,
                             nb::handle window_size, bool return_lse, nb::handle out,
                             nb::handle lse, nb::handle stream) {
  OpCall call("flash_attn_varlen", stream);
  const aiter_tensor* tq = call.in("q", q);
  const aiter_tensor* tk = call.in("k", k);
  const aiter_tensor* tv = call.in("v", v);
  const aiter_tensor* tcu_q = call.in("cu_seqlens_q", cu_seqlens_q);
  const aiter_tensor* tcu_k = call.in("cu_seqlens_k", cu_seqlens_k);
  const aiter_tensor* tused = call.in("seqused_k", seqused_k);
  const aiter_tensor* ttable = call.in("block_table", block_table);
  const aiter_tensor* tsink = call.in("sink_ptr", sink);
  const aiter_tensor* tout = call.out("out", out, out_spec(tq, tv));
  const aiter_tensor* tlse =
      return_lse || !lse.is_none() ? call.out("lse", lse, lse_spec(tq, {1, 0})) : nullptr;
  const auto opts = attention_opts(call, softmax_scale, logits_soft_cap, causal, window_size,
                                   max_seqlen_q, max_seqlen_k);
  call.run([&] {
    return aiter_flash_attn_varlen(tq, tk, tv, tcu_q, tcu_k, tused, ttable, tsink, tout, tlse,
                                   &opts, call.stream());
  });
  return call.result();
}

nb::object flash_attn(nb::handle q, nb::handle k, nb::handle v, nb::handle sink,
                      nb::handle softmax_scale, float logits_soft_cap, bool causal,
                      nb::handle window_size, bool return_lse, nb::handle out, nb::handle lse,
                      nb::handle stream) {
  OpCall call("flash_attn", stream);
  const aiter_tensor* tq = call.in("q", q);
  const aiter_tensor* tk = call.in("k", k);
  const aiter_tensor* tv = call.in("v", v);
  const aiter_tensor* tsink = call.in("sink_ptr", sink);
  const aiter_tensor* tout = call.out("out", out, out_spec(tq, tv));
  const aiter_tensor* tlse =
      return_lse || !lse.is_none() ? call.out("lse", lse, lse_spec(tq, {0, 2, 1})) : nullptr;
  const auto opts = attention_opts(call, softmax_scale, logits_soft_cap, causal, window_size, 0, 0);
  call.run([&] { return aiter_flash_attn(tq, tk, tv, tsink, tout, tlse, &opts, call.stream()); });
  return call.result();
}

nb::object paged_attention_decode(nb::handle q, nb::handle key_cache, nb::handle value_cache,
                                  nb::handle block_table, nb::handle seqused_k, nb::handle sink,
                                  int max_seqlen_k, nb::handle softmax_scale, float logits_soft_cap,
                                  nb::handle window_size, bool return_lse, nb::handle workspace,
                                  nb::handle out, nb::handle lse, nb::handle stream) {
  OpCall call("paged_attention_decode", stream);
  const aiter_tensor* tq = call.in("query", q);
  const aiter_tensor* tk = call.in("key_cache", key_cache);
  const aiter_tensor* tv = call.in("value_cache", value_cache);
  const aiter_tensor* ttable = call.in("block_tables", block_table);
  const aiter_tensor* tused = call.in("seq_lens", seqused_k);
  const aiter_tensor* tsink = call.in("sink_ptr", sink);
  const aiter_tensor* tout = call.out("out", out, out_spec(tq, tv));
  const aiter_tensor* tlse =
      return_lse || !lse.is_none() ? call.out("lse", lse, lse_spec(tq, {0, 1})) : nullptr;
  auto opts =
      attention_opts(call, softmax_scale, logits_soft_cap, false, window_size, 0, max_seqlen_k);
  if (const aiter_tensor* given = call.inout("workspace", workspace)) {
    if (given->ndim != 1 || given->dtype != kUint8 || given->device.type != tq->device.type ||
        given->device.id != tq->device.id)
      throw nb::value_error(
          "paged_attention_decode: workspace is expected to be (bytes,) uint8 on query's device");
    opts.workspace = static_cast<char*>(given->data) + given->byte_offset;
    opts.workspace_bytes = static_cast<uint64_t>(given->shape[0]);
  } else if (tq->device.type != AITER_CPU) {
    check(aiter_paged_attention_decode_workspace(tq, tk, tv, ttable, tout, &opts,
                                                 &opts.workspace_bytes));
    if (opts.workspace_bytes) opts.workspace = call.workspace(opts.workspace_bytes);
  }
  call.run([&] {
    return aiter_paged_attention_decode(tq, tk, tv, ttable, tused, tsink, tout, tlse, &opts,
                                        call.stream());
  });
  return call.result();
}

int64_t paged_attention_decode_workspace(nb::handle q, nb::handle key_cache, nb::handle value_cache,
                                         nb::handle block_table, nb::handle out, int max_seqlen_k) {
  OpCall call("paged_attention_decode_workspace", nb::none());
  const aiter_tensor* tq = call.in("query", q);
  const aiter_tensor* tk = call.in("key_cache", key_cache);
  const aiter_tensor* tv = call.in("value_cache", value_cache);
  const aiter_tensor* ttable = call.in("block_tables", block_table);
  const aiter_tensor* tout = call.in("out", out);
  aiter_attention_opts opts = AITER_ATTENTION_OPTS_INIT;
  opts.max_seqlen_k = max_seqlen_k;
  uint64_t bytes = 0;
  check(aiter_paged_attention_decode_workspace(tq, tk, tv, ttable, tout, &opts, &bytes));
  return static_cast<int64_t>(bytes);
}

}  // namespace

void bind_attention(nb::module_& m) {
  m.def("flash_attn_varlen", &flash_attn_varlen, "q"_a, "k"_a, "v"_a, "cu_seqlens_q"_a,
        "cu_seqlens_k"_a.none(), "seqused_k"_a.none(), "block_table"_a.none(), "sink"_a.none(),
        "max_seqlen_q"_a, "max_seqlen_k"_a, "softmax_scale"_a.none(), "logits_soft_cap"_a,
        "causal"_a, "window_size"_a, "return_lse"_a, "out"_a.none(), "lse"_a.none(),
        "stream"_a.none());
  m.def("flash_attn", &flash_attn, "q"_a, "k"_a, "v"_a, "sink"_a.none(), "softmax_scale"_a.none(),
        "logits_soft_cap"_a, "causal"_a, "window_size"_a, "return_lse"_a, "out"_a.none(),
        "lse"_a.none(), "stream"_a.none());
  m.def("paged_attention_decode", &paged_attention_decode, "query"_a, "key_cache"_a,
        "value_cache"_a, "block_tables"_a, "seq_lens"_a, "sink"_a.none(), "max_seq_len"_a,
        "softmax_scale"_a.none(), "logits_soft_cap"_a, "window_size"_a, "return_lse"_a,
        "workspace"_a.none(), "out"_a.none(), "lse"_a.none(), "stream"_a.none());
  m.def("paged_attention_decode_workspace", &paged_attention_decode_workspace, "query"_a,
        "key_cache"_a, "value_cache"_a, "block_tables"_a, "out"_a, "max_seq_len"_a);
}

}  // namespace aiter::python
