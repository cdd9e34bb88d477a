// Errors inside the library: thrown as Error, turned into a status at the C entry.
#pragma once

#include <exception>
#include <string>

#include "aiter/status.h"

namespace aiter {

class Error : public std::exception {
 public:
  Error(aiter_status status, std::string message) : status_(status), message_(std::move(message)) {}
  aiter_status status() const { return status_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  aiter_status status_;
  std::string message_;
};

// Throws Error with a printf-formatted message.
[[noreturn]] __attribute__((format(printf, 2, 3))) void fail(aiter_status status,
                                                             const char* format, ...);

// Stores the message of the exception in flight for this thread and returns its status.
aiter_status record_current_exception(const char* op) noexcept;

// Runs the body of a C entry point; nothing is thrown past it.
template <class Body>
aiter_status entry(const char* op, Body&& body) noexcept {
  try {
    body();
    return AITER_OK;
  } catch (...) {
    return record_current_exception(op);
  }
}

}  // namespace aiter
