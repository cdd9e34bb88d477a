// What the entries of this home share: a call's heads and where they go, and how it runs.
#pragma once

#include "core/check.h"
#include "ops/kvcache/cache_checks.h"
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache_args.h"
#include "ops/rope/rope_checks.h"

namespace aiter {

using FusedArgs = FusedQkRopeReshapeAndCacheArgs;

// Adds parts, and their targets, to args. Parts are named by their index.
class FusedParts {
 public:
  FusedParts(const Check& check, FusedArgs* args) : check_(check), args_(args) {}

  // Heads of `from`, (tokens, heads, dim) or (tokens, dim).
  int add(const Arg& from, int64_t heads, bool turns, bool nope_first = false,
          const HeadNorm& norm = {});
  FusedArgs::Target& into_cache(int part, const CacheLayout& to, const Arg& cache,
                                const CacheScales& scale, bool dynamic = false);
  // Rows of an array (tokens, heads, ...), or (tokens, ...), from dim `begin` on.
  FusedArgs::Target& into_rows(int part, const Arg& to, const CacheScales& scale = {},
                               int64_t begin = 0, bool dynamic = false);

 private:
  FusedArgs::Target& place(int index, const CacheLayout& to, DType dtype, const CacheScales& scale,
                           bool dynamic);

  const Check& check_;
  FusedArgs* args_;
};

// Sets how many tokens there are, and their dtype, by the heads of q.
void check_tokens(const Check& check, const Arg& q, FusedArgs* args);

// The dispatch of a call that has been checked; q and cache say what it is about.
void run_fused(FusedArgs* args, const Arg& q, const Arg& cache, uint32_t flags,
               aiter_stream stream);

}  // namespace aiter
