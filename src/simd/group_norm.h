// Group norms: the moments of groups, then what is written, as an epilogue that has the numbers in
// the cache.
#pragma once

#include "ops/norm/groupnorm/groupnorm_args.h"
#include "simd/activation.h"
#include "simd/norm.h"

namespace aiter::AITER_ISA {

// What the norm is of: x, or its sum with the residual, once add_residual has made it.
template <class T>
AITER_INLINE const T* group_numbers(const GroupnormArgs& a) {
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

// What the numbers of columns become, (x - mean) * gain + bias; each a pointer, or Repeated.
template <class P>
struct Affine {
  P mean, gain, bias;
};

// y = the norm of the n numbers at x, from column 0 of the affine on, and silu.
template <class Y, class T, class P>
AITER_INLINE void normalize_columns(const GroupnormArgs& a, int64_t n, const T* x,
                                    const Affine<P>& to, Y* y, bool streamed) {
  const bool silu_too = a.silu;
  map_lanes(
      y, n, streamed,
      [&](Vec v, Vec mean, Vec gain, Vec bias) {
        v = fma(v - mean, gain, bias);
        return silu_too ? silu(v) : v;
      },
      NothingAhead{}, x, to.mean, to.gain, to.bias);
}

// (batch, channels, space), where a group is a row of neighbours. write(plane, x, affine, buffer)
// takes the numbers of a channel of an image; buffer: `floats` floats for each thread. moments,
// unless null: mean and scale of each group.
template <class T, class W, class Write>
AITER_INLINE void groups_of_rows(const GroupnormArgs& a, float* moments, int64_t floats,
                                 Write&& write) {
  const int64_t channels = a.channels / a.groups, row = channels * a.space;
  for_rows(a.batch * a.groups, row, floats, [&](int64_t begin, int64_t end, float* buffer) {
    for (int64_t g = begin; g < end; ++g) {
      add_residual<T>(a, g * row, row);
      const T* x = group_numbers<T>(a) + g * row;
      const Moments m = row_moments<NormKind::kLayer>(row, a.eps, [](Vec v) { return v; }, x);
      if (moments) moments[2 * g] = m.mean, moments[2 * g + 1] = m.scale;
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t channel = g % a.groups * channels + c;
        const float w = a.w ? to_float(static_cast<const W*>(a.w)[channel]) : 1.0f;
        const float b = a.b ? to_float(static_cast<const W*>(a.b)[channel]) : 0.0f;
        const Affine<Repeated<T>> affine{{set1(m.mean)}, {set1(m.scale * w)}, {set1(b)}};
        write(g * channels + c, x + c * a.space, affine, buffer);
      }
    }
    stream_fence();
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

// Of places [begin, end) of x.
template <class T>
void channel_moments(const T* x, int64_t channels, int64_t begin, int64_t end, ChannelMoments to) {
  constexpr bool kEvenFirst = kAllBf16<T>;
  constexpr int kChannels = 1024, kPlaces = 4, kPair = 2 * kLanes;
  const Vec share = set1(1.0f / static_cast<float>(end - begin));
  // Sums of what is beyond the shift, as pairs lie: memory is read in its order.
  alignas(64) float shift[kChannels], sum[kChannels], squares[kChannels];
  for (int64_t first = 0; first < channels; first += kChannels) {
    const int64_t n = channels - first < kChannels ? channels - first : kChannels;
    const int64_t paired = n - n % kPair;
    const T* row = x + first;
    auto each_place = [&]<int kTogether>(int64_t s) {
      auto add = [&](int64_t i, const Vec(&v)[kTogether]) {
        Vec total = load(sum + i), power = load(squares + i);
        for (int k = 0; k < kTogether; ++k) {
          const Vec d = v[k] - load(shift + i);
          total = total + d;
          power = fma(d, d, power);
        }
        store(sum + i, total), store(squares + i, power);
      };
      for (int64_t i = 0; i < paired; i += kPair) {
        Vec a[kTogether], b[kTogether];
        for (int k = 0; k < kTogether; ++k) {
          const Pair v = load_pair<kEvenFirst>(row + (s + k) * channels + i);
          a[k] = v.a, b[k] = v.b;
        }
        add(i, a), add(i + kLanes, b);
      }
      for_lanes(n - paired, [&](int64_t i, int lanes) {
        Vec v[kTogether];
        for (int k = 0; k < kTogether; ++k)
          v[k] = load_some(row + (s + k) * channels + paired + i, lanes);
        add(paired + i, v);
      });
    };
    auto each_vector = [&](auto&& f) {
      for (int64_t i = 0; i < n; i += kLanes) f(i);
    };
    for (int64_t i = 0; i < paired; i += kPair) {
      const Pair v = load_pair<kEvenFirst>(row + begin * channels + i);
      store(shift + i, v.a), store(shift + i + kLanes, v.b);
    }
    for_lanes(n - paired, [&](int64_t i, int lanes) {
      store(shift + paired + i, load_some(row + begin * channels + paired + i, lanes));
    });
    for (bool again = false;; again = true) {
      each_vector([&](int64_t i) { store(sum + i, zero()), store(squares + i, zero()); });
      int64_t s = begin;
      for (; s + kPlaces <= end; s += kPlaces) each_place.template operator()<kPlaces>(s);
      for (; s < end; ++s) each_place.template operator()<1>(s);
      // A shift far from the mean has cost bits: the mean is known well enough to go again.
      Vec far = zero();
      each_vector([&](int64_t i) {
        const Vec mean = load(sum + i) * share;
        const Vec variance = load(squares + i) * share - mean * mean;
        far = max(far, mean * mean - set1(16.0f) * variance);
        store(sum + i, mean);
        store(shift + i, load(shift + i) + mean);
        store(squares + i, max(variance, zero()) * set1(static_cast<float>(end - begin)));
      });
      if (again || !(reduce_max(far) > 0)) break;
    }
    for (int64_t i = 0; i < paired; i += kPair) {
      auto in_order = [&](const float* from, float* out) {
        Pair v = {load(from + i), load(from + i + kLanes)};
        if (kEvenFirst && AITER_ISA_LEVEL == 2) v = interleave(v);
        store(out + first + i, v.a), store(out + first + i + kLanes, v.b);
      };
      in_order(shift, to.mean), in_order(squares, to.squares);
    }
    for_lanes(n - paired, [&](int64_t i, int lanes) {
      store_some(to.mean + first + paired + i, load(shift + paired + i), lanes);
      store_some(to.squares + first + paired + i, load(squares + paired + i), lanes);
    });
  }
}

// (batch, space, channels): the moments of blocks of places, channel by channel, are put together
// in their order, whatever the threads; then those of the channels of a group. write(row, rows, x,
// affine, buffer) takes the channels of `together` places, or of the last ones of an image; the affine
// repeats for each of them. The rest as above.
template <class T, class W, class Write>
AITER_INLINE void groups_of_columns(const GroupnormArgs& a, float* group_moments, int64_t together,
                                    int64_t floats, Write&& write) {
  const int64_t channels = a.channels, in_group = channels / a.groups;
  const int64_t padded = (channels + 15) & -16, repeated = (channels * together + 15) & -16;
  int64_t places = 32768 / (channels * static_cast<int64_t>(sizeof(T)) + 1) + 1;
  if (places < a.space / 1024 + 1) places = a.space / 1024 + 1;
  const int64_t blocks = (a.space + places - 1) / places;
  const int64_t pieces = row_pieces(a.space, channels);
  floats = (floats + 15) & -16;
  // Threads take images or, where those are few, places of one after the other.
  const bool images = row_pieces(a.batch, a.space * channels) == num_threads();
  const int64_t threads = images ? num_threads() : 1;
  const int64_t of_image = blocks * 2 * padded + 3 * repeated + pieces * floats;
  float* memory = reinterpret_cast<float*>(scratch(threads * of_image * 4));
  auto image = [&](int64_t n, int64_t thread) {
    float* moments = memory + thread * of_image;
    float* affine = moments + blocks * 2 * padded;  // mean, gain and bias of each channel
    float* buffers = affine + 3 * repeated;
    auto of_block = [&](int64_t k) {
      return ChannelMoments{moments + 2 * k * padded, moments + (2 * k + 1) * padded};
    };
    const T* x = group_numbers<T>(a) + n * a.space * channels;
    parallel_for(blocks, row_grain(places * channels), [&](int64_t begin, int64_t end) {
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
    float *mean = affine, *gain = mean + repeated, *bias = gain + repeated;
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
      if (group_moments) {
        float* to = group_moments + 2 * (n * a.groups + g);
        to[0] = static_cast<float>(group_mean), to[1] = scale;
      }
      for (int64_t c = first; c < first + in_group; ++c) {
        mean[c] = static_cast<float>(group_mean);
        gain[c] = scale * (a.w ? to_float(static_cast<const W*>(a.w)[c]) : 1.0f);
        bias[c] = a.b ? to_float(static_cast<const W*>(a.b)[c]) : 0.0f;
      }
    }
    for (int64_t i = channels; i < channels * together; ++i)
      mean[i] = mean[i - channels], gain[i] = gain[i - channels], bias[i] = bias[i - channels];
    const int64_t steps = (a.space + together - 1) / together;
    parallel_tasks(pieces, [&](int64_t piece, int) {
      for (int64_t k = steps * piece / pieces; k < steps * (piece + 1) / pieces; ++k) {
        const int64_t s = k * together, rows = a.space - s < together ? a.space - s : together;
        write(n * a.space + s, rows, x + s * channels, Affine<const float*>{mean, gain, bias},
              buffers + piece * floats);
      }
      stream_fence();
    });
  };
  if (images)
    parallel_tasks(a.batch, [&](int64_t n, int thread) { image(n, thread); });
  else
    for (int64_t n = 0; n < a.batch; ++n) image(n, 0);
}

// By obvious code: the sum with the residual, and found(group, mean, scale, each) for each group;
// each(f) calls f(where, channel) for all its numbers.
template <class T, class Found>
void plain_groups(const GroupnormArgs& a, Found&& found) {
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
      auto number = [&](int64_t i) { return to_float(group_numbers<T>(a)[i]); };
      const double count = static_cast<double>(in_group * a.space);
      double mean = 0, squares = 0;
      each([&](int64_t i, int64_t) { mean += number(i) / count; });
      each([&](int64_t i, int64_t) { squares += (number(i) - mean) * (number(i) - mean); });
      found(n * a.groups + g, mean, 1 / __builtin_sqrt(squares / count + a.eps), each);
    }
}

// The norm of number i, of channel c.
template <class T, class W>
float plain_number(const GroupnormArgs& a, int64_t i, int64_t c, double mean, double scale) {
  double v = (to_float(group_numbers<T>(a)[i]) - mean) * scale;
  if (a.w) v *= to_float(static_cast<const W*>(a.w)[c]);
  if (a.b) v += to_float(static_cast<const W*>(a.b)[c]);
  if (a.silu) v /= 1 + __builtin_exp(-v);
  return static_cast<float>(v);
}

// Calls f(T{}, W{}) with the types of x and of the weights, where there is something to do.
template <class F>
AITER_INLINE void with_groupnorm_types(const GroupnormArgs& a, F&& f) {
  if (a.batch == 0 || a.channels == 0 || a.space == 0) return;
  with_float_type(a.dtype, [&](auto t) {
    if (a.w_dtype == DType::kF32)
      f(t, float{});
    else
      f(t, t);
  });
}

}  // namespace aiter::AITER_ISA
