// aiter_gfxemu_*: options, reports, disassembly and the tables, for tools and tests.
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "aiter_gfxemu.h"
#include "check/check.h"
#include "count/count.h"
#include "hip/state.h"
#include "isa/disasm.h"
#include "isa/example.h"
#include "run/launch.h"

#define GFXEMU_API extern "C" __attribute__((visibility("default")))

using namespace gfxemu;

namespace {
thread_local std::string t_text, t_name;

std::string quoted(const std::string& s) {
  std::string r = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') r += '\\';
    if (static_cast<unsigned char>(c) < 32) {
      char b[8];
      snprintf(b, sizeof(b), "\\u%04x", c);
      r += b;
    } else {
      r += c;
    }
  }
  return r + "\"";
}

}  // namespace

GFXEMU_API const char* aiter_gfxemu_last_error(void) { return last_message().c_str(); }
GFXEMU_API int aiter_gfxemu_set_option(const char* key, const char* value) {
  std::string error;
  if (!key || !value || !set_option(key, value, &error)) {
    set_last_message(error);
    return 1;
  }
  if (options().check) check_begin();
  return 0;
}
GFXEMU_API const char* aiter_gfxemu_host_isa(void) { return host_isa(); }

GFXEMU_API const char* aiter_gfxemu_disassemble(const char* arch, const uint32_t* words,
                                                int available, int* size) {
  Arch a;
  if (size) *size = 0;
  if (!arch || !find_arch(arch, &a) || !words) return "unknown arch";
  Inst in;
  const char* why = nullptr;
  int n = decode(a, words, available, in, &why);
  t_text = n ? print(a, in) : std::string(why ? why : "unknown");
  if (size) *size = n;
  return t_text.c_str();
}

GFXEMU_API int aiter_gfxemu_example(const char* arch, int index, uint32_t seed, const char** name,
                                    uint32_t words[4]) {
  Arch a;
  const Row* row = arch && find_arch(arch, &a) ? row_at(index) : nullptr;
  if (!row) return 0;
  t_name = row->name;
  if (name) *name = t_name.c_str();
  return row->archs & a ? example(a, *row, seed + static_cast<uint32_t>(index) * 0x9e3779b9u, words)
                        : -1;
}

GFXEMU_API const char* aiter_gfxemu_sweep(const char* arch, const void* image, size_t size) {
  Arch a;
  std::string error = "unknown arch";
  std::shared_ptr<Module> m;
  if (arch && find_arch(arch, &a)) m = Module::load(image, size, a, false, &error);
  if (!m) {
    set_last_message(error);
    return nullptr;
  }
  const Code& code = m->code();
  std::map<std::string, int> names;
  std::string unknown;
  uint64_t count = 0;
  bool ended = false;
  for (uint32_t i = 0; i < code.count;) {
    Inst in;
    const char* why = nullptr;
    uint32_t w = code.words[i];
    // Between kernels: zeros and s_code_end.
    if (ended && (w == 0 || w == 0xbf9f0000u)) {
      ++i;
      continue;
    }
    int n = decode(a, code.words + i, static_cast<int>(code.count - i), in, &why);
    if (n) {
      ++count;
      ++names[in.row->name];
      ended = !strcmp(in.row->name, "s_endpgm") || !strcmp(in.row->name, "s_branch") ||
              (ended && !strcmp(in.row->name, "s_nop")) || !strcmp(in.row->name, "s_setpc_b64");
    } else {
      char b[96];
      snprintf(b, sizeof(b), "%08x %08x: %s", w, i + 1 < code.count ? code.words[i + 1] : 0,
               why ? why : "unknown");
      unknown += (unknown.empty() ? "" : ", ") + quoted(b);
      n = 1;
    }
    i += static_cast<uint32_t>(n);
  }
  t_text = "{\"instructions\": " + std::to_string(count) + ", \"unknown\": [" + unknown +
           "], \"mnemonics\": {";
  bool first = true;
  for (auto& [k, v] : names) {
    t_text += (first ? "" : ", ") + quoted(k) + ": " + std::to_string(v);
    first = false;
  }
  t_text += "}}";
  return t_text.c_str();
}

GFXEMU_API const char* aiter_gfxemu_describe(const void* image, size_t size) {
  std::string error;
  std::shared_ptr<Module> m = Module::load(image, size, options().archs[0], false, &error);
  if (!m) {
    set_last_message(error);
    return nullptr;
  }
  std::string j = std::string("{\"arch\": \"") + arch_name(m->arch()) + "\", \"kernels\": [";
  bool first = true;
  for (const Kernel& k : m->kernels()) {
    if (!first) j += ", ";
    first = false;
    char b[512];
    snprintf(b, sizeof(b),
             ", \"lds\": %u, \"scratch\": %u, \"kernarg\": %u, \"vgprs\": %d, \"agprs\": %d, "
             "\"accum_offset\": %d, \"sgprs\": %d, "
             "\"max_threads\": %d, \"vgpr_spills\": %d, \"sgpr_spills\": %d, \"args\": [",
             k.lds, k.scratch, k.kernarg, k.vgprs, k.agprs, k.accum_offset, k.sgpr_count,
             k.max_threads, k.vgpr_spills, k.sgpr_spills);
    j += "{\"name\": " + quoted(k.name) + b;
    for (size_t i = 0; i < k.args.size(); ++i) {
      snprintf(b, sizeof(b), "%s{\"offset\": %u, \"size\": %u, \"kind\": ", i ? ", " : "",
               k.args[i].offset, k.args[i].size);
      j += b + quoted(k.args[i].kind) + ", \"name\": " + quoted(k.args[i].name) + "}";
    }
    j += "]}";
  }
  t_text = j + "]}";
  return t_text.c_str();
}

GFXEMU_API uint64_t aiter_gfxemu_instructions(void) { return total_instructions(); }
GFXEMU_API const char* aiter_gfxemu_reports(void) {
  t_text = take_reports();
  return t_text.c_str();
}
