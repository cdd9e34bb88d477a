// The device sources of this library, kept inside it so that kernels can be built anywhere.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace aiter {

// The operators that have a .hip file.
const std::vector<std::string>& device_ops();

// <op>.hip with its #includes put in place: one self-contained text, for any compiler.
std::string device_source(std::string_view op);

}  // namespace aiter
