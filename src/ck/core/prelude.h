// What device code stands on, with no vendor header: one side for clang/AMDGPU, one for CUDA through
// clang, one for CUDA through nvcc or NVRTC. Sources are compiled with AITER_DEVICE_CODE and as
// C++17; everything is in the namespace aiter.
#pragma once

#if defined(__AMDGCN__)
#define AITER_AMD 1
#elif defined(__CUDA__) && defined(__clang__)
#define AITER_CUDA_CLANG 1
#else
#define AITER_CUDA_NVCC 1
#endif

#if defined(AITER_CUDA_NVCC)
#define AITER_DEVICE __device__ __forceinline__
#define AITER_SHARED __shared__
#define AITER_DYNAMIC_SHARED(name) extern __shared__ __align__(16) char name[]
#define AITER_LAMBDA
#define AITER_GLOBAL __global__
#define AITER_LAUNCH_BOUNDS(threads) __launch_bounds__(threads)
#else
#define AITER_DEVICE __attribute__((device, always_inline)) inline
#define AITER_SHARED __attribute__((shared))
#define AITER_DYNAMIC_SHARED(name) extern __attribute__((shared, aligned(16))) char name[]
#define AITER_LAMBDA __attribute__((device))
#define AITER_GLOBAL __attribute__((global))
#if defined(AITER_AMD)  // whose launch_bounds clang passes over where there is no HIP language
#define AITER_LAUNCH_BOUNDS(threads) __attribute__((amdgpu_flat_work_group_size(1, threads)))
#else
#define AITER_LAUNCH_BOUNDS(threads) __attribute__((launch_bounds(threads)))
#endif
#endif

// Declares a kernel for blocks of up to `threads`: AITER_KERNEL(name, 256)(const Args a) { ... }
//
// To build one kernel of a file alone (on first use, when each one costs time), AITER_ONE_KERNEL is
// defined, and AITER_PICK_<name> as "~,"; every other kernel becomes a template that nobody
// instantiates.
#define AITER_SECOND_(a, b, ...) b
#define AITER_SECOND(...) AITER_SECOND_(__VA_ARGS__)
#define AITER_KERNEL_(threads) extern "C" AITER_GLOBAL AITER_LAUNCH_BOUNDS(threads)
#ifdef AITER_ONE_KERNEL
#define AITER_KERNEL(name, threads)                                                          \
  AITER_SECOND(AITER_PICK_##name AITER_KERNEL_(threads), template <int = 0> AITER_DEVICE, ~) \
  void name
#else
#define AITER_KERNEL(name, threads) AITER_KERNEL_(threads) void name
#endif
#define AITER_UNROLL _Pragma("unroll")
#define AITER_NO_UNROLL _Pragma("unroll 1")

namespace aiter {

using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned;
using int64_t = long;
using uint64_t = unsigned long;

#if defined(AITER_AMD)

constexpr int kWave = 64;
AITER_DEVICE int thread_index() { return __builtin_amdgcn_workitem_id_x(); }
AITER_DEVICE int block_index_x() { return __builtin_amdgcn_workgroup_id_x(); }
AITER_DEVICE int block_index_y() { return __builtin_amdgcn_workgroup_id_y(); }
AITER_DEVICE int block_index_z() { return __builtin_amdgcn_workgroup_id_z(); }
AITER_DEVICE int block_threads() { return __builtin_amdgcn_workgroup_size_x(); }
AITER_DEVICE int grid_blocks() {
  return __builtin_amdgcn_grid_size_x() / __builtin_amdgcn_workgroup_size_x();
}
AITER_DEVICE int grid_blocks_y() {
  return __builtin_amdgcn_grid_size_y() / __builtin_amdgcn_workgroup_size_y();
}
// Waits for all threads of the block; what they wrote to memory is seen after it.
AITER_DEVICE void barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
// The lanes of the wave see each other's writes to shared memory.
AITER_DEVICE void wave_barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
  __builtin_amdgcn_wave_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}
// The value of lane ^ mask of the same wave. All lanes must take part.
AITER_DEVICE uint32_t shuffle_xor(uint32_t value, int mask) {
  const int lane = __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0));
  return __builtin_amdgcn_ds_bpermute((lane ^ mask) << 2, static_cast<int>(value));
}
AITER_DEVICE uint32_t shuffle(uint32_t value, int lane) {
  return __builtin_amdgcn_ds_bpermute(lane << 2, static_cast<int>(value));
}

#else

constexpr int kWave = 32;
#if defined(AITER_CUDA_CLANG)
AITER_DEVICE int thread_index() { return __nvvm_read_ptx_sreg_tid_x(); }
AITER_DEVICE int block_index_x() { return __nvvm_read_ptx_sreg_ctaid_x(); }
AITER_DEVICE int block_index_y() { return __nvvm_read_ptx_sreg_ctaid_y(); }
AITER_DEVICE int block_index_z() { return __nvvm_read_ptx_sreg_ctaid_z(); }
AITER_DEVICE int block_threads() { return __nvvm_read_ptx_sreg_ntid_x(); }
AITER_DEVICE int grid_blocks() { return __nvvm_read_ptx_sreg_nctaid_x(); }
AITER_DEVICE int grid_blocks_y() { return __nvvm_read_ptx_sreg_nctaid_y(); }
AITER_DEVICE void barrier() { __syncthreads(); }
#else
AITER_DEVICE int thread_index() { return threadIdx.x; }
AITER_DEVICE int block_index_x() { return blockIdx.x; }
AITER_DEVICE int block_index_y() { return blockIdx.y; }
AITER_DEVICE int block_index_z() { return blockIdx.z; }
AITER_DEVICE int block_threads() { return blockDim.x; }
AITER_DEVICE int grid_blocks() { return gridDim.x; }
AITER_DEVICE int grid_blocks_y() { return gridDim.y; }
AITER_DEVICE void barrier() { __syncthreads(); }
#endif
AITER_DEVICE void wave_barrier() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }
AITER_DEVICE uint32_t shuffle_xor(uint32_t value, int mask) {
  uint32_t result;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;"
               : "=r"(result)
               : "r"(value), "r"(mask));
  return result;
}
AITER_DEVICE uint32_t shuffle(uint32_t value, int lane) {
  uint32_t result;
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, 0x1f, 0xffffffff;"
               : "=r"(result)
               : "r"(value), "r"(lane));
  return result;
}

#endif

// *p = max(*p, value), seen by all blocks; the result is the same in whatever order they come.
AITER_DEVICE void atomic_max(uint32_t* p, uint32_t value) {
#if defined(AITER_AMD)
  __hip_atomic_fetch_max(p, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
#else
  asm volatile("red.global.max.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
#endif
}

// The first thing of a kernel that may be launched while the one before it in the stream still runs,
// which hides the time of a launch; memory may be touched behind it alone. The host sees in the
// code object which kernels do so (KernelInfo::waits).
AITER_DEVICE void wait_for_previous_kernel() {
#if !defined(AITER_AMD) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

template <class A, class B>
constexpr bool is_same = false;  // not every compiler has __is_same
template <class A>
constexpr bool is_same<A, A> = true;

#if defined(__CUDACC_RTC__)  // NVRTC has it under this name alone
#define __builtin_memcpy memcpy
#endif

template <class To, class From>
AITER_DEVICE To bit_cast(From from) {
  return __builtin_bit_cast(To, from);
}

template <class T>
AITER_DEVICE T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
AITER_DEVICE T max(T a, T b) {
  return a < b ? b : a;
}

AITER_DEVICE float shuffle_xor(float value, int mask) {
  return bit_cast<float>(shuffle_xor(bit_cast<uint32_t>(value), mask));
}
AITER_DEVICE int32_t shuffle_xor(int32_t value, int mask) {
  return static_cast<int32_t>(shuffle_xor(static_cast<uint32_t>(value), mask));
}
AITER_DEVICE float shuffle(float value, int lane) {
  return bit_cast<float>(shuffle(bit_cast<uint32_t>(value), lane));
}
AITER_DEVICE uint64_t shuffle_xor(uint64_t value, int mask) {
  const uint64_t high = shuffle_xor(static_cast<uint32_t>(value >> 32), mask);
  return high << 32 | shuffle_xor(static_cast<uint32_t>(value), mask);
}
AITER_DEVICE uint64_t shuffle(uint64_t value, int lane) {
  const uint64_t high = shuffle(static_cast<uint32_t>(value >> 32), lane);
  return high << 32 | shuffle(static_cast<uint32_t>(value), lane);
}

}  // namespace aiter
