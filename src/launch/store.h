// Where code objects come from: built ahead of time and installed in aiter_kernels/<arch>/ beside
// this library, or built on first use and kept in the user's cache.
#pragma once

#include <string>
#include <vector>

namespace aiter {

// Whether code in the folder `built` ("gfx942", "gfx90a:xnack-", "sm_90", "sm_90a") runs on a device.
// AMD target ids: a feature that the code does not mention runs with both settings. NVIDIA: a cubin
// runs on later minor versions of its major one, PTX on everything later, "a" code on its chip alone.
bool runs_on(const std::string& built, const std::string& device_arch, bool ptx);

// The bytes of an operator's prebuilt object for the device; empty when there is none.
std::string find_prebuilt(const std::string& op, const std::string& device_arch);

// The archs that an operator (or, for "", anything) was built for, sorted.
std::vector<std::string> built_archs(const std::string& op);

// Builds one kernel of an operator for the device (all of them when `kernel` is empty), or takes it
// from the cache. Empty when it cannot be built; *why says what was tried.
std::string build_on_first_use(const std::string& op, const std::string& kernel,
                               const std::string& device_arch, std::string* why);

// The cache: AITER_CACHE_DIR, else $XDG_CACHE_HOME/aiter, else $HOME/.cache/aiter; empty when there
// is none, and then nothing is kept.
std::string cache_folder();

}  // namespace aiter
