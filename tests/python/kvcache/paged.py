"""Paged caches in NumPy: shapes of the layouts, slots written and read, codes. Shared by the cases."""

import sys
from pathlib import Path

import numpy as np

# Benches are run as scripts, which find the modules of their own folder alone.
sys.path.append(str(Path(__file__).parents[1] / "quant"))
import cases_quantize as quant

CODES = ("int8", *quant.FP8)


def shapes(layout, pages, block, heads, dim, v_dim, itemsize):
    """Shapes of the caches of keys and values."""
    if layout in ("flash", "heads_first"):
        return (pages, block, heads, dim), (pages, block, heads, v_dim)
    x = 16 // itemsize
    keys = (pages, heads, dim // x, block, x)
    if layout == "vectorized":
        return keys, (pages, heads, v_dim, block)
    return keys, (pages, heads, block // x, v_dim, x)


def slot_view(cache, layout, which, slot):
    """(heads, dim) of a slot, as a view that can be assigned to as slot_view(...)[...] = rows.

    A split dim stays split: (heads, dim / x, x).
    """
    if layout in ("flash", "heads_first"):
        page, at = divmod(slot, cache.shape[1])
        return cache[page, at]
    page, at = divmod(slot, block_of(cache, layout, which))
    if which == "key" or cache.ndim == 4:
        return cache[page, ..., at] if which == "value" else cache[page, :, :, at]
    x = cache.shape[4]
    return cache[page, :, at // x, :, at % x]


def block_of(cache, layout, which):
    """Slots of a page."""
    if layout in ("flash", "heads_first"):
        return cache.shape[1]
    return cache.shape[3] if which == "key" or cache.ndim == 4 else cache.shape[2] * cache.shape[4]


def read(cache, layout, which, slot):
    """A copy of (heads, dim) of a slot."""
    view = slot_view(cache, layout, which, slot)
    return view.reshape(view.shape[0], -1).copy()


def write(cache, layout, which, slot, rows):
    view = slot_view(cache, layout, which, slot)
    view[...] = rows.reshape(view.shape)


def filled(rng, shape, dtype):
    """An array of any dtype without NaN."""
    dtype = np.dtype(dtype)
    if dtype.itemsize == 1:
        return rng.integers(0, 100, shape).astype(np.uint8).view(dtype)
    return rng.standard_normal(shape).astype(dtype)
