#include "ck/core/activation.h"
#include "ck/norm/group_norm.h"
#include "ops/norm/groupnorm/groupnorm_args.h"

namespace aiter {

template <class T, int N, class Index>
AITER_DEVICE void groupnorm(const GroupnormArgs& a) {
  using Group = GroupNorm<T, N, Index, GroupnormArgs::kPacks, GroupnormArgs::kThreads>;
  Group group(a);
  if (!group.there()) return;
  group.read();
  using Place = typename Group::Place;
  auto vector = [&] AITER_LAMBDA(const void* from, const Place& place, float (&to)[N]) {
    if (a.channels_last)
      return load_floats<N, T>(from, a.w_dtype, group.channel + static_cast<int64_t>(place.p) * N,
                               to);
    const float one = load_float(from, group.channel + place.row, a.w_dtype);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) to[k] = one;
  };
  group.each_pack([&] AITER_LAMBDA(const Pack<T, N>& pack, const Place& place) {
    float v[N], gain[N];
    pack.to_floats(v);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] = (v[k] - group.mean) * group.scale;
    if (a.w) {
      vector(a.w, place, gain);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] *= gain[k];
    }
    if (a.b) {
      vector(a.b, place, gain);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] += gain[k];
    }
    if (a.silu) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] *= sigmoid(v[k]);
    }
    store_floats<N>(static_cast<T*>(a.y) + place.at, v);
  });
}

}  // namespace aiter

// Blocks have half of these threads: two of them then find registers.
#define AITER_GROUPNORM(row, N, Index, T)                                   \
  AITER_KERNEL(groupnorm_##row##_##T, 1024)(const aiter::GroupnormArgs a) { \
    aiter::wait_for_previous_kernel();                                      \
    aiter::groupnorm<aiter::T, N, Index>(a);                                \
  }
#define AITER_GROUPNORM_ROWS(T)                                        \
  AITER_GROUPNORM(hip_vec, (aiter::kPackSize<aiter::T, true>), int, T) \
  AITER_GROUPNORM(hip_any, 1, aiter::int64_t, T)
AITER_GROUPNORM_ROWS(f32)
AITER_GROUPNORM_ROWS(f16)
AITER_GROUPNORM_ROWS(bf16)
