#include "run/options.h"

#include <cstdlib>

namespace gfxemu {

bool set_option(const std::string& key, const std::string& value, std::string* error) {
  Options& o = options();
  if (key == "arch") {
    if (value == "gfx90a")
      o.arch = GFX90A;
    else if (value == "gfx942" || value == "1" || value.empty())
      o.arch = GFX942;
    else if (value == "gfx950")
      o.arch = GFX950;
    else {
      *error = "gfxemu: arch is '" + value + "', expected gfx90a, gfx942 or gfx950";
      return false;
    }
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
  else if (key == "devices")
    o.devices = static_cast<uint32_t>(n ? n : 1);
  else {
    *error = "gfxemu: no option '" + key + "'";
    return false;
  }
  return true;
}

namespace {
std::string& startup_error() {
  static std::string e;
  return e;
}
Options* make() {
  static Options o;
  return &o;
}
}  // namespace

Options& options() {
  static Options* o = make();
  static bool loaded = false;
  if (!loaded) {
    loaded = true;
    if (const char* arch = getenv("AITER_EMULATE")) set_option("arch", arch, &startup_error());
    if (const char* list = getenv("AITER_EMULATE_OPTIONS")) {
      std::string s = list;
      for (size_t at = 0; at < s.size();) {
        size_t end = s.find(',', at);
        if (end == std::string::npos) end = s.size();
        std::string item = s.substr(at, end - at);
        size_t eq = item.find('=');
        if (eq == std::string::npos)
          startup_error() = "gfxemu: option '" + item + "' has no value";
        else
          set_option(item.substr(0, eq), item.substr(eq + 1), &startup_error());
        at = end + 1;
      }
    }
  }
  return *o;
}

const std::string& options_error() {
  options();
  return startup_error();
}

}  // namespace gfxemu
