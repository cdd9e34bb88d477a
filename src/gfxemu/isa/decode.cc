// Machine words to Inst. Every field that is set must mean something to the row, else the decoder
// says what it does not know.
#include <cstring>

#include "isa/isa.h"

namespace gfxemu {
namespace {

// Rows by opcode, per arch and format.
struct OpMap {
  const Row* of[3][kFormats][1024] = {};
  OpMap() {
    for (int f = 0; f < kFormats; ++f)
      for (int i = 0; i < kRowTables[f].count; ++i) {
        const Row& r = kRowTables[f].rows[i];
        for (int a = 0; a < 3; ++a)
          if (r.archs & (1 << a)) of[a][f][r.op] = &r;
      }
  }
};

const Row* find(Arch arch, Format format, unsigned op) {
  static const OpMap map;
  int a = arch == GFX90A ? 0 : arch == GFX942 ? 1 : 2;
  return op < 1024 ? map.of[a][static_cast<int>(format)][op] : nullptr;
}

uint32_t bits(uint32_t w, int lo, int n) { return (w >> lo) & ((1u << n) - 1); }

const uint32_t kF32[] = {0x3f000000, 0xbf000000, 0x3f800000, 0xbf800000, 0x40000000,
                         0xc0000000, 0x40800000, 0xc0800000, 0x3e22f983};
const uint16_t kF16[] = {0x3800, 0xb800, 0x3c00, 0xbc00, 0x4000, 0xc000, 0x4400, 0xc400, 0x3118};
const uint64_t kF64[] = {0x3fe0000000000000, 0xbfe0000000000000, 0x3ff0000000000000,
                         0xbff0000000000000, 0x4000000000000000, 0xc000000000000000,
                         0x4010000000000000, 0xc010000000000000, 0x3fc45f306dc9c882};

struct Decoder {
  Arch arch;
  const uint32_t* words;
  int available;
  Inst& in;
  const char* why = nullptr;
  bool literal = false;
  int base = 1;  // dwords before a literal

  Operand vgpr(unsigned n, T type, bool acc = false) {
    Operand o;
    o.kind = Kind::VGPR;
    o.dwords = static_cast<uint8_t>(dwords(type));
    o.reg = static_cast<uint16_t>(n + (acc ? 256 : 0));
    o.code = static_cast<uint16_t>(n + 256);
    if (o.reg % 256 + o.dwords > 256) why = "register tuple past the last VGPR";
    return o;
  }

  Operand sgpr(unsigned n, int count) {
    Operand o;
    o.kind = Kind::SGPR;
    o.dwords = static_cast<uint8_t>(count);
    o.reg = o.code = static_cast<uint16_t>(n);
    if (n + count > 128) why = "register tuple past the last SGPR";
    return o;
  }

  Operand constant(unsigned code, T type) {
    Operand o;
    o.kind = Kind::CONST;
    o.code = static_cast<uint16_t>(code);
    o.dwords = static_cast<uint8_t>(dwords(type));
    if (code <= 208) {
      int64_t v = code <= 192 ? static_cast<int>(code) - 128 : 192 - static_cast<int>(code);
      o.value = static_cast<uint64_t>(v);
      if (!is_64bit(type) && type != T::PKF32) o.value &= 0xffffffffu;
      if (is_16bit(type)) o.value &= 0xffff;
      if (type == T::PKF32) o.value = static_cast<uint32_t>(v) | static_cast<uint64_t>(v) << 32;
    } else {
      int i = static_cast<int>(code) - 240;
      if (is_64bit(type))
        o.value = kF64[i];
      else if (type == T::BF16)
        o.value = kF32[i] >> 16;
      else if (type == T::PKBF16)
        o.value = kF32[i] >> 16;
      else if (is_16bit(type) || type == T::PKF16)
        o.value = kF16[i];
      else if (type == T::PKF32)
        o.value = kF32[i] | static_cast<uint64_t>(kF32[i]) << 32;
      else
        o.value = kF32[i];
    }
    return o;
  }

  Operand source(unsigned code, T type, bool acc = false) {
    if (type == T::NONE) return {};
    if (code >= 256) return vgpr(code - 256, type, acc);
    if (code < 128) {
      Operand o = sgpr(code, dwords(type));
      if (type == T::PKF32 && code >= 102 && code < 106) why = "reserved source operand";
      return o;
    }
    if (code <= 208 || (code >= 240 && code <= 248)) return constant(code, type);
    if (code == 255) {
      literal = true;
      Operand o;
      o.kind = Kind::CONST;
      o.code = 255;
      o.dwords = static_cast<uint8_t>(dwords(type));
      uint32_t v = base < available ? words[base] : 0;
      if (base >= available) why = "literal past the end of the code";
      in.literal = v;
      if (type == T::F64)
        o.value = static_cast<uint64_t>(v) << 32;
      else if (type == T::I64)
        o.value = static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(v)));
      else
        o.value = v;
      return o;
    }
    Operand o;
    o.kind = Kind::SPECIAL;
    o.code = o.reg = static_cast<uint16_t>(code);
    o.dwords = static_cast<uint8_t>(dwords(type));
    if (!((code >= 235 && code <= 238) || (code >= 251 && code <= 253)))
      why = code == 254 ? "lds_direct is not supported" : "reserved source operand";
    return o;
  }

  Operand sdst(unsigned code, T type) { return sgpr(code, dwords(type)); }
  Operand mask(unsigned code) { return sgpr(code, 2); }

  // Vector source in the 32-bit encodings: 249 is SDWA and 250 is DPP, their word follows.
  bool dpp_sdwa(unsigned src0, T type, T src1_type) {
    if (src0 != 249 && src0 != 250) return false;
    const Row& r = *in.row;
    if ((r.flags & NO_DPP) || (src0 == 249 && (r.flags & NO_SDWA))) {
      why = src0 == 249 ? "no SDWA form" : "no DPP form";
      return true;
    }
    if (available < 2) {
      why = "DPP or SDWA word past the end of the code";
      return true;
    }
    uint32_t x = words[1];
    in.size = 2;
    if (src0 == 250) {
      in.src[0] = vgpr(bits(x, 0, 8), type);
      in.src[0].mods =
          static_cast<uint8_t>(DPP | (bits(x, 20, 1) ? NEG : 0) | (bits(x, 21, 1) ? ABS : 0));
      if (src1_type != T::NONE)
        in.src[1].mods =
            static_cast<uint8_t>((bits(x, 22, 1) ? NEG : 0) | (bits(x, 23, 1) ? ABS : 0));
      else if (bits(x, 22, 2))
        why = "DPP modifier of a source that the instruction does not have";
      in.dpp_ctrl = static_cast<uint16_t>(bits(x, 8, 9));
      in.dpp_bound = static_cast<uint8_t>(bits(x, 19, 1));
      in.dpp_banks = static_cast<uint8_t>(bits(x, 24, 4));
      in.dpp_rows = static_cast<uint8_t>(bits(x, 28, 4));
      if (bits(x, 17, 2)) why = "reserved DPP bits";
      if (!dpp_valid(in.dpp_ctrl)) why = "reserved dpp_ctrl";
      if ((dwords(type) == 2 || dwords(r.dst) == 2) &&
          !(in.dpp_ctrl >= 0x150 && in.dpp_ctrl <= 0x15f))
        why = "64-bit DPP takes row_newbcast only";
      return true;
    }
    in.src[0] = bits(x, 23, 1) ? source(bits(x, 0, 8), type) : vgpr(bits(x, 0, 8), type);
    in.src[0].sel = static_cast<uint8_t>(bits(x, 16, 3));
    in.src[0].mods = static_cast<uint8_t>(SDWA | (bits(x, 19, 1) ? SEXT : 0) |
                                          (bits(x, 20, 1) ? NEG : 0) | (bits(x, 21, 1) ? ABS : 0));
    if (literal) why = "literal in SDWA";
    if (src1_type != T::NONE) {
      unsigned s1 = in.src[1].reg & 255;
      in.src[1] = bits(x, 31, 1) ? source(s1, src1_type) : vgpr(s1, src1_type);
      in.src[1].sel = static_cast<uint8_t>(bits(x, 24, 3));
      in.src[1].mods =
          static_cast<uint8_t>(SDWA | (bits(x, 27, 1) ? SEXT : 0) | (bits(x, 28, 1) ? NEG : 0) |
                               (bits(x, 29, 1) ? ABS : 0));
      if (in.src[1].sel == 7) why = "reserved SDWA selection";
    }
    if (in.src[0].sel == 7) why = "reserved SDWA selection";
    if (in.row->format == Format::VOPC) {
      in.sdst = bits(x, 15, 1) ? mask(bits(x, 8, 7)) : mask(106);
    } else {
      in.dst_sel = static_cast<uint8_t>(bits(x, 8, 3));
      in.dst_unused = static_cast<uint8_t>(bits(x, 11, 2));
      in.clamp = static_cast<uint8_t>(bits(x, 13, 1));
      in.omod = static_cast<uint8_t>(bits(x, 14, 2));
      in.out_mods = 1;
      if ((r.flags & OPSEL) && (in.dst_sel != 6 || in.dst_unused))
        why = "dst_sel of a conversion from fp8";
      if (in.dst_sel == 7 || in.dst_unused == 3) why = "reserved SDWA selection";
    }
    return true;
  }

  static bool dpp_valid(unsigned c) {
    if (c <= 0xff) return true;
    if (c >= 0x101 && c <= 0x10f) return true;
    if (c >= 0x111 && c <= 0x11f) return true;
    if (c >= 0x121 && c <= 0x12f) return true;
    if (c >= 0x150 && c <= 0x15f) return true;
    return c == 0x130 || c == 0x134 || c == 0x138 || c == 0x13c || (c >= 0x140 && c <= 0x143);
  }

  bool row(Format format, unsigned op) {
    in.row = find(arch, format, op);
    if (!in.row) why = "unknown opcode";
    return in.row != nullptr;
  }

  void vop1(uint32_t w) {
    if (!row(Format::VOP1, bits(w, 9, 8))) return;
    const Row& r = *in.row;
    bool acc = r.op == 0x52;
    if (r.dst == T::S32)
      in.dst = sgpr(bits(w, 17, 8), 1);
    else if (r.dst != T::NONE)
      in.dst = vgpr(bits(w, 17, 8), r.dst, acc);
    if (!dpp_sdwa(bits(w, 0, 9), r.src[0], T::NONE))
      in.src[0] = source(bits(w, 0, 9), r.src[0], acc);
    if ((r.flags & TWO_DST) && in.src[0].kind != Kind::VGPR)
      why = "swap of a register that is no VGPR";
  }

  void vop2(uint32_t w) {
    if (!row(Format::VOP2, bits(w, 25, 6))) return;
    const Row& r = *in.row;
    in.dst = vgpr(bits(w, 17, 8), r.dst);
    in.src[1] = vgpr(bits(w, 9, 8), r.src[1]);
    if (!dpp_sdwa(bits(w, 0, 9), r.src[0], r.src[1])) in.src[0] = source(bits(w, 0, 9), r.src[0]);
    if (r.sdst != T::NONE) in.sdst = mask(106);
    if (r.src[2] == T::MASK) in.src[2] = mask(106);
    if (r.flags & IMM_LITERAL) {
      if (available < 2) {
        why = "literal past the end of the code";
        return;
      }
      literal = true;
      in.literal = words[1];
      Operand k;
      k.kind = Kind::CONST;
      k.code = 255;
      k.dwords = 1;
      k.value = r.src[0] == T::F16 ? words[1] & 0xffff : words[1];
      if (strstr(r.name, "mk")) {
        in.src[2] = in.src[1];
        in.src[1] = k;
      } else
        in.src[2] = k;
    }
  }

  void vopc(uint32_t w) {
    if (!row(Format::VOPC, bits(w, 17, 8))) return;
    const Row& r = *in.row;
    in.sdst = mask(106);
    in.src[1] = vgpr(bits(w, 9, 8), r.src[1]);
    if (!dpp_sdwa(bits(w, 0, 9), r.src[0], r.src[1])) in.src[0] = source(bits(w, 0, 9), r.src[0]);
    if (in.src[0].mods & DPP) why = "no DPP form";
  }

  void vop3(uint32_t w, uint32_t x) {
    unsigned op = bits(w, 16, 10);
    in.size = 2;
    if (op < 0x100)
      row(Format::VOPC, op);
    else if (op < 0x140)
      row(Format::VOP2, op - 0x100);
    else if (op < 0x1c0)
      row(Format::VOP1, op - 0x140);
    else
      row(Format::VOP3, op);
    if (!in.row) return;
    const Row& r = *in.row;
    in.encoded64 = r.format != Format::VOP3;
    if (r.flags & NO_VOP3) {
      why = "no VOP3 form";
      return;
    }
    unsigned abs = bits(w, 8, 3), opsel = bits(w, 11, 4), neg = bits(x, 29, 3);
    bool vop3b = r.sdst != T::NONE && r.format != Format::VOPC;
    in.clamp = static_cast<uint8_t>(bits(w, 15, 1));
    in.omod = static_cast<uint8_t>(bits(x, 27, 2));
    if (r.format == Format::VOPC) {
      in.sdst = mask(bits(w, 0, 8));
      if (bits(w, 0, 8) > 127) {
        why = "reserved scalar destination";
        return;
      }
      if (in.clamp || in.omod) why = "clamp or omod of a comparison";
    } else if (r.dst == T::S32) {
      in.dst = sgpr(bits(w, 0, 8) & 127, 1);
    } else if (r.dst != T::NONE) {
      in.dst = vgpr(bits(w, 0, 8), r.dst);
    }
    if (vop3b) {
      in.sdst = mask(bits(w, 8, 7));
      abs = opsel = 0;
    }
    const unsigned codes[3] = {bits(x, 0, 9), bits(x, 9, 9), bits(x, 18, 9)};
    if (r.flags & BITOP3) {
      // The truth table takes the abs, op_sel-free and neg bits: omod, abs, neg.
      uint32_t t = 0;
      t |= bits(x, 27, 2) << 6;  // omod
      t |= bits(w, 8, 3) << 3;   // abs
      t |= bits(x, 29, 3);       // neg
      in.literal = t;
      abs = neg = 0;
      in.omod = 0;
    }
    for (int i = 0; i < 3; ++i) {
      T t = r.src[i];
      if (t == T::NONE) {
        if (codes[i] && !(r.format == Format::VOP3 && r.flags & 0))
          why = "unused source field is not zero";
        if ((abs | neg) >> i & 1) why = "modifier of a source that the instruction does not have";
        continue;
      }
      if (codes[i] == 255) {
        why = "literal in VOP3";
        return;
      }
      if (t == T::MASK) {
        in.src[i] = mask(codes[i]);
        if (codes[i] > 126) why = "lane mask is no SGPR pair";
        continue;
      }
      in.src[i] = source(codes[i], t == T::S32 ? T::B32 : t);
      bool f = is_float(t) || t == T::B32 || t == T::B64 || t == T::PKF32 || t == T::DYN;
      if (((abs | neg) >> i & 1) && !f) why = "neg or abs of an integer source";
      in.src[i].mods = static_cast<uint8_t>((neg >> i & 1 ? NEG : 0) | (abs >> i & 1 ? ABS : 0));
      if (!(r.flags & OPSEL) && (opsel >> i & 1)) {
        if (!is_16bit(t)) why = "op_sel of a 32-bit source";
        in.src[i].mods |= HI;
      }
    }
    in.opsel = static_cast<uint8_t>(opsel);
    if (!(r.flags & OPSEL)) {
      if ((opsel & 8) && !is_16bit(r.dst)) why = "op_sel of a 32-bit destination";
      if (opsel & 8) in.out_mods = 1;
    }
    if (in.omod && !is_float(r.dst)) why = "omod of an integer result";
    if (in.clamp || in.omod) in.out_mods = 1;
  }

  void vop3p(uint32_t w, uint32_t x) {
    in.size = 2;
    unsigned op = bits(w, 16, 7);
    if (op == 0x2c && arch == GFX950) {
      scaled(w, x);
      return;
    }
    if (find(arch, Format::MAI, op)) {
      mai(w, x, op);
      return;
    }
    if (!row(Format::VOP3P, op)) return;
    const Row& r = *in.row;
    in.dst = vgpr(bits(w, 0, 8), r.dst);
    in.opsel = static_cast<uint8_t>(bits(w, 11, 3));
    in.opsel_hi = static_cast<uint8_t>(bits(x, 27, 2) | bits(w, 14, 1) << 2);
    in.neg_hi = static_cast<uint8_t>(bits(w, 8, 3));
    in.neg_lo = static_cast<uint8_t>(bits(x, 29, 3));
    in.clamp = static_cast<uint8_t>(bits(w, 15, 1));
    const unsigned codes[3] = {bits(x, 0, 9), bits(x, 9, 9), bits(x, 18, 9)};
    for (int i = 0; i < 3; ++i) {
      if (r.src[i] == T::NONE) {
        if (codes[i]) why = "unused source field is not zero";
        continue;
      }
      if (codes[i] == 255) {
        why = "literal in VOP3P";
        return;
      }
      T t = r.src[i];
      if (strncmp(r.name, "v_fma_mix", 9) == 0 && (in.opsel_hi >> i & 1) && codes[i] >= 240 &&
          codes[i] <= 248)
        t = T::F16;
      in.src[i] = source(codes[i], t);
    }
  }

  void mai(uint32_t w, uint32_t x, unsigned op) {
    if (!row(Format::MAI, op)) return;
    const Row& r = *in.row;
    unsigned acc = bits(x, 27, 2);
    bool acc_cd = bits(w, 15, 1);
    in.cbsz = static_cast<uint8_t>(bits(w, 8, 3));
    in.abid = static_cast<uint8_t>(bits(w, 11, 4));
    in.blgp = static_cast<uint8_t>(bits(x, 29, 3));
    if (op == 0x58 || op == 0x59) {
      if (op == 0x58) {
        in.dst = vgpr(bits(w, 0, 8), T::B32);
        in.src[0] = source(bits(x, 0, 9), T::B32, true);
      } else {
        in.dst = vgpr(bits(w, 0, 8), T::B32, true);
        in.src[0] = source(bits(x, 0, 9), T::B32);
      }
      if (in.cbsz || (in.abid & 7) || in.blgp) why = "modifier of an AGPR move";
      in.abid = 0;
      return;
    }
    in.dst = vgpr(bits(w, 0, 8), r.dst, acc_cd);
    T ta = r.src[0], tb = r.src[1];
    if (ta == T::DYN) {
      static const T by_format[8] = {T::B256, T::B256, T::B192, T::B192,
                                     T::B128, T::NONE, T::NONE, T::NONE};
      ta = by_format[in.cbsz];
      tb = by_format[in.blgp];
      if (ta == T::NONE || tb == T::NONE) {
        why = "reserved f8f6f4 format";
        return;
      }
      if (in.abid > 1) why = "abid of an f8f6f4 MFMA";
    }
    in.src[0] = source(bits(x, 0, 9), ta, acc & 1);
    in.src[1] = source(bits(x, 9, 9), tb, acc >> 1 & 1);
    in.src[2] = source(bits(x, 18, 9), r.src[2], acc_cd && !(r.flags & SMFMAC));
    if (in.src[0].kind != Kind::VGPR || in.src[1].kind != Kind::VGPR)
      why = "MFMA source is no VGPR";
    if (in.src[2].kind == Kind::SGPR) why = "MFMA accumulator is an SGPR";
    if (r.dst == T::F64 || strstr(r.name, "_f64_")) {
      if (in.cbsz || in.abid) why = "cbsz or abid of an f64 MFMA";
    }
  }

  void scaled(uint32_t w, uint32_t x) {
    bool pair = available >= 4 && bits(words[2], 23, 9) == 0x1a7;
    if (!pair) {
      why = "scale word without its MFMA";
      return;
    }
    unsigned op = bits(words[2], 16, 7);
    if (op != 0x2d && op != 0x2e) {
      why = "scale word before an MFMA that takes none";
      return;
    }
    mai(words[2], words[3], op);
    if (!in.row) return;
    if (in.abid != 1) why = "scaled MFMA without its scale bit";
    in.size = 4;
    in.src[3] = source(bits(x, 0, 9), T::B32);
    in.sdst = source(bits(x, 9, 9), T::B32);
    in.scale_opsel = static_cast<uint8_t>(bits(w, 11, 3));
    in.scale_opsel_hi = static_cast<uint8_t>(bits(x, 27, 2) | bits(w, 14, 1) << 2);
    if (in.src[3].code == 255 || in.sdst.code == 255) why = "literal in VOP3P";
    if (bits(x, 18, 9) || bits(x, 29, 3) || bits(w, 15, 1) || bits(w, 0, 11))
      why = "reserved bits of the scale word";
  }

  void smem(uint32_t w, uint32_t x) {
    in.size = 2;
    if (!row(Format::SMEM, bits(w, 18, 8))) return;
    const Row& r = *in.row;
    in.bits = static_cast<uint8_t>((bits(w, 16, 1) ? GLC : 0) | (bits(w, 17, 1) ? IMM : 0) |
                                   (bits(w, 14, 1) ? SOFF : 0));
    if (bits(w, 15, 1)) why = "nv bit";
    if (r.dst != T::NONE) in.dst = sgpr(bits(w, 6, 7), dwords(r.dst));
    if (r.src[0] == T::NONE) return;
    in.src[0] = sgpr(bits(w, 0, 6) * 2, dwords(r.src[0]));
    if (in.bits & IMM) in.offset = static_cast<int32_t>(x << 11) >> 11;
    if (in.bits & SOFF)
      in.src[1] = source(bits(x, 25, 7), T::B32);
    else if (!(in.bits & IMM))
      in.src[1] = source(bits(x, 0, 7), T::B32);
  }

  void ds(uint32_t w, uint32_t x) {
    in.size = 2;
    if (!row(Format::DS, bits(w, 17, 8))) return;
    const Row& r = *in.row;
    bool acc = bits(w, 25, 1);
    if (bits(w, 16, 1)) {
      why = "gds is not supported";
      return;
    }
    in.offset = static_cast<int32_t>(bits(w, 0, 16));
    if (r.op != 0xb6 && r.op != 0xbd && r.op != 0xbe && r.op != 0x1d && r.op != 0x14)
      in.src[0] = vgpr(bits(x, 0, 8), T::B32);
    if (r.src[1] != T::NONE) in.src[1] = vgpr(bits(x, 8, 8), r.src[1], acc);
    if (r.src[2] != T::NONE) in.src[2] = vgpr(bits(x, 16, 8), r.src[2], acc);
    if (r.dst != T::NONE) in.dst = vgpr(bits(x, 24, 8), r.dst, acc);
  }

  void flat(uint32_t w, uint32_t x) {
    in.size = 2;
    unsigned seg = bits(w, 14, 2);
    Format f = seg == 0 ? Format::FLAT : seg == 1 ? Format::SCRATCH : Format::GLOBAL;
    if (seg == 3) {
      why = "reserved segment";
      return;
    }
    if (!row(f, bits(w, 18, 7))) return;
    bool acc = bits(x, 23, 1);
    in.bits = static_cast<uint8_t>((bits(w, 16, 1) ? GLC : 0) | (bits(w, 17, 1) ? SLC : 0) |
                                   (bits(w, 25, 1) ? SC1 : 0));
    in.offset =
        seg == 0 ? static_cast<int32_t>(bits(w, 0, 12)) : static_cast<int32_t>(w << 19) >> 19;
    unsigned saddr = bits(x, 16, 7);
    bool has_saddr = saddr != 0x7f && f != Format::FLAT;
    bool bit13 = bits(w, 13, 1);
    if (f == Format::SCRATCH) {
      if (arch == GFX90A ? bit13 : false) in.bits |= LDS;
      bool vaddr = arch == GFX90A ? !has_saddr : bit13;
      if (vaddr) in.src[0] = vgpr(bits(x, 0, 8), T::B32);
      if (has_saddr) in.src[2] = sgpr(saddr, 1);
    } else {
      if (f == Format::GLOBAL && bit13) {
        if (arch != GFX90A) why = "reserved bit 13";
        in.bits |= LDS;
      }
      in.src[0] = vgpr(bits(x, 0, 8), has_saddr ? T::B32 : T::B64);
      if (has_saddr) in.src[2] = sgpr(saddr, 2);
    }
    memory_data(bits(x, 8, 8), bits(x, 24, 8), acc);
  }

  // Stores take the data field, loads the destination, atomics both when they return (glc/sc0).
  void memory_data(unsigned data, unsigned vdst, bool acc) {
    const Row& r = *in.row;
    if (r.dst == T::NONE || (in.bits & LDS)) return;
    if (r.flags & STORE) {
      in.src[1] = vgpr(data, r.dst, acc);
    } else if (r.flags & ATOMIC) {
      in.src[1] = vgpr(data, r.dst, acc);
      if (in.bits & GLC) {
        T t = strstr(r.name, "cmpswap") ? (r.dst == T::B64 ? T::B32 : T::B64) : r.dst;
        in.dst = vgpr(vdst, t, acc);
      }
    } else {
      in.dst = vgpr(vdst, r.dst, acc);
    }
  }

  void mubuf(uint32_t w, uint32_t x) {
    in.size = 2;
    if (!row(Format::MUBUF, bits(w, 18, 7))) return;
    const Row& r = *in.row;
    bool acc = bits(x, 23, 1);
    in.offset = static_cast<int32_t>(bits(w, 0, 12));
    in.bits = static_cast<uint8_t>((bits(w, 12, 1) ? OFFEN : 0) | (bits(w, 13, 1) ? IDXEN : 0) |
                                   (bits(w, 14, 1) ? GLC : 0) | (bits(w, 15, 1) ? SC1 : 0) |
                                   (bits(w, 16, 1) ? LDS : 0) | (bits(w, 17, 1) ? SLC : 0));
    if (r.dst == T::NONE) return;
    if ((in.bits & LDS) && (r.flags & (STORE | ATOMIC))) why = "lds bit of a store";
    if ((in.bits & LDS) && dwords(r.dst) > 1 && arch != GFX950)
      why = "lds load of more than a dword";
    bool both = (in.bits & OFFEN) && (in.bits & IDXEN);
    if (in.bits & (OFFEN | IDXEN)) in.src[0] = vgpr(bits(x, 0, 8), both ? T::B64 : T::B32);
    in.src[2] = sgpr(bits(x, 16, 5) * 4, 4);
    in.src[3] = source(bits(x, 24, 8), T::B32);
    if (bits(x, 21, 2)) why = "reserved MUBUF bits";
    memory_data(bits(x, 8, 8), bits(x, 8, 8), acc);
  }

  void scalar(uint32_t w) {
    unsigned top9 = w >> 23;
    if (top9 == 0x17d) {  // SOP1
      if (!row(Format::SOP1, bits(w, 8, 8))) return;
      const Row& r = *in.row;
      if (r.dst != T::NONE) in.dst = sdst(bits(w, 16, 7), r.dst);
      if (r.src[0] != T::NONE) in.src[0] = source(bits(w, 0, 8), r.src[0]);
    } else if (top9 == 0x17e) {  // SOPC
      if (!row(Format::SOPC, bits(w, 16, 7))) return;
      const Row& r = *in.row;
      in.src[0] = source(bits(w, 0, 8), r.src[0]);
      if (r.flags & IDX_MASK) {
        in.offset = static_cast<int32_t>(bits(w, 8, 8));
        if (in.offset > 15) why = "reserved gpr_idx bits";
      } else {
        in.src[1] = source(bits(w, 8, 8), r.src[1]);
      }
    } else if (top9 == 0x17f) {  // SOPP
      if (!row(Format::SOPP, bits(w, 16, 7))) return;
      in.offset = static_cast<int16_t>(w);
      if (!(in.row->flags & BRANCH)) in.offset = static_cast<int32_t>(w & 0xffff);
    } else if ((w >> 28) == 0xb) {
      if (!row(Format::SOPK, bits(w, 23, 5))) return;
      const Row& r = *in.row;
      in.offset = static_cast<int16_t>(w);
      if (r.dst != T::NONE) {
        in.dst = sdst(bits(w, 16, 7), r.dst);
        if (r.flags & NO_DST) in.src[0] = in.dst, in.dst = {};
      }
      if (r.flags & IMM_LITERAL) {
        literal = true;
        if (available < 2)
          why = "literal past the end of the code";
        else
          in.literal = words[1];
      }
    } else {
      if (!row(Format::SOP2, bits(w, 23, 7))) return;
      const Row& r = *in.row;
      in.dst = sdst(bits(w, 16, 7), r.dst);
      in.src[0] = source(bits(w, 0, 8), r.src[0]);
      in.src[1] = source(bits(w, 8, 8), r.src[1]);
    }
  }

  int run() {
    if (available < 1) {
      why = "past the end of the code";
      return 0;
    }
    uint32_t w = words[0];
    in.size = 1;
    unsigned top6 = w >> 26;
    bool wide = top6 == 0x34 || top6 == 0x30 || top6 == 0x36 || top6 == 0x37 || top6 == 0x38;
    if (wide && available < 2) {
      why = "instruction past the end of the code";
      return 0;
    }
    if (!(w >> 31)) {
      if ((w >> 25) == 0x3f)
        vop1(w);
      else if ((w >> 25) == 0x3e)
        vopc(w);
      else
        vop2(w);
    } else if ((w >> 23) == 0x1a7) {
      vop3p(w, words[1]);
    } else if (top6 == 0x34) {
      vop3(w, words[1]);
    } else if (top6 == 0x30) {
      smem(w, words[1]);
    } else if (top6 == 0x36) {
      ds(w, words[1]);
    } else if (top6 == 0x37) {
      flat(w, words[1]);
    } else if (top6 == 0x38) {
      mubuf(w, words[1]);
    } else if ((w >> 30) == 2) {
      scalar(w);
    } else {
      why = "unknown encoding";
    }
    if (literal) in.size = static_cast<uint8_t>(in.size + 1);
    if (!in.row && !why) why = "unknown opcode";
    for (int i = 0; i < in.size && i < available && i < 4; ++i) in.words[i] = words[i];
    return why ? 0 : in.size;
  }
};

}  // namespace

int decode(Arch arch, const uint32_t* words, int available, Inst& out, const char** why) {
  out = Inst{};
  Decoder d{arch, words, available, out};
  int n = d.run();
  if (why) *why = d.why;
  return n;
}

}  // namespace gfxemu
