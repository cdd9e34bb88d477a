"""Run by test_mock_driver.py with the mock driver in place of a real one: prints a failure a line.

Arguments: the mock driver, and the device, "hip:1" or "cuda:1".
"""

import ctypes
import sys
from pathlib import Path

import aiter
import ml_dtypes
import numpy as np
from aiter import _aiter

mock = ctypes.CDLL(sys.argv[1])
mock.mock_log.restype = ctypes.c_char_p
library = ctypes.CDLL(next((Path(aiter.__file__).parent / "lib").glob("libaiter.so.*")))


class Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


DEVICE = sys.argv[2]
GPU = Device({"hip": 10, "cuda": 2}[DEVICE.split(":")[0]], 1)
STREAM = 0x1230
rng = np.random.default_rng(0)


# Operators whose calls launch kernels of others, too.
ALSO = {
    "fused_qk_rope_reshape_and_cache": ["reshape_and_cache_with_block_quant"],
    "groupnorm_quant": ["groupnorm"],
}


def on_gpu(array):
    return aiter.to_device(array, DEVICE)


def bf16(*shape):
    return on_gpu(rng.standard_normal(shape).astype(ml_dtypes.bfloat16))


def f16(*shape):
    return on_gpu(rng.standard_normal(shape).astype(np.float16))


def ints(*values, dtype=np.int32):
    return on_gpu(np.array(values, dtype))


def calls():
    """One call of each operator with GPU rows, which makes no array of its own."""
    x, y, w = bf16(4, 64), bf16(4, 64), bf16(64)
    gate_up, ids, table = bf16(4, 128), ints(0, 3, -1, 2), bf16(8, 64)
    key, value, cache = bf16(4, 2, 32), bf16(4, 2, 32), [bf16(2, 16, 2, 32) for _ in range(2)]
    slots = ints(0, 5, -1, 31, dtype=np.int64)
    code_cache = [on_gpu(np.zeros((2, 16, 2, 32), np.int8)) for _ in range(2)]
    page_scale, pairs = on_gpu(np.zeros((2, 2), np.float32)), ints([0, 1])
    cu_pages, value_out = ints(0, 2, 4), bf16(4, 2, 32)
    bf16_weights, narrow_key = bf16(4, 2), bf16(4, 32)
    one, transposed = ints(1), on_gpu(np.zeros((2, 2), np.float32))
    tile, packed_tile = (on_gpu(np.zeros(s, np.uint8)) for s in ((16, 32), 64 + 16 * 32))
    indexer = on_gpu(np.zeros((2, 16, 36), np.uint8))
    q_codes, q_weights = (
        on_gpu(np.zeros((4, 2, 32), np.uint8)),
        on_gpu(np.zeros((4, 2), np.float32)),
    )
    norms = [on_gpu(np.ones(32, np.float32)) for _ in range(2)]
    cos, sin = bf16(16, 16), bf16(16, 16)
    q, q_out, pages, used = bf16(2, 4, 32), bf16(2, 4, 32), ints([0, 1], [1, 0]), ints(5, 20)
    codes, scale = on_gpu(np.zeros((8, 32), np.uint8)), f16(8, 2)
    codes8, narrow = on_gpu(np.zeros((8, 64), np.int8)), bf16(4, 8)
    cu = ints(0, 1, 4)
    return {
        "rmsnorm": lambda: aiter.rms_norm(x, w, out=y, stream=STREAM),
        "act_and_mul": lambda: aiter.silu_and_mul(gate_up, out=y, stream=STREAM),
        "act_and_mul_backward": lambda: aiter.act_and_mul_backward(
            y, gate_up, out=gate_up, stream=STREAM
        ),
        "binary": lambda: aiter.add(x, y, out=y, stream=STREAM),
        "unary": lambda: aiter.sigmoid(x, out=y, stream=STREAM),
        "fused_mul_add": lambda: aiter.fused_mul_add(x, w, 1.0, out=y, stream=STREAM),
        "softmax": lambda: aiter.softmax(x, out=y, stream=STREAM),
        "layernorm": lambda: aiter.layer_norm(x, w, out=y, stream=STREAM),
        "norm_backward": lambda: aiter.rms_norm_backward(y, x, out=y, stream=STREAM),
        "norm_quant": lambda: aiter.norm_quant(
            x, w, out=small, out_scale=small_scale, stream=STREAM
        ),
        "qk_rmsnorm": lambda: aiter.fused_qk_rmsnorm(x, w, q_out=y, stream=STREAM),
        "groupnorm": lambda: aiter.groupnorm_run(x, 4, out=y, stream=STREAM),
        "groupnorm_quant": lambda: aiter.groupnorm_quant(
            x, 4, out=small, out_scale=small_scale, moments=group_moments, stream=STREAM
        ),
        "requantize": lambda: aiter.requantize(
            small, small_scale, out=small, out_scale=small_scale, stream=STREAM
        ),
        "rotate_activation": lambda: aiter.rotate_activation(x, out=y, stream=STREAM),
        "exponential": lambda: aiter.exponential(floats, stream=STREAM),
        "random_sample": lambda: aiter.random_sample(x, out=ids, stream=STREAM),
        "renorm_probs": lambda: aiter.top_k_renorm_probs(floats, 4, out=floats, stream=STREAM),
        "topk": lambda: aiter.topk(x, 4, out=(best, best_ids), stream=STREAM),
        "top_k_top_p_sampling": lambda: aiter.top_k_top_p_sampling_from_logits(
            x, 4, 0.9, out=ids, stream=STREAM
        ),
        "embedding": lambda: aiter.embedding(ids, table, out=y, stream=STREAM),
        "reshape_and_cache": lambda: aiter.reshape_and_cache(
            key, value, *cache, slots, stream=STREAM
        ),
        "reshape_and_cache_with_block_quant": lambda: aiter.reshape_and_cache_with_block_quant(
            key, value, *code_cache, page_scale, page_scale, slots, stream=STREAM
        ),
        "fused_qk_rope_reshape_and_cache": lambda: aiter.fused_qk_rope_reshape_and_cache(
            key, key, value, *cache, slots, ids, cos, sin, q_out=key_out, stream=STREAM
        ),
        "indexer_qk_rope_quant_and_cache": lambda: aiter.indexer_qk_rope_quant_and_cache(
            key,
            bf16_weights,
            narrow_key,
            indexer,
            slots,
            *norms,
            ids,
            cos,
            sin,
            out=(q_codes, q_weights),
            stream=STREAM,
        ),
        "gather_cache": lambda: aiter.gather_cache(
            *cache, pages, cu_pages, 4, out=(key_out, value_out), stream=STREAM
        ),
        "copy_blocks": lambda: aiter.copy_blocks(*[[c] for c in cache], pairs, stream=STREAM),
        "rotary_embedding": lambda: aiter.rotary_embedding_fwd(
            ids, key, value, 32, cos, sin, True, out=(key, value), stream=STREAM
        ),
        "fused_qk_norm_rope": lambda: aiter.fused_qk_norm_rope(
            key, value, cos=cos, sin=sin, positions=ids, out=(key, value), stream=STREAM
        ),
        "quantize": lambda: aiter.quantize(x, out=small, out_scale=small_scale, stream=STREAM),
        "partial_transpose": lambda: aiter.partial_transpose(
            page_scale, one, out=transposed, stream=STREAM
        ),
        "shuffle_weight": lambda: aiter.shuffle_weight(tile, out=packed_tile, stream=STREAM),
        "dequantize": lambda: aiter.dequantize(small, small_scale, out=floats, stream=STREAM),
        "greedy_sample": lambda: aiter.greedy_sample(x, out=ids, stream=STREAM),
        "gemm_a16w4": lambda: aiter.gemm_a16w4(x, codes, scale, out=narrow, stream=STREAM),
        "gemm_a16w8": lambda: aiter.gemm_a16w8(x, codes8, scale, out=narrow, stream=STREAM),
        "gemm_a8w8": lambda: aiter.gemm_a8w8(
            small, small_weight, small_scale, small_weight_scale, out=narrow, stream=STREAM
        ),
        "gemm_a16w16": lambda: aiter.gemm_a16w16(x, bf16_weight, out=narrow, stream=STREAM),
        "flash_attn_varlen": lambda: aiter.flash_attn_varlen_func(
            key, key, value, cu, cu, out=key_out, stream=STREAM
        ),
        "paged_attention_decode": lambda: aiter.paged_attention_decode(
            q, *cache, used, pages, out=q_out, stream=STREAM
        ),
    }


bf16_weight = bf16(8, 64)
key_out = bf16(4, 2, 32)
best, best_ids = bf16(4, 4), on_gpu(np.zeros((4, 4), np.int64))
small = on_gpu(np.zeros((4, 64), np.int8))
small_scale = on_gpu(np.ones((4, 1), np.float32))
group_moments = on_gpu(np.zeros((4, 4, 2), np.float32))
small_weight = on_gpu(np.zeros((8, 64), np.int8))
small_weight_scale = on_gpu(np.ones(8, np.float32))
floats = on_gpu(np.zeros((4, 64), np.float32))


def captured(call):
    """The error of a call under capture, or None; what it asked of the driver; whether the capture
    went on."""
    stream, graph, error = ctypes.c_void_p(STREAM), ctypes.c_void_p(), None
    assert library.aiter_capture_begin(GPU, stream) == 0
    mock.mock_clear()
    try:
        call()
    except RuntimeError as e:
        error = str(e)
    log = mock.mock_log().decode().splitlines()
    return error, log, library.aiter_capture_end(GPU, ctypes.byref(graph), stream) == 0


def main():
    table = [line.split("\t") for line in _aiter.dispatch_table().splitlines()]
    ops = {op for _, op, _, targets, _ in table if "CPU" not in targets}
    made = calls()
    for op in sorted(ops - set(made)):
        print(f"{op}: no call here")
    prepared = set()
    for op in sorted(ops & set(made), key=lambda op: (op not in ALSO, op)):
        if op not in prepared:
            error, _, went_on = captured(made[op])
            if not error or "aiter_prepare" not in error:
                print(f"{op}: {error or 'runs under capture, unprepared'}")
            if not went_on:
                print(f"{op}: the refused call ended the capture")

        both = [op, *ALSO.get(op, ())]
        if GPU.type == 10:
            aiter.prepare(DEVICE, op)
            prepared.update(both)
        else:  # nothing is built ahead of time: the kernels of this call alone
            made[op]()
        error, log, went_on = captured(made[op])
        launches = [line for line in log if line.startswith(tuple(f"launch {o}_" for o in both))]
        where = [line for line in log if line.endswith(f" stream {STREAM:#x} device 1")]
        if error or not log or log != launches or log != where:
            print(f"{op}: expected launches on the given stream and device alone: {log} {error}")
        if not went_on:
            print(f"{op}: a prepared call ended the capture")
        for other in both[1:] if GPU.type == 10 else ():
            if error := captured(made[other])[0]:
                print(f"{op}: does not prepare {other}: {error}")

    team_of_blocks()


def team_of_blocks():
    """Few long rows: as many blocks for each as sm_90 has in a cluster."""
    logits, ids = (on_gpu(np.zeros(s, t)) for s, t in (((2, 5000), np.float32), (2, np.int32)))
    aiter.greedy_sample(logits, out=ids, stream=STREAM)
    mock.mock_clear()
    aiter.greedy_sample(logits, out=ids, stream=STREAM)
    log = [line.split(" block")[0] for line in mock.mock_log().decode().splitlines()]
    launch = "launch greedy_sample_hip_vec_f32 grid"
    want = [f"{launch} 2 1 1"] if GPU.type == 10 else ["team 8", f"{launch} 16 1 1"]
    if log != want:
        print(f"greedy_sample of long rows: {log}, expected {want}")


main()
