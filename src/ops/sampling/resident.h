// How the blocks of a team share a row that they keep in shared memory (ck/sampling/resident.h).
#pragma once

#include "ops/sampling/row_option.h"

namespace aiter {

// Packs of 16 bytes that are neighbours and belong to one thread, where a block of 2^log2_threads has
// `packs`. Of an odd number, those that several threads read at a time are in different banks.
AITER_EVERYWHERE uint32_t packs_of_thread(uint32_t packs, int log2_threads) {
  return ((packs + (1u << log2_threads) - 1) >> log2_threads) | 1;
}

}  // namespace aiter
