// What the C API (aiter_gfxemu_*) needs of the HIP layer.
#pragma once
#include <string>
#include <vector>

#include "run/module.h"

namespace gfxemu {
const std::string& last_message();
void set_last_message(const std::string& text);
std::vector<Kernel> module_kernels(void* handle);
}  // namespace gfxemu
