#include "aiter/sampling.h"

#include "python/tensor.h"

namespace aiter::python {
namespace {

nb::object greedy_sample(nb::handle logits, nb::handle out, nb::handle stream) {
  OpCall call("greedy_sample", stream);
  const aiter_tensor* tlogits = call.in("logits", logits);
  const int64_t batch = tlogits->ndim > 0 ? tlogits->shape[0] : 0;
  const aiter_tensor* tout = call.out("out", out, spec(kInt32, {batch}));
  aiter_greedy_sample_opts opts = AITER_GREEDY_SAMPLE_OPTS_INIT;
  opts.flags = call.flags();
  call.run([&] { return aiter_greedy_sample(tlogits, tout, &opts, call.stream()); });
  return call.result();
}

}  // namespace

void bind_sampling(nb::module_& m) {
  m.def("greedy_sample", &greedy_sample, "logits"_a, "out"_a.none(), "stream"_a.none());
}

}  // namespace aiter::python
