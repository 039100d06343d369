"""`--batch-size auto`: as many sequences at a time as fit; the tokens of a step stay as many.

On the CPU that is reckoned (gpt/estimate.py). On a GPU it is tried: what a step keeps depends on
the kernels that serve it, and steps are short.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import tinytensor as tt
from tinytensor import nn

from .config import Config
from .errors import out_of_memory
from .estimate import USABLE, Cost
from .machine import device_memory
from .state import TrainingState
from .update import update_of


def fitted(config: Config, device: Any) -> Config:
    """The same step in batches that fit, of a size that divides it: the rest by grad_accum."""
    sequences = config.data.batch_size * config.optim.grad_accum
    batch = (tried if device.type == "cuda" else reckoned)(config, device, sequences)
    return replace(config, data=replace(config.data, batch_size=batch),
                   optim=replace(config.optim, grad_accum=sequences // batch))  # fmt: skip


def reckoned(config: Config, device: Any, sequences: int) -> int:
    available, total = device_memory(device)
    if total is None:  # the system does not say
        return config.data.batch_size
    return divisor(sequences, Cost(config, device.type).largest_batch(available) or 1)


def tried(config: Config, device: Any, sequences: int) -> int:
    """The largest divisor of `sequences` of which a step fits, found from one sequence upwards.

    It stops where the line through the last two peaks leaves the memory there is, or a step does:
    what it tries adds up to a few steps of the run.
    """
    fits = climb(config, device, sequences)
    gc.collect()
    tt.cuda.empty_cache()
    return fits


def climb(config: Config, device: Any, sequences: int) -> int:
    room = USABLE * (device_memory(device)[0] + tt.cuda.memory_allocated(device))
    fits = 1
    peaks: list[tuple[int, int]] = []
    try:
        step = trial(config, device)
        step(1, sequences)  # makes what stays: moments, compiled kernels
        for batch in (n for n in range(1, sequences + 1) if sequences % n == 0):
            if line(peaks[-2:], batch) > room:
                break
            tt.cuda.reset_peak_memory_stats(device)
            step(batch, sequences)
            peaks.append((batch, tt.cuda.max_memory_allocated(device)))
            fits = batch
    except Exception as error:
        if not out_of_memory(error):
            raise
    return fits


def trial(config: Config, device: Any) -> Callable[[int, int], None]:
    """A step as training takes it, of a model that is thrown away, on a batch of any size."""
    with nn.init.skipped():
        state = TrainingState.new(config, None, device)  # type: ignore[arg-type]  # reads no text
    update = update_of(state, device)

    def step(batch: int, sequences: int) -> None:
        rows = np.zeros((batch, config.gpt.block_size), np.int64)
        data = (rows,) * (3 if config.data.document_attention else 2)
        loss = state.gradients([data] * min(2, sequences // batch))
        update(0, loss, tt.default_generator.get_state())

    return step


def line(points: list[tuple[int, int]], x: float) -> float:
    """The line through the last two points, at x; 0 where there are not two."""
    if len(points) < 2:
        return 0
    (x0, y0), (x1, y1) = points
    return y1 + (y1 - y0) * (x - x1) / (x1 - x0)


def divisor(number: int, most: int) -> int:
    """Its largest divisor up to `most` >= 1."""
    return next(n for n in range(min(number, most), 0, -1) if number % n == 0)
