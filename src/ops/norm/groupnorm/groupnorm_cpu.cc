#include "ops/norm/groupnorm/groupnorm_args.h"
#include "simd/activation.h"
#include "simd/norm.h"

namespace aiter::AITER_ISA {
namespace {

// y = (x - mean) * scale * w + b of n neighbours, then silu; mean, scale and the rest are vectors
// or functions of the index.
AITER_INLINE Vec finish(Vec v, Vec mean, Vec gain, Vec bias, bool silu_too) {
  v = fma(v - mean, gain, bias);
  return silu_too ? silu(v) : v;
}

// What the norm is of: x, or its sum with the residual, once add_residual has made it.
template <class T>
AITER_INLINE const T* numbers(const GroupnormArgs& a) {
  return static_cast<const T*>(a.residual ? a.sum : a.x);
}
template <class T>
AITER_INLINE void add_residual(const GroupnormArgs& a, int64_t begin, int64_t count) {
  if (!a.residual) return;
  map_lanes(
      static_cast<T*>(a.sum) + begin, count, false, [](Vec v, Vec r) { return v + r; },
      NothingAhead{}, static_cast<const T*>(a.x) + begin,
      static_cast<const T*>(a.residual) + begin);
}

// (batch, channels, space): a group is a row of neighbours.
template <class T, class W>
void groups_of_rows(const GroupnormArgs& a, bool streamed) {
  const int64_t channels = a.channels / a.groups, row = channels * a.space;
  parallel_for(a.batch * a.groups, 16384 / (row + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      add_residual<T>(a, g * row, row);
      const T* x = numbers<T>(a) + g * row;
      T* y = static_cast<T*>(a.y) + g * row;
      const Moments m = row_moments<NormKind::kLayer>(row, a.eps, [](Vec v) { return v; }, x);
      const Vec mean = set1(m.mean);
      const bool silu_too = a.silu;
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t channel = g % a.groups * channels + c;
        const float w = a.w ? to_float(static_cast<const W*>(a.w)[channel]) : 1.0f;
        const float b = a.b ? to_float(static_cast<const W*>(a.b)[channel]) : 0.0f;
        const Vec gain = set1(m.scale * w), bias = set1(b);
        map_lanes(
            y + c * a.space, a.space, streamed,
            [&](Vec v) { return finish(v, mean, gain, bias, silu_too); }, NothingAhead{},
            x + c * a.space);
      }
    }
    if (streamed) stream_fence();
  });
}

// Means and sums of squared deviations of all channels, over some places.
struct ChannelMoments {
  float *mean, *squares;
};

// Adds those of other places to those of `count` places (Chan, Golub & LeVeque).
AITER_INLINE void combine(ChannelMoments to, float count, ChannelMoments other, float more,
                          int64_t channels) {
  const Vec share = set1(more / (count + more)), both = set1(count * more / (count + more));
  for_lanes(channels, [&](int64_t i, int n) {
    const Vec mean = load_some(to.mean + i, n), delta = load_some(other.mean + i, n) - mean;
    const Vec squares = load_some(to.squares + i, n) + load_some(other.squares + i, n);
    store_some(to.mean + i, fma(delta, share, mean), n);
    store_some(to.squares + i, fma(delta * delta, both, squares), n);
  });
}

// Of places [begin, end) of x, which are few enough to stay in the cache from one pass to the next.
template <class T>
void channel_moments(const T* x, int64_t channels, int64_t begin, int64_t end, ChannelMoments to) {
  const Vec share = set1(1.0f / static_cast<float>(end - begin));
  // Several vectors at a time, whose sums do not wait for each other.
  auto together = [&]<int kVectors>(int64_t i, int n) {
    Vec mean[kVectors], squares[kVectors];
    for (int k = 0; k < kVectors; ++k) mean[k] = squares[k] = zero();
    for (int64_t s = begin; s < end; ++s)
      for (int k = 0; k < kVectors; ++k)
        mean[k] = mean[k] + load_some(x + s * channels + i + k * kLanes, n);
    for (int k = 0; k < kVectors; ++k) mean[k] = mean[k] * share;
    for (int64_t s = begin; s < end; ++s)
      for (int k = 0; k < kVectors; ++k) {
        const Vec v = load_some(x + s * channels + i + k * kLanes, n) - mean[k];
        squares[k] = fma(v, v, squares[k]);
      }
    for (int k = 0; k < kVectors; ++k) {
      store_some(to.mean + i + k * kLanes, mean[k], n);
      store_some(to.squares + i + k * kLanes, squares[k], n);
    }
  };
  constexpr int kMany = 4;
  int64_t i = 0;
  for (; i + kMany * kLanes <= channels; i += kMany * kLanes)
    together.template operator()<kMany>(i, kLanes);
  for_lanes(channels - i, [&](int64_t j, int n) { together.template operator()<1>(i + j, n); });
}

// (batch, space, channels): the moments of blocks of places, channel by channel, are put together
// in their order, whatever the threads; then those of the channels of a group.
template <class T, class W>
void groups_of_columns(const GroupnormArgs& a, bool streamed) {
  const int64_t channels = a.channels, in_group = channels / a.groups;
  const int64_t padded = (channels + 15) & -16;
  int64_t places = 32768 / (channels * static_cast<int64_t>(sizeof(T)) + 1) + 1;
  if (places < a.space / 1024 + 1) places = a.space / 1024 + 1;
  const int64_t blocks = (a.space + places - 1) / places;
  float* moments = reinterpret_cast<float*>(scratch((blocks * 2 + 3) * padded * 4));
  float* affine = moments + blocks * 2 * padded;  // mean, gain and bias of each channel
  auto of_block = [&](int64_t k) {
    return ChannelMoments{moments + 2 * k * padded, moments + (2 * k + 1) * padded};
  };
  for (int64_t n = 0; n < a.batch; ++n) {
    const T* x = numbers<T>(a) + n * a.space * channels;
    T* y = static_cast<T*>(a.y) + n * a.space * channels;
    const int64_t grain = 16384 / (places * channels + 1) + 1;
    parallel_for(blocks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const int64_t last = (k + 1) * places < a.space ? (k + 1) * places : a.space;
        add_residual<T>(a, (n * a.space + k * places) * channels, (last - k * places) * channels);
        channel_moments(x, channels, k * places, last, of_block(k));
      }
    });
    const ChannelMoments all = of_block(0);
    for (int64_t k = 1; k < blocks; ++k) {
      const int64_t more = a.space - k * places < places ? a.space - k * places : places;
      combine(all, static_cast<float>(k * places), of_block(k), static_cast<float>(more), channels);
    }
    float *mean = affine, *gain = mean + padded, *bias = gain + padded;
    for (int64_t g = 0; g < a.groups; ++g) {
      const int64_t first = g * in_group;
      double sum = 0, squares = 0;
      for (int64_t c = first; c < first + in_group; ++c) sum += all.mean[c];
      const double group_mean = sum / static_cast<double>(in_group);
      for (int64_t c = first; c < first + in_group; ++c) {
        const double delta = all.mean[c] - group_mean;
        squares += all.squares[c] + delta * delta * static_cast<double>(a.space);
      }
      const double count = static_cast<double>(in_group * a.space);
      const float scale = static_cast<float>(1 / __builtin_sqrt(squares / count + a.eps));
      for (int64_t c = first; c < first + in_group; ++c) {
        mean[c] = static_cast<float>(group_mean);
        gain[c] = scale * (a.w ? to_float(static_cast<const W*>(a.w)[c]) : 1.0f);
        bias[c] = a.b ? to_float(static_cast<const W*>(a.b)[c]) : 0.0f;
      }
    }
    const bool silu_too = a.silu;
    parallel_for(a.space, 16384 / (channels + 1) + 1, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s)
        map_lanes(
            y + s * channels, channels, streamed,
            [&](Vec v, Vec m, Vec g, Vec b) { return finish(v, m, g, b, silu_too); },
            NothingAhead{}, x + s * channels, mean, gain, bias);
      if (streamed) stream_fence();
    });
  }
}

template <class T, class W>
void groupnorm_plain(const GroupnormArgs& a) {
  const int64_t in_group = a.channels / a.groups;
  for (int64_t n = 0; n < a.batch; ++n)
    for (int64_t g = 0; g < a.groups; ++g) {
      auto each = [&](auto f) {
        for (int64_t c = g * in_group; c < (g + 1) * in_group; ++c)
          for (int64_t s = 0; s < a.space; ++s)
            f(a.channels_last ? (n * a.space + s) * a.channels + c
                              : (n * a.channels + c) * a.space + s,
              c);
      };
      if (a.residual)
        each([&](int64_t i, int64_t) {
          static_cast<T*>(a.sum)[i] = from_float<T>(to_float(static_cast<const T*>(a.x)[i]) +
                                                    to_float(static_cast<const T*>(a.residual)[i]));
        });
      auto number = [&](int64_t i) { return to_float(numbers<T>(a)[i]); };
      const double count = static_cast<double>(in_group * a.space);
      double mean = 0, squares = 0;
      each([&](int64_t i, int64_t) { mean += number(i) / count; });
      each([&](int64_t i, int64_t) { squares += (number(i) - mean) * (number(i) - mean); });
      const double scale = 1 / __builtin_sqrt(squares / count + a.eps);
      each([&](int64_t i, int64_t c) {
        double v = (number(i) - mean) * scale;
        if (a.w) v *= to_float(static_cast<const W*>(a.w)[c]);
        if (a.b) v += to_float(static_cast<const W*>(a.b)[c]);
        if (a.silu) v /= 1 + __builtin_exp(-v);
        static_cast<T*>(a.y)[i] = from_float<T>(static_cast<float>(v));
      });
    }
}

template <class F>
void with_types(const GroupnormArgs& a, F&& f) {
  if (a.batch == 0 || a.channels == 0 || a.space == 0) return;
  with_float_type(a.dtype, [&](auto t) {
    if (a.w_dtype == DType::kF32)
      f(t, float{});
    else
      f(t, t);
  });
}

}  // namespace

void groupnorm_cpu_simd(const GroupnormArgs& a) {
  with_types(a, [&]<class T, class W>(T, W) {
    const int64_t bytes = a.batch * a.channels * a.space * static_cast<int64_t>(sizeof(T));
    const bool streamed = a.y != a.x && worth_streaming(a.y, bytes, sizeof(T));
    if (a.channels_last)
      groups_of_columns<T, W>(a, streamed);
    else
      groups_of_rows<T, W>(a, streamed);
  });
}

void groupnorm_cpu_ref(const GroupnormArgs& a) {
  with_types(a, [&]<class T, class W>(T, W) { groupnorm_plain<T, W>(a); });
}

}  // namespace aiter::AITER_ISA
