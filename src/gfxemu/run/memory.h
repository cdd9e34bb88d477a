// Device memory: one reserved address range, in which every allocation is followed by a gap, so
// that a stray address is seen.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "exec/wave.h"

namespace gfxemu {

constexpr int kHost = -1;  // hipHostMalloc: every device may use it

struct Allocation {
  uint64_t begin = 0, size = 0;
  uint64_t serial = 0;
  int device = kHost;
};

// Allocations in address order at one moment; launches hold one.
struct Snapshot {
  std::vector<Allocation> live, freed;
  const Allocation* find(uint64_t address) const;  // live allocation around an address
  const Allocation* find_freed(uint64_t address) const;
};

class Memory {
 public:
  static Memory& get();
  // Address or 0 when the range is exhausted.
  uint64_t allocate(uint64_t size, int device = kHost);
  bool release(uint64_t address);
  bool find(uint64_t address, Allocation* out);
  // Whether [address, address + size) lies in one live allocation.
  bool contains(uint64_t address, uint64_t size);
  bool in_range(uint64_t address) const { return address >= base_ && address < base_ + reserve_; }
  std::shared_ptr<const Snapshot> snapshot();
  uint64_t serial();  // of the newest allocation
  uint64_t used() const { return used_; }
  uint64_t base() const { return base_; }
  static constexpr uint64_t kTotal = 64ull << 30;  // what hipMemGetInfo tells

  // One bit a byte: written since it was allocated. Only touched when the checker runs.
  uint8_t* shadow();

 private:
  Memory();
  std::mutex mutex_;
  uint64_t reserve_ = 0;  // address space, not memory
  uint64_t base_ = 0, top_ = 0, used_ = 0, serial_ = 0;
  std::map<uint64_t, Allocation> live_, freed_;
  std::map<uint64_t, uint64_t> holes_;  // free pieces by address
  std::shared_ptr<const Snapshot> snapshot_;
  uint8_t* shadow_ = nullptr;
};

}  // namespace gfxemu
