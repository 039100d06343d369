"""Starting values of parameters, written in place, outside of the graph.

For weights (fan_out, fan_in, ...): fan_in inputs are summed into each output, and each input
reaches fan_out outputs; further dimensions (a convolution's) multiply both. Keeping the variance
of activations through a layer asks for Var(w) = gain^2 / fan_in, that of gradients for
gain^2 / fan_out.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import backend
from ..autograd import no_grad, wrap
from ..creation import eye, full_like, rand, randn
from ..errors import ArgumentError, ShapeError
from ..random import Generator
from ..tensor import Tensor


class _Skipping(threading.local):
    on = False


_skipping = _Skipping()


@contextmanager
def skipped() -> Iterator[None]:
    """Inside, constants and distributions are not written: for a model whose weights come from a
    file. Its parameters are memory as it comes, and the random numbers stay where they are.
    """
    before, _skipping.on = _skipping.on, True
    try:
        yield
    finally:
        _skipping.on = before


def _write(t: Tensor, values: Tensor) -> Tensor:
    with no_grad():
        return t.copy_(values)


def _like(t: Tensor) -> dict[str, Any]:
    return {"dtype": t.dtype, "device": t.device}


# ------------------------------------------------------------------------------ constants


def constant_(tensor: Tensor, val: float) -> Tensor:
    if _skipping.on:
        return tensor
    return _write(tensor, full_like(tensor, val))


def zeros_(tensor: Tensor) -> Tensor:
    return constant_(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    return constant_(tensor, 1)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix, as far as it fits."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: tensor {tuple(tensor.shape)} must have 2 dimensions")
    return _write(tensor, eye(*tensor.shape, **_like(tensor)))


# ------------------------------------------------------------------------------ distributions


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform in [a, b)."""
    if _skipping.on:
        return tensor
    if a > b:
        raise ArgumentError(f"uniform_: a = {a} is above b = {b}")
    return _write(tensor, rand(tensor.shape, generator=generator, **_like(tensor)) * (b - a) + a)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal with the given mean and standard deviation."""
    if _skipping.on:
        return tensor
    if std < 0:
        raise ArgumentError(f"normal_: std must not be negative, got {std}")
    return _write(tensor, randn(tensor.shape, generator=generator, **_like(tensor)) * std + mean)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Normal, given that it lies in [a, b]: drawn again wherever it does not (von Neumann 1951).

    a and b are values, not multiples of std. Where [a, b] is an unlikely place, points are drawn
    uniformly in it instead, and kept in proportion to the density.
    """
    if not (a < b and std > 0):
        raise ArgumentError(f"trunc_normal_: needs a < b and std > 0, got {a}, {b} and {std}")
    low, high = (a - mean) / std, (b - mean) / std
    likely = math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2)) > 0.2
    peak = min(max(low, 0), high)  # where in [low, high] the density is largest
    xp = backend.namespace_of(tensor.array)
    like: dict[str, Any] = {"device": tensor.device, "generator": generator, "dtype": "float64"}
    with backend.using(tensor.array):
        z = xp.full(tensor.numel(), math.nan)
        while (todo := xp.flatnonzero(xp.isnan(z))).size:
            n = int(todo.size)
            if likely:
                draw = randn(n, **like).array
                keep = (low <= draw) & (draw <= high)
            else:
                draw = low + (high - low) * rand(n, **like).array
                keep = rand(n, **like).array < xp.exp((peak * peak - draw * draw) / 2)
            z[todo[keep]] = draw[keep]
        z = xp.clip(z * std + mean, a, b)  # rounding must not leave [a, b] either
    return _write(tensor, wrap(z.reshape(tensor.shape)))


# ------------------------------------------------------------------------------ by fan


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """What a nonlinearity divides the scale of a standard normal signal by; kept from PyTorch."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    if nonlinearity not in gains:
        known = ", ".join([*gains, "leaky_relu"])
        raise ArgumentError(f"calculate_gain: {nonlinearity!r} is not one of {known}")
    return gains[nonlinearity]


def _fans(name: str, t: Tensor) -> tuple[int, int]:
    if t.ndim < 2:
        raise ShapeError(f"{name}: tensor {tuple(t.shape)} needs 2 dimensions for fan in and out")
    field = math.prod(t.shape[2:])
    return t.shape[1] * field, t.shape[0] * field


def _fan(name: str, t: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"{name}: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return _fans(name, t)[mode == "fan_out"]


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Var = gain^2 * 2 / (fan_in + fan_out), uniform (Glorot & Bengio 2010)."""
    bound = gain * math.sqrt(6 / sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Var = gain^2 * 2 / (fan_in + fan_out), normal (Glorot & Bengio 2010)."""
    std = gain * math.sqrt(2 / sum(_fans("xavier_normal_", tensor)))
    return normal_(tensor, 0, std, generator)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Var = gain^2 / fan, uniform; `a` is the leaky ReLU's slope (He et al. 2015)."""
    std = calculate_gain(nonlinearity, a) / math.sqrt(_fan("kaiming_uniform_", tensor, mode))
    return uniform_(tensor, -math.sqrt(3) * std, math.sqrt(3) * std, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Var = gain^2 / fan, normal; `a` is the leaky ReLU's slope (He et al. 2015)."""
    std = calculate_gain(nonlinearity, a) / math.sqrt(_fan("kaiming_normal_", tensor, mode))
    return normal_(tensor, 0, std, generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """Orthonormal rows or columns, whichever are fewer, times gain (Saxe et al. 2013)."""
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_: tensor {tuple(tensor.shape)} needs 2 dimensions")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    shape = (max(rows, columns), min(rows, columns))
    normal = randn(shape, generator=generator, dtype="float64", device=tensor.device).array
    xp = backend.namespace_of(normal)
    with backend.using(normal):
        q, r = xp.linalg.qr(normal)
        q = gain * q * xp.sign(xp.diagonal(r))  # a uniform distribution (Mezzadri 2006)
    return _write(tensor, wrap(q if rows >= columns else q.T).reshape(tensor.shape))
