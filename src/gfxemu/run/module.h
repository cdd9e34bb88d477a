// A loaded code object: its image in device memory, its kernels, and its instructions, decoded when
// they are first reached.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "exec/wave.h"

namespace gfxemu {

struct KernelArg {
  uint32_t offset = 0, size = 0;
  std::string kind, name;
};

struct Kernel {
  std::string name;
  uint64_t descriptor = 0, entry = 0;  // addresses
  uint32_t lds = 0, scratch = 0, kernarg = 0;
  uint32_t rsrc1 = 0, rsrc2 = 0, rsrc3 = 0;
  uint16_t properties = 0, preload = 0;
  int vgprs = 0, agprs = 0, accum_offset = 0;  // vgprs: allocated in all
  // From the notes.
  std::vector<KernelArg> args;
  int max_threads = 1024, vgpr_spills = 0, sgpr_spills = 0, sgpr_count = 0, vgpr_count = 0,
      agpr_count = 0;
  int wavefront = 64;
  bool dynamic_stack = false, has_metadata = false;
};

struct Code {
  Arch arch = GFX942;
  uint64_t address = 0;  // of the first instruction
  const uint32_t* words = nullptr;
  uint32_t count = 0;
  Inst* slots = nullptr;  // count + 1, zeroed
  const HandlerTables* handlers = nullptr;
  std::mutex mutex;
  ~Code();
};

class Module {
 public:
  // Loads an ELF code object (or a bundle's entry for the arch). Null with `error` filled.
  static std::shared_ptr<Module> load(const void* image, size_t size, Arch arch, bool relocate,
                                      std::string* error, int device = 0);
  ~Module();
  const Kernel* kernel(const std::string& name) const;
  const std::vector<Kernel>& kernels() const { return kernels_; }
  Code& code() { return code_; }
  bool symbol(const std::string& name, uint64_t* address, uint64_t* size) const;
  Arch arch() const { return code_.arch; }

 private:
  Module() = default;
  Code code_;
  uint64_t image_ = 0;
  std::vector<Kernel> kernels_;
  std::map<std::string, std::pair<uint64_t, uint64_t>> objects_;
};

}  // namespace gfxemu
