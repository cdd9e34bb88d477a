// Compiles device sources: used by the build (build_kernels.cc) and on first use.
#pragma once

#include <string>
#include <vector>

namespace aiter {

class Compiler {
 public:
  virtual ~Compiler() = default;
  // What produced an object, for the cache's key: changes when the compiler does.
  virtual std::string identity() const = 0;
  virtual std::string name() const = 0;
  // The object for "gfx942", "sm_90" ...; empty when it fails, with the compiler's words in *log.
  // With `kernel`, that kernel alone.
  virtual std::string compile(const std::string& source, const std::string& arch,
                              const std::string& kernel, std::string* log) const = 0;
};

enum class CompileFor {
  kFirstUse,  // the quickest first: in process, then clang, then nvcc
  kBuild,     // the best code first: nvcc before clang
};

// The compilers of this machine that make code for the arch, in the order to try them.
//
// clang is AITER_CLANG (a clang, or zig of the ziglang wheel), else ziglang's installed beside this
// package, ROCm's, clang-19 or later or zig on PATH. hipRTC and NVRTC are those that the process has
// loaded, the system's or the pip wheel's; AITER_HIPRTC_LIBRARY and AITER_NVRTC_LIBRARY override.
const std::vector<const Compiler*>& compilers(const std::string& arch, CompileFor purpose);

// A folder for temporary files that goes with the object. Throws DEVICE when no place is writable.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

bool read_file(const std::string& path, std::string* bytes);
bool write_file(const std::string& path, const std::string& bytes);
bool is_nvidia(const std::string& arch);

}  // namespace aiter
