// XLA FFI handlers over the C ABI, so that operators run inside jax.jit: C++17, header-only. Compile
// with the includes of jax.ffi.include_dir(), link with libaiter, register with
// jax.ffi.register_ffi_target. There is no static state, and no code for what is not used.
//
//   static xla::ffi::Error rms_norm(aiter::xla::Call call, xla::ffi::AnyBuffer x,
//                                   xla::ffi::AnyBuffer w, xla::ffi::Result<xla::ffi::AnyBuffer> y,
//                                   float eps) {
//     aiter_rmsnorm_opts opts = AITER_RMSNORM_OPTS_INIT;
//     opts.eps = eps;
//     return call(aiter_rmsnorm, x, w, y, &opts);
//   }
//   XLA_FFI_DEFINE_HANDLER_SYMBOL(rms_norm_cpu, rms_norm,
//                                 aiter::xla::on<AITER_CPU>()
//                                     .Arg<xla::ffi::AnyBuffer>().Arg<xla::ffi::AnyBuffer>()
//                                     .Ret<xla::ffi::AnyBuffer>().Attr<float>("eps"));
//
// One function serves every platform: bind it once with on<AITER_CPU>(), on<AITER_CUDA>() or
// on<AITER_ROCM>() for "cpu", "CUDA" or "ROCM". examples/jax has a whole library of handlers.
//
// - In place: an array that is updated (a KV cache) is an argument and a result, joined by
//   input_output_aliases of jax.ffi.ffi_call; the call gets the result. XLA copies where the caller
//   still needs the old array.
// - Workspace: one more result, of uint8 and the size that aiter_<op>_workspace() gives; it needs no
//   GPU, so it can be asked while JAX traces. opts.workspace is its untyped_data().
// - Graphs: with AITER_XLA_PREPARE as its "initialize" stage, a GPU handler's kernels are loaded
//   before XLA records a command buffer; only then is the trait kCmdBufferCompatible true.
#ifndef AITER_XLA_FFI_H_
#define AITER_XLA_FFI_H_

#include <cstdint>
#include <optional>
#include <type_traits>

#include "aiter/aiter.h"
#include "xla/ffi/api/ffi.h"

namespace aiter::xla {

namespace ffi = ::xla::ffi;

inline aiter_dtype dtype_of(ffi::DataType type) {
  using ffi::DataType;
  switch (type) {
    case DataType::PRED:
      return {AITER_CODE_BOOL, 8, 1};
    case DataType::S8:
      return {AITER_CODE_INT, 8, 1};
    case DataType::S16:
      return {AITER_CODE_INT, 16, 1};
    case DataType::S32:
      return {AITER_CODE_INT, 32, 1};
    case DataType::S64:
      return {AITER_CODE_INT, 64, 1};
    case DataType::U8:
      return {AITER_CODE_UINT, 8, 1};
    case DataType::U16:
      return {AITER_CODE_UINT, 16, 1};
    case DataType::U32:
      return {AITER_CODE_UINT, 32, 1};
    case DataType::U64:
      return {AITER_CODE_UINT, 64, 1};
    case DataType::F16:
      return {AITER_CODE_FLOAT, 16, 1};
    case DataType::F32:
      return {AITER_CODE_FLOAT, 32, 1};
    case DataType::F64:
      return {AITER_CODE_FLOAT, 64, 1};
    case DataType::BF16:
      return {AITER_CODE_BFLOAT, 16, 1};
    case DataType::F8E4M3FN:
      return {AITER_CODE_FLOAT8_E4M3FN, 8, 1};
    case DataType::F8E4M3FNUZ:
      return {AITER_CODE_FLOAT8_E4M3FNUZ, 8, 1};
    case DataType::F8E5M2:
      return {AITER_CODE_FLOAT8_E5M2, 8, 1};
    case DataType::F8E5M2FNUZ:
      return {AITER_CODE_FLOAT8_E5M2FNUZ, 8, 1};
    case DataType::F8E8M0FNU:
      return {AITER_CODE_FLOAT8_E8M0FNU, 8, 1};
    // Whether XLA packs its 4-bit types depends on the platform: pass uint8 with two in a byte.
    default:
      return {255, 0, 1};  // which no operator takes
  }
}

inline ffi::ErrorCode code_of(aiter_status status) {
  switch (status) {
    case AITER_INVALID_ARGUMENT:
    case AITER_WORKSPACE_TOO_SMALL:
      return ffi::ErrorCode::kInvalidArgument;
    case AITER_UNSUPPORTED:
      return ffi::ErrorCode::kUnimplemented;
    case AITER_NOT_PREPARED:
    case AITER_NO_CODE_OBJECT:
      return ffi::ErrorCode::kFailedPrecondition;
    case AITER_OUT_OF_MEMORY:
      return ffi::ErrorCode::kResourceExhausted;
    case AITER_DEVICE:
      return ffi::ErrorCode::kUnavailable;
    default:
      return ffi::ErrorCode::kInternal;
  }
}

inline ffi::Error error_of(aiter_status status) {
  if (status == AITER_OK) return ffi::Error::Success();
  return ffi::Error(code_of(status), aiter_last_error());
}

// A descriptor of an XLA buffer, which is dense and row-major.
class Tensor {
 public:
  template <class Buffer>
  Tensor(const Buffer& buffer, aiter_device device) {
    const auto dims = buffer.dimensions();
    tensor_ = {buffer.untyped_data(),
               device,
               static_cast<int32_t>(dims.size()),
               dtype_of(buffer.element_type()),
               const_cast<int64_t*>(dims.begin()),
               nullptr,
               0};
  }
  template <class Buffer>
  Tensor(ffi::Result<Buffer> result, aiter_device device) : Tensor(*result, device) {}
  template <class Buffer>
  Tensor(const std::optional<Buffer>& buffer, aiter_device device) : present_(buffer.has_value()) {
    if (buffer) *this = Tensor(*buffer, device);
  }
  operator const aiter_tensor*() const { return present_ ? &tensor_ : nullptr; }

 private:
  aiter_tensor tensor_{};
  bool present_ = true;
};

// Where a handler runs. call(aiter_<op>, ...) passes buffers, results, optional ones and nullptr for
// tensors, what else there is (options) as it is, and the stream.
class Call {
 public:
  Call(aiter_device device, aiter_stream stream) : device_(device), stream_(stream) {}
  aiter_device device() const { return device_; }
  aiter_stream stream() const { return stream_; }

  template <class Op, class... Arguments>
  ffi::Error operator()(Op* op, const Arguments&... arguments) const {
    return error_of(op(pass(arguments)..., stream_));
  }

 private:
  template <class T>
  auto pass(const T& argument) const {
    if constexpr (std::is_pointer_v<T> || std::is_null_pointer_v<T>)
      return argument;
    else
      return Tensor(argument, device_);
  }

  aiter_device device_;
  aiter_stream stream_;
};

// The binding's context argument that becomes a Call.
template <int32_t device_type>
struct On {};

template <int32_t device_type>
auto on() {
  return ffi::Ffi::Bind().Ctx<On<device_type>>();
}

// Defines the "initialize" stage of handlers that call these operators ("rmsnorm,act_and_mul"; NULL
// = all): loads their kernels.
#define AITER_XLA_PREPARE(symbol, device_type, ops)                                     \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                        \
      symbol,                                                                           \
      [](::aiter::xla::Call call, ::xla::ffi::RemainingArgs, ::xla::ffi::RemainingRets, \
         ::xla::ffi::Dictionary) {                                                      \
        return ::aiter::xla::error_of(aiter_prepare(call.device(), ops));               \
      },                                                                                \
      ::xla::ffi::Ffi::Bind<::xla::ffi::ExecutionStage::kInitialize>()                  \
          .Ctx<::aiter::xla::On<device_type>>()                                         \
          .RemainingArgs()                                                              \
          .RemainingRets()                                                              \
          .Attrs())

}  // namespace aiter::xla

namespace xla::ffi {

template <int32_t device_type>
struct CtxDecoding<aiter::xla::On<device_type>> {
  using Type = aiter::xla::Call;

  static std::optional<Type> Decode(const XLA_FFI_Api* api, XLA_FFI_ExecutionContext* context,
                                    DiagnosticEngine& diagnostic) {
    if constexpr (device_type == AITER_CPU) {
      return Type({AITER_CPU, 0}, nullptr);
    } else {
      const auto stream =
          CtxDecoding<PlatformStream<aiter_stream>>::Decode(api, context, diagnostic);
      const auto device = CtxDecoding<DeviceOrdinal>::Decode(api, context, diagnostic);
      if (!stream || !device) return std::nullopt;
      return Type({device_type, static_cast<int32_t>(*device)}, *stream);
    }
  }
};

}  // namespace xla::ffi

#endif  // AITER_XLA_FFI_H_
