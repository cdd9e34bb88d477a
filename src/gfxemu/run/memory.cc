#include "run/memory.h"

#include <sys/mman.h>

#include <algorithm>

namespace gfxemu {
namespace {
constexpr uint64_t kPage = 4096;
uint64_t round_up(uint64_t x) { return (x + kPage - 1) / kPage * kPage; }
const Allocation* around(const std::vector<Allocation>& v, uint64_t a) {
  auto it = std::upper_bound(v.begin(), v.end(), a,
                             [](uint64_t x, const Allocation& y) { return x < y.begin; });
  if (it == v.begin()) return nullptr;
  --it;
  return a < it->begin + it->size ? &*it : nullptr;
}
}  // namespace

const Allocation* Snapshot::find(uint64_t a) const { return around(live, a); }
const Allocation* Snapshot::find_freed(uint64_t a) const { return around(freed, a); }

Memory& Memory::get() {
  static Memory* memory = new Memory;  // outlives every user
  return *memory;
}

Memory::Memory() {
  // As much as the system gives: limits on address space are common in containers.
  for (uint64_t size = 1ull << 38; size >= 1ull << 30; size >>= 1) {
    void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) continue;
    reserve_ = size - 2 * kPage;
    base_ = round_up(reinterpret_cast<uint64_t>(p)) + kPage;
    top_ = base_;
    return;
  }
}

uint64_t Memory::allocate(uint64_t size, int device) {
  std::lock_guard lock(mutex_);
  if (!base_) return 0;
  uint64_t need = round_up(size ? size : 1) + kPage;  // the gap
  if (need < size || used_ + size > kTotal) return 0;
  uint64_t at = 0;
  // New addresses first: a freed one is found out longer. Then the first hole that fits.
  if (top_ + need <= base_ + reserve_ - kPage) {
    at = top_;
    top_ += need;
  } else {
    for (auto it = holes_.begin(); it != holes_.end(); ++it) {
      if (it->second < need) continue;
      at = it->first;
      uint64_t rest = it->second - need;
      holes_.erase(it);
      if (rest) holes_[at + need] = rest;
      for (auto f = freed_.lower_bound(at); f != freed_.end() && f->first < at + need;)
        f = freed_.erase(f);
      break;
    }
  }
  if (!at) return 0;
  Allocation a{at, size ? size : 1, ++serial_, device};
  live_[at] = a;
  used_ += a.size;
  snapshot_.reset();
  return at;
}

bool Memory::release(uint64_t address) {
  std::lock_guard lock(mutex_);
  auto it = live_.find(address);
  if (it == live_.end()) return false;
  Allocation a = it->second;
  live_.erase(it);
  used_ -= a.size;
  uint64_t bytes = round_up(a.size);
  madvise(reinterpret_cast<void*>(address), bytes, MADV_DONTNEED);
  if (shadow_) madvise(shadow_ + (address - base_) / 8, bytes / 8 / kPage * kPage, MADV_DONTNEED);
  freed_[address] = a;
  uint64_t begin = address, end = address + bytes + kPage;
  auto next = holes_.find(end);
  if (next != holes_.end()) {
    end += next->second;
    holes_.erase(next);
  }
  auto before = holes_.lower_bound(begin);
  if (before != holes_.begin()) {
    --before;
    if (before->first + before->second == begin) begin = before->first;
  }
  holes_[begin] = end - begin;
  if (freed_.size() > 100000) freed_.erase(freed_.begin());
  snapshot_.reset();
  return true;
}

bool Memory::find(uint64_t address, Allocation* out) {
  std::lock_guard lock(mutex_);
  auto it = live_.upper_bound(address);
  if (it == live_.begin()) return false;
  --it;
  if (address >= it->second.begin + it->second.size) return false;
  *out = it->second;
  return true;
}

bool Memory::contains(uint64_t address, uint64_t size) {
  Allocation a;
  return find(address, &a) && size <= a.begin + a.size - address;
}

uint64_t Memory::serial() {
  std::lock_guard lock(mutex_);
  return serial_;
}

std::shared_ptr<const Snapshot> Memory::snapshot() {
  std::lock_guard lock(mutex_);
  if (!snapshot_) {
    auto s = std::make_shared<Snapshot>();
    for (auto& [k, a] : live_) s->live.push_back(a);
    for (auto& [k, a] : freed_) s->freed.push_back(a);
    snapshot_ = s;
  }
  return snapshot_;
}

uint8_t* Memory::shadow() {
  std::lock_guard lock(mutex_);
  if (!shadow_ && base_) {
    void* p = mmap(nullptr, reserve_ / 8, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) shadow_ = static_cast<uint8_t*>(p);
  }
  return shadow_;
}

}  // namespace gfxemu
