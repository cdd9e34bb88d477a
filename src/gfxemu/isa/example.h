// Encodings of an instruction with operands at random, for tests of the decoder.
#pragma once
#include "isa/isa.h"

namespace gfxemu {

// Row `index` of all tables, or null past the last.
const Row* row_at(int index);
// The dwords of an encoding that the decoder takes for the row; -1 for a format without examples, -2
// when none was found.
int example(Arch arch, const Row& row, uint32_t seed, uint32_t out[4]);

}  // namespace gfxemu
