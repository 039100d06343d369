"""Whether a step may be taken: not on a loss or a gradient that is not finite, nor on a spike."""

import math
from typing import Any

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
        self.why = ""
        if not math.isfinite((loss + norm).item()):
            self.why = f"the loss is {loss.item():.4g} and the gradient's norm {norm.item():.4g}"
        elif self.spikes:
            self._look_for_spike(loss.item())
        self.skipped += bool(self.why)
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
