"""AITER's signatures of elementwise operators, on torch tensors."""

import pytest

torch = pytest.importorskip("torch")

import aiter.compat as compat


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
@pytest.mark.parametrize(
    "a, b",
    [
        (torch.randn(4, 6, 8), torch.randn(6, 1)),
        (torch.randn(4, 6).bfloat16(), torch.randn(6, 4).bfloat16().t()),
        (torch.randn(4, 6).half(), torch.randint(1, 9, (4, 6))),
        (torch.randint(1, 9, (4, 6)), torch.randint(1, 9, (6,), dtype=torch.int32)),
    ],
    ids=["column", "transposed", "mixed", "integers"],
)
def test_binary(name, a, b):
    want = getattr(torch, name)(input=a, other=b)
    got = getattr(compat, name)(input=a, other=b)
    assert got.dtype == want.dtype
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    if want.dtype == a.dtype:
        x = a.clone()
        assert getattr(compat, name + "_")(x, b) is x
        torch.testing.assert_close(x, want, rtol=0, atol=0)


def test_unary_and_softmax():
    x = torch.randn(5, 40)
    torch.testing.assert_close(compat.sigmoid(x), torch.sigmoid(x))
    torch.testing.assert_close(compat.tanh(x), torch.tanh(x))
    torch.testing.assert_close(compat.softmax(x), torch.softmax(x, -1))


def test_fused_mul_add():
    x, a, b = torch.randn(3, 4, 5)
    want = x * a + b
    out = torch.empty_like(x)
    assert compat.fused_mul_add(x, a, b, out) is out
    torch.testing.assert_close(out, want)
    before = x.clone()
    assert compat.fused_mul_add(x, 2, torch.tensor([0.5])) is x  # in place
    torch.testing.assert_close(x, before * 2 + 0.5)
