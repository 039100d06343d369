"""Functions of PyTorch's torch.nn.functional: `import tinytensor.nn.functional as F`.

The definitions, each beside its derivative, are in tinytensor/ops; this is the list of them.
Those that PyTorch can also run in place take `inplace=True`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..arguments import guard as _guard
from ..arguments import guard_all as _guard_all
from ..ops import activations as _activations
from ..ops import nn as _nn
from ..ops.activations import (
    gelu, glu, hardshrink, logsigmoid, prelu, softplus, softshrink, softsign, tanhshrink,
)  # fmt: skip
from ..ops.conv import (
    conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d,
)  # fmt: skip
from ..ops.cross_entropy import (
    binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy, nll_loss,
)  # fmt: skip
from ..ops.dropout import alpha_dropout, dropout1d, dropout2d, dropout3d
from ..ops.elementwise import sigmoid, tanh
from ..ops.embedding_bag import embedding_bag
from ..ops.index import embedding, one_hot
from ..ops.inplace import assign as _assign
from ..ops.fused import (
    add_layer_norm, add_rms_norm, cached_attention, fused_linear_cross_entropy, gelu_mlp,
    packed_attention,
)  # fmt: skip
from ..ops.interpolate import interpolate
from ..ops.length import cosine_similarity, normalize, pairwise_distance
from ..ops.losses import (
    cosine_embedding_loss, gaussian_nll_loss, hinge_embedding_loss, huber_loss, kl_div, l1_loss,
    margin_ranking_loss, mse_loss, multilabel_soft_margin_loss, poisson_nll_loss, smooth_l1_loss,
    soft_margin_loss, triplet_margin_loss,
)  # fmt: skip
from ..ops.nn import (
    layer_norm, linear, log_softmax, rms_norm, scaled_dot_product_attention, softmax,
)  # fmt: skip
from ..ops.norm import batch_norm, group_norm, instance_norm, local_response_norm
from ..ops.norm_linear import layer_norm_linear, layer_norm_mlp
from ..ops.pad import pad
from ..ops.pixels import channel_shuffle, pixel_shuffle, pixel_unshuffle
from ..ops.pool import (
    adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, adaptive_max_pool1d,
    adaptive_max_pool2d, adaptive_max_pool3d, avg_pool1d, avg_pool2d, avg_pool3d, max_pool1d,
    max_pool2d, max_pool3d,
)  # fmt: skip
from ..ops.unpool import max_unpool1d, max_unpool2d, max_unpool3d
from ..ops.windows import fold, unfold
from ..tensor import Tensor


def _also_in_place(function: Callable) -> Callable:
    function = _guard(function)

    @functools.wraps(function)
    def either(input: Tensor, *args: object, inplace: bool = False, **options: object) -> Tensor:
        out = function(input, *args, **options)
        return _assign(input, out, function.__name__ + "_") if inplace else out

    return either


relu, relu6 = _also_in_place(_activations.relu), _also_in_place(_activations.relu6)
silu, mish = _also_in_place(_activations.silu), _also_in_place(_activations.mish)
leaky_relu = _also_in_place(_activations.leaky_relu)
elu, celu = _also_in_place(_activations.elu), _also_in_place(_activations.celu)
selu, hardtanh = _also_in_place(_activations.selu), _also_in_place(_activations.hardtanh)
hardsigmoid = _also_in_place(_activations.hardsigmoid)
hardswish = _also_in_place(_activations.hardswish)
threshold = _also_in_place(_activations.threshold)
dropout = _also_in_place(_nn.dropout)


def softmin(input: Tensor, dim: int, *, dtype: object = None) -> Tensor:
    """softmax(-input): the smallest gets the most"""
    return softmax(-input, dim, dtype=dtype)


__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "add_layer_norm", "add_rms_norm", "alpha_dropout",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "cached_attention", "celu", "channel_shuffle", "conv1d",
    "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "cosine_embedding_loss", "cosine_similarity", "cross_entropy", "dropout", "dropout1d",
    "dropout2d", "dropout3d", "elu", "embedding", "embedding_bag", "fold",
    "fused_linear_cross_entropy", "gaussian_nll_loss", "gelu", "gelu_mlp", "glu", "group_norm",
    "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "hinge_embedding_loss", "huber_loss",
    "instance_norm", "interpolate", "kl_div", "l1_loss", "layer_norm", "layer_norm_linear",
    "layer_norm_mlp", "leaky_relu", "linear", "local_response_norm", "log_softmax", "logsigmoid",
    "margin_ranking_loss", "max_pool1d", "max_pool2d", "max_pool3d", "max_unpool1d",
    "max_unpool2d", "max_unpool3d", "mish", "mse_loss",
    "multilabel_soft_margin_loss", "nll_loss", "normalize", "one_hot", "packed_attention", "pad",
    "pairwise_distance", "pixel_shuffle", "pixel_unshuffle", "poisson_nll_loss", "prelu", "relu",
    "relu6", "rms_norm", "scaled_dot_product_attention", "selu", "sigmoid", "silu",
    "smooth_l1_loss", "soft_margin_loss", "softmax", "softmin", "softplus", "softshrink",
    "softsign", "tanh", "tanhshrink", "threshold", "triplet_margin_loss", "unfold",
]  # fmt: skip

globals().update(_guard_all(globals()))
