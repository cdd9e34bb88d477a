// The sanitizer: what a wave may not do although the interpreter could.
#pragma once
#include "run/launch.h"

namespace gfxemu {

void check_begin();  // what is allocated from now on was not written
void check_launch(Launch& launch);
void check_skipped_launch();  // one without the checker: what it writes is not seen
void check_start(Wave& wave);
void check_end(Wave* waves, uint32_t count);
void check_barrier_release(Group& group);
void check_instruction(Wave& wave, const Inst& in);
void check_access(Wave& wave, const Inst& in, const Access& access);

// Host writes and fresh memory, for reads of what nobody wrote.
void check_host_write(uint64_t address, uint64_t size);

}  // namespace gfxemu
