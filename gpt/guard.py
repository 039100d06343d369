"""Whether a step may be taken: not on a loss or a gradient that is not finite, nor on a spike.

On a CPU the guard looks at each step's two numbers before the weights change. On CUDA to look is to
wait: there its rule runs on the device (Gate), whose verdict the optimizer reads, and the guard
hears of it later. Once too many steps in a row were left out the gate stays shut, so that what the
guard then finds is the state before the step that the run stops at, as on a CPU.
"""

import math
from typing import Any

import tinytensor as tt

from .config import OptimConfig

RECENT = 50  # steps that "recent" means: the average forgets at a rate of 1 / RECENT


class Guard:
    """Counts the steps left out. Its state is a few numbers, which a checkpoint keeps."""

    def __init__(self, config: OptimConfig):
        self.spikes, self.limit = config.skip_spikes, config.max_skipped
        self.skipped = self.in_a_row = self.seen = 0
        self.mean = self.variance = 0.0  # of recent losses
        self.why = ""  # the last step was left out

    def allows(self, loss: Any, norm: Any) -> bool:
        """Look at a step's loss and gradient norm, 0-d Tensors: one number is read, so one wait."""
        if not self.spikes and math.isfinite((loss + norm).item()):
            self.why, self.in_a_row = "", 0
            return True
        return self.judge(loss.item(), norm.item())

    def judge(self, loss: float, norm: float, scale: float = 1.0) -> bool:
        """The same of numbers. scale: of the loss; the overflow of one above 1 is no bad omen."""
        self.why = ""
        finite, overflow = math.isfinite(norm), False
        if not (math.isfinite(loss) and finite):
            self.why = f"the loss is {loss:.4g} and the gradient's norm {norm:.4g}"
            overflow = scale > 1 and not finite and math.isfinite(loss)
            if overflow:
                self.why += f", at a loss scale of {scale:g}, which is halved"
        elif self.spikes:
            self._look_for_spike(loss)
        self.skipped += bool(self.why)
        if not overflow:
            self.in_a_row = self.in_a_row + 1 if self.why else 0
        return not self.why

    @property
    def exhausted(self) -> bool:
        return self.in_a_row > self.limit

    def _look_for_spike(self, loss: float) -> None:
        """z = (loss - mean) / deviation, with averages that forget (Finch 2009, section 9)."""
        above = loss - self.mean
        deviation = math.sqrt(self.variance)
        if self.seen >= RECENT and above > self.spikes * deviation:
            self.why = (f"the loss is {loss:.4g}, {above / (deviation or math.inf):.1f} standard "
                        f"deviations above the recent {self.mean:.4g}")
            return
        rate = max(1 / RECENT, 1 / (self.seen + 1))
        self.mean += rate * above
        self.variance = (1 - rate) * (self.variance + rate * above * above)
        self.seen += 1

    def state_dict(self) -> dict[str, float]:
        return {name: getattr(self, name)
                for name in ("skipped", "in_a_row", "seen", "mean", "variance")}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Raises KeyError, TypeError or ValueError for what `state_dict` never made."""
        for name, own in self.state_dict().items():
            value = type(own)(state[name])
            if not math.isfinite(value):
                raise ValueError(f"guard: {name} is {value}")
            setattr(self, name, value)


class Gate:
    """The guard's rule as ops on 0-d Tensors of a device, which nobody reads.

    Its numbers are written in place, so that a captured step goes on from those of the one before.
    """

    def __init__(self, guard: Guard, device: Any):
        self.spikes, self.limit = guard.spikes, guard.limit
        numbers = (guard.in_a_row, guard.seen, guard.mean, guard.variance)
        self.in_a_row, self.seen, self.mean, self.variance = (
            tt.tensor(float(n), dtype=tt.float64, device=device) for n in numbers
        )

    @tt.no_grad()
    def shut(self, loss: tt.Tensor, norm: tt.Tensor, scale: tt.Tensor | None = None) -> tt.Tensor:
        """1 where the step is to be left out, else 0: the optimizer's found_inf."""
        finite = tt.isfinite(loss)
        out = counts = ~(finite & tt.isfinite(norm))
        if scale is not None:
            counts = out & ~(finite & (scale > 1))
        if self.spikes:
            spike = self._spike(loss.double(), out)
            out, counts = out | spike, counts | spike
        full = self.in_a_row > self.limit
        kept = tt.where(out, self.in_a_row, 0.0)
        self.in_a_row.copy_(tt.where(full | counts, self.in_a_row + 1, kept))
        return (out | (self.in_a_row > self.limit)).float()

    def _spike(self, loss: tt.Tensor, out: tt.Tensor) -> tt.Tensor:
        above = loss - self.mean
        spike = (self.seen >= RECENT) & (above > self.spikes * self.variance.sqrt()) & ~out
        learns = ~(spike | out)
        rate = tt.clamp(1 / (self.seen + 1), min=1 / RECENT)
        variance = (1 - rate) * (self.variance + rate * above * above)
        self.variance.copy_(tt.where(learns, variance, self.variance))
        self.mean.copy_(tt.where(learns, self.mean + rate * above, self.mean))
        self.seen += learns.double()
        return spike
