// The GPUs of this process, and which one a thread works on.
#pragma once

#include <string>

#include "dispatch/dispatch.h"
#include "launch/driver.h"

namespace aiter {

constexpr int kMaxDevices = 64;  // of each kind

// A GPU's properties, read once.
struct Device {
  const Driver* driver;
  aiter_device id;
  int slot;             // a number below 2 * kMaxDevices, for tables
  std::string label;    // "cuda:0", "hip:0"
  std::string name;     // the product
  std::string arch;     // "sm_90", "gfx942:sramecc+:xnack-"
  Targets target;       // 0: no kernel of this library is for it
  int multiprocessors;  // compute units
  int wave;             // threads of a warp or wavefront
  int shared_bytes;     // shared memory (LDS) that one block may have
  int64_t cache_bytes;  // L2
  int64_t memory_bytes;
  Context context;  // CUDA: the primary context, which torch, JAX and CuPy use, too
};

// "cuda:0", "hip:1", "cpu"
std::string device_label(aiter_device device);

// Throws DEVICE for a device that is not there and after a fork.
const Device& device_of(aiter_device device);

// Throws DEVICE with the driver's text when code is not 0.
void check_driver(const Device& device, int code, const char* what);

// The calling thread works on the device; its own device and context return at the end.
class DeviceScope {
 public:
  explicit DeviceScope(const Device& device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;

 private:
  const Driver& driver_;
  int previous_ = -1;    // HIP
  bool pushed_ = false;  // CUDA
};

}  // namespace aiter
