"""RMSprop: the gradient divided by a running root mean square of itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..tensor import Tensor
from .optimizer import Optimizer, decay, descent, moment


class RMSprop(Optimizer):
    """v = alpha v + (1 - alpha) g^2
    d = g / (sqrt(v) + eps)            centered: sqrt(v - m^2), m = alpha m + (1 - alpha) g
    x = x - lr d;                      momentum: x = x - lr u, u = momentum u + d

    Tieleman & Hinton 2012, lecture 6.5; centered: Graves 2013, eq. 38 to 45. weight_decay is an L2
    penalty: it adds weight_decay * x to g.
    """

    def __init__(
        self, params: Iterable, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
        weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False,
        *, maximize: bool = False,
    ):  # fmt: skip
        super().__init__(
            params,
            {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay,
             "momentum": momentum, "centered": centered, "maximize": maximize},
        )  # fmt: skip

    def begin(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        needed = ["square_avg"]
        needed += ["momentum_buffer"] * bool(group["momentum"]) + ["grad_avg"] * group["centered"]
        for name in needed:
            if name not in state:
                state[name] = moment(p)
        state["step"] = state.get("step", 0) + 1
        return {}

    def update(self, xp: Any, x: Any, g: Any, s: dict[str, Any], a: Any, b: Any) -> None:
        v = s["square_avg"]
        g = descent(xp, x, g, s, out=b)
        decay(xp, v, xp.multiply(g, g, out=a), s["alpha"], a)
        if s["centered"]:
            m = s["grad_avg"]
            decay(xp, m, g, s["alpha"], a)
            xp.multiply(m, m, out=a)
            v = xp.subtract(v, a, out=a)
        xp.sqrt(v, out=a)
        a += s["eps"]
        d = xp.divide(g, a, out=a)
        if s["momentum"]:
            u = s["momentum_buffer"]
            u *= s["momentum"]
            u += d
            d = u
        x -= xp.multiply(d, s["lr"], out=a)
