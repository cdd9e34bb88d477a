#include "aiter/embedding.h"

#include "python/tensor.h"

namespace aiter::python {
namespace {

nb::object embedding(nb::handle ids, nb::handle table, nb::handle scale, nb::handle dtype,
                     nb::handle out, nb::handle stream) {
  OpCall call("embedding", stream);
  const aiter_tensor* tids = call.in("ids", ids);
  const aiter_tensor* ttable = call.in("table", table);
  const aiter_tensor* tscale = call.in("scale", scale);
  Spec rows = like(tids);
  if (rows.ndim < kMaxRank && ttable->ndim > 0)
    rows.shape[rows.ndim++] = ttable->shape[ttable->ndim - 1];
  const bool quantized = ttable->dtype.code == AITER_CODE_INT;
  rows.dtype = parse_dtype(dtype, quantized ? kBfloat16 : ttable->dtype);
  const aiter_tensor* tout = call.out("out", out, rows);
  aiter_embedding_opts opts = AITER_EMBEDDING_OPTS_INIT;
  opts.flags = call.flags();
  call.run([&] { return aiter_embedding(tids, ttable, tscale, tout, &opts, call.stream()); });
  return call.result();
}

}  // namespace

void bind_embedding(nb::module_& m) {
  m.def("embedding", &embedding, "ids"_a, "table"_a, "scale"_a.none(), "dtype"_a.none(),
        "out"_a.none(), "stream"_a.none());
}

}  // namespace aiter::python
