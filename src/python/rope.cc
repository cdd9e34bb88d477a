#include "aiter/rope.h"

#include <utility>

#include "python/tensor.h"

namespace aiter::python {
namespace {

nb::object rotary_embedding(nb::handle positions, nb::handle query, nb::handle key,
                            int64_t head_size, nb::handle cos_cache, nb::handle sin_cache,
                            bool interleaved, bool nope_first, nb::handle query_out,
                            nb::handle key_out, nb::handle stream) {
  OpCall call("rotary_embedding", stream);
  const aiter_tensor* tquery = call.in("query", query);  // first: results are of its kind
  const aiter_tensor* tkey = call.in("key", key);
  const aiter_tensor* tpositions = call.in("positions", positions);
  const aiter_tensor* tcos = call.in("cos_cache", cos_cache);
  const aiter_tensor* tsin = call.in("sin_cache", sin_cache);
  const aiter_tensor* tquery_out = call.out("query_out", query_out, like(tquery));
  const aiter_tensor* tkey_out = tkey ? call.out("key_out", key_out, like(tkey)) : nullptr;
  aiter_rotary_embedding_opts opts = AITER_ROTARY_EMBEDDING_OPTS_INIT;
  opts.flags = call.flags();
  opts.head_size = head_size;
  opts.interleaved = interleaved;
  opts.nope_first = nope_first;
  call.run([&] {
    return aiter_rotary_embedding(tpositions, tquery, tkey, tcos, tsin, tquery_out, tkey_out, &opts,
                                  call.stream());
  });
  return call.result();
}

// A view of a tensor whose first two dimensions have changed places.
struct Transposed {
  int64_t shape[kMaxRank], strides[kMaxRank];
  aiter_tensor t;
  const aiter_tensor* of(const aiter_tensor* from) {
    if (!from || from->ndim < 2) return from;
    t = *from;
    int64_t stride = 1;
    for (int i = t.ndim - 1; i >= 0; --i) {
      shape[i] = t.shape[i];
      strides[i] = t.strides ? t.strides[i] : stride;
      stride *= shape[i];
    }
    std::swap(shape[0], shape[1]), std::swap(strides[0], strides[1]);
    t.shape = shape, t.strides = strides;
    return &t;
  }
};

// With `transpose`, results have x's two first dimensions the other way round.
nb::object rope(nb::handle x, nb::handle y, nb::handle cos, nb::handle sin, nb::handle cos_w,
                nb::handle sin_w, nb::handle positions, nb::handle offsets, int rows,
                bool interleaved, bool nope_first, bool full_width, bool inverse, int64_t head_size,
                int64_t section0, int64_t section1, int64_t section2, bool sections_interleaved,
                int64_t height, int64_t width, int64_t first_token, bool transpose,
                nb::handle x_out, nb::handle y_out, nb::handle stream) {
  OpCall call("rope", stream);
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* ty = call.in("y", y);
  const aiter_tensor* tcos = call.in("cos", cos);
  const aiter_tensor* tsin = call.in("sin", sin);
  const aiter_tensor* tcos_w = call.in("cos_w", cos_w);
  const aiter_tensor* tsin_w = call.in("sin_w", sin_w);
  const aiter_tensor* tpositions = call.in("positions", positions);
  const aiter_tensor* toffsets = call.in("offsets", offsets);
  auto result_spec = [&](const aiter_tensor* t) {
    Spec s = like(t);
    if (transpose && s.ndim >= 2) std::swap(s.shape[0], s.shape[1]);
    return s;
  };
  const aiter_tensor* tx_out = call.out("x_out", x_out, result_spec(tx));
  const aiter_tensor* ty_out = ty ? call.out("y_out", y_out, result_spec(ty)) : nullptr;
  Transposed x_view, y_view;
  if (transpose) tx_out = x_view.of(tx_out), ty_out = y_view.of(ty_out);
  aiter_rope_opts opts = AITER_ROPE_OPTS_INIT;
  opts.flags = call.flags();
  opts.rows = rows;
  opts.interleaved = interleaved;
  opts.nope_first = nope_first;
  opts.full_width = full_width;
  opts.inverse = inverse;
  opts.head_size = head_size;
  opts.section0 = section0, opts.section1 = section1, opts.section2 = section2;
  opts.sections_interleaved = sections_interleaved;
  opts.height = height, opts.width = width;
  opts.first_token = first_token;
  call.run([&] {
    return aiter_rope(tx, ty, tcos, tsin, tcos_w, tsin_w, tpositions, toffsets, tx_out, ty_out,
                      &opts, call.stream());
  });
  return call.result();
}

nb::object fused_qk_norm_rope(nb::handle q, nb::handle k, nb::handle v, nb::handle q_weight,
                              nb::handle k_weight, nb::handle cos, nb::handle sin,
                              nb::handle positions, bool norm, float eps, bool gemma,
                              bool interleaved, bool nope_first, int64_t section0, int64_t section1,
                              int64_t section2, bool sections_interleaved, nb::handle q_out,
                              nb::handle k_out, nb::handle v_out, nb::handle stream) {
  OpCall call("fused_qk_norm_rope", stream);
  const aiter_tensor* tq = call.in("q", q);
  const aiter_tensor* tk = call.in("k", k);
  const aiter_tensor* tv = call.in("v", v);
  const aiter_tensor* tq_weight = call.in("q_weight", q_weight);
  const aiter_tensor* tk_weight = call.in("k_weight", k_weight);
  const aiter_tensor* tcos = call.in("cos", cos);
  const aiter_tensor* tsin = call.in("sin", sin);
  const aiter_tensor* tpositions = call.in("positions", positions);
  const aiter_tensor* tq_out = call.out("q_out", q_out, like(tq));
  const aiter_tensor* tk_out = call.out("k_out", k_out, like(tk));
  const aiter_tensor* tv_out = tv ? call.out("v_out", v_out, like(tv)) : nullptr;
  aiter_fused_qk_norm_rope_opts opts = AITER_FUSED_QK_NORM_ROPE_OPTS_INIT;
  opts.flags = call.flags();
  opts.eps = eps;
  opts.norm = norm;
  opts.gemma = gemma;
  opts.interleaved = interleaved;
  opts.nope_first = nope_first;
  opts.sections_interleaved = sections_interleaved;
  opts.section0 = section0, opts.section1 = section1, opts.section2 = section2;
  call.run([&] {
    return aiter_fused_qk_norm_rope(tq, tk, tv, tq_weight, tk_weight, tcos, tsin, tpositions,
                                    tq_out, tk_out, tv_out, &opts, call.stream());
  });
  return call.result();
}

}  // namespace

void bind_rope(nb::module_& m) {
  m.def("rotary_embedding", &rotary_embedding, "positions"_a, "query"_a, "key"_a.none(),
        "head_size"_a, "cos_cache"_a, "sin_cache"_a, "interleaved"_a, "nope_first"_a,
        "query_out"_a.none(), "key_out"_a.none(), "stream"_a.none());
  m.def("rope", &rope, "x"_a, "y"_a.none(), "cos"_a, "sin"_a.none(), "cos_w"_a.none(),
        "sin_w"_a.none(), "positions"_a.none(), "offsets"_a.none(), "rows"_a, "interleaved"_a,
        "nope_first"_a, "full_width"_a, "inverse"_a, "head_size"_a, "section0"_a, "section1"_a,
        "section2"_a, "sections_interleaved"_a, "height"_a, "width"_a, "first_token"_a,
        "transpose"_a, "x_out"_a.none(), "y_out"_a.none(), "stream"_a.none());
  m.def("fused_qk_norm_rope", &fused_qk_norm_rope, "q"_a, "k"_a, "v"_a.none(), "q_weight"_a.none(),
        "k_weight"_a.none(), "cos"_a.none(), "sin"_a.none(), "positions"_a.none(), "norm"_a,
        "eps"_a, "gemma"_a, "interleaved"_a, "nope_first"_a, "section0"_a, "section1"_a,
        "section2"_a, "sections_interleaved"_a, "q_out"_a.none(), "k_out"_a.none(),
        "v_out"_a.none(), "stream"_a.none());
}

}  // namespace aiter::python
