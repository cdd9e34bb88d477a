"""Error bounds from dtype and reduction length, not from what happened to pass."""

import math

import numpy as np

# Unit roundoff of the output dtype: half the distance between 1 and the next number.
ROUNDOFF = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}


def bound(dtype, terms=1):
    """Bound on |got - want| relative to the scale of the result.

    dtype: of the output. terms: length of the fp32 reduction behind each element; its rounding
    errors grow like sqrt(terms) (random signs), with a factor 4 in hand.
    """
    return ROUNDOFF[np.dtype(dtype).name] * 1.01 + 4 * ROUNDOFF["float32"] * (math.sqrt(terms) + 4)


def relative_error(got, want):
    """||got - want|| / ||want|| in float64, over all elements."""
    got = np.asarray(got, np.float64)
    want = np.asarray(want, np.float64)
    norm = np.linalg.norm(want)
    return np.linalg.norm(got - want) / (norm if norm else 1.0)


def assert_equal(got, want, what="result"):
    """The same dtype, shape and values; NaN equals NaN."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, expected {want.dtype}"
    if got.dtype.kind not in "iub":
        got, want = got.astype(np.float64), want.astype(np.float64)
    np.testing.assert_array_equal(got, want, err_msg=what)


def assert_close(got, want, terms=1, scale=None, what="result"):
    """Compare with a float64 reference, element by element.

    The allowed error of an element is bound(dtype, terms) times `scale`: the magnitude of what was
    summed up for it (an array or a number). By default that is |want|, plus the smallest normal
    number of the dtype. Infinities and NaN must agree exactly.
    """
    got = np.asarray(got)
    dtype = got.dtype
    want = np.asarray(want, np.float64)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    got64 = got.astype(np.float64)
    finite = np.isfinite(want) & (np.abs(want) <= _largest(dtype))
    with np.errstate(over="ignore"):
        infinite = want[~finite].astype(dtype).astype(np.float64)
    np.testing.assert_array_equal(got64[~finite], infinite, err_msg=f"{what}: not finite")
    limit = bound(dtype, terms) * np.broadcast_to(
        np.abs(want) if scale is None else scale, want.shape
    ) + _smallest(dtype)
    with np.errstate(invalid="ignore"):
        error = np.abs(got64 - want)
    bad = finite & ~(error <= limit)
    if bad.any():
        worst = np.unravel_index(np.argmax(np.where(bad, error / limit, 0)), want.shape)
        raise AssertionError(
            f"{what}: {bad.sum()} of {want.size} elements off; worst at {tuple(map(int, worst))}: "
            f"got {got64[worst]:.9g}, want {want[worst]:.9g}, allowed +-{limit[worst]:.3g}"
        )


def _largest(dtype):
    return {"float16": 65519.0, "bfloat16": 3.3961775e38, "float32": 3.4028235e38}[dtype.name]


def _smallest(dtype):
    return {"float16": 2.0**-24, "bfloat16": 2.0**-126, "float32": 2.0**-126}[dtype.name]
