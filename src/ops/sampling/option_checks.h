// Checks of options that are a number for all rows of a batch, or a tensor with one for each.
#pragma once

#include "core/check.h"
#include "ops/sampling/row_option.h"

namespace aiter {

struct OptionChecks {
  const Check& check;
  const Arg& input;  // whose device they are on
  int64_t batch;

  RowOption real(const char* name, const aiter_tensor* t, float value, float most) const {
    check.require(value >= 0 && value <= most, "opts.%s is %g, expected 0 to %g", name, value,
                  most);
    const Arg arg = of_batch(name, t);
    if (!arg) return {nullptr, 0, DType::kF32, {.real = value}};
    arg.dtype({DType::kF32}).values_in(0.0f, most);
    return {arg.data(), arg.stride(0), DType::kF32, {}};
  }
  RowOption integer(const char* name, const aiter_tensor* t, int64_t value) const {
    const Arg arg = of_batch(name, t);
    if (!arg) return {nullptr, 0, DType::kI64, {.integer = value}};
    arg.dtype({DType::kI32, DType::kI64});
    return {arg.data(), arg.stride(0), arg.dtype(), {}};
  }

 private:
  Arg of_batch(const char* name, const aiter_tensor* t) const {
    const Arg arg = check.optional(name, t);
    if (arg) arg.shape({batch}).on_device_of(input);
    return arg;
  }
};

}  // namespace aiter
