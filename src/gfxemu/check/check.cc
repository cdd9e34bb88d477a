#include "check/check.h"
namespace gfxemu {
void check_launch(Launch&) {}
void check_start(Wave&) {}
void check_end(Wave*, uint32_t) {}
void check_barrier_release(Group&) {}
void check_host_write(uint64_t, uint64_t) {}
void watch(Wave&, const Inst&) {}
void watch_access(Wave&, const Inst&, const Access&) {}
void watch_barrier(Wave&, const Inst&) {}
}
