// Matrix instructions. A lane holds consecutive k of one row of A (column of B): element e of lane l
// is A[l % M][k] of block (l / M) % B, with k = KPL * (l / (M * B)) + e. Accumulators: see rows below.
#include <type_traits>

#include "exec/core.h"

namespace gfxemu::GFXEMU_ISA {
namespace {

void accvgpr_mov(Wave& w, const Inst& in) {
  w.wmask = w.exec();
  alignas(64) uint32_t ab[kLanes];
  const uint32_t* a = fetch<T::B32>(w, in, 0, ab);
  write_plane(plane(w, in.dst.reg), a, w.wmask);
}

typedef float V16 __attribute__((vector_size(64)));
typedef double V8 __attribute__((vector_size(64)));

// Elements: how many bits, and a register plane's i-th element as float.
struct F32 { static constexpr int bits = 32; static GFXEMU_INLINE float get(uint32_t x, int) { return bits_as<float>(x); } };
struct XF32 {  // inputs keep 10 bits of mantissa
  static constexpr int bits = 32;
  static GFXEMU_INLINE float get(uint32_t x, int) {
    uint32_t r = (x + 0xfffu + (x >> 13 & 1)) & ~0x1fffu;
    return bits_as<float>((x & 0x7f800000u) == 0x7f800000u ? x : r);
  }
};
struct F16 { static constexpr int bits = 16; static GFXEMU_INLINE float get(uint32_t x, int i) { return half_to_float(x >> 16 * i & 0xffff); } };
struct BF16 { static constexpr int bits = 16; static GFXEMU_INLINE float get(uint32_t x, int i) { return bits_as<float>(i ? x & 0xffff0000u : x << 16); } };
struct I8 { static constexpr int bits = 8; static GFXEMU_INLINE float get(uint32_t x, int i) { return (float)((int32_t)(x << (24 - 8 * i)) >> 24); } };
template <class S> struct Byte { static constexpr int bits = 8; static GFXEMU_INLINE float get(uint32_t x, int i) { return S::decode(x >> 8 * i & 255); } };
struct FP8 : Byte<E4M3> {};  // FNUZ on gfx942: chosen in unpack
struct BF8 : Byte<E5M2> {};
struct F64 { static constexpr int bits = 64; };

constexpr int kMaxElements = 64;
struct Planes {
  alignas(64) float e[kMaxElements][kLanes];
};

template <class E>
GFXEMU_INLINE void unpack_as(const uint32_t* regs, int count, Planes& out) {
  constexpr int kPer = 32 / E::bits;
  for (int r = 0; r < count / kPer; ++r)
    for (int i = 0; i < kPer; ++i) LANES out.e[r * kPer + i][l] = E::get(regs[r * kLanes + l], i);
}
template <class E>
void unpack(Wave& w, const uint32_t* regs, int count, Planes& out) {
  if constexpr (std::is_same_v<E, FP8> || std::is_same_v<E, BF8>) {
    if (wave_arch(w) != GFX950) {
      using Fnuz = std::conditional_t<std::is_same_v<E, FP8>, E4M3Fnuz, E5M2Fnuz>;
      return unpack_as<Byte<Fnuz>>(regs, count, out);
    }
  }
  unpack_as<E>(regs, count, out);
  if constexpr (std::is_same_v<E, F16>) {
    if (wave_arch(w) == GFX90A)  // inputs are flushed there
      for (int i = 0; i < count; ++i) LANES out.e[i][l] = fabsf(out.e[i][l]) < 0x1p-14f ? 0.0f : out.e[i][l];
  }
}

// BLGP: which lanes of B stand in for which.
void lane_pattern(Planes& b, int count, unsigned blgp) {
  if (!blgp) return;
  for (int i = 0; i < count; ++i) {
    alignas(64) float t[kLanes];
    memcpy(t, b.e[i], sizeof(t));
    LANES {
      int from = blgp == 1 ? l & 31 : blgp == 2 ? (l & 31) + 32 : blgp == 3 ? (l + 16) & 63 : (l & 15) + 16 * (int)(blgp - 4);
      b.e[i][l] = t[from];
    }
  }
}

// Accumulates D += A x B over `steps` pairs of planes. For 32x32, D's register r and half h hold row
// 8 * (r / 4) + 4 * h + r % 4; for 16x16, register r and quarter q hold row 4 * q + r.
struct Step {
  const float *a, *b;  // the k-th column of A (M floats) and row of B (N floats)
};
template <class Acc>
GFXEMU_INLINE V16 load_acc(const uint32_t* p) {
  V16 r;
  if constexpr (std::is_same_v<Acc, float>) memcpy(&r, p, 64);
  else r = V16{};
  return r;
}
template <class Acc>
GFXEMU_INLINE void store_acc(uint32_t* p, const uint32_t* c, V16 x) {
  if constexpr (std::is_same_v<Acc, float>) {
    memcpy(p, &x, 64);
  } else {  // integer sums are exact in float below 2^24; they join C as integers
    for (int i = 0; i < 16; ++i) p[i] = c[i] + (uint32_t)(int32_t)x[i];
  }
}
template <int M, class Acc>
GFXEMU_INLINE void multiply(const Step* steps, int count, const uint32_t* c, uint32_t* d) {
  if constexpr (M == 32) {
    for (int g = 0; g < 8; ++g) {  // four rows, two vectors each
      int r0 = (g >> 1) * 4, h = g & 1, row = 8 * (g >> 1) + 4 * h;
      V16 acc[4][2];
      for (int q = 0; q < 4; ++q)
        for (int v = 0; v < 2; ++v) acc[q][v] = load_acc<Acc>(c + (r0 + q) * kLanes + 32 * h + 16 * v);
      for (int k = 0; k < count; ++k) {
        V16 b0 = *(const V16*)steps[k].b, b1 = *(const V16*)(steps[k].b + 16);
        const float* a = steps[k].a + row;
        for (int q = 0; q < 4; ++q) {
          acc[q][0] += a[q] * b0;
          acc[q][1] += a[q] * b1;
        }
      }
      for (int q = 0; q < 4; ++q)
        for (int v = 0; v < 2; ++v) {
          int at = (r0 + q) * kLanes + 32 * h + 16 * v;
          store_acc<Acc>(d + at, c + at, acc[q][v]);
        }
    }
  } else {
    for (int g = 0; g < 2; ++g) {  // eight rows
      V16 acc[8];
      for (int q = 0; q < 8; ++q) acc[q] = load_acc<Acc>(c + (q & 3) * kLanes + 16 * (2 * g + (q >> 2)));
      for (int k = 0; k < count; ++k) {
        V16 b = *(const V16*)steps[k].b;
        const float* a = steps[k].a + 8 * g;
        for (int q = 0; q < 8; ++q) acc[q] += a[q] * b;
      }
      for (int q = 0; q < 8; ++q) {
        int at = (q & 3) * kLanes + 16 * (2 * g + (q >> 2));
        store_acc<Acc>(d + at, c + at, acc[q]);
      }
    }
  }
}

// The accumulator input as planes: registers, or a constant in every lane.
const uint32_t* accumulator(Wave& w, const Inst& in, int registers, uint32_t* buf) {
  const Operand& o = in.src[2];
  if (o.kind == Kind::VGPR) return plane(w, o.reg);
  uint32_t x = scalar32(w, o);
  for (int i = 0; i < registers * kLanes; ++i) buf[i] = x;
  return buf;
}

template <class E>
constexpr bool kFlushes90a = std::is_same_v<E, F16> || std::is_same_v<E, BF16>;

template <int M, int N, int K, int B, class EA, class EB, class Acc>
void mfma(Wave& w, const Inst& in) {
  static_assert(M == N);
  constexpr int kGroups = kLanes / (M * B), kPerLane = K / kGroups, kRegs = M * N * B / kLanes;
  PlainMode mode(w);
  if (kFlushes90a<EA> && wave_arch(w) == GFX90A) set_host_mode(0x9fc0u);
  if (in.clamp) return fault(w, in, "the clamp bit of an MFMA");
  if ((1 << in.cbsz) > B && in.cbsz) return fault(w, in, "cbsz %u of %d blocks", in.cbsz, B);
  Planes a, b;
  unpack<EA>(w, plane(w, in.src[0].reg), kPerLane, a);
  unpack<EB>(w, plane(w, in.src[1].reg), kPerLane, b);
  lane_pattern(b, kPerLane, in.blgp);
  alignas(64) uint32_t buf[kRegs * kLanes], out[kRegs * kLanes];
  const uint32_t* c = accumulator(w, in, kRegs, buf);
  auto source_block = [&](int block) {
    int n = 1 << in.cbsz;
    return in.cbsz ? (block & ~(n - 1)) + (in.abid & (n - 1)) : block;
  };
  if constexpr (M >= 16) {
    constexpr int kBlockRegs = kRegs / B;
    for (int block = 0; block < B; ++block) {
      Step steps[K];
      int n = 0;
      for (int g = 0; g < kGroups; ++g)
        for (int e = 0; e < kPerLane; ++e)
          steps[n++] = {a.e[e] + (g * B + source_block(block)) * M, b.e[e] + (g * B + block) * N};
      multiply<M, Acc>(steps, n, c + block * kBlockRegs * kLanes, out + block * kBlockRegs * kLanes);
    }
  } else {  // 4x4x.. of 16 blocks: register r is row r, lane 4 * block + column
    for (int r = 0; r < 4; ++r)
      LANES {
        float sum = std::is_same_v<Acc, float> ? bits_as<float>(c[r * kLanes + l]) : 0.0f;
        for (int e = 0; e < kPerLane; ++e) sum = fmaf(a.e[e][source_block(l / 4) * 4 + r], b.e[e][l], sum);
        out[r * kLanes + l] = std::is_same_v<Acc, float> ? bits_as<uint32_t>(sum) : c[r * kLanes + l] + (uint32_t)(int32_t)sum;
      }
  }
  memcpy(plane(w, in.dst.reg), out, sizeof(out));
}

// f64: one element a lane; register pair r and lane group q hold row 4 * r + q. BLGP negates A, B, C.
template <int M, int N, int K, int B>
void mfma_f64(Wave& w, const Inst& in) {
  PlainMode mode(w);
  constexpr int kPairs = M * N * B / kLanes;
  alignas(64) double a[kLanes], b[kLanes], c[kPairs][kLanes], out[kPairs][kLanes];
  auto read = [&](const uint32_t* p, double* d, bool neg) {
    LANES {
      double x = bits_as<double>((uint64_t)p[kLanes + l] << 32 | p[l]);
      d[l] = neg ? -x : x;
    }
  };
  read(plane(w, in.src[0].reg), a, in.blgp & 1);
  read(plane(w, in.src[1].reg), b, in.blgp & 2);
  for (int r = 0; r < kPairs; ++r) {
    if (in.src[2].kind == Kind::VGPR) read(plane(w, in.src[2].reg) + 2 * r * kLanes, c[r], in.blgp & 4);
    else LANES c[r][l] = in.blgp & 4 ? -bits_as<double>(scalar64(w, in.src[2])) : bits_as<double>(scalar64(w, in.src[2]));
  }
  for (int r = 0; r < kPairs; ++r)
    LANES {
      int column = l % N, block = (l / N) % B, row = 4 * r + l / (N * B);
      double sum = c[r][l];
      for (int k = 0; k < K; ++k) sum = fma(a[row + M * (block + B * k)], b[column + N * (block + B * k)], sum);
      out[r][l] = sum;
    }
  uint32_t* d = plane(w, in.dst.reg);
  for (int r = 0; r < kPairs; ++r)
    LANES {
      uint64_t x = bits_as<uint64_t>(out[r][l]);
      d[2 * r * kLanes + l] = (uint32_t)x;
      d[(2 * r + 1) * kLanes + l] = (uint32_t)(x >> 32);
    }
}
template <int M, int N, int K, int B, class EA, class EB, class Acc>
void choose(Wave& w, const Inst& in) {
  if constexpr (std::is_same_v<Acc, double>) mfma_f64<M, N, K, B>(w, in);
  else mfma<M, N, K, B, EA, EB, Acc>(w, in);
}

// f8f6f4: A's format is CBSZ, B's is BLGP: 0 fp8, 1 bf8, 2 fp6, 3 bf6, 4 fp4. A lane holds 32
// elements; 8-bit ones lie in two chunks of 16 k (the groups of lanes take turns), the others in one.
void unpack_small(const uint32_t* regs, unsigned format, Planes& out) {
  if (format == 0) return unpack_as<Byte<E4M3>>(regs, 32, out);
  if (format == 1) return unpack_as<Byte<E5M2>>(regs, 32, out);
  if (format == 4) {
    for (int i = 0; i < 32; ++i) LANES out.e[i][l] = E2M1::decode(regs[i / 8 * kLanes + l] >> 4 * (i % 8) & 15);
    return;
  }
  for (int i = 0; i < 32; ++i) {
    int bit = 6 * i, word = bit / 32, sh = bit % 32;
    LANES {
      uint64_t x = regs[word * kLanes + l];
      if (sh > 26) x |= (uint64_t)regs[(word + 1) * kLanes + l] << 32;
      uint32_t v = (uint32_t)(x >> sh) & 63;
      out.e[i][l] = format == 2 ? E2M3::decode(v) : E3M2::decode(v);
    }
  }
}
float e8m0(uint32_t x) { return x == 255 ? bits_as<float>(0x7fc00000u) : x == 0 ? 0x1p-127f : bits_as<float>(x << 23); }

template <int M, int K>
void mfma_f8f6f4(Wave& w, const Inst& in) {
  constexpr int kGroups = kLanes / M, kRegs = M * M / kLanes;
  PlainMode mode(w);
  if (in.clamp) return fault(w, in, "the clamp bit of an MFMA");
  Planes a, b;
  unpack_small(plane(w, in.src[0].reg), in.cbsz, a);
  unpack_small(plane(w, in.src[1].reg), in.blgp, b);
  if (in.size == 4) {
    // One E8M0 scale for 32 consecutive k: lane l's byte (by op_sel, op_sel_hi) scales row l % M of
    // group l / M.
    for (int s = 0; s < 2; ++s) {
      Planes& p = s ? b : a;
      const Operand& o = s ? in.sdst : in.src[3];
      bool bytes = (s ? in.blgp : in.cbsz) < 2;
      int byte = (in.scale_opsel >> s & 1) | (in.scale_opsel_hi >> s & 1) << 1;
      alignas(64) float f[kLanes];
      LANES {
        uint32_t x = o.kind == Kind::VGPR ? plane(w, o.reg)[l] : scalar32(w, o);
        f[l] = e8m0(x >> 8 * byte & 255);
      }
      for (int e = 0; e < 32; ++e)
        LANES {
          int k = bytes ? 16 * (l / M) + e % 16 + 16 * kGroups * (e / 16) : 32 * (l / M) + e;
          p.e[e][l] *= f[(k / 32) * M + l % M];
        }
    }
  }
  Step steps[K];
  for (int k = 0; k < K; ++k) {
    auto at = [&](const Planes& p, bool bytes) {
      int group = bytes ? k / 16 % kGroups : k / 32, e = bytes ? k % 16 + 16 * (k / (16 * kGroups)) : k % 32;
      return p.e[e] + group * M;
    };
    steps[k] = {at(a, in.cbsz < 2), at(b, in.blgp < 2)};
  }
  alignas(64) uint32_t buf[kRegs * kLanes], out[kRegs * kLanes];
  const uint32_t* c = accumulator(w, in, kRegs, buf);
  multiply<M, float>(steps, K, c, out);
  memcpy(plane(w, in.dst.reg), out, sizeof(out));
}

// 4:2 sparse A: of every four k, two are stored; src2 holds their 2-bit positions. ABID picks the
// set of indices when a lane needs fewer than 32 bits.
template <int M, int N, int K, class EA, class EB, class Acc>
void smfmac(Wave& w, const Inst& in) {
  constexpr int kGroups = kLanes / M, kPerLaneB = K / kGroups, kPerLaneA = kPerLaneB / 2, kRegs = M * N / kLanes;
  PlainMode mode(w);
  if (in.blgp) return fault(w, in, "blgp of an SMFMAC");
  Planes packed, a, b;
  unpack<EA>(w, plane(w, in.src[0].reg), kPerLaneA, packed);
  unpack<EB>(w, plane(w, in.src[1].reg), kPerLaneB, b);
  constexpr int kIndexBits = 2 * kPerLaneA, kSets = 32 / kIndexBits;
  int set = in.cbsz ? 0 : in.abid % kSets;
  if (!in.cbsz && in.abid >= kSets) return fault(w, in, "abid %u of %d index sets", in.abid, kSets);
  memset(a.e, 0, sizeof(float) * kLanes * kPerLaneB);
  const uint32_t* idx = plane(w, in.src[2].reg);
  LANES {
    uint64_t x = idx[l] >> (set * (kIndexBits & 31));
    for (int e = 0; e < kPerLaneA; ++e) a.e[4 * (e / 2) + (x >> 2 * e & 3)][l] = packed.e[e][l];
  }
  Step steps[K];
  int n = 0;
  for (int g = 0; g < kGroups; ++g)
    for (int e = 0; e < kPerLaneB; ++e) steps[n++] = {a.e[e] + g * M, b.e[e] + g * N};
  alignas(64) uint32_t out[kRegs * kLanes];
  multiply<M, Acc>(steps, n, plane(w, in.dst.reg), out);
  memcpy(plane(w, in.dst.reg), out, sizeof(out));
}

}  // namespace

#define MFMA(op, name, archs, ta, tb, tc, passes, ...) choose<__VA_ARGS__>,
#define MFMA_F8F6F4(op, name, archs, tc, passes, ...) mfma_f8f6f4<__VA_ARGS__>,
#define SMFMAC(op, name, archs, ta, tb, tc, passes, ...) smfmac<__VA_ARGS__>,
#define AX(op, name, archs, ...) __VA_ARGS__,
extern const Handler kMai[] = {
#include "isa/mai.inc"
};

}  // namespace gfxemu::GFXEMU_ISA
