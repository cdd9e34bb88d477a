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

// An option that is a number for all rows, or an array with one for each: a tensor, or NULL after
// setting the number.
const aiter_tensor* number_or_array(OpCall& call, const char* name, nb::handle given,
                                    float& number) {
  if (nb::hasattr(given, "__dlpack__")) return call.in(name, given);
  const double value = PyFloat_AsDouble(given.ptr());
  if (value == -1 && PyErr_Occurred()) throw nb::python_error();
  number = static_cast<float>(value);
  return nullptr;
}
template <class Integer>
const aiter_tensor* number_or_array(OpCall& call, const char* name, nb::handle given,
                                    Integer& number) {
  if (nb::hasattr(given, "__dlpack__")) return call.in(name, given);
  number = nb::cast<Integer>(nb::steal(PyNumber_Index(given.ptr())));
  return nullptr;
}

nb::object top_k_top_p_sampling(nb::handle input, bool input_is_probs, nb::handle indices,
                                nb::handle temperature, nb::handle top_k, nb::handle top_p,
                                nb::handle min_p, nb::handle seed, nb::handle offset,
                                bool top_k_first, nb::handle out, nb::handle stream) {
  OpCall call("top_k_top_p_sampling", stream);
  aiter_top_k_top_p_sampling_opts opts = AITER_TOP_K_TOP_P_SAMPLING_OPTS_INIT;
  opts.flags = call.flags();
  opts.input_is_probs = input_is_probs;
  opts.top_k_first = top_k_first;
  const aiter_tensor* tinput = call.in("input", input);
  const aiter_tensor* tindices = call.in("indices", indices);
  const aiter_tensor* ttemperature =
      number_or_array(call, "temperature", temperature, opts.temperature);
  const aiter_tensor* ttop_k = number_or_array(call, "top_k", top_k, opts.top_k);
  const aiter_tensor* ttop_p = number_or_array(call, "top_p", top_p, opts.top_p);
  const aiter_tensor* tmin_p = number_or_array(call, "min_p", min_p, opts.min_p);
  const aiter_tensor* tseed = number_or_array(call, "seed", seed, opts.seed);
  const aiter_tensor* toffset = number_or_array(call, "offset", offset, opts.offset);
  const aiter_tensor* rows = tindices ? tindices : tinput;
  const int64_t batch = rows->ndim > 0 ? rows->shape[0] : 0;
  const aiter_tensor* tout = call.out("out", out, spec(kInt32, {batch}));
  call.run([&] {
    return aiter_top_k_top_p_sampling(tinput, tindices, ttemperature, ttop_k, ttop_p, tmin_p, tseed,
                                      toffset, tout, &opts, call.stream());
  });
  return call.result();
}

nb::object renorm_probs(nb::handle probs, nb::handle top_k, nb::handle top_p, nb::handle min_p,
                        bool top_k_first, nb::handle out, nb::handle stream) {
  OpCall call("renorm_probs", stream);
  aiter_renorm_probs_opts opts = AITER_RENORM_PROBS_OPTS_INIT;
  opts.flags = call.flags();
  opts.top_k_first = top_k_first;
  const aiter_tensor* tprobs = call.in("probs", probs);
  const aiter_tensor* ttop_k = number_or_array(call, "top_k", top_k, opts.top_k);
  const aiter_tensor* ttop_p = number_or_array(call, "top_p", top_p, opts.top_p);
  const aiter_tensor* tmin_p = number_or_array(call, "min_p", min_p, opts.min_p);
  const aiter_tensor* tout = call.out("out", out, like(tprobs));
  call.run([&] {
    return aiter_renorm_probs(tprobs, ttop_k, ttop_p, tmin_p, tout, &opts, call.stream());
  });
  return call.result();
}

nb::object random_sample(nb::handle logits, nb::handle temperature, nb::handle exponentials,
                         nb::handle seed, nb::handle offset, float lambd, float eps, nb::handle out,
                         nb::handle stream) {
  OpCall call("random_sample", stream);
  aiter_random_sample_opts opts = AITER_RANDOM_SAMPLE_OPTS_INIT;
  opts.flags = call.flags();
  opts.lambd = lambd;
  opts.eps = eps;
  const aiter_tensor* tlogits = call.in("logits", logits);
  const aiter_tensor* ttemperature =
      number_or_array(call, "temperature", temperature, opts.temperature);
  const aiter_tensor* texponentials = call.in("exponentials", exponentials);
  const aiter_tensor* tseed = number_or_array(call, "seed", seed, opts.seed);
  const aiter_tensor* toffset = number_or_array(call, "offset", offset, opts.offset);
  const int64_t batch = tlogits->ndim > 0 ? tlogits->shape[0] : 0;
  const aiter_tensor* tout = call.out("out", out, spec(kInt32, {batch}));
  call.run([&] {
    return aiter_random_sample(tlogits, ttemperature, texponentials, tseed, toffset, tout, &opts,
                               call.stream());
  });
  return call.result();
}

nb::object exponential(nb::handle out, nb::handle seed, nb::handle offset, float lambd, float eps,
                       nb::handle stream) {
  OpCall call("exponential", stream);
  aiter_exponential_opts opts = AITER_EXPONENTIAL_OPTS_INIT;
  opts.flags = call.flags();
  opts.lambd = lambd;
  opts.eps = eps;
  const aiter_tensor* tout = call.out("out", out, spec(kFloat32, {0}));
  const aiter_tensor* tseed = number_or_array(call, "seed", seed, opts.seed);
  const aiter_tensor* toffset = number_or_array(call, "offset", offset, opts.offset);
  call.run([&] { return aiter_exponential(tseed, toffset, tout, &opts, call.stream()); });
  return call.result();
}

nb::object topk(nb::handle x, int64_t k, int32_t dim, bool largest, bool sorted,
                nb::handle row_starts, nb::handle row_ends, int32_t next_n, bool with_values,
                bool wide, nb::handle values, nb::handle indices, nb::handle stream) {
  OpCall call("topk", stream);
  aiter_topk_opts opts = AITER_TOPK_OPTS_INIT;
  opts.flags = call.flags();
  opts.dim = dim;
  opts.smallest = !largest;
  opts.sorted = sorted;
  opts.next_n = next_n;
  const aiter_tensor* tx = call.in("x", x);
  const aiter_tensor* tstarts = call.in("row_starts", row_starts);
  const aiter_tensor* tends = call.in("row_ends", row_ends);
  Spec like_values = like(tx);
  const int32_t at = dim < 0 ? dim + tx->ndim : dim;
  if (at >= 0 && at < tx->ndim) like_values.shape[at] = k;
  Spec like_indices = like_values;
  like_indices.dtype = wide ? kInt64 : kInt32;
  const aiter_tensor* tvalues = with_values ? call.out("values", values, like_values) : nullptr;
  const aiter_tensor* tindices = call.out("indices", indices, like_indices);
  call.run([&] { return aiter_topk(tx, tstarts, tends, tvalues, tindices, &opts, call.stream()); });
  return call.result();
}

}  // namespace

void bind_sampling(nb::module_& m) {
  m.def("greedy_sample", &greedy_sample, "logits"_a, "out"_a.none(), "stream"_a.none());
  m.def("top_k_top_p_sampling", &top_k_top_p_sampling, "input"_a, "input_is_probs"_a,
        "indices"_a.none(), "temperature"_a, "top_k"_a, "top_p"_a, "min_p"_a, "seed"_a, "offset"_a,
        "top_k_first"_a, "out"_a.none(), "stream"_a.none());
  m.def("renorm_probs", &renorm_probs, "probs"_a, "top_k"_a, "top_p"_a, "min_p"_a, "top_k_first"_a,
        "out"_a.none(), "stream"_a.none());
  m.def("random_sample", &random_sample, "logits"_a, "temperature"_a, "exponentials"_a.none(),
        "seed"_a, "offset"_a, "lambd"_a, "eps"_a, "out"_a.none(), "stream"_a.none());
  m.def("exponential", &exponential, "out"_a, "seed"_a, "offset"_a, "lambd"_a, "eps"_a,
        "stream"_a.none());
  m.def("topk", &topk, "x"_a, "k"_a, "dim"_a, "largest"_a, "sorted"_a, "row_starts"_a.none(),
        "row_ends"_a.none(), "next_n"_a, "with_values"_a, "wide"_a, "values"_a.none(),
        "indices"_a.none(), "stream"_a.none());
}

}  // namespace aiter::python
