// A GPU driver that does nothing but write down what it is asked for: the functions of HIP and of the
// CUDA driver API that src/launch binds, over host memory. With AITER_HIP_LIBRARY and
// AITER_CUDA_LIBRARY set to it, the suite sees on any machine what an operator asks of a driver:
// which stream, which device, and nothing but launches. Kernels are not run.
//
// AITER_MOCK_ARCHS lists the devices ("gfx942:sramecc+:xnack-,gfx1100,sm_90"). As on real drivers,
// loading, allocating and waiting end a capture that is under way in global mode.
#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))
// One function under the names of both drivers.
#define BOTH(hip, cuda, parameters, arguments)              \
  EXPORT int hip parameters { return mock::hip arguments; } \
  EXPORT int cuda parameters { return mock::hip arguments; }

namespace mock {

constexpr int kInvalidValue = 1, kInvalidDevice = 101, kInvalidContext = 201, kNotFound = 500,
              kCaptureUnsupported = 900, kCaptureInvalidated = 901;

struct Function {
  std::string symbol;
  int device;
};
struct Capture {
  int mode = 0;
  bool valid = true;
};

std::recursive_mutex mutex;
std::string text;                   // the log
std::map<void*, Capture> captures;  // by stream
thread_local int hip_device = 0;
thread_local std::vector<int> contexts;  // CUDA's stack: device + 1
thread_local int capture_mode = 0;

void log(const char* format, ...) __attribute__((format(printf, 1, 2)));
void log(const char* format, ...) {
  std::lock_guard lock(mutex);
  char line[512];
  va_list args;
  va_start(args, format);
  std::vsnprintf(line, sizeof(line), format, args);
  va_end(args);
  text += line;
  text += '\n';
}

std::vector<std::string> archs(bool hip) {
  const char* list = std::getenv("AITER_MOCK_ARCHS");
  const std::string all = list ? list : "gfx942:sramecc+:xnack-,gfx942:sramecc+:xnack-,sm_90,sm_90";
  std::vector<std::string> found;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find(',', begin), all.size());
    const std::string arch = all.substr(begin, end - begin);
    if ((arch.compare(0, 3, "gfx") == 0) == hip) found.push_back(arch);
    begin = end + 1;
  }
  return found;
}

// What is not allowed while a stream is being captured.
int unsafe(const char* what) {
  std::lock_guard lock(mutex);
  log("%s", what);
  bool hit = false;
  for (auto& [stream, capture] : captures)
    if (capture.mode != 2 && capture_mode != 2) capture.valid = false, hit = true;
  return hit ? kCaptureUnsupported : 0;
}

int device() { return contexts.empty() ? hip_device : contexts.back() - 1; }

int hipInit(unsigned) {
  log("init");
  return 0;
}
int hipMalloc(void** memory, size_t bytes) {
  if (const int code = unsafe("malloc")) return code;
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *memory ? 0 : 2;
}
int hipFree(void* memory) {
  if (const int code = unsafe("free")) return code;
  std::free(memory);
  return 0;
}
int hipMemGetInfo(size_t* free_bytes, size_t* total) {
  *free_bytes = *total = size_t{1} << 36;
  return 0;
}
int hipModuleLoadData(void** module, const void* image) {
  if (const int code = unsafe("module_load")) return code;
  const bool known =
      !std::memcmp(image, "\177ELF", 4) || std::strstr(static_cast<const char*>(image), ".target");
  if (!known) return kInvalidValue;
  *module = new int(device());
  return 0;
}
int hipModuleUnload(void*) { return unsafe("module_unload"); }
int hipModuleGetFunction(void** function, void* module, const char* symbol) {
  log("function %s", symbol);
  *function = new Function{symbol, *static_cast<int*>(module)};
  return 0;
}
int hipModuleLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned bx,
                          unsigned by, unsigned bz, unsigned shared, void* stream, void** arguments,
                          void** extra) {
  const auto* f = static_cast<const Function*>(function);
  log("launch %s grid %u %u %u block %u %u %u shared %u stream %p device %d", f->symbol.c_str(), x,
      y, z, bx, by, bz, shared, stream, device());
  if (f->device != device()) return kInvalidContext;
  return (arguments || extra) && x && y && z && bx * by * bz <= 1024 ? 0 : kInvalidValue;
}
int hipStreamCreateWithFlags(void** stream, unsigned) {
  log("stream_create");
  *stream = new int;
  return 0;
}
int hipStreamDestroy(void*) { return log("stream_destroy"), 0; }
int hipStreamSynchronize(void*) { return unsafe("stream_synchronize"); }
int hipStreamWaitEvent(void* stream, void*, unsigned) {
  log("stream_wait_event stream %p", stream);
  return 0;
}
int hipEventCreateWithFlags(void** event, unsigned) {
  log("event_create");
  *event = new int;
  return 0;
}
int hipEventDestroy(void*) { return log("event_destroy"), 0; }
int hipEventRecord(void*, void* stream) { return log("event_record stream %p", stream), 0; }
int hipEventSynchronize(void*) { return unsafe("event_synchronize"); }
int hipEventElapsedTime(float* ms, void*, void*) { return *ms = 1, 0; }
int hipStreamIsCapturing(void* stream, int* status) {
  std::lock_guard lock(mutex);
  const auto found = captures.find(stream);
  *status = found == captures.end() ? 0 : found->second.valid ? 1 : 2;
  return 0;
}
int hipStreamBeginCapture(void* stream, int mode) {
  std::lock_guard lock(mutex);
  log("capture_begin");
  captures[stream] = {mode};
  return 0;
}
int hipStreamEndCapture(void* stream, void** graph) {
  std::lock_guard lock(mutex);
  log("capture_end");
  const bool valid = captures[stream].valid;
  captures.erase(stream);
  *graph = valid ? new int : nullptr;
  return valid ? 0 : kCaptureInvalidated;
}
int hipThreadExchangeStreamCaptureMode(int* mode) {
  std::swap(*mode, capture_mode);
  return 0;
}
int hipGraphInstantiateWithFlags(void** exec, void*, unsigned long long) {
  *exec = new int;
  return 0;
}
int hipGraphLaunch(void*, void* stream) { return log("graph_launch stream %p", stream), 0; }
int hipGraphDestroy(void*) { return 0; }
int hipGraphExecDestroy(void*) { return 0; }
int copy(const char* what, void* to, const void* from, size_t bytes, void* stream) {
  log("%s %zu bytes stream %p device %d", what, bytes, stream, device());
  std::memmove(to, from, bytes);
  return 0;
}
int fill(void* to, int value, size_t bytes, void* stream) {
  log("fill %zu bytes stream %p", bytes, stream);
  std::memset(to, value, bytes);
  return 0;
}

}  // namespace mock

BOTH(hipInit, cuInit, (unsigned f), (f))
BOTH(hipMalloc, cuMemAlloc_v2, (void** m, size_t n), (m, n))
BOTH(hipFree, cuMemFree_v2, (void* m), (m))
BOTH(hipMemGetInfo, cuMemGetInfo_v2, (size_t* f, size_t* t), (f, t))
BOTH(hipModuleLoadData, cuModuleLoadData, (void** m, const void* i), (m, i))
BOTH(hipModuleUnload, cuModuleUnload, (void* m), (m))
BOTH(hipModuleGetFunction, cuModuleGetFunction, (void** f, void* m, const char* s), (f, m, s))
BOTH(hipModuleLaunchKernel, cuLaunchKernel,
     (void* f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz,
      unsigned shared, void* stream, void** arguments, void** extra),
     (f, x, y, z, bx, by, bz, shared, stream, arguments, extra))
EXPORT int cuDriverGetVersion(int* version) { return *version = 13000, 0; }
// As CUlaunchConfig and CUlaunchAttribute.
struct Attribute {
  int id, padding;
  unsigned value[16];
};
struct Launch {
  unsigned grid[3], block[3], shared;
  void* stream;
  const Attribute* attributes;
  unsigned attribute_count;
};
EXPORT int cuLaunchKernelEx(const Launch* l, void* f, void** arguments, void** extra) {
  constexpr int kClusterDimension = 4, kProgrammaticStreamSerialization = 6, kPortableCluster = 8;
  for (unsigned i = 0; i < l->attribute_count; ++i) {
    const Attribute& a = l->attributes[i];
    if (a.id == kClusterDimension) {
      const unsigned team = a.value[0];
      mock::log("team %u", team);
      if (team < 1 || team > kPortableCluster || a.value[1] != 1 || a.value[2] != 1 ||
          l->grid[0] % team)
        return mock::kInvalidValue;
    } else if (a.id != kProgrammaticStreamSerialization || a.value[0] != 1) {
      return mock::kInvalidValue;
    }
  }
  return mock::hipModuleLaunchKernel(f, l->grid[0], l->grid[1], l->grid[2], l->block[0],
                                     l->block[1], l->block[2], l->shared, l->stream, arguments,
                                     extra);
}
BOTH(hipStreamCreateWithFlags, cuStreamCreate, (void** s, unsigned f), (s, f))
BOTH(hipStreamDestroy, cuStreamDestroy_v2, (void* s), (s))
BOTH(hipStreamSynchronize, cuStreamSynchronize, (void* s), (s))
BOTH(hipStreamWaitEvent, cuStreamWaitEvent, (void* s, void* e, unsigned f), (s, e, f))
BOTH(hipEventCreateWithFlags, cuEventCreate, (void** e, unsigned f), (e, f))
BOTH(hipEventDestroy, cuEventDestroy_v2, (void* e), (e))
BOTH(hipEventRecord, cuEventRecord, (void* e, void* s), (e, s))
BOTH(hipEventSynchronize, cuEventSynchronize, (void* e), (e))
BOTH(hipEventElapsedTime, cuEventElapsedTime, (float* ms, void* a, void* b), (ms, a, b))
BOTH(hipStreamIsCapturing, cuStreamIsCapturing, (void* s, int* status), (s, status))
BOTH(hipStreamBeginCapture, cuStreamBeginCapture_v2, (void* s, int mode), (s, mode))
BOTH(hipStreamEndCapture, cuStreamEndCapture, (void* s, void** g), (s, g))
BOTH(hipThreadExchangeStreamCaptureMode, cuThreadExchangeStreamCaptureMode, (int* mode), (mode))
BOTH(hipGraphInstantiateWithFlags, cuGraphInstantiateWithFlags,
     (void** e, void* g, unsigned long long f), (e, g, f))
BOTH(hipGraphLaunch, cuGraphLaunch, (void* e, void* s), (e, s))
BOTH(hipGraphDestroy, cuGraphDestroy, (void* g), (g))
BOTH(hipGraphExecDestroy, cuGraphExecDestroy, (void* e), (e))

EXPORT int hipGetDeviceCount(int* n) { return *n = static_cast<int>(mock::archs(true).size()), 0; }
EXPORT int cuDeviceGetCount(int* n) { return *n = static_cast<int>(mock::archs(false).size()), 0; }
EXPORT int hipDeviceGetName(char* name, int bytes, int) {
  return std::snprintf(name, bytes, "Mock Instinct"), 0;
}
EXPORT int cuDeviceGetName(char* name, int bytes, int) {
  return std::snprintf(name, bytes, "Mock GPU"), 0;
}
EXPORT int hipDeviceGetAttribute(int* value, int attribute, int) {
  const std::map<int, int> known{{63, 304}, {87, 64}, {74, 65536}, {19, 4 << 20}};
  const auto found = known.find(attribute);
  if (found == known.end()) return mock::kInvalidValue;
  return *value = found->second, 0;
}
EXPORT int cuDeviceGetAttribute(int* value, int attribute, int device) {
  const int cc = std::atoi(mock::archs(false)[device].c_str() + 3);
  const std::map<int, int> known{{16, 132},      {10, 32},      {97, 227 << 10},
                                 {38, 50 << 20}, {75, cc / 10}, {76, cc % 10}};
  const auto found = known.find(attribute);
  if (found == known.end()) return mock::kInvalidValue;
  return *value = found->second, 0;
}
EXPORT int hipGetDevicePropertiesR0600(void* properties, int device) {
  constexpr size_t kArch = 1160;  // of ROCm 6
  std::strcpy(static_cast<char*>(properties), "Mock Instinct gfx");
  std::strcpy(static_cast<char*>(properties) + kArch, mock::archs(true)[device].c_str());
  return 0;
}
EXPORT int hipGetDevice(int* device) { return *device = mock::hip_device, 0; }
EXPORT int hipSetDevice(int device) {
  if (device < 0 || device >= static_cast<int>(mock::archs(true).size()))
    return mock::kInvalidDevice;
  return mock::hip_device = device, 0;
}
EXPORT int hipMemcpyAsync(void* to, const void* from, size_t bytes, int, void* stream) {
  return mock::copy("copy", to, from, bytes, stream);
}
EXPORT int cuMemcpyAsync(void* to, const void* from, size_t bytes, void* stream) {
  return mock::copy("copy", to, from, bytes, stream);
}
EXPORT int hipMemsetAsync(void* to, int value, size_t bytes, void* stream) {
  return mock::fill(to, value, bytes, stream);
}
EXPORT int cuMemsetD8Async(void* to, unsigned char value, size_t bytes, void* stream) {
  return mock::fill(to, value, bytes, stream);
}
EXPORT const char* hipGetErrorString(int) { return "mock error"; }
EXPORT int cuGetErrorString(int, const char** text) { return *text = "mock error", 0; }
EXPORT int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, 0; }
EXPORT int cuDevicePrimaryCtxRetain(void** context, int device) {
  return *context = reinterpret_cast<void*>(static_cast<intptr_t>(device + 1)), 0;
}
EXPORT int cuCtxGetCurrent(void** context) {
  *context = reinterpret_cast<void*>(
      static_cast<intptr_t>(mock::contexts.empty() ? 0 : mock::contexts.back()));
  return 0;
}
EXPORT int cuCtxPushCurrent_v2(void* context) {
  return mock::contexts.push_back(static_cast<int>(reinterpret_cast<intptr_t>(context))), 0;
}
EXPORT int cuCtxPopCurrent_v2(void**) {
  if (mock::contexts.empty()) return mock::kInvalidContext;
  return mock::contexts.pop_back(), 0;
}
EXPORT int cuFuncSetAttribute(void*, int, int) { return 0; }

// For the tests.
EXPORT const char* mock_log() {
  static thread_local std::string copy;
  std::lock_guard lock(mock::mutex);
  copy = mock::text;
  return copy.c_str();
}
EXPORT void mock_clear() {
  std::lock_guard lock(mock::mutex);
  mock::text.clear();
}
