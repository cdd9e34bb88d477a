// Settings of the emulator. All environment variables are read in options.cc.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "isa/isa.h"

namespace gfxemu {

// AITER_EMULATE          the emulated processors, one device each: gfx90a, gfx942, gfx950 and lists
// of
//                        them such as gfx942,gfx950 (default: gfx942)
// AITER_EMULATE_OPTIONS  comma-separated, any of:
//   quantum=N   instructions a wave runs before the next one's turn (16)
//   seed=N      0: waves in order; else a pseudo-random order and quanta around the given one
//   threads=N   host threads (all)
//   check=0|1|2 sanitizer; 2 is stricter than some working kernels are
//   count=0|1   counters
//   limit=N     instructions a launch may execute, in millions (0: no limit)
//   isa=NAME    host code path: avx512bf16, avx512, avx2, portable (the best one)
constexpr int kMaxDevices = 64;

struct Options {
  std::vector<Arch> archs{GFX942};  // of device 0, 1, ...
  uint32_t quantum = 16;
  uint64_t seed = 0;
  uint32_t threads = 0;
  uint32_t check = 0;
  bool count = false;
  uint64_t limit = 0;
  std::string isa;
};

Options& options();
// What was wrong with the environment, or empty.
const std::string& options_error();
// Sets one option from its text. False with `error` filled.
bool set_option(const std::string& key, const std::string& value, std::string* error);

}  // namespace gfxemu
