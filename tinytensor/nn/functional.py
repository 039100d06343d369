"""Functions of PyTorch's torch.nn.functional: `import tinytensor.nn.functional as F`.

The definitions, each beside its derivative, are in tinytensor/ops; this is the list of them.
"""

from ..ops.cross_entropy import cross_entropy, nll_loss
from ..ops.elementwise import gelu, relu, sigmoid, silu, tanh
from ..ops.index import embedding, one_hot
from ..ops.losses import mse_loss
from ..ops.nn import (
    dropout,
    layer_norm,
    linear,
    log_softmax,
    rms_norm,
    scaled_dot_product_attention,
    softmax,
)

__all__ = [
    "cross_entropy", "dropout", "embedding", "gelu", "layer_norm", "linear", "log_softmax",
    "mse_loss", "nll_loss", "one_hot", "relu", "rms_norm", "scaled_dot_product_attention",
    "sigmoid", "silu", "softmax", "tanh",
]  # fmt: skip
