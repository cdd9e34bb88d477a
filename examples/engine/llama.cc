#include "llama.h"

#include <cmath>
#include <cstring>

namespace engine {
namespace {

constexpr int64_t kBlock = 16;  // tokens in a block of the cache
constexpr int64_t kGroup = 32;  // weights that share a scale

std::string layer_name(int64_t layer, const char* part) {
  return "blk." + std::to_string(layer) + "." + part + ".weight";
}

// Row-major codes, scales and minimums of a weight whose format has blocks.
struct Codes {
  Tensor codes, scale, min;
};

Codes int4_codes(const std::vector<const GgufTensor*>& weights, int64_t n, int64_t k) {
  Codes out{Tensor(kU8, {n, k / 2}), Tensor(kF16, {n, k / kGroup}), Tensor(kF16, {n, k / kGroup})};
  auto* codes = out.codes.data<uint8_t>();
  auto* scale = out.scale.data<uint16_t>();
  auto* min = out.min.data<uint16_t>();
  for (const GgufTensor* w : weights) {
    const bool has_min = w->format == Format::kQ4_1;
    const int64_t block = has_min ? 20 : 18;
    for (const uint8_t* b = w->data; b < w->data + w->bytes; b += block) {
      std::memcpy(scale, b, 2);
      if (has_min) {
        std::memcpy(min, b + 2, 2);
      } else {  // -8 * scale, exactly: the sign, and 3 more in the exponent
        const _Float16 low = *reinterpret_cast<const _Float16*>(scale) * _Float16(-8);
        std::memcpy(min, &low, 2);
      }
      // a block has weights 0..15 in the low halves of its bytes and 16..31 in the high ones
      const uint8_t* q = b + block - 16;
      for (int i = 0; i < 8; ++i) {
        codes[i] = (q[2 * i] & 15) | (q[2 * i + 1] & 15) << 4;
        codes[i + 8] = q[2 * i] >> 4 | (q[2 * i + 1] & 0xf0);
      }
      codes += 16, ++scale, ++min;
    }
  }
  return out;
}

Codes int8_codes(const std::vector<const GgufTensor*>& weights, int64_t n, int64_t k) {
  Codes out{Tensor(kI8, {n, k}), Tensor(kF16, {n, k / kGroup}), {}};
  auto* codes = out.codes.data<int8_t>();
  auto* scale = out.scale.data<uint16_t>();
  for (const GgufTensor* w : weights)
    for (const uint8_t* b = w->data; b < w->data + w->bytes; b += 34) {
      std::memcpy(scale++, b, 2);
      std::memcpy(codes, b + 2, kGroup);
      codes += kGroup;
    }
  return out;
}

Tensor plain_f32(const std::vector<const GgufTensor*>& weights,
                 std::initializer_list<int64_t> shape, Arena* arena = nullptr) {
  Tensor out(kF32, shape, arena);
  auto* target = out.data<float>();
  for (const GgufTensor* w : weights) {
    if (w->format == Format::kF32) {
      std::memcpy(target, w->data, w->bytes);
      target += w->bytes / 4;
    } else {
      for (const uint8_t* b = w->data; b < w->data + w->bytes; b += 2) {
        _Float16 value;
        std::memcpy(&value, b, 2);
        *target++ = value;
      }
    }
  }
  return out;
}

bool is_plain(Format format) { return format == Format::kF32 || format == Format::kF16; }
bool is_int4(Format format) { return format == Format::kQ4_0 || format == Format::kQ4_1; }

Tensor vector_f32(const GgufFile& file, const std::string& name) {
  const GgufTensor& t = file.tensor(name);
  if (!is_plain(t.format)) file.fail(name + " is quantized, expected F32 or F16");
  return plain_f32({&t}, {t.shape.back()});
}

}  // namespace

Config::Config(const GgufFile& file) {
  const std::string arch = file.text("general.architecture", "");
  if (arch != "llama")
    file.fail("general.architecture is '" + arch + "'; only 'llama' is supported");
  auto key = [](const char* name) { return std::string("llama.") + name; };
  layers = file.integer(key("block_count"));
  hidden = file.integer(key("embedding_length"));
  intermediate = file.integer(key("feed_forward_length"));
  heads = file.integer(key("attention.head_count"));
  kv_heads = file.integer(key("attention.head_count_kv"), heads);
  context = file.integer(key("context_length"));
  if (layers < 1 || hidden < 1 || heads < 1 || kv_heads < 1 || heads % kv_heads || context < 1)
    file.fail("impossible numbers of layers, heads or hidden size");
  head_dim = file.integer(key("attention.key_length"), hidden / heads);
  rope_dim = file.integer(key("rope.dimension_count"), head_dim);
  if (rope_dim < 2 || rope_dim % 2 || rope_dim > head_dim) file.fail("impossible rope dimension");
  rms_eps = file.real(key("attention.layer_norm_rms_epsilon"));
  rope_theta = file.real(key("rope.freq_base"), 10000.0);
  const std::string scaling = file.text(key("rope.scaling.type"), "none");
  if (scaling != "none" && scaling != "linear")
    file.fail("llama.rope.scaling.type is '" + scaling + "'; 'none' and 'linear' are supported");
  rope_linear_factor = scaling == "linear" ? file.real(key("rope.scaling.factor"), 1.0) : 1.0;
  if (file.integer(key("expert_count"), 0) != 0) file.fail("experts are not supported");
  if (file.integer(key("attention.value_length"), head_dim) != head_dim)
    file.fail("llama.attention.value_length differs from the head's size");
  tied = !file.has("output.weight");
  vocab = file.tensor("token_embd.weight").shape.front();

  // Every tensor has its shape, and there are no others: biases would be left out silently.
  size_t known = 0;
  auto expect = [&](const std::string& name, std::vector<int64_t> shape) {
    if (file.tensor(name).shape != shape) file.fail(name + " has an unexpected shape");
    ++known;
  };
  const int64_t q = heads * head_dim, kv = kv_heads * head_dim;
  expect("token_embd.weight", {vocab, hidden});
  expect("output_norm.weight", {hidden});
  if (!tied) expect("output.weight", {vocab, hidden});
  if (file.has("rope_freqs.weight")) expect("rope_freqs.weight", {rope_dim / 2});
  for (int64_t i = 0; i < layers; ++i) {
    expect(layer_name(i, "attn_norm"), {hidden});
    expect(layer_name(i, "attn_q"), {q, hidden});
    expect(layer_name(i, "attn_k"), {kv, hidden});
    expect(layer_name(i, "attn_v"), {kv, hidden});
    expect(layer_name(i, "attn_output"), {hidden, q});
    expect(layer_name(i, "ffn_norm"), {hidden});
    expect(layer_name(i, "ffn_gate"), {intermediate, hidden});
    expect(layer_name(i, "ffn_up"), {intermediate, hidden});
    expect(layer_name(i, "ffn_down"), {hidden, intermediate});
  }
  if (known != file.tensors().size()) file.fail("has tensors that this forward does not use");
}

Linear::Linear(const GgufFile& file, const std::vector<std::string>& names, const Options& options,
               Arena* arena)
    : activation_(options.activation) {
  const aiter_device device = options.device;
  auto same_kind = [](Format a, Format b) {
    return a == b || (is_int4(a) && is_int4(b)) || (is_plain(a) && is_plain(b));
  };
  int64_t first = 0;
  for (size_t i = 0; i < names.size();) {
    std::vector<const GgufTensor*> group;
    const Format format = file.tensor(names[i]).format;
    int64_t rows = 0;
    for (; i < names.size() && same_kind(file.tensor(names[i]).format, format); ++i) {
      group.push_back(&file.tensor(names[i]));
      rows += group.back()->shape[0];
    }
    const int64_t k = group[0]->shape[1];
    Part part{format, first, rows, {}, {}, {}};
    int64_t bytes = 0;
    if (is_plain(format)) {
      part.weight = plain_f32(group, {rows, k}, arena).to(device);
    } else if (device.type != AITER_CPU) {
      const Codes c = is_int4(format) ? int4_codes(group, rows, k) : int8_codes(group, rows, k);
      part.weight = c.codes.to(device), part.scale = c.scale.to(device),
      part.min = c.min.to(device);
    } else if (is_int4(format)) {
      const Codes c = int4_codes(group, rows, k);
      check(aiter_gemm_a16w4_packed_bytes(rows, k, kF16, &bytes));
      part.weight = Tensor(kU8, {bytes}, arena);
      check(aiter_gemm_a16w4_pack(c.codes, c.scale, c.min, part.weight, nullptr, nullptr));
    } else {
      const Codes c = int8_codes(group, rows, k);
      check(aiter_gemm_a16w8_packed_bytes(rows, k, kF16, &bytes));
      part.weight = Tensor(kU8, {bytes}, arena);
      check(aiter_gemm_a16w8_pack(c.codes, c.scale, part.weight, nullptr, nullptr));
    }
    parts_.push_back(part);
    first += rows;
  }
}

void Linear::operator()(const Tensor& x, const Tensor& y) const {
  for (const Part& part : parts_) {
    const Tensor columns = y.slice(1, part.first, part.rows);
    if (is_plain(part.format)) {
      check(aiter_gemm_a16w16(x, part.weight, nullptr, columns, nullptr, nullptr));
    } else if (is_int4(part.format)) {
      aiter_gemm_a16w4_opts opts = AITER_GEMM_A16W4_OPTS_INIT;
      opts.activation = activation_;
      check(
          aiter_gemm_a16w4(x, part.weight, part.scale, part.min, nullptr, columns, &opts, nullptr));
    } else {
      aiter_gemm_a16w8_opts opts = AITER_GEMM_A16W8_OPTS_INIT;
      opts.activation = activation_;
      check(aiter_gemm_a16w8(x, part.weight, part.scale, nullptr, columns, &opts, nullptr));
    }
  }
}

Llama::Llama(const GgufFile& file, const Options& options) : config_(file), options_(options) {
  const Config& c = config_;
  if (options_.context == 0) options_.context = c.context;
  if (options_.context > c.context)
    file.fail(std::to_string(options_.context) + " tokens exceed the model's context of " +
              std::to_string(c.context));
  const int64_t blocks = (options_.context + kBlock - 1) / kBlock;
  const aiter_device device = options_.device;
  auto zeros = [&](aiter_dtype dtype, std::initializer_list<int64_t> shape) {
    return Tensor(dtype, shape).to(device);
  };

  const GgufTensor& embedding = file.tensor("token_embd.weight");
  if (embedding.format == Format::kQ8_0) {
    const Codes codes = int8_codes({&embedding}, c.vocab, c.hidden);
    embedding_ = codes.codes.to(device), embedding_scale_ = codes.scale.to(device);
  } else if (is_plain(embedding.format)) {
    embedding_ = plain_f32({&embedding}, {c.vocab, c.hidden}).to(device);
  } else {
    file.fail("token_embd.weight is of 4 bits; this engine looks up F32, F16 and Q8_0");
  }
  output_norm_ = vector_f32(file, "output_norm.weight").to(device);
  Arena arena;
  for (int64_t i = 0; i < c.layers; ++i) {
    auto linear = [&](std::initializer_list<const char*> parts) {
      std::vector<std::string> names;
      for (const char* part : parts) names.push_back(layer_name(i, part));
      return Linear(file, names, options_, &arena);
    };
    layers_.push_back({vector_f32(file, layer_name(i, "attn_norm")).to(device),
                       vector_f32(file, layer_name(i, "ffn_norm")).to(device),
                       linear({"attn_q", "attn_k", "attn_v"}), linear({"attn_output"}),
                       linear({"ffn_gate", "ffn_up"}), linear({"ffn_down"}),
                       zeros(kF16, {blocks, kBlock, c.kv_heads, c.head_dim}),
                       zeros(kF16, {blocks, kBlock, c.kv_heads, c.head_dim})});
  }

  head_ = Linear(file, {c.tied ? "token_embd.weight" : "output.weight"}, options_, &arena);

  Tensor divisors;
  if (file.has("rope_freqs.weight")) divisors = vector_f32(file, "rope_freqs.weight");
  const int64_t pairs = c.rope_dim / 2;
  cos_ = Tensor(kF32, {options_.context, pairs});
  sin_ = Tensor(kF32, {options_.context, pairs});
  for (int64_t i = 0; i < pairs; ++i) {
    double frequency = std::pow(c.rope_theta, -2.0 * i / c.rope_dim) / c.rope_linear_factor;
    if (divisors) frequency /= divisors.data<float>()[i];
    for (int64_t p = 0; p < options_.context; ++p) {
      cos_.data<float>()[p * pairs + i] = static_cast<float>(std::cos(p * frequency));
      sin_.data<float>()[p * pairs + i] = static_cast<float>(std::sin(p * frequency));
    }
  }

  const int64_t t = options_.max_tokens, q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  cos_ = cos_.to(device), sin_ = sin_.to(device);
  tokens_ = share(Tensor(kI32, {t}));
  positions_ = share(Tensor(kI32, {t}));
  slots_ = share(Tensor(kI64, {t}));
  block_table_ = Tensor(kI32, {1, blocks});
  for (int32_t i = 0; i < blocks; ++i) block_table_.data<int32_t>()[i] = i;
  block_table_ = block_table_.to(device);
  lengths_ = share(Tensor(kI32, {1}));
  starts_ = share(Tensor(kI32, {2}));
  stream_ = zeros(kF32, {t, c.hidden});
  normed_ = zeros(kF32, {t, c.hidden});
  projected_ = zeros(kF32, {t, c.hidden});
  qkv_ = zeros(kF32, {t, q + 2 * kv});
  attended_ = zeros(kF32, {t, q});
  gate_up_ = zeros(kF32, {t, 2 * c.intermediate});
  activated_ = zeros(kF32, {t, c.intermediate});
  logits_ = zeros(kF32, {1, c.vocab});
  best_ = share(Tensor(kI32, {1}));
}

int32_t Llama::forward(std::span<const int32_t> tokens) {
  if (tokens.empty()) throw std::invalid_argument("no tokens");
  if (length_ + static_cast<int64_t>(tokens.size()) > options_.context)
    throw std::invalid_argument("the sequence exceeds the context of " +
                                std::to_string(options_.context) + " tokens");
  for (const int32_t token : tokens)
    if (token < 0 || token >= config_.vocab)
      throw std::invalid_argument("token " + std::to_string(token) +
                                  " is outside the vocabulary of " + std::to_string(config_.vocab));
  while (!tokens.empty()) {
    const size_t count = std::min(tokens.size(), static_cast<size_t>(options_.max_tokens));
    step(tokens.first(count));
    tokens = tokens.subspan(count);
  }
  best_.download();
  return *best_.host.data<int32_t>();
}

void Llama::step(std::span<const int32_t> tokens) {
  const int64_t count = static_cast<int64_t>(tokens.size());
  for (int64_t i = 0; i < count; ++i) {
    tokens_.host.data<int32_t>()[i] = tokens[i];
    positions_.host.data<int32_t>()[i] = static_cast<int32_t>(length_ + i);
    slots_.host.data<int64_t>()[i] = length_ + i;
  }
  length_ += count;
  lengths_.host.data<int32_t>()[0] = static_cast<int32_t>(length_);
  starts_.host.data<int32_t>()[1] = static_cast<int32_t>(count);
  for (Shared* input : {&tokens_, &positions_, &slots_, &lengths_, &starts_}) input->upload();

  aiter_rmsnorm_opts norm = AITER_RMSNORM_OPTS_INIT;
  norm.eps = static_cast<float>(config_.rms_eps);
  const Tensor x = stream_.rows(count), normed = normed_.rows(count);
  const Tensor projected = projected_.rows(count), gate_up = gate_up_.rows(count);
  const Tensor activated = activated_.rows(count), attended = attended_.rows(count);

  check(aiter_embedding(tokens_.device.rows(count), embedding_, embedding_scale_, x, nullptr,
                        nullptr));
  check(aiter_rmsnorm(x, layers_[0].attention_norm, normed, &norm, nullptr));
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    layer.qkv(normed, qkv_.rows(count));
    attention(layer, count);
    layer.output(attended, projected);
    check(aiter_add_rmsnorm(projected, x, layer.mlp_norm, normed, x, &norm, nullptr));
    layer.gate_up(normed, gate_up);
    check(aiter_act_and_mul(gate_up, nullptr, nullptr, nullptr, activated, nullptr, nullptr,
                            nullptr));
    layer.down(activated, projected);
    const Tensor& next = i + 1 < layers_.size() ? layers_[i + 1].attention_norm : output_norm_;
    check(aiter_add_rmsnorm(projected, x, next, normed, x, &norm, nullptr));
  }
  head_(normed.slice(0, count - 1, 1), logits_);
  check(aiter_greedy_sample(logits_, best_.device, nullptr, nullptr));
}

void Llama::attention(const Layer& layer, int64_t count) {
  const Config& c = config_;
  const Tensor heads = qkv_.rows(count).split_heads(c.head_dim);
  const Tensor q = heads.slice(1, 0, c.heads), k = heads.slice(1, c.heads, c.kv_heads);
  const Tensor v = heads.slice(1, c.heads + c.kv_heads, c.kv_heads);
  const Tensor out = attended_.rows(count).split_heads(c.head_dim);

  aiter_rotary_embedding_opts rope = AITER_ROTARY_EMBEDDING_OPTS_INIT;
  rope.interleaved = 1;  // GGUF has the rows of q and k in this order
  check(aiter_rotary_embedding(positions_.device.rows(count), q, k, cos_, sin_, q, k, &rope,
                               nullptr));
  check(aiter_reshape_and_cache(k, v, layer.key_cache, layer.value_cache, slots_.device.rows(count),
                                nullptr, nullptr, nullptr, nullptr));
  if (count == 1) {
    check(aiter_paged_attention_decode(q, layer.key_cache, layer.value_cache, block_table_,
                                       lengths_.device, nullptr, out, nullptr, nullptr, nullptr));
  } else {
    aiter_attention_opts causal = AITER_ATTENTION_OPTS_INIT;
    causal.causal = 1;
    check(aiter_flash_attn_varlen(q, layer.key_cache, layer.value_cache, starts_.device, nullptr,
                                  lengths_.device, block_table_, nullptr, out, nullptr, &causal,
                                  nullptr));
  }
}

}  // namespace engine
