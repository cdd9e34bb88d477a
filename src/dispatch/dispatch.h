// Selection of an operator's row. An operator lists its candidates in <op>.def, best first:
//
//   AITER_IMPL(rmsnorm, cpu_simd, ANY_CPU, true)
//
// name, targets, and a condition on the problem `p` and the machine `m`. Selection is a pure
// function of (problem, machine); it yields a row and, on request, why each better row was refused.
#pragma once

#include <cstdint>
#include <iterator>

#include "aiter/device.h"
#include "aiter/tensor.h"

namespace aiter {

// What a row runs on. GPU architectures are bits, so that a row can name several.
using Targets = uint32_t;
constexpr Targets ANY_CPU = 1u << 0;
constexpr Targets GFX90A = 1u << 1;
constexpr Targets GFX942 = 1u << 2;
constexpr Targets GFX950 = 1u << 3;
constexpr Targets SM80 = 1u << 4;
constexpr Targets SM90 = 1u << 5;
constexpr Targets ANY_AMD = GFX90A | GFX942 | GFX950;
constexpr Targets ANY_NVIDIA = SM80 | SM90;
constexpr Targets ANY_GPU = ANY_AMD | ANY_NVIDIA;

enum class Isa : int32_t { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };

// The machine that a problem runs on: one target bit, and what conditions may ask for.
struct Machine {
  Targets target = ANY_CPU;
  Isa isa = Isa::kPortable;  // CPU only
};

// The machine of a tensor's device. Throws for a device that is not there.
Machine machine_of(aiter_device device);

// How a chosen row is called.
struct Call {
  Machine machine;
  aiter_device device;
  aiter_stream stream;
};

// The parts of a row that do not depend on the operator's types.
struct RowInfo {
  const char* name;
  Targets targets;
  const char* target_text;
  const char* condition;  // the source text of the condition: the reason when it fails
};

template <class Problem, class Args>
struct Row {
  RowInfo info;
  bool (*accepts)(const Problem& p, const Machine& m);
  void (*run)(const Args& args, const Call& call);
};

// An operator's rows without their types, for listings.
struct OpInfo {
  const char* family;
  const char* name;
  const RowInfo* (*row)(int index);  // NULL past the end
};

// Picks a row by `accepts(index)`. Returns its index; throws UNSUPPORTED when none fits. With
// `explain`, stores this thread's explanation.
int select_row(const char* op, const RowInfo* (*row)(int), const Machine& machine,
               bool (*accepts)(const void* context, int index), const void* context, bool explain);

// Selects and runs: the tail of every C entry.
template <class Problem, class Args, int N>
void dispatch(const OpInfo& op, const Row<Problem, Args> (&rows)[N], const Problem& problem,
              const Args& args, aiter_device device, aiter_stream stream, uint32_t flags) {
  struct Context {
    const Row<Problem, Args>* rows;
    const Problem* problem;
    Machine machine;
  } context{rows, &problem, machine_of(device)};
  auto accepts = [](const void* c, int index) {
    const auto* context = static_cast<const Context*>(c);
    return context->rows[index].accepts(*context->problem, context->machine);
  };
  const bool dry_run = flags & AITER_DRY_RUN;
  int index = select_row(op.name, op.row, context.machine, accepts, &context, dry_run);
  if (!dry_run) rows[index].run(args, Call{context.machine, device, stream});
}

// A line of a .def file, inside the braces of `kRows`. In <op>.cc:
//
//   constexpr Row<RmsnormProblem, RmsnormArgs> kRows[] = {
//   #include "ops/norm/rmsnorm/rmsnorm.def"
//   };
//   AITER_OP(norm, rmsnorm)
#define AITER_IMPL(op, row, targets, condition)                                           \
  {{#row, targets, #targets, #condition},                                                 \
   [](const auto& p, const Machine& m) -> bool { return (void)p, (void)m, (condition); }, \
   op##_##row},

// The operator's entry in the listing, over the table `kRows` of the same file.
#define AITER_OP(family, op)   \
  extern const OpInfo op##_op; \
  const OpInfo op##_op = {     \
      #family, #op,            \
      [](int i) { return i < static_cast<int>(std::size(kRows)) ? &kRows[i].info : nullptr; }};

// A CPU row is compiled once per instruction set; this makes the function that picks one.
#if defined(__x86_64__)
#define AITER_CPU_ROW(name, Args)                        \
  namespace portable {                                   \
  void name(const Args&);                                \
  }                                                      \
  namespace avx2 {                                       \
  void name(const Args&);                                \
  }                                                      \
  namespace avx512 {                                     \
  void name(const Args&);                                \
  }                                                      \
  static void name(const Args& args, const Call& call) { \
    switch (call.machine.isa) {                          \
      case Isa::kAvx512:                                 \
        return avx512::name(args);                       \
      case Isa::kAvx2:                                   \
        return avx2::name(args);                         \
      case Isa::kPortable:                               \
        return portable::name(args);                     \
    }                                                    \
  }
// A CPU row that exists for AVX-512 alone: its condition asks for m.isa == Isa::kAvx512.
#define AITER_AVX512_ROW(name, Args) \
  namespace avx512 {                 \
  void name(const Args&);            \
  }                                  \
  static void name(const Args& args, const Call&) { avx512::name(args); }
#else
#define AITER_AVX512_ROW(name, Args) \
  static void name(const Args&, const Call&) {}
#define AITER_CPU_ROW(name, Args) \
  namespace portable {            \
  void name(const Args&);         \
  }                               \
  static void name(const Args& args, const Call&) { portable::name(args); }
#endif

}  // namespace aiter
