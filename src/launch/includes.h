// Puts #includes in place, so that a device source is one text that any compiler takes.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace aiter {

// Finds a header by its path below src/; false when it is not ours.
using FindHeader = std::function<bool(std::string_view path, std::string* text)>;

// Every header is taken once. One that is not found stays as it is: device code guards it out.
std::string expand_includes(std::string_view text, const FindHeader& find);

}  // namespace aiter
