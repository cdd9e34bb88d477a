"""Threads, and what dispatch decided."""

from . import _aiter


def set_num_threads(n):
    """Set the number of threads of CPU calls, the caller's included; 0 restores the default."""
    _aiter.set_num_threads(n)


def get_num_threads():
    """Number of threads of CPU calls."""
    return _aiter.get_num_threads()


def explain(function, *args, **kwargs):
    """Tell which kernel row `function(*args, **kwargs)` would run, and why no better one.

    Everything is checked as in the real call, but nothing is computed. Raises what the call would
    raise.
    """
    _aiter.set_dry_run(True)
    try:
        function(*args, **kwargs)
    finally:
        _aiter.set_dry_run(False)
    return _aiter.last_explanation()
