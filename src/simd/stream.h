// Output past the caches (see simd/cache.h) that begins anywhere and comes in runs.
#pragma once

#include "simd/simd.h"

namespace aiter::AITER_ISA {

// Collects what is written one after the other, and sends off whole cache lines: a line in two parts
// would be read before it is written. One for each output of a thread.
class LineStream {
 public:
  static constexpr int64_t kRun = 2048;  // bytes of a place at most

  LineStream() = default;
  LineStream(const LineStream&) = delete;
  ~LineStream() {
    flush();
    stream_fence();
  }

  // A place for the n <= kRun bytes that belong to `to`; send() follows once they are there.
  template <class T>
  AITER_INLINE T* place(T* to, int64_t n) {
    if (reinterpret_cast<char*>(to) != end_) begin(to);
    if (end_ - base_ + n > kBuffer) rewind();
    T* at = reinterpret_cast<T*>(lines_ + (end_ - base_));
    end_ += n;
    return at;
  }
  // Sends lines, but the last ones: what was just written is slow to be read again.
  AITER_INLINE void send() {
    const int64_t n = end_ - line_ - kLag;
    if (n >= 64) send_lines(lines_ + (line_ - base_), n / 64 * 64);
  }
  // n bytes that are elsewhere already.
  void copy(void* to, const void* from, int64_t n) {
    const char* in = static_cast<const char*>(from);
    if (to == end_)
      send_all();
    else
      begin(to);
    char* line = lines_ + (line_ - base_);
    const int64_t there = end_ - line_;
    end_ += n;
    if (there + n < 64) {
      memcpy(line + there, in, n);
      return;
    }
    if (there > 0) {
      memcpy(line + there, in, 64 - there);
      send_lines(line, 64);
      in += 64 - there, n -= 64 - there;
    }
    send_lines(in, n / 64 * 64);
    base_ = line_;
    memcpy(lines_, in + n / 64 * 64, n % 64);
  }

 private:
  static constexpr int64_t kLag = 512, kBuffer = 4096;

  void begin(void* to) {
    flush();
    skip_ = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % 64);
    end_ = static_cast<char*>(to);
    line_ = base_ = end_ - skip_;
    if (skip_ > 0) __builtin_prefetch(end_, 1);
  }
  AITER_INLINE void send_lines(const char* from, int64_t n) {
    if (n == 0) return;
    int64_t i = 0;
    if (skip_ > 0) {
      memcpy(line_ + skip_, from + skip_, 64 - skip_);
      skip_ = 0, i = 64;
    }
    for (char* to = line_; i < n; i += static_cast<int64_t>(sizeof(Vec)))
      stream(reinterpret_cast<float*>(to + i), load(reinterpret_cast<const float*>(from + i)));
    line_ += n;
  }
  void send_all() { send_lines(lines_ + (line_ - base_), (end_ - line_) / 64 * 64); }
  // Begins at the front of the buffer again.
  void rewind() {
    send_all();
    if (line_ != base_) memcpy(lines_, lines_ + (line_ - base_), 64);
    base_ = line_;
  }
  void flush() {
    send_all();
    const int64_t left = end_ - line_;
    if (left > skip_) memcpy(line_ + skip_, lines_ + (line_ - base_) + skip_, left - skip_);
    base_ = line_ = end_ = nullptr;
    skip_ = 0;
  }

  // Bytes from base_ (of the output) on are in lines_; those before line_ are sent, those from end_ on
  // not yet there, and the first skip_ ones from line_ on not ours.
  char *base_ = nullptr, *line_ = nullptr, *end_ = nullptr;
  int64_t skip_ = 0;
  alignas(64) char lines_[kBuffer + 64];
};

}  // namespace aiter::AITER_ISA
