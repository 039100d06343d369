"""Learning rate schedules: after t calls of step(), each group's lr is a function of t.

    scheduler = CosineAnnealingLR(optimizer, T_max=1000)
    for batch in batches:
        ...; optimizer.step(); scheduler.step()

get_lr() is a pure function of last_epoch, the t above, and of base_lrs, each group's lr at the
start: nothing accumulates. So an optimizer has one scheduler; SequentialLR joins several.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ArgumentError
from .optimizer import Optimizer


class LRScheduler:
    """Base of all. A subclass says get_lr() for self.last_epoch and self.base_lrs.

    last_epoch  -1 to start; t to go on after t steps, with an optimizer that was scheduled before
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"optimizer must be an Optimizer, got {type(optimizer).__name__}")
        self.optimizer, self.last_epoch = optimizer, last_epoch
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ArgumentError(
                    f"last_epoch={last_epoch}: group {i} of the optimizer has no 'initial_lr': "
                    "load the optimizer's state_dict first, or start with last_epoch=-1"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.step()

    def get_lr(self) -> list[float]:
        """Each group's learning rate after last_epoch steps."""
        raise NotImplementedError(f"{type(self).__name__} has no get_lr(): define it")

    def step(self) -> None:
        """Count one step, and set the learning rates."""
        self.last_epoch += 1
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr):
            group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        """The learning rates that the last step() set."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """All there is but the optimizer and functions."""
        return {k: v for k, v in vars(self).items() if k != "optimizer" and not _is_code(v)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)


def _is_code(value: Any) -> bool:
    return callable(value) or (isinstance(value, list) and any(map(callable, value)))


class LambdaLR(LRScheduler):
    """lr = base * lr_lambda(t), with one function, or one per group."""

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable | Sequence[Callable], last_epoch: int = -1
    ):
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ArgumentError(f"lr_lambda: {len(self.lr_lambdas)} functions for {groups} groups")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas)]


class _Factor(LRScheduler):
    """lr = base * factor(t)."""

    def factor_at(self, t: int) -> float:
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        factor = self.factor_at(self.last_epoch)
        return [base * factor for base in self.base_lrs]


class ConstantLR(_Factor):
    """lr = base * factor for total_iters steps, then base."""

    def __init__(
        self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5,
        last_epoch: int = -1,
    ):  # fmt: skip
        _check_factors(factor=factor)
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: int) -> float:
        return self.factor if t < self.total_iters else 1.0


class LinearLR(_Factor):
    """lr = base * a factor that goes in a line from start_factor to end_factor in total_iters."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0,
        total_iters: int = 5, last_epoch: int = -1,
    ):  # fmt: skip
        _check_factors(start_factor=start_factor, end_factor=end_factor)
        if start_factor == 0:
            raise ArgumentError("start_factor must be above 0: a first step of 0 is wasted")
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = _positive("total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: int) -> float:
        done = min(t, self.total_iters) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * done


class StepLR(_Factor):
    """lr = base * gamma^k after k times step_size steps."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ):
        self.step_size, self.gamma = _positive("step_size", step_size), gamma
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: int) -> float:
        return self.gamma ** (t // self.step_size)


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2

    Half a cosine from base to eta_min in T_max steps, and back if it goes on (Loshchilov & Hutter
    2017, SGDR, eq. 5, without restarts).
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ):
        self.T_max, self.eta_min = _positive("T_max", T_max), eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        share = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]


class SequentialLR(LRScheduler):
    """One scheduler after the other: schedulers[i + 1] takes over, at its t = 0, at milestones[i].

    SequentialLR(optimizer, [LinearLR(optimizer, 0.01, total_iters=100),
                             CosineAnnealingLR(optimizer, T_max=900)], milestones=[100])
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int],
        last_epoch: int = -1,
    ):  # fmt: skip
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        if len(self.milestones) != len(self.schedulers) - 1:
            raise ArgumentError(
                f"milestones: {len(self.schedulers)} schedulers change "
                f"{len(self.schedulers) - 1} times, got {self.milestones}"
            )
        if self.milestones != sorted(self.milestones):
            raise ArgumentError(f"milestones must ascend, got {self.milestones}")
        for i, scheduler in enumerate(self.schedulers):
            if scheduler.optimizer is not optimizer:
                raise ArgumentError(f"schedulers[{i}] belongs to another optimizer")
        super().__init__(optimizer, last_epoch)

    def step(self) -> None:
        """Let the scheduler whose turn it is make the step to its own t."""
        self.last_epoch += 1
        turn = bisect_right(self.milestones, self.last_epoch)
        current = self.schedulers[turn]
        current.last_epoch = self.last_epoch - (self.milestones[turn - 1] if turn else 0) - 1
        current.step()
        self._last_lr = current.get_last_lr()

    def get_lr(self) -> list[float]:
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "schedulers": [s.state_dict() for s in self.schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for scheduler, saved in zip(self.schedulers, state_dict["schedulers"]):
            scheduler.load_state_dict(saved)
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "schedulers"})


class OneCycleLR(LRScheduler):
    """lr up from max_lr / div_factor to max_lr, then down to the start's final_div_factor-th part.

    pct_start of the total steps go up. Momentum (or beta1) moves the other way, between
    max_momentum and base_momentum. three_phase: down as far as up, and only then to the end.
    Smith & Topin 2019, "Super-convergence".
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: float | Sequence[float],
        total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
        cycle_momentum: bool = True, base_momentum: float = 0.85, max_momentum: float = 0.95,
        div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False,
        last_epoch: int = -1,
    ):  # fmt: skip
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError("OneCycleLR needs total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        self.total_steps = _positive("total_steps", total_steps)
        if not 0 <= pct_start <= 1:
            raise ArgumentError(f"pct_start must be between 0 and 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(
                f"anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}"
            )
        groups = optimizer.param_groups
        tops = list(max_lr) if isinstance(max_lr, Sequence) else [max_lr] * len(groups)
        if len(tops) != len(groups):
            raise ArgumentError(f"max_lr: {len(tops)} values for {len(groups)} groups")
        if cycle_momentum and not any(k in groups[0] for k in ("betas", "momentum")):
            raise ArgumentError("cycle_momentum: the optimizer has no momentum: pass False")
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, cycle_momentum
        lows = [top / div_factor for top in tops]
        ends = [low / final_div_factor for low in lows]
        up = pct_start * self.total_steps - 1
        last = self.total_steps - 1
        # where each phase ends; what lr is there, per group; and what momentum
        self.ends = [up, 2 * up, last] if three_phase else [up, last]
        self.lrs = [lows, tops, *([lows] * three_phase), ends]
        self.momenta = [max_momentum, base_momentum, *([max_momentum] * three_phase), max_momentum]
        if last_epoch == -1:
            for group, low in zip(groups, lows):
                group["initial_lr"] = low
        super().__init__(optimizer, last_epoch)

    def _between(self, values: Sequence[float]) -> float:
        """The value at last_epoch, of those given at the ends of the phases."""
        t, start = self.last_epoch, 0.0
        phase = next((i for i, end in enumerate(self.ends) if t <= end), len(self.ends) - 1)
        if phase:
            start = self.ends[phase - 1]
        left = 1 - (t - start) / (self.ends[phase] - start or 1)
        if self.anneal_strategy == "cos":
            left = (1 - math.cos(math.pi * left)) / 2
        return values[phase + 1] + (values[phase] - values[phase + 1]) * left

    def get_lr(self) -> list[float]:
        return [self._between(values) for values in zip(*self.lrs)]

    def step(self) -> None:
        if self.last_epoch + 1 > self.total_steps:
            raise ArgumentError(
                f"OneCycleLR was made for {self.total_steps} steps, this is step "
                f"{self.last_epoch + 1}: make total_steps larger"
            )
        super().step()
        if self.cycle_momentum:
            momentum = self._between(self.momenta)
            for group in self.optimizer.param_groups:
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum


def _positive(name: str, value: int) -> int:
    if value <= 0:
        raise ArgumentError(f"{name} must be positive, got {value}")
    return value


def _check_factors(**factors: float) -> None:
    for name, value in factors.items():
        if not 0 <= value <= 1:
            raise ArgumentError(f"{name} must be between 0 and 1, got {value}")
