#include "aiter/rope.h"

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

}  // namespace

void bind_rope(nb::module_& m) {
  m.def("rotary_embedding", &rotary_embedding, "positions"_a, "query"_a, "key"_a.none(),
        "head_size"_a, "cos_cache"_a, "sin_cache"_a, "interleaved"_a, "nope_first"_a,
        "query_out"_a.none(), "key_out"_a.none(), "stream"_a.none());
}

}  // namespace aiter::python
