#include "launch/device.h"

#include <atomic>
#include <cctype>
#include <cstring>
#include <memory>
#include <mutex>

#include "core/status.h"

namespace aiter {
namespace {

// Device attributes, as HIP (since ROCm 5) and CUDA number them.
enum class Attribute { kMultiprocessors, kWave, kSharedBytes, kCacheBytes };
constexpr int kHipAttributes[] = {63, 87, 74, 19};
constexpr int kCudaAttributes[] = {16, 10, 97, 38};
constexpr int kCudaMajor = 75, kCudaMinor = 76;

// "gfx942:sramecc+:xnack-" out of hipDeviceProp_t. Its place differs between versions of ROCm; it is
// the one text after the product name (the first 256 bytes) that begins with "gfx".
std::string gcn_arch(const char* properties, size_t bytes) {
  for (size_t i = 256; i + 4 < bytes; ++i)
    if (!std::memcmp(properties + i, "gfx", 3) &&
        std::isdigit(static_cast<unsigned char>(properties[i + 3])))
      return std::string(properties + i, strnlen(properties + i, bytes - i));
  return "gfx-unknown";
}

Targets target_of(const std::string& arch, int major) {
  const std::string chip = arch.substr(0, arch.find(':'));
  if (chip == "gfx90a") return GFX90A;
  if (chip == "gfx942") return GFX942;
  if (chip == "gfx950") return GFX950;
  return major >= 9 ? SM90 : major == 8 ? SM80 : 0;
}

void check_code(const Driver& driver, const std::string& label, int code, const char* what) {
  if (code)
    fail(AITER_DEVICE, "%s: %s failed: %s", label.c_str(), what, driver.error(code).c_str());
}

Device* open_device(aiter_device id) {
  const Driver& driver = aiter::driver(id.type);
  const std::string label = device_label(id);
  auto check = [&](int code, const char* what) { check_code(driver, label, code, what); };
  int count = 0;
  check(driver.device_count(&count), "counting the devices");
  if (id.id < 0 || id.id >= count || id.id >= kMaxDevices)
    fail(AITER_DEVICE, "%s: no such device; the driver %s has %d", label.c_str(),
         driver.library.c_str(), count);
  auto device = std::make_unique<Device>();
  device->driver = &driver;
  device->id = id;
  device->slot = id.id + (driver.is_hip() ? kMaxDevices : 0);
  device->label = label;
  int ordinal = id.id, major = 0, minor = 0;
  if (!driver.is_hip()) check(driver.cuda_device(&ordinal, id.id), "cuDeviceGet");
  auto attribute = [&](Attribute a) {
    int value = 0;
    const int* numbers = driver.is_hip() ? kHipAttributes : kCudaAttributes;
    check(driver.device_attribute(&value, numbers[static_cast<int>(a)], ordinal),
          "reading an attribute");
    return value;
  };
  char name[256] = "";
  check(driver.device_name(name, sizeof(name) - 1, ordinal), "reading the name");
  device->name = name;
  if (driver.is_hip()) {
    char properties[4096] = {};
    check(driver.hip_properties(properties, ordinal), "hipGetDeviceProperties");
    device->arch = gcn_arch(properties, sizeof(properties));
    device->context = nullptr;
  } else {
    check(driver.device_attribute(&major, kCudaMajor, ordinal), "reading an attribute");
    check(driver.device_attribute(&minor, kCudaMinor, ordinal), "reading an attribute");
    device->arch = "sm_" + std::to_string(major) + std::to_string(minor);
    check(driver.cuda_retain(&device->context, ordinal), "opening the primary context");
  }
  device->target = target_of(device->arch, major);
  device->multiprocessors = attribute(Attribute::kMultiprocessors);
  device->wave = attribute(Attribute::kWave);
  device->shared_bytes = attribute(Attribute::kSharedBytes);
  device->cache_bytes = attribute(Attribute::kCacheBytes);
  {
    DeviceScope scope(*device);
    size_t free_bytes = 0, total = 0;
    check(driver.memory_info(&free_bytes, &total), "reading the memory size");
    device->memory_bytes = static_cast<int64_t>(total);
  }
  return device.release();
}

}  // namespace

std::string device_label(aiter_device device) {
  switch (device.type) {
    case AITER_CUDA:
      return "cuda:" + std::to_string(device.id);
    case AITER_ROCM:
      return "hip:" + std::to_string(device.id);
    default:
      return "cpu";
  }
}

const Device& device_of(aiter_device id) {
  if (id.type != AITER_CUDA && id.type != AITER_ROCM)
    fail(AITER_DEVICE, "device %d:%d is no GPU", id.type, id.id);
  refuse_after_fork();
  static std::mutex mutex;
  static std::atomic<const Device*> devices[2][kMaxDevices];
  const bool known = id.id >= 0 && id.id < kMaxDevices;
  std::atomic<const Device*>& slot = devices[id.type == AITER_ROCM][known ? id.id : 0];
  const Device* device = slot.load(std::memory_order_acquire);
  if (device && known) return *device;
  std::lock_guard lock(mutex);
  if (!known) delete open_device(id);  // throws
  if (!slot.load(std::memory_order_relaxed))
    slot.store(open_device(id), std::memory_order_release);  // kept for the process
  return *slot.load(std::memory_order_relaxed);
}

void check_driver(const Device& device, int code, const char* what) {
  if (code) check_code(*device.driver, device.label, code, what);
}

DeviceScope::DeviceScope(const Device& device) : driver_(*device.driver) {
  if (driver_.is_hip()) {
    int current = -1;
    check_driver(device, driver_.hip_get_device(&current), "hipGetDevice");
    if (current == device.id.id) return;
    check_driver(device, driver_.hip_set_device(device.id.id), "hipSetDevice");
    previous_ = current;
  } else {
    Context current = nullptr;
    check_driver(device, driver_.cuda_get_context(&current), "cuCtxGetCurrent");
    if (current == device.context) return;
    check_driver(device, driver_.cuda_push_context(device.context), "cuCtxPushCurrent");
    pushed_ = true;
  }
}

DeviceScope::~DeviceScope() {
  if (previous_ >= 0) driver_.hip_set_device(previous_);
  Context popped;
  if (pushed_) driver_.cuda_pop_context(&popped);
}

}  // namespace aiter
