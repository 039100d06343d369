"""The ops that kernels are measured by, in the sizes of a GPT, and one call of each."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any, NamedTuple

import numpy as np

import tinytensor as tt
from tinytensor.ops import activations, elementwise, fused, index, linalg, nn

from .timing import in_turn


class Size(NamedTuple):
    """Of the GPT whose ops are measured: batch, time, width, heads, classes."""

    B: int
    T: int
    C: int
    H: int
    V: int


SIZES = {"cpu": Size(8, 256, 384, 6, 8192), "cuda": Size(8, 1024, 768, 12, 50304)}


def cases(size: Size) -> dict[str, tuple[Any, list, dict]]:
    """By op: its function, the shapes of its arguments, and its keyword arguments."""
    B, T, C, H, V = size
    rng = np.random.default_rng(0)
    target = {"target": rng.integers(0, V, B * T), "ignore_index": -1, "divisor": B * T}
    rows = {"index": rng.integers(0, V, B * T), "count": V}
    causal = {"is_causal": True, "scale": 0.125}
    x, wide, vector = (B, T, C), (B, T, 4 * C), (C,)
    return {
        "linear": (nn._linear, [x, (4 * C, C), (4 * C,)], {}),
        "matmul": (linalg._matmul, [x, (C, 4 * C)], {}),
        "layer_norm": (nn._layer_norm, [x, vector, vector], {}),
        "add_layer_norm": (fused._add_layer_norm, [x, x, vector, vector], {}),
        "rms_norm": (nn._rms_norm, [x, vector], {}),
        "gelu": (activations.gelu, [wide], {"approximate": "tanh"}),
        "add": (elementwise.add, [x, x], {}),
        "attention": (nn._attention, [(B, H, T, C // H)] * 3, causal),
        "packed_attention": (fused._packed_attention, [(B, T, 3 * C)], {"n_head": H, **causal}),
        "add_rows": (index._add_rows, [(B * T, C)], rows),
        "linear_cross_entropy": (
            fused._linear_cross_entropy, [(B * T, C), (V, C), None], {**target, "ahead": True}
        ),
    }  # fmt: skip


def call(case: tuple, device: str, dtype: str = "float32") -> Callable[[], object]:
    """Forward and backward of one op. Vectors, which are weights and biases, stay float32."""
    function, shapes, static = case
    tt.manual_seed(0)

    def argument(s: tuple) -> tt.Tensor:
        x = (0.1 * tt.randn(s, device=device)).detach()
        return (x.to(getattr(tt, dtype)) if len(s) > 1 else x).requires_grad_()

    arguments = [None if s is None else argument(s) for s in shapes]
    static = {
        k: tt.tensor(v, device=device).array if isinstance(v, np.ndarray) else v
        for k, v in static.items()
    }
    upstream: list = []

    def run() -> None:
        out = function(*arguments, **static)
        outs = out if isinstance(out, tuple) else (out,)
        upstream[:] = upstream or [tt.ones_like(o) for o in outs]
        tt.autograd.grad(outs, [a for a in arguments if a is not None], upstream)

    return run


def cold(case: tuple, device: str, dtype: str = "float32") -> Callable[[], object]:
    """`call` with so many sets of inputs in turn that none of them is still in a GPU's cache."""
    if device == "cpu":
        return call(case, device)
    numbers = sum(int(np.prod(s)) for s in case[1] if s is not None)
    cache = tt.cuda.get_device_properties(device).L2_cache_size
    sets = min(32, 1 + ceil(2 * cache / (2 * numbers)))  # of two bytes, or more
    return in_turn([call(case, device, dtype) for _ in range(sets)])
