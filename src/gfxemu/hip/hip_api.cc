// The HIP runtime entry points over the emulator. Work is done when it is asked for, so a stream is
// in order by itself; only capture keeps work for later.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "check/check.h"
#include "hip/state.h"
#include "run/launch.h"

#define GFXEMU_HIP extern "C" __attribute__((visibility("default"))) int

namespace gfxemu {
namespace {

enum : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kInvalidConfiguration = 9,
  kInvalidSymbol = 13,
  kInvalidDevicePointer = 17,
  kInvalidDevice = 101,
  kInvalidImage = 200,
  kNoBinary = 209,
  kInvalidHandle = 400,
  kNotFound = 500,
  kIllegalAddress = 700,
  kLaunchFailure = 719,
  kNotSupported = 801,
  kCaptureUnsupported = 900,
  kCaptureUnmatched = 903,
  kCaptureImplicit = 906,
  kUnknown = 999,
};

struct Graph {
  std::vector<std::function<int()>> steps;
};
struct Stream {
  int device = 0;
  std::shared_ptr<Graph> capture;
  bool origin = false;
};
struct Event {
  std::chrono::steady_clock::time_point when{};
  bool recorded = false;
  std::shared_ptr<Graph> capture;
};
struct LoadedModule {
  int device;
  std::shared_ptr<Module> module;
  std::vector<std::unique_ptr<struct Function>> functions;
};
struct Function {
  int device;
  std::shared_ptr<Module> module;
  const Kernel* kernel;
};
struct GraphHandle {
  std::shared_ptr<Graph> graph;
};

struct State {
  std::mutex mutex;
  std::set<Stream*> streams;
  std::set<Event*> events;
  std::set<LoadedModule*> modules;
  std::set<Function*> functions;
  std::set<GraphHandle*> graphs;
  std::atomic<uint64_t> peers[kMaxDevices] = {};  // whose memory a device may use, by bits
};
State& state() {
  static State* s = new State;
  return *s;
}

thread_local std::string t_message;
thread_local int t_last = 0, t_device = 0;

int done(int code, const std::string& message = {}) {
  if (code) {
    t_last = code;
    t_message = message;
  }
  return code;
}

Stream* null_stream() {
  static Stream* s = new Stream;
  return s;
}
Stream* stream_of(void* handle) {
  // 0 is the legacy stream, 1 and 2 its explicit names.
  if (reinterpret_cast<uintptr_t>(handle) <= 2) return null_stream();
  std::lock_guard lock(state().mutex);
  Stream* s = static_cast<Stream*>(handle);
  return state().streams.count(s) ? s : nullptr;
}
Event* event_of(void* handle) {
  std::lock_guard lock(state().mutex);
  Event* e = static_cast<Event*>(handle);
  return state().events.count(e) ? e : nullptr;
}

template <class F>
int guarded(F f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return done(kOutOfMemory, "out of host memory");
  } catch (const std::exception& e) {
    return done(kUnknown, e.what());
  }
}

// Now, or when the graph that is being captured runs.
template <class F>
int submit(void* stream, F work) {
  return guarded([&]() -> int {
    Stream* s = stream_of(stream);
    if (!s) return done(kInvalidHandle, "the stream does not exist");
    if (!s->capture) return work();
    s->capture->steps.emplace_back(std::move(work));
    return kSuccess;
  });
}
int device_of(void* stream) {
  Stream* s = stream_of(stream);
  return s && s != null_stream() ? s->device : t_device;
}

// Device memory that a copy names must be live; host memory is the caller's.
int check_range(const void* p, size_t n, bool must, const char* what) {
  uint64_t a = reinterpret_cast<uint64_t>(p);
  Memory& m = Memory::get();
  if (!m.in_range(a)) {
    if (!must) return kSuccess;
    return done(kInvalidValue, std::string(what) + " is no device memory");
  }
  if (!m.contains(a, n))
    return done(kInvalidValue, std::string(what) + ": " + std::to_string(n) +
                                   " bytes are not inside one live allocation");
  return kSuccess;
}
int copy_now(void* to, const void* from, size_t n, int kind) {
  if (!n) return kSuccess;
  if (!to || !from) return done(kInvalidValue, "copy: a pointer is null");
  if (kind < 0 || kind > 4) return done(21, "copy: unknown direction");
  if (int e = check_range(to, n, kind == 1 || kind == 3, "copy: the destination")) return e;
  if (int e = check_range(from, n, kind == 2 || kind == 3, "copy: the source")) return e;
  memmove(to, from, n);
  check_host_write(reinterpret_cast<uint64_t>(to), n);
  return kSuccess;
}
int fill_now(void* to, size_t n, const void* pattern, size_t width) {
  if (!n) return kSuccess;
  if (int e = check_range(to, n * width, true, "memset: the destination")) return e;
  uint8_t* p = static_cast<uint8_t*>(to);
  if (width == 1)
    memset(p, *static_cast<const uint8_t*>(pattern), n);
  else
    for (size_t i = 0; i < n; ++i) memcpy(p + i * width, pattern, width);
  check_host_write(reinterpret_cast<uint64_t>(to), n * width);
  return kSuccess;
}

size_t elf_size(const uint8_t* p) {
  static const char magic[] = "__CLANG_OFFLOAD_BUNDLE__";
  if (!memcmp(p, magic, 24)) {
    uint64_t n, end = 32;
    memcpy(&n, p + 24, 8);
    size_t at = 32;
    for (uint64_t i = 0; i < n && i < 64; ++i) {
      uint64_t f[3];
      memcpy(f, p + at, 24);
      at += 24 + f[2];
      end = std::max(end, std::max<uint64_t>(at, f[0] + f[1]));
    }
    return end;
  }
  if (memcmp(p, "\177ELF", 4)) return 0;
  uint64_t phoff, shoff;
  uint16_t phnum, shnum;
  memcpy(&phoff, p + 32, 8);
  memcpy(&shoff, p + 40, 8);
  memcpy(&phnum, p + 56, 2);
  memcpy(&shnum, p + 60, 2);
  uint64_t end = std::max(shoff + 64ull * shnum, phoff + 56ull * phnum);
  for (int i = 0; i < phnum; ++i) {
    uint64_t off, size;
    memcpy(&off, p + phoff + 56ull * static_cast<uint64_t>(i) + 8, 8);
    memcpy(&size, p + phoff + 56ull * static_cast<uint64_t>(i) + 32, 8);
    end = std::max(end, off + size);
  }
  for (int i = 0; i < shnum; ++i) {
    uint32_t type;
    uint64_t off, size;
    memcpy(&type, p + shoff + 64ull * static_cast<uint64_t>(i) + 4, 4);
    memcpy(&off, p + shoff + 64ull * static_cast<uint64_t>(i) + 24, 8);
    memcpy(&size, p + shoff + 64ull * static_cast<uint64_t>(i) + 32, 8);
    if (type != 8) end = std::max(end, off + size);
  }
  return end;
}

struct Part {
  const char* name;
  int units, minor, clock_khz, l2, lds;
};
Arch arch_of(int device) { return options().archs[static_cast<size_t>(device)]; }
bool bad_device(int d) { return d < 0 || static_cast<size_t>(d) >= options().archs.size(); }
Part part(int device) {
  switch (arch_of(device)) {
    case GFX90A:
      return {"AMD Instinct MI250X (emulated)", 110, 0, 1700000, 8 << 20, 64 << 10};
    case GFX950:
      return {"AMD Instinct MI355X (emulated)", 256, 5, 2400000, 4 << 20, 160 << 10};
    default:
      return {"AMD Instinct MI300X (emulated)", 304, 4, 2100000, 4 << 20, 64 << 10};
  }
}

// hipDeviceAttribute_t of ROCm 5 and later.
const std::map<int, int> kAttributes = {
    {0, 0},                         // EccEnabled
    {2, 1},                         // AsyncEngineCount
    {3, 1},                         // CanMapHostMemory
    {6, 0},                         // ComputeMode
    {7, 0},                         // ComputePreemptionSupported
    {8, 1},                         // ConcurrentKernels
    {9, 1},                         // ConcurrentManagedAccess
    {10, 0},         {11, 0},       // CooperativeLaunch, CooperativeMultiDeviceLaunch
    {12, 0},                        // DeviceOverlap
    {13, 0},                        // DirectManagedMemAccessFromHost
    {14, 0},                        // GlobalL1CacheSupported
    {15, 0},                        // HostNativeAtomicSupported
    {16, 0},                        // Integrated
    {17, 0},                        // IsMultiGpuBoard
    {18, 0},                        // KernelExecTimeout
    {20, 0},                        // LocalL1CacheSupported
    {23, 9},                        // ComputeCapabilityMajor
    {24, 1},                        // ManagedMemory
    {25, 32},                       // MaxBlocksPerMultiProcessor
    {26, 1024},      {27, 1024},    // MaxBlockDimX, Y
    {28, 1024},                     // MaxBlockDimZ
    {29, INT32_MAX}, {30, 65535},   // MaxGridDimX, Y
    {31, 65535},                    // MaxGridDimZ
    {56, 1024},                     // MaxThreadsPerBlock
    {57, 2048},                     // MaxThreadsPerMultiProcessor
    {59, 8192},                     // MemoryBusWidth
    {60, 2600000},                  // MemoryClockRate
    {65, 0},         {66, 0},       // PageableMemoryAccess, ...UsesHostPageTables
    {68, 0},         {69, 0},       // PciDeviceId, PciDomainID
    {71, 131072},    {72, 131072},  // MaxRegistersPerBlock, ...PerMultiprocessor
    {73, 0},                        // ReservedSharedMemPerBlock
    {84, INT32_MAX},                // TotalGlobalMem
    {87, 64},                       // WarpSize
};
bool attribute(int number, int device, int* value) {
  const Part p = part(device);
  switch (number) {
    case 5:
      return *value = p.clock_khz, true;
    case 19:
      return *value = p.l2, true;
    case 61:
      return *value = p.minor, true;
    case 63:
      return *value = p.units, true;
    case 67:
      return *value = device, true;  // PciBusId
    case 74:
    case 75:
    case 76:  // MaxSharedMemoryPerBlock, ...Optin, ...PerMultiprocessor
      return *value = p.lds, true;
  }
  auto found = kAttributes.find(number);
  return found != kAttributes.end() && (*value = found->second, true);
}

// hipDeviceProp_t by the offsets of its fields.
struct Properties {
  char* bytes;
  Properties(void* out, size_t size, int device) : bytes(static_cast<char*>(out)) {
    memset(bytes, 0, size);
    snprintf(bytes, 256, "%s", part(device).name);
  }
  template <class T>
  void put(size_t at, T value) {
    memcpy(bytes + at, &value, sizeof(value));
  }
  // What both structures have in the same order: memory at one place, limits at another.
  void common(size_t memory, size_t limits, const Part& p) {
    put(memory, static_cast<uint64_t>(Memory::kTotal));
    put(memory + 8, static_cast<uint64_t>(p.lds));
    put(memory + 16, int32_t{131072});  // registers of a block
    put(memory + 20, int32_t{64});      // lanes of a wave
    put(limits, int32_t{1024});         // threads of a block
    for (size_t i = 0; i < 3; ++i) put(limits + 4 + 4 * i, int32_t{1024});
    put(limits + 16, INT32_MAX);
    put(limits + 20, int32_t{65535});
    put(limits + 24, int32_t{65535});
    put(limits + 28, int32_t{p.clock_khz});
  }
  void arch(size_t at, int device) {
    snprintf(bytes + at, 256, "%s:sramecc+:xnack-", arch_name(arch_of(device)));
  }
};

}  // namespace

const std::string& last_message() { return t_message; }
void set_last_message(const std::string& text) { t_message = text; }
std::vector<Kernel> module_kernels(void* handle) {
  std::lock_guard lock(state().mutex);
  LoadedModule* m = static_cast<LoadedModule*>(handle);
  if (!state().modules.count(m)) return {};
  return m->module->kernels();
}

}  // namespace gfxemu

using namespace gfxemu;

// ---- devices ----
GFXEMU_HIP hipInit(unsigned) {
  if (!options_error().empty()) return done(kInvalidValue, options_error());
  if (options().check) check_begin();
  return kSuccess;
}
GFXEMU_HIP hipDriverGetVersion(int* v) {
  return v ? (*v = 60443483, kSuccess) : done(kInvalidValue);
}
GFXEMU_HIP hipRuntimeGetVersion(int* v) { return hipDriverGetVersion(v); }
GFXEMU_HIP hipGetDeviceCount(int* n) {
  return n ? (*n = static_cast<int>(options().archs.size()), kSuccess) : done(kInvalidValue);
}
GFXEMU_HIP hipGetDevice(int* d) { return d ? (*d = t_device, kSuccess) : done(kInvalidValue); }
GFXEMU_HIP hipSetDevice(int d) {
  if (bad_device(d)) return done(kInvalidDevice);
  t_device = d;
  return kSuccess;
}
GFXEMU_HIP hipDeviceGet(int* d, int ordinal) {
  if (bad_device(ordinal)) return done(kInvalidDevice);
  *d = ordinal;
  return kSuccess;
}
GFXEMU_HIP hipDeviceGetName(char* name, int n, int d) {
  if (!name || n <= 0) return done(kInvalidValue);
  if (bad_device(d)) return done(kInvalidDevice);
  snprintf(name, static_cast<size_t>(n), "%s", part(d).name);
  return kSuccess;
}
GFXEMU_HIP hipDeviceTotalMem(size_t* n, int d) {
  if (bad_device(d)) return done(kInvalidDevice);
  *n = Memory::kTotal;
  return kSuccess;
}
GFXEMU_HIP hipMemGetInfo(size_t* unused, size_t* total) {
  if (unused) *unused = Memory::kTotal - Memory::get().used();
  if (total) *total = Memory::kTotal;
  return kSuccess;
}
GFXEMU_HIP hipDeviceGetAttribute(int* value, int number, int d) {
  if (!value) return done(kInvalidValue);
  if (bad_device(d)) return done(kInvalidDevice);
  if (attribute(number, d, value)) return kSuccess;
  return done(kInvalidValue, "device attribute " + std::to_string(number) + " is not known");
}
// The structure of ROCm 6.
GFXEMU_HIP hipGetDevicePropertiesR0600(void* out, int d) {
  if (!out) return done(kInvalidValue);
  if (bad_device(d)) return done(kInvalidDevice);
  const Part p = part(d);
  Properties fields(out, 1472, d);
  fields.common(288, 320, p);
  fields.put(352, uint64_t{INT32_MAX});  // constant memory
  fields.put(360, int32_t{9});
  fields.put(364, int32_t{p.minor});
  fields.put(388, int32_t{p.units});
  fields.arch(1160, d);
  return kSuccess;
}
// The structure of ROCm 5.
GFXEMU_HIP hipGetDeviceProperties(void* out, int d) {
  if (!out) return done(kInvalidValue);
  if (bad_device(d)) return done(kInvalidDevice);
  const Part p = part(d);
  Properties fields(out, 792, d);
  fields.common(256, 280, p);
  fields.put(328, int32_t{9});
  fields.put(336, int32_t{p.units});
  fields.put(340, int32_t{p.l2});
  fields.put(344, int32_t{2048});                 // threads of a compute unit
  fields.put(376, static_cast<uint64_t>(p.lds));  // LDS of a compute unit
  fields.arch(396, d);
  return kSuccess;
}
GFXEMU_HIP hipDeviceSynchronize() { return kSuccess; }
GFXEMU_HIP hipDeviceCanAccessPeer(int* can, int d, int peer) {
  if (!can) return done(kInvalidValue);
  if (bad_device(d) || bad_device(peer)) return done(kInvalidDevice);
  *can = d != peer;
  return kSuccess;
}
GFXEMU_HIP hipDeviceEnablePeerAccess(int peer, unsigned) {
  if (bad_device(peer) || peer == t_device) return done(kInvalidDevice);
  state().peers[t_device] |= 1ull << peer;
  return kSuccess;
}

// ---- memory ----
GFXEMU_HIP hipMalloc(void** p, size_t n) {
  return guarded([&] {
    if (!p) return done(kInvalidValue);
    if (!n) return *p = nullptr, static_cast<int>(kSuccess);
    uint64_t a = Memory::get().allocate(n, t_device);
    if (!a) return done(kOutOfMemory, "out of device memory: " + std::to_string(n) + " bytes");
    *p = reinterpret_cast<void*>(a);
    return static_cast<int>(kSuccess);
  });
}
GFXEMU_HIP hipFree(void* p) {
  return guarded([&] {
    if (!p || Memory::get().release(reinterpret_cast<uint64_t>(p)))
      return static_cast<int>(kSuccess);
    return done(kInvalidValue, "hipFree: not the start of a live allocation");
  });
}
GFXEMU_HIP hipMallocAsync(void** p, size_t n, void*) { return hipMalloc(p, n); }
GFXEMU_HIP hipFreeAsync(void* p, void*) { return hipFree(p); }
GFXEMU_HIP hipHostMalloc(void** p, size_t n, unsigned) {
  return guarded([&] {
    uint64_t a = p && n ? Memory::get().allocate(n) : 0;
    if (!p) return done(kInvalidValue);
    *p = reinterpret_cast<void*>(a);
    return a || !n ? static_cast<int>(kSuccess) : done(kOutOfMemory);
  });
}
GFXEMU_HIP hipHostFree(void* p) { return hipFree(p); }
GFXEMU_HIP hipHostGetDevicePointer(void** d, void* h, unsigned) {
  return d ? (*d = h, kSuccess) : done(kInvalidValue);
}
GFXEMU_HIP hipMemcpy(void* to, const void* from, size_t n, int kind) {
  return copy_now(to, from, n, kind);
}
GFXEMU_HIP hipMemcpyAsync(void* to, const void* from, size_t n, int kind, void* stream) {
  return submit(stream, [=] { return copy_now(to, from, n, kind); });
}
GFXEMU_HIP hipMemcpyWithStream(void* to, const void* from, size_t n, int kind, void* stream) {
  return hipMemcpyAsync(to, from, n, kind, stream);
}
GFXEMU_HIP hipMemcpyHtoD(void* to, const void* from, size_t n) { return copy_now(to, from, n, 1); }
GFXEMU_HIP hipMemcpyDtoH(void* to, const void* from, size_t n) { return copy_now(to, from, n, 2); }
GFXEMU_HIP hipMemcpyDtoD(void* to, const void* from, size_t n) { return copy_now(to, from, n, 3); }
GFXEMU_HIP hipMemcpyHtoDAsync(void* to, const void* from, size_t n, void* s) {
  return hipMemcpyAsync(to, from, n, 1, s);
}
GFXEMU_HIP hipMemcpyDtoHAsync(void* to, const void* from, size_t n, void* s) {
  return hipMemcpyAsync(to, from, n, 2, s);
}
GFXEMU_HIP hipMemcpyDtoDAsync(void* to, const void* from, size_t n, void* s) {
  return hipMemcpyAsync(to, from, n, 3, s);
}
GFXEMU_HIP hipMemcpyPeerAsync(void* to, int, const void* from, int, size_t n, void* s) {
  return hipMemcpyAsync(to, from, n, 3, s);
}
GFXEMU_HIP hipMemsetD8Async(void* to, unsigned char v, size_t n, void* s) {
  return submit(s, [=] { return fill_now(to, n, &v, 1); });
}
GFXEMU_HIP hipMemsetAsync(void* to, int value, size_t n, void* stream) {
  return hipMemsetD8Async(to, static_cast<unsigned char>(value), n, stream);
}
GFXEMU_HIP hipMemset(void* to, int value, size_t n) {
  return hipMemsetAsync(to, value, n, nullptr);
}
GFXEMU_HIP hipMemsetD8(void* to, unsigned char v, size_t n) { return hipMemset(to, v, n); }
GFXEMU_HIP hipMemsetD16Async(void* to, unsigned short v, size_t n, void* s) {
  return submit(s, [=] { return fill_now(to, n, &v, 2); });
}
GFXEMU_HIP hipMemsetD32Async(void* to, int v, size_t n, void* s) {
  return submit(s, [=] { return fill_now(to, n, &v, 4); });
}
GFXEMU_HIP hipMemsetD32(void* to, int v, size_t n) { return hipMemsetD32Async(to, v, n, nullptr); }
GFXEMU_HIP hipPointerGetAttributes(void* out, const void* p) {
  struct {
    int type, device;
    void *dev, *host;
    int managed;
    unsigned flags;
  } a{};
  Allocation found;
  if (!out || !Memory::get().find(reinterpret_cast<uint64_t>(p), &found))
    return done(kInvalidValue, "the pointer is no device memory");
  const bool host = found.device < 0;
  a.type = host ? 1 : 2;  // as ROCm 6 numbers them: host, device
  a.device = std::max(found.device, 0);
  a.dev = const_cast<void*>(p);
  a.host = host ? a.dev : nullptr;
  memcpy(out, &a, sizeof(a));
  return kSuccess;
}
GFXEMU_HIP hipMemGetAddressRange(void** base, size_t* size, void* p) {
  Allocation found;
  if (!Memory::get().find(reinterpret_cast<uint64_t>(p), &found)) return done(kNotFound);
  if (base) *base = reinterpret_cast<void*>(found.begin);
  if (size) *size = found.size;
  return kSuccess;
}
GFXEMU_HIP hipIpcGetMemHandle(void*, void*) {
  return done(kNotSupported, "the emulator does not share memory between processes");
}
GFXEMU_HIP hipIpcOpenMemHandle(void**, void*, unsigned) {
  return done(kNotSupported, "the emulator does not share memory between processes");
}
GFXEMU_HIP hipIpcCloseMemHandle(void*) { return done(kNotSupported); }

// ---- modules and launches ----
GFXEMU_HIP hipModuleLoadDataEx(void** out, const void* image, unsigned, void*, void*) {
  return guarded([&] {
    if (!out || !image) return done(kInvalidValue);
    size_t n = elf_size(static_cast<const uint8_t*>(image));
    if (!n) return done(kInvalidImage, "the image is no ELF code object and no bundle");
    std::string error;
    std::shared_ptr<Module> m = Module::load(image, n, arch_of(t_device), true, &error, t_device);
    if (!m)
      return done(error.find("code object") != std::string::npos ? kNoBinary : kInvalidImage,
                  error);
    LoadedModule* h = new LoadedModule{t_device, m, {}};
    std::lock_guard lock(state().mutex);
    state().modules.insert(h);
    *out = h;
    return static_cast<int>(kSuccess);
  });
}
GFXEMU_HIP hipModuleLoadData(void** out, const void* image) {
  return hipModuleLoadDataEx(out, image, 0, nullptr, nullptr);
}
GFXEMU_HIP hipModuleLoad(void** out, const char* path) {
  return guarded([&] {
    FILE* f = path ? fopen(path, "rb") : nullptr;
    if (!f) return done(301, std::string("cannot read ") + (path ? path : "(null)"));
    std::vector<char> data;
    char buf[65536];
    for (size_t n; (n = fread(buf, 1, sizeof(buf), f)) > 0;) data.insert(data.end(), buf, buf + n);
    fclose(f);
    data.resize(data.size() + 64);
    return hipModuleLoadData(out, data.data());
  });
}
GFXEMU_HIP hipModuleUnload(void* handle) {
  std::lock_guard lock(state().mutex);
  LoadedModule* m = static_cast<LoadedModule*>(handle);
  if (!state().modules.erase(m)) return done(kInvalidHandle);
  for (auto& f : m->functions) state().functions.erase(f.get());
  delete m;
  return kSuccess;
}
GFXEMU_HIP hipModuleGetFunction(void** out, void* handle, const char* name) {
  return guarded([&] {
    if (!out || !name) return done(kInvalidValue);
    std::lock_guard lock(state().mutex);
    LoadedModule* m = static_cast<LoadedModule*>(handle);
    if (!state().modules.count(m)) return done(kInvalidHandle);
    const Kernel* k = m->module->kernel(name);
    if (!k) return done(kNotFound, std::string("the code object has no kernel ") + name);
    m->functions.push_back(std::make_unique<Function>(Function{m->device, m->module, k}));
    state().functions.insert(m->functions.back().get());
    *out = m->functions.back().get();
    return static_cast<int>(kSuccess);
  });
}
GFXEMU_HIP hipModuleGetGlobal(void** address, size_t* size, void* handle, const char* name) {
  std::lock_guard lock(state().mutex);
  LoadedModule* m = static_cast<LoadedModule*>(handle);
  if (!state().modules.count(m)) return done(kInvalidHandle);
  uint64_t a, n;
  if (!m->module->symbol(name, &a, &n))
    return done(kNotFound, std::string("the code object has no variable ") + name);
  if (address) *address = reinterpret_cast<void*>(a);
  if (size) *size = n;
  return kSuccess;
}
GFXEMU_HIP hipModuleLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                                 unsigned by, unsigned bz, unsigned lds, void* stream,
                                 void** params, void** extra) {
  return guarded([&] {
    Function copy;
    {
      std::lock_guard lock(state().mutex);
      Function* fn = static_cast<Function*>(f);
      if (!state().functions.count(fn)) return done(kInvalidHandle, "the function does not exist");
      copy = *fn;
    }
    if (device_of(stream) != copy.device)
      return done(kInvalidHandle, "kernel " + copy.kernel->name + " was loaded on device " +
                                      std::to_string(copy.device) + ", the stream is of device " +
                                      std::to_string(device_of(stream)));
    std::vector<uint8_t> args;
    std::string error;
    if (!pack_arguments(*copy.kernel, params, extra, &args, &error))
      return done(kInvalidValue, error);
    return submit(stream, [=] {
      Launch l;
      l.module = copy.module.get();
      l.kernel = copy.kernel;
      l.device = copy.device;
      l.reachable = state().peers[copy.device] | 1ull << copy.device;
      const unsigned g[3] = {gx, gy, gz}, b[3] = {bx, by, bz};
      for (int i = 0; i < 3; ++i) {
        l.grid[i] = g[i];
        l.block[i] = b[i];
      }
      l.dynamic_lds = lds;
      l.kernarg = args;
      std::string e = l.run();
      return e.empty() ? static_cast<int>(kSuccess) : done(kLaunchFailure, e);
    });
  });
}
GFXEMU_HIP hipExtModuleLaunchKernel(void* f, unsigned x, unsigned y, unsigned z, unsigned bx,
                                    unsigned by, unsigned bz, size_t lds, void* stream,
                                    void** params, void** extra, void*, void*, unsigned) {
  if (!bx || !by || !bz) return done(kInvalidConfiguration);
  return hipModuleLaunchKernel(f, (x + bx - 1) / bx, (y + by - 1) / by, (z + bz - 1) / bz, bx, by,
                               bz, static_cast<unsigned>(lds), stream, params, extra);
}
GFXEMU_HIP hipFuncGetAttribute(int* value, int attribute, void* f) {
  std::lock_guard lock(state().mutex);
  Function* fn = static_cast<Function*>(f);
  if (!value || !state().functions.count(fn)) return done(kInvalidHandle);
  const Kernel& k = *fn->kernel;
  switch (attribute) {
    case 0:
      *value = k.max_threads;
      break;
    case 1:
      *value = static_cast<int>(k.lds);
      break;
    case 2:
      *value = 0;
      break;
    case 3:
      *value = static_cast<int>(k.scratch);
      break;
    case 4:
      *value = k.vgpr_count ? k.vgpr_count : k.vgprs;
      break;
    default:
      return done(kInvalidValue,
                  "function attribute " + std::to_string(attribute) + " is not known");
  }
  return kSuccess;
}
GFXEMU_HIP hipFuncSetAttribute(const void*, int, int) { return kSuccess; }

// ---- streams and events ----
GFXEMU_HIP hipStreamCreateWithFlags(void** out, unsigned) {
  if (!out) return done(kInvalidValue);
  Stream* s = new Stream;
  s->device = t_device;
  std::lock_guard lock(state().mutex);
  state().streams.insert(s);
  *out = s;
  return kSuccess;
}
GFXEMU_HIP hipStreamCreate(void** out) { return hipStreamCreateWithFlags(out, 0); }
GFXEMU_HIP hipStreamCreateWithPriority(void** out, unsigned flags, int) {
  return hipStreamCreateWithFlags(out, flags);
}
GFXEMU_HIP hipStreamDestroy(void* h) {
  std::lock_guard lock(state().mutex);
  Stream* s = static_cast<Stream*>(h);
  if (!state().streams.erase(s)) return done(kInvalidHandle);
  delete s;
  return kSuccess;
}
GFXEMU_HIP hipStreamSynchronize(void* h) {
  Stream* s = stream_of(h);
  if (!s) return done(kInvalidHandle);
  return s->capture ? done(kCaptureUnsupported, "the stream is capturing") : kSuccess;
}
GFXEMU_HIP hipStreamQuery(void* h) { return hipStreamSynchronize(h); }
GFXEMU_HIP hipStreamWaitEvent(void* h, void* e, unsigned) {
  Stream* s = stream_of(h);
  Event* ev = event_of(e);
  if (!s || !ev) return done(kInvalidHandle);
  if (ev->capture && !s->capture) s->capture = ev->capture;  // joins the capture
  return kSuccess;
}
GFXEMU_HIP hipStreamIsCapturing(void* h, int* status) {
  Stream* s = stream_of(h);
  if (!s || !status) return done(kInvalidHandle);
  *status = s->capture ? 1 : 0;
  return kSuccess;
}
GFXEMU_HIP hipStreamBeginCapture(void* h, int) {
  Stream* s = stream_of(h);
  if (!s) return done(kInvalidHandle);
  if (s == null_stream()) return done(kCaptureUnsupported, "the default stream cannot be captured");
  if (s->capture) return done(kInvalidValue, "the stream is capturing already");
  s->capture = std::make_shared<Graph>();
  s->origin = true;
  return kSuccess;
}
GFXEMU_HIP hipStreamEndCapture(void* h, void** out) {
  Stream* s = stream_of(h);
  if (!s || !out) return done(kInvalidHandle);
  if (!s->capture || !s->origin)
    return done(kCaptureUnmatched, "the capture did not begin in this stream");
  std::shared_ptr<Graph> g = s->capture;
  std::lock_guard lock(state().mutex);
  for (Stream* other : state().streams)
    if (other->capture == g) other->capture.reset(), other->origin = false;
  for (Event* e : state().events)
    if (e->capture == g) e->capture.reset();
  GraphHandle* handle = new GraphHandle{g};
  state().graphs.insert(handle);
  *out = handle;
  return kSuccess;
}
GFXEMU_HIP hipThreadExchangeStreamCaptureMode(int* mode) {
  static thread_local int current = 0;
  if (!mode) return done(kInvalidValue);
  std::swap(*mode, current);
  return kSuccess;
}
GFXEMU_HIP hipGraphInstantiateWithFlags(void** out, void* graph, unsigned long long) {
  std::lock_guard lock(state().mutex);
  GraphHandle* g = static_cast<GraphHandle*>(graph);
  if (!out || !state().graphs.count(g)) return done(kInvalidHandle);
  GraphHandle* exec = new GraphHandle{std::make_shared<Graph>(*g->graph)};
  state().graphs.insert(exec);
  *out = exec;
  return kSuccess;
}
GFXEMU_HIP hipGraphInstantiate(void** out, void* graph, void**, char*, size_t) {
  return hipGraphInstantiateWithFlags(out, graph, 0);
}
GFXEMU_HIP hipGraphLaunch(void* exec, void* stream) {
  return guarded([&] {
    std::shared_ptr<Graph> g;
    {
      std::lock_guard lock(state().mutex);
      GraphHandle* h = static_cast<GraphHandle*>(exec);
      if (!state().graphs.count(h)) return done(kInvalidHandle);
      g = h->graph;
    }
    return submit(stream, [g] {
      for (auto& step : g->steps)
        if (int e = step()) return e;
      return static_cast<int>(kSuccess);
    });
  });
}
GFXEMU_HIP hipGraphDestroy(void* graph) {
  std::lock_guard lock(state().mutex);
  GraphHandle* g = static_cast<GraphHandle*>(graph);
  if (!state().graphs.erase(g)) return done(kInvalidHandle);
  delete g;
  return kSuccess;
}
GFXEMU_HIP hipGraphExecDestroy(void* exec) { return hipGraphDestroy(exec); }

GFXEMU_HIP hipEventCreateWithFlags(void** out, unsigned) {
  if (!out) return done(kInvalidValue);
  Event* e = new Event;
  std::lock_guard lock(state().mutex);
  state().events.insert(e);
  *out = e;
  return kSuccess;
}
GFXEMU_HIP hipEventCreate(void** out) { return hipEventCreateWithFlags(out, 0); }
GFXEMU_HIP hipEventDestroy(void* h) {
  std::lock_guard lock(state().mutex);
  Event* e = static_cast<Event*>(h);
  if (!state().events.erase(e)) return done(kInvalidHandle);
  delete e;
  return kSuccess;
}
GFXEMU_HIP hipEventRecord(void* h, void* stream) {
  Event* e = event_of(h);
  Stream* s = stream_of(stream);
  if (!e || !s) return done(kInvalidHandle);
  e->capture = s->capture;
  if (!s->capture) {
    e->when = std::chrono::steady_clock::now();
    e->recorded = true;
  }
  return kSuccess;
}
GFXEMU_HIP hipEventSynchronize(void* h) {
  Event* e = event_of(h);
  if (!e) return done(kInvalidHandle);
  return e->capture ? done(907, "the event was recorded in a capturing stream") : kSuccess;
}
GFXEMU_HIP hipEventQuery(void* h) { return hipEventSynchronize(h); }
GFXEMU_HIP hipEventElapsedTime(float* ms, void* a, void* b) {
  Event *x = event_of(a), *y = event_of(b);
  if (!ms || !x || !y || !x->recorded || !y->recorded) return done(kInvalidHandle);
  *ms = std::chrono::duration<float, std::milli>(y->when - x->when).count();
  return kSuccess;
}

// ---- errors ----
GFXEMU_HIP hipGetLastError() {
  int e = t_last;
  t_last = 0;
  return e;
}
GFXEMU_HIP hipPeekAtLastError() { return t_last; }
extern "C" __attribute__((visibility("default"))) const char* hipGetErrorName(int e) {
  switch (e) {
    case kSuccess:
      return "hipSuccess";
    case kInvalidValue:
      return "hipErrorInvalidValue";
    case kOutOfMemory:
      return "hipErrorOutOfMemory";
    case kInvalidConfiguration:
      return "hipErrorInvalidConfiguration";
    case kInvalidDevice:
      return "hipErrorInvalidDevice";
    case kInvalidImage:
      return "hipErrorInvalidImage";
    case kNoBinary:
      return "hipErrorNoBinaryForGpu";
    case kInvalidHandle:
      return "hipErrorInvalidHandle";
    case kNotFound:
      return "hipErrorNotFound";
    case kIllegalAddress:
      return "hipErrorIllegalAddress";
    case kLaunchFailure:
      return "hipErrorLaunchFailure";
    case kNotSupported:
      return "hipErrorNotSupported";
    case kCaptureUnsupported:
      return "hipErrorStreamCaptureUnsupported";
    case kCaptureUnmatched:
      return "hipErrorStreamCaptureUnmatched";
    default:
      return "hipErrorUnknown";
  }
}
// The text of this thread's last error names the cause.
extern "C" __attribute__((visibility("default"))) const char* hipGetErrorString(int e) {
  if (e && e == t_last && !t_message.empty()) return t_message.c_str();
  return e ? hipGetErrorName(e) : "no error";
}
