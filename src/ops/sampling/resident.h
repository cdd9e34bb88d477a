// How the blocks of a team share a row that they keep in shared memory (ck/sampling/resident.h).
#pragma once

#include "ops/sampling/row_option.h"

namespace aiter {

// Packs of 16 bytes that are neighbours and belong to one thread, where a block has `packs`. Of an odd
// number, those that several threads read at a time are in different banks.
AITER_EVERYWHERE uint32_t packs_of_thread(uint32_t packs, uint32_t threads) {
  return ((packs + threads - 1) / threads) | 1;
}

}  // namespace aiter
