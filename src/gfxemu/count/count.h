// Counters of a launch and what they say about the real part.
#pragma once
#include "run/launch.h"

namespace gfxemu {

void count_launch(Launch& launch);
void count_start(Wave& wave);
void count_end(Wave& first, uint32_t waves);
void count_finish(Launch& launch);
std::string last_report();
uint64_t total_instructions();
void add_instructions(uint64_t n);  // every launch

}  // namespace gfxemu
