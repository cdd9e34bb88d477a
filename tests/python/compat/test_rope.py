"""AITER's rotary embedding by its own signatures, on torch tensors."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import aiter as plain
import aiter.compat as aiter

NEOX, GPTJ = aiter.RotateStyle.NEOX, aiter.RotateStyle.GPTJ


def tensor(*shape, seed=0, dtype=torch.float32):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


ANGLES = tensor(9, 1, 1, 4, seed=5)
COS, SIN = ANGLES.cos(), ANGLES.sin()


def turned(x, cos, sin):
    """Neox heads by tables that broadcast against their halves."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def close(got, want):
    torch.testing.assert_close(got, want.to(got.dtype), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("offsets", [False, True])
def test_packed_tokens(offsets):
    x, y = tensor(5, 3, 8), tensor(5, 1, 8, seed=1)
    positions, more = torch.tensor([3, 0, 2, 2, 5]), torch.tensor([1, 0, 3, -1, 2])
    rows = (positions, more) if offsets else (positions,)
    at = positions + more if offsets else positions
    cos, sin = COS[at, 0], SIN[at, 0]
    name = "rope_cached_thd_positions_" + ("offsets_" if offsets else "") + "2c_"
    forward = getattr(aiter, name + "fwd")(x, y, COS, SIN, *rows, NEOX, True, False)
    for got, source in zip(forward, (x, y), strict=True):
        close(got, turned(source, cos, sin))
    back = getattr(aiter, name + "bwd")(*forward, COS, SIN, *rows, NEOX, True, False)
    for got, source in zip(back, (x, y), strict=True):
        close(got, source)
    was = x.clone(), y.clone()
    got = getattr(aiter, name + "fwd_inplace")(*was, COS, SIN, *rows, NEOX, True, False)
    for g, w, f in zip(got, was, forward, strict=True):
        assert g is w and torch.equal(w, f)


def test_images():
    x, tables = tensor(2, 6, 3, 16), [t.view(1, 9, 1, 4) for t in (COS, SIN, SIN, COS)]
    want = plain.rope_2d_fwd(x, *tables, 2, 3, NEOX, True, False)
    assert torch.equal(aiter.rope_fwd_2d(x, *tables, 2, 3, NEOX, True, False), want)
    assert aiter.rope_fwd_2d_inplace(x, *tables, 2, 3, NEOX, True, False) is x
    assert torch.equal(x, want)


def test_functional_and_in_place():
    x, y = tensor(5, 2, 3, 8), tensor(5, 2, 1, 8, seed=1)
    want = turned(x, COS[:5], SIN[:5]), turned(y, COS[:5], SIN[:5])
    got = aiter.rope_2c_fwd(x, y, ANGLES, NEOX, True, False, transpose_output=True)
    for g, w in zip(got, want, strict=True):
        close(g, w)
        assert g.shape == w.shape and g.transpose(0, 1).is_contiguous()
    aiter.rope_cached_2c_fwd_inplace(x, y, COS, SIN, NEOX, True, False)
    close(x, want[0])
    close(y, want[1])
    out = torch.empty_like(x)
    aiter.rope_cached_bwd_impl(out, x, COS, SIN, NEOX, True, False)
    close(out, tensor(5, 2, 3, 8))


def test_vllm_style_is_in_place():
    positions, offsets = torch.tensor([2, 0, 1]), torch.tensor([1, 4, 4])
    for extra, rows in (((), positions), ((8, offsets), positions + offsets)):
        q, k = tensor(3, 2 * 8), tensor(3, 8, seed=1)
        want = [turned(t.view(3, -1, 8), COS[rows, 0], SIN[rows, 0]) for t in (q, k)]
        name = "batched_rotary_embedding" if extra else "rotary_embedding_fwd"
        result = getattr(aiter, name)(positions, q, k, 8, COS, SIN, True, False, *extra)
        assert result is None
        for got, w in zip((q, k), want, strict=True):
            close(got, w.reshape(got.shape))


def test_get_rope_is_in_place():
    rope = aiter.get_rope(8, 8, 32, 10000, True, None, torch.float32)
    positions, q, k = torch.tensor([3, 1]), tensor(2, 16), tensor(2, 8, seed=1)
    cos, sin = (torch.from_dlpack(t)[positions, 0] for t in (rope.cos_cache, rope.sin_cache))
    want = turned(q.view(2, 2, 8), cos, sin).reshape(q.shape)
    result = rope.forward(positions, q, k)
    assert result[0] is q and result[1] is k
    close(q, want)
    assert rope.rotary_dim == 8


def test_video_in_f32():
    x = tensor(1, 8, 2, 12, dtype=torch.bfloat16)
    freqs = torch.polar(torch.ones(4, 6), tensor(4, 6, seed=3))
    got = aiter.rope_fwd_3d(x, torch.tensor([[2, 2, 2]]), freqs, 1, 0)
    rows = torch.stack(torch.meshgrid(*[torch.arange(2)] * 3, indexing="ij"), -1).reshape(8, 3)
    axis = torch.tensor([0, 0, 1, 1, 2, 2])
    turns = freqs[rows[:, axis], torch.arange(6)][None, :, None]
    want = torch.view_as_real(torch.view_as_complex(x.float().unflatten(-1, (6, 2))) * turns)
    assert got.dtype == torch.float32
    close(got, want.flatten(-2))


def normed(x, weight):
    return torch.nn.functional.rms_norm(x, (x.shape[-1],), weight, 1e-6)


def test_norm_and_rope_of_one_and_two_streams():
    def stream(tokens, seed):
        x = tensor(2, tokens, 3, 8, seed=seed), tensor(2, tokens, 1, 8, seed=seed + 1)
        weights = tensor(8, seed=seed + 2), tensor(8, seed=seed + 3)
        cos, sin = COS[:tokens, 0], SIN[:tokens, 0]
        want = [turned(normed(t, w), cos, sin) for t, w in zip(x, weights, strict=True)]
        return x, weights, torch.cat((cos, sin), -1)[:, 0], want

    x0, w0, table0, want0 = stream(4, 10)
    x1, w1, table1, want1 = stream(5, 20)
    outs = torch.empty_like(x0[0]), torch.empty_like(x0[1])
    aiter.fused_qk_norm_rope_1way(*x0, *w0, table0, 2, 4, 3, 1, 8, False, 1e-6, *outs)
    for got, w in zip(outs, want0, strict=True):
        close(got, w)
    outs = torch.empty(2, 9, 3, 8), torch.empty(2, 9, 1, 8)
    aiter.fused_qk_norm_rope_2way(
        *x0, *x1, *w0, *w1, table0, table1, 2, 4, 5, 3, 1, 8, False, 1e-6, *outs
    )
    for got, a, b in zip(outs, want0, want1, strict=True):
        close(got, torch.cat((a, b), 1))


def test_split_and_cat():
    qkv, positions, offsets = tensor(3, 8 * 8), torch.tensor([2, 0, 1]), torch.tensor([1, 4, 4])
    q, k, v = (t.reshape(3, -1, 8) for t in qkv.split([32, 16, 16], 1))
    for rows, arguments in (
        (positions, (positions, 4, 2, 8)),
        (torch.arange(3), (None, 4, 2, 8)),
        (positions + offsets, (positions, 4, 2, 8, True, offsets)),
    ):
        got = aiter.fused_qkv_split_qk_rope(qkv, COS, SIN, *arguments)
        close(got[0], turned(q, COS[rows, 0], SIN[rows, 0]))
        close(got[1], turned(k, COS[rows, 0], SIN[rows, 0]))
        close(got[2], v)
    got = aiter.fused_qk_rope_cat(q[..., :3], q, k[..., :3], k, positions, COS, SIN, True)
    want = turned(q, COS[positions, 0], SIN[positions, 0])
    close(got[0], torch.cat((q[..., :3], want), -1))
    assert got[1].shape == (3, 2, 11)


def test_autograd_classes():
    x = tensor(5, 2, 3, 8).requires_grad_()
    weights = tensor(5, 2, 3, 8, seed=2)
    half = COS[..., :2].reshape(1, 9, 1, 2), SIN[..., :2].reshape(1, 9, 1, 2)
    calls = {
        aiter.RoPE: (ANGLES, NEOX, True, False, False),
        aiter.RoPECached: (COS, SIN, GPTJ, True, False),
        aiter.RoPE2D: (*half, *half, 2, 1, NEOX, True, False),
    }
    for function, arguments in calls.items():
        x.grad = None
        y = function.apply(x, *arguments)
        (y * weights).sum().backward()
        # A rotation keeps lengths and products: <R x, w> = <x, R' w>.
        close((x.detach() * x.grad).sum(), (y.detach() * weights).sum())
        close(x.grad.norm(), weights.norm())
    packed = tensor(5, 3, 8).requires_grad_()
    y = aiter.RoPETHD.apply(
        packed, torch.tensor([0, 2, 5], dtype=torch.int32), ANGLES, NEOX, True, False
    )
    y.sum().backward()
    rows = torch.tensor([0, 1, 0, 1, 2])
    close(y.detach(), turned(packed.detach(), COS[rows, 0], SIN[rows, 0]))
    assert packed.grad is not None


def same_codes(got, want):
    assert got.dtype == want.dtype and torch.equal(got.view(torch.uint8), want.view(torch.uint8))


def codes_of_heads(x):
    """Codes with a scale for each head of a batch, from aiter.quantize of each alone."""
    fp8 = aiter.dtypes.fp8
    codes, scales = torch.empty(x.shape, dtype=fp8), torch.empty(x.shape[0], x.shape[2])
    for b in range(x.shape[0]):
        for h in range(x.shape[2]):
            name = str(fp8).removeprefix("torch.")
            c, s = plain.quantize(x[b, :, h].contiguous(), (0, 0), name)
            codes[b, :, h], scales[b, h] = c, s[0]
    return codes, scales


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("streams", [1, 2])
def test_codes_of_heads(streams, asked):
    def stream(tokens, seed):
        x = [tensor(2, tokens, h, 8, dtype=torch.bfloat16, seed=seed + h) for h in (3, 1)]
        w = [tensor(8, dtype=torch.bfloat16, seed=seed + i) for i in (5, 6)]
        return x, w, torch.cat((COS[:tokens, 0], SIN[:tokens, 0]), -1)[:, 0]

    x0, w0, table0 = stream(4, 10)
    x1, w1, table1 = stream(5, 20)
    tokens = 4 if streams == 1 else 9
    want = [torch.empty(2, tokens, h, 8, dtype=torch.bfloat16) for h in (3, 1)]
    outs = [torch.empty_like(x) if asked else None for x in want]
    if streams == 1:
        arguments = *x0, *w0, table0, 2, 4, 3, 1, 8, False, 1e-6
        aiter.fused_qk_norm_rope_1way(*arguments, *want)
        got = aiter.fused_qk_norm_rope_1way_fp8_perhead_quant(*arguments, *outs)
        v = aiter.v_1way_per_head_fp8_quant(x0[0])
        v_want = codes_of_heads(x0[0])
    else:
        arguments = *x0, *x1, *w0, *w1, table0, table1, 2, 4, 5, 3, 1, 8, False, 1e-6
        aiter.fused_qk_norm_rope_2way(*arguments, *want)
        got = aiter.fused_qk_norm_rope_2way_fp8_perhead_quant(*arguments, *outs)
        v = aiter.v_2way_per_head_fp8_quant(x0[0], x1[0])
        v_want = codes_of_heads(torch.cat((x0[0], x1[0]), 1))
    for side in range(2):
        codes, scales = codes_of_heads(want[side])
        same_codes(got[side], codes)
        assert torch.equal(got[2 + side], scales)
        if asked:
            assert got[4 + side].data_ptr() == outs[side].data_ptr()
            assert torch.equal(outs[side], want[side])
        else:
            assert got[4 + side].numel() == 0
    same_codes(v[0], v_want[0])
    assert torch.equal(v[1], v_want[1])


@pytest.mark.parametrize("neox", [True, False])
def test_minimax(neox):
    """The norm is of all heads together, the rotation of the first dims of each."""
    qkv = tensor(3, 8 * 8)
    weights, positions = (tensor(32, seed=1), tensor(16, seed=2)), torch.tensor([2, 0, 1])
    cos, sin = COS[:, 0, 0, :2], SIN[:, 0, 0, :2]
    q, k, v = aiter.minimax_qk_norm_rope(
        qkv, *weights, torch.cat((cos, sin), -1), positions, num_heads_q=4, num_heads_k=2, head_dim=8,
        rotary_dim=4, eps=1e-6, is_neox_style=neox,
    )  # fmt: skip
    for got, x, w in zip((q, k), qkv.split([32, 16, 16], 1), weights, strict=False):
        heads = normed(x, w).view(3, -1, 8)
        want = plain.rotary_embedding_fwd(positions, heads, None, 0, cos, sin, neox)
        close(got.view(3, -1, 8), want)
    assert torch.equal(v, qkv[:, 48:])
