// Streams and graphs, for programs that bring no framework of their own.
#include "python/array.h"
#include "python/tensor.h"

namespace aiter::python {
namespace {

struct Stream {
  aiter_device device;
  aiter_stream handle = nullptr;

  explicit Stream(nb::handle name) : device(parse_device(name)) {
    check(aiter_stream_create(device, &handle));
  }
  Stream(const Stream&) = delete;
  ~Stream() { aiter_stream_destroy(device, handle); }
};

struct Graph {
  aiter_device device;
  aiter_graph handle;

  Graph(aiter_device device, aiter_graph handle) : device(device), handle(handle) {}
  Graph(const Graph&) = delete;
  ~Graph() { aiter_graph_destroy(device, handle); }
};

Graph* end_capture(const Stream& s) {
  aiter_graph graph = nullptr;
  check(aiter_capture_end(s.device, &graph, s.handle));
  return new Graph(s.device, graph);
}

}  // namespace

void bind_stream(nb::module_& m) {
  nb::class_<Stream>(m, "Stream", "A stream of a device; calls take it as stream=.")
      .def(nb::init<nb::handle>(), "device"_a)
      .def_prop_ro("device", [](const Stream& s) { return nb::str(device_text(s.device).c_str()); })
      .def("__cuda_stream__",
           [](const Stream& s) { return nb::make_tuple(0, reinterpret_cast<uintptr_t>(s.handle)); })
      .def(
          "synchronize",
          [](const Stream& s) {
            aiter_status status;
            {
              nb::gil_scoped_release release;
              status = aiter_stream_synchronize(s.device, s.handle);
            }
            check(status);
          },
          "Wait for all calls on the stream.")
      .def("_begin_capture",
           [](const Stream& s) { check(aiter_capture_begin(s.device, s.handle)); })
      .def("_end_capture", &end_capture, nb::rv_policy::take_ownership);
  nb::class_<Graph>(m, "Graph", "Calls that aiter.capture has recorded.")
      .def(
          "launch",
          [](const Graph& g, const Stream& s) {
            check(aiter_graph_launch(g.device, g.handle, s.handle));
          },
          "stream"_a, "Run the calls, with whatever their arrays hold then.");
}

}  // namespace aiter::python
