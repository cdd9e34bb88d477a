// The machine's own ceilings, for benches: a copy and a read as fast as we know how, on all our
// threads. They share no code with the operators that are measured against them. And the time of a
// C call, which Python cannot take.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "python/tensor.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define AITER_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define AITER_CLONES
#endif

namespace aiter::python {
namespace {

constexpr int64_t kLine = 64;
typedef uint64_t Line __attribute__((vector_size(kLine), aligned(kLine)));

#if defined(__x86_64__)
// Stores past the caches, a line each. Four lines in flight do better than one.
__attribute__((target("avx512f"))) void copy_avx512(char* to, const char* from, int64_t lines) {
  const auto* s = reinterpret_cast<const __m512i*>(from);
  auto* d = reinterpret_cast<__m512i*>(to);
  for (int64_t i = 0; i < lines; i += 4) {
    const __m512i a = _mm512_load_si512(s + i), b = _mm512_load_si512(s + i + 1);
    const __m512i c = _mm512_load_si512(s + i + 2), e = _mm512_load_si512(s + i + 3);
    _mm512_stream_si512(d + i, a);
    _mm512_stream_si512(d + i + 1, b);
    _mm512_stream_si512(d + i + 2, c);
    _mm512_stream_si512(d + i + 3, e);
  }
  _mm_sfence();
}
#endif

void copy(char* to, const char* from, int64_t lines) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return copy_avx512(to, from, lines);
  int64_t bytes = lines * kLine;  // the string move avoids reading the target, too
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
#else
  std::memcpy(to, from, lines * kLine);
#endif
}

// Sums up all bits, so that no read can be left out.
AITER_CLONES uint64_t read(const char* from, int64_t lines) {
  const Line* p = reinterpret_cast<const Line*>(from);
  Line a{}, b{}, c{}, d{};
  for (int64_t i = 0; i < lines; i += 4) {
    for (int k = 0; k < 4; ++k) __builtin_prefetch(p + i + 128 + k, 0, 0);
    a ^= p[i], b ^= p[i + 1], c ^= p[i + 2], d ^= p[i + 3];
  }
  a ^= b ^ c ^ d;
  uint64_t sum = 0;
  for (int k = 0; k < 8; ++k) sum ^= a[k];
  return sum;
}

// The lines of a contiguous array, each thread's share a multiple of four; calls f(offset, lines).
template <class F>
void on_all_threads(const aiter_tensor* t, F&& f) {
  int64_t bytes = t->dtype.bits / 8;
  for (int i = 0; i < t->ndim; ++i) bytes *= t->shape[i];
  const int n = aiter_get_num_threads();
  const int64_t share = bytes / kLine / n / 4 * 4;
  std::vector<std::thread> threads;
  for (int i = 1; i < n; ++i) threads.emplace_back([&f, i, share] { f(i * share * kLine, share); });
  f(0, share);
  for (std::thread& thread : threads) thread.join();
}

char* aligned(const aiter_tensor* t) {
  if (reinterpret_cast<uintptr_t>(t->data) % kLine)
    throw nb::value_error("bench: the array must begin at a multiple of 64 bytes");
  return static_cast<char*>(t->data);
}

void bench_copy(nb::handle target, nb::handle source) {
  OpCall call("bench_copy", nb::none());
  const aiter_tensor* from = call.in("source", source);
  const aiter_tensor* to = call.inout("target", target);
  char *d = aligned(to), *s = aligned(from);
  call.run([&] {
    on_all_threads(from, [&](int64_t at, int64_t lines) { copy(d + at, s + at, lines); });
    return AITER_OK;
  });
}

uint64_t bench_read(nb::handle source) {
  OpCall call("bench_read", nb::none());
  const aiter_tensor* from = call.in("source", source);
  const char* s = aligned(from);
  std::atomic<uint64_t> sum{0};
  call.run([&] {
    on_all_threads(from, [&](int64_t at, int64_t lines) { sum ^= read(s + at, lines); });
    return AITER_OK;
  });
  return sum;
}

// Seconds per call of aiter_rmsnorm, over `calls` of them.
double bench_c_call(nb::handle x, nb::handle w, nb::handle out, int calls) {
  OpCall call("bench_c_call", nb::none());
  const aiter_tensor *tx = call.in("x", x), *tw = call.in("w", w), *tout = call.inout("out", out);
  aiter_rmsnorm_opts opts = AITER_RMSNORM_OPTS_INIT;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) check(aiter_rmsnorm(tx, tw, tout, &opts, nullptr));
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / calls;
}

}  // namespace

void bind_bench(nb::module_& m) {
  m.def("bench_copy", &bench_copy, "target"_a, "source"_a);
  m.def("bench_read", &bench_read, "source"_a);
  m.def("bench_c_call", &bench_c_call, "x"_a, "w"_a.none(), "out"_a, "calls"_a);
}

}  // namespace aiter::python
