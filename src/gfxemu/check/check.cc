// Per wave: which register lanes hold a value, which loads are still under way, how long ago the
// matrix and vector units wrote a register. Per workgroup: who touched each byte of LDS since the
// last barrier. Per device: which bytes of memory were ever written.
#include "check/check.h"

#include <atomic>
#include <cstring>
#include <memory>
#include <vector>

namespace gfxemu {

struct LdsByte {
  uint32_t write_epoch = 0, read_epoch = 0;  // 0: never
  uint8_t writer = 0, reader = 0;            // wave + 1; 255: several
  uint8_t atomic = 0;                        // the last write was atomic
  uint8_t by_load = 0;  // a memory load wrote it: vmcnt covers it, else lgkmcnt
  uint32_t issued = 0;  // the writer's count at the write
};
// How far a wave's writes to LDS are known to have got: at a barrier, for the others.
struct Covered {
  uint32_t vm = 0, lgkm = 0;
};

struct GroupCheck {
  std::vector<LdsByte> lds;
  std::vector<Covered> covered;  // of each wave, at its last barrier
  uint32_t epoch = 1;
  int references = 0;
};

struct Checker {
  uint64_t lanes[512] = {};  // lanes of a VGPR that hold a value
  bool scalar[128] = {};
  // Loads under way: the count at which a register's load was issued, 0 when none.
  uint32_t vm[512] = {}, lgkm[512] = {}, sgpr_lgkm[128] = {};
  uint32_t vm_issued = 0, vm_done = 0, lgkm_issued = 0, lgkm_done = 0, smem_last = 0;
  // Wait states since the start, and those at which a register is safe to read.
  uint64_t clock = 1000;
  uint64_t matrix_free = 0;  // when the matrix unit takes the next instruction
  uint64_t mfma_ready[512] = {};
  uint64_t valu_wrote[512] = {}, valu_wrote_sgpr[128] = {};
  const Inst* barrier = nullptr;
  GroupCheck* group = nullptr;
};

namespace {

constexpr uint64_t kNever = ~0ull;
// Allocations below it count as written: older than the checker, or seen by an unchecked launch.
std::atomic<uint64_t> g_first_serial{kNever};

void mark(uint64_t address, uint64_t size) {
  Memory& m = Memory::get();
  uint8_t* s = m.shadow();
  if (!s || !m.in_range(address)) return;
  uint64_t a = address - m.base(), end = a + size;
  for (; a < end && (a & 7); ++a)
    __atomic_fetch_or(&s[a / 8], static_cast<uint8_t>(1u << (a & 7)), __ATOMIC_RELAXED);
  if (end - a >= 8 && a < end) {
    memset(s + a / 8, 0xff, (end - a) / 8);
    a += (end - a) / 8 * 8;
  }
  for (; a < end; ++a)
    __atomic_fetch_or(&s[a / 8], static_cast<uint8_t>(1u << (a & 7)), __ATOMIC_RELAXED);
}

bool marked(uint64_t address, uint64_t size) {
  Memory& m = Memory::get();
  uint8_t* s = m.shadow();
  if (!s) return true;
  uint64_t a = address - m.base();
  for (uint64_t i = 0; i < size; ++i)
    if (!(s[(a + i) / 8] >> ((a + i) & 7) & 1)) return false;
  return true;
}

bool is_move(const Row& r) {
  return !strncmp(r.name, "v_mov_b", 7) || !strncmp(r.name, "v_accvgpr", 9) ||
         !strcmp(r.name, "v_pk_mov_b32") || !strcmp(r.name, "v_swap_b32");
}
// The low half of the result does not depend on the high halves of the sources, which compilers leave
// undefined where they use the low half alone.
bool halves_rise(const Row& r) {
  return !strcmp(r.name, "v_mad_u64_u32") || !strcmp(r.name, "v_mad_i64_i32") ||
         !strcmp(r.name, "v_lshl_add_u64") || !strcmp(r.name, "v_lshlrev_b64");
}
bool is_memory(const Row& r) { return r.format >= Format::DS && r.format <= Format::MUBUF; }
bool is_valu(const Row& r) { return r.format >= Format::VOP1 && r.format <= Format::VOP3P; }

// Why an operand may not be read now. False after a fault.
bool read(Wave& w, const Inst& in, const Operand& o, bool values, uint64_t lanes) {
  Checker& c = *w.check;
  const Row& r = *in.row;
  if (o.kind == Kind::SGPR) {
    for (int i = 0; i < o.dwords; ++i) {
      unsigned s = o.reg + static_cast<unsigned>(i);
      if (c.sgpr_lgkm[s] > c.lgkm_done) {
        fault(w, in, "s%u is read before the s_waitcnt lgkmcnt that covers its load", s);
        return false;
      }
      if (values && !c.scalar[s]) {
        fault(w, in, "s%u is read but was never written", s);
        return false;
      }
      if (is_memory(r) && c.clock - c.valu_wrote_sgpr[s] < 5) {
        fault(w, in,
              "s%u is read by a memory instruction %d wait states after a vector instruction wrote "
              "it, 5 are needed",
              s, static_cast<int>(c.clock - c.valu_wrote_sgpr[s]));
        return false;
      }
    }
    return true;
  }
  if (o.kind != Kind::VGPR) return true;
  for (int i = 0; i < o.dwords; ++i) {
    unsigned v = o.reg + static_cast<unsigned>(i);
    char file = v < 256 ? 'v' : 'a';
    if (c.vm[v] > c.vm_done) {
      fault(w, in, "%c%u is read before the s_waitcnt vmcnt that covers its load", file, v & 255);
      return false;
    }
    if (c.lgkm[v] > c.lgkm_done) {
      fault(w, in, "%c%u is read before the s_waitcnt lgkmcnt that covers its load", file, v & 255);
      return false;
    }
    if (values && (lanes & ~c.lanes[v])) {
      fault(w, in, "lane %d: %c%u is read but was never written",
            __builtin_ctzll(lanes & ~c.lanes[v]), file, v & 255);
      return false;
    }
    if (c.mfma_ready[v] > c.clock && !(r.format == Format::MAI && &o == &in.src[2])) {
      fault(w, in, "%c%u is read %d wait states too early after the MFMA that writes it", file,
            v & 255, static_cast<int>(c.mfma_ready[v] - c.clock));
      return false;
    }
    if ((o.mods & DPP) && c.clock - c.valu_wrote[v] < 2) {
      fault(w, in,
            "%c%u is read through DPP %d wait states after a vector instruction wrote it, 2 are "
            "needed",
            file, v & 255, static_cast<int>(c.clock - c.valu_wrote[v]));
      return false;
    }
  }
  return true;
}

bool written(Wave& w, const Inst& in, const Operand& o, uint64_t lanes) {
  Checker& c = *w.check;
  if (o.kind == Kind::SGPR) {
    for (int i = 0; i < o.dwords; ++i) {
      unsigned s = o.reg + static_cast<unsigned>(i);
      if (c.sgpr_lgkm[s] > c.lgkm_done && in.row->format != Format::SMEM) {
        fault(w, in, "s%u is written while a load into it is under way", s);
        return false;
      }
      c.scalar[s] = true;
      if (is_valu(*in.row)) c.valu_wrote_sgpr[s] = c.clock;
    }
    return true;
  }
  if (o.kind != Kind::VGPR) return true;
  bool mem = is_memory(*in.row);
  for (int i = 0; i < o.dwords; ++i) {
    unsigned v = o.reg + static_cast<unsigned>(i);
    if (!mem && (c.vm[v] > c.vm_done || c.lgkm[v] > c.lgkm_done)) {
      fault(w, in, "%c%u is written while a load into it is under way", v < 256 ? 'v' : 'a',
            v & 255);
      return false;
    }
    c.lanes[v] |= lanes;
    if (!mem) {
      c.vm[v] = c.lgkm[v] = 0;
      c.mfma_ready[v] = 0;
    }
    if (is_valu(*in.row)) c.valu_wrote[v] = c.clock;
  }
  return true;
}

void wait(Checker& c, unsigned vm, unsigned lgkm) {
  if (c.vm_issued > vm && c.vm_issued - vm > c.vm_done) c.vm_done = c.vm_issued - vm;
  // Scalar loads come back in any order: only a wait for all of them says something.
  bool scalar = c.smem_last > c.lgkm_done;
  if (lgkm == 0)
    c.lgkm_done = c.lgkm_issued;
  else if (!scalar && c.lgkm_issued > lgkm && c.lgkm_issued - lgkm > c.lgkm_done)
    c.lgkm_done = c.lgkm_issued - lgkm;
}

}  // namespace

void check_host_write(uint64_t address, uint64_t size) {
  if (g_first_serial != kNever) mark(address, size);
}

void check_begin() {
  if (g_first_serial == kNever) g_first_serial = Memory::get().serial() + 1;
}

void check_launch(Launch& l) {
  check_begin();
  Allocation arguments;
  if (Memory::get().find(l.kernarg_address, &arguments)) mark(arguments.begin, arguments.size);
  Memory::get().shadow();
}

void check_skipped_launch() {
  if (g_first_serial != kNever) g_first_serial = Memory::get().serial() + 1;
}

void check_start(Wave& w) {
  Checker* c = new Checker;
  w.check = c;
  GroupCheck*& g = w.group->check;
  if (!g) {
    g = new GroupCheck;
    g->lds.resize(w.lds_size);
    g->covered.resize(static_cast<size_t>(w.group->count));
  }
  ++g->references;
  c->group = g;
  const Kernel& k = *w.launch->kernel;
  unsigned user = k.rsrc2 >> 1 & 31;
  for (unsigned i = 0; i < user; ++i) c->scalar[i] = true;
  unsigned s = user;
  for (int d = 0; d < 3; ++d) s += k.rsrc2 >> (7 + d) & 1;
  s += (k.rsrc2 >> 10 & 1) + (k.rsrc2 & 1);
  for (unsigned i = user; i < s; ++i) c->scalar[i] = true;
  for (unsigned i : {102u, 103u, 104u, 105u, 126u, 127u}) c->scalar[i] = true;
  for (unsigned i = 108; i < 125; ++i) c->scalar[i] = true;
  c->lanes[0] = ~0ull;
}

void check_end(Wave* waves, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    Checker* c = waves[i].check;
    if (!c) continue;
    if (c->group && --c->group->references == 0) {
      delete c->group;
      waves[i].group->check = nullptr;
    }
    delete c;
    waves[i].check = nullptr;
  }
}

void watch_barrier(Wave& w, const Inst& in) {
  if (w.check) w.check->barrier = &in;
}

void check_barrier_release(Group& g) {
  // Kernels whose waves have different parts meet at different barriers on purpose, so only check=2
  // asks for the same one.
  const Inst* first = nullptr;
  Wave* first_wave = nullptr;
  for (int i = 0; g.launch->options.check > 1 && i < g.count; ++i) {
    Wave& w = g.waves[i];
    if (!w.check || w.state != State::BARRIER) continue;
    if (!first) {
      first = w.check->barrier;
      first_wave = &w;
    } else if (w.check->barrier != first) {
      fault(w, *w.check->barrier, "divergent barrier: wave %u waits at pc %#llx", first_wave->index,
            static_cast<unsigned long long>(pc_address(w, first) - w.launch->kernel->entry));
      return;
    }
  }
  if (!g.check) return;
  ++g.check->epoch;
  for (int i = 0; i < g.count; ++i)
    if (const Checker* c = g.waves[i].check)
      g.check->covered[static_cast<size_t>(i)] = {c->vm_done, c->lgkm_done};
}

void check_instruction(Wave& w, const Inst& in) {
  Checker& c = *w.check;
  const Row& r = *in.row;
  uint64_t exec = w.exec();
  ++c.clock;
  if (r.format == Format::SOPP) {
    if (r.flags & BRANCH) c.clock += 8;  // a taken branch costs more than an issue slot
    if (r.op == 0) c.clock += static_cast<uint64_t>(in.offset & 15);
    if (r.op == 0x0c) {
      unsigned s = static_cast<unsigned>(in.offset);
      wait(c, (s & 15) | (s >> 14 & 3) << 4, s >> 8 & 15);
    }
    if ((r.flags & READS_VCC) && !(c.scalar[VCC] && c.scalar[VCC + 1]))
      fault(w, in, "vcc is read but was never written");
    return;
  }
  bool vector = r.format >= Format::VOP1;
  if (vector && !exec && r.format != Format::MAI && r.dst != T::S32 && r.format != Format::VOPC &&
      r.sdst == T::NONE) {
    if (!is_memory(r)) return;
  }
  bool scalar_move = r.format == Format::SOP1 && !strncmp(r.name, "s_mov_b", 7);
  bool move = is_move(r) || scalar_move, mfma = r.format == Format::MAI && r.dst != T::B32;
  bool any_lane = !strcmp(r.name, "v_readlane_b32") || !strcmp(r.name, "v_writelane_b32");
  uint64_t lanes = mfma ? exec : any_lane ? 0 : exec;
  // Stores to scratch may save registers that nobody wrote.
  bool values =
      !move && strcmp(r.name, "v_writelane_b32") &&
      !(r.format == Format::SCRATCH && (r.flags & STORE)) &&
      !(r.format == Format::MUBUF && (r.flags & STORE) && (w.s[in.src[2].reg + 3] >> 23 & 1));
  uint64_t undefined_high = 0;
  for (int i = 0; i < 4; ++i) {
    if (in.src[i].kind == Kind::NONE) continue;
    if (in.src[i].kind == Kind::VGPR && in.src[i].dwords == 2 && halves_rise(r)) {
      Operand low = in.src[i], high = in.src[i];
      low.dwords = high.dwords = 1;
      ++high.reg;
      if (!read(w, in, low, true, lanes) || !read(w, in, high, false, lanes)) return;
      undefined_high |= lanes & ~c.lanes[high.reg];
      continue;
    }
    bool address_only = is_memory(r) && i != 1;
    Operand o = in.src[i];
    if (i < 3 && r.src[i] == T::PKF32 && o.dwords == 2 && r.format == Format::VOP3P) {
      // op_sel may take the same half twice.
      int lo = in.opsel >> i & 1, hi = in.opsel_hi >> i & 1;
      if (lo == hi && !move) {
        o.reg = static_cast<uint16_t>(o.reg + lo);
        o.dwords = 1;
      }
    }
    if (!read(w, in, r.format == Format::VOP3P ? o : in.src[i], values || address_only, lanes))
      return;
  }
  if (mfma && c.clock < c.matrix_free) c.clock = c.matrix_free;
  if (in.size == 4 && mfma && !read(w, in, in.sdst, true, exec)) return;
  bool partial_load = is_memory(r) && !(r.flags & ATOMIC);
  if ((r.flags & DST_IN) && !partial_load && !(r.flags & TWO_DST) && in.dst.kind != Kind::NONE &&
      !any_lane && r.format != Format::SOP1 && r.format != Format::SMEM && !(r.flags & OPSEL))
    if (!read(w, in, in.dst, true, exec)) return;
  if ((r.flags & READS_VCC) && !read(w, in, Operand{Kind::SGPR, 0, 6, 2, VCC, VCC, 0}, true, 0))
    return;

  // What it writes, and when that can be used.
  if (r.format == Format::SMEM) {
    if (r.dst != T::NONE && !(r.flags & STORE)) {
      ++c.lgkm_issued;
      c.smem_last = c.lgkm_issued;
      if (!written(w, in, in.dst, 0)) return;
      bool loads = !(r.flags & ATOMIC) || (in.bits & GLC);
      for (int i = 0; loads && i < in.dst.dwords; ++i) c.sgpr_lgkm[in.dst.reg + i] = c.lgkm_issued;
    }
    return;
  }
  if (is_memory(r)) {
    if (r.dst == T::NONE && !(r.flags & (STORE | ATOMIC | LDS_DST)) && r.format == Format::MUBUF)
      return;
    bool lds = r.format == Format::DS, flat = r.format == Format::FLAT;
    if (!lds) ++c.vm_issued;
    if (lds || flat) ++c.lgkm_issued;
    if (in.dst.kind == Kind::VGPR) {
      if (!written(w, in, in.dst, exec)) return;
      for (int i = 0; i < in.dst.dwords; ++i) {
        if (!lds) c.vm[in.dst.reg + i] = c.vm_issued;
        if (lds || flat) c.lgkm[in.dst.reg + i] = c.lgkm_issued;
      }
    }
    return;
  }
  if (scalar_move && in.src[0].kind == Kind::SGPR) {
    bool had[2];
    for (int i = 0; i < in.dst.dwords; ++i) had[i] = c.scalar[in.src[0].reg + i];
    if (!written(w, in, in.dst, 0)) return;
    for (int i = 0; i < in.dst.dwords; ++i) c.scalar[in.dst.reg + i] = had[i];
    return;
  }
  if (move && in.src[0].kind == Kind::VGPR && !(in.src[0].mods & DPP)) {
    if (!written(w, in, in.dst, 0)) return;
    for (int i = 0; i < in.dst.dwords; ++i) {
      unsigned d = in.dst.reg + static_cast<unsigned>(i);
      uint64_t from = c.lanes[in.src[0].reg + static_cast<unsigned>(r.src[1] == T::NONE ? i : 0)];
      if (r.src[1] != T::NONE) from = ~0ull;
      c.lanes[d] = (c.lanes[d] & ~exec) | (from & exec);
    }
    if (r.flags & TWO_DST) c.lanes[in.src[0].reg] |= exec;
    return;
  }
  if (any_lane && in.dst.kind == Kind::VGPR) {
    unsigned lane = (in.src[1].kind == Kind::CONST ? static_cast<unsigned>(in.src[1].value)
                                                   : w.s[in.src[1].reg]) &
                    63;
    written(w, in, in.dst, 1ull << lane);
    return;
  }
  if (!written(w, in, in.dst, mfma ? ~0ull : exec)) return;
  if (undefined_high) c.lanes[in.dst.reg + 1] &= ~undefined_high;
  if (in.sdst.kind == Kind::SGPR && !(mfma && in.size == 4)) {
    if (!written(w, in, in.sdst, 0)) return;
  }
  if (r.flags & TWO_DST) written(w, in, in.src[0], exec);
  if (mfma) {
    bool xdl = !strstr(r.name, "f32_32x32x1") && !strstr(r.name, "x1f32") &&
               !strstr(r.name, "_f64") && !strstr(r.name, "f64_");
    uint64_t states = static_cast<uint64_t>(r.k) + (xdl ? 3 : 2);
    for (int i = 0; i < in.dst.dwords; ++i) c.mfma_ready[in.dst.reg + i] = c.clock + states + 1;
    c.matrix_free = c.clock + static_cast<uint64_t>(r.k);
  }
}

void check_access(Wave& w, const Inst& in, const Access& x) {
  Checker& c = *w.check;
  for (uint64_t m = x.mask; m; m &= m - 1) {
    int l = __builtin_ctzll(m);
    uint64_t a = x.address[l];
    uint32_t natural = x.atomic ? x.bytes : x.bytes < 4 ? x.bytes : 4;
    const char* space = x.space == Space::GLOBAL ? "global"
                        : x.space == Space::LDS  ? "LDS"
                                                 : "scratch";
    if (natural && a % natural) {
      fault(w, in, "lane %d: misaligned %s access: %u bytes at %#llx", l, space, x.bytes,
            static_cast<unsigned long long>(a));
      return;
    }
    if (x.space == Space::GLOBAL) {
      const Allocation* live = w.launch->memory->find(a);
      std::shared_ptr<const Snapshot> fresh;
      if (!live) {
        fresh = Memory::get().snapshot();
        live = fresh->find(a);
      }
      if (!live || a + x.bytes > live->begin + live->size) {
        const Snapshot& s = fresh ? *fresh : *w.launch->memory;
        const Allocation* old = s.find_freed(a);
        if (old && !live) {
          fault(w, in,
                "lane %d: use after free: %u bytes at %#llx, %llu bytes into a freed allocation of "
                "%llu",
                l, x.bytes, static_cast<unsigned long long>(a),
                static_cast<unsigned long long>(a - old->begin),
                static_cast<unsigned long long>(old->size));
          return;
        }
        // The allocation that ends before it, to say how far off it is.
        const Allocation* before = nullptr;
        for (const Allocation& y : s.live)
          if (y.begin <= a) before = &y;
        if (before)
          fault(w, in,
                "lane %d: out of bounds: %u bytes at %#llx, %lld bytes past the end of an "
                "allocation of %llu",
                l, x.bytes, static_cast<unsigned long long>(a),
                static_cast<long long>(a - before->begin - before->size),
                static_cast<unsigned long long>(before->size));
        else
          fault(w, in, "lane %d: out of bounds: %u bytes at %#llx, before every allocation", l,
                x.bytes, static_cast<unsigned long long>(a));
        return;
      }
      if ((!x.write || x.atomic) && live->serial >= g_first_serial && live->device != kHost &&
          !marked(a, x.bytes)) {
        fault(w, in,
              "lane %d: %u bytes at %#llx are read but were never written (byte %llu of an "
              "allocation of %llu)",
              l, x.bytes, static_cast<unsigned long long>(a),
              static_cast<unsigned long long>(a - live->begin),
              static_cast<unsigned long long>(live->size));
        return;
      }
      if (x.write || x.atomic) mark(a, x.bytes);
    } else if (x.space == Space::LDS) {
      GroupCheck& g = *c.group;
      if (a + x.bytes > g.lds.size()) {
        fault(w, in, "lane %d: out of bounds: %u bytes at LDS offset %#llx, the workgroup has %zu",
              l, x.bytes, static_cast<unsigned long long>(a), g.lds.size());
        return;
      }
      uint8_t me = static_cast<uint8_t>(w.index + 1);
      for (uint32_t i = 0; i < x.bytes; ++i) {
        LdsByte& b = g.lds[a + i];
        bool written_now = b.write_epoch == g.epoch;
        if ((!x.write || x.atomic) && !b.write_epoch) {
          fault(w, in, "lane %d: LDS offset %#llx is read but was never written", l,
                static_cast<unsigned long long>(a + i));
          return;
        }
        if (written_now && b.writer != me && !(x.atomic && b.atomic)) {
          fault(w, in,
                "lane %d: LDS race at offset %#llx: wave %u wrote it with no barrier between", l,
                static_cast<unsigned long long>(a + i), b.writer - 1u);
          return;
        }
        // The LDS takes instructions in the order of their issue, so that its own writes are seen
        // behind a barrier; only check=2 insists on the documents' wait for them.
        const bool strict = b.by_load || (w.launch->options.check > 1 && b.writer != me);
        if (b.write_epoch && !x.write && strict) {
          const Covered now =
              b.writer == me ? Covered{c.vm_done, c.lgkm_done} : g.covered[b.writer - 1u];
          if (b.issued > (b.by_load ? now.vm : now.lgkm)) {
            fault(w, in,
                  "lane %d: LDS offset %#llx is read, but wave %u did not wait (s_waitcnt %s) for "
                  "its write%s",
                  l, static_cast<unsigned long long>(a + i), b.writer - 1u,
                  b.by_load ? "vmcnt" : "lgkmcnt", b.writer == me ? "" : " before the barrier");
            return;
          }
        }
        if (x.write && b.read_epoch == g.epoch && b.reader != me && !(x.atomic && b.atomic)) {
          if (b.reader == 255)
            fault(
                w, in,
                "lane %d: LDS race at offset %#llx: several waves read it with no barrier between",
                l, static_cast<unsigned long long>(a + i));
          else
            fault(w, in,
                  "lane %d: LDS race at offset %#llx: wave %u read it with no barrier between", l,
                  static_cast<unsigned long long>(a + i), b.reader - 1u);
          return;
        }
        if (x.write) {
          b.write_epoch = g.epoch;
          b.writer = me;
          b.atomic = x.atomic;
          b.by_load = in.row->format == Format::MUBUF || in.row->format == Format::GLOBAL;
          b.issued = b.by_load ? c.vm_issued : c.lgkm_issued;
        } else {
          b.reader = b.read_epoch == g.epoch && b.reader != me ? 255 : me;
          b.read_epoch = g.epoch;
        }
      }
    }
  }
}

}  // namespace gfxemu
