// The GPU drivers behind one table of functions. HIP (libamdhip64.so) and the CUDA driver API
// (libcuda.so.1) have the same shape of module API; each is opened on first need and bound by name,
// so that the library links neither, includes no vendor header, and never sees another library's
// global symbols.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "aiter/tensor.h"

namespace aiter {

// Handles of the drivers.
using Stream = void*;
using Event = void*;
using Module = void*;
using Function = void*;
using Graph = void*;
using GraphExec = void*;
using Context = void*;

// AITER_DRIVER_CALL(field, symbol of HIP, symbol of CUDA, parameters): every function that the
// library may call. All return 0 on success, except where noted in driver.cc. An empty symbol:
// that driver lacks it.
#define AITER_DRIVER_CALLS(X)                                                                     \
  X(init, "hipInit", "cuInit", (unsigned flags))                                                  \
  X(device_count, "hipGetDeviceCount", "cuDeviceGetCount", (int* count))                          \
  X(device_attribute, "hipDeviceGetAttribute", "cuDeviceGetAttribute",                            \
    (int* value, int attribute, int device))                                                      \
  X(device_name, "hipDeviceGetName", "cuDeviceGetName", (char* name, int bytes, int device))      \
  X(memory_info, "hipMemGetInfo", "cuMemGetInfo_v2", (size_t* free, size_t* total))               \
  X(malloc, "hipMalloc", "cuMemAlloc_v2", (void** memory, size_t bytes))                          \
  X(free, "hipFree", "cuMemFree_v2", (void* memory))                                              \
  X(module_load, "hipModuleLoadData", "cuModuleLoadData", (Module * module, const void* image))   \
  X(module_unload, "hipModuleUnload", "cuModuleUnload", (Module module))                          \
  X(module_function, "hipModuleGetFunction", "cuModuleGetFunction",                               \
    (Function * function, Module module, const char* symbol))                                     \
  X(launch, "hipModuleLaunchKernel", "cuLaunchKernel",                                            \
    (Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,      \
     unsigned block_y, unsigned block_z, unsigned shared_bytes, Stream stream, void** arguments,  \
     void** extra))                                                                               \
  X(stream_create, "hipStreamCreateWithFlags", "cuStreamCreate",                                  \
    (Stream * stream, unsigned flags))                                                            \
  X(stream_destroy, "hipStreamDestroy", "cuStreamDestroy_v2", (Stream stream))                    \
  X(stream_synchronize, "hipStreamSynchronize", "cuStreamSynchronize", (Stream stream))           \
  X(stream_wait_event, "hipStreamWaitEvent", "cuStreamWaitEvent",                                 \
    (Stream stream, Event event, unsigned flags))                                                 \
  X(event_create, "hipEventCreateWithFlags", "cuEventCreate", (Event * event, unsigned flags))    \
  X(event_destroy, "hipEventDestroy", "cuEventDestroy_v2", (Event event))                         \
  X(event_record, "hipEventRecord", "cuEventRecord", (Event event, Stream stream))                \
  X(event_synchronize, "hipEventSynchronize", "cuEventSynchronize", (Event event))                \
  X(event_elapsed, "hipEventElapsedTime", "cuEventElapsedTime",                                   \
    (float* milliseconds, Event start, Event end))                                                \
  X(stream_is_capturing, "hipStreamIsCapturing", "cuStreamIsCapturing",                           \
    (Stream stream, int* status))                                                                 \
  X(capture_begin, "hipStreamBeginCapture", "cuStreamBeginCapture_v2", (Stream stream, int mode)) \
  X(capture_end, "hipStreamEndCapture", "cuStreamEndCapture", (Stream stream, Graph * graph))     \
  X(thread_capture_mode, "hipThreadExchangeStreamCaptureMode",                                    \
    "cuThreadExchangeStreamCaptureMode", (int* mode))                                             \
  X(graph_instantiate, "hipGraphInstantiateWithFlags", "cuGraphInstantiateWithFlags",             \
    (GraphExec * exec, Graph graph, unsigned long long flags))                                    \
  X(graph_launch, "hipGraphLaunch", "cuGraphLaunch", (GraphExec exec, Stream stream))             \
  X(graph_destroy, "hipGraphDestroy", "cuGraphDestroy", (Graph graph))                            \
  X(graph_exec_destroy, "hipGraphExecDestroy", "cuGraphExecDestroy", (GraphExec exec))            \
  /* What only one of the two has, or has in another shape; wrapped by Driver's methods. */       \
  X(hip_get_device, "hipGetDevice", "", (int* device))                                            \
  X(hip_set_device, "hipSetDevice", "", (int device))                                             \
  X(hip_copy, "hipMemcpyAsync", "",                                                               \
    (void* to, const void* from, size_t bytes, int kind, Stream stream))                          \
  X(hip_fill, "hipMemsetAsync", "", (void* to, int value, size_t bytes, Stream stream))           \
  X(cuda_device, "", "cuDeviceGet", (int* device, int ordinal))                                   \
  X(cuda_retain, "", "cuDevicePrimaryCtxRetain", (Context * context, int device))                 \
  X(cuda_get_context, "", "cuCtxGetCurrent", (Context * context))                                 \
  X(cuda_push_context, "", "cuCtxPushCurrent_v2", (Context context))                              \
  X(cuda_pop_context, "", "cuCtxPopCurrent_v2", (Context * context))                              \
  X(cuda_copy, "", "cuMemcpyAsync", (void* to, const void* from, size_t bytes, Stream stream))    \
  X(cuda_fill, "", "cuMemsetD8Async",                                                             \
    (void* to, unsigned char value, size_t bytes, Stream stream))                                 \
  X(cuda_function_attribute, "", "cuFuncSetAttribute",                                            \
    (Function function, int attribute, int value))                                                \
  X(cuda_error_string, "", "cuGetErrorString", (int error, const char** text))

// CUlaunchConfig and CUlaunchAttribute.
struct CudaLaunch {
  struct Attribute {
    int32_t id;
    int32_t padding;
    int32_t value[16];
  };
  unsigned grid[3], block[3], shared_bytes;
  Stream stream;
  const Attribute* attributes;
  unsigned attribute_count;
};

struct Driver {
  aiter_device_type type;  // AITER_CUDA or AITER_ROCM
  std::string library;     // what was opened

#define AITER_DRIVER_FIELD(field, hip, cuda, parameters) int(*field) parameters = nullptr;
  AITER_DRIVER_CALLS(AITER_DRIVER_FIELD)
#undef AITER_DRIVER_FIELD
  const char* (*hip_error_string)(int error) = nullptr;           // returns the text itself
  int (*hip_properties)(void* properties, int device) = nullptr;  // the structure of ROCm 6, or 5's
  // Null before CUDA 12.3.
  int (*cuda_launch_ex)(const CudaLaunch* launch, Function function, void** arguments,
                        void** extra) = nullptr;

  bool is_hip() const { return type == AITER_ROCM; }
  // Between any two memories, in the order of the stream.
  int copy(void* to, const void* from, size_t bytes, Stream stream) const {
    constexpr int kDefaultKind = 4;  // the direction follows from the addresses
    return is_hip() ? hip_copy(to, from, bytes, kDefaultKind, stream)
                    : cuda_copy(to, from, bytes, stream);
  }
  int fill(void* to, unsigned char value, size_t bytes, Stream stream) const {
    return is_hip() ? hip_fill(to, value, bytes, stream) : cuda_fill(to, value, bytes, stream);
  }
  // The text of an error code, with its number.
  std::string error(int code) const;
};

// The driver of AITER_CUDA or AITER_ROCM, opened and initialized once, on first need. Throws DEVICE
// when it is not on this machine.
//
// Libraries: AITER_CUDA_LIBRARY, else libcuda.so.1. AITER_HIP_LIBRARY, else with AITER_EMULATE
// libaiter_gfxemu.so beside this library, else a libamdhip64.so that the process has already
// loaded, else the system's.
const Driver& driver(int32_t type);

// The folder of this library (libaiter.so), which everything installed with it is relative to.
const std::string& library_folder();

// Throws DEVICE after a fork: drivers do not survive one.
void refuse_after_fork();

}  // namespace aiter
