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
//
// An argument that may be None is declared "w"_a.none().
#pragma once

#include <nanobind/nanobind.h>

#include <array>
#include <initializer_list>

#include "aiter/aiter.h"
#include "python/import.h"

namespace nb = nanobind;
using namespace nanobind::literals;

namespace aiter::python {

constexpr int kMaxTensors = 20;

Spec like(const aiter_tensor* t);
Spec spec(aiter_dtype dtype, std::initializer_list<int64_t> shape);

// Packed codes travel as uint8: no array library but torch has a packed fp4, and none has fp6.
inline aiter_dtype stored(aiter_dtype dtype) { return dtype.bits < 8 ? kUint8 : dtype; }

// A view that a call makes of an array.
struct View {
  aiter_tensor tensor;
  int64_t shape[kMaxRank], strides[kMaxRank];
  explicit View(const aiter_tensor* t) : tensor(*t) {}
  const aiter_tensor* of(int rank) {
    tensor.ndim = rank, tensor.shape = shape, tensor.strides = strides;
    return &tensor;
  }
};
inline int64_t stride_of(const aiter_tensor* t, int dim) {
  if (t->strides) return t->strides[dim];
  int64_t stride = 1;
  for (int i = t->ndim - 1; i > dim; --i) stride *= t->shape[i];
  return stride;
}

// Raises the Python exception of a failed status, with the C message.
[[noreturn]] void raise(aiter_status status);
inline void check(aiter_status status) {
  if (status != AITER_OK) raise(status);
}

class OpCall {
 public:
  OpCall(const char* op, nb::handle stream) : op_(op), stream_choice_(stream) {}
  OpCall(const OpCall&) = delete;

  // Inputs; the first one given decides in which kind results come back. None gives NULL.
  // uint8 elements are taken for `packed` ones: for arguments of one dtype that NumPy and others
  // cannot name (kInt4x2).
  const aiter_tensor* in(const char* name, nb::handle object, aiter_dtype packed = kUint8);
  // An output: the caller's array (must be writable), or a new one when `given` is None. Of a
  // dtype that the library cannot name, both are of uint8.
  const aiter_tensor* out(const char* name, nb::handle given, const Spec& spec);
  // An argument that is updated in place: must be writable, and is no result. None gives NULL.
  const aiter_tensor* inout(const char* name, nb::handle object);
  // Scratch memory for opts.workspace, on the device of the first tensor.
  void* workspace(uint64_t bytes);

  uint32_t flags() const;  // AITER_DRY_RUN inside aiter.explain()
  aiter_stream stream() const { return stream_; }

  template <class F>
  void run(F&& f) {
    aiter_status status;
    if (prepare()) {
      nb::gil_scoped_release release;
      status = f();
    } else {
      status = f();
    }
    finish(status);
  }

  // The outputs, in the order of the out() calls: one object, or a tuple.
  nb::object result();

 private:
  bool prepare();  // resolves the stream; true if other Python threads should run meanwhile
  void finish(aiter_status status);
  Imported& import(const char* name, nb::handle object, bool writable);
  Imported& next();
  void allocate(Imported& t, const Spec& spec);

  const char* op_;
  StreamChoice stream_choice_;
  aiter_stream stream_ = nullptr;
  std::array<Imported, kMaxTensors> tensors_;
  int count_ = 0;
  int first_ = -1;  // the tensor whose kind results take
  std::array<int, 8> outs_;
  int out_count_ = 0;
  uint32_t fresh_ = 0;    // bit i: output i is ours, not the caller's
  uint32_t written_ = 0;  // bit i: the call writes tensor i
};

void bind_core(nb::module_& m);
void bind_array(nb::module_& m);
void bind_activation(nb::module_& m);
void bind_bench(nb::module_& m);
void bind_elementwise(nb::module_& m);
void bind_embedding(nb::module_& m);
void bind_gemm(nb::module_& m);
void bind_attention(nb::module_& m);
void bind_kvcache(nb::module_& m);
void bind_norm(nb::module_& m);
void bind_rope(nb::module_& m);
void bind_sampling(nb::module_& m);
void bind_stream(nb::module_& m);
void bind_quant(nb::module_& m);

void set_dry_run(bool on);  // this thread's calls

}  // namespace aiter::python
