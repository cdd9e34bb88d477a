// Builds the kernels of one operator for one architecture ahead of time, and checks the result:
//
//   aiter_build_kernels <op> <arch> <src folder> <op.hip> <kernels folder> <manifest>
//
// writes <kernels folder>/<arch>/<op>.{co,cubin,ptx}, a manifest with a line for each kernel, and
// <manifest>.d, which headers it was made from (for make and ninja). An
// object without kernels, or a kernel whose arguments are no struct of <op>_args.h, fails the build;
// spilled registers are reported.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "aiter_args.h"  // every <op>_args.h
#include "core/status.h"
#include "launch/code_object.h"
#include "launch/compiler.h"
#include "launch/includes.h"

namespace aiter {
namespace {

struct ArgsStruct {
  const char* op;
  const char* name;
  int bytes;
};
constexpr ArgsStruct kArgs[] = {
#define AITER_ARGS(op, type) {#op, #type, sizeof(type)},
#include "aiter_args.inc"
#undef AITER_ARGS
};

std::string args_of(const std::string& op, const KernelInfo& kernel) {
  std::string known;
  for (const ArgsStruct& a : kArgs) {
    if (op != a.op) continue;
    if (a.bytes == kernel.args_bytes) return a.name;
    known += std::string(" ") + a.name + " (" + std::to_string(a.bytes) + ")";
  }
  fail(AITER_INTERNAL, "%s takes %d bytes of arguments, which is none of%s", kernel.symbol.c_str(),
       kernel.args_bytes, known.c_str());
}

void make_parent(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != path.npos; slash = path.find('/', slash + 1))
    mkdir(path.substr(0, slash).c_str(), 0777);
}

// For a list of dependencies.
std::string escaped(const std::string& path) {
  std::string text;
  for (char c : path) text += c == ' ' ? std::string("\\ ") : std::string(1, c);
  return text;
}

std::string compile(const std::string& op, const std::string& arch, const std::string& source) {
  std::string log;
  for (const Compiler* compiler : compilers(arch, CompileFor::kBuild)) {
    std::string words;
    std::string bytes = compiler->compile(source, arch, {}, &words);
    if (!bytes.empty()) {
      std::fputs(words.c_str(), stderr);  // its warnings
      return bytes;
    }
    log += compiler->name() + ":\n" + words;
  }
  fail(AITER_INTERNAL, "%s cannot be built for %s:\n%s", op.c_str(), arch.c_str(),
       log.empty() ? "no compiler was found; see GPU_ARCHS and AITER_CLANG" : log.c_str());
}

void build(const std::string& op, const std::string& arch, const std::string& src,
           const std::string& hip, const std::string& folder, const std::string& manifest) {
  std::string text;
  if (!read_file(hip, &text)) fail(AITER_INTERNAL, "cannot read %s", hip.c_str());
  std::string headers;
  const std::string source = expand_includes(text, [&](std::string_view path, std::string* header) {
    const std::string file = src + "/" + std::string(path);
    headers += " " + escaped(file);
    return read_file(file, header);
  });
  const std::string bytes = compile(op, arch, source);
  const CodeObject object = read_code_object(bytes);
  if (object.kernels.empty())
    fail(AITER_INTERNAL, "the object for %s has no kernels", arch.c_str());
  std::string lines =
      "kernel\targuments\targument_bytes\tshared_bytes\tregisters\tscalars\tspills\t"
      "scratch_bytes\tmax_block\twaits\n";
  for (const KernelInfo& k : object.kernels) {
    lines += k.symbol + "\t" + args_of(op, k);
    for (int n : {k.args_bytes, k.shared_bytes, k.registers, k.scalars, k.spills, k.scratch_bytes,
                  k.max_block, int{k.waits}})
      lines += "\t" + std::to_string(n);
    lines += "\n";
    if (k.scratch_bytes > 0)
      std::fprintf(stderr, "%s for %s: warning: %d spilled registers, %d bytes of scratch memory\n",
                   k.symbol.c_str(), arch.c_str(), k.spills, k.scratch_bytes);
  }
  const bool elf = bytes.compare(0, 4, "\177ELF") == 0;
  const std::string ending = !elf ? ".ptx" : is_nvidia(arch) ? ".cubin" : ".co";
  const std::string path = folder + "/" + arch + "/" + op;
  for (const char* old : {".co", ".cubin", ".ptx"}) unlink((path + old).c_str());
  make_parent(path);
  make_parent(manifest);
  if (!write_file(path + ending, bytes) || !write_file(manifest, lines) ||
      !write_file(manifest + ".d", escaped(manifest) + ":" + headers + "\n"))
    fail(AITER_INTERNAL, "cannot write %s%s", path.c_str(), ending.c_str());
}

}  // namespace
}  // namespace aiter

int main(int argc, char** argv) {
  if (argc != 7) {
    std::fprintf(stderr,
                 "usage: %s <op> <arch> <src folder> <op.hip> <kernels folder> <manifest>\n",
                 argv[0]);
    return 2;
  }
  try {
    aiter::build(argv[1], argv[2], argv[3], argv[4], argv[5], argv[6]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: error: %s\n", argv[1], e.what());
    return 1;
  }
  return 0;
}
