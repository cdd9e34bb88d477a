#include "ops/elementwise/elementwise_checks.h"

#include <algorithm>
#include <cstdlib>

namespace aiter {
namespace {

constexpr int kOut = ElementwiseArgs::kMaxInputs;  // the operand after the inputs

struct Dim {
  int64_t extent;
  int64_t stride[kOut + 1];
};

}  // namespace

ElementwiseArgs check_elementwise(const Check&, std::initializer_list<ElementwiseInput> in,
                                  const Arg& y) {
  ElementwiseArgs args{};
  const int rank = y.rank();
  Dim dims[ElementwiseArgs::kMaxRank] = {};
  for (int i = 0; i < rank; ++i) {
    dims[i].extent = y.dim(i);
    dims[i].stride[kOut] = y.stride(i);
    if (y.dim(i) > 1 && y.stride(i) == 0 && y.elements() > 0)
      y.refuse("has stride 0 in dimension %d, expected elements that do not overlap", i);
  }
  args.out = y.data(), args.out_dtype = y.dtype();
  int n = 0;
  for (const auto& [x, number] : in) {
    args.number[n] = number;
    if (x) {
      x.on_device_of(y);
      if (x.rank() > rank) x.refuse("has rank %d, expected at most y's %d", x.rank(), rank);
      for (int i = 0; i < x.rank(); ++i) {
        const int at = rank - x.rank() + i;
        if (x.dim(i) != y.dim(at) && x.dim(i) != 1)
          x.refuse("has extent %lld in dimension %d, expected y's %lld or 1",
                   static_cast<long long>(x.dim(i)), i, static_cast<long long>(y.dim(at)));
        dims[at].stride[n] = x.dim(i) == 1 ? 0 : x.stride(i);
      }
      args.in[n] = x.data(), args.in_dtype[n] = x.dtype();
    }
    ++n;
  }
  const int inputs = n;

  // Without dimensions of one element; large strides of y first, then those that join are joined.
  int count = 0;
  for (int i = 0; i < rank; ++i)
    if (dims[i].extent != 1) dims[count++] = dims[i];
  std::stable_sort(dims, dims + count, [](const Dim& a, const Dim& b) {
    return std::abs(a.stride[kOut]) > std::abs(b.stride[kOut]);
  });
  auto joins = [&](const Dim& outer, const Dim& inner) {
    for (int k = 0; k <= kOut; ++k)
      if (outer.stride[k] != inner.stride[k] * inner.extent) return false;
    return true;
  };
  int joined = 0;
  for (int i = 0; i < count; ++i)
    if (joined > 0 && joins(dims[joined - 1], dims[i])) {
      const int64_t extent = dims[joined - 1].extent;
      dims[joined - 1] = dims[i];
      dims[joined - 1].extent *= extent;
    } else {
      dims[joined++] = dims[i];
    }
  if (joined == 0) dims[joined++] = {1, {}};
  // Of an input that lies across the innermost dimension, the one along it comes next, so that a
  // tile of both dimensions is read in whole lines.
  for (int k = 0; k < inputs; ++k) {
    if (dims[joined - 1].stride[k] == 0 || dims[joined - 1].stride[k] == 1) continue;
    for (int i = 0; i + 2 < joined; ++i)
      if (dims[i].stride[k] == 1) std::rotate(dims + i, dims + i + 1, dims + joined - 1);
    break;
  }
  args.rank = joined;
  for (int i = 0; i < joined; ++i) {
    args.extent[i] = dims[i].extent;
    args.out_stride[i] = dims[i].stride[kOut];
    for (int k = 0; k < inputs; ++k) args.in_stride[k][i] = dims[i].stride[k];
  }
  return args;
}

ElementwiseProblem problem_of(const ElementwiseArgs& args, int inputs) {
  ElementwiseProblem p{args.common, args.out_dtype, 1, args.extent[args.rank - 1], true, true};
  for (int i = 0; i < args.rank; ++i) p.elements *= args.extent[i];
  const DType dtype = args.out_dtype;
  p.same_floats = dtype == args.common &&
                  (dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16);
  const int64_t bytes = dtype_bytes(dtype);
  auto check = [&](const void* data, const int64_t* stride) {
    const int64_t inner = stride[args.rank - 1];
    if (inner == 0) return;  // any address will do
    p.aligned16 = p.aligned16 && inner == 1 && is_aligned16(data);
    for (int i = 0; i + 1 < args.rank; ++i)
      p.aligned16 = p.aligned16 && stride[i] * bytes % 16 == 0;
  };
  for (int k = 0; k < inputs; ++k) {
    if (args.in[k] && args.in_dtype[k] != dtype) p.same_floats = false;
    check(args.in[k], args.in_stride[k]);
  }
  check(args.out, args.out_stride);
  p.aligned16 = p.aligned16 && p.same_floats && args.out_stride[args.rank - 1] == 1 &&
                p.inner * bytes % 16 == 0;
  return p;
}

namespace {

constexpr int64_t kMaxBlocks = 1 << 20;  // more rows than this go round again

int64_t rows_of(const ElementwiseArgs& args) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < args.rank; ++i) rows *= args.extent[i];
  return rows;
}

}  // namespace

void elementwise_hip_vec(const FloatKernels& kernels, const ElementwiseArgs& args,
                         const Call& call) {
  const int64_t packs = args.extent[args.rank - 1] * dtype_bytes(args.out_dtype) / 16;
  const int64_t rows = rows_of(args);
  // Few are shared by as many threads as there are, or one would do one pack after the other.
  const bool few = rows * packs <= device_of(call.device).multiprocessors * 256;
  const int64_t in_thread = few ? 1 : 4, most = few ? 128 : 256;
  const int64_t threads = std::clamp<int64_t>((packs / in_thread + 63) / 64 * 64, 64, most);
  const int64_t pieces = (packs + threads * in_thread - 1) / (threads * in_thread);
  launch(kernels[args.out_dtype], call,
         {.x = std::min(rows, kMaxBlocks),
          .y = std::min<int64_t>(pieces, 1 << 15),
          .threads = static_cast<int>(threads)},
         args);
}

void elementwise_hip_any(const Kernel& kernel, ElementwiseArgs args, const Call& call) {
  const int64_t inner = args.extent[args.rank - 1];
  bool across = false;  // some input lies across the innermost dimension
  for (int k = 0; k < ElementwiseArgs::kMaxInputs; ++k)
    across = across || (args.in[k] && std::abs(args.in_stride[k][args.rank - 1]) > 1);
  const int64_t most = across && args.rank > 1 ? 16 : 256;
  args.row_threads = 1;
  while (args.row_threads < most && args.row_threads < inner) args.row_threads *= 2;
  const int64_t rows_per_block = 256 / args.row_threads;
  const int64_t pieces = (inner + args.row_threads * 4 - 1) / (args.row_threads * 4);
  launch(kernel, call,
         {.x = std::min((rows_of(args) + rows_per_block - 1) / rows_per_block, kMaxBlocks),
          .y = std::min<int64_t>(pieces, 1 << 15),
          .threads = 256},
         args);
}

}  // namespace aiter
