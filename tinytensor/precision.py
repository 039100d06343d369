"""In which precision ops compute: the lists of autocast, and the switch of matrix products.

LOWER are products, which tensor cores are for; FLOAT32 is what sums many numbers or magnifies
their errors. All other ops take what comes. BESIDE: products whose kernels on CUDA take float32
parameters beside a half input, so that their gradients come in float32, not rounded on the way.
See amp/autocast.py.
"""

from __future__ import annotations

from .errors import ArgumentError

BESIDE = frozenset(["linear", "gelu_mlp", "linear_cross_entropy"])
LOWER = "linear matmul conv prelu attention packed_attention gelu_mlp linear_cross_entropy"
FLOAT32 = """
softmax log_softmax logsumexp logsigmoid softplus normalize
sum mean prod cumsum cumprod logcumsumexp var std p_norm
exp expm1 log log2 log10 log1p pow rsqrt reciprocal acos asin cosh sinh tan xlogy
squared_error absolute_error huber binary_cross_entropy
"""
AUTOCAST = dict.fromkeys(LOWER.split(), "lower") | dict.fromkeys(FLOAT32.split(), "float32")

PRECISIONS = ("highest", "high", "medium")
_precision = ["highest"]


def set_float32_matmul_precision(precision: str) -> None:
    """How exact products of float32 matrices on CUDA are, for the whole process.

    highest   float32 throughout
    high      TF32: factors rounded to 10 bits of mantissa, sums in float32; several times faster
    medium    as high: autocast is for less
    """
    if precision not in PRECISIONS:
        raise ArgumentError(
            f"set_float32_matmul_precision: one of {', '.join(PRECISIONS)}, got {precision!r}"
        )
    _precision[0] = precision


def get_float32_matmul_precision() -> str:
    return _precision[0]
