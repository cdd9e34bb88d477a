#include "isa/disasm.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace gfxemu {
namespace {

std::string format(const char* f, ...) __attribute__((format(printf, 1, 2)));
std::string format(const char* f, ...) {
  char buf[160];
  va_list va;
  va_start(va, f);
  vsnprintf(buf, sizeof(buf), f, va);
  va_end(va);
  return buf;
}

std::string tuple(char file, unsigned reg, int n) {
  return n == 1 ? format("%c%u", file, reg)
                : format("%c[%u:%u]", file, reg, reg + static_cast<unsigned>(n) - 1);
}

std::string scalar_name(Arch arch, unsigned r, int n) {
  struct Pair {
    unsigned reg;
    const char* name;
  };
  static const Pair pairs[] = {
      {102, "flat_scratch"}, {104, "xnack_mask"}, {106, "vcc"}, {126, "exec"}};
  (void)arch;
  if (r >= 108 && r < 124)
    return n == 1 ? format("ttmp%u", r - 108)
                  : format("ttmp[%u:%u]", r - 108, r - 109 + static_cast<unsigned>(n));
  if (r == 124) return "m0";
  for (const Pair& p : pairs)
    if (r == p.reg || r == p.reg + 1) {
      if (n == 2 && r == p.reg) return p.name;
      if (n == 1) return std::string(p.name) + (r == p.reg ? "_lo" : "_hi");
    }
  return tuple('s', r, n);
}

const char* special_name(unsigned code) {
  switch (code) {
    case 235:
      return "src_shared_base";
    case 236:
      return "src_shared_limit";
    case 237:
      return "src_private_base";
    case 238:
      return "src_private_limit";
    case 251:
      return "src_vccz";
    case 252:
      return "src_execz";
    case 253:
      return "src_scc";
    default:
      return "src_lds_direct";
  }
}

struct Printer {
  Arch arch;
  const Inst& in;
  std::string out;
  int count = 0;

  std::string bare(const Operand& o, T type) const {
    switch (o.kind) {
      case Kind::VGPR:
        return o.reg < 256 ? tuple('v', o.reg, o.dwords) : tuple('a', o.reg - 256u, o.dwords);
      case Kind::SGPR:
        return scalar_name(arch, o.reg, o.dwords);
      case Kind::SPECIAL:
        return special_name(o.code);
      case Kind::CONST:
        break;
      default:
        return "off";
    }
    if (o.code == 255) return format("0x%x", in.literal);
    if (o.code <= 192) return format("%d", static_cast<int>(o.code) - 128);
    if (o.code <= 208) return format("%d", 192 - static_cast<int>(o.code));
    static const char* f[] = {"0.5", "-0.5", "1.0", "-1.0", "2.0", "-2.0", "4.0", "-4.0"};
    if (o.code < 248) return f[o.code - 240];
    return is_64bit(type)                       ? "0.15915494309189532"
           : is_16bit(type) || type == T::PKF16 ? "0.15915494"
                                                : "0.15915494";
  }
  std::string source(const Operand& o, T type) const {
    std::string s = bare(o, type);
    if (o.mods & SEXT) s = "sext(" + s + ")";
    if (o.mods & ABS) s = "|" + s + "|";
    if (o.mods & NEG) s = o.kind == Kind::CONST && !(o.mods & ABS) ? "neg(" + s + ")" : "-" + s;
    return s;
  }
  void put(const std::string& s) {
    out += count++ ? ", " : " ";
    out += s;
  }
  void word(const std::string& s) { out += " " + s; }
  void flag(bool on, const char* name) {
    if (on) word(name);
  }

  void list(const char* name, unsigned bits, int n, unsigned plain) {
    unsigned mask = (1u << n) - 1;
    if ((bits & mask) == (plain & mask)) return;
    std::string s = format("%s:[", name);
    for (int i = 0; i < n; ++i) s += format(i ? ",%u" : "%u", bits >> i & 1);
    word(s + "]");
  }

  void output_mods() {
    flag(in.clamp, "clamp");
    if (in.omod) word(in.omod == 1 ? "mul:2" : in.omod == 2 ? "mul:4" : "div:2");
  }

  void dpp_mods() {
    unsigned c = in.dpp_ctrl;
    if (c <= 0xff)
      word(format("quad_perm:[%u,%u,%u,%u]", c & 3, c >> 2 & 3, c >> 4 & 3, c >> 6 & 3));
    else if (c >= 0x150)
      word(format("row_newbcast:%u", c & 15));
    else if (c == 0x130)
      word("wave_shl:1");
    else if (c == 0x134)
      word("wave_rol:1");
    else if (c == 0x138)
      word("wave_shr:1");
    else if (c == 0x13c)
      word("wave_ror:1");
    else if (c == 0x140)
      word("row_mirror");
    else if (c == 0x141)
      word("row_half_mirror");
    else if (c == 0x142)
      word("row_bcast:15");
    else if (c == 0x143)
      word("row_bcast:31");
    else
      word(format(c < 0x110 ? "row_shl:%u" : c < 0x120 ? "row_shr:%u" : "row_ror:%u", c & 15));
    word(format("row_mask:0x%x bank_mask:0x%x", in.dpp_rows, in.dpp_banks));
    flag(in.dpp_bound, "bound_ctrl:0");
  }

  static const char* sel(unsigned s) {
    static const char* n[] = {"BYTE_0", "BYTE_1", "BYTE_2", "BYTE_3",
                              "WORD_0", "WORD_1", "DWORD",  "?"};
    return n[s & 7];
  }

  void vop() {
    const Row& r = *in.row;
    bool dpp = in.src[0].mods & DPP, sdwa = (in.src[0].mods & SDWA) || (in.src[1].mods & SDWA);
    out = r.name;
    bool two_forms =
        r.format == Format::VOP1 || r.format == Format::VOP2 || r.format == Format::VOPC;
    if (sdwa)
      out += "_sdwa";
    else if (dpp)
      out += "_dpp";
    else if (two_forms && !(r.flags & NAME_PLAIN))
      out += in.encoded64 ? "_e64" : "_e32";
    if (r.dst == T::S32)
      put(scalar_name(arch, in.dst.reg, 1));
    else if (in.dst.kind != Kind::NONE)
      put(bare(in.dst, r.dst));
    if (in.sdst.kind != Kind::NONE) put(bare(in.sdst, T::MASK));
    for (int i = 0; i < 3; ++i)
      if (in.src[i].kind != Kind::NONE) put(source(in.src[i], r.src[i]));
    if (dpp) return dpp_mods();
    if (sdwa) {
      output_mods();
      if (r.format != Format::VOPC && !(r.flags & OPSEL)) {
        static const char* unused[] = {"UNUSED_PAD", "UNUSED_SEXT", "UNUSED_PRESERVE", "?"};
        word(format("dst_sel:%s dst_unused:%s", sel(in.dst_sel), unused[in.dst_unused & 3]));
      }
      word(format("src0_sel:%s", sel(in.src[0].sel)));
      if (in.src[1].kind != Kind::NONE && r.src[1] != T::NONE)
        word(format("src1_sel:%s", sel(in.src[1].sel)));
      return;
    }
    if (r.flags & BITOP3) {
      if (in.literal)
        word(in.literal < 10 ? format("bitop3:%u", in.literal) : format("bitop3:0x%x", in.literal));
    }
    if (r.format == Format::VOP3 || in.encoded64) {
      int n = r.src[2] != T::NONE ? 3 : r.src[1] != T::NONE ? 2 : 1;
      bool dst_byte =
          (r.flags & OPSEL) && (in.opsel & 12) && !(in.opsel >> 2 == 2 && n == 2 && !four_sels(r));
      if (in.opsel) {
        if ((r.flags & OPSEL) && four_sels(r)) {
          list("op_sel", in.opsel, 4, 0);
        } else {
          unsigned bits = (in.opsel & ((1u << n) - 1)) | (in.opsel >> 3 & 1) << n;
          list("op_sel", bits, n + 1, 0);
        }
      }
      (void)dst_byte;
      output_mods();
    }
  }
  // Conversions that write one byte of four name all op_sel bits.
  static bool four_sels(const Row& r) {
    return strstr(r.name, "sr_fp8") || strstr(r.name, "sr_bf8") || strstr(r.name, "pk_fp4_");
  }

  void vop3p() {
    const Row& r = *in.row;
    out = r.name;
    put(bare(in.dst, r.dst));
    int n = 0;
    for (; n < 3 && r.src[n] != T::NONE; ++n) put(bare(in.src[n], r.src[n]));
    bool mix = !strncmp(r.name, "v_fma_mix", 9);
    if (mix) {
      // neg_hi is abs here, written on the operands.
      out = r.name;
      count = 0;
      put(bare(in.dst, r.dst));
      for (int i = 0; i < 3; ++i) {
        Operand o = in.src[i];
        o.mods =
            static_cast<uint8_t>((in.neg_lo >> i & 1 ? NEG : 0) | (in.neg_hi >> i & 1 ? ABS : 0));
        put(source(o, r.src[i]));
      }
      list("op_sel", in.opsel, 3, 0);
      list("op_sel_hi", in.opsel_hi, 3, 0);
      flag(in.clamp, "clamp");
      return;
    }
    bool dot_bytes = r.src[0] == T::B32;
    list("op_sel", in.opsel, n, 0);
    list("op_sel_hi", in.opsel_hi, n, 7);
    list("neg_lo", in.neg_lo, n, 0);
    list("neg_hi", in.neg_hi, n, 0);
    (void)dot_bytes;
    flag(in.clamp, "clamp");
  }

  void mai() {
    const Row& r = *in.row;
    out = r.name;
    if (in.size == 4) out = std::string("v_mfma_scale_") + (r.name + 7);
    put(bare(in.dst, r.dst));
    for (int i = 0; i < 3 && r.src[i] != T::NONE; ++i) put(bare(in.src[i], r.src[i]));
    if (in.size == 4) {
      put(bare(in.src[3], T::B32));
      put(bare(in.sdst, T::B32));
      list("op_sel", in.scale_opsel, 3, 0);
      list("op_sel_hi", in.scale_opsel_hi, 3, 0);
    }
    if (in.cbsz) word(format("cbsz:%u", in.cbsz));
    if (in.abid && in.size != 4) word(format("abid:%u", in.abid));
    if (in.blgp) {
      if (strstr(r.name, "f64") && arch != GFX90A)
        list("neg", in.blgp, 3, 0);
      else
        word(format("blgp:%u", in.blgp));
    }
  }

  void waitcnt() {
    unsigned s = static_cast<unsigned>(in.offset);
    unsigned vm = (s & 15) | (s >> 14 & 3) << 4, exp = s >> 4 & 7, lgkm = s >> 8 & 15;
    bool all = vm == 63 && exp == 7 && lgkm == 15;
    if (vm != 63 || all) word(format("vmcnt(%u)", vm));
    if (exp != 7 || all) word(format("expcnt(%u)", exp));
    if (lgkm != 15 || all) word(format("lgkmcnt(%u)", lgkm));
  }

  static const char* hwreg(Arch arch, unsigned id) {
    switch (id) {
      case 1:
        return "HW_REG_MODE";
      case 2:
        return "HW_REG_STATUS";
      case 3:
        return "HW_REG_TRAPSTS";
      case 4:
        return "HW_REG_HW_ID";
      case 5:
        return "HW_REG_GPR_ALLOC";
      case 6:
        return "HW_REG_LDS_ALLOC";
      case 7:
        return "HW_REG_IB_STS";
      case 15:
        return "HW_REG_SH_MEM_BASES";
      case 16:
        return "HW_REG_TBA_LO";
      case 17:
        return "HW_REG_TBA_HI";
      case 18:
        return "HW_REG_TMA_LO";
      case 19:
        return "HW_REG_TMA_HI";
      case 20:
        return arch == GFX90A ? nullptr : "HW_REG_XCC_ID";
      case 21:
        return arch == GFX90A ? nullptr : "HW_REG_SQ_PERF_SNAPSHOT_DATA";
      case 22:
        return arch == GFX90A ? nullptr : "HW_REG_SQ_PERF_SNAPSHOT_DATA1";
      case 23:
        return arch == GFX90A ? nullptr : "HW_REG_SQ_PERF_SNAPSHOT_PC_LO";
      case 24:
        return arch == GFX90A ? nullptr : "HW_REG_SQ_PERF_SNAPSHOT_PC_HI";
      default:
        return nullptr;
    }
  }
  std::string hardware_register() const {
    unsigned x = static_cast<unsigned>(in.offset) & 0xffff, id = x & 63, lo = x >> 6 & 31,
             size = (x >> 11) + 1;
    const char* n = hwreg(arch, id);
    std::string s = n ? n : format("%u", id);
    return lo == 0 && size == 32 ? "hwreg(" + s + ")"
                                 : format("hwreg(%s, %u, %u)", s.c_str(), lo, size);
  }

  std::string gpr_idx(unsigned bits) const {
    static const char* n[] = {"SRC0", "SRC1", "SRC2", "DST"};
    std::string s = "gpr_idx(";
    bool first = true;
    for (int i = 0; i < 4; ++i)
      if (bits >> i & 1) {
        s += first ? n[i] : std::string(",") + n[i];
        first = false;
      }
    return s + ")";
  }

  void scalar() {
    const Row& r = *in.row;
    out = r.name;
    switch (r.format) {
      case Format::SOPP:
        if (r.op == 0x0c) return waitcnt();
        if (r.op == 0x1d) return put(gpr_idx(static_cast<unsigned>(in.offset)));
        if (r.op == 0x10 || r.op == 0x11) {
          unsigned id = static_cast<unsigned>(in.offset) & 15,
                   rest = static_cast<unsigned>(in.offset) >> 4;
          static const char* names[] = {nullptr,
                                        "MSG_INTERRUPT",
                                        nullptr,
                                        nullptr,
                                        "MSG_SAVEWAVE",
                                        "MSG_STALL_WAVE_GEN",
                                        "MSG_HALT_WAVES",
                                        "MSG_ORDERED_PS_DONE",
                                        "MSG_EARLY_PRIM_DEALLOC",
                                        "MSG_GS_ALLOC_REQ",
                                        "MSG_GET_DOORBELL",
                                        nullptr,
                                        nullptr,
                                        nullptr,
                                        nullptr,
                                        nullptr};
          if (names[id] && !rest) return put(format("sendmsg(%s)", names[id]));
          if (rest >> 6) return put(format("%u", static_cast<unsigned>(in.offset)));
          return put(format("sendmsg(%u, %u, %u)", id, rest & 7, rest >> 4 & 3));
        }
        if (r.flags & BRANCH) return put(format("%u", static_cast<unsigned>(in.offset) & 0xffff));
        if (r.op == 0x01 && !in.offset) return;
        if (strcmp(r.name, "s_nop") && strcmp(r.name, "s_endpgm") && strcmp(r.name, "s_setkill") &&
            strcmp(r.name, "s_sethalt") && strcmp(r.name, "s_sleep") &&
            strcmp(r.name, "s_setprio") && strcmp(r.name, "s_trap") &&
            strcmp(r.name, "s_incperflevel") && strcmp(r.name, "s_decperflevel"))
          return;
        return put(r.op == 0x0f || r.op == 0x00 || r.op == 0x0e || r.op == 0x12 || r.op == 0x01 ||
                           r.op == 0x0b || r.op == 0x0d || r.op == 0x14 || r.op == 0x15
                       ? format("%u", static_cast<unsigned>(in.offset))
                       : format("0x%x", static_cast<unsigned>(in.offset)));
      case Format::SOPK:
        if (r.op == 0x12) {
          put(hardware_register());
          return put(bare(in.src[0], T::B32));
        }
        if (r.op == 0x14) {
          put(hardware_register());
          return put(format("0x%x", in.literal));
        }
        put(bare(in.dst.kind != Kind::NONE ? in.dst : in.src[0], T::B32));
        if (r.op == 0x11) return put(hardware_register());
        if (r.flags & BRANCH) return put(format("%u", static_cast<unsigned>(in.offset) & 0xffff));
        return put(format("0x%x", static_cast<unsigned>(in.offset) & 0xffff));
      case Format::SMEM: {
        if (in.dst.kind != Kind::NONE) put(bare(in.dst, r.dst));
        if (in.src[0].kind == Kind::NONE) return;
        put(bare(in.src[0], r.src[0]));
        std::string offset = in.offset < 0 ? format("-0x%x", static_cast<unsigned>(-in.offset))
                                           : format("0x%x", static_cast<unsigned>(in.offset));
        if (in.bits & SOFF) {
          put(bare(in.src[1], T::B32));
          if (in.bits & IMM) word("offset:" + offset);
        } else {
          put(in.bits & IMM ? offset : bare(in.src[1], T::B32));
        }
        flag(in.bits & GLC, "glc");
        return;
      }
      default:
        if (in.dst.kind != Kind::NONE) put(bare(in.dst, r.dst));
        for (int i = 0; i < 2; ++i)
          if (in.src[i].kind != Kind::NONE) put(bare(in.src[i], r.src[i]));
        if (r.flags & IDX_MASK) put(gpr_idx(static_cast<unsigned>(in.offset)));
    }
  }

  void swizzle() {
    unsigned o = static_cast<unsigned>(in.offset);
    if (!o) return;
    if ((o & 0xe000) == 0xc000) {  // rotate: no such mode here, LLVM prints it
      return word(format("offset:swizzle(ROTATE,%u,%u)", o >> 10 & 1, o >> 5 & 31));
    }
    if ((o & 0xe000) == 0xe000) return word(format("offset:%u", o));
    if ((o & 0x8000) && (o & 0xff00) == 0x8000)
      return word(format("offset:swizzle(QUAD_PERM,%u,%u,%u,%u)", o & 3, o >> 2 & 3, o >> 4 & 3,
                         o >> 6 & 3));
    if (o & 0x8000) return word(format("offset:%u", o));
    unsigned a = o & 31, b = o >> 5 & 31, x = o >> 10 & 31;
    if (a == 31 && b == 0 && x && !(x & (x - 1))) return word(format("offset:swizzle(SWAP,%u)", x));
    if (a == 31 && b == 0 && x && !(x & (x + 1)))
      return word(format("offset:swizzle(REVERSE,%u)", x + 1));
    unsigned group = 32 - a;
    if (group > 1 && !(group & (group - 1)) && b < group && x == 0)
      return word(format("offset:swizzle(BROADCAST,%u,%u)", group, b));
    std::string s = "offset:swizzle(BITMASK_PERM,\"";
    for (int i = 4; i >= 0; --i) {
      unsigned p0 = ((0u & a) | b) ^ x, p1 = ((31u & a) | b) ^ x;
      unsigned z = p0 >> i & 1, n = p1 >> i & 1;
      s += z == n ? (z ? '1' : '0') : (z ? 'i' : 'p');
    }
    word(s + "\")");
  }

  void ds() {
    const Row& r = *in.row;
    out = r.name;
    if (in.dst.kind != Kind::NONE) put(bare(in.dst, r.dst));
    for (int i = 0; i < 3; ++i)
      if (in.src[i].kind != Kind::NONE) put(bare(in.src[i], r.src[i]));
    if (r.op == 0x3d) return swizzle();
    if (r.flags & DS_PAIR) {
      if (in.offset & 255) word(format("offset0:%d", in.offset & 255));
      if (in.offset >> 8) word(format("offset1:%d", in.offset >> 8));
    } else if (in.offset) {
      word(format("offset:%d", in.offset));
    }
  }

  void cache_bits() {
    bool atomic = in.row->flags & ATOMIC;
    if (arch == GFX90A) {
      flag(in.bits & GLC, "glc");
      flag(in.bits & SLC, "slc");
      flag(in.bits & SC1, "scc");
    } else {
      (void)atomic;
      flag(in.bits & GLC, "sc0");
      flag(in.bits & SLC, "nt");
      flag(in.bits & SC1, "sc1");
    }
  }

  void flat() {
    const Row& r = *in.row;
    out = r.name;
    if (in.dst.kind != Kind::NONE) put(bare(in.dst, r.dst));
    put(bare(in.src[0], T::B32));
    if (in.src[1].kind != Kind::NONE) put(bare(in.src[1], r.dst));
    if (r.format != Format::FLAT)
      put(in.src[2].kind == Kind::NONE ? "off" : bare(in.src[2], T::B32));
    if (in.offset) word(format("offset:%d", in.offset));
    cache_bits();
    flag(in.bits & LDS, "lds");
  }

  void mubuf() {
    const Row& r = *in.row;
    out = r.name;
    if (r.dst == T::NONE) return cache_bits();
    if (in.dst.kind != Kind::NONE && !(r.flags & ATOMIC)) put(bare(in.dst, r.dst));
    if (in.src[1].kind != Kind::NONE) put(bare(in.src[1], r.dst));
    put(bare(in.src[0], T::B32));
    put(bare(in.src[2], T::B128));
    put(bare(in.src[3], T::B32));
    flag(in.bits & IDXEN, "idxen");
    flag(in.bits & OFFEN, "offen");
    if (in.offset) word(format("offset:%d", in.offset));
    cache_bits();
    flag(in.bits & LDS, "lds");
  }

  std::string run() {
    switch (in.row->format) {
      case Format::VOP1:
      case Format::VOP2:
      case Format::VOPC:
      case Format::VOP3:
        vop();
        break;
      case Format::VOP3P:
        vop3p();
        break;
      case Format::MAI:
        mai();
        break;
      case Format::DS:
        ds();
        break;
      case Format::FLAT:
      case Format::GLOBAL:
      case Format::SCRATCH:
        flat();
        break;
      case Format::MUBUF:
        mubuf();
        break;
      default:
        scalar();
    }
    return out;
  }
};

}  // namespace

std::string print(Arch arch, const Inst& in) { return Printer{arch, in, {}, 0}.run(); }

std::string disassemble(Arch arch, const uint32_t* words, int available, uint64_t pc) {
  Inst in;
  const char* why = nullptr;
  if (!decode(arch, words, available, in, &why))
    return format("(%08x: %s)", available > 0 ? words[0] : 0, why ? why : "unknown");
  std::string s = print(arch, in);
  if (pc && (in.row->flags & BRANCH) &&
      (in.row->format == Format::SOPP || in.row->format == Format::SOPK))
    s += format("  // to %#llx", static_cast<unsigned long long>(pc + 4 + 4ll * in.offset));
  return s;
}

}  // namespace gfxemu
