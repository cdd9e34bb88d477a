#include "launch/sources.h"

#include "core/status.h"
#include "launch/includes.h"

// AITER_SOURCE(number, path below src/, path on the build machine): generated from the aiter_op()
// lines and the headers of src/ck.
#define AITER_SOURCE(number, path, file)                                 \
  asm(".pushsection .rodata\naiter_source_" #number ":\n.incbin \"" file \
      "\"\naiter_source_end_" #number ":\n.byte 0\n.popsection\n");      \
  extern const char source_##number[] asm("aiter_source_" #number);      \
  extern const char source_end_##number[] asm("aiter_source_end_" #number);
#include "aiter_sources.inc"
#undef AITER_SOURCE

namespace aiter {
namespace {

struct Source {
  std::string_view path, text;
};

const std::vector<Source>& all_sources() {
  static const std::vector<Source> sources{
#define AITER_SOURCE(number, path, file) \
  {path, {source_##number, static_cast<size_t>(source_end_##number - source_##number)}},
#include "aiter_sources.inc"
#undef AITER_SOURCE
  };
  return sources;
}

const Source* find_source(std::string_view path) {
  for (const Source& s : all_sources())
    if (s.path == path) return &s;
  return nullptr;
}

}  // namespace

const std::vector<std::string>& device_ops() {
  static const std::vector<std::string> ops = [] {
    std::vector<std::string> names;
    for (const Source& s : all_sources())
      if (s.path.size() > 4 && s.path.substr(s.path.size() - 4) == ".hip") {
        const size_t slash = s.path.rfind('/') + 1;
        names.emplace_back(s.path.substr(slash, s.path.size() - 4 - slash));
      }
    return names;
  }();
  return ops;
}

std::string device_source(std::string_view op) {
  const std::string name = "/" + std::string(op) + ".hip";
  for (const Source& s : all_sources())
    if (s.path.size() > name.size() && s.path.substr(s.path.size() - name.size()) == name)
      return expand_includes(s.text, [](std::string_view path, std::string* text) {
        const Source* found = find_source(path);
        if (found) *text = found->text;
        return found != nullptr;
      });
  fail(AITER_INTERNAL, "%.*s has no device source", static_cast<int>(op.size()), op.data());
}

}  // namespace aiter
