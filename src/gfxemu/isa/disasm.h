// Instructions as LLVM's assembler writes them.
#pragma once
#include <string>

#include "isa/isa.h"

namespace gfxemu {

std::string print(Arch arch, const Inst& in);
// One instruction from memory; what cannot be decoded is said so. pc 0: branch targets as offsets.
std::string disassemble(Arch arch, const uint32_t* words, int available, uint64_t pc = 0);

}  // namespace gfxemu
