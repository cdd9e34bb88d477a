// Heads of neighbouring slots of paged caches, many slots at a time: where a layout puts a slot's
// dims apart, those of neighbours are side by side, and whole cache lines are moved.
#pragma once

#include "simd/cache.h"
#include "simd/cache_write.h"
#include "simd/stream.h"
#include "simd/zip.h"

namespace aiter::AITER_ISA {

constexpr int64_t kTileBytes = 16384;  // of one head of a run's slots

// Fetches rows that are used later, in the order of memory, a little at a time: in bursts, reading and
// writing would wait for each other.
struct RowFetch {
  const char* row = nullptr;  // null: nothing to fetch
  int64_t row_bytes = 0, stride = 0, at = 0;

  AITER_INLINE void more(int64_t bytes) {
    if (!row) return;
    for (; bytes > 0; bytes -= 64) {
      __builtin_prefetch(row + at, 0, 2);
      at += 64;
      if (at >= row_bytes) row += stride, at = 0;
    }
  }
};

// How many slots of a run are worth moving together, a power of two: 1 where a slot's dims are
// neighbours anyway.
inline uint32_t slots_at_once(const CacheLayout& layout, int64_t dim, int64_t bytes) {
  if (layout.dim_inner == 1 && layout.dim_bits == kNotSplit) return 1;
  uint32_t slots = 32;
  while (slots > 1 && slots * dim * bytes > kTileBytes) slots /= 2;
  return slots;
}

// Tokens that go to neighbouring slots of one page.
struct CacheRun {
  int64_t token, page;
  uint32_t slot, slots;
};
// f(run) for tokens [begin, end), in runs of at most `most` slots, none across a multiple of that.
template <class F>
AITER_INLINE void each_run(const CacheSlots& slots, int64_t begin, int64_t end, uint32_t most,
                           F&& f) {
  for (int64_t t = begin; t < end;) {
    CacheRun run{t, 0, 0, 1};
    if (slots.find(t, run.page, run.slot)) {
      const uint32_t in_page = slots.block.divisor - run.slot, at_once = most - run.slot % most;
      int64_t limit = in_page < at_once ? in_page : at_once;
      if (limit > end - t) limit = end - t;
      const int64_t first = slots[t];
      while (run.slots < limit && slots[t + run.slots] == first + run.slots) ++run.slots;
      f(run);
    }
    t += run.slots;
  }
}

// Heads of slots as they are outside of caches; strides are in elements.
template <class E>
struct HeadRows {
  E* data;
  int64_t slot, head;
};

// How a head of n neighbouring slots lies in a cache: `count` runs, `step` elements apart, of units of
// `unit` elements, one of each slot. unit is 0 where there is no such order.
struct SlotTile {
  int64_t count, step, unit;
};
inline SlotTile tile_of(const CacheLayout& c, int64_t dim, int64_t stride, int64_t bytes) {
  if (c.dim_bits == kNotSplit && c.slot_inner == 1) return {dim, c.dim_inner, 1};
  const int64_t unit = int64_t{1} << c.dim_bits;
  if (c.dim_bits != kNotSplit && c.dim_inner == 1 && c.slot_inner == unit && unit * bytes == 16 &&
      stride % unit == 0)
    return {dim / unit, c.dim_outer, unit};
  return {};
}

// n bytes into a cache, past the caches of the machine if there is a stream.
AITER_INLINE void write_bytes(void* to, const void* from, int64_t n, LineStream* stream) {
  if (stream)
    stream->copy(to, from, n);
  else
    memcpy(to, from, n);
}

// Units of `slots` rows by turns; `count` of each.
template <class E>
AITER_INLINE void zip_units(const E* rows, int64_t stride, int64_t slots, int64_t count,
                            int64_t unit, E* zipped) {
  if (unit == 1)
    zip_rows(rows, stride, slots, count, zipped, slots);
  else
    zip_rows(reinterpret_cast<const Sixteen*>(rows), stride / unit, slots, count,
             reinterpret_cast<Sixteen*>(zipped), slots);
}

// Writes heads of a run's slots.
template <class E>
void write_run(const CacheLayout& to, const CacheRun& run, int64_t first_head, int64_t heads,
               int64_t dim, const HeadRows<const E>& rows, LineStream* stream, RowFetch& next) {
  constexpr int64_t kBytes = sizeof(E);
  E* data = static_cast<E*>(to.data) + first_head * to.head;
  if (to.dim_inner == 1 && to.dim_bits == kNotSplit) {
    const bool together = heads == 1 || (rows.head == dim && to.head == dim);
    for (uint32_t s = 0; s < run.slots; ++s) {
      E* slot = data + to.at_slot(run.page, run.slot + s);
      const E* from = rows.data + s * rows.slot;
      if (together) {
        write_bytes(slot, from, heads * dim * kBytes, stream);
        continue;
      }
      for (int64_t h = 0; h < heads; ++h)
        write_bytes(slot + h * to.head, from + h * rows.head, dim * kBytes, stream);
    }
    return;
  }
  const SlotTile t = tile_of(to, dim, rows.slot, kBytes);
  alignas(64) E tile[kTileBytes / kBytes];
  for (int64_t h = 0; h < heads; ++h, data += to.head) {
    for (uint32_t s = 0, n; s < run.slots; s += n) {
      const E* from = rows.data + h * rows.head + s * rows.slot;
      const int64_t at = to.at_slot(run.page, run.slot + s);
      n = run.slots - s;
      if (to.slot_bits != kNotSplit) {  // those of one group of slots
        const uint32_t left = (1u << to.slot_bits) - (run.slot + s) % (1u << to.slot_bits);
        n = n < left ? n : left;
      }
      if (n == 1 || t.unit == 0) {
        n = 1;
        place(to, at + (first_head + h) * to.head, 0, from, dim);
        continue;
      }
      const int64_t size = n * t.unit;
      if (stream && t.step == size) {  // a line of each slot at a time, to read and write by turns
        const int64_t some = 64 / kBytes / t.unit;
        for (int64_t i = 0; i < t.count; i += some) {
          const int64_t count = t.count - i < some ? t.count - i : some;
          next.more(count * size * kBytes);
          E* part = stream->place(data + at + i * size, count * size * kBytes);
          zip_units(from + i * t.unit, rows.slot, n, count, t.unit, part);
          stream->send();
        }
        continue;
      }
      zip_units(from, rows.slot, n, t.count, t.unit, tile);
      if (t.step == size)
        memcpy(data + at, tile, n * dim * kBytes);
      else
        for (int64_t i = 0; i < t.count; ++i)
          memcpy(data + at + i * t.step, tile + i * size, size * kBytes);
    }
  }
}

}  // namespace aiter::AITER_ISA
