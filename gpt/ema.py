"""An average of the weights over the steps, which often does better than the last of them.

    e = d e + (1 - d) w  after each step,  d = min(decay, (1 + n) / (10 + n)) after n steps

so that the first weights are soon forgotten (Polyak & Juditsky 1992; TensorFlow's
ExponentialMovingAverage has this d). Parameters that are not trained are not averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

import tinytensor as tt

FILE = "ema.safetensors"  # of a checkpoint


class EMA:
    def __init__(self, model: Any, decay: float):
        self.decay = decay
        self.live = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.mean = {name: p.detach().clone() for name, p in self.live.items()}

    def update(self, n: int, left_out: tt.Tensor | None = None) -> None:
        """Take in the weights after n steps, unless left_out, a number of the device, is 1."""
        share: Any = 1 - min(self.decay, (1 + n) / (10 + n))
        with tt.no_grad():
            if left_out is not None:
                share = (1 - left_out) * share
            for name, p in self.live.items():
                self.mean[name].lerp_(p, share)  # e + (1 - d) (w - e)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages instead of its weights: they change places, none is copied."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, p in self.live.items():
            p.data, self.mean[name] = self.mean[name], p.detach()

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what a checkpoint kept. Raises ValueError where it is another model's."""
        shapes = {name: tuple(e.shape) for name, e in self.mean.items()}
        found = {name: tuple(a.shape) for name, a in arrays.items()}
        if found != shapes:
            raise ValueError(f"{FILE} has other weights than those that are trained")
        with tt.no_grad():
            for name, e in self.mean.items():
                e.copy_(tt.tensor(arrays[name], device=e.device))
