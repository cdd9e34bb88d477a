#include "simd/isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "core/status.h"

namespace aiter {
namespace {

constexpr Isa kAll[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512};

bool machine_has(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  switch (isa) {
    case Isa::kPortable:
      return true;
    case Isa::kAvx2:
      return avx2;
    case Isa::kAvx512:
      return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") &&
             __builtin_cpu_supports("avx512vbmi");
  }
#endif
  return isa == Isa::kPortable;
}

Isa named(const char* name) {
  for (Isa isa : kAll)
    if (std::strcmp(name, isa_name(isa)) == 0) {
      if (!machine_has(isa))
        fail(AITER_UNSUPPORTED, "cpu_isa: this machine lacks %s", isa_name(isa));
      return isa;
    }
  fail(AITER_INVALID_ARGUMENT, "cpu_isa: got \"%s\", expected avx512, avx2 or portable", name);
}

Isa best() {
  Isa found = Isa::kPortable;
  for (Isa isa : kAll)
    if (machine_has(isa)) found = isa;
  return found;
}

std::atomic<int> chosen{-1};

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    default:
      return "portable";
  }
}

Isa current_isa() {
  int isa = chosen.load(std::memory_order_relaxed);
  if (isa < 0) {
    const char* text = std::getenv("AITER_CPU_ISA");
    isa = static_cast<int>(text && *text ? named(text) : best());
    chosen.store(isa, std::memory_order_relaxed);
  }
  return static_cast<Isa>(isa);
}

}  // namespace aiter

extern "C" aiter_status aiter_set_cpu_isa(const char* name) {
  return aiter::entry("set_cpu_isa", [&] {
    aiter::chosen.store(static_cast<int>(name ? aiter::named(name) : aiter::best()),
                        std::memory_order_relaxed);
  });
}

extern "C" const char* aiter_get_cpu_isa(void) {
  const char* name = "invalid";
  aiter::entry("get_cpu_isa", [&] { name = aiter::isa_name(aiter::current_isa()); });
  return name;
}
