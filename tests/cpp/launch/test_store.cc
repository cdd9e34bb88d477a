// Which code runs on which device, and what a code object says about itself. These are internals:
// their sources are compiled into this test.
#include <cstdlib>
#include <string>

#include "check.h"
#include "core/status.h"
#include "launch/code_object.h"
#include "launch/compiler.h"
#include "launch/includes.h"
#include "launch/store.h"

using namespace aiter;

namespace {

void test_amd_target_ids() {
  const std::string device = "gfx942:sramecc+:xnack-";
  CHECK(runs_on("gfx942", device, false));
  CHECK(runs_on("gfx942:xnack-", device, false));
  CHECK(runs_on("gfx942:sramecc+:xnack-", device, false));
  CHECK(!runs_on("gfx942:xnack+", device, false));
  CHECK(!runs_on("gfx942:sramecc-", device, false));
  CHECK(!runs_on("gfx950", device, false));
  CHECK(!runs_on("gfx90a", device, false));
  CHECK(!runs_on("gfx94", device, false));
  CHECK(!runs_on("sm_90", device, true));
  CHECK(runs_on("gfx942", "gfx942", false));
  CHECK(!runs_on("gfx942:xnack-", "gfx942", false));
}

void test_nvidia_versions() {
  CHECK(runs_on("sm_90", "sm_90", false) && runs_on("sm_90", "sm_90", true));
  CHECK(runs_on("sm_80", "sm_86", false));   // a cubin, on a later minor version
  CHECK(!runs_on("sm_86", "sm_80", false));  // nor on an earlier one
  CHECK(!runs_on("sm_80", "sm_90", false));  // nor on another major one
  CHECK(runs_on("sm_80", "sm_90", true));    // PTX goes on
  CHECK(runs_on("sm_90", "sm_120", true));
  CHECK(!runs_on("sm_90", "sm_80", true));
  CHECK(runs_on("sm_90a", "sm_90", false) && runs_on("sm_90a", "sm_90", true));
  CHECK(!runs_on("sm_90a", "sm_100", true));  // "a" code is for its chip alone
  CHECK(!runs_on("gfx942", "sm_90", false));
}

void test_ptx() {
  const CodeObject object = read_code_object(
      ".version 8.8\n.target sm_90a, debug\n"
      ".visible .entry first(\n\t.param .align 8 .b8 first_param_0[200]\n)\n.maxntid 1024, 1, "
      "1\n{\n}\n"
      ".visible .entry second(\n\t.param .align 8 .b8 second_param_0[16]\n)\n{\n}\n");
  CHECK(object.arch == "sm_90a" && object.kernels.size() == 2);
  const KernelInfo* first = object.find("first");
  CHECK(first && first->args_bytes == 200 && first->max_block == 1024);
  const KernelInfo* second = object.find("second");
  CHECK(second && second->args_bytes == 16 && second->max_block == 0);
  CHECK(!object.find("third"));
}

bool refused(const std::string& bytes) {
  try {
    read_code_object(bytes);
    return false;
  } catch (const Error&) {
    return true;
  }
}

void test_built_objects() {
  if (!AITER_HAS_GFX942) return;
  std::string bytes;
  CHECK(read_file(std::string(AITER_KERNELS) + "/gfx942/rmsnorm.co", &bytes));
  const CodeObject object = read_code_object(bytes);
  CHECK(object.arch == "gfx942");
  const KernelInfo* kernel = object.find("rmsnorm_hip_vec_bf16");
  CHECK(kernel && kernel->args_bytes > 100 && kernel->max_block == 512);
  CHECK(kernel && kernel->registers > 8 && kernel->shared_bytes > 0 && kernel->scratch_bytes == 0);
  // Any cut or turned byte is noticed or harmless, never a crash.
  for (size_t n = 0; n < bytes.size(); n += 97) {
    refused(bytes.substr(0, n));
    std::string turned = bytes;
    turned[n] = static_cast<char>(turned[n] ^ 0xff);
    refused(turned);
  }
}

void test_unreadable() { CHECK(refused("") && refused("not code") && refused("\177ELF")); }

void test_includes() {
  auto find = [](std::string_view path, std::string* text) {
    if (path == "a.h") *text = "#pragma once\n#include \"b.h\"\na\n";
    if (path == "b.h") *text = "#pragma once\nb\n";
    return path == "a.h" || path == "b.h";
  };
  CHECK(expand_includes("#include \"a.h\"\n#include \"b.h\"\n#include \"c.h\"\nend", find) ==
        "b\na\n#include \"c.h\"\nend\n");
}

void test_cache_folder() {
  for (const char* name : {"AITER_CACHE_DIR", "XDG_CACHE_HOME", "HOME"}) unsetenv(name);
  CHECK(cache_folder().empty());
  setenv("HOME", "/h", 1);
  CHECK(cache_folder() == "/h/.cache/aiter");
  setenv("XDG_CACHE_HOME", "/x", 1);
  CHECK(cache_folder() == "/x/aiter");
  setenv("AITER_CACHE_DIR", "/a", 1);
  CHECK(cache_folder() == "/a");
}

}  // namespace

int main() {
  test_amd_target_ids();
  test_nvidia_versions();
  test_ptx();
  test_built_objects();
  test_unreadable();
  test_includes();
  test_cache_folder();
  return test::failures;
}
