#include "launch/includes.h"

#include <algorithm>
#include <set>

namespace aiter {
namespace {

void expand(std::string_view text, const FindHeader& find, std::set<std::string>* seen,
            std::string* out) {
  constexpr std::string_view kInclude = "#include \"";
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    at = end + 1;
    if (line == "#pragma once") continue;
    if (line.substr(0, kInclude.size()) == kInclude) {
      const std::string path(
          line.substr(kInclude.size(), line.find('"', kInclude.size()) - kInclude.size()));
      std::string header;
      if (seen->count(path)) continue;
      if (find(path, &header)) {
        seen->insert(path);
        expand(header, find, seen, out);
        continue;
      }
    }
    out->append(line).push_back('\n');
  }
}

}  // namespace

std::string expand_includes(std::string_view text, const FindHeader& find) {
  std::string out;
  std::set<std::string> seen;
  expand(text, find, &seen, &out);
  return out;
}

}  // namespace aiter
