#include "ops/sampling/random_sample/random_sample_args.h"
#include "simd/argmax.h"
#include "simd/noise.h"
#include "simd/parallel.h"

namespace aiter::AITER_ISA {
namespace {

constexpr float kInfinity = __builtin_inff();

struct Best {
  double score = 0;
  int64_t index = -1;

  void take(double other, int64_t i) {
    if (other == other && (index < 0 || other > score)) score = other, index = i;
  }
};

// The best of the tokens [first, last), first a multiple of kNoise. The largest score so far as a float
// decides what is looked at as a double.
template <class T>
Best best_of(const RandomSampleArgs& a, const T* logits, const float* noise, const Philox& random,
             float temperature, int64_t first, int64_t last) {
  constexpr int64_t kBlock = kNoise;
  const float inverse = 1 / temperature;
  const Vec scale = set1(inverse), noise_scale = set1(a.scale), eps = set1(a.eps);
  // No noise adds more than this to a score.
  const float most_gained = static_cast<float>(-log_of(0x1p-33 * a.scale + a.eps)) + 0.01f;
  float highest = -kInfinity;
  Best best;
  for (int64_t begin = first; begin < last; begin += kBlock) {
    const int64_t n = last - begin < kBlock ? last - begin : kBlock;
    Vec x[4], q[4];
    Vec most = set1(-kInfinity);
    if (n == kBlock) {
      for (int k = 0; k < 4; ++k) x[k] = load(logits + begin + k * kLanes) * scale;
    } else {
      float rest[kBlock];
      for (int64_t i = 0; i < kBlock; ++i)
        rest[i] = i < n ? to_float(logits[begin + i]) : -kInfinity;
      for (int k = 0; k < 4; ++k) x[k] = load(rest + k * kLanes) * scale;
    }
    if (!noise) {
      for (int k = 0; k < 4; ++k) most = max(x[k], most);
      if (reduce_max(most) + most_gained < highest - uncertainty(highest)) continue;
      exponentials(random, begin, q);
      for (int k = 0; k < 4; ++k) q[k] = q[k] * noise_scale;
    } else if (n == kBlock) {
      for (int k = 0; k < 4; ++k) q[k] = load(noise + begin + k * kLanes);
    } else {
      float rest[kBlock] = {};
      memcpy(rest, noise + begin, n * sizeof(float));
      for (int k = 0; k < 4; ++k) q[k] = load(rest + k * kLanes);
    }
    // A score that is no number in floats may be one in doubles: it counts as infinite.
    float score[kBlock], given[kBlock];
    most = set1(-kInfinity);
    for (int k = 0; k < 4; ++k) {
      const Vec divisor = q[k] + eps;
      const Vec usual = x[k] - log_about(divisor);
      // Outside of what log_about takes: 0, denormals, negative, infinity, NaN.
      const Ints strange = (Ints)(divisor.v < set1(1.2e-38f).v) |
                           (Ints)(divisor.v > set1(3e38f).v) | (Ints)(usual.v != usual.v);
      const Ints bits = ((Ints)usual.v & ~strange) | (strange & __builtin_bit_cast(int, kInfinity));
      memcpy(score + k * kLanes, &bits, sizeof(bits));
      store(given + k * kLanes, q[k]);
      most = max(load(score + k * kLanes), most);
    }
    const float here = reduce_max(most);
    if (here < highest - uncertainty(highest)) continue;
    // An infinite score in floats says nothing: then all are compared as doubles.
    if (here > highest && here < kInfinity) highest = here;
    for (int64_t i = 0; i < n; ++i) {
      if (score[i] < highest - uncertainty(highest)) continue;
      best.take(score_of(to_float(logits[begin + i]), temperature, given[i], a.eps), begin + i);
    }
  }
  return best;
}

template <class T>
int64_t sample(const RandomSampleArgs& a, bool alone, const T* logits, const float* noise,
               const Philox& random, float temperature) {
  if (!alone) return best_of(a, logits, noise, random, temperature, 0, a.vocab).index;
  Best found[kRowPieces], best;
  const int pieces = each_row_piece(a.vocab, [&](int64_t piece, int64_t begin, int64_t end) {
    found[piece] = best_of(a, logits, noise, random, temperature, begin, end);
  });
  for (int p = 0; p < pieces; ++p)
    if (found[p].index >= 0) best.take(found[p].score, found[p].index);
  return best.index;
}

template <class T, class F>
void sample_row(const RandomSampleArgs& a, int64_t b, F&& f) {
  const T* logits = static_cast<const T*>(a.logits) + b * a.logits_stride;
  const float given = a.temperature.real(b);
  const float temperature = given < kLeastTemperature ? kLeastTemperature : given;
  const float* noise = a.exponentials ? a.exponentials + b * a.exponentials_stride : nullptr;
  const int64_t token = given == 0 ? argmax(logits, a.vocab)
                                   : f(logits, noise, philox_of(a.seed, a.offset, b), temperature);
  store_index(a.out, a.out_dtype, b * a.out_stride, token);
}

}  // namespace

void random_sample_cpu_simd(const RandomSampleArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    const int64_t grain = 4096 / a.vocab + 1;  // rows worth a thread of their own
    each_row(a.batch, grain, [&](int64_t b, bool alone) {
      sample_row<T>(a, b, [&](auto... row) { return sample<T>(a, alone, row...); });
    });
  });
}

void random_sample_cpu_ref(const RandomSampleArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    auto plain = [&](const T* logits, const float* noise, const Philox& random, float temperature) {
      Best best;
      for (int64_t i = 0; i < a.vocab; ++i) {
        uint32_t words[4];
        random.block(static_cast<uint32_t>(i / 4), words);
        const float q = noise ? noise[i] : aiter::exponential_of(words[i % 4]) * a.scale;
        best.take(score_of(to_float(logits[i]), temperature, q, a.eps), i);
      }
      return best.index;
    };
    for (int64_t b = 0; b < a.batch; ++b) sample_row<T>(a, b, plain);
  });
}

}  // namespace aiter::AITER_ISA
