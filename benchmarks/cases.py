"""The ops that kernels are measured by, in the sizes of a GPT, and one call of each."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any, NamedTuple

import numpy as np

import tinytensor as tt
from tinytensor.apply import apply
from tinytensor.random import Key

from .timing import in_turn


class Size(NamedTuple):
    """Of the GPT whose ops are measured: batch, time, width, heads, classes."""

    B: int
    T: int
    C: int
    H: int
    V: int


SIZES = {"cpu": Size(8, 256, 384, 6, 8192), "cuda": Size(8, 1024, 768, 12, 50304)}


class Case(NamedTuple):
    """An op of the registry: the shapes of its arguments, and its keyword arguments."""

    op: str
    shapes: list[tuple | None]
    static: dict[str, Any]


def cases(size: Size) -> dict[str, Case]:
    """By op."""
    B, T, C, H, V = size
    rng = np.random.default_rng(0)
    classes = {"target": rng.integers(0, V, B * T), "ignore_index": -1}
    index = rng.integers(0, V, B * T)
    causal = {"is_causal": True, "scale": 0.125}
    x, wide, vector, rows = (B, T, C), (B, T, 4 * C), (C,), (B * T, C)
    fc, proj = (4 * C, C), (C, 4 * C)
    table: dict[str, tuple[list, dict]] = {
        "linear": ([x, fc, (4 * C,)], {}),
        "matmul": ([x, (C, 4 * C)], {}),
        "gelu_mlp": ([x, fc, proj, (4 * C,), vector], {}),
        "layer_norm_linear": ([x, (3 * C, C), vector, vector, (3 * C,)], {}),
        "layer_norm_mlp": ([x, x, fc, proj, vector, vector, (4 * C,), vector], {}),
        "layer_norm": ([x, vector, vector], {}),
        "add_layer_norm": ([x, x, vector, vector], {}),
        "rms_norm": ([x, vector], {}),
        "add_rms_norm": ([x, x, vector], {}),
        "gelu": ([wide], {"approximate": "tanh"}),
        "silu": ([wide], {}),
        "relu": ([wide], {}),
        "add": ([x, x], {}),
        "dropout": ([x], {"p": 0.1, "key": Key(0, 0)}),
        "softmax": ([(B, H, T, T)], {"dim": -1}),
        "log_softmax": ([rows], {"dim": -1}),
        "attention": ([(B, H, T, C // H)] * 3, causal),
        "packed_attention": ([(B, T, 3 * C)], {"n_head": H, **causal}),
        "embedding": ([(V, C)], {"index": index}),
        "add_rows": ([rows], {"index": index, "count": V}),
        "cross_entropy": ([(B * T, V)], classes),
        "linear_cross_entropy": ([rows, (V, C), None], {**classes, "divisor": B * T,
                                                        "ahead": True}),
    }  # fmt: skip
    return {name: Case(name, *case) for name, case in table.items() if name in tt.REGISTRY}


def call(case: Case, device: str, dtype: str = "float32") -> Callable[[], object]:
    """Forward and backward of one op. Vectors, which are weights and biases, stay float32."""
    op = tt.REGISTRY[case.op]
    tt.manual_seed(0)

    def argument(s: tuple) -> tt.Tensor:
        x = (0.1 * tt.randn(s, device=device)).detach()
        return (x.to(getattr(tt, dtype)) if len(s) > 1 else x).requires_grad_()

    shapes = [*case.shapes, *[None] * (len(op.params) - len(case.shapes))]  # what may be left out
    arguments = tuple(None if s is None else argument(s) for s in shapes)
    static = op.defaults | {
        k: tt.tensor(v, device=device).array if isinstance(v, np.ndarray) else v
        for k, v in case.static.items()
    }
    upstream: list = []

    def run() -> None:
        out = apply(op, arguments, static)
        outs = out if isinstance(out, tuple) else (out,)
        upstream[:] = upstream or [tt.ones_like(o) for o in outs]
        tt.autograd.grad(outs, [a for a in arguments if a is not None], upstream)

    return run


def cold(case: Case, device: str, dtype: str = "float32") -> Callable[[], object]:
    """`call` with so many sets of inputs in turn that none of them is still in a GPU's cache."""
    if device == "cpu":
        return call(case, device)
    numbers = sum(int(np.prod(s)) for s in case.shapes if s is not None)
    cache = tt.cuda.get_device_properties(device).L2_cache_size
    sets = min(32, 1 + ceil(2 * cache / (2 * numbers)))  # of two bytes, or more
    return in_turn([call(case, device, dtype) for _ in range(sets)])
