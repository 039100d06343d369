"""What is kept when a run cannot go on: the state before the step, its batch, its randomness."""

from pathlib import Path

import numpy as np

from data import Batches

from .run import Run
from .state import TrainingState

BATCH = "batch.safetensors"  # x and y, (grad_accum, B, T)


def dump(state: TrainingState, run: Run, batches: Batches, rng: tuple[int, int]) -> Path:
    """Write crash/NNNNNN, a checkpoint after so many steps with the batch of the next beside it."""
    accum = state.config.optim.grad_accum
    x, y = zip(*(batches.batch(state.step * accum + i) for i in range(accum)))
    folder = run.path / "crash"
    folder.mkdir(exist_ok=True)
    return state.save(run, folder, files={BATCH: {"x": np.stack(x), "y": np.stack(y)}},
                      finite=False, rng=rng, why=state.guard.why)  # fmt: skip
