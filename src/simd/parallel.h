// The thread pool of the CPU rows. Safe to include from files compiled per instruction set: nothing
// here instantiates library templates.
#pragma once

#include <cstdint>

namespace aiter {

int num_threads();

// Rows, of `elements` each, that are worth a thread of their own: parallel_for's grain.
int64_t row_grain(int64_t elements);
// The pieces that so many rows are worth, where each needs memory of its own; 1 at least.
int64_t row_pieces(int64_t rows, int64_t elements);

// Runs body(context, task, thread) for every task in [0, tasks), on at most num_threads() threads,
// handing out tasks in order. `thread` is in [0, num_threads()). Returns when all have finished.
// Nested and concurrent calls run on the calling thread alone. The body must not throw.
void run_tasks(int64_t tasks, void (*body)(void* context, int64_t task, int thread), void* context);

// A step of waiting for another thread; spins counts the steps, from 0.
void relax(int& spins);

// f(task, thread)
template <class F>
inline void parallel_tasks(int64_t tasks, F&& f) {
  if (tasks == 1) return f(int64_t{0}, 0);
  run_tasks(
      tasks,
      [](void* context, int64_t task, int thread) { (*static_cast<F*>(context))(task, thread); },
      &f);
}

// f(begin, end) over [0, n) in even pieces of at least `grain`: for rows of equal cost.
template <class F>
inline void parallel_for(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
  if (grain < 1) grain = 1;
  int64_t pieces = n / grain;
  if (pieces > num_threads()) pieces = num_threads();
  if (pieces <= 1) return f(int64_t{0}, n);
  parallel_tasks(pieces,
                 [&](int64_t piece, int) { f(n * piece / pieces, n * (piece + 1) / pieces); });
}

}  // namespace aiter
