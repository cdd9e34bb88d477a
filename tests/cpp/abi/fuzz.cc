// A stand-in for libaiter that no wrong call gets past. It is linked in front of the library into a
// copy of each operator's C++ test: for every call that the test makes, it first makes many like it
// with one or two things wrong (NULL, dtype, rank, extent, stride, device, enum, struct_size,
// contents of index tensors, ...), and expects of each:
//
//   - the process lives on, and the status is a known one other than INTERNAL;
//   - a refusal names the operator, and the argument in question;
//   - a refused call has written nothing;
//   - the dry run and the real call agree.
//
// Real calls are made only where the mutated tensors stay inside the memory of the original ones.
// AITER_FUZZ_SEED and AITER_FUZZ_ROUNDS repeat or deepen a run. The functions and structs are those
// found in the headers (headers.py fuzz).
#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "aiter/aiter.h"

namespace fuzz {
namespace {

// ---- what is going on, for reports ---------------------------------------------------------------

char what[1024];  // the call under way and what is wrong with it; read by signal handlers
int failures = 0;
int64_t calls = 0, refused = 0;

void note(const char* format, ...) {
  const size_t used = std::strlen(what);
  va_list args;
  va_start(args, format);
  std::vsnprintf(what + used, sizeof(what) - used, format, args);
  va_end(args);
}

void on_signal(int signal) {
  const char* text = signal == SIGALRM ? "fuzz: hangs in " : "fuzz: ended by ";
  (void)!write(2, text, std::strlen(text));
  (void)!write(2, what, std::strlen(what));
  (void)!write(2, "\n", 1);
  ::signal(signal, SIG_DFL);
  raise(signal);
}

void expect(bool ok, const char* expectation, aiter_status status) {
  if (ok) return;
  if (++failures <= 20)
    std::fprintf(stderr, "fuzz: %s: got %s, message \"%s\"; expected: %s\n", what,
                 aiter_status_string(status), aiter_last_error(), expectation);
}

int64_t setting(const char* name, int64_t fallback) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoll(text) : fallback;
}

struct Session {
  Session() {
    // Under a sanitizer its own handlers tell more.
#if !defined(__SANITIZE_ADDRESS__)
    for (int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) ::signal(s, on_signal);
#endif
    ::signal(SIGALRM, on_signal);
  }
  ~Session() {
    std::fprintf(stderr, "fuzz: %lld calls, %lld refused, %d failures\n",
                 static_cast<long long>(calls), static_cast<long long>(refused), failures);
    std::fflush(nullptr);
    if (failures) _exit(1);
  }
} session;

// ---- random choices ------------------------------------------------------------------------------

uint64_t state = static_cast<uint64_t>(setting("AITER_FUZZ_SEED", 1)) * 0x9e3779b97f4a7c15u | 1;

uint64_t random_bits() {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state * 0x2545f4914f6cdd1du;
}
int below(int n) { return static_cast<int>((random_bits() >> 33) % static_cast<uint64_t>(n)); }
template <class T, size_t N>
T any_of(const T (&values)[N]) {
  return values[below(N)];
}

int64_t odd_integer() {
  return any_of<int64_t>({-1,
                          0,
                          1,
                          2,
                          3,
                          7,
                          31,
                          33,
                          63,
                          65,
                          255,
                          4097,
                          -2,
                          INT32_MIN,
                          INT32_MAX,
                          INT64_C(1) << 32,
                          INT64_C(1) << 40,
                          INT64_C(1) << 62,
                          INT64_MAX,
                          INT64_MIN,
                          static_cast<int64_t>(random_bits())});
}

// ---- tensors -------------------------------------------------------------------------------------

constexpr int kMaxRank = 8;

// The first and past-the-last byte that a tensor's elements occupy; false where these do not fit an
// address space.
bool extent(const aiter_tensor& t, intptr_t* begin, intptr_t* end) {
  if (t.ndim < 0 || t.ndim > kMaxRank || (t.ndim && !t.shape)) return false;
  const __int128 size = (t.dtype.bits * t.dtype.lanes + 7) / 8;
  __int128 low = 0, high = 0, stride = 1;
  bool empty = false;
  for (int i = t.ndim - 1; i >= 0; --i) {
    if (t.shape[i] < 0) return false;
    empty |= t.shape[i] == 0;
    const __int128 reach = (t.shape[i] - 1) * (t.strides ? t.strides[i] : stride);
    (reach < 0 ? low : high) += reach;
    stride *= t.shape[i] ? t.shape[i] : 1;
    if (stride > INT64_MAX || high > INT64_MAX || low < INT64_MIN) return false;
  }
  const __int128 base = reinterpret_cast<intptr_t>(t.data) + static_cast<__int128>(t.byte_offset);
  low = base + low * size, high = base + (high + 1) * size;
  if (low < 0 || high > INT64_MAX) return false;
  *begin = static_cast<intptr_t>(low);
  *end = empty || !t.data ? *begin : static_cast<intptr_t>(high);
  return true;
}

bool on_host(const aiter_tensor& t) {
  return t.device.type == AITER_CPU || t.device.type == AITER_CUDA_HOST ||
         t.device.type == AITER_ROCM_HOST;
}

// The memory of a call's tensors, to be compared and put back.
class Memory {
 public:
  void add(const aiter_tensor* t) {
    intptr_t begin, end;
    if (t && t->data && on_host(*t) && extent(*t, &begin, &end) && begin < end) {
      const char* p = reinterpret_cast<const char*>(begin);
      blocks_.push_back({const_cast<char*>(p), std::vector<char>(p, p + (end - begin))});
    }
  }
  bool unchanged() const {
    for (const Block& b : blocks_)
      if (std::memcmp(b.at, b.saved.data(), b.saved.size())) return false;
    return true;
  }
  // The same memory as it is now.
  Memory again() const {
    Memory now;
    for (const Block& b : blocks_)
      now.blocks_.push_back({b.at, std::vector<char>(b.at, b.at + b.saved.size())});
    return now;
  }
  size_t bytes() const {
    size_t sum = 0;
    for (const Block& b : blocks_) sum += b.saved.size();
    return sum;
  }
  void restore() const {
    for (const Block& b : blocks_) {
      // Inputs may be in read-only memory: write only what differs.
      if (std::memcmp(b.at, b.saved.data(), b.saved.size()))
        std::memcpy(b.at, b.saved.data(), b.saved.size());
    }
  }
  bool holds(const aiter_tensor& t) const {
    intptr_t begin, end;
    if (!extent(t, &begin, &end)) return false;
    if (begin == end) return true;
    for (const Block& b : blocks_) {
      const intptr_t at = reinterpret_cast<intptr_t>(b.at);
      if (begin >= at && end <= at + static_cast<intptr_t>(b.saved.size())) return true;
    }
    return false;
  }

 private:
  struct Block {
    char* at;
    std::vector<char> saved;
  };
  std::vector<Block> blocks_;
};

// A tensor that may be bent without touching the caller's.
struct TensorCopy {
  aiter_tensor t;
  int64_t shape[kMaxRank + 1] = {}, strides[kMaxRank + 1] = {};

  explicit TensorCopy(const aiter_tensor& from) : t(from) {
    const int rank = t.ndim < 0 || t.ndim > kMaxRank ? 0 : t.ndim;
    if (t.shape) std::memcpy(shape, t.shape, sizeof(int64_t) * rank), t.shape = shape;
    if (t.strides) std::memcpy(strides, t.strides, sizeof(int64_t) * rank), t.strides = strides;
  }

  void spell_strides() {
    if (t.strides || !t.shape) return;
    int64_t stride = 1;
    for (int i = t.ndim - 1; i >= 0; --i) {
      strides[i] = stride;
      if (__builtin_mul_overflow(stride, shape[i], &stride)) stride = INT64_MAX;
    }
    t.strides = strides;
  }

  void bend() {
    const int rank = t.ndim > 0 && t.ndim <= kMaxRank ? t.ndim : 0;
    const int i = rank ? below(rank) : 0;
    switch (below(rank ? 14 : 6)) {
      case 0:
        t.dtype.code = any_of<uint8_t>({0, 1, 2, 3, 4, 5, 6, 10, 12, 17, 255});
        break;
      case 1:
        t.dtype.bits = any_of<uint8_t>({0, 1, 4, 8, 16, 32, 64, 255});
        break;
      case 2:
        t.dtype.lanes = any_of<uint16_t>({0, 1, 2, 4, 65535});
        break;
      case 3:
        t.device.type = any_of<int32_t>({0, 2, 3, 4, 10, 11, -1, INT32_MAX});
        t.device.id = any_of<int32_t>({0, 1, 7, -1, INT32_MAX});
        break;
      case 4:
        t.ndim = any_of<int32_t>({-1, 0, 9, 64, INT32_MAX, INT32_MIN});
        break;
      case 5:
        t.data = nullptr;
        break;
      case 6:
        t.byte_offset = any_of<uint64_t>({1, 2, 4, UINT64_C(1) << 40, UINT64_MAX});
        break;
      case 7:
        t.shape = nullptr;
        break;
      case 8:
        shape[i] = odd_integer();
        break;
      case 9:
        spell_strides(), strides[i] = odd_integer();
        break;
      case 10:
        shape[i] += below(2) ? 1 : -1;
        break;
      case 11:  // the same elements in another order
        spell_strides();
        std::swap(shape[i], shape[0]), std::swap(strides[i], strides[0]);
        break;
      case 12:  // one dimension more
        if (rank == kMaxRank) break;
        spell_strides();
        for (int k = rank; k > i; --k) shape[k] = shape[k - 1], strides[k] = strides[k - 1];
        shape[i] = any_of<int64_t>({1, 1, 0, 2}), strides[i] = odd_integer();
        t.ndim = rank + 1;
        break;
      case 13:  // one dimension less
        spell_strides();
        for (int k = i; k + 1 < rank; ++k) shape[k] = shape[k + 1], strides[k] = strides[k + 1];
        t.ndim = rank - 1;
        break;
    }
    note(" {dtype %d:%d:%d device %d:%d", t.dtype.code, t.dtype.bits, t.dtype.lanes, t.device.type,
         t.device.id);
    note(" data %p+%llu rank %d", t.data, static_cast<unsigned long long>(t.byte_offset), t.ndim);
    for (int k = 0; t.shape && k < t.ndim && k <= kMaxRank; ++k) {
      note(k ? ", %lld" : " (%lld", static_cast<long long>(shape[k]));
      if (t.strides) note("/%lld", static_cast<long long>(strides[k]));
    }
    note(")}");
  }
};

// ---- fields and arguments ------------------------------------------------------------------------

// fields_of(s, visit) calls visit(name, field) for each field of a public struct.
#define FIELDS(S, visits)               \
  template <class Visit>                \
  void fields_of(S& s, Visit&& visit) { \
    visits                              \
  }
#define ENTRY(...)
#include "fuzz_entries.inc"
#undef FIELDS
#undef ENTRY

[[maybe_unused]] void bend(float& v) {
  v = any_of<float>({0, -0.0f, 1, -1, 0.5f, 1e-38f, 1e-45f, 3e38f, NAN, INFINITY, -INFINITY});
  note(" = %g", static_cast<double>(v));
}
[[maybe_unused]] void bend(double& v) {
  v = any_of<double>({0, 1, -1, 0.5, 1e300, NAN, INFINITY, -INFINITY});
  note(" = %g", v);
}
[[maybe_unused]] void bend(aiter_dtype& v) {
  v = {any_of<uint8_t>({0, 1, 2, 4, 10, 255}), any_of<uint8_t>({0, 4, 8, 16, 32, 255}),
       any_of<uint16_t>({0, 1, 2, 65535})};
  note(" = dtype %d:%d:%d", v.code, v.bits, v.lanes);
}
template <class T>
  requires std::is_integral_v<T>
void bend(T& v) {
  v = static_cast<T>(odd_integer());
  note(" = %lld", static_cast<long long>(v));
}
template <class T>
  requires std::is_enum_v<T>
void bend(T& v) {
  int32_t number = static_cast<int32_t>(odd_integer());
  std::memcpy(&v, &number, sizeof(v));
  note(" = %d", number);
}
template <class T>
void bend(T*& v) {  // a pointer inside a struct (a workspace): nothing else would be safe
  v = nullptr;
  note(" = NULL");
}
template <class T>
void bend(T&) {}

template <class T>
concept Options = requires(T t) { t.struct_size; };
template <class T>
concept OperatorOptions = Options<T> && requires(T t) { t.flags; };

// A field of a struct other than its size and flags, or these.
template <class S>
void bend_struct(S& s) {
  int count = 0;
  fields_of(s, [&](const char*, auto&) { ++count; });
  const int chosen = below(count);
  int i = 0;
  fields_of(s, [&](const char* name, auto& field) {
    if (i++ != chosen) return;
    note(".%s", name);
    if (std::strcmp(name, "struct_size") == 0) {
      const uint32_t full = sizeof(S);
      const uint32_t size =
          any_of<uint32_t>({0, 4, 7, 8, full / 2, full - 1, full, full + 4, UINT32_MAX});
      if constexpr (std::is_same_v<decltype(field), uint32_t&>) field = size;
      note(" = %u", size);
    } else {
      bend(field);
    }
  });
}

// Copies of what the arguments of one call point at.
template <class Argument>
struct Bent {
  explicit Bent(Argument& a) : argument(a) {}
  void bend() {
    if constexpr (std::is_same_v<Argument, const char*>) return;
    fuzz::bend(argument);
  }
  Argument& argument;
};

template <>
struct Bent<const aiter_tensor*> {
  explicit Bent(const aiter_tensor*& a) : argument(a), copy(a ? *a : aiter_tensor{}) {
    if (a) a = &copy.t;
  }
  void bend() {
    if (!argument) return;
    if (below(12) == 0) {
      argument = nullptr;
      note(" = NULL");
    } else {
      copy.bend();
    }
  }
  const aiter_tensor*& argument;
  TensorCopy copy;
};

template <Options S>
struct Bent<const S*> {
  explicit Bent(const S*& a) : argument(a), copy(a ? *a : S{}) {
    // NULL, spelled as a struct: its two first fields alone.
    if (!a) copy.struct_size = 8;
    argument = &copy;
  }
  void bend() {
    if (below(12) == 0) {
      argument = nullptr;
      note(" = NULL");
    } else {
      if (copy.struct_size == 8) copy.struct_size = sizeof(S);
      bend_struct(copy);
    }
  }
  const S*& argument;
  S copy;
};

template <class T>
  requires(!std::is_const_v<T> && !std::is_void_v<T>)
struct Bent<T*> {  // the caller's result
  explicit Bent(T*& a) : argument(a), copy(a ? *a : T{}) {
    if (a) argument = &copy;
  }
  void bend() {
    if (below(3) == 0 || !argument) {
      argument = nullptr;
      note(" = NULL");
    } else if constexpr (Options<T>) {
      bend_struct(copy);
    }
  }
  T*& argument;
  T copy;
};

// ---- one call ------------------------------------------------------------------------------------

bool fuzzing = false;                 // inside of it, calls go through as they are
constexpr size_t kLargest = 4 << 20;  // of the memory that is saved and compared

std::vector<std::string> split(const char* names) {
  std::vector<std::string> found(1);
  for (const char* c = names; *c; ++c) {
    if (*c == ',')
      found.emplace_back();
    else if (*c != ' ')
      found.back() += *c;
  }
  return found;
}

// Overwrites some elements of an index tensor (or bytes of a coded one).
bool spoil_contents(const aiter_tensor& t, const Memory& memory) {
  intptr_t begin, end;
  if (t.dtype.code > AITER_CODE_UINT || !memory.holds(t) || !extent(t, &begin, &end)) return false;
  const int size = t.dtype.bits * t.dtype.lanes / 8;
  if (size == 0 || begin == end) return false;
  note(" contents");
  for (int n = 1 + below(3); n > 0; --n) {
    const int64_t value = odd_integer();
    const int64_t at = below(static_cast<int>((end - begin) / size));
    std::memcpy(reinterpret_cast<char*>(begin) + at * size, &value, size > 8 ? 8 : size);
    note(" [%lld] = %lld", static_cast<long long>(at), static_cast<long long>(value));
  }
  return true;
}

// Whether the test's own call is a right one. A wrong one may lie about its memory, so that none of
// it is touched then.
template <class Function, class... Args, size_t... I>
bool accepted(Function* real, std::tuple<Args...> args, std::index_sequence<I...>) {
  std::tuple<Bent<Args>...> copies{std::get<I>(args)...};
  auto dry = [](auto& argument) {
    using S = std::remove_const_t<std::remove_pointer_t<std::decay_t<decltype(argument)>>>;
    if constexpr (OperatorOptions<S>) const_cast<S*>(argument)->flags |= AITER_DRY_RUN;
  };
  (dry(std::get<I>(args)), ...);
  return real(std::get<I>(args)...) == AITER_OK;
}

template <class Function, class... Args, size_t... I>
void one_round(const char* name, const std::vector<std::string>& names, Function* real,
               std::tuple<Args...> args, const Memory& memory, std::index_sequence<I...>) {
  std::snprintf(what, sizeof(what), "%s", name);
  std::tuple<Bent<Args>...> bent{std::get<I>(args)...};

  bool spoiled = false;
  for (int n = 1 + (below(4) == 0); n > 0; --n) {
    const int chosen = below(sizeof...(Args));
    note(", %s", names[chosen].c_str());
    auto bend_one = [&](auto index) {
      constexpr size_t i = decltype(index)::value;
      if (i != static_cast<size_t>(chosen)) return;
      auto& argument = std::get<i>(args);
      if constexpr (std::is_same_v<std::decay_t<decltype(argument)>, const aiter_tensor*>) {
        if (argument && below(4) == 0 && spoil_contents(*argument, memory)) {
          spoiled = true;
          return;
        }
      }
      std::get<i>(bent).bend();
    };
    (bend_one(std::integral_constant<size_t, I>{}), ...);
  }

  bool inside = true;  // no tensor reaches beyond the original memory
  // Neither does an integer tensor or an option of each row: dry runs may read those, to check them.
  bool readable_indices = true;
  uint32_t* flags = nullptr;
  auto look = [&](auto& argument) {
    using T = std::decay_t<decltype(argument)>;
    if constexpr (std::is_same_v<T, const aiter_tensor*>) {
      if (argument && !memory.holds(*argument)) {
        inside = false;
        readable_indices &= argument->dtype.code > AITER_CODE_UINT && argument->ndim > 1;
      }
    } else if constexpr (std::is_pointer_v<T>) {
      using S = std::remove_const_t<std::remove_pointer_t<T>>;
      if constexpr (OperatorOptions<S>)
        if (argument && argument->struct_size >= 8) flags = const_cast<uint32_t*>(&argument->flags);
    }
  };
  (look(std::get<I>(args)), ...);

  auto call = [&] {
    ++calls;
    alarm(20);
    const aiter_status status = real(std::get<I>(args)...);
    alarm(0);
    expect(status >= AITER_OK && status < AITER_INTERNAL && status != AITER_OUT_OF_MEMORY,
           "another status", status);
    if (status == AITER_OK) return status;
    ++refused;
    const char* message = aiter_last_error();
    expect(std::strncmp(message, name + 6, std::strlen(name + 6)) == 0,
           "a message that starts with the operator", status);
    if (status == AITER_INVALID_ARGUMENT) {
      bool named = false;
      for (const std::string& n : names) named |= std::strstr(message, n.c_str()) != nullptr;
      expect(named, "a message that names an argument", status);
    }
    return status;
  };

  const Memory spoiled_memory = spoiled ? memory.again() : Memory();
  const Memory& before = spoiled ? spoiled_memory : memory;
  aiter_status dry = AITER_OK;
  if (flags && readable_indices) {
    const uint32_t given = *flags;
    *flags |= AITER_DRY_RUN;
    dry = call();
    expect(before.unchanged(), "a dry run that writes nothing", dry);
    *flags = given;
  }
  if (inside) {
    const aiter_status status = call();
    if (flags) expect(status == dry, "the status of the dry run", status);
    if (status != AITER_OK)
      expect(before.unchanged(), "a refused call that writes nothing", status);
  }
  memory.restore();
}

template <class Result, class... Args>
Result call(const char* name, const char* names, Result (*real)(Args...),
            std::type_identity_t<Args>... args) {
  if constexpr (std::is_same_v<Result, aiter_status> && sizeof...(Args) > 1) {
    static const int64_t rounds = setting("AITER_FUZZ_ROUNDS", 300);
    static int64_t budget = 40 * rounds;  // of this function
    if (!fuzzing && budget > 0 && gettid() == getpid()) {
      fuzzing = true;
      Memory memory;
      if (accepted(real, std::tuple<Args...>(args...), std::index_sequence_for<Args...>{})) {
        auto add = [&](auto argument) {
          if constexpr (std::is_same_v<decltype(argument), const aiter_tensor*>)
            memory.add(argument);
        };
        (add(args), ...);
      }
      const std::vector<std::string> all = split(names);
      for (int64_t i = 0; i < rounds && budget > 0 && memory.bytes() <= kLargest; ++i, --budget)
        one_round(name, all, real, std::tuple<Args...>(args...), memory,
                  std::index_sequence_for<Args...>{});
      fuzzing = false;
    }
  }
  return real(args...);
}

}  // namespace
}  // namespace fuzz

#define FIELDS(...)
#define ENTRY(name, Result, parameters, ...)                                                  \
  extern "C" __attribute__((visibility("default"))) Result name parameters {                  \
    static const auto real = reinterpret_cast<Result(*) parameters>(dlsym(RTLD_NEXT, #name)); \
    return fuzz::call(#name, #__VA_ARGS__, real __VA_OPT__(, ) __VA_ARGS__);                  \
  }
#include "fuzz_entries.inc"
