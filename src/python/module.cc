#include <nanobind/nanobind.h>

#include "python/tensor.h"

namespace aiter::python {
namespace {

void bind_core(nb::module_& m) {
  m.def("version", &aiter_version);
  m.def("set_num_threads", [](int n) { check(aiter_set_num_threads(n)); }, nb::arg("n"));
  m.def("get_num_threads", &aiter_get_num_threads);
  m.def("set_cpu_isa", [](nb::handle name) {
    check(aiter_set_cpu_isa(name.is_none() ? nullptr : nb::cast<const char*>(name)));
  }, nb::arg("name").none());
  m.def("get_cpu_isa", &aiter_get_cpu_isa);
  m.def("set_force", [](const char* rows) { check(aiter_set_force(rows)); }, nb::arg("rows"));
  m.def("last_explanation", &aiter_last_explanation);
  m.def("dispatch_table", &aiter_dispatch_table);
  m.def("set_dry_run", &set_dry_run);
}

}  // namespace
}  // namespace aiter::python

NB_MODULE(_aiter, m) {
  if (aiter_abi_version() != AITER_ABI_VERSION) {
    PyErr_Format(PyExc_ImportError, "libaiter has ABI %u, this module was built for %u",
                 aiter_abi_version(), AITER_ABI_VERSION);
    throw nb::python_error();
  }
  aiter::python::bind_core(m);
  aiter::python::bind_kvcache(m);
  aiter::python::bind_norm(m);
}
