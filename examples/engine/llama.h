// The Llama architecture on libaiter's operators: one sequence, a paged cache, greedy choice.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "gguf.h"
#include "tensor.h"

namespace engine {

struct Config {
  // Refuses, by an exception with the reason, what this forward would not compute exactly.
  explicit Config(const GgufFile& file);

  int64_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocab, context, rope_dim;
  double rms_eps, rope_theta, rope_linear_factor;
  bool tied;  // the output matrix is the embedding
};

struct Options {
  int64_t context = 0;       // tokens that the cache holds; 0 = the model's context
  int64_t max_tokens = 512;  // of a prompt in one step
  aiter_device device{AITER_CPU, 0};
  aiter_gemm_activation activation = AITER_GEMM_ACTIVATION_16BIT;
};

// y = x times the transpose of a weight (N, K), in whichever format the file has it. Several weights
// are stacked along N, as one product where their formats agree.
class Linear {
 public:
  Linear() = default;
  Linear(const GgufFile& file, const std::vector<std::string>& names, const Options& options,
         Arena* arena);
  void operator()(const Tensor& x, const Tensor& y) const;

 private:
  struct Part {
    Format format;
    int64_t first, rows;  // of the stacked weight
    Tensor weight;        // packed, or plain f32; on a GPU the codes
    Tensor scale, min;    // on a GPU
  };
  std::vector<Part> parts_;
  aiter_gemm_activation activation_ = AITER_GEMM_ACTIVATION_16BIT;
};

class Llama {
 public:
  Llama(const GgufFile& file, const Options& options);

  // Appends tokens to the sequence and returns the best next one.
  int32_t forward(std::span<const int32_t> tokens);
  const Config& config() const { return config_; }

 private:
  struct Layer {
    Tensor attention_norm, mlp_norm;
    Linear qkv, output, gate_up, down;
    Tensor key_cache, value_cache;
  };

  void step(std::span<const int32_t> tokens);
  void attention(const Layer& layer, int64_t count);

  Config config_;
  Options options_;
  Tensor embedding_, embedding_scale_, output_norm_, cos_, sin_;
  Linear head_;
  std::vector<Layer> layers_;
  int64_t length_ = 0;  // tokens in the cache

  // What the host and the device exchange: one memory on the CPU, else two.
  struct Shared {
    Tensor host, device;
    void upload() { device.copy_from(host); }
    void download() { host.copy_from(device); }
  };
  Shared share(Tensor host) const { return {host, host.to(options_.device)}; }

  // Of one step: what it reads, and the activations between the operators.
  Shared tokens_, positions_, slots_, lengths_, starts_, best_;
  Tensor block_table_;
  Tensor stream_, normed_, projected_, qkv_, attended_, gate_up_, activated_, logits_;
};

}  // namespace engine
