"""--graph: a training step as one CUDA graph, which the host launches in some microseconds.

The first step runs as it is written: kernels are compiled, the optimizer makes its moments. Then
one is captured, and from there on a step is its batch, copied to where the graph reads it, and a
launch. The numbers are those of the steps as they are written, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tinytensor as tt
from data.batches import IGNORED

from .errors import UserError, out_of_memory
from .state import TrainingState
from .update import DeviceUpdate, Done

Batch = tuple[np.ndarray, ...]


class GraphedStep:
    """What of a step is the same for all of them: gradients of a batch, then the update."""

    def __init__(self, state: TrainingState, update: DeviceUpdate, device: Any):
        self.state, self.update, self.device = state, update, device
        self.graph = tt.cuda.CUDAGraph()
        self.inputs: list[tuple[tt.Tensor, ...]] = []
        self.lr = tt.zeros((), device=device)
        self.warm = False  # whether a step was done

    def takes(self, batches: Sequence[Batch]) -> bool:
        """Is this a step for the graph: not the first, and one in which every target counts?

        Documents that are told apart have masks of their own in each batch.
        """
        warm, self.warm = self.warm, True
        return warm and all(len(b) == 2 and (b[1] != IGNORED).all() for b in batches)

    def __call__(
        self, step: int, lr: float, batches: Sequence[Batch], rng: tuple[int, int]
    ) -> tuple[tt.Tensor, tt.Tensor]:
        """The step; its loss and norm, which the next one overwrites."""
        if not self.inputs:
            self.capture(batches)
        for place, batch in zip(self.inputs, batches, strict=True):
            for own, new in zip(place, batch, strict=True):
                own.copy_(tt.as_tensor(new, device=self.device))
        self.lr.fill_(lr)
        self.graph.replay()
        loss, done = self.outputs
        self.update.note(step, rng, done._replace(told=done.told.clone()))
        return loss, done.norm

    def capture(self, batches: Sequence[Batch]) -> None:
        """Note down a step, without doing it. Raises UserError where that cannot be."""
        self.inputs = [
            tuple(tt.zeros(a.shape, dtype=a.dtype, device=self.device) for a in batch)
            for batch in batches
        ]
        tt.cuda.empty_cache()  # a graph has its own memory: what the first step left is not for it
        groups = self.state.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = self.lr  # read at each launch
        try:
            with tt.cuda.device(self.device), tt.cuda.graph(self.graph):
                loss = self.state.accumulate(self.inputs, [float(len(batches))] * len(batches))
                self.outputs: tuple[tt.Tensor, Done] = loss, self.update.apply(loss)
        except Exception as error:
            if out_of_memory(error):
                raise
            raise UserError(f"--graph: this step cannot be captured: {error}\n"
                            "--no-graph trains without") from error  # fmt: skip
        for group, rate in zip(groups, rates):
            group["lr"] = rate
