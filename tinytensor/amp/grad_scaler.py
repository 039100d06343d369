"""GradScaler: the loss times a scale, so that float16's gradients do not vanish below 6e-8.

    scaler = tt.amp.GradScaler()
    with tt.autocast("cuda", dtype=tt.float16):
        loss = model.loss(x, y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)            # on gradients / scale; nothing changes if one overflowed
    scaler.update()

The scale is halved after a step with an overflow, and doubled after growth_interval without
(Micikevicius et al. 2018, section 3.2). All of it stays on the device: Adam and AdamW on CUDA read
there whether to step, and nothing waits. bfloat16 has float32's range, and needs no scaling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .. import backend
from ..autograd import no_grad
from ..creation import full, zeros
from ..dtypes import float16, float32, int32
from ..errors import ArgumentError, DtypeError
from ..kernels.cuda import adamw
from ..nn.utils import get_total_norm, scale_grads_
from ..ops.elementwise import isfinite, where
from ..optim.adam import Adam
from ..optim.optimizer import Optimizer
from ..tensor import Tensor


class GradScaler:
    """PyTorch's, with its names and numbers. With enabled=False everything passes through.

    raises  ArgumentError where its methods are called in another order than scale, unscale_, step,
            update; DtypeError for parameters in float16, which have no gradients to unscale
    """

    def __init__(
        self, device: Any = "cuda", init_scale: float = 2.0**16, growth_factor: float = 2.0,
        backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True,
    ):  # fmt: skip
        if growth_factor <= 1 or not backoff_factor < 1:
            raise ArgumentError(
                f"GradScaler: growth_factor {growth_factor} must be above 1, and backoff_factor "
                f"{backoff_factor} below"
            )
        self._device, self._enabled = device, enabled
        self._growth, self._backoff, self._interval = growth_factor, backoff_factor, growth_interval
        self._start = init_scale, 0  # scale, steps since it last changed
        self._scale: Tensor | None = None  # 0-d, on the device from the first use on
        self._tracker: Tensor | None = None
        self._found: dict[int, Tensor] = {}  # by optimizer since the last update: 0, or overflow
        self._stepped: set[int] = set()

    def _on_device(self, device: Any = None) -> Tensor:
        if self._scale is None:
            where_ = backend.resolve(self._device if device is None else device)
            scale, steps = self._start
            self._scale = full((), scale, dtype=float32, device=where_)
            self._tracker = full((), steps, dtype=int32, device=where_)
        return self._scale

    def scale(self, outputs: Any) -> Any:
        """A Tensor, or an iterable of them, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._on_device(outputs.device).to(outputs.device)
        if isinstance(outputs, Iterable):
            return type(outputs)(map(self.scale, outputs))  # type: ignore[call-arg]
        raise ArgumentError(f"GradScaler.scale: a Tensor, or several, not {outputs!r:.60}")

    @no_grad
    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the optimizer's gradients by the scale, to clip them; once between updates."""
        if not self._enabled:
            return
        if id(optimizer) in self._found:
            raise ArgumentError("GradScaler: unscale_() was called already, or step(), since the "
                                "last update()")  # fmt: skip
        scale = self._on_device()
        found = zeros((), dtype=float32, device=scale.device)
        grads = _grads(optimizer)
        arrays = [g.array for g in grads]
        factor = 1 / scale
        if adamw.takes([factor.array, *arrays]):
            adamw.scale_(arrays, factor.array, found.array)
            for g in grads:
                g._version[0] += 1
        else:
            for g in grads:
                found = found + (~isfinite(g)).any().to(found)
            scale_grads_(grads, factor.array)
        self._found[id(optimizer)] = found

    @no_grad
    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """optimizer.step(), which leaves everything as it is where a gradient overflowed.

        optimizer.grad_scale, set before, is divided by as well; optimizer.found_inf, set before,
        is believed. Both are None afterwards.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if id(optimizer) in self._stepped:
            raise ArgumentError("GradScaler.step() was called already since the last update()")
        on_device = isinstance(optimizer, Adam) and self._on_device().device.type == "cuda"
        unscaled = id(optimizer) in self._found
        if not unscaled and not on_device:
            self.unscale_(optimizer)
        elif not unscaled:
            scale = self._on_device()
            more = optimizer.grad_scale
            optimizer.grad_scale = scale if more is None else scale * more
            if optimizer.found_inf is None:  # 0, or NaN
                optimizer.found_inf = get_total_norm(_grads(optimizer)) * 0
            self._found[id(optimizer)] = optimizer.found_inf
        optimizer.found_inf = self._found[id(optimizer)]
        try:
            return optimizer.step(*args, **kwargs)
        finally:
            self._stepped.add(id(optimizer))
            optimizer.grad_scale = optimizer.found_inf = None

    @no_grad
    def update(self, new_scale: Any = None) -> None:
        """The scale of the next step: new_scale, or what follows from the overflows of this one."""
        if not self._enabled:
            return
        scale, tracker = self._on_device(), self._tracker
        if new_scale is not None:
            scale.copy_(new_scale) if isinstance(new_scale, Tensor) else scale.fill_(new_scale)
        elif not self._found:
            raise ArgumentError("GradScaler.update(): no step() or unscale_() came before it")
        else:
            found = sum([f.to(scale.device) for f in self._found.values()])
            overflow, steps = found != 0, tracker + 1  # type: ignore[operator]
            larger = scale * self._growth
            grows = (steps == self._interval) & ~overflow
            scale.copy_(where(overflow, scale * self._backoff,
                              where(grows & isfinite(larger), larger, scale)))  # fmt: skip
            tracker.copy_(where(overflow | grows, 0, steps))  # type: ignore[union-attr]
        self._found, self._stepped = {}, set()

    def get_scale(self) -> float:
        """The scale, read: this waits for the device."""
        if not self._enabled:
            return 1.0
        return self._start[0] if self._scale is None else self._scale.item()

    def is_enabled(self) -> bool:
        return self._enabled

    def get_growth_factor(self) -> float:
        return self._growth

    def set_growth_factor(self, new_factor: float) -> None:
        self._growth = new_factor

    def get_backoff_factor(self) -> float:
        return self._backoff

    def set_backoff_factor(self, new_factor: float) -> None:
        self._backoff = new_factor

    def get_growth_interval(self) -> int:
        return self._interval

    def set_growth_interval(self, new_interval: int) -> None:
        self._interval = new_interval

    def state_dict(self) -> dict[str, float]:
        """PyTorch's; empty if not enabled."""
        if not self._enabled:
            return {}
        tracker = self._start[1] if self._tracker is None else int(self._tracker.item())
        return {"scale": self.get_scale(), "growth_factor": self._growth,
                "backoff_factor": self._backoff, "growth_interval": self._interval,
                "_growth_tracker": tracker}  # fmt: skip

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        if not self._enabled:
            return
        if not state_dict:
            raise ArgumentError("GradScaler.load_state_dict: it is of a scaler that was disabled")
        self._growth, self._backoff = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._interval = int(state_dict["growth_interval"])
        self._start = float(state_dict["scale"]), int(state_dict["_growth_tracker"])
        if self._scale is not None:
            self._scale.fill_(self._start[0])
            self._tracker.fill_(self._start[1])  # type: ignore[union-attr]


def _grads(optimizer: Optimizer) -> list[Tensor]:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    if any(p.array.dtype == float16 for p in params):
        raise DtypeError("GradScaler: a parameter is float16: keep parameters in float32, and let "
                         "autocast compute in float16")  # fmt: skip
    return [p.grad for p in params if p.grad is not None]
