"""The learning rate of a step: a pure function, so a resumed run needs no scheduler's state."""

import math

from .config import OptimConfig


def learning_rate(step: int, optim: OptimConfig) -> float:
    """Linear warmup to lr, then half a cosine down to min_lr (SGDR, arXiv:1608.03983, eq. 5).

    `step` counts from 0. The first step is lr / (warmup_steps + 1): never a wasted one of 0.
    The cosine ends with the step after the last, as nanoGPT's does, or at decay_steps.
    """
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / (optim.warmup_steps + 1)
    if optim.schedule == "constant":
        return optim.lr
    end = optim.decay_steps or optim.max_steps
    done = (step - optim.warmup_steps) / max(1, end - optim.warmup_steps)
    share = 0.5 * (1 + math.cos(math.pi * min(done, 1)))
    return optim.min_lr + share * (optim.lr - optim.min_lr)
