#include "core/status.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <new>

namespace aiter {
namespace {
thread_local std::string last_error;
}

void fail(aiter_status status, const char* format, ...) {
  char buffer[1024];
  va_list args;
  va_start(args, format);
  std::vsnprintf(buffer, sizeof(buffer), format, args);
  va_end(args);
  throw Error(status, buffer);
}

aiter_status record_current_exception(const char* op) noexcept {
  aiter_status status = AITER_INTERNAL;
  try {
    try {
      throw;
    } catch (const Error& e) {
      status = e.status();
      // What fails below the operator (a device, a driver) does not know its name.
      const std::string prefix = std::string(op) + ":";
      const bool named = std::strncmp(e.what(), prefix.c_str(), prefix.size()) == 0;
      last_error = named ? e.what() : prefix + " " + e.what();
    } catch (const std::bad_alloc&) {
      status = AITER_OUT_OF_MEMORY;
      last_error = std::string(op) + ": out of host memory";
    } catch (const std::exception& e) {
      last_error = std::string(op) + ": internal error: " + e.what();
    } catch (...) {
      last_error = std::string(op) + ": internal error";
    }
  } catch (...) {
    last_error.clear();  // no memory even for the message; the status still tells
  }
  return status;
}

}  // namespace aiter

extern "C" const char* aiter_status_string(aiter_status status) {
  switch (status) {
    case AITER_OK:
      return "OK";
    case AITER_INVALID_ARGUMENT:
      return "INVALID_ARGUMENT";
    case AITER_UNSUPPORTED:
      return "UNSUPPORTED";
    case AITER_WORKSPACE_TOO_SMALL:
      return "WORKSPACE_TOO_SMALL";
    case AITER_NOT_PREPARED:
      return "NOT_PREPARED";
    case AITER_NO_CODE_OBJECT:
      return "NO_CODE_OBJECT";
    case AITER_OUT_OF_MEMORY:
      return "OUT_OF_MEMORY";
    case AITER_DEVICE:
      return "DEVICE";
    case AITER_INTERNAL:
      return "INTERNAL";
    default:
      return "UNKNOWN";
  }
}

extern "C" const char* aiter_last_error(void) { return aiter::last_error.c_str(); }
