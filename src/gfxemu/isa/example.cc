#include "isa/example.h"

#include <cstring>

namespace gfxemu {
namespace {

uint32_t mix(uint32_t& s) {
  s ^= s << 13;
  s ^= s >> 17;
  s ^= s << 5;
  return s;
}
}  // namespace

const Row* row_at(int index) {
  for (const RowTable& t : kRowTables) {
    if (index < t.count) return &t.rows[index];
    index -= t.count;
  }
  return nullptr;
}

// Base bits of the format, operands at random, retried until the decoder takes it.
int example(Arch a, const Row& row, uint32_t seed, uint32_t out[4]) {
  uint32_t s = seed * 2654435761u + 12345u;
  for (int tries = 0; tries < 20000; ++tries) {
    uint32_t w[4] = {};
    uint32_t op = row.op;
    auto r = [&](uint32_t n) { return mix(s) % n; };
    auto even = [&](uint32_t n) { return mix(s) % (n / 2) * 2; };
    auto quad = [&](uint32_t n) { return mix(s) % (n / 4) * 4; };
    auto ssrc = [&](T t) -> uint32_t {
      uint32_t n = static_cast<uint32_t>(dwords(t));
      uint32_t k = row.flags & (BRANCH | READS_M0) ? 5 : r(6);
      if (k == 0) return 128 + r(81);
      if (k == 1) return 240 + r(8);
      return n == 1 ? r(102) : n == 2 ? even(100) : quad(88);
    };
    auto vsrc = [&](T t) -> uint32_t {
      uint32_t n = static_cast<uint32_t>(dwords(t));
      // One scalar at most, and none beside an implicit one.
      bool plain = row.dst == T::S32 || (row.flags & (IMM_LITERAL | READS_VCC)) ||
                   row.src[2] == T::MASK || t == T::PKF32;
      if (n <= 2 && !plain && r(3) == 0) return ssrc(t);
      return 256 + (n == 1 ? r(256) : even(256 - n - n % 2));
    };
    auto vdst = [&](T t) -> uint32_t {
      uint32_t n = static_cast<uint32_t>(dwords(t));
      return n <= 1 ? r(256) : even(256 - n - n % 2);
    };
    switch (row.format) {
      case Format::SOP1:
        w[0] = 0xbe800000u | op << 8 |
               (row.dst == T::NONE    ? 0
                : dwords(row.dst) > 1 ? even(100)
                                      : r(102))
                   << 16 |
               (row.src[0] == T::NONE ? 0 : ssrc(row.src[0]));
        break;
      case Format::SOP2:
        w[0] = 0x80000000u | op << 23 | (dwords(row.dst) > 1 ? even(100) : r(102)) << 16 |
               ssrc(row.src[1]) << 8 | ssrc(row.src[0]);
        break;
      case Format::SOPC:
        w[0] = 0xbf000000u | op << 16 | (row.flags & IDX_MASK ? r(16) : ssrc(row.src[1])) << 8 |
               ssrc(row.src[0]);
        break;
      case Format::SOPK:
        w[0] = 0xb0000000u | op << 23 |
               (row.dst == T::NONE  ? 0
                : row.dst == T::B64 ? even(100)
                                    : r(102))
                   << 16 |
               (op == 0x11 || op == 0x12 || op == 0x14 ? (1 + r(7)) | r(32) << 6 | r(32) << 11
                                                       : r(65536));
        w[1] = mix(s);
        break;
      case Format::SOPP:
        w[0] = 0xbf800000u | op << 16 |
               (op == 0x1d                 ? r(16)
                : op == 0x10 || op == 0x11 ? 1
                : op == 0                  ? r(16)
                : op == 0x0c               ? (r(65536) & ~0x3080u)
                : op == 0x0a || op == 0x1c || op == 0x03 || op == 0x13 || op == 0x16 || op == 0x1b
                    ? 0
                    : r(100));
        break;
      case Format::SMEM: {
        w[0] = 0xc0000000u | op << 18;
        if (row.dst != T::NONE)
          w[0] |= (dwords(row.dst) > 2 ? quad(80) : dwords(row.dst) > 1 ? even(100) : r(102)) << 6;
        if (row.src[0] == T::NONE) break;
        w[0] |= (row.src[0] == T::B128 ? quad(96) : even(100)) / 2;
        if (strstr(row.name, "discard")) w[0] &= ~(127u << 6);
        uint32_t k = r(3);
        if (k == 0)
          w[1] = r(102);
        else if (k == 1)
          w[0] |= 1u << 17, w[1] = r(1u << 20);
        else
          w[0] |= 1u << 17 | 1u << 14, w[1] = r(1u << 20) | r(102) << 25;
        if (row.dst != T::NONE && r(2) && (row.flags & ATOMIC)) w[0] |= 1u << 16;
        break;
      }
      case Format::VOP1:
      case Format::VOP2:
      case Format::VOPC: {
        bool one = row.format == Format::VOP1, cmp = row.format == Format::VOPC;
        uint32_t form = r(4);
        if (form == 1 && !(row.flags & NO_VOP3)) {
          w[0] = 0xd0000000u |
                 (op + (cmp   ? 0
                        : one ? 0x140
                              : 0x100))
                     << 16 |
                 (cmp                  ? even(100)
                  : row.dst == T::S32  ? r(102)
                  : row.dst == T::NONE ? 0
                                       : vdst(row.dst));
          w[1] = (row.src[0] == T::NONE ? 0 : 256 + vdst(row.src[0])) |
                 (row.src[1] == T::NONE ? 0 : vsrc(row.src[1])) << 9;
          if (row.src[2] == T::MASK) w[1] |= even(100) << 18;
          if (row.sdst != T::NONE && !cmp) w[0] |= even(100) << 8;
          if (is_float(row.src[0]) && r(2))
            w[1] |= r(row.src[1] == T::NONE || !is_float(row.src[1]) ? 2 : 4) << 29;
          if (is_float(row.dst) && r(3) == 0) w[0] |= 1u << 15;
          break;
        }
        uint32_t base = one ? 0x7e000000u | op << 9 : cmp ? 0x7c000000u | op << 17 : op << 25;
        if (!cmp && row.dst != T::NONE) base |= (row.dst == T::S32 ? r(102) : vdst(row.dst)) << 17;
        if (row.src[1] != T::NONE) base |= vdst(row.src[1]) << 9;
        if (form >= 2 && !(row.flags & NO_DPP) && !(form == 2 && cmp)) {
          if (form == 3 && (row.flags & NO_SDWA)) continue;
          if (form == 2 && (dwords(row.dst) > 1 || is_64bit(row.src[0]))) continue;
          if (form == 3 && (row.flags & OPSEL)) continue;
          if (form == 3 && (is_64bit(row.src[0]) || is_64bit(row.src[1]) || dwords(row.dst) > 1))
            continue;
          w[0] = base | (form == 2 ? 250 : 249);
          if (form == 2) {
            static const uint32_t c[] = {0x1b,  0xe4,  0x101, 0x10f, 0x111, 0x11f,
                                         0x121, 0x12f, 0x130, 0x134, 0x138, 0x13c,
                                         0x140, 0x141, 0x142, 0x143, 0x150, 0x15f};
            w[1] = r(256) | c[r(18)] << 8 | r(2) << 19 | r(256) << 24;
          } else {
            w[1] = r(256) | r(7) << 16 | (cmp ? 0 : r(7) << 8 | r(3) << 11);
            if (row.src[1] != T::NONE) w[1] |= r(7) << 24;
          }
          break;
        }
        w[0] = base | (row.src[0] == T::NONE                        ? 0
                       : row.flags & TWO_DST || (one && op == 0x52) ? 256 + r(256)
                                                                    : vsrc(row.src[0]));
        w[1] = row.src[0] == T::F16 ? 0x1000u + r(0x1000) : mix(s) | 0x10000000u;
        break;
      }
      case Format::VOP3: {
        w[0] = 0xd0000000u | op << 16 | (row.dst == T::S32 ? r(102) : vdst(row.dst));
        int scalars = 0;
        for (int i = 0; i < 3; ++i) {
          T t = row.src[i];
          if (t == T::NONE) continue;
          if (scalars && t == T::S32) {
            w[1] |= (128 + r(64)) << 9 * i;
            continue;
          }
          uint32_t c = t == T::S32    ? r(102)
                       : t == T::MASK ? even(100)
                       : scalars      ? 256 + vdst(t)
                                      : vsrc(t);
          if (c < 256) ++scalars;
          w[1] |= c << 9 * i;
        }
        if (row.sdst != T::NONE) w[0] |= even(100) << 8;
        if (row.flags & BITOP3)
          w[0] |= r(8) << 8, w[1] |= r(32) << 27;
        else if (is_float(row.src[0]) && row.src[0] == row.src[1] && r(2))
          w[1] |= r(4) << 29;
        break;
      }
      case Format::VOP3P: {
        w[0] = 0xd3800000u | op << 16 | vdst(row.dst) | r(8) << 11;
        bool three = row.src[2] != T::NONE;
        int scalars = 0;
        for (int i = 0; i < (three ? 3 : 2); ++i) {
          uint32_t c = scalars || r(2)          ? 256 + vdst(row.src[i])
                       : dwords(row.src[i]) > 1 ? even(100)
                                                : r(102);
          if (c < 256) ++scalars;
          w[1] |= c << 9 * i;
        }
        if (!three || row.src[2] == T::F32) w[0] &= strstr(row.name, "mix") ? ~0u : ~(1u << 13);
        w[1] |= r(4) << 27;
        if (three && (row.src[2] != T::F32 || strstr(row.name, "mix")))
          w[0] |= r(2) << 14;
        else
          w[0] |= 1u << 14;
        if (row.src[0] == T::B32 || row.src[0] == T::PKI16 || strstr(row.name, "dot")) {
          if (strstr(row.name, "dot")) w[0] &= ~(7u << 11), w[0] |= 1u << 14, w[1] |= 3u << 27;
        } else if (r(2) && !strstr(row.name, "mov")) {
          w[1] |= r(4) << 29;
          w[0] |= r(4) << 8;
        }
        break;
      }
      case Format::MAI: {
        if (op == 0x58)
          w[0] = 0xd3d84000u | r(256), w[1] = 0x18000000u | (256 + r(256));
        else if (op == 0x59)
          w[0] = 0xd3d94000u | r(256), w[1] = 0x18000000u | (r(2) ? 256 + r(256) : 128 + r(60));
        else {
          uint32_t cd = r(2);
          w[0] = 0xd3800000u | op << 16 | vdst(row.dst) | cd << 15;
          bool scaled = row.src[0] == T::DYN && r(2);
          uint32_t fa = row.src[0] == T::DYN ? r(5) : 0, fb = row.src[0] == T::DYN ? r(5) : 0;
          T ta = row.src[0] == T::DYN ? T::B256 : row.src[0],
            tb = row.src[1] == T::DYN ? T::B256 : row.src[1];
          w[1] = (256 + vdst(ta)) | (256 + vdst(tb)) << 9 |
                 (row.flags & SMFMAC || r(3) ? 256 + vdst(row.flags & SMFMAC ? T::B32 : row.src[2])
                                             : 128 + r(64))
                     << 18 |
                 r(4) << 27;
          w[0] |= fa << 8;
          w[1] |= fb << 29;
          if (row.flags & SMFMAC) w[0] |= r(2) << 11;
          if (scaled) {
            w[2] = w[0] | 1u << 11;
            w[3] = w[1];
            w[0] = 0xd3ac0000u | r(4) << 11;
            w[1] = (256 + r(256)) | (256 + r(256)) << 9 | r(4) << 27;
          }
        }
        break;
      }
      case Format::DS:
        w[0] = 0xd8000000u | op << 17 |
               (op == 0x14   ? 0
                : op == 0x3d ? r(65536)
                             : r(65536)) |
               (r(4) ? 0 : 1u << 25);
        if (op == 0x14) break;
        if (op != 0xb6 && op != 0xbd && op != 0xbe && op != 0x1d) w[1] = r(256);
        if (row.src[1] != T::NONE) w[1] |= vdst(row.src[1]) << 8;
        if (row.src[2] != T::NONE) w[1] |= vdst(row.src[2]) << 16;
        if (row.dst != T::NONE) w[1] |= vdst(row.dst) << 24;
        break;
      case Format::FLAT:
      case Format::GLOBAL:
      case Format::SCRATCH: {
        uint32_t seg = row.format == Format::FLAT ? 0 : row.format == Format::SCRATCH ? 1 : 2;
        w[0] = 0xdc000000u | op << 18 | seg << 14 | (seg ? r(8192) : r(4096));
        bool off = seg == 0 || r(2);
        w[1] = 127u << 16;
        if (!off) w[1] = (seg == 1 ? r(102) : even(100)) << 16;
        if (seg == 0) w[1] = 0;
        if (seg == 1) {
          bool v = a == GFX90A ? off : r(2);
          if (v) {
            w[1] |= r(256);
            if (a != GFX90A) w[0] |= 1u << 13;
          }
        } else {
          w[1] |= off ? even(254) : r(256);
        }
        T t = row.dst;
        if (t != T::NONE && r(4) == 0) w[1] |= 1u << 23;
        if (row.flags & (STORE | ATOMIC))
          w[1] |= vdst(t) << 8;
        else if (t != T::NONE)
          w[1] |= vdst(t) << 24;
        if (row.flags & ATOMIC && r(2)) w[0] |= 1u << 16, w[1] |= vdst(t) << 24;
        if (!(row.flags & ATOMIC) && r(2)) w[0] |= r(4) << 16;
        break;
      }
      case Format::MUBUF: {
        w[0] = 0xe0000000u | op << 18;
        if (row.dst == T::NONE) break;
        w[0] |= r(4096) | r(4) << 12;
        w[1] = vdst(row.dst) << 8 | quad(96) / 4 << 16 | (r(2) ? 128 + r(30) : r(102)) << 24;
        if (w[0] >> 12 & 3) w[1] |= (w[0] >> 12 & 3) == 3 ? even(254) : r(256);
        if (r(4) == 0) w[1] |= 1u << 23;
        if (row.flags & ATOMIC && r(2)) w[0] |= 1u << 14;
        break;
      }
      default:
        return -1;
    }
    Inst in;
    const char* why = nullptr;
    int n = decode(a, w, 4, in, &why);
    auto overlaps = [](const Operand& x, const Operand& y) {  // in part
      return x.kind == Kind::VGPR && y.kind == Kind::VGPR && x.reg != y.reg &&
             x.reg < y.reg + y.dwords && y.reg < x.reg + x.dwords;
    };
    if (n && row.format == Format::MAI &&
        (overlaps(in.dst, in.src[2]) || overlaps(in.dst, in.src[0]) || overlaps(in.dst, in.src[1])))
      continue;
    if (n && in.row == &row) {
      for (int i = 0; i < 4; ++i) out[i] = i < n ? w[i] : 0;
      return n;
    }
  }
  return -2;
}

}  // namespace gfxemu
