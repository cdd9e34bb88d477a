// Launching: what a GPU row does. In <op>.cc:
//
//   static void rmsnorm_hip_any(const RmsnormArgs& args, const Call& call) {
//     static const FloatKernels kernels = AITER_FLOAT_KERNELS(rmsnorm, hip_any);
//     launch(kernels[args.dtype], call, {.x = blocks, .threads = 256}, args);
//   }
//
// The kernel is an extern "C" function of <op>.hip that takes the same struct by value. A launch
// allocates nothing, waits for nothing, and touches no stream but the caller's; the first one on a
// device loads the operator's code object, or builds it.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/dtype.h"
#include "dispatch/dispatch.h"
#include "launch/device.h"

namespace aiter {

// A kernel on a device; kept for the process.
struct LoadedKernel {
  Function function;
  int args_bytes;
  bool waits;  // KernelInfo::waits
};

// Blocks that can work as a team (ck/core/team.h) on this device: clusters of sm_90.
int largest_team(const Call& call);

class Kernel {
 public:
  constexpr Kernel(const char* op, const char* symbol) : op_(op), symbol_(symbol) {}
  Kernel(const Kernel&) = delete;
  const char* op() const { return op_; }
  const char* symbol() const { return symbol_; }
  std::atomic<const LoadedKernel*>& loaded(const Device& device) const {
    return loaded_[device.slot];
  }

 private:
  const char* op_;
  const char* symbol_;
  mutable std::atomic<const LoadedKernel*> loaded_[2 * kMaxDevices] = {};
};

// The instances of one kernel for the three float types.
struct FloatKernels {
  Kernel f32, f16, bf16;
  const Kernel& operator[](DType dtype) const {
    return dtype == DType::kF32 ? f32 : dtype == DType::kF16 ? f16 : bf16;
  }
};
#define AITER_FLOAT_KERNELS(op, row) \
  {{#op, #op "_" #row "_f32"}, {#op, #op "_" #row "_f16"}, {#op, #op "_" #row "_bf16"}}

// Blocks, threads of a block, bytes of dynamic shared memory, and how many neighbours along x, which
// is a multiple of it, form a team. A grid without blocks is no work.
struct Grid {
  int64_t x = 1, y = 1, z = 1;
  int threads = 256;
  int shared_bytes = 0;
  int team = 1;  // at most largest_team()
};

void launch_bytes(const Kernel& kernel, const Call& call, const Grid& grid, const void* args,
                  int args_bytes);

template <class Args>
void launch(const Kernel& kernel, const Call& call, const Grid& grid, const Args& args) {
  launch_bytes(kernel, call, grid, &args, sizeof(Args));
}

// Loads (or builds) the kernels of the operator for the device. Throws NO_CODE_OBJECT.
void prepare(const std::string& op, const Device& device);

}  // namespace aiter
