// What a compiled GPU object says about itself: AMD code objects, cubins and PTX.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace aiter {

struct KernelInfo {
  std::string symbol;
  int args_bytes = 0;     // of the explicit arguments
  int shared_bytes = 0;   // static LDS or shared memory
  int registers = 0;      // vector registers of a thread, AGPRs included; 0 in PTX
  int scalars = 0;        // SGPRs
  int spills = 0;         // spilled registers (AMD)
  int scratch_bytes = 0;  // private memory of a thread: spills and local arrays
  int max_block = 0;      // threads that the kernel was compiled for; 0: not stated
  bool waits = false;     // for the kernel before it, by itself (NVIDIA's griddepcontrol.wait)
};

struct CodeObject {
  std::string arch;  // "gfx942", "gfx90a:xnack-"; empty for a cubin; "sm_90" for PTX's lower bound
  std::vector<KernelInfo> kernels;
  const KernelInfo* find(std::string_view symbol) const;
};

// Throws INTERNAL when the bytes are none of the three.
CodeObject read_code_object(std::string_view bytes);

}  // namespace aiter
