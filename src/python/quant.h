// How Python asks for quantized results. A binding of an operator that quantizes its result gets
// aiter.Quant, a tuple, or None as its argument `quant`:
//
//   QuantResult quant(call, quant_argument);
//   const aiter_tensor* ty = quant ? quant.codes("out", out, tx) : call.out("out", out, like(tx));
//   const aiter_tensor* tscale = quant ? quant.scale("scale", out_scale, tx) : nullptr;
//   opts.quant = quant.opts();  // after scale()
#pragma once

#include "aiter/quant.h"
#include "python/tensor.h"

namespace aiter::python {

class QuantResult {
 public:
  QuantResult(OpCall& call, nb::handle quant);  // None: not quantized
  explicit operator bool() const { return given_; }
  const aiter_quantize_opts* opts() const { return given_ ? &opts_ : nullptr; }

  // The output, or a new one, for numbers with the leading dimensions of x and `cols` columns
  // (-1: those of x).
  const aiter_tensor* codes(const char* name, nb::handle given, const aiter_tensor* x,
                            int64_t cols = -1) const;
  // The scales likewise; where they are given by aiter.Quant, an input.
  const aiter_tensor* scale(const char* name, nb::handle given, const aiter_tensor* x,
                            int64_t cols = -1);

 private:
  OpCall& call_;
  bool given_ = false;
  nb::object static_scale_;
  aiter_quantize_opts opts_ = AITER_QUANTIZE_OPTS_INIT;
};

}  // namespace aiter::python
