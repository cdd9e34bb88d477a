// Outputs whose scales are of groups of dims, and caches that sequences find by tables of blocks.
#pragma once

#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_parts.h"

namespace aiter {

// Where q, kv or the cache of kv goes: numbers or codes, the scales of codes, and the turned dims where
// these have a place of their own.
struct FusedOutput {
  Arg out, scale, rope;
};

class GroupQuant {
 public:
  struct Opts {
    bool hadamard;
    int64_t page_slots;
    float amax_floor;
    bool power_scales;  // f32, but powers of two
  };
  GroupQuant(const Check& check, const Opts& opts, const Arg& heads, FusedArgs* args)
      : check_(check), opts_(opts), heads_(heads), args_(args), parts_(check, args) {}

  FusedParts& parts() { return parts_; }

  // (tokens, heads, ...), or (tokens, ...) without heads.
  void into_rows(int index, const FusedOutput& to, int64_t group, bool cached_only);
  void into_cache(int index, const FusedOutput& to, int64_t group, CacheShape* cache_shape);
  void parts_have_heads() { parts_have_heads_ = true; }

 private:
  // How many dims go to to.out, whose dtype and companions are checked.
  int64_t check_numbers(const FusedOutput& to, int64_t dim) const;
  int64_t check_groups(const Arg& out, int64_t count, int64_t* group) const;
  void scales(const Arg& scale, int64_t group, CacheScales strides,
              FusedArgs::Target* target) const;
  // (pages, block, last), (slots, last), (pages, last / x, block, x) or (pages, block / y, last / x, y,
  // x).
  CacheLayout cache_layout(const Arg& cache, int64_t last, CacheShape* shape) const;

  const Check& check_;
  const Opts opts_;
  const Arg& heads_;
  FusedArgs* args_;
  FusedParts parts_;
  bool parts_have_heads_ = false;
};

// Block tables, (sequences, blocks), or windows, (sequences): all of args->slots and ->sequences but
// which sequence and position a token has.
void check_tables(const Arg& table, const Arg& heads, const CacheShape& shape, FusedArgs* args);
// On the CPU: that tables lead to no pages beyond the cache.
void check_pages(const Check& check, const char* name, const Arg& heads, const FusedArgs& args);

}  // namespace aiter
