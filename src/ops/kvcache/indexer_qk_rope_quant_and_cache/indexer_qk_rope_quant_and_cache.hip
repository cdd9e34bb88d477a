// A block for a token's queries, a wave for each head, and one for its key: its numbers lie in shared memory while they
// are normalized, turned and quantized.
#include "ck/kvcache/cache_write.h"
#include "ck/rope/rope.h"
#include "ops/kvcache/indexer_qk_rope_quant_and_cache/indexer_qk_rope_quant_and_cache_args.h"

namespace aiter {

using IndexerArgs = IndexerQkRopeQuantAndCacheArgs;

// The rows of the tables that turn a token's heads.
struct TokenRows {
  int64_t rows[3] = {0, 0, 0};
  bool turns;
  AITER_DEVICE TokenRows(const IndexerArgs& a, int64_t token)
      : turns(rope_rows(a.angles, token, rows)) {}
};

// Turns a head in place.
AITER_DEVICE void turn_head(const IndexerArgs& a, const TokenRows& token, float* head) {
  const bool near = a.angles.pairs_interleaved;
  const int pairs = token.turns ? static_cast<int>(a.angles.pairs) : 0;
  AITER_NO_UNROLL
  for (int p = thread_index() % kWave; p < pairs; p += kWave) {
    const int i = near ? 2 * p : p, j = i + (near ? 1 : pairs);
    float x[1] = {head[i]}, y[1] = {head[j]};
    RopeFactors<1, false> factors;
    factors.load(a.angles, 0, token.rows, p);
    factors.turn<false>(x, y);
    head[i] = rounded(x[0], a.dtype);
    head[j] = rounded(y[0], a.dtype);
  }
  wave_barrier();
}

// Calls put(d, code) for the dims of this lane, and returns the scale.
template <class Put>
AITER_DEVICE float quantize_head(const IndexerArgs& a, const float* head, float floor, Put put) {
  const int lane = thread_index() % kWave, dim = static_cast<int>(a.dim);
  float amax = 0, result = 0;
  for (int d = lane; d < dim; d += kWave) {
    const float x[1] = {head[d]};
    amax = max_magnitude(amax, x);
  }
  amax = wave_reduce<Max>(amax);
  with_cache_codec(a.spec.code, [&] AITER_LAMBDA(auto codec) {
    using Codec = decltype(codec);
    const Scale scale = cache_scale<Codec>(amax, floor, a.spec);
    AITER_NO_UNROLL
    for (int d = lane; d < dim; d += kWave)
      put(d, static_cast<uint8_t>(Codec::encode(head[d] * scale.factor)));
    result = scale.value;
  });
  return result;
}

AITER_DEVICE void load_head(const void* from, int64_t at, DType dtype, int dim, float* head) {
  for (int d = thread_index() % kWave; d < dim; d += kWave)
    head[d] = load_float(from, at + d, dtype);
  wave_barrier();
}

AITER_DEVICE void write_query(const IndexerArgs& a, int64_t token, int64_t head,
                              const TokenRows& rows, float* numbers) {
  load_head(a.q, token * a.q_token + head * a.q_head, a.dtype, static_cast<int>(a.dim), numbers);
  turn_head(a, rows, numbers);
  uint8_t* codes = a.q_out + token * a.q_out_token + head * a.q_out_head;
  const float scale =
      quantize_head(a, numbers, 1e-10f, [&] AITER_LAMBDA(int d, uint8_t code) { codes[d] = code; });
  if (thread_index() % kWave == 0)
    a.weights_out[token * a.weights_out_token + head * a.weights_out_head] =
        load_float(a.weights, token * a.weights_token + head * a.weights_head, a.dtype) * scale *
        a.weights_scale;
}

AITER_DEVICE void write_key(const IndexerArgs& a, int64_t token, const TokenRows& rows,
                            float* numbers) {
  int64_t page;
  uint32_t slot;
  if (token >= a.slots.count || !a.slots.find(token, page, slot)) return;
  const int lane = thread_index() % kWave, dim = static_cast<int>(a.dim);
  load_head(a.k.from, token * a.k.from_token, a.dtype, dim, numbers);
  float sum = 0, squares = 0;
  for (int d = lane; d < dim; d += kWave) sum += numbers[d];
  const float mean = wave_reduce<Sum>(sum) / static_cast<float>(dim);
  for (int d = lane; d < dim; d += kWave) {
    const float x = numbers[d] - mean;
    squares = fma(x, x, squares);
  }
  const float factor = 1.0f / sqrt(wave_reduce<Sum>(squares) / static_cast<float>(dim) + a.epsilon);
  for (int d = lane; d < dim; d += kWave)
    numbers[d] =
        rounded(fma((numbers[d] - mean) * factor, a.norm_weight[d], a.norm_bias[d]), a.dtype);
  wave_barrier();
  turn_head(a, rows, numbers);
  const CacheLayout& to = a.k.to;
  uint8_t* codes = static_cast<uint8_t*>(to.data) + to.at_slot(page, slot);
  const float scale = quantize_head(
      a, numbers, 1e-4f, [&] AITER_LAMBDA(int d, uint8_t code) { codes[to.at_dim(d)] = code; });
  if (lane == 0) a.k.scale.data[page * a.k.scale.page + slot * a.k.scale.slot] = scale;
}

AITER_DEVICE void write_token(const IndexerArgs& a) {
  AITER_SHARED float scratch[256 / kWave][IndexerArgs::kMaxDim];
  const int64_t token = block_index_x();
  const int waves = block_threads() / kWave, wave = thread_index() / kWave;
  const TokenRows rows(a, token);
  if (block_index_y() == 1) {
    if (wave == 0) write_key(a, token, rows, scratch[0]);
    return;
  }
  for (int64_t head = wave; head < a.heads; head += waves) {
    write_query(a, token, head, rows, scratch[wave]);
    wave_barrier();
  }
}

}  // namespace aiter

AITER_KERNEL(indexer_qk_rope_quant_and_cache_hip_any, 256)
(const aiter::IndexerQkRopeQuantAndCacheArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::write_token(a);
}
