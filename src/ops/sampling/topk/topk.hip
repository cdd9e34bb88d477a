// One block a row, and three or four passes over it, which the caches serve after the first: the
// k-th best element by radix selection, then all up to it in the order of their indices, which are
// sorted in shared memory if asked for.
#include "ck/sampling/radix_select.h"
#include "ops/sampling/topk/topk_args.h"

namespace aiter {

constexpr int kSorted = 2048;  // sorted at a time

// Ascending; `size` is a power of two.
AITER_DEVICE void bitonic_sort(uint64_t* items, int size) {
  for (int run = 2; run <= size; run *= 2)
    for (int step = run / 2; step > 0; step /= 2) {
      barrier();
      for (int t = thread_index(); t < size / 2; t += block_threads()) {
        const int low = (t & (step - 1)) | (t & ~(step - 1)) << 1, high = low | step;
        const uint64_t a = items[low], b = items[high];
        if ((a > b) == ((low & run) == 0)) items[low] = b, items[high] = a;
      }
    }
  barrier();
}

template <class T, int N>
struct TopkRow {
  const TopkArgs& a;
  const T* x;
  int64_t begin, end;
  T* values;
  char* indices;

  AITER_DEVICE TopkRow(const TopkArgs& args, int64_t r)
      : a(args),
        x(static_cast<const T*>(args.x) + args.x_rows.offset(r)),
        begin(args.begin(r)),
        end(args.end(r)) {
    values = a.values ? static_cast<T*>(a.values) + a.values_rows.offset(r) : nullptr;
    indices = static_cast<char*>(a.indices) +
              a.indices_rows.offset(r) * (a.index_dtype == DType::kI32 ? 4 : 8);
  }

  AITER_DEVICE static T worst(bool smallest) {
    if constexpr (is_same<T, int32_t>)
      return smallest ? 0x7fffffff : -0x7fffffff - 1;
    else
      return from_float<T>(smallest ? kInfinity : -kInfinity);
  }
  AITER_DEVICE void set(int64_t j, int64_t index) const {
    store_index(indices, a.index_dtype, j * a.indices_stride, index);
    if (values) values[j * a.values_stride] = index < 0 ? worst(a.smallest) : x[index * a.x_stride];
  }

  // Keys of elements i to i + N - 1; those outside the range are not there: valid(i + j).
  AITER_DEVICE void keys(int64_t i, uint32_t (&key)[N]) const {
    uint32_t bits[N] = {};
    if constexpr (N == 1) {
      if (valid(i)) load_bits(x + i * a.x_stride, 0, 1, bits);
    } else {
      load_bits(x, i, a.n, bits);
    }
    constexpr uint32_t kMask = 0xffffffffu >> (32 - Key<T>::kBits);
    AITER_UNROLL
    for (int j = 0; j < N; ++j)
      key[j] = a.smallest ? Key<T>::of(bits[j]) ^ kMask : Key<T>::of(bits[j]);
  }
  AITER_DEVICE bool valid(int64_t i) const { return i >= begin && i < end; }
  AITER_DEVICE int64_t chunks_begin() const { return begin / N * N; }
};

template <class T, int N>
AITER_DEVICE void topk(const TopkArgs& a) {
  AITER_SHARED RadixScratch<uint32_t> scratch;
  AITER_SHARED uint64_t items[kSorted];  // better ones are less
  const int chunk = block_threads() * N;
  for (int64_t r = block_index_x(); r < a.x_rows.count; r += grid_blocks()) {
    const TopkRow<T, N> row(a, r);
    const int64_t length = row.end > row.begin ? row.end - row.begin : 0;
    const int64_t want = a.k < length ? a.k : length;
    // What is sorted before has been written already: elements worse than the last one are left.
    uint32_t last_key = 0xffffffff;
    int64_t last_index = -1;
    for (int64_t done = 0; done < want;) {
      auto left = [&](uint32_t key, int64_t i) {
        return row.valid(i) && (key < last_key || (key == last_key && i > last_index));
      };
      const int64_t some = a.sorted && want - done > kSorted ? kSorted : want - done;
      const Selected<uint32_t> found =
          radix_select<Key<T>::kBits>(static_cast<uint32_t>(some), scratch, [&](auto&& f) {
            for (int64_t i = row.chunks_begin() + thread_index() * N; i < row.end; i += chunk) {
              uint32_t key[N];
              row.keys(i, key);
              AITER_UNROLL
              for (int j = 0; j < N; ++j)
                if (left(key[j], i + j)) f(key[j], 1u);
            }
          });
      int64_t written = 0;
      uint32_t ties = static_cast<uint32_t>(some) - found.above;  // of found.key itself
      for (int64_t base = row.chunks_begin(); base < row.end && written < some; base += chunk) {
        const int64_t i = base + thread_index() * N;
        uint32_t key[N];
        uint32_t count = 0;  // larger ones, and equal ones in the upper half
        if (i < row.end) {
          row.keys(i, key);
          AITER_UNROLL
          for (int j = 0; j < N; ++j)
            if (left(key[j], i + j))
              count += key[j] > found.key ? 1 : key[j] == found.key ? 65536 : 0;
        }
        const Scan<uint32_t> scan = block_scan(count, scratch.waves);
        if (count) {
          uint32_t equal = scan.before >> 16;
          int64_t at = written + (scan.before & 0xffff) + min(equal, ties);
          AITER_UNROLL
          for (int j = 0; j < N; ++j) {
            if (!left(key[j], i + j) || key[j] < found.key) continue;
            if (key[j] == found.key && equal++ >= ties) continue;
            if (a.sorted)
              items[at] = static_cast<uint64_t>(~key[j]) << 32 | static_cast<uint32_t>(i + j);
            else
              row.set(at, i + j);
            ++at;
          }
        }
        const uint32_t equal = min(scan.total >> 16, ties);
        written += (scan.total & 0xffff) + equal;
        ties -= equal;
      }
      if (a.sorted) {
        int size = 1;
        while (size < some) size *= 2;
        for (int i = static_cast<int>(some) + thread_index(); i < size; i += block_threads())
          items[i] = ~uint64_t{0};
        barrier();
        bitonic_sort(items, size);
        for (int j = thread_index(); j < some; j += block_threads())
          row.set(done + j, static_cast<uint32_t>(items[j]));
        last_key = ~static_cast<uint32_t>(items[some - 1] >> 32);
        last_index = static_cast<uint32_t>(items[some - 1]);
        barrier();
      }
      done += some;
    }
    for (int64_t j = want + thread_index(); j < a.k; j += block_threads()) row.set(j, -1);
  }
}

}  // namespace aiter

#define AITER_TOPK(row, aligned, T)                               \
  AITER_KERNEL(topk_##row##_##T, 1024)(const aiter::TopkArgs a) { \
    aiter::wait_for_previous_kernel();                            \
    aiter::topk<aiter::T, aligned>(a);                            \
  }
#define AITER_TOPK_TYPES(row, n4, n2) \
  AITER_TOPK(row, n4, f32)            \
  AITER_TOPK(row, n2, f16)            \
  AITER_TOPK(row, n2, bf16)           \
  AITER_TOPK(row, n4, i32)
namespace aiter {
using i32 = int32_t;
}
AITER_TOPK_TYPES(hip_vec, 4, 8)
AITER_TOPK_TYPES(hip_any, 1, 1)
