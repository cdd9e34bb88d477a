#include <nanobind/nanobind.h>

#include "python/tensor.h"

NB_MODULE(_aiter, m) {
  nb::set_leak_warnings(false);  // arrays that live to the end of the process are no news
  if (aiter_abi_version() != AITER_ABI_VERSION) {
    PyErr_Format(PyExc_ImportError, "libaiter has ABI %u, this module was built for %u",
                 aiter_abi_version(), AITER_ABI_VERSION);
    throw nb::python_error();
  }
  aiter::python::bind_core(m);
  aiter::python::bind_attention(m);
  aiter::python::bind_kvcache(m);
  aiter::python::bind_array(m);
  aiter::python::bind_activation(m);
  aiter::python::bind_bench(m);
  aiter::python::bind_elementwise(m);
  aiter::python::bind_embedding(m);
  aiter::python::bind_gemm(m);
  aiter::python::bind_norm(m);
  aiter::python::bind_rope(m);
  aiter::python::bind_sampling(m);
  aiter::python::bind_stream(m);
  aiter::python::bind_quant(m);
}
