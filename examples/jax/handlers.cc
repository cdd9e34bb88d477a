// Operators of libaiter as XLA FFI handlers; layers.py builds, registers and calls them.
#include "aiter/xla_ffi.h"

namespace ffi = xla::ffi;
using aiter::xla::Call;
using aiter::xla::on;
using Array = ffi::AnyBuffer;
using Result = ffi::Result<ffi::AnyBuffer>;

static ffi::Error rms_norm(Call call, Array x, Array w, Result y, float eps) {
  aiter_rmsnorm_opts opts = AITER_RMSNORM_OPTS_INIT;
  opts.eps = eps;
  return call(aiter_rmsnorm, x, w, y, &opts);
}

static ffi::Error add_rms_norm(Call call, Array x, Array residual, Array w, Result y,
                               Result residual_out, float eps) {
  aiter_rmsnorm_opts opts = AITER_RMSNORM_OPTS_INIT;
  opts.eps = eps;
  return call(aiter_add_rmsnorm, x, residual, w, y, residual_out, &opts);
}

static ffi::Error silu_and_mul(Call call, Array x, Result y) {
  return call(aiter_act_and_mul, x, nullptr, nullptr, nullptr, y, nullptr, nullptr);
}

// The caches are arguments and results in one: only the results are looked at.
static ffi::Error update_cache(Call call, Array key, Array value, Array, Array, Array slots,
                               Result key_cache, Result value_cache) {
  return call(aiter_reshape_and_cache, key, value, key_cache, value_cache, slots, nullptr, nullptr,
              nullptr);
}

// <name>_cpu, <name>_cuda, <name>_rocm. The operators' kernels are loaded in the stage before, so XLA
// may record the calls into command buffers.
#define HANDLERS(name, signature)                                              \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name##_cpu, name, on<AITER_CPU>() signature);  \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name##_cuda, name, on<AITER_CUDA>() signature, \
                                {ffi::Traits::kCmdBufferCompatible});          \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name##_rocm, name, on<AITER_ROCM>() signature, \
                                {ffi::Traits::kCmdBufferCompatible})

HANDLERS(rms_norm, .Arg<Array>().Arg<Array>().Ret<Array>().Attr<float>("eps"));
HANDLERS(add_rms_norm,
         .Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>().Ret<Array>().Attr<float>("eps"));
HANDLERS(silu_and_mul, .Arg<Array>().Ret<Array>());
HANDLERS(
    update_cache,
    .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>().Ret<Array>());

#define OPERATORS "rmsnorm,act_and_mul,reshape_and_cache"
AITER_XLA_PREPARE(prepare_cpu, AITER_CPU, OPERATORS);
AITER_XLA_PREPARE(prepare_cuda, AITER_CUDA, OPERATORS);
AITER_XLA_PREPARE(prepare_rocm, AITER_ROCM, OPERATORS);
