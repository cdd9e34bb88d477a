// The slow paths of operand access: scalars, modifiers, DPP, SDWA, clamp and omod.
#include "exec/core.h"

namespace gfxemu::GFXEMU_ISA {

int dpp_source(unsigned c, int l) {
  int row = l & ~15, in = l & 15;
  if (c <= 0xff) return (l & ~3) | (int)(c >> 2 * (l & 3) & 3);
  int n = (int)(c & 15);
  switch (c & 0x1f0) {
    case 0x100:
      return in + n < 16 ? l + n : -1;  // row_shl
    case 0x110:
      return in - n >= 0 ? l - n : -1;  // row_shr
    case 0x120:
      return row | ((in - n) & 15);  // row_ror
    case 0x150:
      return row | n;  // row_newbcast
  }
  switch (c) {
    case 0x130:
      return l < 63 ? l + 1 : -1;  // wave_shl
    case 0x134:
      return (l + 1) & 63;  // wave_rol
    case 0x138:
      return l > 0 ? l - 1 : -1;  // wave_shr
    case 0x13c:
      return (l - 1) & 63;  // wave_ror
    case 0x140:
      return row | (15 - in);  // row_mirror
    case 0x141:
      return (l & ~7) | (7 - (l & 7));
    case 0x142:
      return l >= 16 ? row - 1 : -1;  // row_bcast:15
    default:
      return l >= 32 ? 31 : -1;  // row_bcast:31
  }
}

static uint32_t select(uint32_t x, unsigned sel, bool sext) {
  switch (sel) {
    case 0:
    case 1:
    case 2:
    case 3: {
      uint32_t b = x >> 8 * sel & 255;
      return sext ? (uint32_t)(int32_t)(int8_t)b : b;
    }
    case 4:
    case 5: {
      uint32_t h = x >> 16 * (sel - 4) & 0xffff;
      return sext ? (uint32_t)(int32_t)(int16_t)h : h;
    }
    default:
      return x;
  }
}

static uint32_t sign_bit(T t) { return is_16bit(t) ? 0x8000u : 0x80000000u; }

// Applies DPP to a 32-bit plane and narrows the written lanes.
static void apply_dpp(Wave& w, const Inst& in, const uint32_t* src, uint32_t* buf) {
  uint64_t exec = w.exec(), write = 0;
  LANES {
    int s = dpp_source(in.dpp_ctrl, l);
    bool valid = s >= 0 && (exec >> s & 1);
    bool on = (in.dpp_rows >> (l >> 4) & 1) && (in.dpp_banks >> (l >> 2 & 3) & 1);
    buf[l] = valid ? src[s] : 0;
    if (on && (valid || in.dpp_bound)) write |= 1ull << l;
  }
  w.wmask &= write;
}

void fetch32(Wave& w, const Inst& in, int which, T type, uint32_t* buf) {
  const Operand& o = in.src[which];
  if (o.kind == Kind::VGPR) {
    const uint32_t* p = plane(w, w.idx_on ? indexed(w, o.reg, which) : o.reg);
    if (o.mods & DPP)
      apply_dpp(w, in, p, buf);
    else
      memcpy(buf, p, 256);
  } else {
    uint32_t x = scalar32(w, o);
    LANES buf[l] = x;
  }
  if (o.mods & SDWA) LANES buf[l] = select(buf[l], o.sel, o.mods & SEXT);
  if (o.mods & HI) LANES buf[l] >>= 16;
  uint32_t s = sign_bit(type);
  if (o.mods & ABS) LANES buf[l] &= ~s;
  if (o.mods & NEG) LANES buf[l] ^= s;
}

void fetch64(Wave& w, const Inst& in, int which, T, uint64_t* buf) {
  const Operand& o = in.src[which];
  if (o.kind == Kind::VGPR) {
    const uint32_t* p = plane(w, w.idx_on ? indexed(w, o.reg, which) : o.reg);
    alignas(64) uint32_t lo[kLanes], hi[kLanes];
    if (o.mods & DPP) {
      apply_dpp(w, in, p, lo);
      apply_dpp(w, in, p + kLanes, hi);
    } else {
      memcpy(lo, p, 256);
      memcpy(hi, p + kLanes, 256);
    }
    LANES buf[l] = (uint64_t)hi[l] << 32 | lo[l];
  } else {
    uint64_t x = scalar64(w, o);
    LANES buf[l] = x;
  }
  if (o.mods & ABS) LANES buf[l] &= ~(1ull << 63);
  if (o.mods & NEG) LANES buf[l] ^= 1ull << 63;
}

template <class F>
static F scaled(F x, unsigned omod, bool clamp, bool dx10) {
  if (omod == 1) x *= 2;
  if (omod == 2) x *= 4;
  if (omod == 3) x /= 2;
  if (clamp) {
    if (x != x) return dx10 ? F(0) : x;
    x = x < 0 ? F(0) : x > 1 ? F(1) : x;
    if (x == 0) x = 0;
  }
  return x;
}

// CLAMP of a NaN is 0 under DX10_CLAMP (MODE bit 8).
void finish32(Wave& w, const Inst& in, T type, uint32_t* out) {
  bool dx10 = w.mode >> 8 & 1;
  if ((in.clamp || in.omod) && is_float(type)) {
    if (type == T::F32)
      LANES out[l] = bits_as<uint32_t>(scaled(bits_as<float>(out[l]), in.omod, in.clamp, dx10));
    else
      LANES out[l] = float_to_half(scaled(half_to_float(out[l]), in.omod, in.clamp, dx10));
  }
  const uint32_t* old = plane(w, dst_reg(w, in));
  bool opsel_form = !(in.row->flags & OPSEL) && is_16bit(type);
  if (in.src[0].mods & SDWA || in.src[1].mods & SDWA) {
    static const uint32_t masks[7] = {0xff, 0xff00, 0xff0000, 0xff000000, 0xffff, 0xffff0000, ~0u};
    static const int shifts[7] = {0, 8, 16, 24, 0, 16, 0};
    uint32_t m = masks[in.dst_sel];
    int sh = shifts[in.dst_sel];
    LANES {
      uint32_t x = out[l] << sh & m;
      if (in.dst_unused == 2) x |= old[l] & ~m;
      if (in.dst_unused == 1) {  // the field's sign goes on above it
        uint32_t above = ~(m | ((1u << sh) - 1));
        if (x & m & ~(m >> 1)) x |= above;
      }
      out[l] = x;
    }
  } else if (opsel_form && (in.opsel & 8)) {
    LANES out[l] = (out[l] << 16) | (old[l] & 0xffff);
  } else if (type == T::F16P || type == T::U16P || type == T::I16P) {
    LANES out[l] = (out[l] & 0xffff) | (old[l] & 0xffff0000u);
  }
}

void finish64(Wave& w, const Inst& in, T type, uint64_t* out) {
  bool dx10 = w.mode >> 8 & 1;
  if (type == T::F64 && (in.clamp || in.omod))
    LANES out[l] = bits_as<uint64_t>(scaled(bits_as<double>(out[l]), in.omod, in.clamp, dx10));
}

void f16_mode_fault(Wave& w, const Inst& in) {
  fault(w, in, "f16 arithmetic with MODE %#x: only round-to-nearest with denormals is implemented",
        w.mode & 0xff);
}

}  // namespace gfxemu::GFXEMU_ISA
