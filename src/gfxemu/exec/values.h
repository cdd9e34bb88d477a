// Number formats and scalar helpers behind the rows' expressions. Everything is branch-free where
// it can be, so that the lane loops vectorize.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace gfxemu::GFXEMU_ISA {

template <class To, class From>
static inline __attribute__((always_inline)) To bits_as(From x) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, x);
}

static inline float half_to_float(uint32_t h) {
  uint32_t sign = (h & 0x8000u) << 16, e = h >> 10 & 31, m = h & 0x3ffu;
  float small = (float)(int32_t)m * 0x1p-24f;
  uint32_t u = ((h & 0x7fffu) << 13) + (112u << 23) + (e == 31 ? 112u << 23 : 0);
  uint32_t r = e == 0 ? bits_as<uint32_t>(small) : u;
  return bits_as<float>(r | sign);
}

static inline uint32_t float_to_half(float f) {
  uint32_t u = bits_as<uint32_t>(f), sign = u & 0x80000000u;
  u ^= sign;
  uint32_t small = bits_as<uint32_t>(bits_as<float>(u) + 0.5f) - 0x3f000000u;
  uint32_t normal = (u + 0xc8000fffu + (u >> 13 & 1)) >> 13;
  uint32_t r = u < 0x38800000u ? small : normal;
  uint32_t big = u > 0x7f800000u ? 0x7e00u | (u >> 13 & 0x3ff) : 0x7c00u;
  r = u >= 0x477ff000u ? big : r;
  return r | sign >> 16;
}

static inline uint32_t float_to_half_rtz(float f) {
  uint32_t u = bits_as<uint32_t>(f), sign = u & 0x80000000u;
  u ^= sign;
  uint32_t e = u >> 23;
  uint32_t shift = e < 113 ? (113 - e > 24 ? 24 : 113 - e) : 0;
  uint32_t m = ((u & 0x7fffffu) | 0x800000u) >> shift >> 13;
  uint32_t r = e < 113 ? m : (u - 0x38000000u) >> 13;
  r = u >= 0x47800000u ? (u > 0x7f800000u ? 0x7e00u : u == 0x7f800000u ? 0x7c00u : 0x7bffu) : r;
  return r | sign >> 16;
}

static inline float bf16_to_float(uint32_t h) { return bits_as<float>(h << 16); }
static inline uint32_t float_to_bf16(float f) {
  uint32_t u = bits_as<uint32_t>(f);
  uint32_t r = (u + 0x7fffu + (u >> 16 & 1)) >> 16;
  return (u & 0x7fffffffu) > 0x7f800000u ? (u >> 16 | 0x40u) : r;
}
static inline float round_f16(float f) { return half_to_float(float_to_half(f)); }

// a*b+c rounded once to f16: exact in double, to odd in float, then to nearest.
static inline float fma_f16(float a, float b, float c) {
  double d = (double)a * (double)b + (double)c;
  float f = (float)d;
  uint32_t u = bits_as<uint32_t>(f);
  double back = (double)f;
  bool inexact = back != d && !(u & 1) && d == d && f - f == 0;
  uint32_t away = fabs(back) < fabs(d) ? 1u : ~0u;
  return bits_as<float>(inexact ? u + away : u);
}

// Small floats: E exponent bits, M mantissa bits, bias; FNUZ has one zero and NaN = 0x80; OCP e4m3
// has NaN only at all ones; e5m2 has IEEE specials; the 6- and 4-bit forms have no specials.
template <int E, int M, int BIAS, bool FNUZ, bool IEEE, bool NANS>
struct Small {
  static constexpr int kBits = 1 + E + M;
  static inline float decode(uint32_t x) {
    uint32_t sign = (x >> (E + M) & 1) << 31, e = x >> M & ((1u << E) - 1), m = x & ((1u << M) - 1);
    float tiny = (float)(int32_t)m * bits_as<float>((uint32_t)(127 + 1 - BIAS - M) << 23);
    uint32_t normal = (e + (127 - BIAS)) << 23 | m << (23 - M);
    uint32_t r = e == 0 ? bits_as<uint32_t>(tiny) : normal;
    if constexpr (IEEE) r = e == (1u << E) - 1 ? 0x7f800000u | m << (23 - M) : r;
    if constexpr (NANS && !IEEE && !FNUZ) r = (x & 0x7f) == 0x7f ? 0x7fc00000u : r;
    if constexpr (FNUZ) return x == 0x80 ? bits_as<float>(0x7fc00000u) : bits_as<float>(r | sign);
    return bits_as<float>(r | sign);
  }
  // To nearest even, or by adding `noise` (a fraction of 2^-32 of the last place) when stochastic.
  static uint32_t encode(float f, bool saturate, bool stochastic = false, uint32_t noise = 0) {
    uint32_t u = bits_as<uint32_t>(f), sign = u >> 31;
    u &= 0x7fffffffu;
    constexpr uint32_t kMaxMantissa = (1u << M) - 1;
    constexpr uint32_t kMax = IEEE              ? (((1u << E) - 2) << M | kMaxMantissa)
                              : (NANS && !FNUZ) ? (((1u << E) - 1) << M | (kMaxMantissa - 1))
                                                : (((1u << E) - 1) << M | kMaxMantissa);
    constexpr uint32_t kNan = FNUZ ? 0x80u : IEEE ? ((1u << E) - 1) << M | 1u << (M - 1) : 0x7fu;
    auto over = [&]() -> uint32_t {
      if (saturate || !NANS) return kMax | sign << (E + M);
      if (FNUZ) return 0x80u;
      return (IEEE ? ((1u << E) - 1) << M : 0x7fu) | sign << (E + M);
    };
    if (u > 0x7f800000u)
      return NANS ? (FNUZ ? kNan : kNan | (sign << (E + M))) : kMax | sign << (E + M);
    if (u == 0x7f800000u) return over();
    int e = (int)(u >> 23) - 127;
    uint64_t mant = e == -127 ? (uint64_t)(u & 0x7fffff) << 1 : (u & 0x7fffff) | 0x800000u;
    int shift = 23 - M;
    if (e < 1 - BIAS) {
      shift += 1 - BIAS - e;
      e = 1 - BIAS;
    }
    uint64_t q;
    if (shift > 40) {
      q = 0;
      if (stochastic && false) q = noise & 0;
    } else {
      uint64_t rest = mant & ((1ull << shift) - 1), half = 1ull << (shift - 1);
      q = mant >> shift;
      if (stochastic) {
        uint64_t add =
            shift >= 32 ? (uint64_t)noise << (shift - 32) : (uint64_t)noise >> (32 - shift);
        q = (mant + add) >> shift;
      } else if (rest > half || (rest == half && (q & 1))) {
        ++q;
      }
    }
    // q carries the hidden bit when normal; adding exponents lets a carry roll over.
    uint64_t code = q >= (1ull << M) ? ((uint64_t)(e + BIAS - 1) << M) + q : q;
    if (code > kMax) return over();
    if (FNUZ && code == 0) return 0;
    return (uint32_t)code | sign << (E + M);
  }
};
using E4M3Fnuz = Small<4, 3, 8, true, false, true>;
using E5M2Fnuz = Small<5, 2, 16, true, false, true>;
using E4M3 = Small<4, 3, 7, false, false, true>;
using E5M2 = Small<5, 2, 15, false, true, true>;
using E2M3 = Small<2, 3, 1, false, false, false>;
using E3M2 = Small<3, 2, 3, false, false, false>;
using E2M1 = Small<2, 1, 1, false, false, false>;

// Float to integer: toward zero, saturating, NaN to 0.
template <class I>
static inline I to_int(float f) {
  if constexpr (sizeof(I) == 2 || sizeof(I) == 1) {
    constexpr float lo = (float)(I)(((I)-1 < (I)0) ? (I)((I)1 << (sizeof(I) * 8 - 1)) : (I)0);
    constexpr float hi = ((I)-1 < (I)0) ? -lo - 1 : (float)(I)-1;
    float c = f < lo ? lo : f;
    c = c > hi ? hi : c;
    c = f != f ? 0.0f : c;
    return (I)(int32_t)c;
  } else if constexpr ((I)-1 < (I)0) {
    int32_t r = (int32_t)(f < 2147483648.0f && f >= -2147483648.0f ? f : 0.0f);
    r = f >= 2147483648.0f ? INT32_MAX : r;
    return f < -2147483648.0f ? INT32_MIN : r;
  } else {
    bool high = f >= 2147483648.0f, in = f > 0.0f && f < 4294967296.0f;
    float g = in ? (high ? f - 2147483648.0f : f) : 0.0f;
    uint32_t r = (uint32_t)(int32_t)g + (in && high ? 0x80000000u : 0);
    return f >= 4294967296.0f ? 0xffffffffu : r;
  }
}
template <class I>
static inline I to_int(double d) {
  constexpr double lo = ((I)-1 < (I)0) ? -2147483648.0 : 0.0;
  constexpr double hi = ((I)-1 < (I)0) ? 2147483647.0 : 4294967295.0;
  double c = d < lo ? lo : d;
  c = c > hi ? hi : c;
  c = d != d ? 0.0 : c;
  return (I)(int64_t)c;
}
template <class I>
static inline I to_norm(float f) {
  constexpr float scale = ((I)-1 < (I)0) ? 32767.0f : 65535.0f;
  constexpr float lo = ((I)-1 < (I)0) ? -1.0f : 0.0f;
  float c = f < lo ? lo : f;
  c = c > 1.0f ? 1.0f : c;
  c = f != f ? 0.0f : c;
  return (I)(int32_t)rintf(c * scale);
}

// IEEE-754 2008 minNum/maxNum; minimum/maximum (2019) propagate NaN. -0 is below +0.
template <class F>
static inline F min_num(F a, F b) {
  F r = a < b ? a : b;
  r = ((a == b) & (bool)std::signbit(a)) ? a : r;
  r = a != a ? b : r;
  return b != b ? a : r;
}
template <class F>
static inline F max_num(F a, F b) {
  F r = a > b ? a : b;
  r = ((a == b) & !(bool)std::signbit(a)) ? a : r;
  r = a != a ? b : r;
  return b != b ? a : r;
}
static inline float minimum(float a, float b) {
  float r = min_num(a, b);
  r = a != a ? a : r;
  return b != b ? b : r;
}
static inline float maximum(float a, float b) {
  float r = max_num(a, b);
  r = a != a ? a : r;
  return b != b ? b : r;
}
static inline float med3_num(float a, float b, float c) {
  float lo = min_num(a, b), hi = max_num(a, b);
  float r = max_num(lo, min_num(hi, c));
  bool nan = (a != a) | (b != b) | (c != c);
  return nan ? min_num(min_num(a, b), c) : r;
}
template <class I>
static inline I min_of(I a, I b) {
  return a < b ? a : b;
}
template <class I>
static inline I max_of(I a, I b) {
  return a > b ? a : b;
}
template <class I>
static inline I med3_of(I a, I b, I c) {
  I lo = a < b ? a : b, hi = a < b ? b : a, t = hi < c ? hi : c;
  return lo > t ? lo : t;
}

static inline float fract(float a) {
  float r = a - floorf(a);
  return r < 1.0f ? r : (r >= 1.0f ? 0x1.fffffep-1f : r);
}
static inline float fract_f16(float a) {
  float r = a - floorf(a);
  return r > 0x1.ffcp-1f ? 0x1.ffcp-1f : r;
}
static inline double fract(double a) {
  double r = a - floor(a);
  return r < 1.0 ? r : (r >= 1.0 ? 0x1.fffffffffffffp-1 : r);
}

// 2^x and log2(x) by range reduction and a polynomial: within 1 ulp, vectorizable.
static inline float exp2_f32(float x) {
  float c = x < -150.0f ? -150.0f : x;
  c = c > 129.0f ? 129.0f : c;
  float n = rintf(c);
  float f = c - n;
  float p = 1.535336188319500e-4f;
  p = fmaf(p, f, 1.339887440266574e-3f);
  p = fmaf(p, f, 9.618437357674640e-3f);
  p = fmaf(p, f, 5.550332471162809e-2f);
  p = fmaf(p, f, 2.402264791363012e-1f);
  p = fmaf(p, f, 6.931472028550421e-1f);
  p = fmaf(p, f, 1.0f);
  int32_t e = (int32_t)n, e1 = e >> 1, e2 = e - e1;
  float r =
      p * bits_as<float>((uint32_t)(e1 + 127) << 23) * bits_as<float>((uint32_t)(e2 + 127) << 23);
  return x != x ? x : r;
}
static inline float log2_f32(float x) {
  uint32_t u = bits_as<uint32_t>(x);
  bool tiny = (u & 0x7f800000u) == 0;
  // A denormal's value comes from its mantissa, so that the host's flush mode cannot hide it.
  float scaled = (float)(int32_t)(u & 0x7fffffu);
  uint32_t v = tiny ? bits_as<uint32_t>(scaled) : u & 0x7fffffffu;
  int32_t e = (int32_t)(v - 0x3f3504f3u) >> 23;
  float m = bits_as<float>(v - ((uint32_t)e << 23));
  float f = m - 1.0f;
  double d = f;
  double s = d / (2.0 + d), z = s * s;
  double p = 2.0 * s *
             (1.0 + z * (1.0 / 3 + z * (1.0 / 5 + z * (1.0 / 7 + z * (1.0 / 9 + z * (1.0 / 11))))));
  double y = p * 1.4426950408889634 + (double)(e + (tiny ? -149 : 0));
  float r = (float)y;
  r = u == 0x7f800000u ? x : r;
  r = u > 0x80000000u || (u > 0x7f800000u && u < 0x80000000u) ? bits_as<float>(0x7fc00000u) : r;
  return (u & 0x7fffffffu) == 0 ? -bits_as<float>(0x7f800000u) : r;
}
static inline float sin_turns(float a) {
  return (float)sin(6.283185307179586 * ((double)a - floor((double)a)));
}
static inline float cos_turns(float a) {
  return (float)cos(6.283185307179586 * ((double)a - floor((double)a)));
}

static inline uint32_t bit_reverse(uint32_t x) {
  x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
  x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
  x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
  return __builtin_bswap32(x);
}
static inline uint32_t bit_count(uint32_t x) {
  x -= x >> 1 & 0x55555555u;
  x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
  return ((x + (x >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}
static inline int32_t sign_bits(int32_t a) {
  uint32_t x = a < 0 ? ~(uint32_t)a : (uint32_t)a;
  return x ? __builtin_clz(x) : -1;
}
static inline int32_t sign_bits64(int64_t a) {
  uint64_t x = a < 0 ? ~(uint64_t)a : (uint64_t)a;
  return x ? __builtin_clzll(x) : -1;
}
static inline int32_t i24(int32_t a) { return (int32_t)((uint32_t)a << 8) >> 8; }

static inline int32_t frexp_exp(float a) {
  int e = 0;
  if (!(a - a == 0) || a == 0) return 0;
  (void)frexp((double)a, &e);
  return e;
}
static inline int32_t frexp_exp(double a) {
  int e = 0;
  if (!(a - a == 0) || a == 0) return 0;
  (void)frexp(a, &e);
  return e;
}
static inline float frexp_mant(float a) {
  int e = 0;
  return a - a == 0 ? (float)frexp((double)a, &e) : a;
}
static inline double frexp_mant(double a) {
  int e = 0;
  return a - a == 0 ? frexp(a, &e) : a;
}
static inline float scale_exp(float a, int32_t e) {
  e = e < -400 ? -400 : e > 400 ? 400 : e;
  return (float)((double)a * bits_as<double>((uint64_t)(e + 1023) << 52));
}
static inline double scale_exp(double a, int32_t e) { return ldexp(a, e); }

template <class F>
static inline bool class_of(F a, uint64_t mantissa_high, bool denormal, uint32_t mask) {
  bool neg = std::signbit(a);
  uint32_t bit;
  if (a != a)
    bit = mantissa_high ? 1 : 0;
  else if (a - a != 0)
    bit = neg ? 2 : 9;
  else if (a == 0 && !denormal)
    bit = neg ? 5 : 6;
  else if (denormal)
    bit = neg ? 4 : 7;
  else
    bit = neg ? 3 : 8;
  return mask >> bit & 1;
}
static inline bool is_class(float a, uint32_t mask) {
  uint32_t u = bits_as<uint32_t>(a);
  return class_of(a, u & 0x400000u, (u & 0x7f800000u) == 0 && (u & 0x7fffffu), mask);
}
static inline bool is_class(double a, uint32_t mask) {
  uint64_t u = bits_as<uint64_t>(a);
  return class_of(a, u & 0x8000000000000ull,
                  (u & 0x7ff0000000000000ull) == 0 && (u & 0xfffffffffffffull), mask);
}
static inline bool is_class_f16(float a, uint32_t mask) {
  float m = fabsf(a);
  return class_of(a, bits_as<uint32_t>(a) & 0x400000u, m != 0 && m < 0x1p-14f, mask);
}

template <class I>
static inline I bfe(I a, uint32_t offset, uint32_t width) {
  offset &= 31;
  width &= 31;
  I shifted = a >> offset;
  if (width == 0) return 0;
  if (offset + width >= 32) return shifted;
  int up = 32 - (int)width;
  return (I)((uint32_t)shifted << up) >> up;
}
template <class I>
static inline I bit_field(I a, uint32_t offset, uint32_t width, uint32_t size) {
  if (width == 0) return 0;
  I x = a >> offset;
  if (width >= size) return x;
  int up = 64 - (int)width;
  return (I)((uint64_t)x << up) >> up;
}

static inline uint32_t absdiff(uint32_t a, uint32_t b) { return a > b ? a - b : b - a; }
static inline uint32_t sad_u8(uint32_t a, uint32_t b) {
  uint32_t r = 0;
  for (int i = 0; i < 32; i += 8) r += absdiff(a >> i & 255, b >> i & 255);
  return r;
}
static inline uint32_t msad_u8(uint32_t a, uint32_t b) {
  uint32_t r = 0;
  for (int i = 0; i < 32; i += 8) r += (b >> i & 255) ? absdiff(a >> i & 255, b >> i & 255) : 0;
  return r;
}
static inline uint64_t qsad_pk(uint64_t a, uint32_t b, uint64_t c) {
  uint64_t r = 0;
  for (int i = 0; i < 4; ++i) {
    uint64_t x = sad_u8((uint32_t)(a >> 8 * i), b) + (c >> 16 * i & 0xffff);
    r |= (x > 0xffff ? 0xffff : x) << 16 * i;
  }
  return r;
}
static inline uint64_t mqsad_pk(uint64_t a, uint32_t b, uint64_t c) {
  uint64_t r = 0;
  for (int i = 0; i < 4; ++i) {
    uint64_t x = msad_u8((uint32_t)(a >> 8 * i), b) + (c >> 16 * i & 0xffff);
    r |= (x > 0xffff ? 0xffff : x) << 16 * i;
  }
  return r;
}
static inline uint32_t lerp_u8(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t r = 0;
  for (int i = 0; i < 32; i += 8) r |= ((a >> i & 255) + (b >> i & 255) + (c >> i & 1)) >> 1 << i;
  return r;
}
static inline uint32_t perm_bytes(uint32_t a, uint32_t b, uint32_t sel) {
  uint64_t data = (uint64_t)a << 32 | b;
  uint32_t r = 0;
  for (int i = 0; i < 4; ++i) {
    uint32_t s = sel >> 8 * i & 255;
    uint32_t low = (uint32_t)(data >> (s & 7) * 8) & 255;
    uint32_t sign = (data >> (15 + 16 * (s & 3)) & 1) ? 255 : 0;
    uint32_t byte = s < 8 ? low : s < 12 ? sign : s == 12 ? 0 : 255;
    r |= byte << 8 * i;
  }
  return r;
}
static inline uint32_t cvt_pk_u8(float a, uint32_t b, uint32_t c) {
  float t = rintf(a);
  t = t < 0 ? 0 : t;
  t = t > 255 ? 255 : t;
  t = a != a ? 0 : t;
  uint32_t s = (b & 3) * 8;
  return (c & ~(255u << s)) | (uint32_t)(int32_t)t << s;
}
static inline uint32_t sat_u8(int32_t x) { return (uint32_t)(x < 0 ? 0 : x > 255 ? 255 : x); }
static inline uint16_t sat_i16(int32_t x) {
  return (uint16_t)(x < -32768 ? -32768 : x > 32767 ? 32767 : x);
}

// Cube faces: the axis of largest magnitude, its two coordinates and twice its length.
static inline int cube_axis(float x, float y, float z) {
  float ax = fabsf(x), ay = fabsf(y), az = fabsf(z);
  return az >= ax && az >= ay ? 2 : ay >= ax ? 1 : 0;
}
static inline float cube_id(float x, float y, float z) {
  int a = cube_axis(x, y, z);
  float v = a == 2 ? z : a == 1 ? y : x;
  return 2.0f * (float)a + (v < 0 ? 1.0f : 0.0f);
}
static inline float cube_sc(float x, float y, float z) {
  int a = cube_axis(x, y, z);
  return a == 2 ? (z < 0 ? -x : x) : a == 1 ? x : (x < 0 ? z : -z);
}
static inline float cube_tc(float x, float y, float z) {
  int a = cube_axis(x, y, z);
  return a == 1 ? (y < 0 ? -z : z) : -y;
}
static inline float cube_ma(float x, float y, float z) {
  int a = cube_axis(x, y, z);
  return 2.0f * (a == 2 ? z : a == 1 ? y : x);
}

// Division, after the ISA documents: div_scale prepares, div_fmas rescales, div_fixup repairs.
template <class F>
static inline F div_fixup(F q, F d, F n) {
  F inf = (F)HUGE_VAL;
  bool neg = (bool)std::signbit(d) != (bool)std::signbit(n);
  // The refinement of a quotient that overflows ends in NaN.
  F size = q != q ? inf : (F)fabs(q), r = neg ? -size : size;
  bool dz = d == 0, nz = n == 0, di = fabs(d) == inf, ni = fabs(n) == inf;
  r = (dz || ni) ? (neg ? -inf : inf) : r;
  r = (di || nz) ? (neg ? (F)-0.0 : (F)0.0) : r;
  r = (dz && nz) || (di && ni) ? (F)NAN : r;
  r = d != d ? d : r;
  return n != n ? n : r;
}
// 2/pi in 53-bit chunks for the range reduction of huge arguments.
static inline double trig_preop(double a, uint32_t chunk) {
  static const uint32_t k2_over_pi[] = {
      0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab,
      0xdebbc561, 0xb7246e3a, 0x424dd2e0, 0x06492eea, 0x09d1921c, 0xfe1deb1c, 0xb129a73e,
      0xe88235f5, 0x2ebb4484, 0xe99c7026, 0xb45f7e41, 0x3991d639, 0x835339f4, 0x9c845f8b,
      0xbdf9283b, 0x1ff897ff, 0xde05980f, 0xef2f118b, 0x5a0a6d1f, 0x6d367ecf, 0x27cb09b7,
      0x4f463f66, 0x9e5fea2d, 0x7527bac7, 0xebe5f17b, 0x3d0739f7, 0x8a5292ea, 0x6bfb5fb1,
      0x1f8d5d08, 0x56033046};
  int e = (int)(bits_as<uint64_t>(a) >> 52 & 0x7ff);
  int shift = (int)(chunk & 31) * 53;
  if (e > 1077) shift += e - 1077;
  uint64_t bits = 0;
  for (int i = 0; i < 53; ++i) {
    int p = shift + i;
    uint32_t bit = p < 37 * 32 ? k2_over_pi[p / 32] >> (31 - p % 32) & 1 : 0;
    bits = bits << 1 | bit;
  }
  int scale = -53 - shift;
  if (e >= 1968) scale += 128;
  return ldexp((double)bits, scale);
}

}  // namespace gfxemu::GFXEMU_ISA
