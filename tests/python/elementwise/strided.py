"""Arrays of all kinds of strides, for the tests of elementwise operators."""

import numpy as np


def lay_out(array, layout, seed=0):
    """The same numbers in other memory, between others that must not be touched.

    layout: "contiguous", "transposed" (the last two dimensions), "reversed" (all), "sliced" (every
    third of the last dimension, a part of the others), "permuted" (the first dimension last).
    """
    if layout == "contiguous" or array.ndim == 0:
        return array.copy()
    if layout == "transposed" and array.ndim > 1:
        return np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "permuted":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0)
    if layout == "reversed":
        return np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    shape = [n + 2 for n in array.shape[:-1]] + [3 * array.shape[-1] + 1]
    memory = np.full(shape, 77, array.dtype)
    inside = (*(slice(1, n + 1) for n in array.shape[:-1]), slice(1, None, 3))
    memory[inside] = array
    return memory[inside]


LAYOUTS = ("contiguous", "transposed", "permuted", "sliced")
