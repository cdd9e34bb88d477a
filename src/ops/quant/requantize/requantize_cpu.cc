#include "ops/quant/requantize/requantize_args.h"
#include "simd/cache.h"
#include "simd/parallel.h"
#include "simd/quantize.h"
#include "simd/scratch.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

// Every code has one value, so a table decodes all formats alike.
struct Table {
  int bits;
  float value[256];
  explicit Table(DType code) : bits(code_bits(code)) {
    with_codec(code, [&]<class Codec>(Codec) {
      for (uint32_t i = 0; i < 1u << Codec::kBits; ++i) value[i] = Codec::decode(i);
    });
  }
  float at(const uint8_t* codes, int64_t i) const {
    const int64_t bit = i * bits;
    const int shift = static_cast<int>(bit % 8);
    uint32_t code = codes[bit / 8] >> shift;
    if (shift + bits > 8) code |= static_cast<uint32_t>(codes[bit / 8 + 1]) << (8 - shift);
    return value[code & ((1u << bits) - 1)];
  }
};

struct Numbers {
  const RequantizeArgs& a;
  Table table;
  explicit Numbers(const RequantizeArgs& args) : a(args), table(args.from.spec.code) {}

  // row[i] = the number in column begin + i, i < n
  void read(int64_t r, int64_t begin, int64_t n, float* row) const {
    const QuantOut& q = a.from;
    const uint8_t* codes = static_cast<const uint8_t*>(q.codes) + q.codes_rows.offset(r);
    const int64_t end = begin + n;
    for (int64_t i = begin; i < end;) {
      const int64_t group = i / q.group_cols;
      const int64_t group_end = (group + 1) * q.group_cols < end ? (group + 1) * q.group_cols : end;
      const float scale = load_scale(q, q.scale_index(r / a.from_group_rows, group));
      for (; i < group_end; ++i) row[i - begin] = table.at(codes, i) * scale;
    }
  }
};

// row[i] = number i of row r, begin <= i < end.
__attribute__((noinline)) void decode(const RequantizeArgs& a, int64_t r, int64_t begin,
                                      int64_t end, float* row) {
  const QuantOut& q = a.from;
  with_codec(q.spec.code, [&]<class Codec>(Codec) {
    decode_row<Codec>(q, static_cast<const uint8_t*>(q.codes) + q.codes_rows.offset(r),
                      q.scale_row(r / a.from_group_rows), begin, end, row, false);
  });
}

// Groups [first, last) of rows.
template <class Codec>
void requantize(const RequantizeArgs& a, int64_t first, int64_t last) {
  const QuantOut& q = a.to;
  const int64_t bytes = a.rows * q.cols * code_bits(q.spec.code) / 8;
  const bool streamed = q.codes != a.from.codes && worth_streaming(q.codes, bytes, 1);
  float* buffer = reinterpret_cast<float*>(scratch(q.cols * static_cast<int64_t>(sizeof(float))));
  int64_t row = -1, column = -1;  // what is in the buffer, from that column on
  auto numbers = [&](int64_t r, int64_t begin, int64_t end) {
    if (r != row || begin != column) decode(a, row = r, column = begin, end, buffer);
    return ArrayNumbers<float>{buffer};
  };
  for (int64_t group = first; group < last; ++group) {
    const int64_t r = group * a.to_group_rows, r_end = r + a.to_group_rows;
    quantize_rows<Codec>(q, group, r, r_end < a.rows ? r_end : a.rows, streamed, numbers,
                         [](int64_t, int64_t) {});
  }
  if (streamed) stream_fence();
}

}  // namespace

void requantize_cpu_simd(const RequantizeArgs& a) {
  if (a.rows == 0 || a.to.cols == 0) return;
  with_codec(a.to.spec.code, [&]<class Codec>(Codec) {
    const int64_t groups = (a.rows + a.to_group_rows - 1) / a.to_group_rows;
    parallel_for(groups, 8192 / (a.to_group_rows * a.to.cols) + 1,
                 [&](int64_t begin, int64_t end) { requantize<Codec>(a, begin, end); });
  });
}

void requantize_cpu_ref(const RequantizeArgs& a) {
  const QuantOut& q = a.to;
  if (a.rows == 0 || q.cols == 0) return;
  const Numbers numbers(a);
  auto number = [&](int64_t r, int64_t c) {
    float x;
    numbers.read(r, c, 1, &x);
    return x;
  };
  with_codec(q.spec.code, [&]<class Codec>(Codec) {
    for (int64_t r0 = 0; r0 < a.rows; r0 += a.to_group_rows)
      for (int64_t c0 = 0; c0 < q.cols; c0 += q.group_cols) {
        const int64_t r1 = r0 + a.to_group_rows < a.rows ? r0 + a.to_group_rows : a.rows;
        const int64_t c1 = c0 + q.group_cols < q.cols ? c0 + q.group_cols : q.cols;
        const int64_t index = q.scale_index(r0 / a.to_group_rows, c0 / q.group_cols);
        float factor;
        if (q.static_scale) {
          factor = 1.0f / load_scale(q, index);
        } else {
          float amax = 0;
          for (int64_t r = r0; r < r1; ++r)
            for (int64_t c = c0; c < c1; ++c) {
              const float v = __builtin_fabsf(number(r, c));
              if (v > amax) amax = v < 3.4028234663852886e38f ? v : 3.4028234663852886e38f;
            }
          const Scale scale = scale_for<Codec>(amax, q.spec);
          store_scale(q, index, scale);
          factor = scale.factor;
        }
        for (int64_t r = r0; r < r1; ++r)
          for (int64_t c = c0; c < c1; ++c)
            put_code<Codec::kBits>(static_cast<uint8_t*>(q.codes) + q.codes_rows.offset(r), c,
                                   Codec::encode(number(r, c) * factor));
      }
  });
}

}  // namespace aiter::AITER_ISA
