// Read-modify-write operations, by the ISA's names.
#pragma once
#include "exec/values.h"

namespace gfxemu {
enum class Atomic {
  SWAP,
  CMPSWAP,
  ADD,
  SUB,
  RSUB,
  SMIN,
  UMIN,
  SMAX,
  UMAX,
  AND,
  OR,
  XOR,
  INC,
  DEC,
  FADD,
  FMIN,
  FMAX,
  PKADD_F16,
  PKADD_BF16,
  MSKOR,
  CMPST,
  FCMPST,
  WRAP
};
}  // namespace gfxemu

namespace gfxemu::GFXEMU_ISA {

// New value from the old one; x and y are the operands (y only where two exist).
template <class U, Atomic OP>
static inline U combine(U old, U x, U y = 0) {
  using S = std::make_signed_t<U>;
  using F = std::conditional_t<sizeof(U) == 8, double, float>;
  if constexpr (OP == Atomic::SWAP)
    return x;
  else if constexpr (OP == Atomic::CMPSWAP)
    return old == y ? x : old;  // x new, y compared
  else if constexpr (OP == Atomic::CMPST)
    return old == x ? y : old;
  else if constexpr (OP == Atomic::FCMPST)
    return bits_as<F>(old) == bits_as<F>(x) ? y : old;
  else if constexpr (OP == Atomic::ADD)
    return old + x;
  else if constexpr (OP == Atomic::SUB)
    return old - x;
  else if constexpr (OP == Atomic::RSUB)
    return x - old;
  else if constexpr (OP == Atomic::SMIN)
    return (S)x < (S)old ? x : old;
  else if constexpr (OP == Atomic::UMIN)
    return x < old ? x : old;
  else if constexpr (OP == Atomic::SMAX)
    return (S)x > (S)old ? x : old;
  else if constexpr (OP == Atomic::UMAX)
    return x > old ? x : old;
  else if constexpr (OP == Atomic::AND)
    return old & x;
  else if constexpr (OP == Atomic::OR)
    return old | x;
  else if constexpr (OP == Atomic::XOR)
    return old ^ x;
  else if constexpr (OP == Atomic::INC)
    return old >= x ? 0 : old + 1;
  else if constexpr (OP == Atomic::DEC)
    return old == 0 || old > x ? x : old - 1;
  else if constexpr (OP == Atomic::MSKOR)
    return (old & ~x) | y;
  else if constexpr (OP == Atomic::WRAP)
    return old >= x ? old - x : old + y;
  else if constexpr (OP == Atomic::FADD)
    return bits_as<U>((F)(bits_as<F>(old) + bits_as<F>(x)));
  else if constexpr (OP == Atomic::FMIN)
    return bits_as<U>(min_num(bits_as<F>(old), bits_as<F>(x)));
  else if constexpr (OP == Atomic::FMAX)
    return bits_as<U>(max_num(bits_as<F>(old), bits_as<F>(x)));
  else if constexpr (OP == Atomic::PKADD_F16)
    return float_to_half(half_to_float(old & 0xffff) + half_to_float(x & 0xffff)) |
           float_to_half(half_to_float(old >> 16) + half_to_float(x >> 16)) << 16;
  else
    return float_to_bf16(bf16_to_float(old & 0xffff) + bf16_to_float(x & 0xffff)) |
           float_to_bf16(bf16_to_float(old >> 16) + bf16_to_float(x >> 16)) << 16;
}

template <class U, Atomic OP>
static inline U atomic_update(U* p, U x, U y) {
  U old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(p, &old, combine<U, OP>(old, x, y), true, __ATOMIC_SEQ_CST,
                                      __ATOMIC_RELAXED)) {
  }
  return old;
}

}  // namespace gfxemu::GFXEMU_ISA
