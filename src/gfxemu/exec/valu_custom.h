// Vector instructions that do not fit "one expression a lane": carries, lane moves, dot products,
// small-float conversions. Named by the VX and PX rows.
#pragma once
#include "exec/core.h"

namespace gfxemu::GFXEMU_ISA {

inline void do_nothing(Wave&, const Inst&) {}

// ---- moves between lanes ----
inline void readfirstlane(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes];
  const uint32_t* a = fetch<T::B32>(w, in, 0, ab);
  w.s[in.dst.reg] = a[w.exec() ? __builtin_ctzll(w.exec()) : 0];
}
inline void readlane(Wave& w, const Inst& in) {
  alignas(64) uint32_t ab[kLanes];
  const uint32_t* a = fetch<T::B32>(w, in, 0, ab);
  w.s[in.dst.reg] = a[scalar32(w, in.src[1]) & 63];
}
inline void writelane(Wave& w, const Inst& in) {
  plane(w, dst_reg(w, in))[scalar32(w, in.src[1]) & 63] = scalar32(w, in.src[0]);
}
template <int HALF>
inline void mbcnt(Wave& w, const Inst& in) {
  lanes2<T::U32, T::B32, T::U32>(w, in, [](uint32_t a, uint32_t b) { return a + b; });
}
template <>
inline void mbcnt<0>(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], out[kLanes];
  const uint32_t *a = fetch<T::B32>(w, in, 0, ab), *b = fetch<T::U32>(w, in, 1, bb);
  LANES out[l] = bit_count(a[l] & (l < 32 ? (1u << (l & 31)) - 1 : ~0u)) + b[l];
  store<T::U32>(w, in, out);
}
template <>
inline void mbcnt<1>(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], out[kLanes];
  const uint32_t *a = fetch<T::B32>(w, in, 0, ab), *b = fetch<T::U32>(w, in, 1, bb);
  LANES out[l] = bit_count(a[l] & (l < 32 ? 0u : (1u << (l & 31)) - 1)) + b[l];
  store<T::U32>(w, in, out);
}
inline void mov_b64(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint64_t ab[kLanes];
  const uint64_t* a = fetch<T::B64>(w, in, 0, ab);
  alignas(64) uint64_t out[kLanes];
  memcpy(out, a, sizeof(out));
  store<T::B64>(w, in, out);
}
inline void accvgpr_mov(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes];
  const uint32_t* a = fetch<T::B32>(w, in, 0, ab);
  write_plane(plane(w, in.dst.reg), a, w.wmask);
}
inline void swap_b32(Wave& w, const Inst& in) {
  uint32_t *d = plane(w, dst_reg(w, in)),
           *s = plane(w, w.idx_on ? indexed(w, in.src[0].reg, 0) : in.src[0].reg);
  alignas(64) uint32_t t[kLanes], u[kLanes];
  memcpy(t, d, 256);
  memcpy(u, s, 256);
  write_plane(d, u, w.exec());
  write_plane(s, t, w.exec());
}
// Swaps odd rows of dst with even rows of src (rows of 16, or halves).
template <int ROW>
inline void permlane_swap(Wave& w, const Inst& in) {
  uint32_t *d = plane(w, in.dst.reg), *s = plane(w, in.src[0].reg);
  uint64_t exec = w.exec();
  LANES {
    if (l & ROW) continue;
    uint32_t x = d[l + ROW], y = s[l];
    if (exec >> (l + ROW) & 1) d[l + ROW] = y;
    if (exec >> l & 1) s[l] = x;
  }
}
inline void cndmask(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], out[kLanes];
  const uint32_t *a = fetch<T::B32>(w, in, 0, ab), *b = fetch<T::B32>(w, in, 1, bb);
  memcpy(out, a, 256);
  write_plane(out, b, w.s64(in.src[2].reg));
  store<T::B32>(w, in, out);
}

// ---- carries ----
template <int MODE>  // a+b, a-b, b-a
inline void add_co(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], out[kLanes], carry[kLanes];
  const uint32_t *a = fetch<T::U32>(w, in, 0, ab), *b = fetch<T::U32>(w, in, 1, bb);
  LANES {
    uint32_t x = MODE == 2 ? b[l] : a[l], y = MODE == 2 ? a[l] : b[l];
    out[l] = MODE == 0 ? x + y : x - y;
    carry[l] = MODE == 0 ? out[l] < x : y > x;
  }
  uint64_t c = pack_mask(carry) & w.wmask;
  store<T::U32>(w, in, out);
  w.set_s64(in.sdst.reg, c);
}
template <int MODE>
inline void addc_co(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], out[kLanes], carry[kLanes];
  const uint32_t *a = fetch<T::U32>(w, in, 0, ab), *b = fetch<T::U32>(w, in, 1, bb);
  uint64_t ci = w.s64(in.src[2].reg);
  LANES {
    uint64_t x = MODE == 2 ? b[l] : a[l], y = MODE == 2 ? a[l] : b[l], c = ci >> l & 1;
    uint64_t r = MODE == 0 ? x + y + c : x - y - c;
    out[l] = (uint32_t)r;
    carry[l] = (uint32_t)(r >> 32) & 1;
  }
  uint64_t c = pack_mask(carry) & w.wmask;
  store<T::U32>(w, in, out);
  w.set_s64(in.sdst.reg, c);
}
template <class I>
inline void mad_64(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], carry[kLanes];
  alignas(64) uint64_t cb[kLanes], out[kLanes];
  const uint32_t *a = fetch<T::U32>(w, in, 0, ab), *b = fetch<T::U32>(w, in, 1, bb);
  const uint64_t* c = fetch<T::U64>(w, in, 2, cb);
  LANES {
    uint64_t p, r;
    if constexpr ((I)-1 < (I)0)
      p = (uint64_t)((int64_t)(int32_t)a[l] * (int32_t)b[l]);
    else
      p = (uint64_t)a[l] * b[l];
    r = p + c[l];
    if constexpr ((I)-1 < (I)0)
      carry[l] = (uint32_t)((~(p ^ c[l]) & (p ^ r)) >> 63);
    else
      carry[l] = r < p;
    out[l] = r;
  }
  uint64_t k = pack_mask(carry) & w.wmask;
  store<T::U64>(w, in, out);
  w.set_s64(in.sdst.reg, k);
}

// ---- constants in the instruction: src[1] or src[2] is the literal ----
inline void fmamk_f32(Wave& w, const Inst& in) {
  lanes3<T::F32, T::F32, T::F32, T::F32>(w, in,
                                         [](float a, float b, float c) { return fmaf(a, b, c); });
}
inline void fmaak_f32(Wave& w, const Inst& in) { fmamk_f32(w, in); }
inline void madmk_f32(Wave& w, const Inst& in) {
  lanes3<T::F32, T::F32, T::F32, T::F32>(w, in,
                                         [](float a, float b, float c) { return a * b + c; });
}
inline void madak_f32(Wave& w, const Inst& in) { madmk_f32(w, in); }
inline void madmk_f16(Wave& w, const Inst& in) {
  lanes3<T::F16P, T::F16, T::F16, T::F16>(
      w, in, [](float a, float b, float c) { return round_f16(a * b) + c; });
}
inline void madak_f16(Wave& w, const Inst& in) { madmk_f16(w, in); }
inline void mad_legacy_f32(Wave& w, const Inst& in) {
  lanes3<T::F32, T::F32, T::F32, T::F32>(
      w, in, [](float a, float b, float c) { return (a == 0 || b == 0 ? 0.0f : a * b) + c; });
}

// ---- division ----
template <class F, class U, int EXP, int MANT, T t>
inline void div_scale(Wave& w, const Inst& in) {
  F64Mode mode(w);
  w.wmask = w.exec();
  alignas(64) Raw<t> ab[kLanes], bb[kLanes], cb[kLanes], out[kLanes];
  const Raw<t>*a = fetch<t>(w, in, 0, ab), *b = fetch<t>(w, in, 1, bb), *c = fetch<t>(w, in, 2, cb);
  uint64_t vcc = 0;
  constexpr int kMax = (1 << EXP) - 1;
  const F up = bits_as<F>((U)((kMax >> 1) + (EXP == 8 ? 64 : 128)) << MANT);
  const F down = bits_as<F>((U)((kMax >> 1) - (EXP == 8 ? 64 : 128)) << MANT);
  LANES {
    F s0 = bits_as<F>(a[l]), s1 = bits_as<F>(b[l]), s2 = bits_as<F>(c[l]);
    int e1 = (int)(b[l] >> MANT) & kMax, e2 = (int)(c[l] >> MANT) & kMax;
    F r = s0;
    bool flag = false;
    auto tiny = [](F x) { return fabs(x) < bits_as<F>((U)1 << MANT); };
    if (s2 == 0 || s1 == 0) {
      r = (F)NAN;
    } else if (e2 - e1 >= (EXP == 8 ? 96 : 768)) {  // the quotient would overflow
      flag = true;
      if (a[l] == b[l]) r = s0 * up;
    } else if (e1 == 0) {  // denormal denominator
      r = s0 * up;
    } else if (tiny((F)(1 / s1)) && tiny((F)(s2 / s1))) {
      // The documents say up, which would overflow a denominator this large, and which div_fmas,
      // making a quotient below 2 smaller, would not undo.
      flag = true;
      if (a[l] == b[l]) r = s0 * down;
    } else if (tiny((F)(1 / s1))) {
      r = s0 * down;
    } else if (tiny((F)(s2 / s1))) {
      flag = true;
      if (a[l] == c[l]) r = s0 * up;
    } else if (e2 <= (EXP == 8 ? 23 : 53)) {
      r = s0 * up;
    }
    if (flag) vcc |= 1ull << l;
    out[l] = bits_as<U>(r);
  }
  store<t>(w, in, out);
  w.set_s64(in.sdst.reg, vcc & w.wmask);
}
inline void div_scale_f32(Wave& w, const Inst& in) {
  div_scale<float, uint32_t, 8, 23, T::F32>(w, in);
}
inline void div_scale_f64(Wave& w, const Inst& in) {
  div_scale<double, uint64_t, 11, 52, T::F64>(w, in);
}
template <class F, T t, int SCALE>
inline void div_fmas(Wave& w, const Inst& in) {
  F64Mode mode(w);
  w.wmask = w.exec();
  alignas(64) Raw<t> ab[kLanes], bb[kLanes], cb[kLanes], out[kLanes];
  const Raw<t>*a = fetch<t>(w, in, 0, ab), *b = fetch<t>(w, in, 1, bb), *c = fetch<t>(w, in, 2, cb);
  uint64_t vcc = w.vcc();
  LANES {
    F x = bits_as<F>(a[l]), y = bits_as<F>(b[l]), z = bits_as<F>(c[l]), r;
    const bool scaled = vcc >> l & 1;
    const int scale = fabs(z) > 2 ? SCALE : -SCALE;
    // Scaled results are rounded once, also to a denormal.
    if constexpr (sizeof(F) == 4)
      r = scaled ? (F)ldexp(fma((double)x, (double)y, (double)z), scale) : fmaf(x, y, z);
    else
      r = scaled ? (F)ldexpl(fmal(x, y, z), scale) : fma(x, y, z);
    out[l] = bits_as<Raw<t>>(r);
  }
  store<t>(w, in, out);
}
inline void div_fmas_f32(Wave& w, const Inst& in) { div_fmas<float, T::F32, 64>(w, in); }
inline void div_fmas_f64(Wave& w, const Inst& in) { div_fmas<double, T::F64, 128>(w, in); }

inline void mqsad_u32(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint64_t ab[kLanes];
  alignas(64) uint32_t bb[kLanes], out[4][kLanes];
  const uint64_t* a = fetch<T::B64>(w, in, 0, ab);
  const uint32_t* b = fetch<T::B32>(w, in, 1, bb);
  const uint32_t* c = plane(w, in.src[2].reg);
  if (in.src[2].kind != Kind::VGPR) return fault(w, in, "scalar accumulator is not supported");
  for (int i = 0; i < 4; ++i)
    LANES out[i][l] = msad_u8((uint32_t)(a[l] >> 8 * i), b[l]) + c[i * kLanes + l];
  for (int i = 0; i < 4; ++i) write_plane(plane(w, in.dst.reg + i), out[i], w.wmask);
}

// ---- bit tables ----
template <T t>
inline void bitop3(Wave& w, const Inst& in) {
  uint32_t table = in.literal;
  lanes3<t, t, t, t>(w, in, [table](uint32_t a, uint32_t b, uint32_t c) {
    uint32_t r = 0;
    for (int i = 0; i < 8; ++i) {
      uint32_t on = 0u - (table >> i & 1);
      r |= on & (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    }
    return r;
  });
}
inline void bitop3_b32(Wave& w, const Inst& in) { bitop3<T::B32>(w, in); }
inline void bitop3_b16(Wave& w, const Inst& in) { bitop3<T::B16>(w, in); }

inline void pack_b32_f16(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], out[kLanes];
  const uint32_t *a = fetch<T::F16>(w, in, 0, ab), *b = fetch<T::F16>(w, in, 1, bb);
  LANES out[l] = (a[l] & 0xffff) | b[l] << 16;
  store<T::B32>(w, in, out);
}
template <class I>
inline void ashr_pk(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], cb[kLanes], out[kLanes];
  const uint32_t *a = fetch<T::I32>(w, in, 0, ab), *b = fetch<T::I32>(w, in, 1, bb),
                 *c = fetch<T::B32>(w, in, 2, cb);
  const uint32_t* old = plane(w, in.dst.reg);
  bool hi = in.opsel & 8;
  LANES {
    constexpr int32_t lo = (I)-1 < (I)0 ? -128 : 0, top = (I)-1 < (I)0 ? 127 : 255;
    int32_t x = (int32_t)a[l] >> (c[l] & 31), y = (int32_t)b[l] >> (c[l] & 31);
    x = x < lo ? lo : x > top ? top : x;
    y = y < lo ? lo : y > top ? top : y;
    uint32_t r = (uint32_t)(x & 255) | (uint32_t)(y & 255) << 8;
    out[l] = hi ? (old[l] & 0xffff) | r << 16 : (old[l] & 0xffff0000u) | r;
  }
  store<T::B32>(w, in, out);
}

// ---- dot products ----
inline void no_clamp(Wave& w, const Inst& in) {
  if (in.clamp) fault(w, in, "the clamp bit is not supported here");
}
template <float (*CONVERT)(uint32_t)>
inline void dot2c_f32(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], out[kLanes];
  const uint32_t *a = fetch<T::B32>(w, in, 0, ab), *b = fetch<T::B32>(w, in, 1, bb),
                 *d = plane(w, dst_reg(w, in));
  LANES out[l] = bits_as<uint32_t>(
      fmaf(CONVERT(a[l] >> 16), CONVERT(b[l] >> 16),
           fmaf(CONVERT(a[l] & 0xffff), CONVERT(b[l] & 0xffff), bits_as<float>(d[l]))));
  store<T::F32>(w, in, out);
}
template <class I, int N>
static GFXEMU_INLINE uint32_t dot(uint32_t a, uint32_t b, uint32_t c) {
  constexpr int kBits = 32 / N;
  uint32_t r = c;
  for (int i = 0; i < N; ++i) {
    uint32_t x = a << (32 - kBits * (i + 1)), y = b << (32 - kBits * (i + 1));
    if constexpr ((I)-1 < (I)0)
      r += (uint32_t)(((int32_t)x >> (32 - kBits)) * ((int32_t)y >> (32 - kBits)));
    else
      r += (x >> (32 - kBits)) * (y >> (32 - kBits));
  }
  return r;
}
template <int N>
inline void dotc_int(Wave& w, const Inst& in) {
  if (in.clamp) return no_clamp(w, in);
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], out[kLanes];
  const uint32_t *a = fetch<T::B32>(w, in, 0, ab), *b = fetch<T::B32>(w, in, 1, bb),
                 *d = plane(w, dst_reg(w, in));
  LANES out[l] = dot<int32_t, N>(a[l], b[l], d[l]);
  store<T::B32>(w, in, out);
}
inline void dot2c_i32(Wave& w, const Inst& in) { dotc_int<2>(w, in); }
inline void dot4c_i32(Wave& w, const Inst& in) { dotc_int<4>(w, in); }
inline void dot8c_i32(Wave& w, const Inst& in) { dotc_int<8>(w, in); }
inline void pk_fmac_f16(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], out[kLanes];
  const uint32_t *a = fetch<T::B32>(w, in, 0, ab), *b = fetch<T::B32>(w, in, 1, bb),
                 *d = plane(w, dst_reg(w, in));
  LANES {
    uint32_t lo = float_to_half(fma_f16(half_to_float(a[l] & 0xffff), half_to_float(b[l] & 0xffff),
                                        half_to_float(d[l] & 0xffff)));
    uint32_t hi = float_to_half(
        fma_f16(half_to_float(a[l] >> 16), half_to_float(b[l] >> 16), half_to_float(d[l] >> 16)));
    out[l] = lo | hi << 16;
  }
  store<T::B32>(w, in, out);
}

// ---- 8-bit floats: FNUZ on gfx942, OCP on gfx950; overflow follows MODE.FP16_OVFL (bit 23) ----
template <class F>
static GFXEMU_INLINE void with_fp8(Wave& w, bool bf8, F f) {
  if (wave_arch(w) == GFX950)
    bf8 ? f(E5M2{}) : f(E4M3{});
  else
    bf8 ? f(E5M2Fnuz{}) : f(E4M3Fnuz{});
}
inline float scale_of(uint32_t bits) {  // the exponent of an f32, as E8M0
  uint32_t e = bits >> 23 & 255;
  return e == 255 ? bits_as<float>(0x7fc00000u) : e == 0 ? 0x1p-127f : bits_as<float>(e << 23);
}
template <int BF8>
inline void cvt_f32_fp8(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], out[kLanes];
  const uint32_t* a = fetch<T::B32>(w, in, 0, ab);
  with_fp8(w, BF8, [&](auto s) { LANES out[l] = bits_as<uint32_t>(s.decode(a[l] & 255)); });
  bool sdwa = in.src[0].mods & SDWA;
  if (in.out_mods && (!sdwa || in.clamp || in.omod || in.dst_sel != 6))
    finish32(w, in, T::F32, out);
  write_plane(plane(w, dst_reg(w, in)), out, w.wmask);
}
template <int BF8>
inline void cvt_pk_f32_fp8(Wave& w, const Inst& in) {
  if (in.clamp || in.omod || (in.src[0].mods & SDWA && in.dst_sel != 6))
    return fault(w, in, "output modifier is not supported here");
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], lo[kLanes], hi[kLanes];
  const uint32_t* a = fetch<T::B32>(w, in, 0, ab);
  int sh = in.opsel & 1 ? 16 : 0;
  with_fp8(w, BF8, [&](auto s) {
    LANES {
      lo[l] = bits_as<uint32_t>(s.decode(a[l] >> sh & 255));
      hi[l] = bits_as<uint32_t>(s.decode(a[l] >> sh >> 8 & 255));
    }
  });
  uint32_t* d = plane(w, dst_reg(w, in));
  write_plane(d, lo, w.wmask);
  write_plane(d + kLanes, hi, w.wmask);
}
// Writes a byte or a half of the destination, the rest stays.
inline void merge(Wave& w, const Inst& in, const uint32_t* x, int shift, uint32_t field) {
  alignas(64) uint32_t out[kLanes];
  uint32_t* d = plane(w, dst_reg(w, in));
  uint32_t m = field << shift;
  LANES out[l] = (d[l] & ~m) | (x[l] << shift & m);
  write_plane(d, out, w.wmask);
}
template <int BF8>
inline void cvt_pk_fp8(Wave& w, const Inst& in) {
  if (in.clamp || in.omod) return no_clamp(w, in);
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], out[kLanes];
  const uint32_t *a = fetch<T::F32>(w, in, 0, ab), *b = fetch<T::F32>(w, in, 1, bb);
  bool sat = w.mode >> 23 & 1;
  with_fp8(w, BF8, [&](auto s) {
    LANES out[l] = s.encode(bits_as<float>(a[l]), sat) | s.encode(bits_as<float>(b[l]), sat) << 8;
  });
  merge(w, in, out, in.opsel & 8 ? 16 : 0, 0xffff);
}
template <int BF8>
inline void cvt_sr_fp8(Wave& w, const Inst& in) {
  if (in.clamp || in.omod) return no_clamp(w, in);
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], out[kLanes];
  const uint32_t *a = fetch<T::F32>(w, in, 0, ab), *b = fetch<T::B32>(w, in, 1, bb);
  bool sat = w.mode >> 23 & 1;
  with_fp8(w, BF8, [&](auto s) { LANES out[l] = s.encode(bits_as<float>(a[l]), sat, true, b[l]); });
  merge(w, in, out, (in.opsel >> 2) * 8, 0xff);
}
template <T t>
inline void cvt_sr_16(Wave& w, const Inst& in) {
  if (in.clamp || in.omod) return no_clamp(w, in);
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes], bb[kLanes], out[kLanes];
  const uint32_t *a = fetch<T::F32>(w, in, 0, ab), *b = fetch<T::B32>(w, in, 1, bb);
  LANES {
    if constexpr (t == T::BF16) {
      uint32_t u = a[l];
      out[l] = (u & 0x7f800000u) == 0x7f800000u ? float_to_bf16(bits_as<float>(u))
                                                : (u + (b[l] >> 16)) >> 16;
    } else {
      out[l] = Small<5, 10, 15, false, true, true>::encode(bits_as<float>(a[l]), false, true, b[l]);
    }
  }
  merge(w, in, out, in.opsel & 8 ? 16 : 0, 0xffff);
}

// ---- gfx950: conversions with a scale. To a small format divides by it, from one multiplies ----
template <T t>
static GFXEMU_INLINE float from16(uint32_t x) {
  return t == T::F16 ? half_to_float(x & 0xffff) : bf16_to_float(x & 0xffff);
}
template <T t>
static GFXEMU_INLINE uint32_t to16(float x) {
  return t == T::F16 ? float_to_half(x) : float_to_bf16(x);
}
template <int BF8>
static GFXEMU_INLINE uint32_t encode8(float x, float scale, bool sr = false, uint32_t noise = 0) {
  if constexpr (BF8)
    return E5M2::encode(x / scale, true, sr, noise);
  else
    return E4M3::encode(x / scale, true, sr, noise);
}
template <int BF8>
static GFXEMU_INLINE float decode8(uint32_t x) {
  if constexpr (BF8)
    return E5M2::decode(x & 255);
  else
    return E4M3::decode(x & 255);
}
struct Sources {  // the three sources as planes
  alignas(64) uint32_t buf[3][kLanes];
  const uint32_t* p[3];
  Sources(Wave& w, const Inst& in) {
    w.wmask = w.exec();
    for (int i = 0; i < 3; ++i)
      p[i] = in.row->src[i] == T::NONE || dwords(in.row->src[i]) > 1 ? nullptr
             : in.row->src[i] == T::F32 ? fetch<T::F32>(w, in, i, buf[i])
                                        : fetch<T::B32>(w, in, i, buf[i]);
  }
};
#define GFXEMU_SCALE(index) scale_of(s.p[index][l])
template <int BF8>
inline void scale_pk_fp8_f32(Wave& w, const Inst& in) {
  Sources s(w, in);
  alignas(64) uint32_t out[kLanes];
  LANES out[l] = encode8<BF8>(bits_as<float>(s.p[0][l]), GFXEMU_SCALE(2)) |
                 encode8<BF8>(bits_as<float>(s.p[1][l]), GFXEMU_SCALE(2)) << 8;
  merge(w, in, out, in.opsel & 8 ? 16 : 0, 0xffff);
}
template <int BF8, T t>
inline void scale_pk_fp8_16(Wave& w, const Inst& in) {
  Sources s(w, in);
  alignas(64) uint32_t out[kLanes];
  LANES out[l] = encode8<BF8>(from16<t>(s.p[0][l]), GFXEMU_SCALE(1)) |
                 encode8<BF8>(from16<t>(s.p[0][l] >> 16), GFXEMU_SCALE(1)) << 8;
  merge(w, in, out, in.opsel & 8 ? 16 : 0, 0xffff);
}
template <int BF8, T t>
inline void scale_sr_fp8(Wave& w, const Inst& in) {
  Sources s(w, in);
  alignas(64) uint32_t out[kLanes];
  LANES {
    float x;
    if constexpr (t == T::F32)
      x = bits_as<float>(s.p[0][l]);
    else
      x = from16<t>(s.p[0][l]);
    out[l] = encode8<BF8>(x, GFXEMU_SCALE(2), true, s.p[1][l]);
  }
  merge(w, in, out, (in.opsel >> 2) * 8, 0xff);
}
inline void write_pair(Wave& w, const Inst& in, const uint32_t* lo, const uint32_t* hi) {
  uint32_t* d = plane(w, in.dst.reg);
  write_plane(d, lo, w.wmask);
  write_plane(d + kLanes, hi, w.wmask);
}
template <int BF8>
inline void scale_pk_f32_fp8(Wave& w, const Inst& in) {
  Sources s(w, in);
  alignas(64) uint32_t lo[kLanes], hi[kLanes];
  int sh = in.opsel & 1 ? 16 : 0;
  LANES {
    lo[l] = bits_as<uint32_t>(decode8<BF8>(s.p[0][l] >> sh) * GFXEMU_SCALE(1));
    hi[l] = bits_as<uint32_t>(decode8<BF8>(s.p[0][l] >> sh >> 8) * GFXEMU_SCALE(1));
  }
  write_pair(w, in, lo, hi);
}
template <int BF8>
inline void scale_f32_fp8(Wave& w, const Inst& in) {
  Sources s(w, in);
  alignas(64) uint32_t out[kLanes];
  LANES out[l] = bits_as<uint32_t>(decode8<BF8>(s.p[0][l] >> 8 * (in.opsel & 3)) * GFXEMU_SCALE(1));
  write_plane(plane(w, in.dst.reg), out, w.wmask);
}
template <int BF8>
inline void scale_f16_fp8(Wave& w, const Inst& in) {
  Sources s(w, in);
  alignas(64) uint32_t out[kLanes];
  LANES out[l] = float_to_half(decode8<BF8>(s.p[0][l] >> 8 * (in.opsel & 3)) * GFXEMU_SCALE(1));
  merge(w, in, out, in.opsel & 8 ? 16 : 0, 0xffff);
}
template <int BF8, T t>
inline void scale_pk_16_fp8(Wave& w, const Inst& in) {
  Sources s(w, in);
  alignas(64) uint32_t out[kLanes];
  int sh = in.opsel & 1 ? 16 : 0;
  LANES out[l] = to16<t>(decode8<BF8>(s.p[0][l] >> sh) * GFXEMU_SCALE(1)) |
                 to16<t>(decode8<BF8>(s.p[0][l] >> sh >> 8) * GFXEMU_SCALE(1)) << 16;
  write_plane(plane(w, in.dst.reg), out, w.wmask);
}
inline void scale_pk_fp4_f32(Wave& w, const Inst& in) {
  Sources s(w, in);
  alignas(64) uint32_t out[kLanes];
  LANES out[l] = E2M1::encode(bits_as<float>(s.p[0][l]) / GFXEMU_SCALE(2), true) |
                 E2M1::encode(bits_as<float>(s.p[1][l]) / GFXEMU_SCALE(2), true) << 4;
  merge(w, in, out, (in.opsel >> 2) * 8, 0xff);
}
template <T t>
inline void scale_pk_fp4_16(Wave& w, const Inst& in) {
  Sources s(w, in);
  alignas(64) uint32_t out[kLanes];
  LANES out[l] = E2M1::encode(from16<t>(s.p[0][l]) / GFXEMU_SCALE(1), true) |
                 E2M1::encode(from16<t>(s.p[0][l] >> 16) / GFXEMU_SCALE(1), true) << 4;
  merge(w, in, out, (in.opsel >> 2) * 8, 0xff);
}
template <T t>
inline void scale_sr_pk_fp4(Wave& w, const Inst& in) {
  Sources s(w, in);
  alignas(64) uint32_t out[kLanes];
  alignas(64) uint64_t pair[kLanes];
  if constexpr (t == T::F32) fetch64(w, in, 0, T::B64, pair);
  LANES {
    float x, y;
    if constexpr (t == T::F32) {
      x = bits_as<float>((uint32_t)pair[l]);
      y = bits_as<float>((uint32_t)(pair[l] >> 32));
    } else {
      x = from16<t>(s.p[0][l]);
      y = from16<t>(s.p[0][l] >> 16);
    }
    out[l] = E2M1::encode(x / GFXEMU_SCALE(2), true, true, s.p[1][l]) |
             E2M1::encode(y / GFXEMU_SCALE(2), true, true, s.p[1][l]) << 4;
  }
  merge(w, in, out, (in.opsel >> 2) * 8, 0xff);
}
inline void scale_pk_f32_fp4(Wave& w, const Inst& in) {
  Sources s(w, in);
  alignas(64) uint32_t lo[kLanes], hi[kLanes];
  int sh = 8 * (in.opsel & 3);
  LANES {
    lo[l] = bits_as<uint32_t>(E2M1::decode(s.p[0][l] >> sh & 15) * GFXEMU_SCALE(1));
    hi[l] = bits_as<uint32_t>(E2M1::decode(s.p[0][l] >> sh >> 4 & 15) * GFXEMU_SCALE(1));
  }
  write_pair(w, in, lo, hi);
}
template <T t>
inline void scale_pk_16_fp4(Wave& w, const Inst& in) {
  Sources s(w, in);
  alignas(64) uint32_t out[kLanes];
  int sh = 8 * (in.opsel & 3);
  LANES out[l] = to16<t>(E2M1::decode(s.p[0][l] >> sh & 15) * GFXEMU_SCALE(1)) |
                 to16<t>(E2M1::decode(s.p[0][l] >> sh >> 4 & 15) * GFXEMU_SCALE(1)) << 16;
  write_plane(plane(w, in.dst.reg), out, w.wmask);
}
// 32 values to and from 6-bit fields in six registers. FORM: 0 plain, 1 stochastic (src1), 2 two
// tuples of sixteen f32.
template <class S, T t, int FORM>
inline void scale_to_6bit(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t scale[kLanes], noise[kLanes], out[6][kLanes];
  fetch32(w, in, FORM == 0 ? 1 : 2, T::F32, scale);
  if (FORM == 1) fetch32(w, in, 1, T::B32, noise);
  if (in.src[0].kind != Kind::VGPR || (FORM == 2 && in.src[1].kind != Kind::VGPR))
    return fault(w, in, "source tuple is no VGPR");
  const uint32_t *a = plane(w, in.src[0].reg), *b = FORM == 2 ? plane(w, in.src[1].reg) : nullptr;
  LANES {
    uint32_t words[6] = {};
    float sc = scale_of(scale[l]);
    for (int i = 0; i < 32; ++i) {
      float x;
      if constexpr (t != T::F32)
        x = from16<t>(a[(i / 2) * kLanes + l] >> 16 * (i & 1));
      else if constexpr (FORM == 2)
        x = bits_as<float>((i & 1 ? b : a)[(i / 2) * kLanes + l]);
      else
        x = bits_as<float>(a[i * kLanes + l]);
      uint64_t c = S::encode(x / sc, true, FORM == 1, FORM == 1 ? noise[l] : 0);
      int bit = 6 * i;
      uint64_t put = c << (bit & 31);
      words[bit / 32] |= (uint32_t)put;
      if (put >> 32) words[bit / 32 + 1] |= (uint32_t)(put >> 32);
    }
    for (int i = 0; i < 6; ++i) out[i][l] = words[i];
  }
  for (int i = 0; i < 6; ++i) write_plane(plane(w, in.dst.reg + i), out[i], w.wmask);
}
template <class S, T t>
inline void scale_from_6bit(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t scale[kLanes], words[6][kLanes], out[kLanes];
  fetch32(w, in, 1, T::F32, scale);
  if (in.src[0].kind != Kind::VGPR) return fault(w, in, "source tuple is no VGPR");
  memcpy(words, plane(w, in.src[0].reg), sizeof(words));
  auto value = [&](int l, int i) {
    int bit = 6 * i;
    uint64_t x = words[bit / 32][l] | (bit / 32 < 5 ? (uint64_t)words[bit / 32 + 1][l] << 32 : 0);
    return S::decode((uint32_t)(x >> (bit & 31)) & 63) * scale_of(scale[l]);
  };
  for (int i = 0; i < (t == T::F32 ? 32 : 16); ++i) {
    LANES {
      if constexpr (t == T::F32)
        out[l] = bits_as<uint32_t>(value(l, i));
      else
        out[l] = to16<t>(value(l, 2 * i)) | to16<t>(value(l, 2 * i + 1)) << 16;
    }
    write_plane(plane(w, in.dst.reg + i), out, w.wmask);
  }
}
#undef GFXEMU_SCALE

// ---- VOP3P ----
// One 32-bit plane a source, as packed rows see it (f32 constants keep their 32 bits).
static GFXEMU_INLINE const uint32_t* packed(Wave& w, const Inst& in, int which, uint32_t* buf) {
  return fetch<T::B32>(w, in, which, buf);
}
// Half `hi` of source `which` under op_sel: shift that brings it down.
static GFXEMU_INLINE int half_shift(const Inst& in, int which, int hi) {
  return ((hi ? in.opsel_hi : in.opsel) >> which & 1) * 16;
}
template <int N, class F>
static GFXEMU_INLINE void packed_f16(Wave& w, const Inst& in, F f) {
  if (w.f16_mode_odd) return f16_mode_fault(w, in);
  w.wmask = w.exec();
  alignas(64) uint32_t buf[3][kLanes], out[kLanes];
  const uint32_t* p[3];
  for (int i = 0; i < N; ++i) p[i] = packed(w, in, i, buf[i]);
  LANES out[l] = 0;
  for (int h = 0; h < 2; ++h) {
    int sh[3];
    uint32_t neg[3];
    for (int i = 0; i < N; ++i) {
      sh[i] = half_shift(in, i, h);
      neg[i] = ((h ? in.neg_hi : in.neg_lo) >> i & 1) << 15;
    }
    LANES {
      float x[3];
      for (int i = 0; i < N; ++i) x[i] = half_to_float((p[i][l] >> sh[i] & 0xffff) ^ neg[i]);
      float r = f(x[0], x[1], x[N - 1]);
      if (in.clamp) r = r != r ? 0.0f : r < 0 ? 0.0f : r > 1 ? 1.0f : r;
      out[l] |= float_to_half(r) << 16 * h;
    }
  }
  write_plane(plane(w, dst_reg(w, in)), out, w.wmask);
}
template <class I, int N, class F>
static GFXEMU_INLINE void packed_int(Wave& w, const Inst& in, F f) {
  if (in.neg_lo || in.neg_hi) return fault(w, in, "neg of an integer source");
  w.wmask = w.exec();
  alignas(64) uint32_t buf[3][kLanes], out[kLanes];
  const uint32_t* p[3];
  for (int i = 0; i < N; ++i) p[i] = packed(w, in, i, buf[i]);
  LANES out[l] = 0;
  for (int h = 0; h < 2; ++h) {
    int sh[3];
    for (int i = 0; i < N; ++i) sh[i] = half_shift(in, i, h);
    LANES {
      int32_t x[3];
      for (int i = 0; i < N; ++i) x[i] = (I)(uint16_t)(p[i][l] >> sh[i]);
      int32_t r = f(x[0], x[1], x[N - 1]);
      if (in.clamp) {
        constexpr int32_t lo = (I)-1 < (I)0 ? -32768 : 0, hi = (I)-1 < (I)0 ? 32767 : 65535;
        r = r < lo ? lo : r > hi ? hi : r;
      }
      out[l] |= (uint32_t)(uint16_t)r << 16 * h;
    }
  }
  write_plane(plane(w, dst_reg(w, in)), out, w.wmask);
}
enum class PkOp { FMA, MUL, ADD };
template <PkOp OP>
inline void pk_f32(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  constexpr int N = OP == PkOp::FMA ? 3 : 2;
  alignas(64) uint32_t buf[3][kLanes], out[2][kLanes];
  for (int h = 0; h < 2; ++h) {
    const uint32_t* p[3];
    for (int i = 0; i < N; ++i) {
      const Operand& o = in.src[i];
      int sel = (h ? in.opsel_hi : in.opsel) >> i & 1;
      if (o.kind == Kind::VGPR) {
        p[i] = plane(w, (w.idx_on ? indexed(w, o.reg, i) : o.reg) + sel);
      } else {
        uint32_t x =
            o.kind == Kind::SGPR ? w.s[o.reg + sel] : (uint32_t)(scalar64(w, o) >> 32 * sel);
        LANES buf[i][l] = x;
        p[i] = buf[i];
      }
      uint32_t neg = ((h ? in.neg_hi : in.neg_lo) >> i & 1) << 31;
      if (neg) {
        const uint32_t* q = p[i];
        LANES buf[i][l] = q[l] ^ neg;
        p[i] = buf[i];
      }
    }
    LANES {
      float a = bits_as<float>(p[0][l]), b = bits_as<float>(p[1][l]), r;
      if constexpr (OP == PkOp::FMA)
        r = fmaf(a, b, bits_as<float>(p[2][l]));
      else
        r = OP == PkOp::MUL ? a * b : a + b;
      if (in.clamp) r = r != r ? 0.0f : r < 0 ? 0.0f : r > 1 ? 1.0f : r;
      out[h][l] = bits_as<uint32_t>(r);
    }
  }
  uint32_t* d = plane(w, dst_reg(w, in));
  write_plane(d, out[0], w.wmask);
  write_plane(d + kLanes, out[1], w.wmask);
}
// D.lo = the half of src0 that op_sel[0] names, D.hi = the half of src1 that op_sel[1] names.
inline void pk_mov_b32(Wave& w, const Inst& in) {
  if (in.neg_lo || in.neg_hi || in.clamp) return fault(w, in, "modifier of a move");
  w.wmask = w.exec();
  alignas(64) uint32_t out[2][kLanes];
  for (int i = 0; i < 2; ++i) {
    const Operand& o = in.src[i];
    int sel = in.opsel >> i & 1;
    if (o.kind == Kind::VGPR) {
      memcpy(out[i], plane(w, (w.idx_on ? indexed(w, o.reg, i) : o.reg) + sel), 256);
    } else {
      uint32_t x = o.kind == Kind::SGPR ? w.s[o.reg + sel] : (uint32_t)(scalar64(w, o) >> 32 * sel);
      LANES out[i][l] = x;
    }
  }
  write_pair(w, in, out[0], out[1]);
}
// f32 = a*b+c where op_sel_hi makes a source f16 (its half by op_sel); neg_hi is abs here.
template <int WHERE>
inline void fma_mix(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t buf[3][kLanes], out[kLanes];
  alignas(64) float x[3][kLanes];
  for (int i = 0; i < 3; ++i) {
    const uint32_t* p = packed(w, in, i, buf[i]);
    int sh = (in.opsel >> i & 1) * 16;
    if (in.opsel_hi >> i & 1)
      LANES x[i][l] = half_to_float(p[l] >> sh & 0xffff);
    else
      LANES x[i][l] = bits_as<float>(p[l]);
    if (in.neg_hi >> i & 1) LANES x[i][l] = fabsf(x[i][l]);
    if (in.neg_lo >> i & 1) LANES x[i][l] = -x[i][l];
  }
  const uint32_t* d = plane(w, dst_reg(w, in));
  LANES {
    float r = fmaf(x[0][l], x[1][l], x[2][l]);
    if (in.clamp) r = r != r ? 0.0f : r < 0 ? 0.0f : r > 1 ? 1.0f : r;
    if constexpr (WHERE == 0)
      out[l] = bits_as<uint32_t>(r);
    else if constexpr (WHERE == 1)
      out[l] = float_to_half(r) | (d[l] & 0xffff0000u);
    else
      out[l] = float_to_half(r) << 16 | (d[l] & 0xffff);
  }
  write_plane(plane(w, dst_reg(w, in)), out, w.wmask);
}
template <float (*CONVERT)(uint32_t)>
inline void dot2_f32(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t buf[3][kLanes], out[kLanes];
  const uint32_t *a = packed(w, in, 0, buf[0]), *b = packed(w, in, 1, buf[1]),
                 *c = packed(w, in, 2, buf[2]);
  int a0 = half_shift(in, 0, 0), a1 = half_shift(in, 0, 1), b0 = half_shift(in, 1, 0),
      b1 = half_shift(in, 1, 1);
  float na0 = in.neg_lo & 1 ? -1.0f : 1.0f, na1 = in.neg_hi & 1 ? -1.0f : 1.0f;
  float nb0 = in.neg_lo & 2 ? -1.0f : 1.0f, nb1 = in.neg_hi & 2 ? -1.0f : 1.0f;
  float nc = in.neg_lo & 4 ? -1.0f : 1.0f;
  LANES {
    float r = fmaf(na0 * CONVERT(a[l] >> a0 & 0xffff), nb0 * CONVERT(b[l] >> b0 & 0xffff),
                   nc * bits_as<float>(c[l]));
    r = fmaf(na1 * CONVERT(a[l] >> a1 & 0xffff), nb1 * CONVERT(b[l] >> b1 & 0xffff), r);
    if (in.clamp) r = r != r ? 0.0f : r < 0 ? 0.0f : r > 1 ? 1.0f : r;
    out[l] = bits_as<uint32_t>(r);
  }
  write_plane(plane(w, dst_reg(w, in)), out, w.wmask);
}
template <class I, int N>
inline void dot_int(Wave& w, const Inst& in) {
  if (in.clamp) return no_clamp(w, in);
  if (in.neg_lo || in.neg_hi) return fault(w, in, "neg of an integer source");
  w.wmask = w.exec();
  alignas(64) uint32_t buf[3][kLanes], out[kLanes];
  const uint32_t *a = packed(w, in, 0, buf[0]), *b = packed(w, in, 1, buf[1]),
                 *c = packed(w, in, 2, buf[2]);
  auto pick = [&](uint32_t x, int i) {
    if constexpr (N != 2) return x;
    return (x >> half_shift(in, i, 0) & 0xffff) | x >> half_shift(in, i, 1) << 16;
  };
  LANES out[l] = dot<I, N>(pick(a[l], 0), pick(b[l], 1), c[l]);
  write_plane(plane(w, dst_reg(w, in)), out, w.wmask);
}

}  // namespace gfxemu::GFXEMU_ISA
