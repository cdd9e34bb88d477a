#include "ops/norm/norm_backward/norm_backward_args.h"
#include "simd/norm.h"

namespace aiter::AITER_ISA {
namespace {

template <class T>
struct BackwardRow {
  const T *dy, *x, *dresidual;
  T* dx;
  BackwardRow(const NormBackwardArgs& a, int64_t r)
      : dy(static_cast<const T*>(a.dy) + a.dy_rows.offset(r)),
        x(static_cast<const T*>(a.x) + a.x_rows.offset(r)),
        dresidual(a.dresidual ? static_cast<const T*>(a.dresidual) + a.dresidual_rows.offset(r)
                              : nullptr),
        dx(static_cast<T*>(a.dx) + a.dx_rows.offset(r)) {}
};

// What the gradient of a row follows from: a number v of the row became (v - mean) * scale; offset
// and slope are of the gradients times their gain, by v - mean.
struct Gradient {
  float mean, scale, offset, slope;
};

// In one pass: sums of x, of the gradients d, and of their products, about a shift as in row_moments().
template <NormKind kKind, class T, class W>
AITER_INLINE Gradient row_gradient(const NormBackwardArgs& a, const BackwardRow<T>& row) {
  const int64_t hidden = a.hidden, whole = hidden - hidden % kLanes;
  const int rest = static_cast<int>(hidden - whole);
  const float count = static_cast<float>(hidden);
  const W* w = static_cast<const W*>(a.w);
  const Vec one = set1(a.gemma ? 1.0f : 0.0f);
  float shift = kKind == NormKind::kLayer ? to_float(row.x[0]) : 0;
  for (bool again = false;; again = true) {
    const Vec shifts = set1(shift);
    Vec sums[4], squares[4], gradients[4], products[4];
    for (int k = 0; k < 4; ++k) sums[k] = squares[k] = gradients[k] = products[k] = zero();
    auto add = [&](int k, Vec d, Vec v) {
      if constexpr (kKind == NormKind::kLayer) {
        v = v - shifts;
        sums[k] = sums[k] + v;
        gradients[k] = gradients[k] + d;
      }
      squares[k] = fma(v, v, squares[k]);
      products[k] = fma(d, v, products[k]);
    };
    auto gained = [&](int k, Vec d, Vec v, Vec g) { add(k, d * (g + one), v); };
    if (w)
      each_lanes(whole, gained, row.dy, row.x, w);
    else
      each_lanes(whole, add, row.dy, row.x);
    if (rest) {
      float last[kLanes];
      store(last, shifts);  // lanes beyond the row add nothing
      store_n(last, load_n(row.x + whole, rest), rest);
      const Vec d = load_n(row.dy + whole, rest);
      if (w)
        gained(0, d, load(last), load_n(w + whole, rest));
      else
        add(0, d, load(last));
    }
    auto total = [](const Vec(&v)[4]) { return reduce_add((v[0] + v[1]) + (v[2] + v[3])); };
    const float mean = total(sums) / count;  // beyond the shift
    float variance = total(squares) / count - mean * mean;
    if (!again && mean * mean > 16 * variance) {
      shift += mean;
      continue;
    }
    if (variance < 0) variance = 0;
    const float scale = 1.0f / __builtin_sqrtf(variance + a.eps), gradient = total(gradients);
    const float product = total(products) - mean * gradient;
    return {shift + mean, scale, gradient / count, -product * scale * scale / count};
  }
}

// The gradient of one row; adds to the sums where they are not null. ahead(i) as in map_lanes().
template <NormKind kKind, class T, class W, class Ahead>
AITER_INLINE void backward_row(const NormBackwardArgs& a, int64_t r, float* dw, float* db,
                               float* dx_bias, bool streamed, Ahead&& ahead) {
  const BackwardRow<T> row(a, r);
  const W* w = static_cast<const W*>(a.w);
  const Gradient g = row_gradient<kKind, T, W>(a, row);
  const Vec mean = set1(g.mean), scale = set1(g.scale), offset = set1(g.offset),
            slope = set1(g.slope), one = set1(a.gemma ? 1.0f : 0.0f);
  auto gradient = [&](int64_t i, int n) {
    const Vec dy = load_some(row.dy + i, n);
    Vec v = load_some(row.x + i, n);
    if constexpr (kKind == NormKind::kLayer) v = v - mean;
    Vec d = w ? dy * (load_some(w + i, n) + one) : dy;
    if constexpr (kKind == NormKind::kLayer) d = d - offset;
    d = fma(slope, v, d) * scale;
    if (row.dresidual) d = d + load_some(row.dresidual + i, n);
    if (dw) store_some(dw + i, fma(dy, v * scale, load_some(dw + i, n)), n);
    if (db) store_some(db + i, dy + load_some(db + i, n), n);
    if (dx_bias) store_some(dx_bias + i, d + load_some(dx_bias + i, n), n);
    return d;
  };
  streamed = streamed && reinterpret_cast<uintptr_t>(row.dx) % 64 == 0;
  int64_t i = 0;
  for (; i + 2 * kLanes <= a.hidden; i += 2 * kLanes) {
    if (i % kAhead == 0) ahead(i);
    const Vec d = gradient(i, kLanes);
    store_pair<false>(row.dx + i, {d, gradient(i + kLanes, kLanes)}, streamed);
  }
  for_lanes(a.hidden - i,
            [&](int64_t j, int n) { store_some(row.dx + i + j, gradient(i + j, n), n); });
}

// out = the sum of the slots.
template <class W>
AITER_INLINE void add_slots(const NormBackwardArgs& a, const float* partial, void* out) {
  if (!out) return;
  parallel_for(a.hidden, 4096, [&](int64_t begin, int64_t end) {
    for_lanes(end - begin, [&](int64_t i, int n) {
      Vec sum = zero();
      for (int64_t s = 0; s < a.slots; ++s)
        sum = sum + load_some(partial + s * a.hidden + begin + i, n);
      store_some(static_cast<W*>(out) + begin + i, sum, n);
    });
  });
}

template <NormKind kKind, class T, class W>
void backward(const NormBackwardArgs& a) {
  float* dw = a.dw ? a.partial : nullptr;
  float* db = a.db ? a.db_partial() : nullptr;
  float* dx_bias = a.dx_bias ? a.dx_bias_partial() : nullptr;
  const int64_t rows = a.x_rows.count, row_bytes = a.hidden * static_cast<int64_t>(sizeof(T));
  const bool in_place = a.dx == a.dy || a.dx == a.x || a.dx == a.dresidual;
  const bool streamed = !in_place && worth_streaming(a.dx, rows * row_bytes, sizeof(T));
  parallel_tasks(a.slots, [&](int64_t s, int) {
    auto slot = [&](float* sum) { return sum ? sum + s * a.hidden : nullptr; };
    float* sums[] = {slot(dw), slot(db), slot(dx_bias)};
    for (float* sum : sums)
      if (sum) memset(sum, 0, static_cast<size_t>(a.hidden) * sizeof(float));
    const int64_t begin = rows * s / a.slots, end = rows * (s + 1) / a.slots;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t later = row_ahead(r, begin, end, row_bytes);
      const BackwardRow<T> next(a, later < 0 ? r : later);
      backward_row<kKind, T, W>(a, r, sums[0], sums[1], sums[2], streamed, [&](int64_t i) {
        if (later < 0) return;
        prefetch<true>(next.dy + i, kAhead);
        prefetch<true>(next.x + i, kAhead);
      });
    }
    if (streamed) stream_fence();
  });
  add_slots<W>(a, dw, a.dw);
  add_slots<W>(a, db, a.db);
  if (a.dx_bias_dtype == DType::kF32)
    add_slots<float>(a, dx_bias, a.dx_bias);
  else
    add_slots<T>(a, dx_bias, a.dx_bias);
}

// Without slots: a column of dw is one sum over the rows.
template <NormKind kKind, class T, class W>
void plain_backward(const NormBackwardArgs& a) {
  const W* w = static_cast<const W*>(a.w);
  W *dw = static_cast<W*>(a.dw), *db = static_cast<W*>(a.db);
  float *sum_w = a.partial, *sum_b = a.db_partial(), *sum_x = a.dx_bias_partial();
  const bool rows = a.x_rows.count > 0;  // without, there is no room for sums, and none are needed
  for (int64_t i = 0; rows && i < a.hidden; ++i) {
    if (dw) sum_w[i] = 0;
    if (db) sum_b[i] = 0;
    if (a.dx_bias) sum_x[i] = 0;
  }
  const double count = static_cast<double>(a.hidden);
  for (int64_t r = 0; r < a.x_rows.count; ++r) {
    const BackwardRow<T> row(a, r);
    double mean = 0, squares = 0, gradient = 0, product = 0;
    auto gain = [&](int64_t i) { return w ? to_float(w[i]) + (a.gemma ? 1.0f : 0.0f) : 1.0f; };
    if (kKind == NormKind::kLayer) {
      for (int64_t i = 0; i < a.hidden; ++i) mean += to_float(row.x[i]);
      mean /= count;
    }
    for (int64_t i = 0; i < a.hidden; ++i) {
      const double v = to_float(row.x[i]) - mean, d = to_float(row.dy[i]) * gain(i);
      squares += v * v;
      gradient += d;
      product += d * v;
    }
    const double scale = 1 / __builtin_sqrt(squares / count + a.eps);
    const double slope = product * scale * scale / count;
    const double offset = kKind == NormKind::kLayer ? gradient / count : 0;
    for (int64_t i = 0; i < a.hidden; ++i) {
      const double v = to_float(row.x[i]) - mean;
      const float dy = to_float(row.dy[i]);
      double d = (dy * static_cast<double>(gain(i)) - offset - slope * v) * scale;
      if (row.dresidual) d += to_float(row.dresidual[i]);
      row.dx[i] = from_float<T>(static_cast<float>(d));
      if (dw) sum_w[i] += static_cast<float>(dy * v * scale);
      if (db) sum_b[i] += dy;
      if (a.dx_bias) sum_x[i] += static_cast<float>(d);
    }
  }
  for (int64_t i = 0; i < a.hidden; ++i) {
    if (dw) dw[i] = from_float<W>(rows ? sum_w[i] : 0.0f);
    if (db) db[i] = from_float<W>(rows ? sum_b[i] : 0.0f);
    if (!a.dx_bias) continue;
    const float sum = rows ? sum_x[i] : 0.0f;
    if (a.dx_bias_dtype == DType::kF32)
      static_cast<float*>(a.dx_bias)[i] = sum;
    else
      static_cast<T*>(a.dx_bias)[i] = from_float<T>(sum);
  }
}

// Calls f(kind, T{}, W{}) with the kind of norm and the types of x and of the weights.
template <class F>
void with_types(const NormBackwardArgs& a, F&& f) {
  with_float_type(a.dtype, [&](auto t) {
    auto with_weights = [&](auto w) {
      if (a.kind == NormKind::kRms)
        f.template operator()<NormKind::kRms>(t, w);
      else
        f.template operator()<NormKind::kLayer>(t, w);
    };
    if (a.w_dtype == DType::kF32)
      with_weights(float{});
    else
      with_weights(t);
  });
}

}  // namespace

void norm_backward_cpu_simd(const NormBackwardArgs& a) {
  with_types(a, [&]<NormKind kKind, class T, class W>(T, W) { backward<kKind, T, W>(a); });
}

void norm_backward_cpu_ref(const NormBackwardArgs& a) {
  with_types(a, [&]<NormKind kKind, class T, class W>(T, W) { plain_backward<kKind, T, W>(a); });
}

}  // namespace aiter::AITER_ISA
