// Counts instructions by class, bytes by level, LDS bank conflicts and matrix operations. The
// estimate adds up issue times: each SIMD issues one vector instruction at a time, the LDS of a
// compute unit moves 128 bytes a cycle, memory its bandwidth; the slowest of them bounds the
// launch. It ranks variants of a kernel; it is no simulation.
#include "count/count.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>

namespace gfxemu {

enum Class {
  SALU,
  BRANCHES,
  SMEM_C,
  VALU,
  TRANSCENDENTAL,
  MFMA_C,
  LDS_C,
  VMEM,
  FLAT_C,
  OTHER,
  kClasses
};
const char* const kClassNames[kClasses] = {"salu", "branch", "smem", "valu", "transcendental",
                                           "mfma", "lds",    "vmem", "flat", "other"};

struct Counters {
  uint64_t by_class[kClasses] = {};
  uint64_t valu_cycles = 0, mfma_cycles = 0, lds_cycles = 0, mfma_ops = 0;
  uint64_t global_read = 0, global_written = 0, lds_read = 0, lds_written = 0, scratch_bytes = 0,
           atomics = 0;
  uint64_t bank_conflicts = 0, cache_lines = 0, barriers = 0;
  void add(const Counters& o) {
    const uint64_t* from = reinterpret_cast<const uint64_t*>(&o);
    uint64_t* to = reinterpret_cast<uint64_t*>(this);
    for (size_t i = 0; i < sizeof(*this) / 8; ++i) to[i] += from[i];
  }
};
struct Totals {
  Counters sum;
  uint64_t waves = 0;
};

namespace {

std::mutex g_mutex;
std::deque<std::string> g_reports;
std::atomic<uint64_t> g_instructions{0};

Class class_of(const Row& r) {
  switch (r.format) {
    case Format::SOPP:
      return r.flags & BRANCH ? BRANCHES : OTHER;
    case Format::SOP1:
    case Format::SOP2:
    case Format::SOPC:
    case Format::SOPK:
      return r.flags & BRANCH ? BRANCHES : SALU;
    case Format::SMEM:
      return SMEM_C;
    case Format::MAI:
      return r.k ? MFMA_C : VALU;
    case Format::DS:
      return LDS_C;
    case Format::FLAT:
      return FLAT_C;
    case Format::GLOBAL:
    case Format::SCRATCH:
    case Format::MUBUF:
      return VMEM;
    default:
      return r.flags & TRANS ? TRANSCENDENTAL : VALU;
  }
}

// Multiply-adds, counted as two, of one MFMA: M x N x K x blocks out of its name.
uint64_t matrix_ops(const char* name) {
  const char* p = strpbrk(name + 7, "0123456789");
  unsigned m = 0, n = 0, k = 0, b = 1;
  const char* at = strstr(name, "32x32x");
  if (!at) at = strstr(name, "16x16x");
  if (!at) at = strstr(name, "_4x4x");
  if (!at || !p) return 0;
  if (*at == '_') ++at;
  if (sscanf(at, "%ux%ux%u", &m, &n, &k) != 3) return 0;
  const char* tail = strstr(at + 5, "b_");
  if (tail && tail[-1] >= '0' && tail[-1] <= '9')
    b = static_cast<unsigned>(atoi(tail - (tail[-2] >= '0' && tail[-2] <= '9' ? 2 : 1)));
  return 2ull * m * n * k * b;
}

struct Part {
  const char* name;
  int units;
  double ghz, gbs;
};

double estimate_us(const Launch& l, const Counters& c, const Part& p) {
  // Whole workgroups go to compute units; each unit has four SIMDs.
  uint64_t groups = l.groups;
  uint64_t rounds_units = std::min<uint64_t>(groups, static_cast<uint64_t>(p.units));
  double simds = static_cast<double>(rounds_units) * std::min<uint32_t>(4, l.waves);
  if (groups > static_cast<uint64_t>(p.units)) simds = 4.0 * p.units;
  double valu = static_cast<double>(c.valu_cycles) / simds,
         mfma = static_cast<double>(c.mfma_cycles) / simds;
  double lds = static_cast<double>(c.lds_cycles) / static_cast<double>(rounds_units);
  double salu = static_cast<double>(c.by_class[SALU] + c.by_class[BRANCHES] + c.by_class[OTHER]) /
                static_cast<double>(rounds_units);
  double vmem = static_cast<double>(c.cache_lines) /
                static_cast<double>(rounds_units);  // a 64-byte line a cycle
  double tail =
      std::ceil(static_cast<double>(groups) / p.units) / (static_cast<double>(groups) / p.units);
  if (groups < static_cast<uint64_t>(p.units)) tail = 1;
  double cycles = std::max({valu, mfma, lds, salu, vmem}) * tail;
  double bytes = static_cast<double>(c.global_read + c.global_written);
  return std::max(cycles / (p.ghz * 1e3), bytes / (p.gbs * 1e3));
}

}  // namespace

void count_launch(Launch& l) { l.totals = new Totals; }
void count_start(Wave& w) { w.count = new Counters; }
void count_end(Wave* waves, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    if (!waves[i].count) continue;
    std::lock_guard lock(g_mutex);
    waves[i].launch->totals->sum.add(*waves[i].count);
    ++waves[i].launch->totals->waves;
    delete waves[i].count;
    waves[i].count = nullptr;
  }
}

void count_instruction(Wave& w, const Inst& in) {
  Counters& c = *w.count;
  const Row& r = *in.row;
  Class k = class_of(r);
  ++c.by_class[k];
  switch (k) {
    case VALU: {
      // 16 lanes a cycle; f64 and the packed f32 forms take as long on these parts.
      bool slow = strstr(r.name, "_mul_lo_u32") || strstr(r.name, "_mul_hi_") ||
                  !strcmp(r.name, "v_mad_u64_u32") || !strcmp(r.name, "v_mad_i64_i32");
      bool f64 = r.dst == T::F64 || r.src[0] == T::F64;
      c.valu_cycles += slow ? 16 : f64 && wave_arch(w) == GFX90A ? 4 : f64 ? 8 : 4;
      break;
    }
    case TRANSCENDENTAL:
      c.valu_cycles += 16;
      break;
    case MFMA_C:
      c.mfma_cycles += 4ull * r.k * (r.src[0] == T::DYN && (in.cbsz < 2 || in.blgp < 2) ? 2 : 1);
      c.mfma_ops += matrix_ops(r.name);
      break;
    case OTHER:
      if (r.format == Format::SOPP && r.op == 0x0a) ++c.barriers;
      break;
    default:
      break;
  }
}

void count_access(Wave& w, const Inst&, const Access& x) {
  Counters& c = *w.count;
  uint64_t n = static_cast<uint64_t>(__builtin_popcountll(x.mask)) * x.bytes;
  if (x.atomic) ++c.atomics;
  if (x.space == Space::SCRATCH) {
    c.scratch_bytes += n;
    return;
  }
  if (x.space == Space::GLOBAL) {
    (x.write ? c.global_written : c.global_read) += n;
    uint64_t lines = 0, last = ~0ull;
    for (uint64_t m = x.mask; m; m &= m - 1) {
      uint64_t a = x.address[__builtin_ctzll(m)];
      for (uint64_t line = a / 64; line <= (a + x.bytes - 1) / 64; ++line)
        if (line != last) {
          ++lines;
          last = line;
        }
    }
    c.cache_lines += lines;
    return;
  }
  (x.write ? c.lds_written : c.lds_read) += n;
  // Lanes go in groups that move 128 bytes; within one, different dwords of one bank of 32 wait for
  // each other.
  uint32_t words = std::max(1u, x.bytes / 4), group = std::max(1u, 32 / words);
  for (uint32_t first = 0; first < 64; first += group) {
    uint64_t seen[32][8];
    int used[32] = {};
    int worst = 0;
    for (uint32_t l = first; l < first + group && l < 64; ++l) {
      if (!(x.mask >> l & 1)) continue;
      for (uint32_t j = 0; j < words; ++j) {
        uint64_t dword = x.address[l] / 4 + j;
        int bank = static_cast<int>(dword % 32);
        bool again = false;
        for (int i = 0; i < used[bank] && i < 8; ++i) again = again || seen[bank][i] == dword;
        if (again) continue;
        if (used[bank] < 8) seen[bank][used[bank]] = dword;
        worst = std::max(worst, ++used[bank]);
      }
    }
    c.lds_cycles += static_cast<uint64_t>(worst);
    if (worst > 1) c.bank_conflicts += static_cast<uint64_t>(worst - 1);
  }
}

void count_finish(Launch& l) {
  Totals* t = l.totals;
  const Counters& c = t->sum;
  std::string j =
      "{\"kernel\": \"" + l.kernel->name + "\", \"arch\": \"" + arch_name(l.module->arch()) + "\"";
  auto put = [&](const char* name, uint64_t v) {
    j += std::string(", \"") + name + "\": " + std::to_string(v);
  };
  put("workgroups", l.groups);
  put("waves", t->waves);
  put("lds_bytes", l.lds);
  put("vgprs", static_cast<uint64_t>(l.kernel->vgprs));
  uint64_t all = 0;
  for (uint64_t n : c.by_class) all += n;
  put("instructions", all);
  j += ", \"classes\": {";
  for (int i = 0; i < kClasses; ++i)
    j +=
        std::string(i ? ", " : "") + "\"" + kClassNames[i] + "\": " + std::to_string(c.by_class[i]);
  j += "}";
  put("barriers", c.barriers);
  put("mfma_operations", c.mfma_ops);
  put("global_read_bytes", c.global_read);
  put("global_written_bytes", c.global_written);
  put("global_lines", c.cache_lines);
  put("lds_read_bytes", c.lds_read);
  put("lds_written_bytes", c.lds_written);
  put("lds_bank_conflicts", c.bank_conflicts);
  put("scratch_bytes", c.scratch_bytes);
  put("atomics", c.atomics);
  put("valu_cycles", c.valu_cycles);
  put("mfma_cycles", c.mfma_cycles);
  put("lds_cycles", c.lds_cycles);
  // The code object's own part, or its sibling.
  const Part mi300x{"MI300X", 304, 2.1, 5300}, mi355x{"MI355X", 256, 2.4, 8000};
  char b[96];
  snprintf(b, sizeof(b), ", \"estimate_us\": {\"MI300X\": %.3f, \"MI355X\": %.3f}}",
           estimate_us(l, c, mi300x), estimate_us(l, c, mi355x));
  j += b;
  std::lock_guard lock(g_mutex);
  g_reports.push_back(j);
  if (g_reports.size() > 4096) g_reports.pop_front();
  delete t;
  l.totals = nullptr;
}

std::string take_reports() {
  std::lock_guard lock(g_mutex);
  std::string list;
  for (const std::string& report : g_reports) list += (list.empty() ? "[" : ", ") + report;
  g_reports.clear();
  return list.empty() ? "[]" : list + "]";
}
uint64_t total_instructions() { return g_instructions; }
void add_instructions(uint64_t n) { g_instructions += n; }

}  // namespace gfxemu
