#pragma once

#include "ops/kvcache/cache_layout.h"
#include "ops/rope/head_norm.h"
#include "ops/rope/rope_angles.h"

namespace aiter {

// Slots by the sequence and the position of a token: a table of pages for each sequence, or one page,
// of which it has a window of the last positions.
struct SequenceSlots {
  const void* batches;  // null: none
  int64_t batches_stride;
  const void* positions;
  Rows positions_rows;
  int64_t count, sequences;
  int64_t columns, stride;  // of the table, which CacheSlots has; columns = 0: a window
  DType batches_dtype, positions_dtype;
  Divisor ratio;  // so many positions, below 2^32 if more than one, share a slot

  // The token's position, in units of the ratio; negative for one of no sequence.
  AITER_HOST_DEVICE int64_t position(int64_t token) const {
    const int64_t batch = rope_integer(batches, batches_dtype, token * batches_stride);
    if (batch < 0 || batch >= sequences) return -1;
    const int64_t at = rope_integer(positions, positions_dtype, positions_rows.offset(token));
    return at > 0 && ratio.divisor > 1 ? ratio.divide(static_cast<uint32_t>(at)) : at;
  }
  // The page of one that has a position, where it is in column `column` of pages.
  AITER_HOST_DEVICE int64_t page(const CacheSlots& slots, int64_t token, int64_t column) const {
    if (columns > 0 && column >= columns) return -1;
    const int64_t row = rope_integer(batches, batches_dtype, token * batches_stride) * stride;
    return slots[columns > 0 ? row + column : row];
  }
};

// Heads that are means of the last lines of a sequence, weighted for each dim by the softmax of their
// scores: lines of this call, and before them those that a ring of states has kept.
struct PooledHeads {
  // kv or its scores: (rows, dims), (states, lines, dims).
  struct Lines {
    const void* data;
    int64_t row, line;  // strides
    DType dtype;
  };
  Lines kv, score, kv_state, score_state,
      bias;  // bias: added to scores of this call, (ratio, dims)
  const int32_t*
      plan;  // null: none; (heads): row of the last line, sequence, position, first line of
  int64_t plan_stride;  // this call
  const void* state_slots;
  DType state_slots_dtype;
  int32_t ratio, count;  // lines of a head: the ratio, or twice it
  int64_t second;        // added to the dims of the last `ratio` ones
  int64_t rows, states, sequences;
  Divisor ring;  // lines of a state

  struct Plan {
    int64_t row, sequence, position, window;
  };
  AITER_HOST_DEVICE Plan plan_of(int64_t head) const {
    const int32_t* at = plan + head * plan_stride;
    return {at[0], at[1], at[2], at[3]};
  }
  // The state of a sequence; negative if it has none.
  AITER_HOST_DEVICE int64_t state_of(const Plan& p) const {
    if (p.sequence < 0 || p.sequence >= sequences) return -1;
    const int64_t state = rope_integer(state_slots, state_slots_dtype, p.sequence);
    return state < states ? state : -1;
  }
  // The first line that there is, and where the others are: false for one that is not there.
  AITER_HOST_DEVICE int first(const Plan& p) const {
    const int64_t missing = count - 1 - p.position;
    return missing > 0 ? static_cast<int>(missing) : 0;
  }
  struct At {
    bool kept;  // in a state
    int64_t kv, score, bias;
  };
  AITER_HOST_DEVICE int64_t bias_of(int k) const {
    return k >= ratio ? (k - ratio) * bias.row + second : k * bias.row;
  }
  AITER_HOST_DEVICE bool find(const Plan& p, int64_t state, int k, At& at) const {
    at.kept = k < p.window;
    return at.kept ? find_kept(p, state, k, at) : find_here(p, k, at);
  }
  AITER_HOST_DEVICE bool find_kept(const Plan& p, int64_t state, int k, At& at) const {
    const int64_t dims = k >= ratio ? second : 0;
    const uint32_t position = static_cast<uint32_t>(p.position - count + 1 + k);
    const int64_t line = position - ring.divide(position) * ring.divisor;
    at.kv = state * kv_state.row + line * kv_state.line + dims;
    at.score = state * score_state.row + line * score_state.line + dims;
    return state >= 0;
  }
  AITER_HOST_DEVICE bool find_here(const Plan& p, int k, At& at) const {
    const int64_t dims = k >= ratio ? second : 0, row = p.row - (count - 1 - k);
    at.kv = row * kv.row + dims, at.score = row * score.row + dims;
    at.bias = bias_of(k);
    return row >= 0 && row < rows;
  }
};

struct FusedQkRopeReshapeAndCacheArgs {
  static constexpr int64_t kMaxDim = 1024;  // of a head that is normalized or turns
  static constexpr int kMaxParts = 4, kMaxTargets = 6;
  // Of a part, in hip_plain and hip_codes.
  AITER_HOST_DEVICE static constexpr int plain_targets(bool codes) { return codes ? 4 : 2; }

  // The order of computed scales: by strides, or as matrix instructions read the e8m0 scales of 32
  // tokens, in tiles of 2 or 8 columns (gfx950) or of 4 (gfx1250), or those of 16 slots or heads.
  enum class ScaleOrder : int32_t { kStrided, kTiles2, kTiles8, kTiles4, kRows16 };

  // Where dims [begin, begin + count) of a part's heads go, as they are or as codes: rows of an
  // array, or slots of a cache. Of codes of 4 bits, the layout counts bytes.
  struct Target {
    int32_t part, begin;
    int64_t count;
    CacheLayout to;
    CacheScales scale;
    DType dtype;
    CacheQuant quant;
    int64_t group;            // kDynamic: dims that share a scale
    DType scale_dtype;        // f32, or e8m0: a power of two
    int32_t whole_scale;      // f32, also of a power of two
    int32_t scale_bits;       // log2 of the copies of a scale, side by side
    float amax_floor;         // a scale makes room for this much at least
    int32_t to_slots;         // else to the token's row: its `page`
    int32_t cached_only;      // rows: of the tokens that have a slot
    int32_t whole;            // hip_vec: packs stay together, at multiples of their size
    int32_t lanes_per_group;  // hip_vec: that share a scale; 0 = those of a head
    int32_t staged;           // hip_plain: neighbouring slots are together
    ScaleOrder order;  // else than kStrided: scale.page is of 32 tokens, scale.slot of a row of
    Divisor columns;   // so many groups, scale.head a head's groups

    // Whether it has rows of whole heads, as they are.
    AITER_HOST_DEVICE bool takes_all(DType heads, int64_t dims) const {
      return !to_slots && dtype == heads && begin == 0 && count == dims && to.dim_inner == 1 &&
             to.dim_bits == kNotSplit;
    }
    AITER_HOST_DEVICE int64_t scale_at(int64_t page, uint32_t slot, int64_t head,
                                       int64_t group_index) const {
      if (order == ScaleOrder::kStrided)
        return page * scale.page + slot * scale.slot + head * scale.head +
               group_index * scale.group;
      if (order == ScaleOrder::kRows16) {  // one of the two is 0
        const int64_t row = slot + head;
        return page * scale.page + group_index * scale.group + (row & 15) * scale.slot +
               (row >> 4) * scale.head;
      }
      const int64_t flat = head * scale.head + group_index, row = columns.divide(flat);
      const int64_t k = flat - row * columns.divisor;
      const int64_t at = (page >> 5) * scale.page + row * scale.slot;
      switch (order) {
        case ScaleOrder::kTiles2:
          return at + (k >> 1) * 64 + (page & 15) * 4 + (k & 1) * 2 + (page >> 4 & 1);
        case ScaleOrder::kTiles8:
          return at + (k >> 3) * 256 + (k & 3) * 64 + (page & 15) * 4 + (k >> 2 & 1) * 2 +
                 (page >> 4 & 1);
        default:
          return at + (k >> 2) * 128 + (page & 31) * 4 + (k & 3);
      }
    }
  };
  // Heads that are normalized or not, turned or not.
  struct Part {
    const void* from;
    int64_t from_token, from_head;  // strides
    int64_t splits, from_split;     // heads are sums, in fp32, of so many parts
    DType from_dtype;               // that of the heads, or f32
    int64_t heads, dim;
    HeadNorm norm;
    int32_t turns;  // dims [first, first + 2 * pairs)
    int32_t first;
    int32_t lanes;  // GPU: of a head, a power of two up to the wave
    // hip_plain: blocks that share the heads of some tokens; where the heads go
    int32_t shares, target_count, targets[4];

    AITER_HOST_DEVICE bool summed(DType dtype) const { return splits > 1 || from_dtype != dtype; }
    // Else it arrives as it is, and may be of any size.
    AITER_HOST_DEVICE bool changed(const FusedQkRopeReshapeAndCacheArgs& args) const {
      return args.pool.plan || norm.on || turns || args.hadamard != 0.0f || summed(args.dtype);
    }
  } parts[kMaxParts];
  Target targets[kMaxTargets];
  int32_t part_count, target_count;
  int32_t cached;     // some target goes by slots
  float hadamard;     // 0, or what the heads times the Walsh-Hadamard matrix are multiplied by
  DType dtype;        // of the heads
  DType code;         // of all targets of codes, so that threads part no ways
  RopeAngles angles;  // pairs = 0: no rotation
  CacheSlots slots;
  SequenceSlots sequences;  // where tokens have no slots of their own
  PooledHeads pool;         // f32: the only part's heads
  int64_t tokens;
  int32_t heads_at_once;    // GPU: that the same lanes take one after the other
  int32_t tokens_of_block;  // hip_plain: a power of two

  // The token's slot in the cache; false if it has none.
  AITER_HOST_DEVICE bool find(int64_t token, int64_t& page, uint32_t& slot) const {
    const bool direct = !sequences.batches;
    if (direct && token >= slots.count) return false;
    const int64_t at = direct ? slots[token] : sequences.position(token);
    if (at < 0 || (direct && at >= slots.capacity)) return false;
    page = slots.block.divide(at);
    slot = static_cast<uint32_t>(at - page * slots.block.divisor);
    if (!direct) page = sequences.page(slots, token, page);
    return page >= 0 && page < slots.pages;
  }
};

}  // namespace aiter
