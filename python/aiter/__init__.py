"""libaiter: operators for AI engines, for NumPy, JAX, CuPy and torch arrays alike.

Arrays come and go by DLPack without copies; results have the kind of the first array argument.
Function names and semantics are those of AMD's AITER where it has one.
"""

from ._core import (
    Array,
    asarray,
    device_info,
    devices,
    empty,
    explain,
    get_num_threads,
    prepare,
    set_num_threads,
    to_device,
    view,
    zeros,
)
from .activation import gelu_and_mul, gelu_tanh_and_mul, silu_and_mul, swiglu_and_mul
from .attention import flash_attn_func, flash_attn_varlen_func, paged_attention_decode
from .embedding import embedding
from .gemm import (
    gemm_a16w16,
    gemm_a16w4,
    gemm_a16w4_pack,
    gemm_a16w4_unpack,
    gemm_a16w8,
    gemm_a16w8_pack,
    gemm_a16w8_unpack,
    gemm_a8w8,
    gemm_weight_info,
)
from .kvcache import reshape_and_cache_flash
from .norm import rms_norm, rmsnorm2d_fwd, rmsnorm2d_fwd_with_add
from .quant import (
    MxScaleRoundMode,
    QuantType,
    dequantize,
    dynamic_mxfp4_quant,
    dynamic_nvfp4_quant,
    get_quant,
    per_1x32_mx_quant,
    per_block_quant,
    per_group_quant,
    per_tensor_quant,
    pertoken_quant,
    quantize,
)
from .rope import rotary_embedding_fwd
from .sampling import (
    greedy_sample,
    top_k_top_p_sampling_from_logits,
    top_k_top_p_sampling_from_probs,
    top_p_sampling_from_probs,
)

__all__ = [
    "Array",
    "MxScaleRoundMode",
    "QuantType",
    "asarray",
    "dequantize",
    "device_info",
    "devices",
    "dynamic_mxfp4_quant",
    "dynamic_nvfp4_quant",
    "embedding",
    "empty",
    "explain",
    "flash_attn_func",
    "flash_attn_varlen_func",
    "gelu_and_mul",
    "gelu_tanh_and_mul",
    "gemm_a16w16",
    "gemm_a16w4",
    "gemm_a16w4_pack",
    "gemm_a16w4_unpack",
    "gemm_a16w8",
    "gemm_a16w8_pack",
    "gemm_a16w8_unpack",
    "gemm_a8w8",
    "gemm_weight_info",
    "get_num_threads",
    "get_quant",
    "greedy_sample",
    "paged_attention_decode",
    "per_1x32_mx_quant",
    "per_block_quant",
    "per_group_quant",
    "per_tensor_quant",
    "pertoken_quant",
    "prepare",
    "quantize",
    "reshape_and_cache_flash",
    "rms_norm",
    "rmsnorm2d_fwd",
    "rmsnorm2d_fwd_with_add",
    "rotary_embedding_fwd",
    "set_num_threads",
    "silu_and_mul",
    "swiglu_and_mul",
    "to_device",
    "top_k_top_p_sampling_from_logits",
    "top_k_top_p_sampling_from_probs",
    "top_p_sampling_from_probs",
    "view",
    "zeros",
]
