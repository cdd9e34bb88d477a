#include "ck/core/activation.h"
#include "ck/norm/group_norm.h"
#include "ops/norm/groupnorm/groupnorm_args.h"

namespace aiter {

template <class T, int N, class Index, GroupOrder kOrder>
AITER_DEVICE void groupnorm(const GroupnormArgs& a, char* shared) {
  using Group = GroupNorm<T, N, Index, kOrder>;
  constexpr bool kPlaces = Group::kPlaces;
  using Place = typename Group::Place;
  Group group(a, shared);
  if (!group.there()) return;
  group.read();
  if (a.moments) return group.write_moments();
  constexpr int kNumbers = kOrder == GroupOrder::kFlat ? 1 : N;  // packs are of one channel
  float gain[kNumbers], bias[kNumbers];
  auto load_vectors = [&] AITER_LAMBDA(const Place& place) {
    auto load = [&] AITER_LAMBDA(const void* from, float (&to)[kNumbers]) {
      const bool last = kPlaces || (kOrder == GroupOrder::kRows && a.channels_last);
      const int64_t i = last ? static_cast<int64_t>(place.p) * N : place.row;
      load_floats<kNumbers, T>(from, a.w_dtype, group.channel + i, to);
    };
    if (a.w) {
      load(a.w, gain);
      AITER_UNROLL
      for (int k = 0; k < kNumbers; ++k) gain[k] *= group.scale;
    }
    if (a.b) load(a.b, bias);
  };
  AITER_UNROLL
  for (int k = 0; k < kNumbers; ++k) gain[k] = group.scale, bias[k] = 0.0f;
  if (kPlaces) load_vectors(group.first(0));
  const bool affine = a.w || a.b;
  group.each_pack([&] AITER_LAMBDA(const Pack<T, N>& pack, const Place& place) {
    float v[N];
    pack.to_floats(v);
    if (!kPlaces && affine) load_vectors(place);
    AITER_UNROLL
    for (int k = 0; k < N; ++k)
      v[k] = fma(v[k] - group.mean, gain[k % kNumbers], bias[k % kNumbers]);
    if (a.silu) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] *= sigmoid(v[k]);
    }
    store_at_once(static_cast<T*>(a.y) + place.at, Pack<T, N>::from_floats(v));
  });
}

}  // namespace aiter

// Blocks have a third of these threads: three of them then find registers.
#define AITER_GROUPNORM(row, N, Index, order, T)                               \
  AITER_KERNEL(groupnorm_##row##_##T, 768)(const aiter::GroupnormArgs a) {     \
    AITER_DYNAMIC_SHARED(shared);                                              \
    aiter::wait_for_previous_kernel();                                         \
    aiter::groupnorm<aiter::T, N, Index, aiter::GroupOrder::order>(a, shared); \
  }
#define AITER_GROUPNORM_ROWS(T)                                           \
  AITER_GROUPNORM(hip_vec, 16 / sizeof(aiter::T), int, kFlat, T)          \
  AITER_GROUPNORM(hip_vec_places, 16 / sizeof(aiter::T), int, kPlaces, T) \
  AITER_GROUPNORM(hip_word_places, 4 / sizeof(aiter::T), int, kPlaces, T) \
  AITER_GROUPNORM(hip_any, 1, aiter::int64_t, kRows, T)
AITER_GROUPNORM_ROWS(f32)
AITER_GROUPNORM_ROWS(f16)
AITER_GROUPNORM_ROWS(bf16)
