// Operand access for vector instructions, and the loops over lanes that rows expand to.
#pragma once
#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "exec/values.h"
#include "exec/wave.h"

namespace gfxemu::GFXEMU_ISA {

constexpr int kLanes = 64;
#define LANES for (int l = 0; l < kLanes; ++l)
#define GFXEMU_INLINE inline __attribute__((always_inline))

// ---- the host's floating point mode follows the wave's MODE register ----
// MODE: round f32 [1:0], f16/f64 [3:2]; denormals f32 [5:4], f16/f64 [7:6] (bit 0 inputs, bit 1
// results).
static inline unsigned host_mode(unsigned round, unsigned denorm) {
  static const unsigned rc[4] = {0, 2, 1, 3};  // nearest, +inf, -inf, zero
  return 0x1f80u | rc[round & 3] << 13 | (denorm & 1 ? 0 : 0x40u) | (denorm & 2 ? 0 : 0x8000u);
}
static inline void set_host_mode(unsigned csr) {
#if defined(__x86_64__)
  _mm_setcsr(csr);
#else
  (void)csr;  // flush modes are not reproduced on other hosts
#endif
}
static inline void enter_f32(const Wave& w) {
  set_host_mode(host_mode(w.mode & 3, w.mode >> 4 & 3));
}
struct F64Mode {  // f64 arithmetic inside a wave whose f32 mode differs
  Wave& w;
  explicit F64Mode(Wave& wave) : w(wave) {
    if (w.split_mode) set_host_mode(host_mode(w.mode >> 2 & 3, w.mode >> 6 & 3));
  }
  ~F64Mode() {
    if (w.split_mode) enter_f32(w);
  }
};
struct PlainMode {  // MFMA: nearest, denormals kept
  Wave& w;
  explicit PlainMode(Wave& wave) : w(wave) { set_host_mode(0x1f80u); }
  ~PlainMode() { enter_f32(w); }
};

// ---- operand types ----
template <T t>
struct Val;
template <class Raw, class Type>
struct Direct {
  using raw = Raw;
  using type = Type;
  static GFXEMU_INLINE Type load(Raw r) { return (Type)r; }
  static GFXEMU_INLINE Raw store(Type v) { return (Raw)v; }
};
template <>
struct Val<T::B32> : Direct<uint32_t, uint32_t> {};
template <>
struct Val<T::U32> : Direct<uint32_t, uint32_t> {};
template <>
struct Val<T::S32> : Direct<uint32_t, uint32_t> {};
template <>
struct Val<T::I32> : Direct<uint32_t, int32_t> {};
template <>
struct Val<T::B64> : Direct<uint64_t, uint64_t> {};
template <>
struct Val<T::U64> : Direct<uint64_t, uint64_t> {};
template <>
struct Val<T::I64> : Direct<uint64_t, int64_t> {};
template <>
struct Val<T::B16> {
  using raw = uint32_t;
  using type = uint16_t;
  static GFXEMU_INLINE type load(raw r) { return (type)r; }
  static GFXEMU_INLINE raw store(type v) { return v; }
};
template <>
struct Val<T::U16> : Val<T::B16> {};
template <>
struct Val<T::U16P> : Val<T::B16> {};
template <>
struct Val<T::I16> {
  using raw = uint32_t;
  using type = int16_t;
  static GFXEMU_INLINE type load(raw r) { return (type)r; }
  static GFXEMU_INLINE raw store(type v) { return (uint16_t)v; }
};
template <>
struct Val<T::I16P> : Val<T::I16> {};
template <>
struct Val<T::F32> {
  using raw = uint32_t;
  using type = float;
  static GFXEMU_INLINE type load(raw r) { return bits_as<float>(r); }
  static GFXEMU_INLINE raw store(type v) { return bits_as<uint32_t>(v); }
};
template <>
struct Val<T::F16> {
  using raw = uint32_t;
  using type = float;
  static GFXEMU_INLINE type load(raw r) { return half_to_float(r); }
  static GFXEMU_INLINE raw store(type v) { return float_to_half(v); }
};
template <>
struct Val<T::F16P> : Val<T::F16> {};
template <>
struct Val<T::BF16> {
  using raw = uint32_t;
  using type = float;
  static GFXEMU_INLINE type load(raw r) { return bf16_to_float(r); }
  static GFXEMU_INLINE raw store(type v) { return float_to_bf16(v); }
};
template <>
struct Val<T::F64> {
  using raw = uint64_t;
  using type = double;
  static GFXEMU_INLINE type load(raw r) { return bits_as<double>(r); }
  static GFXEMU_INLINE raw store(type v) { return bits_as<uint64_t>(v); }
};
template <T t>
using Raw = typename Val<t>::raw;
template <T t>
constexpr bool is_f16 = t == T::F16 || t == T::F16P;
template <T t>
constexpr bool keeps_high = t == T::F16P || t == T::U16P || t == T::I16P;

// ---- registers ----
// s_set_gpr_idx: bits 0-2 index the sources, bit 3 the destination, by M0[7:0].
static inline unsigned indexed(const Wave& w, unsigned reg, int which) {
  return (w.s[M0] >> 12 >> which & 1) ? reg + (w.s[M0] & 255) : reg;
}
static GFXEMU_INLINE uint32_t* plane(Wave& w, unsigned reg) { return w.v + reg * kLanes; }

static inline uint32_t special(const Wave& w, unsigned code) {
  switch (code) {
    case 251:
      return w.s64(VCC) == 0;
    case 252:
      return w.s64(EXEC) == 0;
    case 253:
      return w.scc;
    default:
      return 0;
  }
}
static inline uint64_t special64(const Wave& w, unsigned code) {
  switch (code) {
    case 235:
      return kSharedBase;
    case 236:
      return kSharedBase | 0xffffffffu;
    case 237:
      return kPrivateBase;
    case 238:
      return kPrivateBase | 0xffffffffu;
    default:
      return special(w, code);
  }
}
static GFXEMU_INLINE uint32_t scalar32(const Wave& w, const Operand& o) {
  if (o.kind == Kind::SGPR) return w.s[o.reg];
  if (o.kind == Kind::CONST) return (uint32_t)o.value;
  if (o.code >= 235 && o.code <= 238) return (uint32_t)(special64(w, o.code) >> 32);
  return special(w, o.code);
}
static GFXEMU_INLINE uint64_t scalar64(const Wave& w, const Operand& o) {
  if (o.kind == Kind::SGPR) return w.s64(o.reg);
  if (o.kind == Kind::CONST) return o.value;
  return special64(w, o.code);
}

// Lane that dpp_ctrl reads for lane l, or -1.
int dpp_source(unsigned ctrl, int l);

// Operand with modifiers, DPP or SDWA, or a scalar: into buf. Out of line; in valu_fetch.cc.
void fetch32(Wave& w, const Inst& in, int which, T type, uint32_t* buf);
void fetch64(Wave& w, const Inst& in, int which, T type, uint64_t* buf);
void finish32(Wave& w, const Inst& in, T type, uint32_t* out);
void finish64(Wave& w, const Inst& in, T type, uint64_t* out);

template <T t>
static GFXEMU_INLINE const Raw<t>* fetch(Wave& w, const Inst& in, int which, Raw<t>* buf) {
  const Operand& o = in.src[which];
  if constexpr (sizeof(Raw<t>) == 8) {
    if (o.kind == Kind::VGPR && !o.mods && !w.idx_on) {
      const uint32_t *lo = plane(w, o.reg), *hi = lo + kLanes;
      LANES buf[l] = (uint64_t)hi[l] << 32 | lo[l];
    } else {
      fetch64(w, in, which, t, buf);
    }
    return buf;
  } else {
    if (o.kind == Kind::VGPR && !o.mods && !w.idx_on) return plane(w, o.reg);
    if (o.kind != Kind::VGPR && !o.mods) {
      uint32_t x = scalar32(w, o);
      LANES buf[l] = x;
      return buf;
    }
    fetch32(w, in, which, t, buf);
    return buf;
  }
}

static GFXEMU_INLINE void write_plane(uint32_t* dst, const uint32_t* src, uint64_t mask) {
#if defined(__AVX512F__)
  for (int i = 0; i < 4; ++i)
    _mm512_mask_storeu_epi32(dst + 16 * i, (__mmask16)(mask >> 16 * i),
                             _mm512_loadu_si512(src + 16 * i));
#else
  if (mask == ~0ull) {
    memcpy(dst, src, 256);
    return;
  }
  for (int h = 0; h < 2; ++h) {
    uint32_t m = (uint32_t)(mask >> 32 * h);
    for (int l = 0; l < 32; ++l) {
      uint32_t keep = (m >> l & 1) - 1;
      dst[32 * h + l] = (dst[32 * h + l] & keep) | (src[32 * h + l] & ~keep);
    }
  }
#endif
}

static GFXEMU_INLINE unsigned dst_reg(Wave& w, const Inst& in) {
  return w.idx_on ? indexed(w, in.dst.reg, 3) : in.dst.reg;
}

template <T t>
static GFXEMU_INLINE void store(Wave& w, const Inst& in, Raw<t>* out) {
  if constexpr (sizeof(Raw<t>) == 8) {
    if (in.out_mods) finish64(w, in, t, out);
    alignas(64) uint32_t lo[kLanes], hi[kLanes];
    LANES {
      lo[l] = (uint32_t)out[l];
      hi[l] = (uint32_t)(out[l] >> 32);
    }
    uint32_t* d = plane(w, dst_reg(w, in));
    write_plane(d, lo, w.wmask);
    write_plane(d + kLanes, hi, w.wmask);
  } else {
    uint32_t* d = plane(w, dst_reg(w, in));
    if (in.out_mods)
      finish32(w, in, t, out);
    else if constexpr (keeps_high<t>) {
      LANES out[l] = (out[l] & 0xffff) | (d[l] & 0xffff0000u);
    }
    write_plane(d, out, w.wmask);
  }
}

// One bit a lane.
static GFXEMU_INLINE uint64_t pack_mask(const uint32_t* flags) {
#if defined(__AVX512F__)
  uint64_t r = 0;
  for (int i = 0; i < 4; ++i) {
    __m512i x = _mm512_loadu_si512(flags + 16 * i);
    r |= (uint64_t)_mm512_test_epi32_mask(x, x) << 16 * i;
  }
  return r;
#else
  uint64_t r = 0;
  LANES r |= (uint64_t)(flags[l] != 0) << l;
  return r;
#endif
}

template <T... ts>
constexpr bool any_f64 = ((ts == T::F64) || ...);
template <T... ts>
constexpr bool any_f16 = (is_f16<ts> || ...);

void f16_mode_fault(Wave& w, const Inst& in);
struct NoMode {
  explicit NoMode(Wave&) {}
};

#define GFXEMU_LANES_BEGIN(...)                                      \
  if constexpr (any_f16<__VA_ARGS__>)                                \
    if (w.f16_mode_odd) [[unlikely]] {                               \
      f16_mode_fault(w, in);                                         \
      return;                                                        \
    }                                                                \
  std::conditional_t<any_f64<__VA_ARGS__>, F64Mode, NoMode> mode(w); \
  w.wmask = w.exec();

template <T D, T A, class F>
static GFXEMU_INLINE void lanes1(Wave& w, const Inst& in, F f) {
  GFXEMU_LANES_BEGIN(D, A)
  alignas(64) Raw<A> ab[kLanes];
  alignas(64) Raw<D> out[kLanes];
  const Raw<A>* a = fetch<A>(w, in, 0, ab);
  LANES out[l] = Val<D>::store((typename Val<D>::type)f(Val<A>::load(a[l])));
  store<D>(w, in, out);
}

template <T D, T A, T B, class F>
static GFXEMU_INLINE void lanes2(Wave& w, const Inst& in, F f) {
  GFXEMU_LANES_BEGIN(D, A, B)
  alignas(64) Raw<A> ab[kLanes];
  alignas(64) Raw<B> bb[kLanes];
  alignas(64) Raw<D> out[kLanes];
  const Raw<A>* a = fetch<A>(w, in, 0, ab);
  const Raw<B>* b = fetch<B>(w, in, 1, bb);
  LANES out[l] = Val<D>::store((typename Val<D>::type)f(Val<A>::load(a[l]), Val<B>::load(b[l])));
  store<D>(w, in, out);
}

// The old destination is the third input.
template <T D, T A, T B, class F>
static GFXEMU_INLINE void lanes2d(Wave& w, const Inst& in, F f) {
  GFXEMU_LANES_BEGIN(D, A, B)
  alignas(64) Raw<A> ab[kLanes];
  alignas(64) Raw<B> bb[kLanes];
  alignas(64) Raw<D> out[kLanes];
  const Raw<A>* a = fetch<A>(w, in, 0, ab);
  const Raw<B>* b = fetch<B>(w, in, 1, bb);
  const uint32_t* d = plane(w, dst_reg(w, in));
  if constexpr (sizeof(Raw<D>) == 8) {
    LANES out[l] = Val<D>::store(f(Val<A>::load(a[l]), Val<B>::load(b[l]),
                                   Val<D>::load((uint64_t)d[l + kLanes] << 32 | d[l])));
  } else {
    LANES out[l] = Val<D>::store(f(Val<A>::load(a[l]), Val<B>::load(b[l]), Val<D>::load(d[l])));
  }
  store<D>(w, in, out);
}

template <T D, T A, T B, T C, class F>
static GFXEMU_INLINE void lanes3(Wave& w, const Inst& in, F f) {
  GFXEMU_LANES_BEGIN(D, A, B, C)
  alignas(64) Raw<A> ab[kLanes];
  alignas(64) Raw<B> bb[kLanes];
  alignas(64) Raw<C> cb[kLanes];
  alignas(64) Raw<D> out[kLanes];
  const Raw<A>* a = fetch<A>(w, in, 0, ab);
  const Raw<B>* b = fetch<B>(w, in, 1, bb);
  const Raw<C>* c = fetch<C>(w, in, 2, cb);
  LANES out[l] = Val<D>::store(
      (typename Val<D>::type)f(Val<A>::load(a[l]), Val<B>::load(b[l]), Val<C>::load(c[l])));
  store<D>(w, in, out);
}

template <bool CMPX, T A, T B, class F>
static GFXEMU_INLINE void compare(Wave& w, const Inst& in, F f) {
  GFXEMU_LANES_BEGIN(A, B)
  alignas(64) Raw<A> ab[kLanes];
  alignas(64) Raw<B> bb[kLanes];
  alignas(64) uint32_t flags[kLanes];
  const Raw<A>* a = fetch<A>(w, in, 0, ab);
  const Raw<B>* b = fetch<B>(w, in, 1, bb);
  LANES flags[l] = f(Val<A>::load(a[l]), Val<B>::load(b[l])) ? 1u : 0u;
  uint64_t r = pack_mask(flags) & w.wmask;
  w.set_s64(in.sdst.reg, r);
  if (CMPX) w.exec() = r;
}

}  // namespace gfxemu::GFXEMU_ISA
