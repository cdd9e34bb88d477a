// Every function of the headers, called with nothing and with the same small tensor everywhere:
// each answers, and each message names its operator. fuzz.* makes more of these calls.
#include <tuple>
#include <type_traits>

#include "check.h"
#include "tensor.h"

namespace {

float memory[64];
test::Tensor small(memory, {2, 8});

template <class T>
T argument(bool given) {
  if constexpr (std::is_same_v<T, const aiter_tensor*>)
    return given ? static_cast<const aiter_tensor*>(small) : nullptr;
  else
    return T();
}

template <class Result, class... Args>
void visit(const char* name, Result (*function)(Args...)) {
  for (bool given : {false, true}) {
    if constexpr (std::is_same_v<Result, aiter_status>) {
      const aiter_status status = function(argument<Args>(given)...);
      CHECK(status >= AITER_OK && status < AITER_INTERNAL);
      const char* op = name + std::strlen("aiter_");
      if (status != AITER_OK)
        CHECK(std::strncmp(aiter_last_error(), op, std::strlen(op)) == 0) || std::puts(name);
    } else {
      (void)function(argument<Args>(given)...);
    }
  }
}

}  // namespace

int main() {
#define FIELDS(...)
#define ENTRY(name, ...) visit(#name, name);
#include "fuzz_entries.inc"

  CHECK(aiter_status_string(static_cast<aiter_status>(12345)) != nullptr);
  CHECK(aiter_status_string(static_cast<aiter_status>(-1)) != nullptr);
  CHECK_FAILS(aiter_set_num_threads(-1), AITER_INVALID_ARGUMENT, "set_num_threads: n is -1");
  CHECK_FAILS(aiter_set_num_threads(1 << 30), AITER_INVALID_ARGUMENT, "set_num_threads: n is");
  CHECK(aiter_set_num_threads(0) == AITER_OK && aiter_get_num_threads() > 0);
  for (const char* bad : {"", "sse", "avx512 ", "\xff"})
    CHECK_FAILS(aiter_set_cpu_isa(bad), AITER_INVALID_ARGUMENT, "cpu_isa: got \"");
  for (const char* bad : {"rmsnorm", "rmsnorm:", ":cpu_ref", "rmsnorm:none", "none:cpu_ref", "::"})
    CHECK_FAILS(aiter_set_force(bad), AITER_INVALID_ARGUMENT, "force: ");
  for (const char* empty : {"", ",", ",,"}) CHECK(aiter_set_force(empty) == AITER_OK);
  return test::failures;
}
