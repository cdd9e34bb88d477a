// Handlers of FLAT, GLOBAL, SCRATCH, MUBUF and DS: addresses first, then one loop over lanes.
#include <type_traits>

#include "exec/atomic.h"
#include "exec/core.h"

namespace gfxemu::GFXEMU_ISA {
namespace {

#define FOR_LANES(mask, l) \
  for (uint64_t m_ = (mask), l = 0; m_ && (l = (uint64_t)__builtin_ctzll(m_), true); m_ &= m_ - 1)

enum class Seg { FLAT, GLOBAL, SCRATCH, BUFFER };

// Where each lane's data lies. Dword j of a lane is at addr + j * stride; ok[j] are the lanes whose
// dword j is in range (partial buffers), the others read zero and write nothing.
struct Target {
  Space space = Space::GLOBAL;
  uint32_t stride = 4;
  uint64_t mask = 0;
  bool partial = false;
  uint64_t ok[4] = {};
  alignas(64) uint64_t addr[kLanes];
};

// Turns scratch offsets into host addresses; dwords of the lanes are interleaved.
bool place_scratch(Wave& w, const Inst& in, Target& t, uint32_t bytes) {
  if (w.attention) {
    Access x{
        Space::SCRATCH, (in.row->flags & STORE) != 0, (in.row->flags & ATOMIC) != 0, bytes, t.mask,
        t.addr};
    watch_access(w, in, x);
    if (w.state == State::FAULT) return false;
  }
  FOR_LANES(t.mask, l) {
    uint64_t off = t.addr[l];
    if (off + bytes > w.scratch_size) {
      fault(w, in, "lane %d: scratch offset %#llx is outside the %u bytes of the lane", (int)l,
            (unsigned long long)off, w.scratch_size);
      return false;
    }
    if ((off & 3) + (bytes < 4 ? bytes : 4) > 4 || (bytes > 4 && (off & 3))) {
      fault(w, in, "lane %d: scratch access at %#llx is not aligned to a dword", (int)l,
            (unsigned long long)off);
      return false;
    }
    t.addr[l] = (uint64_t)w.scratch + (off >> 2) * 256 + l * 4 + (off & 3);
  }
  t.stride = 256;
  t.space = Space::SCRATCH;
  return true;
}

bool place_lds(Wave& w, const Inst& in, Target& t, uint32_t bytes) {
  if (w.attention) {
    Access x{Space::LDS, (in.row->flags & STORE) != 0, (in.row->flags & ATOMIC) != 0, bytes, t.mask,
             t.addr};
    watch_access(w, in, x);
    if (w.state == State::FAULT) return false;
  }
  FOR_LANES(t.mask, l) {
    uint64_t off = t.addr[l];
    if (off + bytes > w.lds_size) {
      fault(w, in,
            "lane %d: flat access at LDS offset %#llx is outside the %u bytes of the workgroup",
            (int)l, (unsigned long long)off, w.lds_size);
      return false;
    }
    t.addr[l] = (uint64_t)w.lds + off;
  }
  t.space = Space::LDS;
  return true;
}

// Every lane's bytes must lie in live allocations.
bool place_global(Wave& w, const Inst& in, Target& t, uint32_t bytes) {
  if (w.attention) {
    Access x{
        Space::GLOBAL, (in.row->flags & STORE) != 0, (in.row->flags & ATOMIC) != 0, bytes, t.mask,
        t.addr};
    watch_access(w, in, x);
    if (w.state == State::FAULT) return false;
  }
  uint64_t lo = ~0ull, hi = 0;
  if (t.mask == ~0ull) {
    LANES {
      lo = t.addr[l] < lo ? t.addr[l] : lo;
      hi = t.addr[l] > hi ? t.addr[l] : hi;
    }
  } else {
    FOR_LANES(t.mask, l) {
      lo = t.addr[l] < lo ? t.addr[l] : lo;
      hi = t.addr[l] > hi ? t.addr[l] : hi;
    }
  }
  if (!t.mask || reach(w, lo, hi + bytes)) return true;
  FOR_LANES(t.mask, l) {
    if (!reach(w, t.addr[l], t.addr[l] + bytes)) {
      fault(w, in, "lane %d: access of %u bytes at %#llx is %s", (int)l, bytes,
            (unsigned long long)t.addr[l], why_unreachable(w, t.addr[l]));
      return false;
    }
  }
  return true;
}

// ---- operations: bytes a lane, and the loop ----
GFXEMU_INLINE uint32_t* data_plane(Wave& w, const Operand& o) { return plane(w, o.reg); }

template <int N>
struct load_dwords {
  static constexpr uint32_t bytes = 4 * N, lds_count = N;
  using lds_type = uint32_t;
  static void run(Wave& w, const Inst& in, Target& t) {
    uint32_t* d = data_plane(w, in.dst);
    if (!t.partial && t.mask == ~0ull && t.stride == 4) {
#if defined(__AVX512F__)
      if constexpr (N == 1) {
        for (int i = 0; i < 4; ++i) {
          __m512i a = _mm512_loadu_si512(t.addr + 16 * i),
                  b = _mm512_loadu_si512(t.addr + 16 * i + 8);
          __m256i x = _mm512_i64gather_epi32(a, nullptr, 1),
                  y = _mm512_i64gather_epi32(b, nullptr, 1);
          _mm256_storeu_si256((__m256i*)(d + 16 * i), x);
          _mm256_storeu_si256((__m256i*)(d + 16 * i + 8), y);
        }
        return;
      }
      if constexpr (N == 4) {
        for (int i = 0; i < 64; i += 16) {
          __m512i r[4];
          for (int j = 0; j < 4; ++j) {
            __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i*)t.addr[i + j]));
            x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i*)t.addr[i + 4 + j]), 1);
            x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i*)t.addr[i + 8 + j]), 2);
            r[j] = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i*)t.addr[i + 12 + j]), 3);
          }
          __m512i a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpackhi_epi32(r[0], r[1]);
          __m512i c = _mm512_unpacklo_epi32(r[2], r[3]), e = _mm512_unpackhi_epi32(r[2], r[3]);
          _mm512_storeu_si512(d + i, _mm512_unpacklo_epi64(a, c));
          _mm512_storeu_si512(d + kLanes + i, _mm512_unpackhi_epi64(a, c));
          _mm512_storeu_si512(d + 2 * kLanes + i, _mm512_unpacklo_epi64(b, e));
          _mm512_storeu_si512(d + 3 * kLanes + i, _mm512_unpackhi_epi64(b, e));
        }
        return;
      }
#endif
      LANES {
        uint32_t x[N];
        memcpy(x, (const void*)t.addr[l], 4 * N);
        for (int j = 0; j < N; ++j) d[j * kLanes + l] = x[j];
      }
      return;
    }
    for (int j = 0; j < N; ++j) {
      uint64_t ok = t.partial ? t.ok[j] : t.mask;
      FOR_LANES(t.mask, l) {
        uint32_t x = 0;
        if (ok >> l & 1) memcpy(&x, (const void*)(t.addr[l] + j * t.stride), 4);
        d[j * kLanes + l] = x;
      }
    }
  }
};
template <class C>
struct load_small {
  static constexpr uint32_t bytes = sizeof(C), lds_count = 1;
  using lds_type = C;
  static void run(Wave& w, const Inst& in, Target& t) {
    uint32_t* d = data_plane(w, in.dst);
    uint64_t ok = t.partial ? t.ok[0] : t.mask;
    FOR_LANES(t.mask, l) {
      C x = 0;
      if (ok >> l & 1) memcpy(&x, (const void*)t.addr[l], sizeof(C));
      d[l] = (uint32_t)(int32_t)x;
    }
  }
};
template <class C, int HIGH>
struct load_d16 {
  static constexpr uint32_t bytes = sizeof(C), lds_count = 0;
  using lds_type = C;
  static void run(Wave& w, const Inst& in, Target& t) {
    uint32_t* d = data_plane(w, in.dst);
    uint64_t ok = t.partial ? t.ok[0] : t.mask;
    FOR_LANES(t.mask, l) {
      C x = 0;
      if (ok >> l & 1) memcpy(&x, (const void*)t.addr[l], sizeof(C));
      uint32_t h = (uint16_t)(int16_t)x;
      d[l] = HIGH ? (d[l] & 0xffff) | h << 16 : (d[l] & 0xffff0000u) | h;
    }
  }
};
template <int N>
struct store_dwords {
  static constexpr uint32_t bytes = 4 * N, lds_count = 0;
  using lds_type = uint32_t;
  static void run(Wave& w, const Inst& in, Target& t) {
    const uint32_t* s = data_plane(w, in.src[1]);
    if (!t.partial && t.stride == 4) {
      FOR_LANES(t.mask, l) {
        uint32_t x[N];
        for (int j = 0; j < N; ++j) x[j] = s[j * kLanes + l];
        memcpy((void*)t.addr[l], x, 4 * N);
      }
      return;
    }
    for (int j = 0; j < N; ++j) {
      uint64_t ok = t.partial ? t.ok[j] : t.mask;
      FOR_LANES(t.mask & ok, l) memcpy((void*)(t.addr[l] + j * t.stride), &s[j * kLanes + l], 4);
    }
  }
};
template <class C, int HIGH>
struct store_small {
  static constexpr uint32_t bytes = sizeof(C), lds_count = 0;
  using lds_type = C;
  static void run(Wave& w, const Inst& in, Target& t) {
    const uint32_t* s = data_plane(w, in.src[1]);
    uint64_t ok = t.partial ? t.ok[0] : t.mask;
    FOR_LANES(t.mask & ok, l) {
      C x = (C)(s[l] >> 16 * HIGH);
      memcpy((void*)t.addr[l], &x, sizeof(C));
    }
  }
};
template <class U, Atomic OP>
struct atomic {
  static constexpr uint32_t bytes = sizeof(U), lds_count = 0;
  using lds_type = U;
  static void run(Wave& w, const Inst& in, Target& t) {
    constexpr int N = sizeof(U) / 4;
    const uint32_t* s = data_plane(w, in.src[1]);
    uint64_t ok = t.partial ? t.ok[0] : t.mask;
    bool returns = in.bits & GLC;
    FOR_LANES(t.mask, l) {
      U x, y = 0, old = 0;
      if constexpr (N == 2) {
        x = (uint64_t)s[kLanes + l] << 32 | s[l];
        if (OP == Atomic::CMPSWAP) y = (uint64_t)s[3 * kLanes + l] << 32 | s[2 * kLanes + l];
      } else {
        x = s[l];
        if (OP == Atomic::CMPSWAP) y = s[kLanes + l];
      }
      if (ok >> l & 1) {
        if (t.addr[l] % sizeof(U) || t.stride != 4)
          return fault(w, in, "lane %d: misaligned atomic at %#llx", (int)l,
                       (unsigned long long)t.addr[l]);
        old = atomic_update<U, OP>((U*)t.addr[l], x, y);
      }
      if (returns) {
        uint32_t* d = data_plane(w, in.dst);
        d[l] = (uint32_t)old;
        if constexpr (N == 2) d[kLanes + l] = (uint32_t)(old >> 32);
      }
    }
  }
};
struct cache_op {
  static constexpr uint32_t bytes = 0;
  using lds_type = uint32_t;
  static void run(Wave&, const Inst&, Target&) {}
};

// Loads whose destination is LDS at M0 + offset + lane * size.
template <class C, int N>
struct load_lds {
  static constexpr uint32_t bytes = sizeof(C) * N, lds_count = 0;
  using lds_type = C;
  static void run(Wave& w, const Inst& in, Target& t) {
    constexpr uint32_t kStep = N > 1 ? 4 * N : 4;
    uint32_t base = (w.s[M0] & (wave_arch(w) == GFX950 ? 0x3ffffu : 0xffffu)) + (uint32_t)in.offset;
    alignas(64) uint64_t where[kLanes];
    LANES where[l] = base + (uint64_t)l * kStep;
    if (w.attention) {
      Access x{Space::LDS, true, false, kStep, t.mask, where};
      watch_access(w, in, x);
      if (w.state == State::FAULT) return;
    }
    FOR_LANES(t.mask, l) {
      if (where[l] + kStep > w.lds_size) continue;  // as hardware: dropped
      if constexpr (N == 1) {
        C x = 0;
        if (!t.partial || (t.ok[0] >> l & 1)) memcpy(&x, (const void*)t.addr[l], sizeof(C));
        uint32_t wide = (uint32_t)(int32_t)x;
        memcpy(w.lds + where[l], &wide, 4);
      } else {
        for (int j = 0; j < N; ++j) {
          uint32_t x = 0;
          if (!t.partial || (t.ok[j] >> l & 1)) memcpy(&x, (const void*)(t.addr[l] + 4 * j), 4);
          memcpy(w.lds + where[l] + 4 * j, &x, 4);
        }
      }
    }
  }
};

template <class Op>
GFXEMU_INLINE void act(Wave& w, const Inst& in, Target& t) {
  if constexpr (Op::lds_count > 0) {
    if ((in.bits & LDS) && in.row->dst != T::NONE)
      return load_lds<typename Op::lds_type, Op::lds_count>::run(w, in, t);
  } else {
    if ((in.bits & LDS) && in.row->dst != T::NONE)
      return fault(w, in, "lds bit of an instruction that has no LDS form");
  }
  Op::run(w, in, t);
}

template <class Op>
void buffer(Wave& w, const Inst& in) {
  Target t;
  t.mask = w.exec();
  const uint32_t* rsrc = &w.s[in.src[2].reg];
  uint64_t base = (uint64_t)(rsrc[1] & 0xffff) << 32 | rsrc[0];
  uint32_t stride = rsrc[1] >> 16 & 0x3fff, records = rsrc[2];
  bool swizzle = rsrc[1] >> 31, add_tid = rsrc[3] >> 23 & 1;
  if (rsrc[3] >> 30) return fault(w, in, "buffer descriptor of type %u", rsrc[3] >> 30);
  uint32_t soffset = scalar32(w, in.src[3]);
  if (add_tid) stride |= (rsrc[3] >> 15 & 15) << 14;
  bool idxen = in.bits & IDXEN, offen = in.bits & OFFEN;
  const uint32_t* va = in.src[0].kind == Kind::VGPR ? plane(w, in.src[0].reg) : nullptr;
  const uint32_t *vidx = idxen ? va : nullptr, *voff = offen ? va + (idxen ? kLanes : 0) : nullptr;
  constexpr int N = Op::bytes >= 4 ? Op::bytes / 4 : 1;
  constexpr uint32_t kUnit = Op::bytes >= 4 ? 4 : Op::bytes;
  alignas(64) uint64_t offset[kLanes];
  bool structured = stride && (idxen || add_tid);
  uint64_t whole = 0;
  if (!structured && !swizzle) {
    LANES {
      uint64_t o = (uint64_t)(uint32_t)in.offset + (voff ? voff[l] : 0) +
                   (vidx ? (uint64_t)vidx[l] * stride : 0);
      offset[l] = o;
      t.addr[l] = base + o + soffset;
    }
    alignas(64) uint32_t fits[kLanes];
    LANES fits[l] = offset[l] + soffset + Op::bytes <= records;
    whole = pack_mask(fits) & t.mask;
    if (whole != t.mask) {
      t.partial = true;
      for (int j = 0; j < N; ++j) {
        LANES fits[l] = offset[l] + soffset + j * 4 + kUnit <= records;
        t.ok[j] = pack_mask(fits) & t.mask;
      }
    }
  } else {
    uint32_t index_stride = 8u << (rsrc[3] >> 21 & 3);
    alignas(64) uint32_t fits[kLanes];
    LANES {
      uint64_t idx = (vidx ? vidx[l] : 0) + (add_tid ? (uint64_t)l : 0);
      uint64_t o = (uint64_t)(uint32_t)in.offset + (voff ? voff[l] : 0);
      bool in_range =
          stride ? (idxen ? idx < records : true) && (!swizzle || !idxen || o + Op::bytes <= stride)
                 : o + Op::bytes <= records;
      if (!idxen && stride) in_range = o + Op::bytes <= records;
      fits[l] = in_range;
      uint64_t at = swizzle ? ((idx / index_stride) * stride + (o / 4) * 4) * index_stride +
                                  (idx % index_stride) * 4 + o % 4
                            : idx * stride + o;
      t.addr[l] = base + soffset + at;
    }
    if (swizzle) t.stride = 4 * index_stride;
    whole = pack_mask(fits) & t.mask;
    if (whole != t.mask) {
      t.partial = true;
      for (int j = 0; j < N; ++j) t.ok[j] = whole;
    }
  }
  if (t.partial || t.stride != 4) {
    // Reachability of what is really accessed: dword by dword.
    for (int j = 0; j < N; ++j) {
      Target part;
      part.mask = t.partial ? t.ok[j] : t.mask;
      LANES part.addr[l] = t.addr[l] + j * t.stride;
      if (part.mask && !place_global(w, in, part, kUnit)) return;
    }
  } else if (!place_global(w, in, t, Op::bytes)) {
    return;
  }
  act<Op>(w, in, t);
}

template <Seg S, class Op>
void memory(Wave& w, const Inst& in) {
  if constexpr (S == Seg::BUFFER) {
    if constexpr (Op::bytes == 0)
      return;
    else
      return buffer<Op>(w, in);
  } else {
    Target t;
    t.mask = w.exec();
    bool lds_form = in.row->flags & LDS_DST;
    (void)lds_form;
    if constexpr (S == Seg::SCRATCH) {
      uint32_t s = in.src[2].kind == Kind::NONE ? 0 : w.s[in.src[2].reg];
      const uint32_t* v = in.src[0].kind == Kind::VGPR ? plane(w, in.src[0].reg) : nullptr;
      LANES t.addr[l] = (uint32_t)((v ? v[l] : 0) + s + (uint32_t)in.offset);
      if (place_scratch(w, in, t, Op::bytes)) act<Op>(w, in, t);
    } else {
      const uint32_t* v = plane(w, in.src[0].reg);
      if (in.src[2].kind == Kind::SGPR) {
        uint64_t base = w.s64(in.src[2].reg) + (uint64_t)(int64_t)in.offset;
        LANES t.addr[l] = base + v[l];
      } else {
        uint64_t base = (uint64_t)(int64_t)in.offset;
        LANES t.addr[l] = ((uint64_t)v[kLanes + l] << 32 | v[l]) + base;
      }
      if constexpr (S == Seg::FLAT) {
        // Lanes may point into the LDS and scratch apertures.
        uint64_t shared = 0, priv = 0;
        FOR_LANES(t.mask, l) {
          if (t.addr[l] >> 32 == kSharedBase >> 32) shared |= 1ull << l;
          if (t.addr[l] >> 32 == kPrivateBase >> 32) priv |= 1ull << l;
        }
        if (shared | priv) {
          uint64_t global = t.mask & ~shared & ~priv;
          for (int k = 0; k < 3; ++k) {
            Target part = t;
            part.mask = k == 0 ? global : k == 1 ? shared : priv;
            if (!part.mask) continue;
            if (k) LANES part.addr[l] = (uint32_t)part.addr[l];
            bool ok = k == 0   ? place_global(w, in, part, Op::bytes)
                      : k == 1 ? place_lds(w, in, part, Op::bytes)
                               : place_scratch(w, in, part, Op::bytes);
            if (!ok) return;
            act<Op>(w, in, part);
          }
          return;
        }
      }
      if (place_global(w, in, t, Op::bytes)) act<Op>(w, in, t);
    }
  }
}

// ---- DS ----
GFXEMU_INLINE const uint32_t* ds_addr(Wave& w, const Inst& in) { return plane(w, in.src[0].reg); }

bool ds_watch(Wave& w, const Inst& in, uint64_t mask, const uint64_t* where, uint32_t bytes,
              bool write, bool at = false) {
  if (!w.attention) return true;
  Access x{Space::LDS, write, at, bytes, mask, where};
  watch_access(w, in, x);
  return w.state != State::FAULT;
}
// Offsets of the lanes; true when all of them are inside LDS.
GFXEMU_INLINE uint64_t ds_place(Wave& w, const Inst& in, uint32_t offset, uint32_t bytes,
                                uint64_t* where) {
  const uint32_t* a = ds_addr(w, in);
  alignas(64) uint32_t fits[kLanes];
  LANES {
    where[l] = (uint64_t)a[l] + offset;
    fits[l] = where[l] + bytes <= w.lds_size;
  }
  return pack_mask(fits) & w.exec();
}

template <int BYTES>
void ds_read_at(Wave& w, const Inst& in, uint32_t offset, uint32_t* d) {
  constexpr int N = BYTES / 4;
  alignas(64) uint64_t where[kLanes];
  uint64_t mask = w.exec(), ok = ds_place(w, in, offset, BYTES, where);
  if (!ds_watch(w, in, mask, where, BYTES, false)) return;
  if (ok == ~0ull) {
#if defined(__AVX512F__)
    if constexpr (N == 4) {
      const uint8_t* p = w.lds;
      for (int i = 0; i < 64; i += 16) {
        __m512i r[4];
        for (int j = 0; j < 4; ++j) {
          __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i*)(p + where[i + j])));
          x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i*)(p + where[i + 4 + j])), 1);
          x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i*)(p + where[i + 8 + j])), 2);
          r[j] = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i*)(p + where[i + 12 + j])), 3);
        }
        __m512i a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpackhi_epi32(r[0], r[1]);
        __m512i c = _mm512_unpacklo_epi32(r[2], r[3]), e = _mm512_unpackhi_epi32(r[2], r[3]);
        _mm512_storeu_si512(d + i, _mm512_unpacklo_epi64(a, c));
        _mm512_storeu_si512(d + kLanes + i, _mm512_unpackhi_epi64(a, c));
        _mm512_storeu_si512(d + 2 * kLanes + i, _mm512_unpacklo_epi64(b, e));
        _mm512_storeu_si512(d + 3 * kLanes + i, _mm512_unpackhi_epi64(b, e));
      }
      return;
    }
#endif
    LANES {
      uint32_t x[N];
      memcpy(x, w.lds + where[l], BYTES);
      for (int j = 0; j < N; ++j) d[j * kLanes + l] = x[j];
    }
    return;
  }
  FOR_LANES(mask, l) {
    uint32_t x[N] = {};
    if (ok >> l & 1) memcpy(x, w.lds + where[l], BYTES);
    for (int j = 0; j < N; ++j) d[j * kLanes + l] = x[j];
  }
}
template <int BYTES>
void ds_write_at(Wave& w, const Inst& in, uint32_t offset, const uint32_t* s, int shift = 0) {
  alignas(64) uint64_t where[kLanes];
  uint64_t mask = w.exec(), ok = ds_place(w, in, offset, BYTES, where);
  if (!ds_watch(w, in, mask, where, BYTES, true)) return;
  FOR_LANES(ok, l) {
    if constexpr (BYTES >= 4) {
      uint32_t x[BYTES / 4];
      for (int j = 0; j < BYTES / 4; ++j) x[j] = s[j * kLanes + l];
      memcpy(w.lds + where[l], x, BYTES);
    } else {
      uint32_t x = s[l] >> shift;
      memcpy(w.lds + where[l], &x, BYTES);
    }
  }
}

template <int BYTES>
void ds_read(Wave& w, const Inst& in) {
  // The destination may hold the addresses: read them before writing.
  alignas(64) uint32_t tmp[(BYTES / 4) * kLanes];
  uint32_t* d = data_plane(w, in.dst);
  if (in.src[0].reg >= in.dst.reg && in.src[0].reg < in.dst.reg + in.dst.dwords) {
    memcpy(tmp, d, sizeof(tmp));
    ds_read_at<BYTES>(w, in, (uint32_t)in.offset, tmp);
    memcpy(d, tmp, sizeof(tmp));
  } else {
    ds_read_at<BYTES>(w, in, (uint32_t)in.offset, d);
  }
}
template <int BYTES, int SCALE>
void ds_read2(Wave& w, const Inst& in) {
  alignas(64) uint32_t tmp[2 * (BYTES / 4) * kLanes];
  uint32_t* d = data_plane(w, in.dst);
  memcpy(tmp, d, sizeof(tmp));
  ds_read_at<BYTES>(w, in, (uint32_t)(in.offset & 255) * SCALE, tmp);
  ds_read_at<BYTES>(w, in, (uint32_t)(in.offset >> 8) * SCALE, tmp + (BYTES / 4) * kLanes);
  memcpy(d, tmp, sizeof(tmp));
}
template <int BYTES>
void ds_write(Wave& w, const Inst& in) {
  ds_write_at<BYTES>(w, in, (uint32_t)in.offset, data_plane(w, in.src[1]));
}
template <int BYTES>
void ds_write_hi(Wave& w, const Inst& in) {
  ds_write_at<BYTES>(w, in, (uint32_t)in.offset, data_plane(w, in.src[1]), 16);
}
template <int BYTES, int SCALE>
void ds_write2(Wave& w, const Inst& in) {
  ds_write_at<BYTES>(w, in, (uint32_t)(in.offset & 255) * SCALE, data_plane(w, in.src[1]));
  ds_write_at<BYTES>(w, in, (uint32_t)(in.offset >> 8) * SCALE, data_plane(w, in.src[2]));
}
template <class C>
void ds_read_small(Wave& w, const Inst& in) {
  alignas(64) uint64_t where[kLanes];
  uint64_t mask = w.exec(), ok = ds_place(w, in, (uint32_t)in.offset, sizeof(C), where);
  if (!ds_watch(w, in, mask, where, sizeof(C), false)) return;
  uint32_t* d = data_plane(w, in.dst);
  FOR_LANES(mask, l) {
    C x = 0;
    if (ok >> l & 1) memcpy(&x, w.lds + where[l], sizeof(C));
    d[l] = (uint32_t)(int32_t)x;
  }
}
template <class C, int HIGH>
void ds_read_d16(Wave& w, const Inst& in) {
  alignas(64) uint64_t where[kLanes];
  uint64_t mask = w.exec(), ok = ds_place(w, in, (uint32_t)in.offset, sizeof(C), where);
  if (!ds_watch(w, in, mask, where, sizeof(C), false)) return;
  uint32_t* d = data_plane(w, in.dst);
  FOR_LANES(mask, l) {
    C x = 0;
    if (ok >> l & 1) memcpy(&x, w.lds + where[l], sizeof(C));
    uint32_t h = (uint16_t)(int16_t)x;
    d[l] = HIGH ? (d[l] & 0xffff) | h << 16 : (d[l] & 0xffff0000u) | h;
  }
}
template <class U>
GFXEMU_INLINE U lane_value(const uint32_t* p, uint64_t l) {
  if constexpr (sizeof(U) == 8)
    return (uint64_t)p[kLanes + l] << 32 | p[l];
  else
    return p[l];
}
template <class U>
GFXEMU_INLINE void set_lane(uint32_t* p, uint64_t l, U x) {
  p[l] = (uint32_t)x;
  if constexpr (sizeof(U) == 8) p[kLanes + l] = (uint32_t)(x >> 32);
}
template <class U, Atomic OP, bool TWO>
void ds_update(Wave& w, const Inst& in, bool returns) {
  alignas(64) uint64_t where[kLanes];
  uint64_t mask = w.exec(), ok = ds_place(w, in, (uint32_t)in.offset, sizeof(U), where);
  if (!ds_watch(w, in, mask, where, sizeof(U), true, true)) return;
  const uint32_t *x = data_plane(w, in.src[1]), *y = TWO ? data_plane(w, in.src[2]) : x;
  uint32_t* d = returns ? data_plane(w, in.dst) : nullptr;
  FOR_LANES(mask, l) {
    U old = 0;
    if (ok >> l & 1) {
      memcpy(&old, w.lds + where[l], sizeof(U));
      U r = combine<U, OP>(old, lane_value<U>(x, l), lane_value<U>(y, l));
      memcpy(w.lds + where[l], &r, sizeof(U));
    }
    if (returns) set_lane<U>(d, l, old);
  }
}
template <class U, Atomic OP, int RTN>
void ds_atomic(Wave& w, const Inst& in) {
  ds_update<U, OP, false>(w, in, RTN);
}
template <class U, Atomic OP, int RTN>
void ds_atomic2(Wave& w, const Inst& in) {
  ds_update<U, OP, true>(w, in, RTN);
}
template <class U, int SCALE>
void ds_wrxchg2(Wave& w, const Inst& in) {
  alignas(64) uint32_t out[2 * sizeof(U) / 4][kLanes];
  constexpr int N = sizeof(U) / 4;
  uint32_t* d = data_plane(w, in.dst);
  memcpy(out, d, sizeof(out));
  for (int k = 0; k < 2; ++k) {
    alignas(64) uint64_t where[kLanes];
    uint32_t off = (uint32_t)(k ? in.offset >> 8 : in.offset & 255) * SCALE;
    uint64_t mask = w.exec(), ok = ds_place(w, in, off, sizeof(U), where);
    if (!ds_watch(w, in, mask, where, sizeof(U), true, true)) return;
    const uint32_t* x = data_plane(w, in.src[1 + k]);
    FOR_LANES(mask, l) {
      U old = 0, v = lane_value<U>(x, l);
      if (ok >> l & 1) {
        memcpy(&old, w.lds + where[l], sizeof(U));
        memcpy(w.lds + where[l], &v, sizeof(U));
      }
      set_lane<U>(&out[k * N][0], l, old);
    }
  }
  memcpy(d, out, sizeof(out));
}
void ds_nothing(Wave&, const Inst&) {}
void ds_write_addtid(Wave& w, const Inst& in) {
  uint32_t base = (uint32_t)in.offset + (w.s[M0] & 0xffff);
  const uint32_t* s = data_plane(w, in.src[1]);
  FOR_LANES(w.exec(), l) if (base + 4 * l + 4 <= w.lds_size) memcpy(w.lds + base + 4 * l, &s[l], 4);
}
void ds_read_addtid(Wave& w, const Inst& in) {
  uint32_t base = (uint32_t)in.offset + (w.s[M0] & 0xffff);
  uint32_t* d = data_plane(w, in.dst);
  FOR_LANES(w.exec(), l) {
    d[l] = 0;
    if (base + 4 * l + 4 <= w.lds_size) memcpy(&d[l], w.lds + base + 4 * l, 4);
  }
}
template <int SIGN>
void ds_append(Wave& w, const Inst& in) {
  uint32_t at = (uint32_t)in.offset + (w.s[M0] >> 16), old = 0;
  if (at + 4 > w.lds_size) return fault(w, in, "append counter at %#x is outside LDS", at);
  memcpy(&old, w.lds + at, 4);
  uint32_t r = old + (uint32_t)(SIGN * __builtin_popcountll(w.exec()));
  memcpy(w.lds + at, &r, 4);
  uint32_t* d = data_plane(w, in.dst);
  FOR_LANES(w.exec(), l) d[l] = old;
}
// Lane moves through the LDS crossbar; they touch no memory.
void ds_bpermute(Wave& w, const Inst& in) {
  const uint32_t *a = ds_addr(w, in), *s = data_plane(w, in.src[1]);
  alignas(64) uint32_t out[kLanes];
  uint64_t exec = w.exec();
  LANES {
    uint32_t from = (a[l] + (uint32_t)in.offset) >> 2 & 63;
    out[l] = exec >> from & 1 ? s[from] : 0;
  }
  write_plane(data_plane(w, in.dst), out, exec);
}
void ds_permute(Wave& w, const Inst& in) {
  const uint32_t *a = ds_addr(w, in), *s = data_plane(w, in.src[1]);
  alignas(64) uint32_t out[kLanes] = {};
  uint64_t exec = w.exec();
  FOR_LANES(exec, l) out[(a[l] + (uint32_t)in.offset) >> 2 & 63] = s[l];
  write_plane(data_plane(w, in.dst), out, exec);
}
void ds_swizzle(Wave& w, const Inst& in) {
  const uint32_t* s = ds_addr(w, in);
  alignas(64) uint32_t out[kLanes];
  uint64_t exec = w.exec();
  uint32_t off = (uint32_t)in.offset;
  if ((off & 0xe000) == 0xe000 || (off & 0xc000) == 0xc000)
    return fault(w, in, "swizzle mode %#x is not supported", off);
  LANES {
    int from;
    if (off & 0x8000)
      from = (l & ~3) | (int)(off >> 2 * (l & 3) & 3);
    else
      from =
          (l & 32) | (int)((((uint32_t)l & 31 & (off & 31)) | (off >> 5 & 31)) ^ (off >> 10 & 31));
    out[l] = exec >> from & 1 ? s[from] : 0;
  }
  write_plane(data_plane(w, in.dst), out, exec);
}
// Transposing reads of gfx950: within each group of 16 lanes, 64 bits (96 for b6) a lane are read
// as rows of a matrix of 4-, 6-, 8- or 16-bit elements, and each lane gets a column.
template <int BITS>
void ds_read_tr(Wave& w, const Inst& in) {
  constexpr int BYTES = BITS == 6 ? 12 : 8, N = BYTES / 4, PER = BITS == 6 ? 16 : 64 / BITS;
  alignas(64) uint32_t rows[N * kLanes] = {};
  if (w.exec() != ~0ull) return fault(w, in, "transposing read with lanes off");
  ds_read_at<BYTES>(w, in, (uint32_t)in.offset, rows);
  if (w.state == State::FAULT) return;
  alignas(64) uint32_t out[N * kLanes] = {};
  auto element = [&](int lane, int i) -> uint32_t {
    int bit = i * BITS, word = bit / 32;
    uint64_t x = rows[word * kLanes + lane];
    if (word + 1 < N) x |= (uint64_t)rows[(word + 1) * kLanes + lane] << 32;
    return (uint32_t)(x >> (bit & 31)) & ((1u << BITS) - 1);
  };
  // The 16 lanes of a group hold a 16 x PER block in row-major order of (lane, element). The result
  // of lane c holds element e of column c of the block seen as PER rows of 16 columns, where row r
  // is spread over 16 / PER lanes.
  constexpr int LANES_PER_ROW = 16 / PER == 0 ? 1 : 16 / PER;
  LANES {
    int group = l & ~15, c = l & 15;
    for (int e = 0; e < PER; ++e) {
      uint32_t x = element(group + e * LANES_PER_ROW + c / PER, c % PER);
      int bit = e * BITS;
      uint64_t put = (uint64_t)x << (bit & 31);
      out[(bit / 32) * kLanes + l] |= (uint32_t)put;
      if (put >> 32 && bit / 32 + 1 < N) out[(bit / 32 + 1) * kLanes + l] |= (uint32_t)(put >> 32);
    }
  }
  memcpy(data_plane(w, in.dst), out, sizeof(out));
}

}  // namespace

#define DX(op, name, archs, flags, r, a, b, ...) __VA_ARGS__,
extern const Handler kDs[] = {
#include "isa/ds.inc"
};
#define FX(op, name, archs, segs, flags, t, ...) memory<Seg::FLAT, __VA_ARGS__>,
extern const Handler kFlat[] = {
#include "isa/flat.inc"
};
#undef FX
#define FX(op, name, archs, segs, flags, t, ...) memory<Seg::GLOBAL, __VA_ARGS__>,
extern const Handler kGlobal[] = {
#include "isa/flat.inc"
};
#undef FX
#define FX(op, name, archs, segs, flags, t, ...) memory<Seg::SCRATCH, __VA_ARGS__>,
extern const Handler kScratch[] = {
#include "isa/flat.inc"
};
#undef FX
#define BX(op, name, archs, flags, t, ...) memory<Seg::BUFFER, __VA_ARGS__>,
extern const Handler kMubuf[] = {
#include "isa/mubuf.inc"
};

}  // namespace gfxemu::GFXEMU_ISA
