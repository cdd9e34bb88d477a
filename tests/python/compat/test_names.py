"""aiter.compat as a whole: it has all of aiter's names, and AITER's enums."""

import pytest

pytest.importorskip("torch")

import aiter
import aiter.compat as compat


def test_everything_of_aiter_is_there():
    assert set(aiter.__all__) <= set(compat.__all__)
    assert all(hasattr(compat, name) for name in compat.__all__)


def test_numbers():
    assert compat.ActivationType.Swiglu == 2 and compat.ActivationType.No == -1
    assert compat.RotateStyle.GPTJ == 1 and compat.GateMode.INTERLEAVE == 1
    assert compat.QuantType.per_1x32 == 3


def test_fp8_is_a_dtype():
    import torch

    assert compat.dtypes.fp8 in (torch.float8_e4m3fn, torch.float8_e4m3fnuz)
    with pytest.raises(AttributeError):
        compat.dtypes.fp7  # noqa: B018
