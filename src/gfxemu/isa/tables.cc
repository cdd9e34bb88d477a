// The row tables, built from the .inc files. The interpreter includes the same files in the same
// order, so a row's index is its handler's index.
#include "isa/isa.h"

namespace gfxemu {
namespace {

#define ROW(op, archs, format, name, flags, dst, sdst, a, b, c, k) \
  {op,                                                             \
   static_cast<uint8_t>(archs),                                    \
   Format::format,                                                 \
   name,                                                           \
   flags,                                                          \
   T::dst,                                                         \
   T::sdst,                                                        \
   {T::a, T::b, T::c},                                             \
   0,                                                              \
   k},

#define V1(op, name, archs, d, a, ...) ROW(op, archs, VOP1, #name, 0, d, NONE, a, NONE, NONE, 0)
#define V1T(op, name, archs, d, a, ...) \
  ROW(op, archs, VOP1, #name, TRANS, d, NONE, a, NONE, NONE, 0)
#define VX(op, name, archs, flags, d, s, a, b, c, ...) \
  ROW(op, archs, VOP1, #name, flags, d, s, a, b, c, 0)
Row vop1[] = {
#include "isa/vop1.inc"
};
#undef V1
#undef V1T
#undef VX

#define V2(op, name, archs, d, a, b, ...) ROW(op, archs, VOP2, #name, 0, d, NONE, a, b, NONE, 0)
#define V2D(op, name, archs, d, a, b, ...) \
  ROW(op, archs, VOP2, #name, DST_IN | NO_SDWA, d, NONE, a, b, NONE, 0)
#define VX(op, name, archs, flags, d, s, a, b, c, ...) \
  ROW(op, archs, VOP2, #name, flags, d, s, a, b, c, 0)
Row vop2[] = {
#include "isa/vop2.inc"
};
#undef V2
#undef V2D
#undef VX

#define V2(op, name, archs, d, a, b, ...) ROW(op, archs, VOP3, #name, 0, d, NONE, a, b, NONE, 0)
#define V3(op, name, archs, d, a, b, c, ...) ROW(op, archs, VOP3, #name, 0, d, NONE, a, b, c, 0)
#define VX(op, name, archs, flags, d, s, a, b, c, ...) \
  ROW(op, archs, VOP3, #name, flags, d, s, a, b, c, 0)
Row vop3[] = {
#include "isa/vop3.inc"
};
#undef V2
#undef V3
#undef VX

#define VC(op, name, archs, flags, a, b, ...) \
  ROW(op, archs, VOPC, #name, flags, NONE, MASK, a, b, NONE, 0)
Row vopc[] = {
#include "isa/vopc.inc"
};
#undef VC

#define PF2(op, name, archs, ...) \
  ROW(op, archs, VOP3P, #name, 0, PKF16, NONE, PKF16, PKF16, NONE, 0)
#define PF3(op, name, archs, ...) \
  ROW(op, archs, VOP3P, #name, 0, PKF16, NONE, PKF16, PKF16, PKF16, 0)
#define PI2(op, name, archs, t, ...) \
  ROW(op, archs, VOP3P, #name, 0, PKI16, NONE, PKI16, PKI16, NONE, 0)
#define PI3(op, name, archs, t, ...) \
  ROW(op, archs, VOP3P, #name, 0, PKI16, NONE, PKI16, PKI16, PKI16, 0)
#define PX(op, name, archs, flags, d, a, b, c, ...) \
  ROW(op, archs, VOP3P, #name, flags, d, NONE, a, b, c, 0)
Row vop3p[] = {
#include "isa/vop3p.inc"
};
#undef PF2
#undef PF3
#undef PI2
#undef PI3
#undef PX

#define MFMA(op, name, archs, a, b, c, passes, ...) \
  ROW(op, archs, MAI, #name, 0, c, NONE, a, b, c, passes)
#define MFMA_F8F6F4(op, name, archs, c, passes, ...) \
  ROW(op, archs, MAI, #name, 0, c, NONE, DYN, DYN, c, passes)
#define SMFMAC(op, name, archs, a, b, c, passes, ...) \
  ROW(op, archs, MAI, #name, SMFMAC | DST_IN, c, NONE, a, b, B32, passes)
#define AX(op, name, archs, ...) ROW(op, archs, MAI, #name, 0, B32, NONE, B32, NONE, NONE, 0)
Row mai[] = {
#include "isa/mai.inc"
};
#undef MFMA
#undef MFMA_F8F6F4
#undef SMFMAC
#undef AX

#define S1(op, name, archs, flags, d, a, ...) \
  ROW(op, archs, SOP1, #name, flags, d, NONE, a, NONE, NONE, 0)
#define S1N(op, name, archs, flags, d, a, ...) \
  ROW(op, archs, SOP1, #name, (flags) | WRITES_SCC, d, NONE, a, NONE, NONE, 0)
#define SX(op, name, archs, flags, d, a, b, ...) \
  ROW(op, archs, SOP1, #name, flags, d, NONE, a, b, NONE, 0)
#define SAVEEXEC(op, name, archs, ...) \
  ROW(op, archs, SOP1, #name, READS_EXEC | WRITES_EXEC | WRITES_SCC, B64, NONE, B64, NONE, NONE, 0)
Row sop1[] = {
#include "isa/sop1.inc"
};
#undef S1
#undef S1N
#undef SX
#undef SAVEEXEC

#define S2(op, name, archs, flags, d, a, b, ...) \
  ROW(op, archs, SOP2, #name, flags, d, NONE, a, b, NONE, 0)
#define S2N(op, name, archs, flags, d, a, b, ...) \
  ROW(op, archs, SOP2, #name, (flags) | WRITES_SCC, d, NONE, a, b, NONE, 0)
Row sop2[] = {
#include "isa/sop2.inc"
};
#undef S2
#undef S2N

#define SC(op, name, archs, a, b, ...) \
  ROW(op, archs, SOPC, #name, WRITES_SCC, NONE, NONE, a, b, NONE, 0)
#define SX(op, name, archs, flags, d, a, b, ...) \
  ROW(op, archs, SOPC, #name, flags, d, NONE, a, b, NONE, 0)
Row sopc[] = {
#include "isa/sopc.inc"
};
#undef SC
#undef SX

#define KX(op, name, archs, flags, d, ...) \
  ROW(op, archs, SOPK, #name, flags, d, NONE, NONE, NONE, NONE, 0)
#define KC(op, name, archs, ...) \
  ROW(op, archs, SOPK, #name, NO_DST | DST_IN | WRITES_SCC, B32, NONE, NONE, NONE, NONE, 1)
Row sopk[] = {
#include "isa/sopk.inc"
};
#undef KX
#undef KC

#define PX(op, name, archs, flags, ...) \
  ROW(op, archs, SOPP, #name, flags, NONE, NONE, NONE, NONE, NONE, 0)
Row sopp[] = {
#include "isa/sopp.inc"
};
#undef PX

#define MX(op, name, archs, flags, d, base, ...) \
  ROW(op, archs, SMEM, #name, flags, d, NONE, base, NONE, NONE, 0)
Row smem[] = {
#include "isa/smem.inc"
};
#undef MX

#define DX(op, name, archs, flags, r, a, b, ...) \
  ROW(op, archs, DS, #name, flags, r, NONE, B32, a, b, 0)
Row ds[] = {
#include "isa/ds.inc"
};
#undef DX

// Segments a row exists in, kept in Row::k and checked by the decoder.
enum {
  ON_FLAT = 1,
  ON_GLOBAL = 2,
  ON_SCRATCH = 4,
  ANY = 7,
  NO_SCRATCH = 3,
  LDSABLE = 6,
  GLOBAL_ONLY = 2,
  FLAT_G94 = 3 | 8 /* the flat form not on gfx90a */
};
#define FX(op, name, archs, segs, flags, t, ...) \
  ROW(op, archs, FLAT, "flat_" #name, flags, t, NONE, B64, NONE, NONE, segs)
Row flat[] = {
#include "isa/flat.inc"
};
#undef FX
#define FX(op, name, archs, segs, flags, t, ...) \
  ROW(op, archs, GLOBAL, "global_" #name, flags, t, NONE, B64, NONE, NONE, segs)
Row global[] = {
#include "isa/flat.inc"
};
#undef FX
#define FX(op, name, archs, segs, flags, t, ...) \
  ROW(op, archs, SCRATCH, "scratch_" #name, flags, t, NONE, B32, NONE, NONE, segs)
Row scratch[] = {
#include "isa/flat.inc"
};
#undef FX

#define BX(op, name, archs, flags, t, ...) \
  ROW(op, archs, MUBUF, #name, flags, t, NONE, B32, NONE, NONE, 0)
Row mubuf[] = {
#include "isa/mubuf.inc"
};
#undef BX

template <int N>
RowTable table(Row (&rows)[N], Format format) {
  for (int i = 0; i < N; ++i) {
    rows[i].index = static_cast<uint16_t>(i);
    rows[i].format = format;
    if (format == Format::FLAT && !(rows[i].k & ON_FLAT)) rows[i].archs = 0;
    if (format == Format::FLAT && (rows[i].k & 8)) rows[i].archs &= G94;
    if (format == Format::GLOBAL && !(rows[i].k & ON_GLOBAL)) rows[i].archs = 0;
    if (format == Format::SCRATCH && !(rows[i].k & ON_SCRATCH)) rows[i].archs = 0;
  }
  return {rows, N};
}

}  // namespace

// In the order of Format.
const RowTable kRowTables[kFormats] = {
    table(sop1, Format::SOP1),       table(sop2, Format::SOP2),   table(sopc, Format::SOPC),
    table(sopk, Format::SOPK),       table(sopp, Format::SOPP),   table(smem, Format::SMEM),
    table(vop1, Format::VOP1),       table(vop2, Format::VOP2),   table(vopc, Format::VOPC),
    table(vop3, Format::VOP3),       table(vop3p, Format::VOP3P), table(mai, Format::MAI),
    table(ds, Format::DS),           table(flat, Format::FLAT),   table(global, Format::GLOBAL),
    table(scratch, Format::SCRATCH), table(mubuf, Format::MUBUF),
};

const char* arch_name(Arch arch) {
  return arch == GFX90A ? "gfx90a" : arch == GFX950 ? "gfx950" : "gfx942";
}

bool find_arch(std::string_view name, Arch* out) {
  for (Arch a : {GFX90A, GFX942, GFX950})
    if (name == arch_name(a)) return *out = a, true;
  return false;
}

}  // namespace gfxemu
