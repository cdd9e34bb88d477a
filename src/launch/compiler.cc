#include "launch/compiler.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

#include "core/status.h"
#include "launch/driver.h"

extern char** environ;

namespace aiter {
namespace {

const char* environment(const char* name) {
  const char* text = std::getenv(name);
  return text && *text ? text : nullptr;
}

// Runs a program to its end; true when it returns 0. What it prints is added to *log.
bool run(const std::vector<std::string>& command, std::string* log) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC)) return false;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], 1);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], 2);
  pid_t child = 0;
  const int error = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(pipe_ends[1]);
  if (error) {
    close(pipe_ends[0]);
    *log += command[0] + ": " + std::strerror(error) + "\n";
    return false;
  }
  char buffer[4096];
  for (;;) {
    const ssize_t n = read(pipe_ends[0], buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    if (log->size() < 16384) log->append(buffer, static_cast<size_t>(n));
  }
  close(pipe_ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return false;  // a host that ignores SIGCHLD: the result file decides
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool is_executable(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && access(path.c_str(), X_OK) == 0;
}

// The full path of a program on PATH, or empty.
std::string on_path(const std::string& name) {
  std::string path = environment("PATH") ? environment("PATH") : "/usr/local/bin:/usr/bin:/bin";
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const std::string file = path.substr(begin, end - begin) + "/" + name;
    if (is_executable(file)) return file;
    begin = end + 1;
  }
  return {};
}

// Path, size and time stamp: enough to notice another version, with no process to start.
std::string file_identity(const std::string& path) {
  struct stat info{};
  char resolved[PATH_MAX];
  const char* real = realpath(path.c_str(), resolved);
  stat(path.c_str(), &info);
  return std::string(real ? real : path.c_str()) + " " + std::to_string(info.st_size) + " " +
         std::to_string(info.st_mtim.tv_sec);
}

constexpr const char* kDefineDeviceCode = "-DAITER_DEVICE_CODE=1";

// The source for one kernel alone (ck/core/prelude.h), or for all when `kernel` is empty. Definitions
// in the text: on a command line, nvcc and NVRTC take the comma for the end of one.
std::string select_kernel(const std::string& source, const std::string& kernel) {
  if (kernel.empty()) return source;
  return "#define AITER_ONE_KERNEL 1\n#define AITER_PICK_" + kernel + " ~,\n#line 1\n" + source;
}

// A clang with the GPU targets, or zig, which contains one.
class Clang : public Compiler {
 public:
  explicit Clang(std::string path) : path_(std::move(path)) {
    const std::string file = path_.substr(path_.rfind('/') + 1);
    zig_ = file == "zig";
    // clang-19's linker is lld-19, beside it or on PATH.
    if (!zig_) {
      const std::string folder = path_.substr(0, path_.rfind('/') + 1);
      const size_t dash = file.rfind("-");
      const std::string suffix = file.compare(0, 6, "clang-") == 0 ? file.substr(dash) : "";
      for (const std::string& candidate :
           {folder + "ld.lld" + suffix, folder + "ld.lld", on_path("ld.lld" + suffix)})
        if (linker_.empty() && is_executable(candidate)) linker_ = candidate;
    }
  }
  std::string name() const override { return path_; }
  std::string identity() const override { return file_identity(path_); }

  std::string compile(const std::string& source, const std::string& arch, const std::string& kernel,
                      std::string* log) const override {
    const TemporaryFolder folder;
    const std::string in = folder.path() + "/kernel.hip", object = folder.path() + "/kernel.o",
                      out = folder.path() + "/kernel.co";
    write_file(in, select_kernel(source, kernel));
    std::vector<std::string> command = tool("clang");
    auto add = [&](std::initializer_list<const char*> words) {
      command.insert(command.end(), words.begin(), words.end());
    };
    add({"-std=c++17", "-O3", "-ffp-contract=off", "-Wno-unused-command-line-argument"});
    command.push_back(kDefineDeviceCode);
    if (is_nvidia(arch)) {
      command.push_back("--cuda-gpu-arch=" + arch);
      add({"-x", "cuda", "--cuda-device-only", "-nocudainc", "-nocudalib", "-S",
           "-Wno-unknown-cuda-version", "-o"});
      command.push_back(out);
      command.push_back(in);
      if (!run(command, log)) return {};
    } else {
      command.push_back("--offload-arch=" + arch);
      // -S with this front end action writes an object at once and skips clang's link step, which
      // zig's clang lacks a program for. Without a CUID, builds are reproducible.
      add({"-x", "hip", "--cuda-device-only", "-nogpuinc", "-nogpulib", "-mcode-object-version=5",
           "-fuse-cuid=none", "-S", "-Xclang", "-emit-obj", "-o"});
      command.push_back(object);
      command.push_back(in);
      if (!run(command, log)) return {};
      std::vector<std::string> link = zig_ ? tool("ld.lld") : std::vector<std::string>{linker_};
      if (link[0].empty()) {
        *log += "no ld.lld beside " + path_ + "\n";
        return {};
      }
      link.insert(link.end(), {"-shared", "--no-undefined", "-o", out, object});
      if (!run(link, log)) return {};
    }
    std::string bytes;
    read_file(out, &bytes);
    return bytes;
  }

 private:
  std::vector<std::string> tool(const char* name) const {
    return zig_ ? std::vector<std::string>{path_, name} : std::vector<std::string>{path_};
  }
  std::string path_, linker_;
  bool zig_ = false;
};

class Nvcc : public Compiler {
 public:
  explicit Nvcc(std::string path) : path_(std::move(path)) {}
  std::string name() const override { return path_; }
  std::string identity() const override { return file_identity(path_); }
  std::string compile(const std::string& source, const std::string& arch, const std::string& kernel,
                      std::string* log) const override {
    const TemporaryFolder folder;
    const std::string in = folder.path() + "/kernel.cu", out = folder.path() + "/kernel.cubin";
    write_file(in, select_kernel(source, kernel));
    std::vector<std::string> command{
        path_,           "-std=c++17",          "-O3", "-fmad=false", "-cubin",
        "-arch=" + arch, "--diag-suppress=177", "-o",  out,           in};
    command.push_back(kDefineDeviceCode);
    const bool done = run(command, log);
    std::string bytes;
    if (done) read_file(out, &bytes);
    return bytes;
  }

 private:
  std::string path_;
};

// NVRTC opens its builtins by name alone, which fails outside of the folders that the system knows:
// they are opened here, from beside it.
void open_nvrtc_builtins(void* version) {
  Dl_info info{};
  if (!dladdr(version, &info) || !info.dli_fname) return;
  const std::string library = info.dli_fname, folder = library.substr(0, library.rfind('/') + 1);
  DIR* listing = opendir(folder.c_str());
  if (!listing) return;
  while (const dirent* entry = readdir(listing))
    if (std::strncmp(entry->d_name, "libnvrtc-builtins.so.", 21) == 0)
      dlopen((folder + entry->d_name).c_str(), RTLD_NOW | RTLD_LOCAL);
  closedir(listing);
}

// hipRTC and NVRTC: one API under two prefixes.
class Rtc : public Compiler {
 public:
  // Null when no library is there.
  static std::unique_ptr<Rtc> open(const char* prefix, const std::vector<std::string>& names) {
    for (int flags : {RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD, RTLD_NOW | RTLD_LOCAL})
      for (const std::string& name : names)
        if (void* handle = dlopen(name.c_str(), flags)) {
          std::unique_ptr<Rtc> rtc(new Rtc);
          if (rtc->bind(handle, prefix, name)) return rtc;
        }
    return nullptr;
  }
  std::string name() const override { return library_; }
  std::string identity() const override {
    int major = 0, minor = 0;
    version_(&major, &minor);
    return prefix_ + " " + std::to_string(major) + "." + std::to_string(minor);
  }
  std::string compile(const std::string& source, const std::string& arch, const std::string& kernel,
                      std::string* log) const override {
    void* program = nullptr;
    const std::string text = select_kernel(source, kernel);
    if (create_(&program, text.c_str(), "kernel.hip", 0, nullptr, nullptr)) return {};
    const bool hip = prefix_ == "hiprtc";
    const std::string arch_option = (hip ? "--offload-arch=" : "--gpu-architecture=") + arch;
    std::vector<const char*> options{arch_option.c_str(), "-std=c++17", kDefineDeviceCode};
    // As on the host: a fused multiply-add is written as one.
    if (hip)
      options.insert(options.end(), {"-O3", "-ffp-contract=off"});
    else
      options.insert(options.end(), {"--fmad=false", "--device-as-default-execution-space"});
    const int status = compile_(program, static_cast<int>(options.size()), options.data());
    std::string bytes;
    size_t size = 0;
    if (status == 0 && code_size_(program, &size) == 0 && size > 0) {
      bytes.resize(size);
      if (code_(program, bytes.data())) bytes.clear();
    }
    if (bytes.empty() && log_size_(program, &size) == 0 && size > 1) {
      std::string message(size, '\0');
      log_(program, message.data());
      *log += message.c_str();
    }
    destroy_(&program);
    return bytes;
  }

 private:
  bool bind(void* handle, const std::string& prefix, const std::string& library) {
    prefix_ = prefix;
    library_ = library;
    const bool hip = prefix == "hiprtc";
    bool all = true;
    auto get = [&](auto* function, const char* name) {
      void* address = dlsym(handle, (prefix + name).c_str());
      all = all && address;
      *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(address);
    };
    get(&version_, "Version");
    if (!hip && version_) open_nvrtc_builtins(reinterpret_cast<void*>(version_));
    get(&create_, "CreateProgram");
    get(&compile_, "CompileProgram");
    get(&log_size_, "GetProgramLogSize");
    get(&log_, "GetProgramLog");
    get(&code_size_, hip ? "GetCodeSize" : "GetCUBINSize");
    get(&code_, hip ? "GetCode" : "GetCUBIN");
    get(&destroy_, "DestroyProgram");
    return all;
  }
  std::string prefix_, library_;
  int (*version_)(int*, int*);
  int (*create_)(void**, const char*, const char*, int, const char* const*, const char* const*);
  int (*compile_)(void*, int, const char* const*);
  int (*log_size_)(void*, size_t*);
  int (*log_)(void*, char*);
  int (*code_size_)(void*, size_t*);
  int (*code_)(void*, char*);
  int (*destroy_)(void**);
};

// site-packages, when this library lies in site-packages/aiter/lib.
std::string site_packages() { return library_folder() + "/../.."; }

std::vector<std::string> rtc_libraries(bool nvidia) {
  if (const char* path = environment(nvidia ? "AITER_NVRTC_LIBRARY" : "AITER_HIPRTC_LIBRARY"))
    return {path};
  if (!nvidia)
    return {"libhiprtc.so.7", "libhiprtc.so.6", "libhiprtc.so",
            std::string(environment("ROCM_PATH") ? environment("ROCM_PATH") : "/opt/rocm") +
                "/lib/libhiprtc.so"};
  std::vector<std::string> names{"libnvrtc.so.13",
                                 "libnvrtc.so.12",
                                 "libnvrtc.so",
                                 site_packages() + "/nvidia/cu13/lib/libnvrtc.so.13",
                                 site_packages() + "/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
                                 "/usr/local/cuda/lib64/libnvrtc.so"};
  // Beside the CUDA runtime that the process uses: that of pip's nvidia packages, say.
  auto beside = [](dl_phdr_info* info, size_t, void* names) {
    const std::string path = info->dlpi_name;
    const size_t slash = path.rfind('/') + 1;
    if (path.compare(slash, 10, "libcudart.") == 0)
      for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12"})
        static_cast<std::vector<std::string>*>(names)->push_back(path.substr(0, slash) + name);
    return 0;
  };
  dl_iterate_phdr(beside, &names);
  return names;
}

std::vector<std::string> clangs(bool nvidia) {
  if (const char* path = environment("AITER_CLANG"))
    return {std::strchr(path, '/') ? std::string(path) : on_path(path)};
  std::vector<std::string> found;
  auto add = [&](const std::string& path) {
    if (!path.empty() && is_executable(path)) found.push_back(path);
  };
  const std::string rocm = environment("ROCM_PATH") ? environment("ROCM_PATH") : "/opt/rocm";
  if (!nvidia) add(rocm + "/llvm/bin/clang");
  add(site_packages() + "/ziglang/zig");
  for (const char* name : {"clang-23", "clang-22", "clang-21", "clang-20", "clang-19", "zig"})
    add(on_path(name));
  return found;
}

std::string nvcc() {
  if (const char* home = environment("CUDA_HOME"))
    if (std::string path = std::string(home) + "/bin/nvcc"; is_executable(path)) return path;
  if (std::string path = on_path("nvcc"); !path.empty()) return path;
  return is_executable("/usr/local/cuda/bin/nvcc") ? "/usr/local/cuda/bin/nvcc" : "";
}

std::vector<const Compiler*> find_compilers(bool nvidia, CompileFor purpose) {
  std::vector<const Compiler*> found;  // kept for the process
  const std::string nvcc_path = nvidia ? nvcc() : "";
  const bool build = purpose == CompileFor::kBuild;
  if (build && !nvcc_path.empty()) found.push_back(new Nvcc(nvcc_path));
  if (auto rtc = Rtc::open(nvidia ? "nvrtc" : "hiprtc", rtc_libraries(nvidia)))
    found.push_back(rtc.release());
  for (const std::string& path : clangs(nvidia)) found.push_back(new Clang(path));
  if (!build && !nvcc_path.empty()) found.push_back(new Nvcc(nvcc_path));
  return found;
}

}  // namespace

const std::vector<const Compiler*>& compilers(const std::string& arch, CompileFor purpose) {
  static std::mutex mutex;
  static std::unique_ptr<const std::vector<const Compiler*>> known[2][2];
  std::lock_guard lock(mutex);
  auto& slot = known[is_nvidia(arch)][purpose == CompileFor::kBuild];
  if (!slot)
    slot = std::make_unique<const std::vector<const Compiler*>>(
        find_compilers(is_nvidia(arch), purpose));
  return *slot;
}

TemporaryFolder::TemporaryFolder() {
  for (const char* place : {environment("TMPDIR"), "/tmp", "/dev/shm", "."}) {
    if (!place) continue;
    std::string path = std::string(place) + "/aiter-XXXXXX";
    if (mkdtemp(path.data())) {
      path_ = path;
      return;
    }
  }
  fail(AITER_DEVICE, "building a kernel: no folder for temporary files is writable; set TMPDIR");
}

TemporaryFolder::~TemporaryFolder() {
  if (DIR* folder = opendir(path_.c_str())) {
    while (const dirent* entry = readdir(folder))
      if (entry->d_name[0] != '.') unlink((path_ + "/" + entry->d_name).c_str());
    closedir(folder);
  }
  rmdir(path_.c_str());
}

bool read_file(const std::string& path, std::string* bytes) {
  std::FILE* file = std::fopen(path.c_str(), "rbe");
  if (!file) return false;
  bytes->clear();
  char buffer[65536];
  while (const size_t n = std::fread(buffer, 1, sizeof(buffer), file)) bytes->append(buffer, n);
  const bool good = !std::ferror(file);
  std::fclose(file);
  return good;
}

bool write_file(const std::string& path, const std::string& bytes) {
  std::FILE* file = std::fopen(path.c_str(), "wbe");
  if (!file) return false;
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  return std::fclose(file) == 0 && written;
}

bool is_nvidia(const std::string& arch) { return arch.compare(0, 3, "sm_") == 0; }

}  // namespace aiter
