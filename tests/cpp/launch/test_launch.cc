// The launcher over the recording mock driver: what is asked of a driver, and what is not.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

namespace {

const char* (*mock_log)();
void (*mock_clear)();
int (*hip_set_device)(int);
int (*hip_get_device)(int*);

int count(const char* what) {
  const std::string text = mock_log();
  int n = 0;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++n;
  return n;
}

int lines() { return count("\n"); }

std::vector<float> memory(64, 1.0f);

aiter_status norm(aiter_device device, aiter_stream stream, uint32_t flags = 0) {
  Tensor x(memory.data(), {4, 16});
  x.t.device = device;
  aiter_rmsnorm_opts opts = AITER_RMSNORM_OPTS_INIT;
  opts.flags = flags;
  return aiter_rmsnorm(x, nullptr, x, &opts, stream);
}

std::string stream_text(aiter_stream stream) {
  char text[64];
  std::snprintf(text, sizeof(text), "stream %p", stream);
  return text;
}

void test_devices() {
  int32_t n = -1;
  CHECK(aiter_device_count(AITER_ROCM, &n) == AITER_OK && n == 4);
  CHECK(aiter_device_count(AITER_CUDA, &n) == AITER_OK && n == 3);
  CHECK(aiter_device_count(AITER_CPU, &n) == AITER_OK && n == 1);
  aiter_device_info info{};
  info.struct_size = sizeof(info);
  CHECK(aiter_get_device_info({AITER_ROCM, 0}, &info) == AITER_OK);
  CHECK(!std::strcmp(info.arch, "gfx942:sramecc+:xnack-") && info.wave_size == 64);
  CHECK(aiter_get_device_info({AITER_CUDA, 1}, &info) == AITER_OK);
  CHECK(!std::strcmp(info.arch, "sm_90") && info.wave_size == 32 && info.multiprocessors == 132);
  CHECK_FAILS(aiter_get_device_info({AITER_ROCM, 4}, &info), AITER_DEVICE, "hip:4: no such device");
  CHECK_FAILS(norm({AITER_CUDA, -1}, nullptr), AITER_DEVICE, "cuda:-1: no such device");
}

// Another arch's code is never used, and each device of a mixed machine is judged for itself.
void test_unsupported_arch() {
  mock_clear();
  CHECK_FAILS(norm({AITER_ROCM, 2}, nullptr), AITER_NO_CODE_OBJECT, "hip:2 is a gfx1100");
  CHECK_FAILS(norm({AITER_CUDA, 2}, nullptr), AITER_NO_CODE_OBJECT, "cuda:2 is a sm_75");
  CHECK(count("launch") == 0 && count("module_load") == 0);
}

// gfx90a is supported, but not built here; there is no compiler (AITER_CLANG=/none).
void test_arch_without_object() {
  CHECK_FAILS(norm({AITER_ROCM, 3}, nullptr), AITER_NO_CODE_OBJECT,
              "rmsnorm: no code object for gfx90a (hip:3); built for: gfx942");
  CHECK(count("launch") == 0);
}

void test_dry_run_loads_nothing() {
  mock_clear();
  CHECK(norm({AITER_ROCM, 0}, nullptr, AITER_DRY_RUN) == AITER_OK);
  CHECK(std::strstr(aiter_last_explanation(), "rmsnorm: hip_row on gfx942"));
  CHECK(lines() == 0);
}

void test_not_prepared() {
  aiter_stream stream;
  CHECK(aiter_stream_create({AITER_ROCM, 1}, &stream) == AITER_OK);
  aiter_graph graph;
  CHECK(aiter_capture_begin({AITER_ROCM, 1}, stream) == AITER_OK);
  mock_clear();
  CHECK_FAILS(norm({AITER_ROCM, 1}, stream), AITER_NOT_PREPARED, "aiter_prepare");
  CHECK(lines() == 0);
  // Loading for it elsewhere, meanwhile, leaves the capture alone.
  CHECK(aiter_prepare({AITER_ROCM, 1}, "rmsnorm") == AITER_OK);
  CHECK(count("module_load") == 1);
  CHECK(norm({AITER_ROCM, 1}, stream) == AITER_OK);
  CHECK(count("launch rmsnorm_hip_row_f32") == 1);
  CHECK(aiter_capture_end({AITER_ROCM, 1}, &graph, stream) == AITER_OK);
  CHECK(aiter_graph_launch({AITER_ROCM, 1}, graph, stream) == AITER_OK);
  CHECK(aiter_graph_destroy({AITER_ROCM, 1}, graph) == AITER_OK);
  CHECK(aiter_stream_destroy({AITER_ROCM, 1}, stream) == AITER_OK);
  CHECK_FAILS(aiter_prepare({AITER_ROCM, 1}, "rmsnorm,none"), AITER_INVALID_ARGUMENT, "\"none\"");
}

// Nothing but one launch, on the caller's stream and the tensor's device; the thread's own device
// returns.
void test_one_launch() {
  CHECK(norm({AITER_ROCM, 1}, nullptr) == AITER_OK);
  for (aiter_device device : {aiter_device{AITER_ROCM, 1}, aiter_device{AITER_ROCM, 0}}) {
    CHECK(norm(device, nullptr) == AITER_OK);  // loads
    aiter_stream stream = reinterpret_cast<aiter_stream>(0x1230);
    hip_set_device(0);
    mock_clear();
    CHECK(norm(device, stream) == AITER_OK);
    CHECK(lines() == 1 && count("launch rmsnorm_hip_row_f32 grid 4 1 1 block 64 1 1") == 1);
    CHECK(std::strstr(mock_log(), stream_text(stream).c_str()));
    CHECK(count(("device " + std::to_string(device.id)).c_str()) == 1);
    int current = -1;
    hip_get_device(&current);
    CHECK(current == 0);
  }
}

void test_threads() {
  // The bf16 kernels of both devices have not been called yet.
  mock_clear();
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([i] {
      std::vector<uint16_t> data(64);
      Tensor x(data.data(), {4, 16}, test::kBF16);
      x.t.device = {AITER_ROCM, i % 2};
      for (int k = 0; k < 50; ++k)
        CHECK(aiter_rmsnorm(x, nullptr, x, nullptr, nullptr) == AITER_OK);
    });
  for (std::thread& t : threads) t.join();
  CHECK(count("launch rmsnorm_hip_row_bf16") == 400);
  CHECK(count("device 0") == 200 && count("device 1") == 200);
  CHECK(count("module_load") == 0);  // one module holds all kernels of the operator
}

void test_memory() {
  const aiter_device gpu{AITER_CUDA, 0}, cpu{AITER_CPU, 0};
  void* p = nullptr;
  CHECK(aiter_malloc(gpu, 64, &p) == AITER_OK && p);
  std::vector<char> from(64, 5), to(64);
  CHECK(aiter_copy(gpu, p, from.data(), 64, nullptr) == AITER_OK);
  CHECK(aiter_copy(gpu, to.data(), p, 64, nullptr) == AITER_OK);
  CHECK(aiter_stream_synchronize(gpu, nullptr) == AITER_OK);
  CHECK(to == from);
  CHECK(aiter_fill(gpu, p, 9, 64, nullptr) == AITER_OK);
  CHECK(aiter_free(gpu, p) == AITER_OK);
  CHECK(aiter_malloc(cpu, 100, &p) == AITER_OK && reinterpret_cast<uintptr_t>(p) % 64 == 0);
  CHECK(aiter_free(cpu, p) == AITER_OK);
  CHECK(aiter_malloc(cpu, 0, &p) == AITER_OK && !p);
  CHECK_FAILS(aiter_malloc(cpu, SIZE_MAX, &p), AITER_OUT_OF_MEMORY, "malloc: no");
  CHECK_FAILS(aiter_malloc({77, 0}, 1, &p), AITER_INVALID_ARGUMENT, "device type is 77");
}

void test_after_fork() {
  const pid_t child = fork();
  if (child == 0) {
    const bool refused =
        norm({AITER_ROCM, 0}, nullptr) == AITER_DEVICE && std::strstr(aiter_last_error(), "forked");
    _exit(refused && norm({AITER_CPU, 0}, nullptr) == AITER_OK ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace

int main() {
  setenv("AITER_HIP_LIBRARY", AITER_MOCK_DRIVER, 1);
  setenv("AITER_CUDA_LIBRARY", AITER_MOCK_DRIVER, 1);
  setenv("AITER_MOCK_ARCHS",
         "gfx942:sramecc+:xnack-,gfx942:sramecc-:xnack+,gfx1100,gfx90a,sm_90,sm_90,sm_75", 1);
  setenv("AITER_CLANG", "/none", 1);
  setenv("AITER_HIPRTC_LIBRARY", "/none", 1);
  void* mock = dlopen(AITER_MOCK_DRIVER, RTLD_NOW | RTLD_LOCAL);
  if (!CHECK(mock)) return 1;
  mock_log = reinterpret_cast<const char* (*)()>(dlsym(mock, "mock_log"));
  mock_clear = reinterpret_cast<void (*)()>(dlsym(mock, "mock_clear"));
  hip_set_device = reinterpret_cast<int (*)(int)>(dlsym(mock, "hipSetDevice"));
  hip_get_device = reinterpret_cast<int (*)(int*)>(dlsym(mock, "hipGetDevice"));

  CHECK(lines() == 0);  // nothing happens before the first call
  test_devices();
  test_unsupported_arch();
  if (!AITER_HAS_GFX942) return test::failures ? test::failures : 77;  // no kernels were built
  test_arch_without_object();
  test_dry_run_loads_nothing();
  test_not_prepared();
  test_one_launch();
  test_threads();
  test_memory();
  test_after_fork();
  return test::failures;
}
