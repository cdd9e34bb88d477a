"""A small random Llama GGUF with SmolLM2's formats and a byte vocabulary."""

from __future__ import annotations

import gguf
import numpy as np

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def alphabet() -> list[str]:
    """GPT-2's characters for the bytes 0..255."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def write(
    path,
    *,
    arch="llama",
    matrix="Q4_1",
    formats=None,
    embedding="Q8_0",
    tied=True,
    layers=2,
    hidden=64,
    heads=4,
    kv_heads=2,
    intermediate=96,
    rope_freqs=False,
    extra=None,
    seed=0,
):
    """Write the file.

    formats: {"attn_k": "Q8_0"}: of some matrices, instead of `matrix`.  extra: more metadata; a
    value of None drops the key.
    """
    rng = np.random.default_rng(seed)
    head_dim = hidden // heads
    merges = ["h e", "l l", "he ll", "Ġ w", "o r"]
    tokens = SPECIAL + alphabet() + [m.replace(" ", "") for m in merges]
    numbers = {
        f"{arch}.block_count": layers,
        f"{arch}.context_length": 512,
        f"{arch}.embedding_length": hidden,
        f"{arch}.feed_forward_length": intermediate,
        f"{arch}.attention.head_count": heads,
        f"{arch}.attention.head_count_kv": kv_heads,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{arch}.rope.freq_base": 10000.0,
        f"{arch}.rope.dimension_count": head_dim,
    } | (extra or {})

    writer = gguf.GGUFWriter(path, arch)
    for key, value in numbers.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif value is not None:
            writer.add_uint32(key, value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT)

    def add(name, shape, kind, gain=1.0):
        w = (gain * rng.standard_normal(shape)).astype(np.float32)
        kind = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quantize(w, kind), raw_dtype=kind)

    def norm(name):
        writer.add_tensor(name, (1 + 0.2 * rng.standard_normal(hidden)).astype(np.float32))

    add("token_embd.weight", (len(tokens), hidden), embedding)
    norm("output_norm.weight")
    if not tied:
        add("output.weight", (len(tokens), hidden), matrix)
    if rope_freqs:
        writer.add_tensor("rope_freqs.weight", np.linspace(1, 8, head_dim // 2).astype(np.float32))
    for i in range(layers):
        norm(f"blk.{i}.attn_norm.weight")
        norm(f"blk.{i}.ffn_norm.weight")
        for name, n, k in (
            ("attn_q", hidden, hidden),
            ("attn_k", kv_heads * head_dim, hidden),
            ("attn_v", kv_heads * head_dim, hidden),
            ("attn_output", hidden, hidden),
            ("ffn_gate", intermediate, hidden),
            ("ffn_up", intermediate, hidden),
            ("ffn_down", hidden, intermediate),
        ):
            add(f"blk.{i}.{name}.weight", (n, k), (formats or {}).get(name, matrix), k**-0.5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
