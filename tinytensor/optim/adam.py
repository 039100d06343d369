"""Adam and AdamW: steps of about lr per element, whatever the gradient's scale."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from .. import backend
from ..kernels.cuda import adamw
from ..tensor import Tensor
from .optimizer import Optimizer, decay, descent, mix, moment


class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g,        m^ = m / (1 - beta1^t)
    v = beta2 v + (1 - beta2) g^2,      v^ = v / (1 - beta2^t)
    x = x - lr m^ / (sqrt(v^) + eps)

    Kingma & Ba 2015, algorithm 1; amsgrad takes the largest v so far (Reddi et al. 2018).
    weight_decay is an L2 penalty: it adds weight_decay * x to g. To decay x itself use AdamW.
    """

    decoupled = False

    def __init__(
        self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0.0, amsgrad: bool = False,
        *, maximize: bool = False,
    ):  # fmt: skip
        super().__init__(
            params,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
             "amsgrad": amsgrad, "maximize": maximize},
        )  # fmt: skip

    def together(self, params: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        if all(isinstance(p.array, backend.ndarray) for p in params):
            return params
        for p in params:
            if len(self.state[p]) < 3 + group["amsgrad"]:
                with backend.using(p.array):
                    self._made(self.state[p], p, group)
        return adamw.adam(self, params, group, self.decoupled)

    def _made(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, exp_avg=moment(p), exp_avg_sq=moment(p))
        if group["amsgrad"] and "max_exp_avg_sq" not in state:
            state["max_exp_avg_sq"] = moment(p)

    def begin(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        self._made(state, p, group)
        t = state["step"] = int(state["step"]) + 1
        beta1, beta2 = group["betas"]
        return {"step_size": group["lr"] / (1 - beta1**t), "correction": math.sqrt(1 - beta2**t)}

    def update(self, xp: Any, x: Any, g: Any, s: dict[str, Any], a: Any, b: Any) -> None:
        m, v, factor = s["exp_avg"], s["exp_avg_sq"], s["factor"]
        (beta1, beta2), kept = s["betas"], 1.0
        if self.decoupled:
            kept -= s["lr"] * s["weight_decay"]
            factor = -factor if s["maximize"] else factor
        else:
            g, factor = descent(xp, x, g, s, out=b), 1.0
        decay(xp, m, g, beta1, a, factor)
        decay(xp, v, xp.multiply(g, g, out=a), beta2, a, factor * factor)
        if s["amsgrad"]:
            v = xp.maximum(s["max_exp_avg_sq"], v, out=s["max_exp_avg_sq"])
        xp.sqrt(v, out=a)  # with c = sqrt(1 - beta2^t), v^ = v / c^2:
        # m / (sqrt(v^) + eps) = c m / (sqrt(v) + c eps)
        a += s["correction"] * s["eps"]
        xp.divide(m, a, out=a)
        mix(xp, x, kept, a, -s["correction"] * s["step_size"], a)


class AdamW(Adam):
    """Adam whose weight decay acts on the weights and not through the moments:

    x = (1 - lr weight_decay) x - lr m^ / (sqrt(v^) + eps)

    Loshchilov & Hutter 2019, algorithm 2.
    """

    decoupled = takes_factor = True

    def __init__(
        self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False,
        *, maximize: bool = False,
    ):  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
