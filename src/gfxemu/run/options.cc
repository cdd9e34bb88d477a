#include "run/options.h"

#include <algorithm>
#include <cstdlib>

namespace gfxemu {

namespace {
bool apply(Options& o, const std::string& key, const std::string& value, std::string* error) {
  if (key == "arch") {
    std::vector<Arch> archs;
    for (size_t at = 0; at <= value.size();) {
      size_t end = std::min(value.find(',', at), value.size());
      Arch arch;
      if (!find_arch(value.substr(at, end - at), &arch)) {
        *error =
            "gfxemu: arch is '" + value + "', expected gfx90a, gfx942, gfx950 or a list of them";
        return false;
      }
      archs.push_back(arch);
      at = end + 1;
    }
    if (archs.size() > kMaxDevices) {
      *error = "gfxemu: " + std::to_string(archs.size()) + " devices, at most " +
               std::to_string(kMaxDevices);
      return false;
    }
    o.archs = archs;
    return true;
  }
  if (key == "isa") {
    o.isa = value;
    return true;
  }
  char* end = nullptr;
  uint64_t n = strtoull(value.c_str(), &end, 0);
  if (value.empty() || *end) {
    *error = "gfxemu: option " + key + " is '" + value + "', expected a number";
    return false;
  }
  if (key == "quantum")
    o.quantum = static_cast<uint32_t>(n ? n : 1);
  else if (key == "seed")
    o.seed = n;
  else if (key == "threads")
    o.threads = static_cast<uint32_t>(n);
  else if (key == "check")
    o.check = static_cast<uint32_t>(n);
  else if (key == "count")
    o.count = n != 0;
  else if (key == "limit")
    o.limit = n * 1000000;
  else {
    *error = "gfxemu: no option '" + key + "'";
    return false;
  }
  return true;
}

struct Settings {
  Options options;
  std::string error;
  Settings() {
    const char* arch = getenv("AITER_EMULATE");
    if (arch && *arch) apply(options, "arch", arch, &error);
    const char* list = getenv("AITER_EMULATE_OPTIONS");
    std::string s = list ? list : "";
    for (size_t at = 0; at < s.size();) {
      size_t end = s.find(',', at);
      if (end == std::string::npos) end = s.size();
      std::string item = s.substr(at, end - at);
      size_t eq = item.find('=');
      if (eq == std::string::npos)
        error = "gfxemu: option '" + item + "' has no value";
      else
        apply(options, item.substr(0, eq), item.substr(eq + 1), &error);
      at = end + 1;
    }
  }
};
Settings& settings() {
  static Settings s;
  return s;
}
}  // namespace

Options& options() { return settings().options; }
const std::string& options_error() { return settings().error; }
bool set_option(const std::string& key, const std::string& value, std::string* error) {
  return apply(options(), key, value, error);
}

}  // namespace gfxemu
