"""From gradients to new weights: their norm, the guard's word, clipping, the optimizer, averages.

On a CPU one after the other. On CUDA nothing of it is read: the norm, the gate, the factor of
clipping and the scale of float16's loss are numbers of the device, which the optimizer's kernel
reads there. What the steps were is kept, and heard later, by one reading for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import tinytensor as tt
from tinytensor import nn

from .guard import Gate

if TYPE_CHECKING:
    from .state import TrainingState

Left = tuple[int, tuple[int, int]]  # a step left out: those done before it, its random numbers


def update_of(state: TrainingState, device: Any) -> Update:
    return Update(state) if device.type == "cpu" else DeviceUpdate(state, device)


class Update:
    """Called with the steps done, the loss and where the random numbers stood; gives the norm."""

    at_once = True  # whether the guard knows of a step as soon as it is done

    def __init__(self, state: TrainingState):
        self.state, self.clip = state, state.config.optim.grad_clip
        self.unheard: list[Left] = []

    def __call__(self, step: int, loss: tt.Tensor, rng: tuple[int, int]) -> tt.Tensor:
        state, norm = self.state, self.norm()
        if state.guard.allows(loss, norm):
            # clipped in the optimizer's own pass over the gradients
            state.optimizer.grad_scale = self.divisor(norm)
            state.optimizer.step()
            state.optimizer.grad_scale = None
            if state.ema:
                state.ema.update(step + 1)
        else:
            self.unheard.append((step, rng))
        return norm

    def norm(self) -> tt.Tensor:
        """Of all gradients together."""
        grads = [p.grad for p in self.state.model.parameters() if p.grad is not None]
        return nn.utils.get_total_norm(grads)

    def divisor(self, norm: tt.Tensor) -> tt.Tensor | None:
        """What clipping divides the gradients by."""
        return ((norm + 1e-6) / self.clip).clamp(min=1) if self.clip else None

    def left_out(self) -> Iterator[Left]:
        """Those since one asked last, one by one: the guard stands where each of them left it."""
        heard, self.unheard = self.unheard, []
        yield from heard


class Done(NamedTuple):
    """Of a step, on the device: the gradients' norm, the verdict, and what the guard will hear."""

    norm: tt.Tensor
    shut: tt.Tensor
    told: tt.Tensor  # loss, norm, scale of the loss


class DeviceUpdate(Update):
    at_once = False

    def __init__(self, state: TrainingState, device: Any):
        super().__init__(state)
        self.gate = Gate(state.guard, device)
        self.one = tt.ones((), device=device)
        self.unread: list[tuple[Left, tt.Tensor]] = []

    def __call__(self, step: int, loss: tt.Tensor, rng: tuple[int, int]) -> tt.Tensor:
        done = self.apply(loss)
        self.note(step, rng, done)
        return done.norm

    @tt.no_grad()
    def apply(self, loss: tt.Tensor) -> Done:
        """The device's part, the same for all steps: a graph may hold it."""
        optimizer, scaler = self.state.optimizer, self.state.scaler
        norm, scale = self.norm(), self.one
        if scaler:
            scale = scaler.scale(self.one)
            norm = norm / scale
        shut = self.gate.shut(loss, norm, scale if scaler else None)
        told = tt.stack([loss, norm, scale])
        optimizer.found_inf = shut
        optimizer.grad_scale = self.divisor(norm)
        if scaler:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
        optimizer.found_inf = optimizer.grad_scale = None
        return Done(norm, shut, told)

    def note(self, step: int, rng: tuple[int, int], done: Done) -> None:
        """The host's part."""
        self.unread.append(((step, rng), done.told))
        if self.state.ema:
            self.state.ema.update(step + 1, done.shut)

    def left_out(self) -> Iterator[Left]:
        unread, self.unread = self.unread, []
        numbers = tt.stack([n for _, n in unread]).tolist() if unread else []
        for (left, _), (loss, norm, scale) in zip(unread, numbers):
            if not self.state.guard.judge(loss, norm, scale):
                yield left
