"""Nonlinearities as modules, for Sequential. The maths is in ops/activations.py and others."""

from __future__ import annotations

from typing import Any

from ..creation import full
from ..dtypes import get_default_dtype
from ..tensor import Tensor
from . import functional as F
from .module import Module
from .of_function import REQUIRED, module
from .parameter import Parameter


class ReLU(Module):
    """out = max(x, 0)"""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(input)


class GELU(Module):
    """out = x * Phi(x); approximate='tanh' is GPT-2's form."""

    def __init__(self, approximate: str = "none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """out = x * sigmoid(x)"""

    def forward(self, input: Tensor) -> Tensor:
        return F.silu(input)


class Tanh(Module):
    """out = tanh x"""

    def forward(self, input: Tensor) -> Tensor:
        return F.tanh(input)


class Sigmoid(Module):
    """out = 1 / (1 + e^-x)"""

    def forward(self, input: Tensor) -> Tensor:
        return F.sigmoid(input)


class Softmax(Module):
    """out = e^x / sum of e^x over dim"""

    def __init__(self, dim: int = -1):
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """out = ln softmax(x)"""

    def forward(self, input: Tensor) -> Tensor:
        return F.log_softmax(input, self.dim)


class PReLU(Module):
    """x where x > 0, else weight * x; weight (num_parameters,), 1 or one a channel, is learned"""

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, *, device: Any = None, dtype: Any = None
    ):
        super().__init__()
        self.num_parameters = num_parameters
        dtype = dtype or get_default_dtype()
        self.weight = Parameter(full((num_parameters,), init, dtype=dtype, device=device))

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


LeakyReLU = module("LeakyReLU", F.leaky_relu, negative_slope=0.01, inplace=False)
ReLU6 = module("ReLU6", F.relu6, inplace=False)
ELU = module("ELU", F.elu, alpha=1.0, inplace=False)
CELU = module("CELU", F.celu, alpha=1.0, inplace=False)
SELU = module("SELU", F.selu, inplace=False)
Mish = module("Mish", F.mish, inplace=False)
Hardtanh = module("Hardtanh", F.hardtanh, min_val=-1.0, max_val=1.0, inplace=False)
Hardsigmoid = module("Hardsigmoid", F.hardsigmoid, inplace=False)
Hardswish = module("Hardswish", F.hardswish, inplace=False)
Threshold = module("Threshold", F.threshold, threshold=REQUIRED, value=REQUIRED, inplace=False)
Hardshrink = module("Hardshrink", F.hardshrink, lambd=0.5)
Softshrink = module("Softshrink", F.softshrink, lambd=0.5)
Softplus = module("Softplus", F.softplus, beta=1.0, threshold=20.0)
LogSigmoid = module("LogSigmoid", F.logsigmoid)
Softsign = module("Softsign", F.softsign)
Tanhshrink = module("Tanhshrink", F.tanhshrink)
Softmin = module("Softmin", F.softmin, dim=-1)
GLU = module("GLU", F.glu, dim=-1)
