// Counters of a launch and what they say about the real part.
#pragma once
#include <string>

#include "run/launch.h"

namespace gfxemu {

void count_launch(Launch& launch);
void count_start(Wave& wave);
void count_end(Wave* waves, uint32_t count);
void count_finish(Launch& launch);
void count_instruction(Wave& wave, const Inst& in);
void count_access(Wave& wave, const Inst& in, const Access& access);

// The counted launches since the last call, as a JSON list.
std::string take_reports();
uint64_t total_instructions();
void add_instructions(uint64_t n);  // every launch

}  // namespace gfxemu
