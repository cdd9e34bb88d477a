#include "launch/launch.h"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/status.h"
#include "launch/code_object.h"
#include "launch/sources.h"
#include "launch/store.h"

namespace aiter {
namespace {

// An operator's code on one device: one module, or several when its kernels were built one by one on
// first use. Its mutex is held while code is loaded or built, so that threads which need the same
// code wait for it and others do not.
struct LoadedOp {
  std::mutex mutex;
  bool complete = false;  // all kernels are there
  std::map<std::string, LoadedKernel> kernels;
};

LoadedOp& loaded_op(const Device& device, const std::string& op) {
  static std::mutex mutex;
  static auto* all = new std::map<std::pair<int, std::string>, std::unique_ptr<LoadedOp>>;
  std::lock_guard lock(mutex);
  auto& entry = (*all)[{device.slot, op}];
  if (!entry) entry = std::make_unique<LoadedOp>();
  return *entry;
}

// Loading is legal while another stream of the process is being captured.
class RelaxedCapture {
 public:
  explicit RelaxedCapture(const Driver& driver) : driver_(driver) {
    driver_.thread_capture_mode(&mode_);
  }
  ~RelaxedCapture() { driver_.thread_capture_mode(&mode_); }

 private:
  const Driver& driver_;
  int mode_ = 2;
};

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& w : words) text += (text.empty() ? "" : ", ") + w;
  return text.empty() ? "none" : text;
}

// Loads the kernels of an object; with the op's mutex held.
void load(const std::string& op, const Device& device, const std::string& bytes, LoadedOp* loaded) {
  const Driver& driver = *device.driver;
  const CodeObject object = read_code_object(bytes);
  DeviceScope scope(device);
  RelaxedCapture relaxed(driver);
  Module module = nullptr;                                          // kept for the process
  if (const int code = driver.module_load(&module, bytes.c_str()))  // PTX ends in a zero byte
    fail(AITER_NO_CODE_OBJECT, "%s: the driver refused the code object of %s for %s (%s): %s",
         op.c_str(), object.arch.c_str(), device.arch.c_str(), device.label.c_str(),
         driver.error(code).c_str());
  for (const KernelInfo& kernel : object.kernels) {
    Function function = nullptr;
    if (const int code = driver.module_function(&function, module, kernel.symbol.c_str()))
      fail(AITER_INTERNAL, "%s: the code object has no kernel %s: %s", op.c_str(),
           kernel.symbol.c_str(), driver.error(code).c_str());
    // CUDA grants a block more than 48 KiB only on request; the grid decides what is used.
    constexpr int kMaxDynamicShared = 8;
    if (!driver.is_hip())
      driver.cuda_function_attribute(function, kMaxDynamicShared,
                                     device.shared_bytes - kernel.shared_bytes);
    loaded->kernels.insert({kernel.symbol, {function, kernel.args_bytes, kernel.waits}});
  }
}

// Loads one kernel, or all when `kernel` is empty; with the op's mutex held.
void find_and_load(const std::string& op, const std::string& kernel, const Device& device,
                   LoadedOp* loaded) {
  if (loaded->complete || (!kernel.empty() && loaded->kernels.count(kernel))) return;
  std::string bytes = find_prebuilt(op, device.arch);
  const bool complete = !bytes.empty() || kernel.empty();
  std::string why;
  if (bytes.empty()) bytes = build_on_first_use(op, kernel, device.arch, &why);
  if (bytes.empty())
    fail(AITER_NO_CODE_OBJECT, "%s: no code object for %s (%s); built for: %s;%s", op.c_str(),
         device.arch.c_str(), device.label.c_str(), join(built_archs(op)).c_str(), why.c_str());
  load(op, device, bytes, loaded);
  loaded->complete = complete;
}

const LoadedKernel* load_kernel(const Kernel& kernel, const Device& device, Stream stream,
                                int args_bytes) {
  // An error also means capture: a legacy stream is refused while another one is captured.
  int capturing = 0;
  {
    DeviceScope scope(device);
    if (device.driver->stream_is_capturing(stream, &capturing) != 0) capturing = 1;
  }
  LoadedOp& op = loaded_op(device, kernel.op());
  std::lock_guard lock(op.mutex);
  if (capturing && !op.kernels.count(kernel.symbol()))
    fail(AITER_NOT_PREPARED,
         "%s: its code is not loaded on %s, and loading is not possible while the stream is being "
         "captured; call it once before, or aiter_prepare()",
         kernel.op(), device.label.c_str());
  find_and_load(kernel.op(), kernel.symbol(), device, &op);
  const auto found = op.kernels.find(kernel.symbol());
  if (found == op.kernels.end())
    fail(AITER_INTERNAL, "%s: the code object for %s has no kernel %s", kernel.op(),
         device.arch.c_str(), kernel.symbol());
  if (found->second.args_bytes != args_bytes)
    fail(AITER_INTERNAL, "%s: kernel %s takes %d bytes of arguments, the library passes %d",
         kernel.op(), kernel.symbol(), found->second.args_bytes, args_bytes);
  kernel.loaded(device).store(&found->second, std::memory_order_release);
  return &found->second;
}

// Launches by cuLaunchKernelEx: a kernel that waits for the one before it by itself, which may start
// early, or one with teams of blocks.
int launch_extended(const Driver& driver, const LoadedKernel& kernel, const Grid& grid,
                    Stream stream, void** arguments) {
  constexpr int kClusterDimension = 4, kProgrammaticStreamSerialization = 6;
  CudaLaunch::Attribute attributes[2];
  unsigned count = 0;
  if (kernel.waits) attributes[count++] = {kProgrammaticStreamSerialization, 0, {1}};
  if (grid.team > 1) attributes[count++] = {kClusterDimension, 0, {grid.team, 1, 1}};
  const CudaLaunch launch{
      {static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z)},
      {static_cast<unsigned>(grid.threads), 1, 1},
      static_cast<unsigned>(grid.shared_bytes),
      stream,
      attributes,
      count};
  return driver.cuda_launch_ex(&launch, kernel.function, arguments, nullptr);
}

}  // namespace

int largest_team(const Call& call) {
  constexpr int kPortableCluster = 8;
  return call.machine.target == SM90 && device_of(call.device).driver->cuda_launch_ex
             ? kPortableCluster
             : 1;
}

void launch_bytes(const Kernel& kernel, const Call& call, const Grid& grid, const void* args,
                  int args_bytes) {
  if (grid.x <= 0 || grid.y <= 0 || grid.z <= 0) return;
  const Device& device = device_of(call.device);
  // AMD counts threads in 32 bits, NVIDIA blocks in 31 and 16.
  if (grid.x * grid.threads >= int64_t{1} << 32 || grid.x >= int64_t{1} << 31 || grid.y > 65535 ||
      grid.z > 65535)
    fail(AITER_INTERNAL, "%s: a grid of %lld x %lld x %lld blocks is too large", kernel.op(),
         static_cast<long long>(grid.x), static_cast<long long>(grid.y),
         static_cast<long long>(grid.z));
  const LoadedKernel* loaded = kernel.loaded(device).load(std::memory_order_acquire);
  if (!loaded) loaded = load_kernel(kernel, device, call.stream, args_bytes);
  DeviceScope scope(device);
  void* arguments[] = {const_cast<void*>(args)};
  const Driver& driver = *device.driver;
  const int code = (loaded->waits || grid.team > 1) && driver.cuda_launch_ex
                       ? launch_extended(driver, *loaded, grid, call.stream, arguments)
                       : driver.launch(loaded->function, static_cast<unsigned>(grid.x),
                                       static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z),
                                       static_cast<unsigned>(grid.threads), 1, 1,
                                       static_cast<unsigned>(grid.shared_bytes), call.stream,
                                       arguments, nullptr);
  if (code)
    fail(AITER_DEVICE, "%s: launching %s on %s failed: %s", kernel.op(), kernel.symbol(),
         device.label.c_str(), driver.error(code).c_str());
}

void prepare(const std::string& op, const Device& device) {
  LoadedOp& loaded = loaded_op(device, op);
  std::lock_guard lock(loaded.mutex);
  find_and_load(op, "", device, &loaded);
}

}  // namespace aiter
