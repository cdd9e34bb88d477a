#include "ops/sampling/topk/topk_args.h"
#include "simd/parallel.h"
#include "simd/scratch.h"
#include "simd/top_k.h"

namespace aiter::AITER_ISA {
namespace {

template <class F>
void with_type(DType dtype, F&& f) {
  if (dtype == DType::kI32) return f(int32_t{});
  with_float_type(dtype, f);
}

// What fills up rows with less than k elements: the worst value.
template <class T>
T worst(bool smallest) {
  return from_float<T>(smallest ? __builtin_inff() : -__builtin_inff());
}
template <>
int32_t worst<int32_t>(bool smallest) {
  return smallest ? INT32_MAX : INT32_MIN;
}

// The outputs of one row.
template <class T>
struct Output {
  const TopkArgs& a;
  const T* x;
  int64_t indices_at, values_at;

  Output(const TopkArgs& args, int64_t row)
      : a(args),
        x(static_cast<const T*>(args.x) + args.x_rows.offset(row)),
        indices_at(args.indices_rows.offset(row)),
        values_at(args.values ? args.values_rows.offset(row) : 0) {}

  void set(int64_t j, int64_t index) const {
    store_index(a.indices, a.index_dtype, indices_at + j * a.indices_stride, index);
    if (!a.values) return;
    T& value = static_cast<T*>(a.values)[values_at + j * a.values_stride];
    value = index < 0 ? worst<T>(a.smallest) : x[index * a.x_stride];
  }
};

template <class T>
void topk_row(const TopkArgs& a, int64_t row, TopK& best, T* copy) {
  const Output<T> out(a, row);
  const int64_t begin = a.begin(row), end = a.end(row);
  const int64_t n = end > begin ? end - begin : 0;
  const T* x = out.x + begin * a.x_stride;
  if (copy) {
    for (int64_t i = 0; i < n; ++i) copy[i] = x[i * a.x_stride];
    x = copy;
  }
  best.select(x, n, a.smallest ? -1 : 0);
  if (a.sorted) best.sort();
  for (int64_t j = 0; j < best.count(); ++j) out.set(j, begin + best.indices()[j]);
  for (int64_t j = best.count(); j < a.k; ++j) out.set(j, -1);
}

}  // namespace

void topk_cpu_simd(const TopkArgs& a) {
  if (a.k == 0 || a.x_rows.count == 0) return;
  with_type(a.dtype, [&]<class T>(T) {
    const int64_t grain = 16384 / (a.n + 1) + 1;  // rows worth a task of their own
    const int64_t tasks = (a.x_rows.count + grain - 1) / grain;
    const int64_t threads = tasks == 1 ? 1 : num_threads();
    const bool strided = a.x_stride != 1;
    const int64_t select_bytes = TopK::scratch_bytes(a.n, a.k);
    const int64_t bytes = (select_bytes + (strided ? a.n * int64_t{sizeof(T)} : 0) + 63) / 64 * 64;
    uint8_t* memory = scratch(bytes * threads);
    parallel_tasks(tasks, [&](int64_t task, int thread) {
      uint8_t* mine = memory + thread * bytes;
      TopK best(mine, a.n, a.k);
      T* copy = strided ? reinterpret_cast<T*>(mine + select_bytes) : nullptr;
      const int64_t end = (task + 1) * grain < a.x_rows.count ? (task + 1) * grain : a.x_rows.count;
      for (int64_t r = task * grain; r < end; ++r) topk_row<T>(a, r, best, copy);
    });
  });
}

// Element by element from the best on; where they are not to be sorted, that finds the last one,
// and all up to it are then taken as they come.
void topk_cpu_ref(const TopkArgs& a) {
  with_type(a.dtype, [&]<class T>(T) {
    for (int64_t r = 0; r < a.x_rows.count; ++r) {
      const Output<T> out(a, r);
      const int64_t begin = a.begin(r), end = a.end(r);
      auto key = [&](int64_t i) { return order_key(out.x + i * a.x_stride, a.smallest ? -1 : 0); };
      auto before = [&](int64_t i, int64_t j) {  // i is better than j
        return key(i) > key(j) || (key(i) == key(j) && i < j);
      };
      int64_t count = 0, last = -1;
      for (; count < a.k; ++count) {
        int64_t best = -1;
        for (int64_t i = begin; i < end; ++i)
          if ((last < 0 || before(last, i)) && (best < 0 || before(i, best))) best = i;
        if (best < 0) break;
        last = best;
        if (a.sorted) out.set(count, best);
      }
      if (!a.sorted) {
        count = 0;
        for (int64_t i = begin; i < end && last >= 0; ++i)
          if (!before(last, i)) out.set(count++, i);
      }
      for (; count < a.k; ++count) out.set(count, -1);
    }
  });
}

}  // namespace aiter::AITER_ISA
