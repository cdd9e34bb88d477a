// The HIP entry points of the emulator, with a kernel that is put together here: no compiler is needed.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

extern "C" {
int hipInit(unsigned);
int hipGetDeviceCount(int*);
int hipSetDevice(int);
int hipDeviceCanAccessPeer(int*, int, int);
int hipDeviceEnablePeerAccess(int, unsigned);
int hipDeviceGetAttribute(int*, int, int);
int hipGetDevicePropertiesR0600(void*, int);
int hipMalloc(void**, size_t);
int hipFree(void*);
int hipMemcpy(void*, const void*, size_t, int);
int hipMemcpyAsync(void*, const void*, size_t, int, void*);
int hipMemset(void*, int, size_t);
int hipModuleLoadData(void**, const void*);
int hipModuleUnload(void*);
int hipModuleGetFunction(void**, void*, const char*);
int hipModuleLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                          unsigned, void*, void**, void**);
int hipStreamCreateWithFlags(void**, unsigned);
int hipStreamDestroy(void*);
int hipStreamSynchronize(void*);
int hipStreamIsCapturing(void*, int*);
int hipStreamBeginCapture(void*, int);
int hipStreamEndCapture(void*, void**);
int hipStreamWaitEvent(void*, void*, unsigned);
int hipGraphInstantiateWithFlags(void**, void*, unsigned long long);
int hipGraphLaunch(void*, void*);
int hipGraphDestroy(void*);
int hipGraphExecDestroy(void*);
int hipEventCreateWithFlags(void**, unsigned);
int hipEventRecord(void*, void*);
int hipEventElapsedTime(float*, void*, void*);
int hipEventDestroy(void*);
const char* hipGetErrorString(int);
int aiter_gfxemu_set_option(const char*, const char*);
}

// The emulator knows nothing of libaiter, so neither does its test: no check.h.
#define CHECK(condition)      \
  ((condition) ? (void)0      \
               : (++failures, \
                  (void)fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition)))

namespace {

int failures = 0;

template <class T>
void put(std::vector<uint8_t>& image, size_t at, T value) {
  if (image.size() < at + sizeof(T)) image.resize(at + sizeof(T));
  memcpy(&image[at], &value, sizeof(T));
}

// A linked code object for gfx942 with one kernel `k` of these words: one pointer as its argument in
// s[0:1], the workgroup's id in s2.
std::vector<uint8_t> code_object(const std::vector<uint32_t>& words, uint32_t flags = 0x4c) {
  std::vector<uint8_t> e(0x1000);
  const uint8_t ident[] = {0x7f, 'E', 'L', 'F', 2, 1, 1, 64, 3};
  memcpy(e.data(), ident, sizeof(ident));
  put<uint16_t>(e, 16, 3);
  put<uint16_t>(e, 18, 224);
  put<uint64_t>(e, 32, 64);     // program headers
  put<uint64_t>(e, 40, 0x200);  // section headers
  put<uint32_t>(e, 48, flags);
  put<uint16_t>(e, 54, 56);
  put<uint16_t>(e, 56, 2);
  put<uint16_t>(e, 58, 64);
  put<uint16_t>(e, 60, 3);
  auto segment = [&](size_t at, uint32_t access, uint64_t offset, uint64_t size) {
    put<uint32_t>(e, at, 1);
    put<uint32_t>(e, at + 4, access);
    for (int field : {8, 16, 24}) put<uint64_t>(e, at + static_cast<size_t>(field), offset);
    put<uint64_t>(e, at + 32, size);
    put<uint64_t>(e, at + 40, size);
  };
  segment(64, 4, 0, 0x1000);
  segment(120, 5, 0x1000, words.size() * 4);
  auto section = [&](size_t index, uint32_t type, uint64_t offset, uint64_t size, uint32_t link) {
    size_t at = 0x200 + 64 * index;
    put<uint32_t>(e, at + 4, type);
    put<uint64_t>(e, at + 24, offset);
    put<uint64_t>(e, at + 32, size);
    put<uint32_t>(e, at + 40, link);
  };
  section(1, 11, 0x300, 48, 2);
  section(2, 3, 0x340, 8, 0);
  memcpy(&e[0x341], "k.kd", 5);
  put<uint32_t>(e, 0x318, 1);  // the symbol k.kd
  put<uint8_t>(e, 0x31c, 0x11);
  put<uint16_t>(e, 0x31e, 1);
  put<uint64_t>(e, 0x320, 0x400);
  put<uint64_t>(e, 0x328, 64);
  put<uint32_t>(e, 0x408, 8);     // kernel descriptor: kernarg bytes
  put<int64_t>(e, 0x410, 0xc00);  // entry
  put<uint32_t>(e, 0x430, 0xf0000);
  put<uint32_t>(e, 0x434, 2u << 1 | 1u << 7);
  put<uint16_t>(e, 0x438, 8);
  for (uint32_t w : words) put<uint32_t>(e, e.size(), w);
  return e;
}

// store[64 * workgroup + lane] = lane
const std::vector<uint32_t> kStore = {
    0xc0060100, 0x00000000,  // s_load_dwordx2 s[4:5], s[0:1], 0x0
    0x8e068602,              // s_lshl_b32 s6, s2, 6
    0x68020006,              // v_add_u32 v1, s6, v0
    0x24020282,              // v_lshlrev_b32 v1, 2, v1
    0xbf8cc07f,              // s_waitcnt lgkmcnt(0)
    0xdc708000, 0x00040001,  // global_store_dword v1, v0, s[4:5]
    0xbf810000,              // s_endpgm
};

struct Kernel {
  void *module = nullptr, *function = nullptr;
  explicit Kernel(const std::vector<uint32_t>& words, uint32_t flags = 0x4c) {
    std::vector<uint8_t> image = code_object(words, flags);
    CHECK(hipModuleLoadData(&module, image.data()) == 0);
    CHECK(hipModuleGetFunction(&function, module, "k") == 0);
  }
  ~Kernel() { hipModuleUnload(module); }
  int launch(void* pointer, unsigned groups, void* stream = nullptr) {
    size_t size = sizeof(pointer);
    void* extra[] = {reinterpret_cast<void*>(1), &pointer, reinterpret_cast<void*>(2), &size,
                     reinterpret_cast<void*>(3)};
    return hipModuleLaunchKernel(function, groups, 1, 1, 64, 1, 1, 0, stream, nullptr, extra);
  }
};

bool says(int code, const char* text) {
  bool found = code && strstr(hipGetErrorString(code), text);
  if (!found) fprintf(stderr, "  error %d says: %s\n", code, hipGetErrorString(code));
  return found;
}

void devices() {
  int n = 0, wave = 0;
  CHECK(hipInit(0) == 0 && hipGetDeviceCount(&n) == 0 && n == 1);
  CHECK(hipDeviceGetAttribute(&wave, 87, 0) == 0 && wave == 64);
  CHECK(hipDeviceGetAttribute(&wave, 87, 1) != 0);
  std::vector<char> properties(4096);
  CHECK(hipGetDevicePropertiesR0600(properties.data(), 0) == 0);
  CHECK(std::string(&properties[1160]).rfind("gfx942", 0) == 0);
}

void memory() {
  void *a = nullptr, *b = nullptr;
  CHECK(hipMalloc(&a, 100) == 0 && hipMalloc(&b, 100) == 0);
  char text[100] = "over there", back[100] = "";
  CHECK(hipMemcpy(a, text, 100, 1) == 0 && hipMemcpy(b, a, 100, 3) == 0 &&
        hipMemcpy(back, b, 100, 2) == 0);
  CHECK(!strcmp(text, back));
  CHECK(says(hipMemcpy(a, text, 101, 1), "not inside one live allocation"));
  CHECK(hipFree(a) == 0);
  CHECK(says(hipMemcpy(a, text, 1, 1), "not inside one live allocation"));
  CHECK(says(hipFree(a), "not the start of a live allocation"));
  CHECK(hipFree(b) == 0 && hipFree(nullptr) == 0);
}

void launches() {
  Kernel k(kStore);
  void* p = nullptr;
  CHECK(hipMalloc(&p, 4 * 64 * 100) == 0);
  CHECK(k.launch(p, 100) == 0);
  std::vector<uint32_t> got(64 * 100);
  CHECK(hipMemcpy(got.data(), p, got.size() * 4, 2) == 0);
  bool right = true;
  for (size_t i = 0; i < got.size(); ++i) right = right && got[i] == i % 64;
  CHECK(right);
  CHECK(says(k.launch(nullptr, 1),
             "kernel k: lane 0: access of 4 bytes at 0 is outside every live allocation"));
  CHECK(k.launch(p, 1) == 0);  // an error does not stay
  hipFree(p);
}

void errors() {
  void* m = nullptr;
  CHECK(says(hipModuleLoadData(&m, "this is not an ELF file, is it?"), "no ELF code object"));
  std::vector<uint8_t> other = code_object(kStore, 0x4f);
  CHECK(says(hipModuleLoadData(&m, other.data()), "is for gfx950, the emulated device is gfx942"));
  Kernel k(kStore);
  void* f = nullptr;
  CHECK(says(hipModuleGetFunction(&f, k.module, "absent"), "no kernel absent"));
  CHECK(says(hipModuleLaunchKernel(k.function, 1, 1, 1, 2048, 1, 1, 0, nullptr, nullptr, nullptr),
             "2048 threads"));
  Kernel unknown({0xbfff0000u, 0xbf810000u});
  CHECK(says(unknown.launch(nullptr, 1), "cannot decode: unknown opcode"));
  Kernel unfinished({0xbf800000u});
  CHECK(says(unfinished.launch(nullptr, 1), "the end of the code was passed"));
  Kernel away({0xbf827fffu});
  CHECK(says(away.launch(nullptr, 1), "branch target outside the code object"));
  Kernel halted({0xbf920002u, 0xbf810000u});
  CHECK(says(halted.launch(nullptr, 1), "trap 2"));
  Kernel reserved({0xbf8b0000u, 0xbf810000u});
  CHECK(says(reserved.launch(nullptr, 1), "s_setkill is not implemented"));
}

void streams_and_graphs() {
  Kernel k(kStore);
  void *stream = nullptr, *side = nullptr, *p = nullptr, *graph = nullptr, *exec = nullptr,
       *fork = nullptr, *join = nullptr;
  CHECK(hipStreamCreateWithFlags(&stream, 1) == 0 && hipStreamCreateWithFlags(&side, 1) == 0);
  CHECK(hipEventCreateWithFlags(&fork, 0) == 0 && hipEventCreateWithFlags(&join, 0) == 0);
  CHECK(hipMalloc(&p, 256) == 0 && hipMemset(p, 0, 256) == 0);
  int capturing = -1;
  CHECK(hipStreamBeginCapture(stream, 0) == 0 && hipStreamIsCapturing(stream, &capturing) == 0 &&
        capturing == 1);
  CHECK(k.launch(p, 1, stream) == 0);
  CHECK(says(hipStreamSynchronize(stream), "capturing"));
  uint32_t out[64] = {7};
  CHECK(hipEventRecord(fork, stream) == 0 && hipStreamWaitEvent(side, fork, 0) == 0);
  CHECK(hipMemcpyAsync(out, p, 256, 2, side) == 0);
  CHECK(hipEventRecord(join, side) == 0 && hipStreamWaitEvent(stream, join, 0) == 0);
  CHECK(hipStreamEndCapture(stream, &graph) == 0);
  CHECK(out[0] == 7);  // nothing has run yet
  CHECK(hipGraphInstantiateWithFlags(&exec, graph, 0) == 0 && hipGraphDestroy(graph) == 0);
  for (int i = 0; i < 2; ++i) {
    CHECK(hipMemset(p, 0, 256) == 0 && hipGraphLaunch(exec, stream) == 0 &&
          hipStreamSynchronize(stream) == 0);
    CHECK(out[0] == 0 && out[63] == 63);
  }
  CHECK(hipGraphExecDestroy(exec) == 0);
  float ms = -1;
  CHECK(hipEventRecord(fork, stream) == 0 && k.launch(p, 1, stream) == 0 &&
        hipEventRecord(join, stream) == 0);
  CHECK(hipEventElapsedTime(&ms, fork, join) == 0 && ms >= 0);
  CHECK(hipEventDestroy(fork) == 0 && hipEventDestroy(join) == 0 && hipStreamDestroy(stream) == 0 &&
        hipStreamDestroy(side) == 0);
  CHECK(says(k.launch(p, 1, stream), "stream does not exist"));
  hipFree(p);
}

// One process, two processors: code, streams and memory belong to a device.
void several_devices() {
  CHECK(aiter_gfxemu_set_option("arch", "gfx942,gfx950") == 0);
  int n = 0, bytes = 0, can = 0;
  CHECK(hipGetDeviceCount(&n) == 0 && n == 2);
  CHECK(hipDeviceGetAttribute(&bytes, 74, 0) == 0 && bytes == 64 << 10);
  CHECK(hipDeviceGetAttribute(&bytes, 74, 1) == 0 && bytes == 160 << 10);
  Kernel first(kStore);
  void *there = nullptr, *here = nullptr, *stream = nullptr, *module = nullptr;
  CHECK(hipSetDevice(1) == 0 && hipMalloc(&there, 256) == 0);
  CHECK(says(first.launch(there, 1), "loaded on device 0, the stream is of device 1"));
  CHECK(says(hipModuleLoadData(&module, code_object(kStore).data()), "emulated device is gfx950"));
  Kernel second(kStore, 0x4f);
  CHECK(second.launch(there, 1) == 0);
  CHECK(hipStreamCreateWithFlags(&stream, 1) == 0 && hipSetDevice(0) == 0);
  CHECK(second.launch(there, 1, stream) == 0);  // the stream's device, not the thread's
  CHECK(hipMalloc(&here, 256) == 0 && hipMemcpy(here, there, 256, 3) == 0);
  CHECK(first.launch(here, 1) == 0);
  CHECK(says(first.launch(there, 1), "memory of another device"));
  CHECK(hipDeviceCanAccessPeer(&can, 0, 1) == 0 && can == 1);
  CHECK(hipDeviceEnablePeerAccess(1, 0) == 0 && first.launch(there, 1) == 0);
  CHECK(says(second.launch(here, 1, stream), "memory of another device"));  // one direction
  CHECK(hipFree(here) == 0 && hipFree(there) == 0 && hipStreamDestroy(stream) == 0);
  CHECK(aiter_gfxemu_set_option("arch", "gfx942,gfx1100") != 0);
  CHECK(aiter_gfxemu_set_option("arch", "gfx942") == 0);
}

void options() {
  CHECK(aiter_gfxemu_set_option("quantum", "4") == 0 &&
        aiter_gfxemu_set_option("quantum", "16") == 0);
  CHECK(aiter_gfxemu_set_option("quantum", "many") != 0 &&
        aiter_gfxemu_set_option("speed", "1") != 0);
}

}  // namespace

int main() {
  devices();
  memory();
  launches();
  errors();
  streams_and_graphs();
  several_devices();
  options();
  return failures;
}
