#include "launch/driver.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "core/status.h"

namespace aiter {
namespace {

std::atomic<bool> forked{false};

const char* environment(const char* name) {
  const char* text = std::getenv(name);
  return text && *text ? text : nullptr;
}

std::vector<std::string> hip_libraries() {
  if (const char* path = environment("AITER_HIP_LIBRARY")) return {path};
  if (environment("AITER_EMULATE")) return {library_folder() + "/libaiter_gfxemu.so"};
  std::vector<std::string> names{"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so"};
  if (const char* rocm = environment("ROCM_PATH"))
    names.push_back(std::string(rocm) + "/lib/libamdhip64.so");
  names.push_back("/opt/rocm/lib/libamdhip64.so");
  return names;
}

std::vector<std::string> cuda_libraries() {
  if (const char* path = environment("AITER_CUDA_LIBRARY")) return {path};
  return {"libcuda.so.1"};
}

// A runtime that the process already uses (torch brings its own) is preferred: its streams and
// memory are the ones that callers will pass.
void* open_first(const std::vector<std::string>& names, std::string* opened, std::string* error) {
  for (int flags : {RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD, RTLD_NOW | RTLD_LOCAL})
    for (const std::string& name : names) {
      if (void* handle = dlopen(name.c_str(), flags)) {
        *opened = name;
        return handle;
      }
      const char* text = dlerror();
      if (!(flags & RTLD_NOLOAD)) *error += "\n  " + std::string(text ? text : name);
    }
  return nullptr;
}

Driver open_driver(aiter_device_type type) {
  const bool hip = type == AITER_ROCM;
  Driver d;
  d.type = type;
  std::string error;
  void* handle = open_first(hip ? hip_libraries() : cuda_libraries(), &d.library, &error);
  if (!handle)
    fail(AITER_DEVICE, "no %s driver on this machine:%s", hip ? "HIP" : "CUDA", error.c_str());
  auto bind = [&](const char* hip_symbol, const char* cuda_symbol) -> void* {
    const char* symbol = hip ? hip_symbol : cuda_symbol;
    if (!*symbol) return nullptr;
    void* address = dlsym(handle, symbol);
    if (!address)
      fail(AITER_DEVICE, "the %s driver %s lacks %s: it is too old", hip ? "HIP" : "CUDA",
           d.library.c_str(), symbol);
    return address;
  };
#define AITER_DRIVER_BIND(field, hip_symbol, cuda_symbol, parameters) \
  d.field = reinterpret_cast<int(*) parameters>(bind(hip_symbol, cuda_symbol));
  AITER_DRIVER_CALLS(AITER_DRIVER_BIND)
#undef AITER_DRIVER_BIND
  d.hip_error_string = reinterpret_cast<const char* (*)(int)>(bind("hipGetErrorString", ""));
  if (hip) {
    void* properties = dlsym(handle, "hipGetDevicePropertiesR0600");
    if (!properties) properties = bind("hipGetDeviceProperties", "");
    d.hip_properties = reinterpret_cast<int (*)(void*, int)>(properties);
  }
  // Graphs record early launches since CUDA 12.3.
  int version = 0;
  const auto get_version =
      reinterpret_cast<int (*)(int*)>(hip ? nullptr : dlsym(handle, "cuDriverGetVersion"));
  if (get_version && get_version(&version) == 0 && version >= 12030)
    d.cuda_launch_ex =
        reinterpret_cast<decltype(d.cuda_launch_ex)>(dlsym(handle, "cuLaunchKernelEx"));
  if (int code = d.init(0))
    fail(AITER_DEVICE, "%s of %s failed: %s", hip ? "hipInit" : "cuInit", d.library.c_str(),
         d.error(code).c_str());
  static std::once_flag watched;
  std::call_once(watched, [] { pthread_atfork(nullptr, nullptr, [] { forked = true; }); });
  return d;
}

}  // namespace

std::string Driver::error(int code) const {
  const char* text = nullptr;
  if (is_hip())
    text = hip_error_string(code);
  else
    cuda_error_string(code, &text);
  return std::string(text ? text : "unknown error") + " (" + std::to_string(code) + ")";
}

const Driver& driver(int32_t type) {
  // A driver that is absent is looked for again by the next call: it failed before any state.
  static std::mutex mutex;
  static std::atomic<const Driver*> drivers[2];
  std::atomic<const Driver*>& slot = drivers[type == AITER_ROCM];
  if (const Driver* d = slot.load(std::memory_order_acquire)) return *d;
  std::lock_guard lock(mutex);
  if (!slot.load(std::memory_order_relaxed))
    slot.store(new Driver(open_driver(type == AITER_ROCM ? AITER_ROCM : AITER_CUDA)),
               std::memory_order_release);  // kept for the process
  return *slot.load(std::memory_order_relaxed);
}

const std::string& library_folder() {
  static const std::string folder = [] {
    Dl_info info{};
    std::string path = dladdr(reinterpret_cast<void*>(&library_folder), &info) && info.dli_fname
                           ? info.dli_fname
                           : "";
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? std::string(".") : path.substr(0, slash);
  }();
  return folder;
}

void refuse_after_fork() {
  if (forked.load(std::memory_order_relaxed))
    fail(AITER_DEVICE,
         "the GPU driver was opened before this process was forked and cannot be used in it; start "
         "the process anew (multiprocessing's \"spawn\") or fork before the first GPU call");
}

}  // namespace aiter
