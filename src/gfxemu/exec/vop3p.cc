// Handlers of VOP3P's packed rows, and the saturating forms of integer rows.
#include <type_traits>

#include "exec/valu_custom.h"

namespace gfxemu::GFXEMU_ISA {
namespace {

#define PF2(op, name, archs, ...)                                                     \
  void name##_sem(Wave& w, const Inst& in) {                                          \
    packed_f16<2>(w, in, [](float a, float b, float) __attribute__((always_inline)) { \
      return __VA_ARGS__;                                                             \
    });                                                                               \
  }
#define PF3(op, name, archs, ...)                                                       \
  void name##_sem(Wave& w, const Inst& in) {                                            \
    packed_f16<3>(w, in, [](float a, float b, float c) __attribute__((always_inline)) { \
      return __VA_ARGS__;                                                               \
    });                                                                                 \
  }
#define PI2(op, name, archs, t, ...)                                                           \
  void name##_sem(Wave& w, const Inst& in) {                                                   \
    packed_int<t, 2>(w, in, [](int32_t a, int32_t b, int32_t) __attribute__((always_inline)) { \
      return __VA_ARGS__;                                                                      \
    });                                                                                        \
  }
#define PI3(op, name, archs, t, ...)                                                             \
  void name##_sem(Wave& w, const Inst& in) {                                                     \
    packed_int<t, 3>(w, in, [](int32_t a, int32_t b, int32_t c) __attribute__((always_inline)) { \
      return __VA_ARGS__;                                                                        \
    });                                                                                          \
  }
#define PX(...)
#include "isa/vop3p.inc"
#undef PF2
#undef PF3
#undef PI2
#undef PI3
#undef PX

// Integer rows under the clamp bit: the value in 64 bits, saturated to the destination type.
template <class I, class F, T D, T A, T B, T C>
void clamped(Wave& w, const Inst& in, F f) {
  w.wmask = w.exec();
  alignas(64) uint32_t buf[3][kLanes], out[kLanes];
  const uint32_t *a = fetch<A>(w, in, 0, buf[0]), *b = fetch<B>(w, in, 1, buf[1]);
  const uint32_t* c = a;
  if constexpr (C != T::NONE) c = fetch<C>(w, in, 2, buf[2]);
  LANES {
    int64_t third = 0;
    if constexpr (C != T::NONE) third = (int64_t)Val<C>::load(c[l]);
    int64_t r = f((int64_t)Val<A>::load(a[l]), (int64_t)Val<B>::load(b[l]), third);
    int64_t lo = std::is_signed_v<I> ? -(1ll << (sizeof(I) * 8 - 1)) : 0;
    int64_t hi = lo + (int64_t)((1ull << (sizeof(I) * 8)) - 1);
    out[l] = Val<D>::store((typename Val<D>::type)(I)(r < lo ? lo : r > hi ? hi : r));
  }
  Inst plain = in;
  plain.clamp = 0;
  store<D>(w, plain, out);
}
#define CLAMPED(name, I, D, A, B, C, ...)                      \
  void name##_clamped(Wave& w, const Inst& in) {               \
    auto f = [](int64_t a, int64_t b, int64_t c) {             \
      (void)c;                                                 \
      return (int64_t)(__VA_ARGS__);                           \
    };                                                         \
    clamped<I, decltype(f), T::D, T::A, T::B, T::C>(w, in, f); \
  }
#include "isa/clamped.inc"
#undef CLAMPED

Handler clamped_handler(const char* name) {
#define CLAMPED(row, ...) \
  if (!strcmp(name, #row)) return row##_clamped;
#include "isa/clamped.inc"
#undef CLAMPED
  return nullptr;
}

}  // namespace

extern Handler (*const kClamped)(const char*) = clamped_handler;

#define PF2(op, name, ...) name##_sem,
#define PF3(op, name, ...) name##_sem,
#define PI2(op, name, ...) name##_sem,
#define PI3(op, name, ...) name##_sem,
#define PX(op, name, archs, flags, d, a, b, c, ...) __VA_ARGS__,
extern const Handler kVop3p[] = {
#include "isa/vop3p.inc"
};

}  // namespace gfxemu::GFXEMU_ISA
