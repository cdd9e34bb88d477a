"""What every operator of calls.py does with memory, and that it heeds all that it is given.

Each is called on arrays within larger buffers whose other bytes are poison, with rows far apart,
with strides that mean nothing, from memory that is read-only, and with one thing changed.
"""

import contextlib
import mmap

import aiter
import ml_dtypes
import numpy as np
import pytest
from aiter.testing import gpus, using, variants
from calls import CALLS

IDS = [f"{call}-{i}" for i, call in enumerate(CALLS)]
PLACES = ["cpu", *gpus()[:1]]
OPS = sorted({call.op for call in CALLS})
# Each call on each row; on the emulator under its sanitizer, as "smoke" says.
ROWS = [
    pytest.param(
        call,
        (*variant, "smoke"),
        id=f"{call}-{i}-{'-'.join(variant)}",
    )
    for i, call in enumerate(CALLS)
    for variant in variants(call.op)
]


def raw(array):
    return np.ascontiguousarray(array).view(np.uint8)


def same(got, want):
    return got.dtype == want.dtype and got.shape == want.shape and (raw(got) == raw(want)).all()


def poison(dtype):
    """Bytes that are NaN in floats, and in integers a number that is no index of anything."""
    return 0x7F if np.dtype(dtype).kind in "iu" else 0xFF


def embed(shape, dtype, strided, lead=3):
    """(array, its buffer): the array's rows, or the whole of it, within bytes of poison."""
    dtype = np.dtype(dtype)
    size = dtype.itemsize
    width = int(np.prod(shape[1:])) if strided else int(np.prod(shape))
    step = width + 5 if strided and len(shape) > 1 else 2 if strided else width
    rows = shape[0] if strided else 1
    buffer = np.full((lead + rows * step + 7) * size, poison(dtype), np.uint8)
    strides = [size] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    if strided:
        strides[0] = step * size
    return np.ndarray(shape, dtype, buffer, lead * size, strides), buffer


def fresh(call):
    """Contiguous results of bytes 77."""
    return {
        name: np.full((*shape, np.dtype(dtype).itemsize), 77, np.uint8).view(dtype)[..., 0]
        for name, (shape, dtype) in call.results.items()
    }


def at(place):
    return using(place=None if place == "cpu" else place)


@pytest.mark.parametrize("call, variant", ROWS)
def test_nothing_else_is_read_or_written(call, variant):
    """On every row: poison around the arrays and between their rows changes nothing, and stays;
    memory of arrays may be read-only, and begin anywhere."""
    with using(call.op, *variant[:2]):
        plain = fresh(call)
        want = call.run(results=plain)
        arrays, results, buffers, before = {}, {}, {}, {}
        for name, array in call.arrays.items():
            arrays[name], buffers[name] = embed(array.shape, array.dtype, name in call.rows)
            arrays[name][...] = array
            before[name] = buffers[name].copy()
            buffers[name].flags.writeable = arrays[name].flags.writeable = False
        for name, (shape, dtype) in call.results.items():
            results[name], buffers[name] = embed(shape, dtype, name in call.rows)
            results[name].view(np.uint8)[...] = 77
        got = call.run(arrays, results)
        for g, w in zip(got, want, strict=True):
            assert same(g, w)
        for name, array in results.items():
            kept = array.copy()
            array.view(np.uint8)[...] = poison(array.dtype)
            assert (buffers[name] == poison(array.dtype)).all(), f"around {name}"
            array[...] = kept
        for name in arrays:
            assert (buffers[name] == before[name]).all(), f"{name} was written"


def changed(call, name):
    """Another array for `name`."""
    if isinstance(call.changes.get(name), np.ndarray):
        return call.changes[name]
    array = call.arrays[name]
    return np.flip(array).copy() if array.size > 1 else array + array


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_everything_given_matters(call, place):
    """Each array and each option, changed alone, changes the results or is refused."""
    with at(place):
        # Options may change what results are like: they are made by the call, but for exponential.
        given = fresh(call) if call.op == "exponential" or call.partial else None
        want = [np.array(r) for r in call.run(results=given)]

        def check(name, arrays=None, **options):
            free = options and not call.partial and call.op != "exponential"
            results = None if free else given and fresh(call)
            try:
                got = call.run(arrays, results, **options)
            except (ValueError, NotImplementedError):
                return
            assert len(got) != len(want) or any(
                not same(g, w) for g, w in zip(got, want, strict=True)
            ), name

        for name in call.arrays:
            check(name, {name: changed(call, name)})
        for name, value in call.changes.items():
            if name not in call.arrays:
                check(f"{name}={value}", **{name: value})


@pytest.mark.parametrize("call", [c for c in CALLS if c.rows], ids=str)
def test_rows_beyond_32_bits(call):
    """Rows that are more than 2^31 elements apart, of sparse memory."""
    want = call.run(results=fresh(call))
    with contextlib.ExitStack() as stack:

        def place(shape, dtype):
            size = np.dtype(dtype).itemsize
            stride = ((1 << 31) + 64) * size
            last = int(np.prod(shape[1:])) * size
            memory = mmap.mmap(-1, (shape[0] - 1) * stride + last,
                               flags=mmap.MAP_PRIVATE | 0x4000)  # fmt: skip
            stack.callback(memory.close)
            flat = np.frombuffer(memory, dtype)
            inner = [size]
            for extent in shape[:1:-1]:
                inner.insert(0, inner[0] * extent)
            strides = (stride, *inner[: len(shape) - 1])
            return np.lib.stride_tricks.as_strided(flat, shape, strides)

        arrays, results = {}, fresh(call)
        for name, array in call.arrays.items():
            if name in call.rows:
                arrays[name] = place(array.shape, array.dtype)
                arrays[name][...] = array
        for name, (shape, dtype) in call.results.items():
            if name in call.rows:
                results[name] = place(shape, dtype)
                results[name].view(np.uint8)[...] = 77
        got = [np.ascontiguousarray(g) for g in call.run(arrays, results)]
        arrays.clear(), results.clear()
    for g, w in zip(got, want, strict=True):
        assert same(g, w)


WITHOUT_ROWS = (aiter.shuffle_scale, aiter.unshuffle_scale, aiter.partial_transpose)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("call", [c for c in CALLS if c.rows], ids=str)
def test_rows_depend_neither_on_their_batch_nor_on_threads(call, place):
    if call.function in WITHOUT_ROWS:
        pytest.skip("has no rows of its own")
    if place != "cpu" and "norm" in call.op:
        pytest.skip("on GPUs few rows have kernels of their own, which add up in another order")
    times = 300

    def often(name, array):
        return np.concatenate([array] * times) if len(array) == 3 and name != "bias" else array

    arrays = {name: often(name, array) for name, array in call.arrays.items()}
    options = {"num_rows_factor": times} if "num_rows" in arrays else {}
    count = len(call.results)  # sums over the rows, which come behind them, are others

    def run():
        return call.run(arrays, {n: often(n, r) for n, r in fresh(call).items()}, **options)[:count]

    with at(place):
        few = call.run(results=fresh(call))[:count]
        many = run()
    for f, m in zip(few, many, strict=True):
        assert same(m[:3], f)
    for threads in (1, 3):
        with at(place), using(threads=threads):
            for got, want in zip(run(), many, strict=True):
                assert same(got, want)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("call", [c for c in CALLS if "x" in c.rows], ids=str)
def test_the_stride_of_one_row_means_nothing(call, place):
    def one(name, array):
        array = array[:1].copy() if len(array) == 3 and name not in ("smooth", "bias") else array
        if name not in call.rows:
            return array
        strides = (12345 * array.itemsize, *array.strides[1:])
        return np.lib.stride_tricks.as_strided(array, array.shape, strides)

    arrays = {name: one(name, array) for name, array in call.arrays.items()}
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with at(place):
        if call.partial:
            return
        for g, w in zip(call.run(arrays), call.run(plain), strict=True):
            assert same(g, w)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("call", [c for c in CALLS if c.rows and c.arrays], ids=str)
def test_no_rows(call, place):
    """Nothing is written, and nothing is wrong."""
    if call.function in WITHOUT_ROWS:
        pytest.skip("has no rows of its own")
    arrays = {
        name: array[:0] if len(array) == 3 and name != "bias" else array
        for name, array in call.arrays.items()
    }
    with at(place):
        for result, (shape, _) in zip(call.run(arrays), call.results.values(), strict=False):
            assert result.shape == (0, *shape[1:])


FAR = 2**31 - 1
INDICES = [
    ("smooth_map", np.array([FAR, -1, 2], np.int32)),
    ("smooth_map", np.array([1, -(2**31), 0], np.int32)),
    ("num_rows", np.array([FAR], np.int32)),
    ("num_rows", np.array([-5], np.int32)),
    ("expert_ids", np.array([FAR, -1, 2], np.int32)),
    ("row_starts", np.array([-(2**31), FAR, 300], np.int32)),
    ("row_ends", np.array([FAR, -7, 201], np.int32)),
    ("top_k", np.array([FAR, -1, 0], np.int32)),
]


@pytest.mark.parametrize("place", [(place, "smoke") for place in PLACES], ids=PLACES)
@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_indices_out_of_range_touch_nothing_beyond(call, place):
    """They are passed over, clamped or refused: what is around arrays and results stays."""
    for name, values in INDICES:
        if name not in call.arrays:
            continue
        results, buffers = {}, {}
        for key, (shape, dtype) in call.results.items():
            results[key], buffers[key] = embed(shape, dtype, key in call.rows)
        arrays, poisoned = {}, {}
        for key, array in (call.arrays | {name: values}).items():
            arrays[key], poisoned[key] = embed(array.shape, array.dtype, key in call.rows)
            arrays[key][...] = array
        before = {key: buffer.copy() for key, buffer in poisoned.items()}
        with at(place[0]), contextlib.suppress(ValueError):
            call.run(arrays, results)
        for key, array in results.items():
            array.view(np.uint8)[...] = poison(array.dtype)
            assert (buffers[key] == poison(array.dtype)).all(), f"{name}: around {key}"
        for key in arrays:
            assert (poisoned[key] == before[key]).all(), f"{name}: {key} was written"


def test_every_operator_is_called():
    """Of the five families."""
    families = ("quant", "norm", "activation", "elementwise", "sampling")
    table = [line.split("\t") for line in aiter._aiter.dispatch_table().splitlines()]
    assert {op for family, op, *_ in table if family in families} <= set(OPS)


def test_the_checks_would_notice():
    """Negative control: a write beside an array, and a read of poison."""
    array, buffer = embed((3, 4), np.float32, True)
    array[...] = 1
    buffer.view(np.float32)[3 + 4] = 0  # between rows 0 and 1
    array.view(np.uint8)[...] = 0xFF
    assert not (buffer == 0xFF).all()
    array, buffer = embed((3, 4), ml_dtypes.bfloat16, True)
    array[...] = 1
    wide = np.lib.stride_tricks.as_strided(array, (3, 5), array.strides)
    assert np.isnan(aiter.rms_norm(np.ascontiguousarray(wide)).astype(np.float32)).any()
