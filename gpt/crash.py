"""What is kept when a run cannot go on: the state before the step, its batch, its randomness."""

from pathlib import Path
from typing import Any

import numpy as np

from .run import Run
from .state import TrainingState

BATCH = "batch.safetensors"
PARTS = ("x", "y", "documents")  # (grad_accum, B, T) each; the last with --document-attention


def dump(state: TrainingState, run: Run, batches: Any, rng: tuple[int, int]) -> Path:
    """Write crash/NNNNNN, a checkpoint after so many steps with the batch of the next beside it."""
    accum = state.config.optim.grad_accum
    parts = zip(*(batches.batch(state.step * accum + i) for i in range(accum)))
    arrays = {name: np.stack(part) for name, part in zip(PARTS, parts)}
    folder = run.path / "crash"
    folder.mkdir(exist_ok=True)
    return state.save(run, folder, files={BATCH: arrays},
                      finite=False, rng=rng, why=state.guard.why)  # fmt: skip
