// Matrix instructions. A lane holds consecutive k of one row of A (column of B): element e of lane
// l is A[l % M][k] of block (l / M) % B, with k = KPL * (l / (M * B)) + e. Accumulators: see rows
// below.
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
struct F32 {
  static constexpr int bits = 32;
  static GFXEMU_INLINE float get(uint32_t x, int) { return bits_as<float>(x); }
};
struct XF32 {  // inputs keep 10 bits of mantissa
  static constexpr int bits = 32;
  static GFXEMU_INLINE float get(uint32_t x, int) {
    uint32_t r = (x + 0xfffu + (x >> 13 & 1)) & ~0x1fffu;
    return bits_as<float>((x & 0x7f800000u) == 0x7f800000u ? x : r);
  }
};
struct F16 {
  static constexpr int bits = 16;
  static GFXEMU_INLINE float get(uint32_t x, int i) { return half_to_float(x >> 16 * i & 0xffff); }
};
struct BF16 {
  static constexpr int bits = 16;
  static GFXEMU_INLINE float get(uint32_t x, int i) {
    return bits_as<float>(i ? x & 0xffff0000u : x << 16);
  }
};
struct I8 {
  static constexpr int bits = 8;
  static GFXEMU_INLINE float get(uint32_t x, int i) {
    return (float)((int32_t)(x << (24 - 8 * i)) >> 24);
  }
};
template <class S>
struct Byte {
  static constexpr int bits = 8;
  static GFXEMU_INLINE float get(uint32_t x, int i) { return S::decode(x >> 8 * i & 255); }
};
struct FP8 : Byte<E4M3> {};  // FNUZ on gfx942: chosen in unpack
struct BF8 : Byte<E5M2> {};
struct F64 {};  // has its own form

constexpr int kMaxElements = 64;
struct Planes {
  alignas(64) float e[kMaxElements][kLanes];
};

template <class E>
GFXEMU_INLINE void unpack_as(const uint32_t* regs, int count, Planes& out) {
  constexpr int kPer = 32 / E::bits;
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<E, F16>) {
    for (int r = 0; r < count / 2; ++r)
      for (int l = 0; l < kLanes; l += 16) {
        __m512i x = _mm512_loadu_si512(regs + r * kLanes + l);
        _mm512_storeu_ps(&out.e[2 * r][l], _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)));
        _mm512_storeu_ps(&out.e[2 * r + 1][l],
                         _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(x, 16))));
      }
    return;
  }
#endif
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
      for (int i = 0; i < count; ++i)
        LANES out.e[i][l] = fabsf(out.e[i][l]) < 0x1p-14f ? 0.0f : out.e[i][l];
  }
}

// BLGP: which lanes of B stand in for which.
void lane_pattern(Planes& b, int count, unsigned blgp) {
  if (!blgp) return;
  for (int i = 0; i < count; ++i) {
    alignas(64) float t[kLanes];
    memcpy(t, b.e[i], sizeof(t));
    LANES {
      int from = blgp == 1   ? l & 31
                 : blgp == 2 ? (l & 31) + 32
                 : blgp == 3 ? (l + 16) & 63
                             : (l & 15) + 16 * (int)(blgp - 4);
      b.e[i][l] = t[from];
    }
  }
}

// Where 16 columns of a row of D begin. 32x32: register r and half h hold row 8 * (r / 4) + 4 * h +
// r % 4. 16x16: register r and quarter q hold row 4 * q + r.
template <int M>
constexpr int row_at(int row, int v) {
  return M == 32 ? ((row >> 3) * 4 + (row & 3)) * kLanes + 32 * (row >> 2 & 1) + 16 * v
                 : (row & 3) * kLanes + 16 * (row >> 2);
}

// Accumulates D += A x B over `steps` pairs of planes, some rows at a time: as many sums as hide the
// latency of their instruction and stay in registers.
struct Step {
  const float *a, *b;  // the k-th column of A (M floats) and row of B (N floats)
};
template <class Acc>
GFXEMU_INLINE V16 load_acc(const uint32_t* p) {
  V16 r;
  if constexpr (std::is_same_v<Acc, float>)
    memcpy(&r, p, 64);
  else
    r = V16{};
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
#if defined(__AVX512F__)
  constexpr int kRows = 8;
#else
  constexpr int kRows = 4;
#endif
  constexpr int kVectors = M / 16, kSums = kRows * kVectors;
  for (int row = 0; row < M; row += kRows) {
    auto at = [&](int i) { return row_at<M>(row + i / kVectors, i % kVectors); };
    V16 sum[kSums];
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) sum[i] = load_acc<Acc>(c + at(i));
    for (int k = 0; k < count; ++k) {
      const float* a = steps[k].a + row;
      const V16* b = (const V16*)steps[k].b;
#pragma GCC unroll 16
      for (int i = 0; i < kSums; ++i) sum[i] += a[i / kVectors] * b[i % kVectors];
    }
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) store_acc<Acc>(d + at(i), c + at(i), sum[i]);
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

#if defined(__AVX512BF16__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
// ---- two products a lane and instruction ----
// Every 8-, 6- and 4-bit float is a bf16, so that one plane holds k and k + 1 of a lane; integers
// go the same way as pairs of 16 bits. The host flushes bf16 denormals here, values below 1.2e-38.
#define GFXEMU_PAIRS 1
struct Pairs {
  alignas(64) uint32_t buf[32][kLanes];
  const uint32_t* p[32];
};
struct PairStep {
  const uint32_t *a, *b;
};

template <class S>
struct ByteTables {
  alignas(64) uint8_t hi[128], lo[128];
  ByteTables() {
    for (uint32_t i = 0; i < 128; ++i) {
      uint32_t x = float_to_bf16(S::decode(i));
      hi[i] = (uint8_t)(x >> 8);
      lo[i] = (uint8_t)x;
    }
  }
};
template <class S, bool FNUZ>
void byte_pairs(const uint32_t* regs, int count, Pairs& out) {
  static const ByteTables<S> t;
  const __m512i h0 = _mm512_load_si512(t.hi), h1 = _mm512_load_si512(t.hi + 64);
  const __m512i l0 = _mm512_load_si512(t.lo), l1 = _mm512_load_si512(t.lo + 64);
  const __m512i sign = _mm512_set1_epi8((char)0x80);
  for (int r = 0; r < count / 4; ++r) {
    out.p[2 * r] = out.buf[2 * r];
    out.p[2 * r + 1] = out.buf[2 * r + 1];
    for (int l = 0; l < kLanes; l += 16) {
      __m512i x = _mm512_loadu_si512(regs + r * kLanes + l);
      __m512i hi = _mm512_or_si512(_mm512_permutex2var_epi8(h0, x, h1), _mm512_and_si512(x, sign));
      __m512i lo = _mm512_permutex2var_epi8(l0, x, l1);
      if constexpr (FNUZ) {  // minus zero is NaN
        __mmask64 nan = _mm512_cmpeq_epi8_mask(x, sign);
        hi = _mm512_mask_mov_epi8(hi, nan, _mm512_set1_epi8(0x7f));
        lo = _mm512_mask_mov_epi8(lo, nan, _mm512_set1_epi8((char)0xc0));
      }
      __m512 u0 = _mm512_castsi512_ps(_mm512_unpacklo_epi8(lo, hi)),
             u1 = _mm512_castsi512_ps(_mm512_unpackhi_epi8(lo, hi));
      _mm512_store_ps((float*)&out.buf[2 * r][l], _mm512_shuffle_ps(u0, u1, 0x88));
      _mm512_store_ps((float*)&out.buf[2 * r + 1][l], _mm512_shuffle_ps(u0, u1, 0xdd));
    }
  }
}
template <class S>
struct WordTable {  // bf16 of the 64 codes of six bits (or 16 of four)
  alignas(64) uint16_t t[64];
  WordTable() {
    for (uint32_t i = 0; i < 64; ++i)
      t[i] = (uint16_t)float_to_bf16(S::decode(i & ((1u << S::kBits) - 1)));
  }
};
template <class S>
void bit_pairs(const uint32_t* regs, Pairs& out) {  // 32 elements a lane
  static const WordTable<S> t;
  const __m512i t0 = _mm512_load_si512(t.t), t1 = _mm512_load_si512(t.t + 32);
  constexpr int kBits = S::kBits;
  const __m512i field = _mm512_set1_epi32((1 << kBits) - 1);
  for (int j = 0; j < 16; ++j) {
    out.p[j] = out.buf[j];
    int bit = 2 * kBits * j, word = bit / 32, sh = bit % 32;
    for (int l = 0; l < kLanes; l += 16) {
      __m512i x = _mm512_srli_epi32(_mm512_loadu_si512(regs + word * kLanes + l), (unsigned)sh);
      if (sh + 2 * kBits > 32)
        x = _mm512_or_si512(x, _mm512_slli_epi32(_mm512_loadu_si512(regs + (word + 1) * kLanes + l),
                                                 (unsigned)(32 - sh)));
      __m512i even = _mm512_and_si512(x, field),
              odd = _mm512_and_si512(_mm512_srli_epi32(x, kBits), field);
      __m512i index = _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
      _mm512_store_si512(&out.buf[j][l], _mm512_permutex2var_epi16(t0, index, t1));
    }
  }
}
void int_pairs(const uint32_t* regs, int count, Pairs& out) {
  for (int r = 0; r < count / 4; ++r) {
    out.p[2 * r] = out.buf[2 * r];
    out.p[2 * r + 1] = out.buf[2 * r + 1];
    LANES {
      uint32_t x = regs[r * kLanes + l];
      out.buf[2 * r][l] = ((uint32_t)((int32_t)(x << 24) >> 24) & 0xffff) |
                          ((uint32_t)((int32_t)(x << 16) >> 24) << 16);
      out.buf[2 * r + 1][l] =
          ((uint32_t)((int32_t)(x << 8) >> 24) & 0xffff) | ((uint32_t)((int32_t)x >> 24) << 16);
    }
  }
}
template <class E>
constexpr bool kPairs = std::is_same_v<E, BF16> || std::is_same_v<E, FP8> ||
                        std::is_same_v<E, BF8> || std::is_same_v<E, I8>;
template <class E>
GFXEMU_INLINE void make_pairs(Wave& w, const uint32_t* regs, int count, Pairs& out) {
  bool ocp = wave_arch(w) == GFX950;
  if constexpr (std::is_same_v<E, BF16>)
    for (int i = 0; i < count / 2; ++i) out.p[i] = regs + i * kLanes;
  else if constexpr (std::is_same_v<E, I8>)
    int_pairs(regs, count, out);
  else if constexpr (std::is_same_v<E, FP8>)
    ocp ? byte_pairs<E4M3, false>(regs, count, out) : byte_pairs<E4M3Fnuz, true>(regs, count, out);
  else if constexpr (std::is_same_v<E, BF8>)
    ocp ? byte_pairs<E5M2, false>(regs, count, out) : byte_pairs<E5M2Fnuz, true>(regs, count, out);
}

template <class Acc>
GFXEMU_INLINE __m512 dot_pair(__m512 acc, uint32_t a, __m512i b) {
  __m512i x = _mm512_set1_epi32((int)a);
  if constexpr (std::is_same_v<Acc, float>)
    return _mm512_dpbf16_ps(acc, (__m512bh)x, (__m512bh)b);
  else
    return _mm512_castsi512_ps(_mm512_dpwssd_epi32(_mm512_castps_si512(acc), x, b));
}
// Scales: blocks of `per` steps are summed apart and multiplied by sa[row] * sb[column] of the
// block.
struct Scales {
  int per = 0;
  const float *a = nullptr, *b = nullptr;  // [block][M]
};
template <int M, class Acc, bool SCALED>
GFXEMU_INLINE void multiply_pairs(const PairStep* steps, int count, const Scales& scale,
                                  const uint32_t* c, uint32_t* d) {
  constexpr int kSums = 16, kVectors = M / 16, kRows = kSums / kVectors;
  const int per = SCALED ? scale.per : count;
  for (int row = 0; row < M; row += kRows) {
    auto at = [&](int i) { return row_at<M>(row + i / kVectors, i % kVectors); };
    for (int block = 0; block * per < count; ++block) {
      __m512 sum[kSums];
#pragma GCC unroll 16
      for (int i = 0; i < kSums; ++i)
        sum[i] = SCALED ? _mm512_setzero_ps() : _mm512_loadu_ps(c + at(i));
      for (int k = block * per; k < (block + 1) * per; ++k) {
        const uint32_t *a = steps[k].a + row, *b = steps[k].b;
#pragma GCC unroll 16
        for (int i = 0; i < kSums; ++i)
          sum[i] =
              dot_pair<Acc>(sum[i], a[i / kVectors], _mm512_loadu_si512(b + 16 * (i % kVectors)));
      }
      const uint32_t* before = block ? d : c;
#pragma GCC unroll 16
      for (int i = 0; i < kSums; ++i) {
        if constexpr (SCALED) {
          __m512 f = _mm512_mul_ps(_mm512_set1_ps(scale.a[block * M + row + i / kVectors]),
                                   _mm512_loadu_ps(scale.b + block * M + 16 * (i % kVectors)));
          sum[i] = _mm512_fmadd_ps(sum[i], f, _mm512_loadu_ps(before + at(i)));
        }
        _mm512_storeu_ps(d + at(i), sum[i]);
      }
    }
  }
}
#endif

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
  alignas(64) uint32_t buf[kRegs * kLanes], out[kRegs * kLanes];
  const uint32_t* c = accumulator(w, in, kRegs, buf);
  auto source_block = [&](int block) {
    int n = 1 << in.cbsz;
    return in.cbsz ? (block & ~(n - 1)) + (in.abid & (n - 1)) : block;
  };
#ifdef GFXEMU_PAIRS
  if constexpr (M >= 16 && kPairs<EA> && kPairs<EB> && kPerLane >= 2) {
    if (!in.blgp) {
      Pairs a, b;
      make_pairs<EA>(w, plane(w, in.src[0].reg), kPerLane, a);
      make_pairs<EB>(w, plane(w, in.src[1].reg), kPerLane, b);
      constexpr int kBlockRegs = kRegs / B;
      for (int block = 0; block < B; ++block) {
        PairStep steps[K / 2];
        int n = 0;
        for (int g = 0; g < kGroups; ++g)
          for (int e = 0; e < kPerLane / 2; ++e)
            steps[n++] = {a.p[e] + (g * B + source_block(block)) * M, b.p[e] + (g * B + block) * N};
        multiply_pairs<M, Acc, false>(steps, n, {}, c + block * kBlockRegs * kLanes,
                                      out + block * kBlockRegs * kLanes);
      }
      memcpy(plane(w, in.dst.reg), out, sizeof(out));
      return;
    }
  }
#endif
  Planes a, b;
  unpack<EA>(w, plane(w, in.src[0].reg), kPerLane, a);
  unpack<EB>(w, plane(w, in.src[1].reg), kPerLane, b);
  lane_pattern(b, kPerLane, in.blgp);
  if constexpr (M >= 16) {
    constexpr int kBlockRegs = kRegs / B;
    for (int block = 0; block < B; ++block) {
      Step steps[K];
      int n = 0;
      for (int g = 0; g < kGroups; ++g)
        for (int e = 0; e < kPerLane; ++e)
          steps[n++] = {a.e[e] + (g * B + source_block(block)) * M, b.e[e] + (g * B + block) * N};
      multiply<M, Acc>(steps, n, c + block * kBlockRegs * kLanes,
                       out + block * kBlockRegs * kLanes);
    }
  } else {  // 4x4x.. of 16 blocks: register r is row r, lane 4 * block + column
    for (int r = 0; r < 4; ++r) LANES {
        float sum = std::is_same_v<Acc, float> ? bits_as<float>(c[r * kLanes + l]) : 0.0f;
        for (int e = 0; e < kPerLane; ++e)
          sum = fmaf(a.e[e][source_block(l / 4) * 4 + r], b.e[e][l], sum);
        out[r * kLanes + l] = std::is_same_v<Acc, float>
                                  ? bits_as<uint32_t>(sum)
                                  : c[r * kLanes + l] + (uint32_t)(int32_t)sum;
      }
  }
  memcpy(plane(w, in.dst.reg), out, sizeof(out));
}

// f64: one element a lane; register pair r and lane group q hold row 4 * r + q. BLGP negates A, B,
// C.
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
    if (in.src[2].kind == Kind::VGPR)
      read(plane(w, in.src[2].reg) + 2 * r * kLanes, c[r], in.blgp & 4);
    else
      LANES c[r][l] = in.blgp & 4 ? -bits_as<double>(scalar64(w, in.src[2]))
                                  : bits_as<double>(scalar64(w, in.src[2]));
  }
  for (int r = 0; r < kPairs; ++r) LANES {
      int column = l % N, block = (l / N) % B, row = 4 * r + l / (N * B);
      double sum = c[r][l];
      for (int k = 0; k < K; ++k)
        sum = fma(a[row + M * (block + B * k)], b[column + N * (block + B * k)], sum);
      out[r][l] = sum;
    }
  uint32_t* d = plane(w, in.dst.reg);
  for (int r = 0; r < kPairs; ++r) LANES {
      uint64_t x = bits_as<uint64_t>(out[r][l]);
      d[2 * r * kLanes + l] = (uint32_t)x;
      d[(2 * r + 1) * kLanes + l] = (uint32_t)(x >> 32);
    }
}
template <int M, int N, int K, int B, class EA, class EB, class Acc>
void choose(Wave& w, const Inst& in) {
  if constexpr (std::is_same_v<Acc, double>)
    mfma_f64<M, N, K, B>(w, in);
  else
    mfma<M, N, K, B, EA, EB, Acc>(w, in);
}

// f8f6f4: A's format is CBSZ, B's is BLGP: 0 fp8, 1 bf8, 2 fp6, 3 bf6, 4 fp4. A lane holds 32
// elements; 8-bit ones lie in two chunks of 16 k (the groups of lanes take turns), the others in
// one.
void unpack_small(const uint32_t* regs, unsigned format, Planes& out) {
  if (format == 0) return unpack_as<Byte<E4M3>>(regs, 32, out);
  if (format == 1) return unpack_as<Byte<E5M2>>(regs, 32, out);
  if (format == 4) {
    for (int i = 0; i < 32; ++i)
      LANES out.e[i][l] = E2M1::decode(regs[i / 8 * kLanes + l] >> 4 * (i % 8) & 15);
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
float e8m0(uint32_t x) {
  return x == 255 ? bits_as<float>(0x7fc00000u) : x == 0 ? 0x1p-127f : bits_as<float>(x << 23);
}

#ifdef GFXEMU_PAIRS
void small_pairs(const uint32_t* regs, unsigned format, Pairs& out) {
  switch (format) {
    case 0:
      return byte_pairs<E4M3, false>(regs, 32, out);
    case 1:
      return byte_pairs<E5M2, false>(regs, 32, out);
    case 2:
      return bit_pairs<E2M3>(regs, out);
    case 3:
      return bit_pairs<E3M2>(regs, out);
    default:
      return bit_pairs<E2M1>(regs, out);
  }
}
#endif

template <int M, int K>
void mfma_f8f6f4(Wave& w, const Inst& in) {
  constexpr int kGroups = kLanes / M, kRegs = M * M / kLanes;
  PlainMode mode(w);
  if (in.clamp) return fault(w, in, "the clamp bit of an MFMA");
#ifdef GFXEMU_PAIRS
  {
    Pairs a, b;
    small_pairs(plane(w, in.src[0].reg), in.cbsz, a);
    small_pairs(plane(w, in.src[1].reg), in.blgp, b);
    PairStep steps[K / 2];
    for (int j = 0; j < K / 2; ++j) {
      int k = 2 * j;
      auto at = [&](const Pairs& p, bool bytes) {
        int group = bytes ? k / 16 % kGroups : k / 32,
            e = bytes ? k % 16 + 16 * (k / (16 * kGroups)) : k % 32;
        return p.p[e / 2] + group * M;
      };
      steps[j] = {at(a, in.cbsz < 2), at(b, in.blgp < 2)};
    }
    alignas(64) uint32_t buf[kRegs * kLanes], out[kRegs * kLanes];
    const uint32_t* c = accumulator(w, in, kRegs, buf);
    if (in.size == 4) {
      alignas(64) float f[2][kLanes];  // lane group = block of 32 k
      for (int s = 0; s < 2; ++s) {
        const Operand& o = s ? in.sdst : in.src[3];
        int byte = (in.scale_opsel >> s & 1) | (in.scale_opsel_hi >> s & 1) << 1;
        LANES {
          uint32_t x = o.kind == Kind::VGPR ? plane(w, o.reg)[l] : scalar32(w, o);
          f[s][l] = e8m0(x >> 8 * byte & 255);
        }
      }
      multiply_pairs<M, float, true>(steps, K / 2, {16, f[0], f[1]}, c, out);
    } else {
      multiply_pairs<M, float, false>(steps, K / 2, {}, c, out);
    }
    memcpy(plane(w, in.dst.reg), out, sizeof(out));
    return;
  }
#endif
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
      for (int e = 0; e < 32; ++e) LANES {
          int k = bytes ? 16 * (l / M) + e % 16 + 16 * kGroups * (e / 16) : 32 * (l / M) + e;
          p.e[e][l] *= f[(k / 32) * M + l % M];
        }
    }
  }
  Step steps[K];
  for (int k = 0; k < K; ++k) {
    auto at = [&](const Planes& p, bool bytes) {
      int group = bytes ? k / 16 % kGroups : k / 32,
          e = bytes ? k % 16 + 16 * (k / (16 * kGroups)) : k % 32;
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
  constexpr int kGroups = kLanes / M, kPerLaneB = K / kGroups, kPerLaneA = kPerLaneB / 2,
                kRegs = M * N / kLanes;
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
