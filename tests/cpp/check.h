// The assertions of the C++ tests: a test is an executable that returns the number of failures.
#pragma once

#include <cstdio>
#include <cstring>

#include "aiter/aiter.h"

namespace test {

inline int failures = 0;

inline bool report(bool ok, const char* file, int line, const char* what) {
  if (!ok) {
    ++failures;
    std::fprintf(stderr, "%s:%d: failed: %s (last error: %s)\n", file, line, what,
                 aiter_last_error());
  }
  return ok;
}

}  // namespace test

#define CHECK(condition) test::report((condition), __FILE__, __LINE__, #condition)
// The call fails with this status, and its message has this text.
#define CHECK_FAILS(call, expected, text)                                                         \
  test::report((call) == (expected) && std::strstr(aiter_last_error(), text), __FILE__, __LINE__, \
               #call " -> " #expected ": " text)
