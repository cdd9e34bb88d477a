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

// The gradient of one row; adds to the sums where they are not null. A row is in the cache for the
// passes after the first.
template <NormKind kKind, class T, class W>
AITER_INLINE void backward_row(const NormBackwardArgs& a, int64_t r, float* dw, float* db,
                               float* dx_bias) {
  const BackwardRow<T> row(a, r);
  const int64_t hidden = a.hidden;
  const float count = static_cast<float>(hidden);
  const W* w = static_cast<const W*>(a.w);
  const Moments moments = row_moments<kKind>(hidden, a.eps, [](Vec v) { return v; }, row.x);
  const Vec mean = set1(moments.mean), scale = set1(moments.scale);
  const Vec one = set1(a.gemma ? 1.0f : 0.0f);
  auto centred = [&](Vec x) { return kKind == NormKind::kLayer ? x - mean : x; };

  // Sums of the gradient times the gain, and of that times x - mean. The lanes beyond a row's end
  // have dy = 0.
  Vec gradients[4] = {zero(), zero(), zero(), zero()};
  Vec products[4] = {zero(), zero(), zero(), zero()};
  auto add = [&](int k, Vec d, Vec x) {
    if constexpr (kKind == NormKind::kLayer) gradients[k] = gradients[k] + d;
    products[k] = fma(d, centred(x), products[k]);
  };
  if (w)
    each_lanes(
        hidden, [&](int k, Vec d, Vec x, Vec g) { add(k, d * (g + one), x); }, row.dy, row.x, w);
  else
    each_lanes(hidden, add, row.dy, row.x);
  auto total = [](const Vec(&v)[4]) { return reduce_add((v[0] + v[1]) + (v[2] + v[3])); };
  const Vec offset = set1(total(gradients) / count);
  const Vec slope = set1(-total(products) * moments.scale * moments.scale / count);

  for_lanes(hidden, [&](int64_t i, int n) {
    const Vec dy = load_some(row.dy + i, n), v = centred(load_some(row.x + i, n));
    Vec d = w ? dy * (load_some(w + i, n) + one) : dy;
    if constexpr (kKind == NormKind::kLayer) d = d - offset;
    d = fma(slope, v, d) * scale;
    if (row.dresidual) d = d + load_some(row.dresidual + i, n);
    store_some(row.dx + i, d, n);
    if (dw) store_some(dw + i, fma(dy, v * scale, load_some(dw + i, n)), n);
    if (db) store_some(db + i, dy + load_some(db + i, n), n);
    if (dx_bias) store_some(dx_bias + i, d + load_some(dx_bias + i, n), n);
  });
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
  parallel_tasks(a.slots, [&](int64_t s, int) {
    const int64_t rows = a.x_rows.count;
    auto slot = [&](float* sum) { return sum ? sum + s * a.hidden : nullptr; };
    float* sums[] = {slot(dw), slot(db), slot(dx_bias)};
    for (float* sum : sums)
      if (sum) memset(sum, 0, static_cast<size_t>(a.hidden) * sizeof(float));
    for (int64_t r = rows * s / a.slots; r < rows * (s + 1) / a.slots; ++r)
      backward_row<kKind, T, W>(a, r, sums[0], sums[1], sums[2]);
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
