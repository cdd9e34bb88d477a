// Order among the tasks of one parallel section.
#pragma once

#include "simd/parallel.h"

namespace aiter::AITER_ISA {

// Tasks that may start when `left` other tasks of the same section, handed out before them, have
// finished: they wait() and the others arrive(). (Tasks are handed out in order, and those that are
// waited for wait for nothing, so this ends.)
struct Gate {
  int left;
  void arrive() { __atomic_sub_fetch(&left, 1, __ATOMIC_RELEASE); }
  void wait() const {
    for (int spins = 0; __atomic_load_n(&left, __ATOMIC_ACQUIRE) > 0;) relax(spins);
  }
};

}  // namespace aiter::AITER_ISA
