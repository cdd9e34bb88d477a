#include "run/launch.h"

#include <sys/mman.h>

#include <chrono>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <thread>

#include "check/check.h"
#include "count/count.h"
#include "isa/disasm.h"

namespace gfxemu {
namespace {

constexpr uint64_t kSlice = 1 << 18;  // instructions before a worker looks at its other workgroups
constexpr size_t kRegisterBytes = 512 * 64 * 4;

uint64_t now_ns() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

// Registers, LDS and scratch for one resident workgroup; kept between launches.
struct Seat {
  std::vector<Wave> waves;
  uint8_t* registers = nullptr;
  size_t register_waves = 0;
  std::vector<uint8_t> lds;
  uint64_t scratch = 0, scratch_size = 0;
  Group group;
  uint64_t rng = 0;
  ~Seat() {
    if (registers) munmap(registers, register_waves * kRegisterBytes);
    if (scratch) Memory::get().release(scratch);
  }
};

uint64_t random_next(uint64_t& s) {
  s ^= s << 13;
  s ^= s >> 7;
  s ^= s << 17;
  return s;
}

bool prepare(Seat& seat, Launch& l) {
  if (seat.register_waves < l.waves) {
    if (seat.registers) munmap(seat.registers, seat.register_waves * kRegisterBytes);
    void* p = mmap(nullptr, l.waves * kRegisterBytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return false;
    seat.registers = static_cast<uint8_t*>(p);
    seat.register_waves = l.waves;
  }
  if (seat.lds.size() < l.lds + 64) seat.lds.resize(l.lds + 64);
  uint64_t need = static_cast<uint64_t>(l.scratch) * 64 * l.waves;
  if (need > seat.scratch_size) {
    if (seat.scratch) Memory::get().release(seat.scratch);
    seat.scratch = Memory::get().allocate(need);
    seat.scratch_size = seat.scratch ? need : 0;
    if (!seat.scratch) return false;
  }
  seat.waves.resize(l.waves);
  return true;
}

void start_group(Seat& seat, Launch& l, uint64_t n) {
  const Kernel& k = *l.kernel;
  Group& g = seat.group;
  g = Group();
  g.launch = &l;
  g.waves = seat.waves.data();
  g.count = static_cast<int>(l.waves);
  g.id[0] = static_cast<uint32_t>(n % l.grid[0]);
  g.id[1] = static_cast<uint32_t>(n / l.grid[0] % l.grid[1]);
  g.id[2] = static_cast<uint32_t>(n / l.grid[0] / l.grid[1]);
  g.serial = static_cast<uint32_t>(n);
  seat.rng = l.options.seed * 0x9e3779b97f4a7c15ull + n * 0xbf58476d1ce4e5b9ull + 1;
  // What nobody wrote is no plausible number.
  memset(seat.lds.data(), 0xcd, l.lds);
  uint32_t threads = l.block[0] * l.block[1] * l.block[2];
  for (uint32_t i = 0; i < l.waves; ++i) {
    Wave& w = seat.waves[i];
    w = Wave();
    memset(w.s, 0, sizeof(w.s));
    w.v = reinterpret_cast<uint32_t*>(seat.registers + i * kRegisterBytes);
    memset(w.v, 0xcd, static_cast<size_t>(std::min(k.accum_offset, k.vgprs)) * 256);
    if (k.agprs) memset(w.v + 256 * 64, 0xcd, static_cast<size_t>(std::min(k.agprs, 256)) * 256);
    w.index = i;
    w.group = &g;
    w.launch = &l;
    w.lds = seat.lds.data();
    w.lds_size = l.lds;
    w.scratch_size = l.scratch;
    w.scratch =
        reinterpret_cast<uint8_t*>(seat.scratch + static_cast<uint64_t>(i) * l.scratch * 64);
    w.mode = (k.rsrc1 >> 12 & 0xff) | (k.rsrc1 >> 21 & 1) << 8 | (k.rsrc1 >> 23 & 1) << 9 |
             (k.rsrc1 >> 26 & 1) << 23;
    w.mode_changed();
    uint32_t first = i * 64, lanes = threads - first;
    w.exec() = lanes >= 64 ? ~0ull : (1ull << lanes) - 1;
    for (uint32_t t = 0; t < 64; ++t) {
      uint32_t id = first + t, x = id % l.block[0], y = id / l.block[0] % l.block[1],
               z = id / l.block[0] / l.block[1];
      w.v[t] = x | y << 10 | z << 20;
    }
    uint32_t s = 0;
    auto put64 = [&](uint64_t x) {
      w.set_s64(s, x);
      s += 2;
    };
    uint64_t scratch = seat.scratch;
    if (k.properties & 1) {  // private segment buffer: dwords interleaved by lane
      put64((scratch & 0xffffffffffffull) | (1ull << 63));
      w.s[s++] = 0xffffffff;
      w.s[s++] = 1u << 23 | 3u << 21;  // add thread id, index stride 64
    }
    if (k.properties & 2) put64(l.dispatch_address);
    if (k.properties & 4) put64(l.dispatch_address);
    if (k.properties & 8) put64(l.kernarg_address);
    if (k.properties & 16) put64(1);
    if (k.properties & 32) put64(scratch);
    if (k.properties & 64) w.s[s++] = l.scratch;
    uint64_t entry = k.entry;
    uint32_t preload = k.preload & 127;
    if (preload) {
      uint32_t from = (k.preload >> 7) * 4;
      for (uint32_t j = 0; j < preload && s < 16; ++j, from += 4)
        memcpy(&w.s[s++], reinterpret_cast<void*>(l.kernarg_address + from), 4);
      entry += 256;  // past the code that loads them on older firmware
    }
    uint32_t user = k.rsrc2 >> 1 & 31;
    s = user;
    for (int d = 0; d < 3; ++d)
      if (k.rsrc2 >> (7 + d) & 1) w.s[s++] = g.id[d];
    if (k.rsrc2 >> 10 & 1) w.s[s++] = l.waves;
    if ((k.rsrc2 & 1) && l.module->arch() == GFX90A) w.s[s++] = i * l.scratch * 64;
    w.pc = pc_at(w, entry);
    if (l.options.check) check_start(w);
    if (l.options.count) count_start(w);
    w.watched = w.check || w.count;
    w.attention = w.watched;
  }
}

// Runs a resident workgroup for a slice; true when it has ended.
bool run_group(Seat& seat, Launch& l) {
  Group& g = seat.group;
  const HandlerTables* h = l.module->code().handlers;
  uint64_t used = 0;
  std::vector<uint32_t> order(l.waves);
  for (uint32_t i = 0; i < l.waves; ++i) order[i] = i;
  bool shuffled = l.options.seed != 0;
  uint64_t idle_rounds = 0;
  while (used < kSlice && !l.failed.load(std::memory_order_relaxed)) {
    if (shuffled)
      for (uint32_t i = l.waves; i > 1; --i)
        std::swap(order[i - 1], order[random_next(seat.rng) % i]);
    uint64_t round = 0;
    for (uint32_t i : order) {
      Wave& w = seat.waves[i];
      if (w.state != State::RUN) continue;
      uint64_t quantum = l.options.quantum;
      if (shuffled) quantum = 1 + random_next(seat.rng) % (2 * quantum);
      // A single wave has nobody to take turns with.
      if (g.count - g.done - g.waiting == 1) quantum = std::max<uint64_t>(quantum, 4096);
      round += h->run(w, quantum);
      if (w.state == State::FAULT) return true;
      if (g.waiting && g.waiting + g.done == g.count) {
        if (w.watched) check_barrier_release(g);
        for (uint32_t j = 0; j < l.waves; ++j)
          if (seat.waves[j].state == State::BARRIER) seat.waves[j].state = State::RUN;
        g.waiting = 0;
      }
    }
    used += round;
    if (g.done == g.count) break;
    if (!round && ++idle_rounds > 3) {
      l.fail("kernel " + l.kernel->name + ": no wave can run");
      return true;
    }
  }
  uint64_t total = l.instructions.fetch_add(used, std::memory_order_relaxed) + used;
  if (l.options.limit && total > l.options.limit) {
    l.fail("kernel " + l.kernel->name + ": more than " + std::to_string(l.options.limit / 1000000) +
           " million instructions (option limit)");
    return true;
  }
  return g.done == g.count || l.failed;
}

// A worker's part of a launch. A workgroup that outlives its slice stays while others start, so
// that kernels whose workgroups wait for each other go on.
void work(Launch& l, std::vector<std::unique_ptr<Seat>>& seats) {
  std::vector<size_t> resident;
  std::vector<size_t> vacant;
  for (size_t i = 0; i < seats.size(); ++i) vacant.push_back(i);
  for (;;) {
    if (l.failed) break;
    uint64_t n = l.next_group.load(std::memory_order_relaxed);
    bool more = n < l.groups && resident.size() < 4096;
    if (more && (n = l.next_group.fetch_add(1)) < l.groups) {
      if (vacant.empty()) {
        seats.push_back(std::make_unique<Seat>());
        vacant.push_back(seats.size() - 1);
      }
      size_t s = vacant.back();
      vacant.pop_back();
      if (!prepare(*seats[s], l)) {
        l.fail("kernel " + l.kernel->name +
               ": no memory for the registers or scratch of a workgroup");
        break;
      }
      start_group(*seats[s], l, n);
      resident.push_back(s);
    }
    if (resident.empty()) {
      if (l.next_group.load() >= l.groups) break;
      continue;
    }
    // The newest first; then one slice for each of the others.
    for (size_t i = resident.size(); i-- > 0;) {
      size_t s = resident[i];
      if (run_group(*seats[s], l)) {
        if (l.options.count) count_end(seats[s]->waves.data(), l.waves);
        if (l.options.check) check_end(seats[s]->waves.data(), l.waves);
        vacant.push_back(s);
        resident.erase(resident.begin() + static_cast<long>(i));
        if (resident.size() <= 1) break;
      }
    }
  }
  for (size_t s : resident) {
    if (l.options.count) count_end(seats[s]->waves.data(), l.waves);
    if (l.options.check) check_end(seats[s]->waves.data(), l.waves);
  }
}

// Host threads, started at the first launch that has work for them.
class Pool {
 public:
  static Pool& get() {
    static Pool* pool = new Pool;
    return *pool;
  }
  void run(Launch& l) {
    std::lock_guard one(launches_);  // one launch at a time
    uint32_t want =
        l.options.threads ? l.options.threads : std::max(1u, std::thread::hardware_concurrency());
    if (want > l.groups) want = static_cast<uint32_t>(l.groups);
    while (seats_.size() < want)
      seats_.emplace_back(std::make_unique<std::vector<std::unique_ptr<Seat>>>());
    if (want > 1) {
      std::unique_lock lock(mutex_);
      while (threads_.size() + 1 < want) {
        size_t index = threads_.size() + 1;
        threads_.emplace_back([this, index] { loop(index); });
        threads_.back().detach();
      }
      job_ = &l;
      active_ = want - 1;
      todo_ = want - 1;
      ++generation_;
      wake_.notify_all();
    }
    work(l, *seats_[0]);
    if (want > 1) {
      std::unique_lock lock(mutex_);
      done_.wait(lock, [&] { return active_ == 0; });
      job_ = nullptr;
    }
    for (auto& s : seats_)
      if (s->size() > 8) s->resize(8);
  }

 private:
  void loop(size_t index) {
    uint64_t seen = 0;
    for (;;) {
      Launch* l;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen && job_; });
        seen = generation_;
        if (!todo_) continue;
        --todo_;
        l = job_;
      }
      work(*l, *seats_[index]);
      std::lock_guard lock(mutex_);
      if (--active_ == 0) done_.notify_all();
    }
  }
  std::mutex launches_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  std::vector<std::unique_ptr<std::vector<std::unique_ptr<Seat>>>> seats_;
  Launch* job_ = nullptr;
  uint64_t generation_ = 0;
  uint32_t active_ = 0, todo_ = 0;
};

uint32_t lds_limit(Arch arch) { return arch == GFX950 ? 160 * 1024 : 64 * 1024; }

}  // namespace

void Launch::fail(const std::string& why) {
  std::lock_guard lock(mutex);
  if (!failed.exchange(true)) error = why;
}

std::string Launch::run() {
  const Kernel& k = *kernel;
  auto refuse = [&](const std::string& why) { return "kernel " + k.name + ": " + why; };
  if (!options_error().empty()) return options_error();
  options = gfxemu::options();
  uint64_t threads = static_cast<uint64_t>(block[0]) * block[1] * block[2];
  if (!threads || !grid[0] || !grid[1] || !grid[2]) return refuse("empty grid or block");
  if (threads > 1024)
    return refuse("a block of " + std::to_string(threads) + " threads, at most 1024");
  if (k.has_metadata && threads > static_cast<uint64_t>(k.max_threads))
    return refuse("a block of " + std::to_string(threads) +
                  " threads, the kernel was built for at most " + std::to_string(k.max_threads));
  if (k.wavefront != 64) return refuse("built for waves of " + std::to_string(k.wavefront));
  waves = static_cast<uint32_t>((threads + 63) / 64);
  groups = static_cast<uint64_t>(grid[0]) * grid[1] * grid[2];
  lds = k.lds + dynamic_lds;
  if (lds > lds_limit(module->arch()))
    return refuse("needs " + std::to_string(lds) + " bytes of LDS, the device has " +
                  std::to_string(lds_limit(module->arch())));
  scratch = (k.scratch + 15) / 16 * 16;
  if (k.dynamic_stack) scratch = std::max<uint32_t>(scratch + 4096, 16384);
  if (k.properties >> 10 & 1) return refuse("built for waves of 32");

  // Arguments with the hidden ones behind them.
  std::vector<uint8_t> args = kernarg;
  args.resize(std::max<size_t>(args.size(), k.kernarg));
  for (const KernelArg& a : k.args) {
    if (a.kind.compare(0, 7, "hidden_")) continue;
    if (a.offset + a.size > args.size()) args.resize(a.offset + a.size);
    uint64_t x = 0;
    const std::string& n = a.kind;
    int d = n.empty() ? 0 : n.back() == 'y' ? 1 : n.back() == 'z' ? 2 : 0;
    if (!n.compare(0, 18, "hidden_block_count"))
      x = grid[d];
    else if (!n.compare(0, 17, "hidden_group_size"))
      x = block[d];
    else if (!n.compare(0, 16, "hidden_remainder"))
      x = 0;
    else if (n == "hidden_grid_dims")
      x = grid[2] * block[2] > 1 ? 3 : grid[1] * block[1] > 1 ? 2 : 1;
    else if (n == "hidden_dynamic_lds_size")
      x = dynamic_lds;
    else if (n == "hidden_private_base")
      x = kPrivateBase >> 32;
    else if (n == "hidden_shared_base")
      x = kSharedBase >> 32;
    memcpy(args.data() + a.offset, &x, std::min<size_t>(8, a.size));
  }
  Memory& mem = Memory::get();
  uint64_t arg_bytes = (args.size() + 255) / 256 * 256 + 256;
  kernarg_address = mem.allocate(arg_bytes + 64);
  if (!kernarg_address) return refuse("out of device memory for the arguments");
  memcpy(reinterpret_cast<void*>(kernarg_address), args.data(), args.size());
  dispatch_address = kernarg_address + arg_bytes;
  uint8_t packet[64] = {};
  auto put = [&](int at, uint64_t x, int n) { memcpy(packet + at, &x, static_cast<size_t>(n)); };
  put(0, 2, 2);
  put(2, 3, 2);
  for (int d = 0; d < 3; ++d) {
    put(4 + 2 * d, block[d], 2);
    put(12 + 4 * d, static_cast<uint64_t>(grid[d]) * block[d], 4);
  }
  put(24, scratch, 4);
  put(28, lds, 4);
  put(32, k.descriptor, 8);
  put(40, kernarg_address, 8);
  memcpy(reinterpret_cast<void*>(dispatch_address), packet, 64);
  memory = mem.snapshot();
  started = now_ns();
  if (options.check)
    check_launch(*this);
  else
    check_skipped_launch();
  if (options.count) count_launch(*this);
  Pool::get().run(*this);
  add_instructions(instructions);
  if (options.count) count_finish(*this);
  mem.release(kernarg_address);
  return failed ? error : std::string();
}

bool pack_arguments(const Kernel& k, void** params, void** extra, std::vector<uint8_t>* out,
                    std::string* error) {
  out->clear();
  if (extra) {
    const void* data = nullptr;
    size_t size = 0;
    for (int i = 0; extra[i] != reinterpret_cast<void*>(3); i += 2) {
      if (extra[i] == reinterpret_cast<void*>(1))
        data = extra[i + 1];
      else if (extra[i] == reinterpret_cast<void*>(2))
        size = *static_cast<size_t*>(extra[i + 1]);
      else {
        *error = "kernel " + k.name + ": malformed extra argument list";
        return false;
      }
      if (i > 8) break;
    }
    if (size && !data) {
      *error = "kernel " + k.name + ": extra argument list without a buffer";
      return false;
    }
    out->assign(static_cast<const uint8_t*>(data), static_cast<const uint8_t*>(data) + size);
    return true;
  }
  if (!k.has_metadata) {
    if (!params) return true;
    *error = "kernel " + k.name +
             ": the code object does not describe the arguments; pass a buffer (extra)";
    return false;
  }
  size_t i = 0;
  for (const KernelArg& a : k.args) {
    if (!a.kind.compare(0, 7, "hidden_")) continue;
    if (!params) {
      *error = "kernel " + k.name + ": no arguments given";
      return false;
    }
    if (out->size() < a.offset + a.size) out->resize(a.offset + a.size);
    if (!params[i]) {
      *error = "kernel " + k.name + ": argument " + std::to_string(i) + " is missing";
      return false;
    }
    memcpy(out->data() + a.offset, params[i++], a.size);
  }
  return true;
}

// ---- what handlers ask for ----
void watch(Wave& w, const Inst& in) {
  if (w.count) count_instruction(w, in);
  if (w.check) check_instruction(w, in);
}
void watch_access(Wave& w, const Inst& in, const Access& x) {
  if (w.count) count_access(w, in, x);
  if (w.check) check_access(w, in, x);
}

void fault(Wave& w, const Inst& in, const char* format, ...) {
  char text[512];
  va_list va;
  va_start(va, format);
  vsnprintf(text, sizeof(text), format, va);
  va_end(va);
  w.state = State::FAULT;
  Launch& l = *w.launch;
  Code& code = l.module->code();
  char where[256];
  uint64_t pc = pc_address(w, &in);
  size_t i = static_cast<size_t>(&in - code.slots);
  std::string message = std::string("kernel ") + l.kernel->name + ": " + text;
  snprintf(where, sizeof(where), "\n  at pc 0x%llx, workgroup (%u,%u,%u), wave %u: ",
           static_cast<unsigned long long>(pc - l.kernel->entry), w.group->id[0], w.group->id[1],
           w.group->id[2], w.index);
  message += where;
  message += i < code.count
                 ? disassemble(code.arch, code.words + i, static_cast<int>(code.count - i), pc)
                 : "past the end of the code";
  l.fail(message);
}

namespace {
bool usable(const Launch& l, const Allocation& a) {
  return a.device == kHost || (l.reachable >> a.device & 1);
}
}  // namespace

const char* why_unreachable(Wave& w, uint64_t address) {
  Allocation a;
  return Memory::get().find(address, &a) && !usable(*w.launch, a)
             ? "memory of another device, to which peer access was not enabled"
             : "outside every live allocation";
}
bool reach_slow(Wave& w, uint64_t begin, uint64_t end) {
  std::shared_ptr<const Snapshot> s = w.launch->memory;
  const Allocation* a = s->find(begin);
  if (!a) {  // scratch, or what the host allocated since
    s = Memory::get().snapshot();
    a = s->find(begin);
  }
  if (!a || !usable(*w.launch, *a)) return false;
  // As hardware: the rest of the last page is there. The checker is exact.
  uint64_t last = a->begin + (w.check ? a->size : (a->size + 4095) / 4096 * 4096);
  if (end > last) return false;
  w.recent[1] = w.recent[0];
  w.recent[0] = {a->begin, last};
  return true;
}

uint64_t pc_address(const Wave& w, const Inst* in) {
  const Code& c = w.launch->module->code();
  return c.address + 4ull * static_cast<uint64_t>(in - c.slots);
}
const Inst* pc_at(Wave& w, uint64_t address) {
  const Code& c = w.launch->module->code();
  if (address < c.address || address >= c.address + 4ull * c.count || address % 4) return nullptr;
  return c.slots + (address - c.address) / 4;
}
Arch wave_arch(const Wave& w) { return w.launch->module->arch(); }
uint64_t wave_clock(const Wave& w) { return (now_ns() - w.launch->started) / 10; }  // 100 MHz
uint64_t hardware_register(const Wave& w, unsigned id) {
  switch (id) {
    case 2:
      return w.scc | static_cast<uint64_t>(w.s64(EXEC) == 0) << 9 |
             static_cast<uint64_t>(w.s64(VCC) == 0) << 10;
    case 4:
      return w.index & 15;  // HW_ID
    case 6:
      return 0;  // LDS_ALLOC
    case 15:
      return (kSharedBase >> 48) << 16 | kPrivateBase >> 48;
    case 20:
      return w.group->serial % 8;  // XCC_ID: workgroups go round the dies
    default:
      return ~0ull;
  }
}

}  // namespace gfxemu
