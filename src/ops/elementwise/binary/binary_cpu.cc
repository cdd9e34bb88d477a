#include "aiter/elementwise.h"
#include "ops/elementwise/binary/binary_args.h"
#include "simd/elementwise.h"

namespace aiter::AITER_ISA {
namespace {

struct Add {
  template <class C>
  AITER_INLINE C operator()(C a, C b) const {
    return a + b;
  }
};
struct Sub {
  template <class C>
  AITER_INLINE C operator()(C a, C b) const {
    return a - b;
  }
};
struct Mul {
  template <class C>
  AITER_INLINE C operator()(C a, C b) const {
    return a * b;
  }
};
struct Div {
  template <class C>
  AITER_INLINE C operator()(C a, C b) const {
    return a / b;
  }
};

template <class C, class Op>
void in_chunks(const BinaryArgs& a, Op op) {
  for_chunks<C, 2>(a, [&](int64_t n, const C* const* in, C* results) {
    const C *x = in[0], *y = in[1];
    for (int64_t i = 0; i < n; ++i) results[i] = op(x[i], y[i]);
  });
}

template <class C, class Op>
void plainly(const BinaryArgs& a, Op op) {
  for_elements(a, [&](const Offsets& offsets) {
    C result = op(plain_number<C>(a, 0, offsets.at[0]), plain_number<C>(a, 1, offsets.at[1]));
    write_chunk(a, offsets.at[kOperands - 1], 1, &result);
  });
}

// f(C{}, op) with the type of computation of the common dtype.
template <class F>
void with_types(const BinaryArgs& a, F&& f) {
  auto with_op = [&]<class C>(C c) {
    switch (a.op) {
      case AITER_BINARY_ADD:
        return f(c, Add{});
      case AITER_BINARY_SUB:
        return f(c, Sub{});
      case AITER_BINARY_MUL:
        return f(c, Mul{});
      default:  // integers are divided as floats
        if constexpr (__is_same(C, float) || __is_same(C, double)) return f(c, Div{});
    }
  };
  switch (a.common) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return with_op(float{});
    case DType::kF64:
      return with_op(double{});
    case DType::kI64:
      return with_op(uint64_t{});
    default:
      return with_op(uint32_t{});
  }
}

}  // namespace

void binary_cpu_simd(const BinaryArgs& a) {
  with_types(a, [&]<class C, class Op>(C, Op op) {
    if constexpr (__is_same(C, float))
      elementwise_floats<2>(a, op);
    else
      in_chunks<C>(a, op);
  });
}

void binary_cpu_ref(const BinaryArgs& a) {
  with_types(a, [&]<class C, class Op>(C, Op op) { plainly<C>(a, op); });
}

}  // namespace aiter::AITER_ISA
