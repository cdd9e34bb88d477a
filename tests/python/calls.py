"""A call of every operator of the families quant, norm, activation, elementwise and sampling, and
of some that end in a cache, with
what is strided, what is written and what it depends on: test_memory.py tries them all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import aiter
import ml_dtypes
import numpy as np
from aiter import Quant


class Call(NamedTuple):
    """function(**arrays, **options, **results).

    rows: the arrays and results whose leading dimension may have any stride.
    changes: other arrays or options, each of which is to change the results.
    results: name -> (shape, dtype); those called "out/0", "out/1" ... are given as a tuple `out`.
    partial: results of which only a part is written: the rest keeps what is there.
    """

    op: str
    function: Any
    arrays: dict[str, np.ndarray]
    options: dict[str, Any]
    results: dict[str, tuple]
    rows: tuple[str, ...]
    changes: dict[str, Any]
    partial: tuple[str, ...] = ()

    def __str__(self):
        return self.function.__name__ + (
            "" if self.op in self.function.__name__ else f"[{self.op}]"
        )

    def run(self, arrays=None, results=None, **options):
        """The results, as a list; new ones where none are given."""
        arrays = self.arrays | (arrays or {})
        given = {}
        for name, array in (results or {}).items():
            where, _, index = name.partition("/")
            given[where] = (*given.get(where, ()), array) if index else array
        found = self.function(**arrays, **(self.options | options), **given)
        return list(found) if isinstance(found, tuple) else [found]


rng = np.random.default_rng(11)
F32, BF16, I32, U8 = np.float32, ml_dtypes.bfloat16, np.int32, np.uint8
FP8 = ml_dtypes.float8_e4m3fn
E8M0 = ml_dtypes.float8_e8m0fnu


def f32(*shape):
    return rng.standard_normal(shape).astype(F32)


def positive(*shape):
    return (rng.random(shape) + 0.25).astype(F32)


X, R, Z = f32(3, 96), f32(3, 96), f32(3, 96)
W, B, S = f32(96), f32(96), positive(96)
CODES = rng.integers(-127, 128, (3, 96)).astype(np.int8)
GATED = f32(3, 192)
LOGITS = f32(3, 200) * 3
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
HEADS = f32(3, 2, 48)
CODED = {"out": ((3, 96), FP8), "out_scale": ((3, 3), F32)}
PLAIN = {"out": ((3, 96), F32)}
GROUPS = Quant("float8_e4m3fn", 32)

CALLS = [
    # ---- quant
    Call("quantize", aiter.quantize,
         {"x": X, "smooth": positive(2, 96), "smooth_map": np.array([1, 0, 1], I32),
          "num_rows": np.array([3], I32)},
         {"group": (1, 32), "quant_dtype": "float8_e4m3fn"}, CODED,
         ("x", "out", "out_scale", "smooth_map"),
         {"scale_ub": 0.5, "smooth_map": np.array([0, 0, 1], I32), "group": (1, 0),
          "num_rows": np.array([2], I32), "scale_dtype": "bfloat16", "quant_dtype": "int8",
          "scale_layout": "shuffled"}, ("out", "out_scale")),
    Call("quantize", aiter.quantize, {"x": X, "global_scale": np.array([0.37], F32)},
         {"group": (1, 16), "quant_dtype": "float4_e2m1fnx2", "scale_dtype": "float8_e4m3fn"},
         {"out": ((3, 48), U8), "out_scale": ((3, 6), FP8)}, ("x", "out", "out_scale"),
         {"global_scale": np.array([1.37], F32)}),
    Call("quantize", aiter.per_1x32_mx_quant, {"x": X}, {"quant_dtype": "float6_e2m3fnx4"},
         {"out": ((3, 72), U8), "out_scale": ((3, 3), E8M0)}, ("x", "out", "out_scale"),
         {"round_mode": 0, "quant_dtype": "float6_e3m2fnx4"}),
    Call("dequantize", aiter.dequantize, {"codes": CODES, "scale": positive(3, 3)},
         {"group": (1, 32)}, PLAIN, ("codes", "scale", "out"),
         {"quant_dtype": "float8_e5m2", "dtype": "float16", "scale_layout": "shuffled"}),
    Call("requantize", aiter.requantize, {"codes": CODES, "scale": positive(3, 1)},
         {"out_group": (1, 32), "quant_dtype": "float8_e4m3fn"}, CODED,
         ("codes", "scale", "out", "out_scale"),
         {"out_group": (1, 0), "quant_dtype": "int8", "scale_dtype": "float8_e8m0fnu"}),
    Call("rotate_activation", aiter.rotate_activation, {"x": f32(3, 64)},
         {"quant": Quant("int8", 32)}, {"out": ((3, 64), np.int8), "out_scale": ((3, 2), F32)},
         ("x", "out", "out_scale"), {"quant": Quant("int8", 16)}),
    Call("shuffle_weight", aiter.shuffle_weight, {"x": CODES[:, :64].repeat(11, 0)[:32].copy()}, {},
         {"out": ((64 + 32 * 64,), U8)}, (),
         {"layout": (32, 16), "use_int4": True, "pad_k_to": 96}),
    Call("shuffle_weight", aiter.shuffle_scale, {"src": rng.integers(1, 255, (128, 16), U8)},
         {"experts_cnt": 2, "is_guinterleave": True}, {"out": ((128, 16), U8)}, ("src",),
         {"is_guinterleave": False, "gate_up": True}),
    Call("shuffle_weight", aiter.unshuffle_scale,
         {"shuffled": rng.integers(1, 255, (64, 16), U8)}, {"shape": (64, 16)},
         {"out": ((64, 16), U8)}, ("out",), {"gate_up": True}),
    Call("partial_transpose", aiter.partial_transpose, {"x": X, "num_rows": np.array([2], I32)}, {},
         {"out": ((96, 3), F32)}, ("x",), {"num_rows": np.array([1], I32)}, ("out",)),
    # ---- norm
    Call("rmsnorm", aiter.rms_norm, {"x": X, "w": W}, {}, PLAIN, ("x", "out"),
         {"eps": 0.5, "gemma_norm": True}),
    Call("rmsnorm", aiter.rms_norm, {"x": X.astype(BF16), "w": W.astype(BF16)}, {},
         {"out": ((3, 96), BF16)}, ("x", "out"), {"use_model_sensitive_rmsnorm": 1}),
    Call("rmsnorm", aiter.rmsnorm2d_fwd_with_add, {"x": X, "residual_in": R, "w": W}, {},
         PLAIN | {"residual_out": ((3, 96), F32)}, ("x", "residual_in", "out", "residual_out"),
         {"eps": 0.5, "gemma_norm": True}),
    Call("rmsnorm", aiter.fused_add_rmsnorm_pad, {"x": X, "weight": W, "res": R},
         {"x_pad_to_multiple": 64}, {"out": ((3, 128), F32), "residual_out": ((3, 96), F32)},
         ("x", "res", "out", "residual_out"), {"epsilon": 0.5, "x_pad_to_multiple": 100}),
    Call("layernorm", aiter.layer_norm, {"x": X, "weight": W, "bias": B, "x_bias": Z[0].copy()}, {},
         PLAIN, ("x", "out"), {"eps": 0.5}),
    Call("layernorm", aiter.layernorm2d_fwd_with_add,
         {"x": X, "residual_in": R, "weight": W, "bias": B, "x_bias": Z[0].copy()}, {},
         PLAIN | {"residual_out": ((3, 96), F32)}, ("x", "residual_in", "out", "residual_out"),
         {"eps": 0.5}),
    Call("norm_quant", aiter.norm_quant,
         {"x": X, "w": W, "residual_in": R, "gate": Z, "smooth": S},
         {"quant": GROUPS, "unquantized": "float32"},
         CODED | {"out_unquantized": ((3, 96), F32), "residual_out": ((3, 96), F32)},
         ("x", "residual_in", "gate", "out", "out_scale", "out_unquantized", "residual_out"),
         {"eps": 0.5, "kind": "layer", "gemma_norm": True, "quant": Quant("int8", 32)}),
    Call("qk_rmsnorm", aiter.fused_qk_rmsnorm,
         {"q": X, "q_weight": W, "k": Z, "k_weight": B, "q_residual": R},
         {"quant": GROUPS, "unquantized": "float32"},
         {"q_out": ((3, 96), FP8), "q_out_scale": ((3, 3), F32),
          "q_out_unquantized": ((3, 96), F32), "q_res_out": ((3, 96), F32),
          "k_out": ((3, 96), F32)},
         ("q", "k", "q_residual", "q_out", "q_out_scale", "q_out_unquantized", "q_res_out",
          "k_out"),
         {"q_epsilon": 0.5, "k_epsilon": 0.5, "gemma_norm": True}),
    Call("groupnorm", aiter.groupnorm_run,
         {"x": f32(3, 8, 12), "weight": f32(8), "bias": f32(8)}, {"num_groups": 4},
         {"out": ((3, 8, 12), F32)}, (), {"num_groups": 2, "eps": 0.5, "silu": True}),
    Call("groupnorm", aiter.groupnorm_run_with_add,
         {"x": X.reshape(3, 8, 12), "residual_in": R.reshape(3, 8, 12), "weight": W[:8],
          "bias": B[:8]},
         {"num_groups": 4}, {"out": ((3, 8, 12), F32), "residual_out": ((3, 8, 12), F32)}, (),
         {"num_groups": 2, "eps": 0.5, "silu": True}),
    Call("groupnorm_quant", aiter.groupnorm_quant,
         {"x": X.reshape(3, 8, 12), "residual_in": R.reshape(3, 8, 12), "weight": W[:8],
          "bias": B[:8], "smooth": S[:8]},
         {"num_groups": 4, "quant": GROUPS, "unquantized": "float32", "return_moments": True},
         {"out": ((3, 8, 12), FP8), "out_scale": ((3, 8, 1), F32),
          "out_unquantized": ((3, 8, 12), F32), "residual_out": ((3, 8, 12), F32),
          "moments": ((3, 4, 2), F32)}, ("out", "out_scale"),
         {"num_groups": 2, "eps": 0.5, "silu": True, "quant": Quant("int8")}),
    Call("norm_backward", aiter.rms_norm_backward, {"dy": R, "x": X, "w": W, "dresidual": Z}, {},
         PLAIN, ("dy", "x", "dresidual", "out"), {"eps": 0.5, "gemma_norm": True}),
    Call("norm_backward", aiter.layer_norm_backward,
         {"dy": R, "x": X, "weight": W, "dresidual": Z}, {"x_bias": True}, PLAIN,
         ("dy", "x", "dresidual", "out"), {"eps": 0.5, "bias": False, "x_bias": False}),
    # ---- activation
    Call("act_and_mul", aiter.act_and_mul,
         {"x": GATED * 3, "bias": f32(2, 192), "expert_ids": np.array([1, 0, 1], I32)}, {}, PLAIN,
         ("x", "out"),
         {"activation": "gelu", "limit": 0.5, "interleaved": True,
          "expert_ids": np.array([1, 1, 1], I32)}),
    Call("act_and_mul", aiter.act_and_mul, {"x": GATED, "weights": positive(3, 1)},
         {"quant": GROUPS}, CODED, ("x", "out", "out_scale"), {"quant": Quant("int8", 32)}),
    Call("act_and_mul", aiter.situv2_and_mul, {"x": GATED * 5}, {}, PLAIN, ("x", "out"),
         {"beta": 1.0, "linear_beta": 2.0}),
    Call("act_and_mul_backward", aiter.act_and_mul_backward, {"dy": X, "x": GATED * 3}, {},
         {"out": ((3, 192), F32)}, ("dy", "x", "out"),
         {"activation": "gelu_tanh", "limit": 0.5, "interleaved": True}),
    # ---- elementwise
    Call("binary", aiter.add, {"a": X, "b": Z}, {}, PLAIN, ("a", "b", "out"), {"b": 3.0}),
    Call("unary", aiter.sigmoid, {"x": X}, {}, PLAIN, ("x", "out"), {"dtype": "float16"}),
    Call("fused_mul_add", aiter.fused_mul_add, {"x": X, "a": Z, "b": R}, {}, PLAIN,
         ("x", "a", "b", "out"), {"a": 2.0, "dtype": "float16"}),
    Call("softmax", aiter.softmax, {"x": X}, {}, PLAIN, ("x", "out"), {}),
    # ---- sampling
    Call("greedy_sample", aiter.greedy_sample, {"logits": LOGITS}, {}, {"out": ((3,), I32)},
         ("logits",), {}),
    Call("random_sample", aiter.random_sample, {"logits": LOGITS / 9, "temperatures": positive(3) * 4},
         {"seed": 5, "eps": 0.5}, {"out": ((3,), I32)}, ("logits",),
         {"temperatures": np.array([9, 0, 9], F32), "seed": 6, "offset": 9, "lambd": 0.01,
          "eps": 1e-10}),
    Call("random_sample", aiter.random_sample_outer_exponential,
         {"logits": LOGITS, "exponentials": rng.exponential(size=(3, 200)).astype(F32),
          "temperatures": positive(3) * 4}, {}, {"out": ((3,), I32)}, ("logits", "exponentials"),
         {"temperatures": np.array([9, 0, 9], F32), "eps": 1e3}),
    Call("renorm_probs", aiter.top_k_renorm_probs, {"probs": PROBS, "top_k": np.array([4, 9, 2], I32)},
         {}, {"out": ((3, 200), F32)}, ("probs", "out"), {"top_k": 5}),
    Call("renorm_probs", aiter.top_p_renorm_probs, {"probs": PROBS, "top_p": np.array([.4, .9, .2], F32)},
         {}, {"out": ((3, 200), F32)}, ("probs", "out"), {"top_p": 0.5}),
    Call("top_k_top_p_sampling", aiter.top_k_top_p_sampling_from_logits,
         {"logits": LOGITS, "top_k": np.array([40, 90, 20], I32),
          "temperature": positive(3) * 4}, {"seed": 4}, {"out": ((3,), I32)}, ("logits",),
         {"seed": 5, "offset": 8, "top_p": 0.05, "min_p": 0.99, "top_k": np.array([1, 1, 1], I32)}),
    Call("topk", aiter.topk, {"x": LOGITS, "row_starts": np.array([0, 5, 9], I32),
                              "row_ends": np.array([200, 190, 180], I32)},
         {"k": 7}, {"out/0": ((3, 7), F32), "out/1": ((3, 7), I32)}, ("x", "out/0", "out/1"),
         {"largest": False, "sorted": False, "row_starts": np.array([99, 99, 99], I32),
          "row_ends": np.array([30, 30, 30], I32)}),
    Call("exponential", aiter.exponential, {}, {"seed": 3}, {"out": ((3, 40), F32)}, ("out",),
         {"seed": 4, "offset": 5, "lambd": 2.0, "eps": 0.5}),
    # ---- kvcache
    Call("fused_qk_rope_reshape_and_cache", aiter.rope_rotate_activation,
         {"x": f32(3, 2, 64), "cos": f32(9, 8), "sin": f32(9, 8), "positions": np.array([1, 8, 4])},
         {"quant_dtype": "float8_e4m3fn", "group_size": 32},
         {"out": ((3, 2, 64), FP8), "out_scale": ((3, 2, 2), F32)}, ("x", "out", "out_scale"),
         {"positions": np.array([0, 0, 0]), "group_size": 64, "do_rotate_act": False}),
    Call("fused_qk_rope_reshape_and_cache", aiter.fused_reduce_qk_norm_rope_swa_write,
         {"q": f32(3, 64), "kv": f32(3, 32), "q_norm_weight": f32(32), "kv_norm_weight": f32(32),
          "cos_cache": f32(9, 4), "sin_cache": f32(9, 4), "positions": np.array([1, 8, 4])},
         {"q_rms_eps": 0.1, "kv_rms_eps": 0.2, "rope_head_dim": 8},
         {"out/0": ((3, 2, 32), F32), "out/1": ((3, 32), F32)}, ("q", "kv", "out/0", "out/1"),
         {"positions": np.array([0, 0, 0]), "q_rms_eps": 2.0, "kv_rms_eps": 3.0, "is_neox": True}),
]  # fmt: skip
