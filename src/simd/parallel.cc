#include "simd/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "aiter/device.h"
#include "core/status.h"

namespace aiter {
namespace {

// Operators follow each other within microseconds, so a worker spins a while before it sleeps.
constexpr int kSpins = 20000;

thread_local bool inside = false;  // this thread is running tasks

class Pool {
 public:
  explicit Pool(int workers) {
    threads_.reserve(workers);
    try {
      for (int i = 0; i < workers; ++i) threads_.emplace_back([this, i] { work(i + 1); });
    } catch (const std::system_error&) {  // the system's limit on threads: go on with fewer
    }
  }

  ~Pool() {
    stop_.store(true, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

  void run(int64_t tasks, void (*body)(void*, int64_t, int), void* context) {
    body_ = body;
    context_ = context;
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    inside_.fetch_and(~kClosed, std::memory_order_release);
    generation_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) generation_.notify_all();
    take_tasks(0);
    // A worker that has not come by now, perhaps because the system runs something else in its
    // place, is not waited for.
    inside_.fetch_or(kClosed, std::memory_order_relaxed);
    for (int spins = 0; inside_.load(std::memory_order_acquire) != kClosed;) relax(spins);
  }

 private:
  void take_tasks(int thread) {
    for (;;) {
      int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks_) return;
      body_(context_, task, thread);
    }
  }

  void work(int thread) {
    inside = true;
    uint32_t seen = 0;
    for (;;) {
      int spins = 0;
      while (generation_.load(std::memory_order_acquire) == seen) {
        if (spins < kSpins) {
          relax(spins);
          continue;
        }
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        generation_.wait(seen, std::memory_order_seq_cst);
        sleepers_.fetch_sub(1, std::memory_order_relaxed);
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stop_.load(std::memory_order_relaxed)) return;
      if (!(inside_.fetch_add(1, std::memory_order_acquire) & kClosed)) take_tasks(thread);
      inside_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::vector<std::thread> threads_;
  void (*body_)(void*, int64_t, int) = nullptr;
  void* context_ = nullptr;
  int64_t tasks_ = 0;
  alignas(64) std::atomic<uint32_t> generation_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<int64_t> next_{0};
  // The number of workers at the tasks, and a bit that keeps others out.
  static constexpr uint32_t kClosed = 1u << 31;
  alignas(64) std::atomic<uint32_t> inside_{kClosed};
};

int default_threads() {
  if (const char* text = std::getenv("AITER_NUM_THREADS"))
    if (int n = std::atoi(text); n > 0) return n;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

std::atomic<int> wanted{0};  // 0 = not yet known
std::mutex* pool_mutex = new std::mutex;
Pool* pool = nullptr;  // guarded by pool_mutex; never freed at exit, when callers may still run
int pool_threads = 0;

// The child of a fork has none of the workers: forget them, and the lock's state with them.
void forget_pool() {
  pool_mutex = new std::mutex;
  pool = nullptr;
  pool_threads = 0;
}

}  // namespace

void relax(int& spins) {
  // Long enough for what is near its end; after that, another thread may need the processor.
  if (++spins > 1000 && spins % 64 == 0)
    sched_yield();
  else
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

int num_threads() {
  int n = wanted.load(std::memory_order_relaxed);
  if (n == 0) {
    n = default_threads();
    wanted.store(n, std::memory_order_relaxed);
  }
  return n;
}

int64_t row_grain(int64_t elements) { return 16384 / (elements + 1) + 1; }

int64_t row_pieces(int64_t rows, int64_t elements) {
  return std::clamp<int64_t>(rows / row_grain(elements), 1, num_threads());
}

void run_tasks(int64_t tasks, void (*body)(void*, int64_t, int), void* context) {
  const int threads = num_threads();
  if (threads > 1 && tasks > 1 && !inside && pool_mutex->try_lock()) {
    std::lock_guard lock(*pool_mutex, std::adopt_lock);
    if (pool_threads != threads) {
      static const int at_fork = pthread_atfork(nullptr, nullptr, forget_pool);
      (void)at_fork;
      delete pool;
      pool = nullptr;
      pool_threads = 0;
      pool = new Pool(threads - 1);
      pool_threads = threads;
    }
    inside = true;
    pool->run(tasks, body, context);
    inside = false;
    return;
  }
  for (int64_t task = 0; task < tasks; ++task) body(context, task, 0);
}

}  // namespace aiter

extern "C" aiter_status aiter_set_num_threads(int32_t n) {
  return aiter::entry("set_num_threads", [&] {
    if (n < 0 || n > 4096)
      aiter::fail(AITER_INVALID_ARGUMENT, "set_num_threads: n is %d, expected 0 to 4096", n);
    aiter::wanted.store(n ? n : aiter::default_threads(), std::memory_order_relaxed);
  });
}

extern "C" int32_t aiter_get_num_threads(void) { return aiter::num_threads(); }
