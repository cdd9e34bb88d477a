#include "aiter/gpu.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/status.h"
#include "launch/device.h"
#include "launch/launch.h"
#include "launch/sources.h"

namespace aiter {
namespace {

bool on_host(aiter_device device) {
  return device.type == AITER_CPU || device.type == AITER_CUDA_HOST ||
         device.type == AITER_ROCM_HOST;
}

void need(const char* call, const char* argument, const void* pointer) {
  if (!pointer) fail(AITER_INVALID_ARGUMENT, "%s: %s is NULL", call, argument);
}

// f(driver) with the device current; nothing to do on the CPU.
template <class F>
void on_gpu(const char* call, aiter_device id, F&& f) {
  if (on_host(id)) return;
  if (id.type != AITER_CUDA && id.type != AITER_ROCM)
    fail(AITER_INVALID_ARGUMENT, "%s: device type is %d, expected CPU (1), CUDA (2) or ROCm (10)",
         call, id.type);
  const Device& device = device_of(id);
  DeviceScope scope(device);
  check_driver(device, f(*device.driver), call);
}

// A call that is nothing but that.
template <class F>
aiter_status gpu_entry(const char* call, aiter_device id, F&& f) {
  return entry(call, [&] { on_gpu(call, id, f); });
}

// One with a result, which is NULL on failure and on the CPU.
template <class Handle, class F>
aiter_status gpu_entry(const char* call, aiter_device id, const char* argument, Handle* result,
                       F&& f) {
  return entry(call, [&] {
    need(call, argument, result);
    *result = Handle{};
    on_gpu(call, id, f);
  });
}

// Operators whose calls launch kernels of others, too.
constexpr struct {
  const char *op, *other;
} kAlsoLaunched[] = {
    {"fused_qk_rope_reshape_and_cache", "reshape_and_cache_with_block_quant"},
    {"groupnorm_quant", "groupnorm"},
};

std::vector<std::string> parse_ops(const char* text) {
  if (!text) return device_ops();
  std::vector<std::string> ops;
  const std::string all = text;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find(',', begin), all.size());
    const std::string op = all.substr(begin, end - begin);
    begin = end + 1;
    if (op.empty()) continue;
    if (std::find(device_ops().begin(), device_ops().end(), op) == device_ops().end())
      fail(AITER_INVALID_ARGUMENT, "prepare: \"%s\" is no operator with GPU kernels", op.c_str());
    ops.push_back(op);
    for (const auto& also : kAlsoLaunched)
      if (op == also.op) ops.emplace_back(also.other);
  }
  return ops;
}

void prepare_all(const std::vector<std::string>& ops, const Device& device) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  auto work = [&] {
    for (size_t i = next++; i < ops.size(); i = next++) try {
        prepare(ops[i], device);
      } catch (...) {
        std::lock_guard lock(mutex);
        error = std::current_exception();
      }
  };
  std::vector<std::thread> threads;
  const size_t wanted = std::min<size_t>(ops.size(), std::thread::hardware_concurrency());
  for (size_t i = 1; i < wanted; ++i) threads.emplace_back(work);
  work();
  for (std::thread& t : threads) t.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace
}  // namespace aiter

using aiter::Driver;

extern "C" {

aiter_status aiter_device_count(int32_t type, int32_t* count) {
  return aiter::entry("device_count", [&] {
    if (!count) aiter::fail(AITER_INVALID_ARGUMENT, "device_count: count is NULL");
    if (type == AITER_CPU) {
      *count = 1;
      return;
    }
    if (type != AITER_CUDA && type != AITER_ROCM)
      aiter::fail(AITER_INVALID_ARGUMENT,
                  "device_count: type is %d, expected CPU (1), CUDA (2) or ROCm (10)", type);
    aiter::refuse_after_fork();
    int n = 0;
    try {
      const Driver& driver = aiter::driver(type);
      if (driver.device_count(&n)) n = 0;
    } catch (const aiter::Error&) {
      n = 0;  // no driver
    }
    *count = n;
  });
}

aiter_status aiter_get_device_info(aiter_device id, aiter_device_info* info) {
  return aiter::entry("get_device_info", [&] {
    if (!info || info->struct_size < sizeof(uint32_t))
      aiter::fail(AITER_INVALID_ARGUMENT,
                  "get_device_info: info is NULL or its struct_size is not set");
    const aiter::Device& device = aiter::device_of(id);
    aiter_device_info full{};
    full.struct_size = info->struct_size;
    full.multiprocessors = device.multiprocessors;
    full.wave_size = device.wave;
    full.shared_bytes = device.shared_bytes;
    full.cache_bytes = device.cache_bytes;
    full.memory_bytes = device.memory_bytes;
    std::strncpy(full.arch, device.arch.c_str(), sizeof(full.arch) - 1);
    std::strncpy(full.name, device.name.c_str(), sizeof(full.name) - 1);
    std::memcpy(info, &full, std::min<size_t>(info->struct_size, sizeof(full)));
  });
}

aiter_status aiter_prepare(aiter_device id, const char* ops) {
  return aiter::entry("prepare", [&] {
    const std::vector<std::string> names = aiter::parse_ops(ops);
    aiter::on_gpu("prepare", id, [&](const Driver&) {
      aiter::prepare_all(names, aiter::device_of(id));
      return 0;
    });
  });
}

aiter_status aiter_malloc(aiter_device id, size_t bytes, void** memory) {
  return aiter::entry("malloc", [&] {
    aiter::need("malloc", "memory", memory);
    *memory = nullptr;
    if (aiter::on_host(id) && bytes > 0) {
      constexpr size_t kAlignment = 64;
      if (bytes <= SIZE_MAX - kAlignment)
        *memory =
            std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
      if (!*memory) aiter::fail(AITER_OUT_OF_MEMORY, "malloc: no %zu bytes of host memory", bytes);
    }
    aiter::on_gpu("malloc", id, [&](const Driver& d) {
      constexpr int kOutOfMemory = 2;  // of both drivers
      const int code = bytes ? d.malloc(memory, bytes) : 0;
      if (code == kOutOfMemory)
        aiter::fail(AITER_OUT_OF_MEMORY, "malloc: no %zu bytes on %s", bytes,
                    aiter::device_label(id).c_str());
      return code;
    });
  });
}

aiter_status aiter_free(aiter_device id, void* memory) {
  if (aiter::on_host(id)) std::free(memory);
  return aiter::gpu_entry("free", id, [&](const Driver& d) { return memory ? d.free(memory) : 0; });
}

aiter_status aiter_copy(aiter_device id, void* to, const void* from, size_t bytes,
                        aiter_stream stream) {
  return aiter::entry("copy", [&] {
    if (bytes > 0) {
      aiter::need("copy", "to", to);
      aiter::need("copy", "from", from);
      if (aiter::on_host(id)) std::memmove(to, from, bytes);
    }
    aiter::on_gpu("copy", id,
                  [&](const Driver& d) { return bytes ? d.copy(to, from, bytes, stream) : 0; });
  });
}

aiter_status aiter_fill(aiter_device id, void* memory, uint8_t value, size_t bytes,
                        aiter_stream stream) {
  return aiter::entry("fill", [&] {
    if (bytes > 0) {
      aiter::need("fill", "memory", memory);
      if (aiter::on_host(id)) std::memset(memory, value, bytes);
    }
    aiter::on_gpu("fill", id, [&](const Driver& d) {
      return bytes ? d.fill(memory, value, bytes, stream) : 0;
    });
  });
}

aiter_status aiter_stream_create(aiter_device id, aiter_stream* stream) {
  constexpr unsigned kNonBlocking = 1;
  return aiter::gpu_entry("stream_create", id, "stream", stream,
                          [&](const Driver& d) { return d.stream_create(stream, kNonBlocking); });
}

aiter_status aiter_stream_destroy(aiter_device id, aiter_stream stream) {
  return aiter::gpu_entry("stream_destroy", id,
                          [&](const Driver& d) { return stream ? d.stream_destroy(stream) : 0; });
}

aiter_status aiter_stream_synchronize(aiter_device id, aiter_stream stream) {
  return aiter::gpu_entry("stream_synchronize", id,
                          [&](const Driver& d) { return d.stream_synchronize(stream); });
}

aiter_status aiter_event_create(aiter_device id, aiter_event* event) {
  return aiter::gpu_entry("event_create", id, "event", event,
                          [&](const Driver& d) { return d.event_create(event, 0); });
}

aiter_status aiter_event_destroy(aiter_device id, aiter_event event) {
  return aiter::gpu_entry("event_destroy", id,
                          [&](const Driver& d) { return event ? d.event_destroy(event) : 0; });
}

aiter_status aiter_event_record(aiter_device id, aiter_event event, aiter_stream stream) {
  return aiter::gpu_entry("event_record", id, [&](const Driver& d) {
    aiter::need("event_record", "event", event);
    return d.event_record(event, stream);
  });
}

aiter_status aiter_stream_wait(aiter_device id, aiter_event event, aiter_stream stream) {
  return aiter::gpu_entry("stream_wait", id, [&](const Driver& d) {
    aiter::need("stream_wait", "event", event);
    return d.stream_wait_event(stream, event, 0);
  });
}

aiter_status aiter_event_elapsed_ms(aiter_device id, aiter_event start, aiter_event end,
                                    float* milliseconds) {
  return aiter::gpu_entry("event_elapsed_ms", id, "milliseconds", milliseconds,
                          [&](const Driver& d) {
                            aiter::need("event_elapsed_ms", "start", start);
                            aiter::need("event_elapsed_ms", "end", end);
                            const int code = d.event_synchronize(end);
                            return code ? code : d.event_elapsed(milliseconds, start, end);
                          });
}

aiter_status aiter_capture_begin(aiter_device id, aiter_stream stream) {
  constexpr int kThreadLocal = 1;
  return aiter::gpu_entry("capture_begin", id,
                          [&](const Driver& d) { return d.capture_begin(stream, kThreadLocal); });
}

aiter_status aiter_capture_end(aiter_device id, aiter_graph* graph, aiter_stream stream) {
  return aiter::gpu_entry("capture_end", id, "graph", graph, [&](const Driver& d) {
    aiter::Graph captured = nullptr;
    int code = d.capture_end(stream, &captured);
    if (code || !captured) return code;
    code = d.graph_instantiate(graph, captured, 0);
    d.graph_destroy(captured);
    return code;
  });
}

aiter_status aiter_graph_launch(aiter_device id, aiter_graph graph, aiter_stream stream) {
  return aiter::gpu_entry("graph_launch", id, [&](const Driver& d) {
    aiter::need("graph_launch", "graph", graph);
    return d.graph_launch(graph, stream);
  });
}

aiter_status aiter_graph_destroy(aiter_device id, aiter_graph graph) {
  return aiter::gpu_entry("graph_destroy", id,
                          [&](const Driver& d) { return graph ? d.graph_exec_destroy(graph) : 0; });
}

}  // extern "C"
