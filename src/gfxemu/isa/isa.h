// What the decoder, the disassembler, the interpreter and the checkers share: formats, operand
// types, table rows and decoded instructions.
#pragma once
#include <cstdint>
#include <string_view>

namespace gfxemu {

enum Arch : uint8_t { GFX90A = 1, GFX942 = 2, GFX950 = 4, ALL = 7, G94 = GFX942 | GFX950 };

enum class Format : uint8_t {
  SOP1,
  SOP2,
  SOPC,
  SOPK,
  SOPP,
  SMEM,
  VOP1,
  VOP2,
  VOPC,
  VOP3,
  VOP3P,
  MAI,
  DS,
  FLAT,
  GLOBAL,
  SCRATCH,
  MUBUF,
  COUNT
};
constexpr int kFormats = static_cast<int>(Format::COUNT);

// Operand types. The suffix P marks a 16-bit result that keeps the upper half of its register.
enum class T : uint8_t {
  NONE,
  B16,
  U16,
  I16,
  F16,
  F16P,
  U16P,
  I16P,
  BF16,
  B32,
  U32,
  I32,
  F32,
  B64,
  U64,
  I64,
  F64,
  PKF16,
  PKI16,
  PKBF16,
  PKF32,
  B96,
  B128,
  B192,
  B256,
  B512,
  B1024,
  MASK,  // 64-bit lane mask in an SGPR pair
  S32,   // scalar result of a vector instruction
  DYN,   // width depends on other fields (f8f6f4 operands)
};

constexpr int dwords(T t) {
  switch (t) {
    case T::NONE:
      return 0;
    case T::B64:
    case T::U64:
    case T::I64:
    case T::F64:
    case T::PKF32:
    case T::MASK:
      return 2;
    case T::B96:
      return 3;
    case T::B128:
      return 4;
    case T::B192:
      return 6;
    case T::B256:
    case T::DYN:
      return 8;
    case T::B512:
      return 16;
    case T::B1024:
      return 32;
    default:
      return 1;
  }
}
constexpr bool is_float(T t) {
  return t == T::F16 || t == T::F16P || t == T::BF16 || t == T::F32 || t == T::F64;
}
constexpr bool is_16bit(T t) {
  switch (t) {
    case T::B16:
    case T::U16:
    case T::I16:
    case T::F16:
    case T::F16P:
    case T::U16P:
    case T::I16P:
    case T::BF16:
      return true;
    default:
      return false;
  }
}
constexpr bool is_64bit(T t) {
  return t == T::B64 || t == T::U64 || t == T::I64 || t == T::F64 || t == T::MASK;
}
constexpr bool is_packed16(T t) { return t == T::PKF16 || t == T::PKI16 || t == T::PKBF16; }

// Row flags.
enum : uint32_t {
  DST_IN = 1u << 0,     // the destination is also an input
  READS_VCC = 1u << 1,  // implicit operands of VOP and SOP rows
  WRITES_VCC = 1u << 2,
  READS_SCC = 1u << 3,
  WRITES_SCC = 1u << 4,
  READS_EXEC = 1u << 5,
  WRITES_EXEC = 1u << 6,
  READS_M0 = 1u << 7,
  OPSEL = 1u << 8,    // VOP3 op_sel means more than "high half" (fp8 conversions)
  NO_VOP3 = 1u << 9,  // VOP1/VOP2 row without a VOP3 form
  NO_DST = 1u << 10,
  TRANS = 1u << 11,    // quarter-rate unit
  LDS_DST = 1u << 12,  // memory load that writes LDS
  STORE = 1u << 13,
  ATOMIC = 1u << 14,
  IMM_LITERAL = 1u << 15,  // madmk/madak: a 32-bit constant follows
  BRANCH = 1u << 16,
  NO_DPP = 1u << 17,  // neither DPP nor SDWA
  BITOP3 = 1u << 18,
  SMFMAC = 1u << 19,      // sparse: src2 holds indices, the destination accumulates
  NAME_PLAIN = 1u << 20,  // printed without _e32/_e64
  NO_SDWA = 1u << 21,
  DS_PAIR = 1u << 22,   // two 8-bit offsets
  NO_CLAMP = 1u << 23,  // integer row: the clamp bit is an error
  CMPX = 1u << 24,
  TWO_DST = 1u << 25,       // src0 is written as well (swaps)
  IDX_MASK = 1u << 26,      // src1 is gpr_idx bits
  DPP_ROW_ONLY = 1u << 27,  // 64-bit: only row_newbcast
  PASS_BITS = 1u << 28,     // reads its operands raw (no denormal flush)
};

struct Row {
  uint16_t op;
  uint8_t archs;
  Format format;
  const char* name;
  uint32_t flags;
  T dst, sdst, src[3];
  uint16_t index;  // place in its table, the same in every handler table
  uint8_t k;       // free for the format: DS/memory element size, MFMA shape index
};

struct RowTable {
  const Row* rows;
  int count;
};
extern const RowTable kRowTables[kFormats];

enum class Kind : uint8_t { NONE, VGPR, SGPR, CONST, SPECIAL };
enum : uint8_t { NEG = 1, ABS = 2, SEXT = 4, HI = 8, DPP = 16, SDWA = 32 };

struct Operand {
  Kind kind = Kind::NONE;
  uint8_t mods = 0;  // any bit sends the fetch down its slow path
  uint8_t sel = 6;   // SDWA selection; 6 is DWORD
  uint8_t dwords = 0;
  uint16_t reg = 0;    // VGPR 0-255, AGPR 256-511; SGPR 0-127; SPECIAL: the code
  uint16_t code = 0;   // as encoded (9 bits)
  uint64_t value = 0;  // CONST, widened to the operand's type
};

struct Wave;
struct Inst;
using Handler = void (*)(Wave&, const Inst&);

struct Inst {
  Handler fn = nullptr;
  const Row* row = nullptr;
  Operand dst, sdst, src[4];
  int32_t offset = 0;  // branch target, memory offset, SIMM16
  uint32_t literal = 0;
  uint32_t words[4] = {};
  uint8_t size = 0;  // dwords
  uint8_t clamp = 0, omod = 0;
  uint8_t opsel = 0, opsel_hi = 0, neg_lo = 0, neg_hi = 0;
  uint8_t cbsz = 0, abid = 0, blgp = 0;
  uint8_t bits = 0;  // format bits: offen, idxen, glc, slc, sc1, lds, gds, imm, soffset_en
  uint8_t dpp_banks = 0, dpp_rows = 0, dpp_bound = 0;
  uint16_t dpp_ctrl = 0;
  uint8_t dst_sel = 6, dst_unused = 0;
  uint8_t out_mods = 0;   // the store takes its slow path
  uint8_t encoded64 = 0;  // VOP1/2/C row in VOP3 form
  uint8_t scale_opsel = 0, scale_opsel_hi = 0;
};
enum : uint8_t { OFFEN = 1, IDXEN = 2, GLC = 4, SLC = 8, SC1 = 16, LDS = 32, IMM = 64, SOFF = 128 };

// Decodes one instruction for one arch. Returns its size in dwords, or 0 with `why` filled.
int decode(Arch arch, const uint32_t* words, int available, Inst& out, const char** why);

const char* arch_name(Arch arch);
bool find_arch(std::string_view name, Arch* out);

}  // namespace gfxemu
