// Handlers of the scalar formats, branches included, and the loop that runs a wave.
#include <type_traits>

#include "exec/atomic.h"
#include "exec/core.h"

namespace gfxemu::GFXEMU_ISA {
namespace {

template <T t>
using SRaw = std::conditional_t<is_64bit(t), uint64_t, uint32_t>;

template <T t>
GFXEMU_INLINE SRaw<t> get(const Wave& w, const Operand& o) {
  if constexpr (is_64bit(t))
    return scalar64(w, o);
  else
    return scalar32(w, o);
}
template <T t>
GFXEMU_INLINE void put(Wave& w, const Operand& o, SRaw<t> x) {
  if constexpr (is_64bit(t))
    w.set_s64(o.reg, x);
  else
    w.s[o.reg] = x;
}

uint64_t whole_quads(uint64_t a) {
  uint64_t any = (a | a >> 1 | a >> 2 | a >> 3) & 0x1111111111111111ull;
  return any * 15;
}
uint64_t quad_mask(uint64_t a) {
  uint64_t r = 0;
  for (int i = 0; i < 16; ++i) r |= (uint64_t)((a >> 4 * i & 15) != 0) << i;
  return r;
}
uint64_t bit_replicate(uint32_t a) {
  uint64_t r = 0;
  for (int i = 0; i < 32; ++i) r |= (uint64_t)(a >> i & 1) * 3 << 2 * i;
  return r;
}
uint32_t add_carry(uint32_t a, uint32_t b, uint32_t& scc) {
  uint64_t r = (uint64_t)a + b + scc;
  scc = (uint32_t)(r >> 32);
  return (uint32_t)r;
}
uint32_t sub_borrow(uint32_t a, uint32_t b, uint32_t& scc) {
  uint64_t r = (uint64_t)a - b - scc;
  scc = (uint32_t)(r >> 32) & 1;
  return (uint32_t)r;
}
template <int N>
uint32_t shift_add(uint32_t a, uint32_t b, uint32_t& scc) {
  uint64_t r = ((uint64_t)a << N) + b;
  scc = (r >> 32) != 0;
  return (uint32_t)r;
}

template <class U>
void cmov(Wave& w, const Inst& in) {
  if (!w.scc) return;
  if constexpr (sizeof(U) == 8)
    w.set_s64(in.dst.reg, scalar64(w, in.src[0]));
  else
    w.s[in.dst.reg] = scalar32(w, in.src[0]);
}
template <class U, int ON>
void bitset(Wave& w, const Inst& in) {
  U bit = (U)1 << (scalar32(w, in.src[0]) & (sizeof(U) * 8 - 1));
  U x;
  memcpy(&x, &w.s[in.dst.reg], sizeof(U));
  x = ON ? x | bit : x & ~bit;
  memcpy(&w.s[in.dst.reg], &x, sizeof(U));
}
template <int N2>
void wrexec(Wave& w, const Inst& in) {
  uint64_t a = scalar64(w, in.src[0]);
  w.exec() = N2 ? a & ~w.exec() : ~a & w.exec();
  w.set_s64(in.dst.reg, w.exec());
  w.scc = w.exec() != 0;
}
template <int N>
void movrels(Wave& w, const Inst& in) {
  unsigned r = in.src[0].reg + w.s[M0];
  if (in.src[0].kind != Kind::SGPR || r + N > 104)
    return fault(w, in, "M0-relative register %u out of range", r);
  memcpy(&w.s[in.dst.reg], &w.s[r], 4 * N);
}
template <int N>
void movreld(Wave& w, const Inst& in) {
  unsigned r = in.dst.reg + w.s[M0];
  if (r + N > 104) return fault(w, in, "M0-relative register %u out of range", r);
  uint64_t x = N == 2 ? scalar64(w, in.src[0]) : scalar32(w, in.src[0]);
  memcpy(&w.s[r], &x, 4 * N);
}

// ---- control ----
void jump(Wave& w, const Inst& in, uint64_t address) {
  const Inst* t = pc_at(w, address);
  if (!t)
    return fault(w, in, "jump to %#llx, outside the code object", (unsigned long long)address);
  w.pc = t;
}
void getpc(Wave& w, const Inst& in) { w.set_s64(in.dst.reg, pc_address(w, &in) + 4); }
void setpc(Wave& w, const Inst& in) { jump(w, in, scalar64(w, in.src[0])); }
void swappc(Wave& w, const Inst& in) {
  uint64_t target = scalar64(w, in.src[0]);
  w.set_s64(in.dst.reg, pc_address(w, &in) + 4u * in.size);
  jump(w, in, target);
}
GFXEMU_INLINE void go(Wave& w, const Inst& in) { w.pc = &in + 1 + in.offset; }
void call(Wave& w, const Inst& in) {
  w.set_s64(in.dst.reg, pc_address(w, &in) + 4);
  go(w, in);
}
void branch(Wave& w, const Inst& in) { go(w, in); }
void cbranch_scc0(Wave& w, const Inst& in) {
  if (!w.scc) go(w, in);
}
void cbranch_scc1(Wave& w, const Inst& in) {
  if (w.scc) go(w, in);
}
void cbranch_vccz(Wave& w, const Inst& in) {
  if (!w.vcc()) go(w, in);
}
void cbranch_vccnz(Wave& w, const Inst& in) {
  if (w.vcc()) go(w, in);
}
void cbranch_execz(Wave& w, const Inst& in) {
  if (!w.exec()) go(w, in);
}
void cbranch_execnz(Wave& w, const Inst& in) {
  if (w.exec()) go(w, in);
}
void skip(Wave&, const Inst&) {}
void yield(Wave& w, const Inst&) { w.yielded = true; }
void endpgm(Wave& w, const Inst&) {
  w.state = State::DONE;
  ++w.group->done;
}
void barrier(Wave& w, const Inst& in) {
  if (w.attention) watch_barrier(w, in);
  w.state = State::BARRIER;
  ++w.group->waiting;
}
void sethalt(Wave& w, const Inst& in) {
  if (in.offset & 1) fault(w, in, "the kernel halts");
}
void trap(Wave& w, const Inst& in) {
  fault(w, in, "trap %d (an assertion or abort in the kernel)", in.offset & 255);
}
void sendmsg(Wave& w, const Inst& in) {
  // 1 is an interrupt to the host, which nobody waits for here; 3 deallocates nothing on gfx9.
  if ((in.offset & 15) > 3) fault(w, in, "message %#x is not supported", in.offset);
}
// M0[7:0] is the index, M0[15:12] which operands it moves.
void gpr_idx_state(Wave& w) { w.idx_on = true; }
void set_gpr_idx_on(Wave& w, const Inst& in) {
  uint32_t idx = scalar32(w, in.src[0]) & 255;
  w.s[M0] = (w.s[M0] & ~0xf0ffu) | idx | (uint32_t)in.offset << 12;
  gpr_idx_state(w);
}
void set_gpr_idx_idx(Wave& w, const Inst& in) {
  w.s[M0] = (w.s[M0] & ~0xffu) | (scalar32(w, in.src[0]) & 255);
}
void set_gpr_idx_off(Wave& w, const Inst&) { w.idx_on = false; }
void set_gpr_idx_mode(Wave& w, const Inst& in) {
  w.s[M0] = (w.s[M0] & ~0xf000u) | (uint32_t)(in.offset & 15) << 12;
}
void setvskip(Wave& w, const Inst& in) {
  w.vskip = scalar32(w, in.src[0]) >> (scalar32(w, in.src[1]) & 31) & 1;
  w.attention = w.vskip || w.watched;
}

// ---- constants and hardware registers ----
void movk(Wave& w, const Inst& in) { w.s[in.dst.reg] = (uint32_t)in.offset; }
void cmovk(Wave& w, const Inst& in) {
  if (w.scc) w.s[in.dst.reg] = (uint32_t)in.offset;
}
void addk(Wave& w, const Inst& in) {
  uint32_t a = w.s[in.dst.reg], b = (uint32_t)in.offset, r = a + b;
  w.scc = (~(a ^ b) & (a ^ r)) >> 31;
  w.s[in.dst.reg] = r;
}
void mulk(Wave& w, const Inst& in) { w.s[in.dst.reg] *= (uint32_t)in.offset; }

void getreg(Wave& w, const Inst& in) {
  unsigned id = in.offset & 63, lo = in.offset >> 6 & 31, size = (in.offset >> 11 & 31) + 1;
  uint64_t x;
  if (id == 1)
    x = w.mode;
  else
    x = hardware_register(w, id);
  if (x >> 32) return fault(w, in, "hardware register %u is not modelled", id);
  w.s[in.dst.reg] = (uint32_t)(x >> lo & ((1ull << size) - 1));
}
void set_register(Wave& w, const Inst& in, uint32_t x) {
  unsigned id = in.offset & 63, lo = in.offset >> 6 & 31, size = (in.offset >> 11 & 31) + 1;
  if (id != 1) return fault(w, in, "writing hardware register %u is not modelled", id);
  uint32_t m = (uint32_t)(((1ull << size) - 1) << lo);
  w.mode = (w.mode & ~m) | (x << lo & m);
  w.mode_changed();
  enter_f32(w);
}
void setreg(Wave& w, const Inst& in) { set_register(w, in, scalar32(w, in.src[0])); }
void setreg_imm(Wave& w, const Inst& in) { set_register(w, in, in.literal); }

// ---- scalar memory ----
// The address, or a range check that failed (buffers): then loads give 0 and stores do nothing.
bool smem_address(Wave& w, const Inst& in, bool buffer, uint32_t bytes, uint64_t* out) {
  int64_t offset = in.offset;
  if (in.src[1].kind != Kind::NONE) offset += scalar32(w, in.src[1]);
  uint64_t base = w.s64(in.src[0].reg);
  if (buffer) {
    uint32_t w1 = w.s[in.src[0].reg + 1], records = w.s[in.src[0].reg + 2];
    uint64_t size = (uint64_t)records * ((w1 >> 16 & 0x3fff) ? (w1 >> 16 & 0x3fff) : 1);
    base &= 0xffffffffffffull;
    offset &= ~3ll;
    if ((uint64_t)offset + bytes > size) {
      *out = (uint64_t)offset >= size ? 0 : base + (uint64_t)offset;
      return false;
    }
  }
  *out = (base + (uint64_t)offset) & ~3ull;
  return true;
}
bool smem_reach(Wave& w, const Inst& in, uint64_t a, uint32_t bytes, bool write) {
  if (!reach(w, a, a + bytes)) {
    fault(w, in, "scalar access of %u bytes at %#llx is %s", bytes, (unsigned long long)a,
          why_unreachable(w, a));
    return false;
  }
  if (w.attention) {
    Access x{Space::GLOBAL, write, false, bytes, 1, &a};
    watch_access(w, in, x);
  }
  return w.state != State::FAULT;
}
template <int N, bool BUFFER>
void smem_load(Wave& w, const Inst& in) {
  uint64_t a;
  uint32_t* d = &w.s[in.dst.reg];
  if (smem_address(w, in, BUFFER, 4 * N, &a)) {
    if (smem_reach(w, in, a, 4 * N, false)) memcpy(d, (const void*)a, 4 * N);
    return;
  }
  // Past the end: each dword on its own.
  uint32_t w1 = w.s[in.src[0].reg + 1];
  uint64_t size =
      (uint64_t)w.s[in.src[0].reg + 2] * ((w1 >> 16 & 0x3fff) ? (w1 >> 16 & 0x3fff) : 1);
  uint64_t base = w.s64(in.src[0].reg) & 0xffffffffffffull;
  uint32_t got[N] = {};
  if (a)
    for (int i = 0; i < N && a + 4 * i + 4 <= base + size; ++i)
      if (smem_reach(w, in, a + 4 * i, 4, false)) memcpy(&got[i], (const void*)(a + 4 * i), 4);
  memcpy(d, got, sizeof(got));
}
template <int N, bool BUFFER>
void smem_store(Wave& w, const Inst& in) {
  uint64_t a;
  if (smem_address(w, in, BUFFER, 4 * N, &a) && smem_reach(w, in, a, 4 * N, true))
    memcpy((void*)a, &w.s[in.dst.reg], 4 * N);
}
template <class U, Atomic OP, bool BUFFER>
void smem_atomic(Wave& w, const Inst& in) {
  uint64_t a;
  if (!smem_address(w, in, BUFFER, sizeof(U), &a)) return;
  if (a % sizeof(U)) return fault(w, in, "misaligned atomic at %#llx", (unsigned long long)a);
  if (!smem_reach(w, in, a, sizeof(U), true)) return;
  U x, y = 0;
  memcpy(&x, &w.s[in.dst.reg], sizeof(U));
  if (OP == Atomic::CMPSWAP) memcpy(&y, &w.s[in.dst.reg + sizeof(U) / 4], sizeof(U));
  U old = atomic_update<U, OP>((U*)a, x, y);
  if (in.bits & GLC) memcpy(&w.s[in.dst.reg], &old, sizeof(U));
}
void smem_nothing(Wave&, const Inst&) {}
void smem_time(Wave& w, const Inst& in) { w.set_s64(in.dst.reg, wave_clock(w)); }

#define S1(op, name, archs, flags, D, A, ...) \
  void name##_sem(Wave& w, const Inst& in) {  \
    auto a = get<T::A>(w, in.src[0]);         \
    put<T::D>(w, in.dst, __VA_ARGS__);        \
  }
#define S1N(op, name, archs, flags, D, A, ...) \
  void name##_sem(Wave& w, const Inst& in) {   \
    auto a = get<T::A>(w, in.src[0]);          \
    SRaw<T::D> r = __VA_ARGS__;                \
    w.scc = r != 0;                            \
    put<T::D>(w, in.dst, r);                   \
  }
#define S2(op, name, archs, flags, D, A, B, ...) \
  void name##_sem(Wave& w, const Inst& in) {     \
    auto a = get<T::A>(w, in.src[0]);            \
    auto b = get<T::B>(w, in.src[1]);            \
    uint32_t& scc = w.scc;                       \
    (void)scc;                                   \
    SRaw<T::D> r = (__VA_ARGS__);                \
    put<T::D>(w, in.dst, r);                     \
  }
#define S2N(op, name, archs, flags, D, A, B, ...) \
  void name##_sem(Wave& w, const Inst& in) {      \
    auto a = get<T::A>(w, in.src[0]);             \
    auto b = get<T::B>(w, in.src[1]);             \
    SRaw<T::D> r = (__VA_ARGS__);                 \
    w.scc = r != 0;                               \
    put<T::D>(w, in.dst, r);                      \
  }
#define SC(op, name, archs, A, B, ...)       \
  void name##_sem(Wave& w, const Inst& in) { \
    auto a = get<T::A>(w, in.src[0]);        \
    auto b = get<T::B>(w, in.src[1]);        \
    w.scc = (__VA_ARGS__) ? 1 : 0;           \
  }
#define KC(op, name, archs, ...)             \
  void name##_sem(Wave& w, const Inst& in) { \
    uint32_t a = w.s[in.src[0].reg];         \
    int32_t k = in.offset;                   \
    w.scc = (__VA_ARGS__) ? 1 : 0;           \
  }
#define SAVEEXEC(op, name, archs, ...)                 \
  void name##_sem(Wave& w, const Inst& in) {           \
    uint64_t a = scalar64(w, in.src[0]), e = w.exec(); \
    w.set_s64(in.dst.reg, e);                          \
    w.exec() = __VA_ARGS__;                            \
    w.scc = w.exec() != 0;                             \
  }
#define SX(...)
#define KX(...)
#include "isa/sop1.inc"
#include "isa/sop2.inc"
#include "isa/sopc.inc"
#include "isa/sopk.inc"
#undef S1
#undef S1N
#undef S2
#undef S2N
#undef SC
#undef KC
#undef SAVEEXEC
#undef SX
#undef KX

#define S1(op, name, ...) name##_sem,
#define S1N S1
#define S2 S1
#define S2N S1
#define SC S1
#define KC S1
#define SAVEEXEC S1
#define SX(op, name, archs, flags, d, a, b, ...) __VA_ARGS__,
#define KX(op, name, archs, flags, d, ...) __VA_ARGS__,
#define PX(op, name, archs, flags, ...) __VA_ARGS__,
#define MX(op, name, archs, flags, d, base, ...) __VA_ARGS__,
}  // namespace

extern const Handler kSop1[] = {
#include "isa/sop1.inc"
};
extern const Handler kSop2[] = {
#include "isa/sop2.inc"
};
extern const Handler kSopc[] = {
#include "isa/sopc.inc"
};
extern const Handler kSopk[] = {
#include "isa/sopk.inc"
};
extern const Handler kSopp[] = {
#include "isa/sopp.inc"
};
extern const Handler kSmem[] = {
#include "isa/smem.inc"
};

// Runs up to n instructions of a wave.
static uint64_t run(Wave& w, uint64_t n) {
#if defined(__x86_64__)
  unsigned saved = _mm_getcsr();
#endif
  enter_f32(w);
  uint64_t k = 0;
  while (k < n && w.state == State::RUN && !w.yielded) {
    if (!w.attention) {
      for (; k < n && w.state == State::RUN && !w.attention && !w.yielded; ++k) {
        const Inst* in = w.pc;
        Handler fn = __atomic_load_n(&in->fn, __ATOMIC_ACQUIRE);
        if (!fn) [[unlikely]] {
          decode_slot(w, *in);
          continue;
        }
        w.pc = in + in->size;
        fn(w, *in);
      }
    } else {
      const Inst* in = w.pc;
      Handler fn = __atomic_load_n(&in->fn, __ATOMIC_ACQUIRE);
      if (!fn) {
        decode_slot(w, *in);
        continue;
      }
      w.pc = in + in->size;
      ++k;
      bool vector = in->row && in->row->format >= Format::VOP1;
      if (w.vskip && vector) continue;
      if (w.watched && in->row) watch(w, *in);
      if (w.state == State::RUN) fn(w, *in);
    }
  }
  w.yielded = false;
#if defined(__x86_64__)
  _mm_setcsr(saved);
#endif
  return k;
}

extern const Handler kVop1[], kVop2[], kVop3[], kVopc[], kVop3p[], kMai[], kDs[], kFlat[],
    kGlobal[], kScratch[], kMubuf[];
extern Handler (*const kClamped)(const char*);

HandlerTables handlers() {
  return {{kSop1, kSop2, kSopc, kSopk, kSopp, kSmem, kVop1, kVop2, kVopc, kVop3, kVop3p, kMai, kDs,
           kFlat, kGlobal, kScratch, kMubuf},
          kClamped,
          run};
}

}  // namespace gfxemu::GFXEMU_ISA
