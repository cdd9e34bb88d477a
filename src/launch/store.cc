#include "launch/store.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "aiter/version.h"
#include "core/status.h"
#include "launch/code_object.h"
#include "launch/compiler.h"
#include "launch/driver.h"
#include "launch/sources.h"

namespace aiter {
namespace {

std::string kernels_folder() { return library_folder() + "/aiter_kernels"; }

std::vector<std::string> list_folder(const std::string& path) {
  std::vector<std::string> names;
  if (DIR* folder = opendir(path.c_str())) {
    while (const dirent* entry = readdir(folder))
      if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    closedir(folder);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// "gfx942", then its features "sramecc+", "xnack-".
std::vector<std::string> split_target_id(const std::string& arch) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= arch.size();) {
    const size_t end = std::min(arch.find(':', begin), arch.size());
    parts.push_back(arch.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

struct NvidiaArch {
  int number = 0;  // 10 * major + minor
  char suffix = 0;
};

NvidiaArch parse_nvidia(const std::string& arch) {
  NvidiaArch a;
  size_t i = 3;
  while (i < arch.size() && arch[i] >= '0' && arch[i] <= '9')
    a.number = a.number * 10 + arch[i++] - '0';
  if (i < arch.size()) a.suffix = arch[i];
  return a;
}

// How closely an object fits; larger is better, negative: does not run.
int fit(const std::string& built, const std::string& device, bool ptx) {
  if (is_nvidia(built) != is_nvidia(device)) return -1;
  if (!is_nvidia(built)) {
    const std::vector<std::string> code = split_target_id(built), gpu = split_target_id(device);
    if (code[0] != gpu[0]) return -1;
    for (size_t i = 1; i < code.size(); ++i)
      if (std::find(gpu.begin() + 1, gpu.end(), code[i]) == gpu.end()) return -1;
    return static_cast<int>(code.size());
  }
  const NvidiaArch code = parse_nvidia(built), gpu = parse_nvidia(device);
  const bool same = code.number == gpu.number;
  const bool runs = code.suffix ? same
                    : ptx       ? code.number <= gpu.number
                                : code.number / 10 == gpu.number / 10 && code.number <= gpu.number;
  return runs ? code.number * 4 + (code.suffix ? 2 : 0) + (ptx ? 0 : 1) : -1;
}

constexpr const char* kEndings[] = {".co", ".cubin", ".ptx"};

// 128-bit FNV-1a: the name of a cached object.
std::string content_key(const std::string& text) {
  unsigned __int128 hash =
      (static_cast<unsigned __int128>(0x6c62272e07bb0142u) << 64) | 0x62b821756295c58du;
  const unsigned __int128 prime = (static_cast<unsigned __int128>(1) << 88) | 0x13b;
  for (unsigned char c : text) hash = (hash ^ c) * prime;
  char name[33];
  std::snprintf(name, sizeof(name), "%016llx%016llx", static_cast<unsigned long long>(hash >> 64),
                static_cast<unsigned long long>(hash));
  return name;
}

bool make_folders(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    mkdir(path.substr(0, slash).c_str(), 0777);
    if (slash == path.npos) break;
  }
  return access(path.c_str(), W_OK) == 0;
}

// Complete or not there: readers never see half a file. Failure only costs the next process a build.
void keep(const std::string& folder, const std::string& path, const std::string& bytes) {
  if (folder.empty() || !make_folders(folder)) return;
  std::string temporary = path + ".XXXXXX";
  const int file = mkstemp(temporary.data());
  if (file < 0) return;
  const bool written =
      write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  fchmod(file, 0644);
  if (close(file) || !written || rename(temporary.c_str(), path.c_str())) unlink(temporary.c_str());
}

// A line on stderr when something takes longer than a second, so that a build is no silent hang.
class Progress {
 public:
  explicit Progress(std::string what) : what_(std::move(what)), thread_([this] { watch(); }) {}
  ~Progress() {
    {
      std::lock_guard lock(mutex_);
      done_ = true;
    }
    changed_.notify_one();
    thread_.join();
    if (shown_)
      std::fprintf(stderr, "aiter: %s: done in %.1f s\n", what_.c_str(),
                   std::chrono::duration<double>(Clock::now() - start_).count());
  }

 private:
  using Clock = std::chrono::steady_clock;
  void watch() {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, std::chrono::seconds(1), [this] { return done_; })) return;
    shown_ = true;
    std::fprintf(stderr, "aiter: %s ...\n", what_.c_str());
  }
  const std::string what_;
  const Clock::time_point start_ = Clock::now();
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false, shown_ = false;
  std::thread thread_;
};

bool readable(const std::string& bytes) {
  try {
    return !read_code_object(bytes).kernels.empty();
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

bool runs_on(const std::string& built, const std::string& device_arch, bool ptx) {
  return fit(built, device_arch, ptx) >= 0;
}

std::string find_prebuilt(const std::string& op, const std::string& device_arch) {
  std::string best, bytes;
  int best_fit = -1;
  for (const std::string& built : list_folder(kernels_folder()))
    for (const char* ending : kEndings) {
      const std::string path = kernels_folder() + "/" + built + "/" + op + ending;
      const int f = fit(built, device_arch, ending == kEndings[2]);
      if (f > best_fit && access(path.c_str(), R_OK) == 0) best = path, best_fit = f;
    }
  if (best_fit >= 0 && !read_file(best, &bytes))
    fail(AITER_INTERNAL, "%s: cannot read %s", op.c_str(), best.c_str());
  return bytes;
}

std::vector<std::string> built_archs(const std::string& op) {
  std::vector<std::string> archs;
  for (const std::string& built : list_folder(kernels_folder()))
    for (const std::string& file : list_folder(kernels_folder() + "/" + built))
      if (op.empty() || file.substr(0, file.rfind('.')) == op) {
        archs.push_back(built);
        break;
      }
  return archs;
}

std::string cache_folder() {
  auto environment = [](const char* name) {
    const char* text = std::getenv(name);
    return std::string(text ? text : "");
  };
  if (std::string path = environment("AITER_CACHE_DIR"); !path.empty()) return path;
  if (std::string path = environment("XDG_CACHE_HOME"); !path.empty()) return path + "/aiter";
  if (std::string path = environment("HOME"); !path.empty()) return path + "/.cache/aiter";
  return {};
}

std::string build_on_first_use(const std::string& op, const std::string& kernel,
                               const std::string& device_arch, std::string* why) {
  const std::string arch = split_target_id(device_arch)[0];
  const std::string source = device_source(op);
  const std::string folder = cache_folder();
  const auto& candidates = compilers(arch, CompileFor::kFirstUse);
  for (const Compiler* compiler : candidates) {
    const std::string key =
        content_key(source + '\0' + kernel + '\0' + arch + '\0' + compiler->identity() + '\0' +
                    std::to_string(AITER_VERSION_MAJOR * 10000 + AITER_VERSION_MINOR * 100 +
                                   AITER_VERSION_PATCH));
    const std::string what = kernel.empty() ? op : kernel;
    const std::string path = folder + "/" + what + "-" + arch + "-" + key + ".co";
    std::string bytes;
    if (!folder.empty() && read_file(path, &bytes) && readable(bytes)) return bytes;
    std::string log;
    {
      Progress progress("building " + what + " for " + arch + " with " + compiler->name());
      bytes = compiler->compile(source, arch, kernel, &log);
    }
    if (!bytes.empty()) {
      keep(folder, path, bytes);
      return bytes;
    }
    *why += "\n  " + compiler->name() + ": " + (log.empty() ? "failed" : log.substr(0, 600));
  }
  if (candidates.empty())
    *why += is_nvidia(arch)
                ? " and neither NVRTC, nvcc nor clang (AITER_CLANG) was found to build it"
                : " and neither hipRTC nor clang (AITER_CLANG, or pip install ziglang) "
                  "was found to build it";
  return {};
}

}  // namespace aiter
