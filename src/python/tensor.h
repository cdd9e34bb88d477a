// Python objects as aiter_tensors, and back: what every binding is written with. Bindings are thin:
// python/aiter/<family>.py has the public names, the defaults and the documentation.
//
//   nb::object rmsnorm(nb::handle x, nb::handle w, nb::handle out, float eps, nb::handle stream) {
//     OpCall call("rmsnorm", stream);
//     const aiter_tensor* tx = call.in("x", x);
//     const aiter_tensor* tw = call.in("w", w);        // None -> NULL
//     const aiter_tensor* ty = call.out("out", out, like(tx));  // None -> a new array
//     aiter_rmsnorm_opts opts = AITER_RMSNORM_OPTS_INIT;
//     opts.flags = call.flags();
//     call.run([&] { return aiter_rmsnorm(tx, tw, ty, &opts, call.stream()); });
//     return call.result();
//   }
#pragma once

#include <nanobind/nanobind.h>

#include <array>
#include <initializer_list>

#include "aiter/aiter.h"

namespace nb = nanobind;
using namespace nanobind::literals;

namespace aiter::python {

constexpr int kMaxRank = 8;
constexpr int kMaxTensors = 16;

// Shape and dtype of an output.
struct Spec {
  int ndim = 0;
  int64_t shape[kMaxRank] = {};
  aiter_dtype dtype{};
};
Spec like(const aiter_tensor* t);
Spec spec(aiter_dtype dtype, std::initializer_list<int64_t> shape);
inline constexpr aiter_dtype kFloat32{AITER_CODE_FLOAT, 32, 1};
inline constexpr aiter_dtype kFloat16{AITER_CODE_FLOAT, 16, 1};
inline constexpr aiter_dtype kBfloat16{AITER_CODE_BFLOAT, 16, 1};
inline constexpr aiter_dtype kInt32{AITER_CODE_INT, 32, 1};
inline constexpr aiter_dtype kInt64{AITER_CODE_INT, 64, 1};

// "float16", "bfloat16" ... or None for the fallback. Throws ValueError for an unknown name.
aiter_dtype parse_dtype(nb::handle name, aiter_dtype fallback);

// Raises the Python exception of a failed status, with the C message.
[[noreturn]] void raise(aiter_status status);
inline void check(aiter_status status) {
  if (status != AITER_OK) raise(status);
}

// One argument: a descriptor over the producer's memory, which is kept alive.
class Imported {
 public:
  Imported() = default;
  Imported(const Imported&) = delete;
  ~Imported();

  aiter_tensor tensor{};
  int64_t shape[kMaxRank];
  int64_t strides[kMaxRank];
  nb::object owner;               // the array object
  void* managed = nullptr;        // a DLManagedTensor(Versioned) to release
  void (*release)(void*) = nullptr;
};

class OpCall {
 public:
  OpCall(const char* op, nb::handle stream) : op_(op), stream_object_(stream) {}
  OpCall(const OpCall&) = delete;

  // Inputs; the first one given decides in which kind results come back. None gives NULL.
  const aiter_tensor* in(const char* name, nb::handle object);
  // An output: the caller's array (must be writable), or a new one when `given` is None.
  const aiter_tensor* out(const char* name, nb::handle given, const Spec& spec);
  // An argument that is updated in place: must be writable, and is no result.
  const aiter_tensor* inout(const char* name, nb::handle object);

  uint32_t flags() const;         // AITER_DRY_RUN inside aiter.explain()
  aiter_stream stream() const { return stream_; }

  template <class F>
  void run(F&& f) {
    prepare();
    aiter_status status;
    {
      nb::gil_scoped_release release;
      status = f();
    }
    check(status);
  }

  // The outputs, in the order of the out() calls: one object, or a tuple.
  nb::object result();

 private:
  void prepare();  // resolves the stream
  Imported& import(const char* name, nb::handle object, bool writable);

  const char* op_;
  nb::handle stream_object_;
  aiter_stream stream_ = nullptr;
  std::array<Imported, kMaxTensors> tensors_;
  int count_ = 0;
  int first_ = -1;  // the tensor whose kind results take
  std::array<int, 4> outs_;
  int out_count_ = 0;
};

void set_dry_run(bool on);  // this thread's calls

void bind_kvcache(nb::module_& m);
void bind_norm(nb::module_& m);

}  // namespace aiter::python
