// The stages of the transform in registers, five at a time on 32 elements of a thread, between which
// threads exchange them through shared memory; or, for whatever the contract allows, all in shared
// memory, one after the other.
#include "ck/quant/quantize.h"
#include "ops/quant/rotate_activation/rotate_activation_args.h"

namespace aiter {

// Which elements of a row a thread has: of the five bits of an element's number k in the thread, the
// high kStages are bits of its column from kBit on, and the others the column's lowest; the thread's
// number has the rest of the column.
template <int kStages, int kBit>
struct ElementsOfThread {
  static constexpr int kLow = 5 - kStages, kRun = 1 << kLow;  // of neighbours
  // The first element's column, and how far the k-th is from it.
  AITER_DEVICE static int first(int t) {
    constexpr int kBelow = kBit - kLow;  // bits of t
    return (t & ((1 << kBelow) - 1)) << kLow | t >> kBelow << (kBit + kStages);
  }
  AITER_DEVICE static constexpr int distance(int k) { return (k & (kRun - 1)) | k >> kLow << kBit; }
};

// Where a column lies in shared memory: there are gaps, so that lanes meet in few banks.
AITER_DEVICE constexpr int padded(int column) { return column + column / 32 * 4; }

// From the elements that threads have to those that they need. Each writes where it has read the time
// before, so that one barrier is enough.
template <class From, class To, bool kWithinWave>
AITER_DEVICE void exchange(float (&v)[32], float* row, int t) {
  constexpr int kFrom = From::kRun < 4 ? From::kRun : 4, kTo = To::kRun < 4 ? To::kRun : 4;
  float* to = row + padded(From::first(t));
  AITER_UNROLL
  for (int k = 0; k < 32; k += kFrom)
    store_floats<kFrom>(to + padded(From::distance(k)),
                        reinterpret_cast<const float (&)[kFrom]>(v[k]));
  if (kWithinWave)
    wave_barrier();
  else
    barrier();
  const float* from = row + padded(To::first(t));
  AITER_UNROLL
  for (int k = 0; k < 32; k += kTo)
    load_floats<kTo>(from + padded(To::distance(k)), reinterpret_cast<float (&)[kTo]>(v[k]));
}

// The stages of bits kFirst to kLast of the elements' numbers.
template <int kFirst, int kLast = 4>
AITER_DEVICE void stages(float (&v)[32]) {
  AITER_UNROLL
  for (int stage = kFirst; stage <= kLast; ++stage) {
    AITER_UNROLL
    for (int k = 0; k < 32; ++k) {
      if (k >> stage & 1) continue;
      const float sum = v[k] + v[k + (1 << stage)];
      v[k + (1 << stage)] = v[k] - v[k + (1 << stage)];
      v[k] = sum;
    }
  }
}

// A row of 2^kLog2 columns, of which a thread has 32 neighbours at first.
template <int kLog2>
struct RowOf {
  static constexpr int kRounds = kLog2 <= 5 ? 1 : kLog2 <= 10 ? 2 : 3;
  static constexpr bool kWithinWave = kLog2 <= 5 || 1 << (kLog2 <= 5 ? 0 : kLog2 - 5) <= kWave;
  using Neighbours = ElementsOfThread < 0, kLog2<5 ? 5 : kLog2>;
  using Middle = ElementsOfThread<kRounds == 2 ? kLog2 - 5 : 5, 5>;
  using High = ElementsOfThread<kRounds == 3 ? kLog2 - 10 : 1, 10>;
  // Two runs of 16, as RowQuantizer takes them; and where runs would be too short to store.
  using Halves = ElementsOfThread < 1, kLog2<5 ? 4 : kLog2 - 1>;
  static constexpr bool kShortRuns = kRounds == 2 && Middle::kRun < 4;

  AITER_DEVICE static void transform(float (&v)[32], float* row, int t) {
    stages < 0, kLog2<5 ? kLog2 - 1 : 4>(v);
    if constexpr (kRounds > 1) {
      exchange<Neighbours, Middle, kWithinWave>(v, row, t);
      stages<Middle::kLow>(v);
    }
    if constexpr (kRounds > 2) {
      exchange<Middle, High, kWithinWave>(v, row, t);
      stages<High::kLow>(v);
    }
  }
  AITER_DEVICE static void to_halves(float (&v)[32], float* row, int t) {
    if constexpr (kRounds == 2 && !is_same<Middle, Halves>)
      exchange<Middle, Halves, kWithinWave>(v, row, t);
    if constexpr (kRounds == 3 && !is_same<High, Halves>)
      exchange<High, Halves, kWithinWave>(v, row, t);
  }
  template <class T>
  AITER_DEVICE static void store(const float (&v)[32], T* y, int t) {
    if constexpr (kRounds == 1)
      Packs<T, 32>::from_floats(v).store(y, t * 32, 1 << kLog2);
    else if constexpr (kRounds == 3)
      store_runs<High>(v, y, t);
    else if constexpr (kShortRuns)
      store_runs<Halves>(v, y, t);
    else
      store_runs<Middle>(v, y, t);
  }

 private:
  template <class Elements, class T>
  AITER_DEVICE static void store_runs(const float (&v)[32], T* y, int t) {
    constexpr int N = Elements::kRun;
    AITER_UNROLL
    for (int k = 0; k < 32; k += N)
      store_floats<N>(y + Elements::first(t) + Elements::distance(k),
                      reinterpret_cast<const float (&)[N]>(v[k]));
  }
};

template <class F>
AITER_DEVICE void with_row(int cols, F&& f) {
  switch (31 - __builtin_clz(static_cast<uint32_t>(cols))) {
    case 4:
      return f(RowOf<4>{});
    case 5:
      return f(RowOf<5>{});
    case 6:
      return f(RowOf<6>{});
    case 7:
      return f(RowOf<7>{});
    case 8:
      return f(RowOf<8>{});
    case 9:
      return f(RowOf<9>{});
    case 10:
      return f(RowOf<10>{});
    case 11:
      return f(RowOf<11>{});
    case 12:
      return f(RowOf<12>{});
    default:
      return f(RowOf<13>{});
  }
}

// Rows of 16 columns and more. The grid has a block for each, or for several.
template <class T, bool kCodes>
AITER_DEVICE void rotate_rows(const RotateActivationArgs& a) {
  AITER_DYNAMIC_SHARED(shared);
  const int threads = a.threads_per_row, cols = static_cast<int>(a.cols);
  const int t = thread_of_row(threads);
  float* row = reinterpret_cast<float*>(shared) + thread_index() / threads * (padded(cols) + 4);
  const int64_t mine = row_of_thread(threads);
  // Whole waves take part in exchanges: lanes without a row repeat the last one.
  const bool there = mine < a.x_rows.count;
  const int64_t r = there ? mine : a.x_rows.count - 1;
  float v[32];
  Packs<T, 32> x;
  x.load(static_cast<const T*>(a.x) + a.x_rows.offset(r), t * 32, cols);
  x.to_floats(v);
  with_row(cols, [&] AITER_LAMBDA(auto kind) {
    using Row = decltype(kind);
    Row::transform(v, row, t);
    AITER_UNROLL
    for (int k = 0; k < 32; ++k) v[k] *= a.scale;
    if constexpr (kCodes || Row::kShortRuns) Row::to_halves(v, row, t);
    if (kCodes || !there) return;
    const int64_t to = a.y_rows.offset(r);
    if (a.y_dtype == DType::kF32)
      Row::store(v, static_cast<f32*>(a.y) + to, t);
    else if (a.y_dtype == DType::kF16)
      Row::store(v, static_cast<f16*>(a.y) + to, t);
    else
      Row::store(v, static_cast<bf16*>(a.y) + to, t);
  });
  if constexpr (kCodes) {
    AITER_SHARED float scratch[1024 / kWave];
    const QuantOut& q = a.out;
    float amax = 0;
    if (needs_row_amax(q)) amax = row_reduce<Max>(max_magnitude(0.0f, v), threads, scratch);
    const RowQuantizer<16> quantizer(q, r, amax, t == 0, there);
    quantizer.store(t * 16, reinterpret_cast<const float (&)[16]>(v[0]));
    if (threads * 16 < cols)
      quantizer.store((threads + t) * 16, reinterpret_cast<const float (&)[16]>(v[16]));
  }
}

template <class T>
AITER_DEVICE void rotate_activation(const RotateActivationArgs& a) {
  constexpr int N = 4;
  AITER_DYNAMIC_SHARED(shared);
  AITER_SHARED float scratch[1024 / kWave];
  float* row = reinterpret_cast<float*>(shared);
  const QuantOut& q = a.out;
  const int threads = block_threads(), t = thread_index(), cols = static_cast<int>(a.cols);
  for (int64_t r = block_index_x(); r < a.x_rows.count; r += grid_blocks()) {
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    for (int i = t; i < cols; i += threads) row[i] = to_float(x[i]);
    barrier();
    for (int h = 1; h < cols; h *= 2) {
      for (int k = t; k < cols / 2; k += threads) {
        const int i = (k & (h - 1)) + (k & -h) * 2;
        const float u = row[i], v = row[i + h];
        row[i] = u + v;
        row[i + h] = u - v;
      }
      barrier();
    }
    if (!q.codes) {
      for (int i = t; i < cols; i += threads)
        store_float(a.y, a.y_rows.offset(r) + i, a.y_dtype, row[i] * a.scale);
    } else {
      auto values = [&](int column, float (&v)[N]) {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) v[k] = column + k < cols ? row[column + k] * a.scale : 0.0f;
      };
      float v[N], amax = 0;
      if (needs_row_amax(q)) {
        for (int i = t * N; i < cols; i += threads * N) {
          values(i, v);
          amax = max_magnitude(amax, v);
        }
        amax = row_reduce<Max>(amax, threads, scratch);
      }
      const RowQuantizer<N> quantizer(q, r, amax, t == 0);
      for (int start = 0; start < cols; start += threads * N) {
        values(start + t * N, v);
        quantizer.store(start + t * N, v);
      }
    }
    barrier();  // before the next row overwrites this one
  }
}

}  // namespace aiter

#define AITER_ROTATE_ACTIVATION(T)                                                              \
  AITER_KERNEL(rotate_activation_hip_vec_##T, 256)(const aiter::RotateActivationArgs a) {       \
    aiter::wait_for_previous_kernel();                                                          \
    aiter::rotate_rows<aiter::T, false>(a);                                                     \
  }                                                                                             \
  AITER_KERNEL(rotate_activation_hip_vec_codes_##T, 256)(const aiter::RotateActivationArgs a) { \
    aiter::wait_for_previous_kernel();                                                          \
    aiter::rotate_rows<aiter::T, true>(a);                                                      \
  }                                                                                             \
  AITER_KERNEL(rotate_activation_hip_any_##T, 512)(const aiter::RotateActivationArgs a) {       \
    aiter::wait_for_previous_kernel();                                                          \
    aiter::rotate_activation<aiter::T>(a);                                                      \
  }
AITER_ROTATE_ACTIVATION(f32)
AITER_ROTATE_ACTIVATION(f16)
AITER_ROTATE_ACTIVATION(bf16)
