// One kernel launch: its arguments, its workgroups on host threads, its outcome.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "run/memory.h"
#include "run/module.h"
#include "run/options.h"

namespace gfxemu {

struct Report;  // check/check.h
struct Totals;  // count/count.h

struct Launch {
  Module* module = nullptr;
  const Kernel* kernel = nullptr;
  uint32_t grid[3] = {1, 1, 1}, block[3] = {1, 1, 1};  // grid in workgroups
  uint32_t dynamic_lds = 0;
  int device = 0;
  uint64_t reachable = 1;        // devices whose memory it may use, by bits
  std::vector<uint8_t> kernarg;  // explicit arguments

  // Runs to the end. Empty, or what went wrong.
  std::string run();

  // While it runs.
  Options options;
  std::shared_ptr<const Snapshot> memory;
  uint64_t kernarg_address = 0, dispatch_address = 0;
  uint32_t lds = 0, scratch = 0;  // bytes of a workgroup, of a lane
  uint32_t waves = 0;             // a workgroup
  uint64_t groups = 0;
  std::atomic<uint64_t> next_group{0}, instructions{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::string error;
  std::vector<uint64_t> hits;  // executions of every slot, when counting
  Totals* totals = nullptr;
  uint64_t started = 0;

  void fail(const std::string& why);
};

// Handler tables of the best host code path (or of the one that options().isa names).
const HandlerTables* host_handlers();
const char* host_isa();

// Fills kernarg from hipModuleLaunchKernel's two ways of passing arguments.
bool pack_arguments(const Kernel& kernel, void** params, void** extra, std::vector<uint8_t>* out,
                    std::string* error);

}  // namespace gfxemu
