// Handlers of VOP1, VOP2, VOP3 and VOPC: one function a row.
#include <type_traits>

#include "exec/valu_custom.h"

namespace gfxemu::GFXEMU_ISA {
namespace {

#define V1(op, name, archs, D, A, ...)                                           \
  void name##_##op(Wave& w, const Inst& in) {                                    \
    lanes1<T::D, T::A>(w, in, [](auto a) GFXEMU_LAMBDA { return __VA_ARGS__; }); \
  }
#define V1T V1
#define V2(op, name, archs, D, A, B, ...)                                                      \
  void name##_##op(Wave& w, const Inst& in) {                                                  \
    lanes2<T::D, T::A, T::B>(w, in, [](auto a, auto b) GFXEMU_LAMBDA { return __VA_ARGS__; }); \
  }
#define V2D(op, name, archs, D, A, B, ...)                                                       \
  void name##_##op(Wave& w, const Inst& in) {                                                    \
    lanes2d<T::D, T::A, T::B>(w, in,                                                             \
                              [](auto a, auto b, auto d) GFXEMU_LAMBDA { return __VA_ARGS__; }); \
  }
#define V3(op, name, archs, D, A, B, C, ...)                                      \
  void name##_##op(Wave& w, const Inst& in) {                                     \
    lanes3<T::D, T::A, T::B, T::C>(                                               \
        w, in, [](auto a, auto b, auto c) GFXEMU_LAMBDA { return __VA_ARGS__; }); \
  }
#define VC(op, name, archs, flags, A, B, ...)                                            \
  void name##_sem(Wave& w, const Inst& in) {                                             \
    compare<((flags) & CMPX) != 0, T::A, T::B>(w, in, [](auto a, auto b) GFXEMU_LAMBDA { \
      (void)a;                                                                           \
      (void)b;                                                                           \
      return __VA_ARGS__;                                                                \
    });                                                                                  \
  }
#define VX(...)
#define GFXEMU_LAMBDA __attribute__((always_inline))
#if GFXEMU_VALU_PART == 1
#include "isa/vop1.inc"
#include "isa/vop2.inc"
#elif GFXEMU_VALU_PART == 2
#include "isa/vop3.inc"
#else
#include "isa/vopc.inc"
#endif

#undef V1
#undef V1T
#undef V2
#undef V2D
#undef V3
#undef VC
#undef VX
#define V1(op, name, ...) name##_##op,
#define V1T V1
#define V2(op, name, ...) name##_##op,
#define V2D(op, name, ...) name##_##op,
#define V3(op, name, ...) name##_##op,
#define VC(op, name, ...) name##_sem,
#define VX(op, name, archs, flags, d, s, a, b, c, ...) __VA_ARGS__,

}  // namespace

#if GFXEMU_VALU_PART == 1
extern const Handler kVop1[] = {
#include "isa/vop1.inc"
};
extern const Handler kVop2[] = {
#include "isa/vop2.inc"
};
#elif GFXEMU_VALU_PART == 2
extern const Handler kVop3[] = {
#include "isa/vop3.inc"
};
#else
extern const Handler kVopc[] = {
#include "isa/vopc.inc"
};
#endif

}  // namespace gfxemu::GFXEMU_ISA
