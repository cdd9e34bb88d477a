"""aiter.compat's quantization: AITER's signatures, on torch tensors."""

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import aiter.compat as aiter
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "quant"))
import cases_quantize as cases

X = np.random.default_rng(0).standard_normal((40, 256)).astype(np.float32)
TX = torch.from_numpy(X)
FP8 = torch.float8_e4m3fn


def raw(t):
    return t.contiguous().view(torch.uint8).numpy()


def same(codes, scale, want):
    np.testing.assert_array_equal(raw(codes), np.ascontiguousarray(want[0]).view(np.uint8))
    flat = scale.contiguous().view(torch.uint8).numpy().reshape(-1)
    np.testing.assert_array_equal(flat, np.ascontiguousarray(want[1]).view(np.uint8).reshape(-1))


def test_per_tensor():
    out, scale = torch.empty(X.shape, dtype=torch.int8), torch.empty(1)
    aiter.dynamic_per_tensor_quant(out, TX, scale)
    same(out, scale, cases.reference(X, (0, 0), "int8"))
    again = torch.empty_like(out)
    aiter.static_per_tensor_quant(again, TX, scale)
    assert torch.equal(again, out)
    for codes, found in (
        aiter.per_tensor_quant_hip(TX, quant_dtype=FP8),
        aiter.per_tensor_quant(TX, quant_dtype=FP8),
    ):
        same(codes, found, cases.reference(X, (0, 0), "float8_e4m3fn"))


def test_per_token():
    out, scale = torch.empty(X.shape, dtype=FP8), torch.empty(40, 1)
    aiter.dynamic_per_token_scaled_quant(out, TX, scale)
    same(out, scale, cases.reference(X, (1, 0), "float8_e4m3fn"))
    aiter.dynamic_per_token_scaled_quant(out, TX, scale, scale_ub=torch.tensor([0.5]))
    same(out, scale, cases.reference(X, (1, 0), "float8_e4m3fn", scale_ub=0.5))
    same(*aiter.per_token_quant_hip(TX), cases.reference(X, (1, 0), "int8"))
    same(*aiter.pertoken_quant(TX), cases.reference(X, (1, 0), "int8"))
    out = torch.full((40, 256), 77, dtype=torch.int8)
    aiter.dynamic_per_token_scaled_quant(
        out, TX, scale, num_rows=torch.tensor([3], dtype=torch.int32), num_rows_factor=2
    )
    assert (out[6:] == 77).all() and not (out[:6] == 77).all()


def test_groups():
    want = cases.reference(X, (1, 128), "float8_e4m3fn")
    out, scale = torch.empty(X.shape, dtype=FP8), torch.empty(40, 2)
    aiter.dynamic_per_group_scaled_quant(out, TX, scale, 128, shuffle_scale=False)
    same(out, scale, want)
    aiter.dynamic_per_token_scaled_quant(out, TX.view(-1, 128), scale)  # groups as rows
    same(out, scale, want)
    _, transposed = aiter.per_group_quant_hip(TX, quant_dtype=FP8, transpose_scale=True)
    np.testing.assert_array_equal(transposed.view(2, 40).numpy(), want[1].T)
    same(*aiter.per_group_quant_hip(TX, quant_dtype=FP8), want)


def test_mx():
    want = cases.reference(X, (1, 32), cases.FP4, scale_dtype=cases.E8M0)
    same(*aiter.per_1x32_mx_quant_hip(TX), want)
    same(*aiter.per_1x32_f4_quant_hip(TX), want)
    codes, scale = aiter.per_1x32_mx_quant_hip(TX, shuffle=True)
    shuffled, padding = cases.shuffle(want[1])
    np.testing.assert_array_equal(raw(codes), want[0])
    np.testing.assert_array_equal(raw(scale)[~padding], shuffled.view(np.uint8)[~padding])
    out, out_scale = torch.empty(40, 128, dtype=torch.uint8), torch.empty(40, 8, dtype=torch.uint8)
    aiter.quant_mxfp4(TX, out, out_scale, round_mode=2)
    want = cases.reference(X, (1, 32), cases.FP4, scale_dtype=cases.E8M0, round_mode=2)
    np.testing.assert_array_equal(out.numpy(), want[0])
    np.testing.assert_array_equal(out_scale.numpy(), want[1].view(np.uint8))


def test_smoothquant():
    smooth = np.random.default_rng(1).random((3, 256)).astype(np.float32)
    ids = np.random.default_rng(2).integers(0, 3, (40, 2)).astype(np.int32)
    out, scale = torch.empty(X.shape, dtype=torch.int8), torch.empty(40)
    aiter.smoothquant_fwd(out, TX, torch.from_numpy(smooth[0].copy()), scale)
    same(out, scale, cases.reference(X, (1, 0), "int8", smooth=smooth[0]))
    out, scale = torch.empty(2, 40, 256, dtype=torch.int8), torch.empty(2, 40)
    aiter.moe_smoothquant_fwd(out, TX, torch.from_numpy(smooth), torch.from_numpy(ids), scale)
    want = cases.reference(X[7:8], (1, 0), "int8", smooth=smooth[ids[7, 1]])
    same(out[1, 7:8], scale[1, 7:8], want)


def test_int4():
    codes, scale = aiter.per_1x32_i4_quant(TX)
    groups = X.reshape(40, 8, 32)
    s = np.abs(groups).max(-1, keepdims=True) / np.float32(7)
    want = np.rint(groups * (np.float32(1) / s)).reshape(X.shape)
    np.testing.assert_array_equal(codes.numpy(), want)
    assert scale.shape == (8, 40) and scale.dtype == torch.bfloat16
    np.testing.assert_array_equal(
        scale.float().numpy(), torch.from_numpy(s[..., 0].T).bfloat16().float().numpy()
    )


def test_rotate_activation():
    out = torch.empty_like(TX)
    aiter.rotate_activation(out, TX)
    np.testing.assert_allclose(
        np.linalg.norm(out.numpy(), axis=1), np.linalg.norm(X, axis=1), rtol=1e-5
    )
    packed = torch.empty(40, 128, dtype=torch.uint8)
    scale = torch.empty(40, 8, dtype=torch.uint8)
    aiter.rotate_activation(packed, TX, scale.view(torch.float8_e8m0fnu), shuffle_scale=False)
    want = cases.reference(out.numpy(), (1, 32), cases.FP4, scale_dtype=cases.E8M0)
    np.testing.assert_array_equal(packed.numpy(), want[0])


def test_shuffle_weight():
    w = torch.arange(32 * 64, dtype=torch.int16).view(32, 64)
    shuffled = aiter.shuffle_weight(w)
    assert shuffled.is_shuffled and shuffled.shape == w.shape
    want = w.view(2, 16, 2, 4, 8).permute(0, 2, 3, 1, 4).reshape(w.shape)
    assert torch.equal(shuffled, want)
    assert torch.equal(aiter.unshuffle_weight(shuffled.packed), w)
