// A reader of GGUF model files: metadata, and where the tensors lie in the mapped file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace engine {

// ggml's numbers of the formats that this engine reads.
enum class Format : uint32_t { kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ4_1 = 3, kQ8_0 = 8 };

struct GgufTensor {
  Format format;
  std::vector<int64_t> shape;  // row-major: a matrix is {N, K}, K contiguous
  const uint8_t* data;
  int64_t bytes;
};

// Throws std::runtime_error, with the path in the message, when the file is damaged, or holds what
// is asked of it in an unexpected form.
class GgufFile {
 public:
  explicit GgufFile(const std::string& path);
  ~GgufFile();
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  // Values of the metadata; the forms without a fallback throw where the key is missing.
  int64_t integer(const std::string& key) const;
  int64_t integer(const std::string& key, int64_t fallback) const;
  double real(const std::string& key) const;
  double real(const std::string& key, double fallback) const;
  std::string text(const std::string& key, const std::string& fallback) const;

  bool has(const std::string& tensor) const { return tensors_.count(tensor) != 0; }
  const GgufTensor& tensor(const std::string& name) const;
  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }

  [[noreturn]] void fail(const std::string& what) const;

 private:
  // An array's value is only its length: the engine needs none of the arrays.
  struct Array {
    uint64_t count;
  };
  using Value = std::variant<int64_t, double, std::string, Array>;

  template <class T>
  T read();
  std::string read_string();
  Value read_value(uint32_t kind, const std::string& key);
  void skip_array(uint32_t item, uint64_t count, const std::string& key);
  void need(uint64_t bytes) const;
  void parse();
  const Value* find(const std::string& key) const;

  std::string path_;
  const uint8_t* map_ = nullptr;
  uint64_t size_ = 0, at_ = 0;
  std::map<std::string, Value> metadata_;
  std::map<std::string, GgufTensor> tensors_;
};

}  // namespace engine
