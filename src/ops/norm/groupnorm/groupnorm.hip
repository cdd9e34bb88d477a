#include "ck/core/activation.h"
#include "ck/norm/group_norm.h"
#include "ops/norm/groupnorm/groupnorm_args.h"

namespace aiter {

template <class T, int N, class Index, bool kPlaces>
AITER_DEVICE void groupnorm(const GroupnormArgs& a, char* shared) {
  using Group = GroupNorm<T, N, Index, kPlaces, true>;
  using Place = typename Group::Place;
  Group group(a, shared);
  if (!group.there()) return;
  group.read();
  float gain[N], bias[N];
  auto load_vectors = [&] AITER_LAMBDA(const Place& place) {
    auto load = [&] AITER_LAMBDA(const void* from, float (&to)[N]) {
      if (kPlaces || a.channels_last)
        return load_floats<N, T>(from, a.w_dtype, group.channel + static_cast<int64_t>(place.p) * N,
                                 to);
      const float one = load_float(from, group.channel + place.row, a.w_dtype);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) to[k] = one;
    };
    if (a.w) {
      load(a.w, gain);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) gain[k] *= group.scale;
    }
    if (a.b) load(a.b, bias);
  };
  AITER_UNROLL
  for (int k = 0; k < N; ++k) gain[k] = group.scale, bias[k] = 0.0f;
  if (kPlaces) load_vectors(group.first);
  const bool affine = a.w || a.b;
  group.each_pack([&] AITER_LAMBDA(const Pack<T, N>& pack, const Place& place) {
    float v[N];
    pack.to_floats(v);
    if (!kPlaces && affine) load_vectors(place);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] = fma(v[k] - group.mean, gain[k], bias[k]);
    if (a.silu) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] *= sigmoid(v[k]);
    }
    store_at_once(static_cast<T*>(a.y) + place.at, Pack<T, N>::from_floats(v));
  });
}

}  // namespace aiter

// Blocks have a third of these threads: three of them then find registers.
#define AITER_GROUPNORM(row, N, Index, kPlaces, T)                         \
  AITER_KERNEL(groupnorm_##row##_##T, 768)(const aiter::GroupnormArgs a) { \
    AITER_DYNAMIC_SHARED(shared);                                          \
    aiter::wait_for_previous_kernel();                                     \
    aiter::groupnorm<aiter::T, N, Index, kPlaces>(a, shared);              \
  }
#define AITER_GROUPNORM_ROWS(T)                                        \
  AITER_GROUPNORM(hip_vec, 16 / sizeof(aiter::T), int, false, T)       \
  AITER_GROUPNORM(hip_vec_places, 16 / sizeof(aiter::T), int, true, T) \
  AITER_GROUPNORM(hip_word_places, 4 / sizeof(aiter::T), int, true, T) \
  AITER_GROUPNORM(hip_any, 1, aiter::int64_t, false, T)
AITER_GROUPNORM_ROWS(f32)
AITER_GROUPNORM_ROWS(f16)
AITER_GROUPNORM_ROWS(bf16)
