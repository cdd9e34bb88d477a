#include "gguf.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>

namespace engine {
namespace {

struct Block {
  int64_t elements, bytes;
};

// False for formats that this engine does not read.
bool block_of(uint32_t kind, Block* block) {
  switch (static_cast<Format>(kind)) {
    case Format::kF32:
      *block = {1, 4};
      return true;
    case Format::kF16:
      *block = {1, 2};
      return true;
    case Format::kQ4_0:
      *block = {32, 18};
      return true;
    case Format::kQ4_1:
      *block = {32, 20};
      return true;
    case Format::kQ8_0:
      *block = {32, 34};
      return true;
  }
  return false;
}

// Bytes of a scalar of a metadata type; 0 for strings, arrays and unknown types.
uint64_t scalar_bytes(uint32_t kind) {
  constexpr uint64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kind < std::size(kBytes) ? kBytes[kind] : 0;
}
constexpr uint32_t kString = 8, kArray = 9;

}  // namespace

GgufFile::GgufFile(const std::string& path) : path_(path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(std::strerror(errno));
  struct stat info{};
  const bool known = fstat(file, &info) == 0;
  if (known && info.st_size >= 24) {
    size_ = static_cast<uint64_t>(info.st_size);
    void* map = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
    if (map != MAP_FAILED) map_ = static_cast<const uint8_t*>(map);
  }
  close(file);
  if (!map_) fail(size_ ? "cannot be mapped" : "not a GGUF file: shorter than its header");
  try {
    parse();
  } catch (...) {
    munmap(const_cast<uint8_t*>(map_), size_);
    throw;
  }
}

GgufFile::~GgufFile() { munmap(const_cast<uint8_t*>(map_), size_); }

void GgufFile::fail(const std::string& what) const {
  throw std::runtime_error(path_ + ": " + what);
}

void GgufFile::need(uint64_t bytes) const {
  if (bytes > size_ - at_) fail("truncated at byte " + std::to_string(at_));
}

template <class T>
T GgufFile::read() {
  need(sizeof(T));
  T value;
  std::memcpy(&value, map_ + at_, sizeof(T));
  at_ += sizeof(T);
  return value;
}

std::string GgufFile::read_string() {
  const uint64_t length = read<uint64_t>();
  need(length);
  std::string s(reinterpret_cast<const char*>(map_ + at_), length);
  at_ += length;
  return s;
}

void GgufFile::skip_array(uint32_t item, uint64_t count, const std::string& key) {
  if (item == kString) {
    for (uint64_t i = 0; i < count; ++i)
      read_string();  // ends at the end of the file at the latest
    return;
  }
  const uint64_t bytes = scalar_bytes(item);
  if (bytes == 0) fail(key + " is an array of unknown value type " + std::to_string(item));
  if (count > size_ / bytes) fail("truncated in " + key);
  need(count * bytes);
  at_ += count * bytes;
}

GgufFile::Value GgufFile::read_value(uint32_t kind, const std::string& key) {
  switch (kind) {
    case 0:
      return int64_t{read<uint8_t>()};
    case 1:
      return int64_t{read<int8_t>()};
    case 2:
      return int64_t{read<uint16_t>()};
    case 3:
      return int64_t{read<int16_t>()};
    case 4:
      return int64_t{read<uint32_t>()};
    case 5:
      return int64_t{read<int32_t>()};
    case 6:
      return double{read<float>()};
    case 7:
      return int64_t{read<uint8_t>() != 0};
    case 10:
      return static_cast<int64_t>(read<uint64_t>());
    case 11:
      return read<int64_t>();
    case 12:
      return read<double>();
    case kString:
      return read_string();
    case kArray:
      break;
    default:
      fail(key + " has unknown value type " + std::to_string(kind));
  }
  const uint32_t item = read<uint32_t>();
  const uint64_t count = read<uint64_t>();
  skip_array(item, count, key);
  return Array{count};
}

void GgufFile::parse() {
  if (std::memcmp(map_, "GGUF", 4) != 0) fail("not a GGUF file");
  at_ = 4;
  const uint32_t version = read<uint32_t>();
  if (version != 2 && version != 3)
    fail("GGUF version " + std::to_string(version) + "; versions 2 and 3 are read");
  const uint64_t tensor_count = read<uint64_t>(), entry_count = read<uint64_t>();
  for (uint64_t i = 0; i < entry_count; ++i) {
    const std::string key = read_string();
    const uint32_t kind = read<uint32_t>();
    metadata_[key] = read_value(kind, key);
  }
  struct Place {
    std::string name;
    uint32_t kind;
    uint64_t offset;
    std::vector<int64_t> shape;
  };
  std::vector<Place> places;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    Place p{read_string(), 0, 0, {}};
    const uint32_t ndim = read<uint32_t>();
    if (ndim < 1 || ndim > 4) fail(p.name + " has " + std::to_string(ndim) + " dimensions");
    for (uint32_t d = 0; d < ndim; ++d) p.shape.insert(p.shape.begin(), read<int64_t>());
    p.kind = read<uint32_t>();
    p.offset = read<uint64_t>();
    places.push_back(std::move(p));
  }
  const int64_t align = integer("general.alignment", 32);
  if (align <= 0 || align % 8) fail("general.alignment is " + std::to_string(align));
  const uint64_t start = (at_ + align - 1) / align * align;
  for (const Place& p : places) {
    Block block{};
    if (!block_of(p.kind, &block))
      fail(p.name + " has ggml type " + std::to_string(p.kind) +
           "; this engine reads F32, F16, Q4_0, Q4_1 and Q8_0");
    if (p.shape.back() % block.elements)
      fail(p.name + " has rows of " + std::to_string(p.shape.back()) + ", expected a multiple of " +
           std::to_string(block.elements));
    int64_t elements = 1;  // a tensor cannot have more of them than the file has half bytes
    for (const int64_t extent : p.shape) {
      if (extent < 0 || (extent > 0 && elements > static_cast<int64_t>(2 * size_) / extent))
        fail(p.name + " is larger than the file");
      elements *= extent;
    }
    const int64_t bytes = elements / block.elements * block.bytes;
    if (start > size_ || p.offset > size_ - start ||
        static_cast<uint64_t>(bytes) > size_ - start - p.offset)
      fail("truncated: " + p.name + " lies beyond the end of the file");
    const GgufTensor tensor{static_cast<Format>(p.kind), p.shape, map_ + start + p.offset, bytes};
    if (!tensors_.emplace(p.name, tensor).second) fail("tensor " + p.name + " appears twice");
  }
}

const GgufFile::Value* GgufFile::find(const std::string& key) const {
  const auto it = metadata_.find(key);
  return it == metadata_.end() ? nullptr : &it->second;
}

int64_t GgufFile::integer(const std::string& key) const {
  const Value* value = find(key);
  if (!value) fail("has no " + key);
  const auto* number = std::get_if<int64_t>(value);
  if (!number) fail(key + " is no integer");
  return *number;
}

int64_t GgufFile::integer(const std::string& key, int64_t fallback) const {
  return find(key) ? integer(key) : fallback;
}

double GgufFile::real(const std::string& key) const {
  const Value* value = find(key);
  if (!value) fail("has no " + key);
  const auto* number = std::get_if<double>(value);
  if (!number) fail(key + " is no floating-point number");
  return *number;
}

double GgufFile::real(const std::string& key, double fallback) const {
  return find(key) ? real(key) : fallback;
}

std::string GgufFile::text(const std::string& key, const std::string& fallback) const {
  const Value* value = find(key);
  if (!value) return fallback;
  const auto* s = std::get_if<std::string>(value);
  if (!s) fail(key + " is no string");
  return *s;
}

const GgufTensor& GgufFile::tensor(const std::string& name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) fail("has no tensor " + name);
  return it->second;
}

}  // namespace engine
