// The state of a wave and of its workgroup, and what handlers may ask of the rest of the emulator.
#pragma once
#include <cstdint>
#include <cstring>

#include "isa/isa.h"

namespace gfxemu {

// Apertures through which flat addresses reach LDS and scratch, as
// src_shared_base/src_private_base.
constexpr uint64_t kSharedBase = 0x0001000000000000ull;
constexpr uint64_t kPrivateBase = 0x0002000000000000ull;

enum : int { VCC = 106, M0 = 124, EXEC = 126 };

struct Group;
struct GroupCheck;
struct Launch;
struct Checker;
struct Counters;
struct Wave;

enum class State : uint8_t { RUN, BARRIER, DONE, FAULT };

struct Range {
  uint64_t begin = 0, end = 0;
};

struct alignas(64) Wave {
  alignas(8) uint32_t s[128];  // SGPRs, VCC, M0, EXEC by their operand codes
  uint32_t* v = nullptr;       // [512][64]: VGPRs, then AGPRs
  const Inst* pc = nullptr;    // the next instruction
  uint64_t wmask = 0;          // lanes that the running vector instruction writes
  uint32_t scc = 0;
  uint32_t mode = 0;  // MODE register
  State state = State::RUN;
  bool idx_on = false, vskip = false;
  bool f16_mode_odd = false;  // f16 rounding or denormals other than the default
  bool split_mode = false;    // f32 and f64 modes differ
  bool watched = false;       // a checker or counters look at every instruction
  bool attention = false;     // watched, or vector instructions are skipped: the careful loop
  bool yielded = false;       // s_sleep: let other waves run
  uint8_t* lds = nullptr;
  uint32_t lds_size = 0;
  uint8_t* scratch = nullptr;  // dwords interleaved by lane
  uint32_t scratch_size = 0;   // bytes a lane
  uint32_t index = 0;          // in the workgroup
  Range recent[2];             // live allocations hit last
  Group* group = nullptr;
  Launch* launch = nullptr;
  Checker* check = nullptr;
  Counters* count = nullptr;

  void mode_changed() {
    unsigned f32 = (mode & 3) | (mode >> 4 & 3) << 2, f64 = (mode >> 2 & 3) | (mode >> 6 & 3) << 2;
    split_mode = f32 != f64;
    f16_mode_odd = f64 != 12;
  }
  uint64_t& exec() { return *reinterpret_cast<uint64_t*>(&s[EXEC]); }
  uint64_t& vcc() { return *reinterpret_cast<uint64_t*>(&s[VCC]); }
  uint64_t s64(unsigned n) const {
    uint64_t r;
    memcpy(&r, &s[n], 8);
    return r;
  }
  void set_s64(unsigned n, uint64_t x) { memcpy(&s[n], &x, 8); }
};

struct Group {
  Launch* launch = nullptr;
  Wave* waves = nullptr;
  int count = 0, waiting = 0, done = 0;
  uint32_t id[3] = {};
  GroupCheck* check = nullptr;
  uint32_t serial = 0;
};

// Stops the wave with an error that names what and where.
void fault(Wave& w, const Inst& in, const char* format, ...)
    __attribute__((format(printf, 3, 4), cold));
// Fills the slot of an instruction that has not been reached before.
void decode_slot(Wave& w, const Inst& in);
// Whether [begin, end) lies in one live allocation that the device may use; remembers it.
bool reach_slow(Wave& w, uint64_t begin, uint64_t end);
// Why not, as the end of a sentence about the address.
const char* why_unreachable(Wave& w, uint64_t address);
inline bool reach(Wave& w, uint64_t begin, uint64_t end) {
  if (begin >= w.recent[0].begin && end <= w.recent[0].end) return true;
  if (begin >= w.recent[1].begin && end <= w.recent[1].end) return true;
  return reach_slow(w, begin, end);
}
// Instructions as addresses: s_getpc, s_setpc, s_call.
uint64_t pc_address(const Wave& w, const Inst* in);
const Inst* pc_at(Wave& w, uint64_t address);
Arch wave_arch(const Wave& w);
uint64_t wave_clock(const Wave& w);
// The value of a hardware register (s_getreg).
// All ones (64 bits) when it is not modelled.
uint64_t hardware_register(const Wave& w, unsigned id);

// What the checker and the counters see of memory instructions; called when they are present.
enum class Space : uint8_t { GLOBAL, LDS, SCRATCH };
struct Access {
  Space space;
  bool write, atomic;
  uint32_t bytes;           // a lane
  uint64_t mask;            // lanes
  const uint64_t* address;  // absolute, LDS offset, or scratch offset
};
void watch(Wave& w, const Inst& in);  // before every instruction of a watched wave
void watch_access(Wave& w, const Inst& in, const Access& access);
void watch_barrier(Wave& w, const Inst& in);

struct HandlerTables {
  const Handler* of[kFormats];
  // Integer rows with saturation under the clamp bit, by name.
  Handler (*clamped)(const char* name);
  // Runs up to n instructions; returns how many ran. n counts down over waves' quanta.
  uint64_t (*run)(Wave& w, uint64_t n);
};

}  // namespace gfxemu
