"""GELU, SiLU and ReLU: an array is read once and written once, arithmetic is in float32."""

from __future__ import annotations

from typing import Any

from ...ops import activations
from .launch import STORAGE, kernel

THREADS, BYTES = 256, 16  # of a block, and of a thread's numbers: activation.cu's

_gelu, _gelu_rule = activations.gelu.op.forward, activations.gelu.op.rules["x"].function
_silu, _silu_rule = activations.silu.op.forward, activations.silu.op.rules["x"].function
_relu, _relu_rule = activations.relu.op.forward, activations.relu.op.rules["x"].function
GELU = {"tanh": "gelu_tanh", "none": "gelu_erf"}


@activations.gelu.kernel("cuda")
def _(xp: Any, x: Any, *, approximate: str = "none") -> Any:
    if not served(x) or approximate not in GELU:
        return _gelu(xp, x, approximate=approximate)
    return mapped(xp, f"{GELU[approximate]}_forward", x)


@activations.gelu.kernel("cuda", "x")
def _(xp: Any, g: Any, x: Any, approximate: str) -> Any:
    if not served(x):
        return _gelu_rule(xp, g, x, approximate)
    return mapped(xp, f"{GELU[approximate]}_backward", g, x)


@activations.silu.kernel("cuda")
def _(xp: Any, x: Any) -> Any:
    return mapped(xp, "silu_forward", x) if served(x) else _silu(xp, x)


@activations.silu.kernel("cuda", "x")
def _(xp: Any, g: Any, x: Any) -> Any:
    return mapped(xp, "silu_backward", g, x) if served(x) else _silu_rule(xp, g, x)


@activations.relu.kernel("cuda")
def _(xp: Any, x: Any) -> Any:
    return mapped(xp, "relu_forward", x) if served(x) else _relu(xp, x)


@activations.relu.kernel("cuda", "x")
def _(xp: Any, g: Any, out: Any) -> Any:
    return mapped(xp, "relu_backward", g, out) if served(out) else _relu_rule(g, out)


def served(x: Any) -> bool:
    return x.dtype.name in STORAGE


def mapped(xp: Any, name: str, *arrays: Any) -> Any:
    """The output of a kernel that goes through arrays of one shape and dtype, number by number."""
    out = xp.empty(arrays[0].shape, arrays[0].dtype)
    blocks = -(-out.nbytes // (THREADS * BYTES))
    kernel("activation", name)(
        (blocks,), (THREADS,), out, *[xp.ascontiguousarray(a) for a in arrays], out.size
    )
    return out
