"""Gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import ArgumentError
from ..tensor import Tensor
from .optimizer import Optimizer, descent, moment


class SGD(Optimizer):
    """x = x - lr g;  with momentum:

    v = momentum v + (1 - dampening) g        (the first v is g itself)
    x = x - lr v,   or, nesterov:   x = x - lr (g + momentum v)

    Sutskever, Martens, Dahl, Hinton 2013, with lr outside of v, as in PyTorch. weight_decay is an
    L2 penalty: it adds weight_decay * x to g.
    """

    def __init__(
        self, params: Iterable, lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: float = 0.0, nesterov: bool = False, *, maximize: bool = False,
    ):  # fmt: skip
        super().__init__(
            params,
            {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
             "nesterov": nesterov, "maximize": maximize},
        )  # fmt: skip

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ArgumentError(
                "nesterov needs a momentum above 0 and a dampening of 0, got "
                f"{group['momentum']} and {group['dampening']}"
            )

    def begin(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        first = group["momentum"] != 0 and "momentum_buffer" not in state
        if first:
            state["momentum_buffer"] = moment(p)
        return {"first": first}

    def update(self, xp: Any, x: Any, g: Any, s: dict[str, Any], a: Any, b: Any) -> None:
        g = descent(xp, x, g, s, out=b)
        if s["momentum"]:
            v = s["momentum_buffer"]
            if s["first"]:
                v[...] = g
            else:
                v *= s["momentum"]
                v += xp.multiply(g, 1 - s["dampening"], out=a)
            if s["nesterov"]:
                xp.multiply(v, s["momentum"], out=a)
                g = xp.add(a, g, out=a)
            else:
                g = v
        x -= xp.multiply(g, s["lr"], out=a)
