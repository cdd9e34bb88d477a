"""torch tensors on the CPU, in and out."""

import gc

import aiter
import numpy as np
import pytest

torch = pytest.importorskip("torch")

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
DTYPES = [
    "float32",
    "float16",
    "bfloat16",
    "float64",
    "int8",
    "uint8",
    "int16",
    "int32",
    "int64",
    "bool",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float4_e2m1fn_x2",
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_results_are_tensors(dtype):
    x = X.to(dtype)
    y = aiter.rms_norm(x)
    assert type(y) is torch.Tensor and y.dtype == dtype and y.is_contiguous()
    want = torch.nn.functional.rms_norm(x.double(), (8,), eps=1e-6)
    torch.testing.assert_close(y.double(), want, rtol=1e-2, atol=1e-2)
    out = torch.empty_like(x)
    assert aiter.rms_norm(x, out=out) is out
    assert torch.equal(out, y)


def test_results_are_torchs_own_memory():
    """So that its allocator tracks it and resizing works."""
    y = aiter.rms_norm(X)
    y.resize_(100)
    assert y.untyped_storage().resizable()


@pytest.mark.parametrize("dtype", [d for d in DTYPES if hasattr(torch, d)])
def test_every_dtype(dtype):
    x = torch.zeros((3, 64), dtype=torch.uint8).view(getattr(torch, dtype))
    a = aiter.asarray(x)
    assert a.dtype == dtype.replace("_x2", "x2")
    assert a.shape == tuple(x.shape) and a.data_ptr == x.data_ptr()
    back = torch.from_dlpack(a)
    assert back.dtype == x.dtype and back.data_ptr() == x.data_ptr()


def test_strides_and_offsets():
    x = torch.arange(120, dtype=torch.float32).reshape(2, 3, 4, 5)
    for view in (
        x[1],
        x[:, ::2],
        x.transpose(0, 3),
        x[..., 3],
        x[0, 1, 2, 3],
        x[:0],
        x[0, 0, 0].expand(4, 5),
        x.permute(3, 1, 0, 2)[2:],
    ):
        a = aiter.asarray(view)
        assert a.shape == tuple(view.shape) and a.strides == tuple(view.stride())
        np.testing.assert_array_equal(a.numpy(), view.numpy())
    qkv = torch.randn(6, 12, 64)
    assert torch.equal(aiter.rms_norm(qkv[:, 8:10]), aiter.rms_norm(qkv[:, 8:10].contiguous()))


def test_views_of_bytes():
    x = X.bfloat16()
    y = aiter.rms_norm(aiter.view(x.view(torch.uint8), "bfloat16"))
    assert type(y) is torch.Tensor and torch.equal(y, aiter.rms_norm(x))


def test_parameters_and_modes():
    """Results carry no gradient; what the weights record does not matter."""
    want = aiter.rms_norm(X, torch.ones(8))
    w = torch.nn.Parameter(torch.ones(8))
    assert torch.equal(aiter.rms_norm(X, w), want) and not aiter.rms_norm(X, w).requires_grad
    with torch.inference_mode():
        assert torch.equal(aiter.rms_norm(X, w), want)

    class Mine(torch.Tensor):
        pass

    assert torch.equal(aiter.rms_norm(X.as_subclass(Mine), w), want)


def test_default_device_does_not_matter():
    with torch.device("meta"):
        assert aiter.rms_norm(X).device.type == "cpu"


@pytest.mark.parametrize("make", [lambda x: x.to_sparse(), lambda x: x.to("meta")])
def test_tensors_without_memory(make):
    with pytest.raises(ValueError, match="^rmsnorm: x cannot be taken from its torch.T") as e:
        aiter.rms_norm(make(X))
    assert isinstance(e.value.__cause__, (RuntimeError, BufferError))
    with pytest.raises(ValueError, match="rmsnorm: x has dtype complex64, expected float32"):
        aiter.rms_norm(X.to(torch.complex64))


def test_numpy_and_torch_together():
    y = aiter.rms_norm(X, np.ones(8, np.float32), out=np.empty((3, 8), np.float32))
    assert type(y) is np.ndarray
    assert type(aiter.rms_norm(X.numpy(), torch.ones(8))) is np.ndarray
    assert type(aiter.rms_norm(X, np.ones(8, np.float32))) is torch.Tensor


def test_array_memory_outlives_all_else():
    a = aiter.empty((1000, 1000))
    a[...] = torch.ones(1000, 1000)
    t = torch.from_dlpack(a)
    n = a[3].numpy()
    del a
    gc.collect()
    junk = [aiter.zeros((1000, 1000)) for _ in range(4)]
    assert t.sum() == 1e6 and n.sum() == 1e3
    del junk
