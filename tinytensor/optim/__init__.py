"""Optimizers and learning rate schedules: `import tinytensor.optim as optim`."""

from .adam import Adam, AdamW
from .optimizer import Optimizer

__all__ = ["Adam", "AdamW", "Optimizer"]
