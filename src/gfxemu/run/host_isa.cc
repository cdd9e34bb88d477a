// Chooses the host code path once.
#include <string>

#include "run/launch.h"

namespace gfxemu {
namespace avx512 {
HandlerTables handlers();
}
namespace avx2 {
HandlerTables handlers();
}
namespace portable {
HandlerTables handlers();
}
namespace avx512bf16 {
extern const Handler kMai[];
}

namespace {
struct Choice {
  const char* name;
  HandlerTables tables;
};
const Choice& choice() {
  static const Choice c = [] {
    const std::string& want = options().isa;
    (void)want;
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool v2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi2");
    bool v5 = v2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    (void)v5;
#ifdef GFXEMU_HAS_avx512
    if (v5 && (want.empty() || want == "avx512" || want == "avx512bf16")) {
      Choice c{"avx512", avx512::handlers()};
      bool pairs = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi") &&
                   __builtin_cpu_supports("avx512vnni");
      if (pairs && want != "avx512") {
        c.name = "avx512bf16";
        c.tables.of[static_cast<int>(Format::MAI)] = avx512bf16::kMai;
      }
      return c;
    }
#endif
#ifdef GFXEMU_HAS_avx2
    if (v2 && (want.empty() || want == "avx2" || want == "avx512" || want == "avx512bf16"))
      return Choice{"avx2", avx2::handlers()};
#endif
#endif
#ifdef GFXEMU_HAS_portable
    return Choice{"portable", portable::handlers()};
#else
    return Choice{"none", {}};
#endif
  }();
  return c;
}
}  // namespace

const HandlerTables* host_handlers() { return &choice().tables; }
const char* host_isa() { return choice().name; }

}  // namespace gfxemu
