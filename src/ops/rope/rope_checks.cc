#include "ops/rope/rope_checks.h"

#include "dispatch/dispatch.h"

namespace aiter {

RopeTable rope_table(const Arg& cos, const Arg& sin) {
  cos.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(2).unit_last_stride();
  if (sin) sin.dtype_of(cos).shape_of(cos).unit_last_stride().on_device_of(cos);
  auto row_stride = [](const Arg& t) {
    const Rows rows = t.rows(1);
    if (rows.inner < rows.count)
      t.refuse("has leading dimensions that do not fold into one; make it contiguous");
    return rows.inner_stride;
  };
  RopeTable table{cos.data(), sin ? sin.data() : nullptr, row_stride(cos), 0, cos.rows(1).count};
  if (sin) table.sin_stride = row_stride(sin);
  return table;
}

void rope_set_tables(RopeAngles& a, const Arg& cos, bool full) {
  const int64_t width = cos.dim(-1);
  if (full && width % 2)
    cos.refuse("has width %lld, expected an even one", static_cast<long long>(width));
  a.dtype = cos.dtype();
  a.pairs = full ? width / 2 : width;
  a.pair_stride = full && a.pairs_interleaved ? 2 : 1;
  a.second = !full ? 0 : a.pairs_interleaved ? 1 : a.pairs;
}

void rope_set_sections(const Check& check, RopeAngles& a, const int64_t (&sections)[3],
                       bool interleaved) {
  int64_t sum = 0;
  bool ok = true;
  for (int64_t s : sections) ok = ok && s >= 0 && s <= a.pairs, sum += ok ? s : 0;
  check.require(ok && (sum == 0 || sum == a.pairs),
                "opts.sections are %lld, %lld, %lld, expected a sum of %lld pairs, or zeros",
                static_cast<long long>(sections[0]), static_cast<long long>(sections[1]),
                static_cast<long long>(sections[2]), static_cast<long long>(a.pairs));
  a.axes = sum == 0 ? 1 : 3;
  a.axes_interleaved = interleaved;
  a.axis_ends[0] = interleaved ? 3 * sections[1] : sections[0];
  a.axis_ends[1] = interleaved ? 3 * sections[2] : sections[0] + sections[1];
}

void rope_set_positions(const Check& check, RopeAngles& a, const Arg& x, int lead,
                        const aiter_tensor* positions_, const Arg& offsets) {
  const Arg positions = check.tensor("positions", positions_);
  positions.dtype({DType::kI32, DType::kI64}).on_device_of(x).rank(lead + (a.axes == 3));
  a.rows_from = RopeRows::kPositions;
  a.positions = positions.data(), a.positions_dtype = positions.dtype();
  if (a.axes == 3 && positions.dim(0) != 3)
    positions.refuse("has first extent %lld, expected 3 for pairs in sections",
                     static_cast<long long>(positions.dim(0)));
  const int first = positions.rank() - lead;
  for (int i = 0; i < lead; ++i)
    if (positions.dim(first + i) != x.dim(i))
      positions.refuse("has extent %lld in dimension %d, expected x's %lld",
                       static_cast<long long>(positions.dim(first + i)), first + i,
                       static_cast<long long>(x.dim(i)));
  if (a.axes == 3) {
    // The tokens alone: a view without the first dimension.
    aiter_tensor tokens = *positions_;
    tokens.ndim -= 1, tokens.shape += 1;
    if (tokens.strides) tokens.strides += 1;
    a.positions_rows = Arg(check.op(), "positions", &tokens).rows(0);
    a.axis_stride = positions.stride(0);
  } else {
    a.positions_rows = positions.rows(0);
  }
  if (!offsets) return;
  check.require(a.axes == 1, "offsets is given, expected NULL with pairs in sections");
  offsets.dtype_of(positions).shape_of(positions).on_device_of(x);
  a.offsets = offsets.data(), a.offsets_rows = offsets.rows(0);
}

RopeAngles rope_angles(const Check& check, const RopeTurn& turn, const Arg& x, int lead,
                       const Arg& cos, const Arg& sin, const Arg& positions,
                       const aiter_tensor* positions_tensor) {
  RopeAngles a{};
  a.parts = a.axes = 1;
  a.tokens = 1;
  for (int i = 0; i < lead; ++i) a.tokens *= x.dim(i);
  if (!cos) {
    check.require(!sin && !positions,
                  "cos is NULL, expected a table where sin or positions is given");
    return a;
  }
  cos.on_device_of(x);
  check.require(bool(sin), "sin is NULL, expected a table like cos");
  a.pairs_interleaved = turn.interleaved;
  a.tables[0] = rope_table(cos, sin);
  rope_set_tables(a, cos, turn.full_width);
  rope_set_sections(check, a, turn.sections, turn.sections_interleaved);
  if (positions) {
    rope_set_positions(check, a, x, lead, positions_tensor, Arg());
    rope_check_positions(check, a, positions);
  } else {
    check.require(a.axes == 1 && a.tables[0].rows > 0,
                  "positions is NULL, expected a tensor with pairs in sections, or without rows");
    a.rows_from = RopeRows::kSequence;
    a.per_row = 1, a.lines = a.tables[0].rows;
  }
  return a;
}

HeadNorm head_norm(const Check& check, HeadNorm norm, const Arg& weight, const Arg& x) {
  check.require(norm.eps >= 0, "opts.eps is %g, expected at least 0", norm.eps);
  if (!weight) return norm;
  check.require(norm.on, "weights are given, expected NULL unless opts.norm is nonzero");
  if (weight.dtype() != DType::kF32) weight.dtype_of(x);
  weight.shape({x.dim(-1)}).contiguous().on_device_of(x);
  norm.weight = weight.data(), norm.weight_dtype = weight.dtype();
  return norm;
}

void rope_check_positions(const Check& check, const RopeAngles& a, const Arg& positions) {
  if (machine_of(positions.device()).target != ANY_CPU) return;
  const int64_t end = a.tables[0].rows;
  if (a.rows_from == RopeRows::kPositions && !a.offsets) {
    positions.values_in(int64_t{0}, end);
  } else if (a.rows_from == RopeRows::kPositions) {
    for (int64_t t = 0; t < a.tokens; ++t) {
      int64_t rows[3] = {0, 0, 0};
      if (rope_rows(a, t, rows)) continue;
      const auto at = [&](const void* data, const Rows& r) {
        return static_cast<long long>(rope_integer(data, a.positions_dtype, r.offset(t)));
      };
      check.require(false,
                    "positions has %lld and offsets has %lld at flat index %lld, expected a sum of "
                    "at least 0 and less than %lld",
                    at(a.positions, a.positions_rows), at(a.offsets, a.offsets_rows),
                    static_cast<long long>(t), static_cast<long long>(end));
    }
  } else if (a.rows_from == RopeRows::kSequences) {
    int64_t before = 0;
    for (int64_t i = 0; i <= a.sequences; ++i) {
      const int64_t bound =
          rope_integer(a.positions, a.positions_dtype, i * a.positions_rows.inner_stride);
      if (bound < before || bound > a.tokens)
        positions.refuse("has %lld at index %lld, expected %lld to %lld",
                         static_cast<long long>(bound), static_cast<long long>(i),
                         static_cast<long long>(before), static_cast<long long>(a.tokens));
      if (i > 0 && bound - before > end)
        positions.refuse(
            "has a sequence of %lld tokens at index %lld, expected at most %lld, the "
            "rows of cos",
            static_cast<long long>(bound - before), static_cast<long long>(i - 1),
            static_cast<long long>(end));
      before = bound;
    }
  } else if (a.rows_from == RopeRows::kGrid) {
    positions.values_in(int64_t{1}, end + 1);
  }
}

bool rope_tables_aligned16(const RopeAngles& a) {
  const int64_t bytes = dtype_bytes(a.dtype);
  bool aligned = a.second * bytes % 16 == 0 || a.pair_stride == 2;
  for (int part = 0; part < a.parts; ++part) {
    const RopeTable& t = a.tables[part];
    aligned = aligned && is_aligned16(t.cos) && is_aligned16(t.sin) &&
              t.cos_stride * bytes % 16 == 0 && t.sin_stride * bytes % 16 == 0;
  }
  return aligned;
}

}  // namespace aiter
