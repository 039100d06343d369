"""Optimizer: parameters in groups, the state of each, and the walk over them.

A subclass says what one step does to one array:

    begin(state, p, group)     once per parameter and step: makes the state when it is first seen,
                               counts, and returns the numbers that the update needs
    update(xp, x, g, s, a, b)  x, in place, from its gradient g; s holds the group's settings, the
                               state's arrays and begin's numbers; a and b are scratch like x

Updates are elementwise: on the CPU they go over memory by the blocks of layout.py, on all threads.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from threading import get_ident
from typing import Any

import numpy as np

from .. import backend
from ..autograd import Variable, enable_grad, user_line, wrap
from ..creation import as_tensor
from ..errors import ArgumentError, CheckpointError
from ..kernels import blas
from ..kernels.threads import parallel
from ..nn.module import clear_grads
from ..tensor import Tensor
from .layout import Block, Layout

NOT_NEGATIVE = ("lr", "eps", "weight_decay", "momentum", "alpha")


class Optimizer:
    """Base of all: `params` are Tensors, or dicts {"params": [...], "lr": ...} of groups.

    raises  ArgumentError that names the setting or parameter at fault

    grad_scale  0-d: what the gradients are divided by on their way into a step, or None
    found_inf   0-d: unless it is 0, a step changes nothing; or None. On CUDA Adam and AdamW read
                both on the device, other optimizers wait for found_inf
    """

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None
    takes_factor = False  # whether update() multiplies g by s["factor"] itself, on the way

    def __init__(self, params: Iterable, defaults: dict[str, Any]):
        if isinstance(params, (Variable, Mapping)) or not isinstance(params, Iterable):
            raise ArgumentError(
                f"params must be an iterable of Tensors or of dicts, got a {type(params).__name__}:"
                " pass model.parameters()"
            )
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        self._scratch: dict[Any, Any] = {}
        self._layouts: dict[Tensor, Layout] = {}
        groups = list(params)
        if not groups:
            raise ArgumentError("the optimizer got no parameters: is the model empty or used up?")
        if not isinstance(groups[0], Mapping):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    # -------------------------------------------------------------------------- groups

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Parameters with settings of their own; those left out are the optimizer's defaults."""
        name = f"group {len(self.param_groups)}"
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise ArgumentError(f"{name} must be a dict with 'params', got {param_group!r:.80}")
        params = param_group["params"]
        if isinstance(params, (set, frozenset)):
            raise ArgumentError(f"{name}: params in a set have no order: pass a list")
        params = [params] if isinstance(params, Variable) else list(params)
        group = {"params": params, **self.defaults}
        group.update({k: v for k, v in param_group.items() if k != "params"})
        taken = {id(p): i for i, g in enumerate(self.param_groups) for p in g["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise ArgumentError(f"{name}: params[{i}] is a {type(p).__name__}, not a Tensor")
            if not p.is_leaf:
                raise ArgumentError(
                    f"{name}: params[{i}] {tuple(p.shape)} was computed from others, only leaves "
                    "can be optimized: use .detach().requires_grad_()"
                )
            if id(p) in taken:
                raise ArgumentError(
                    f"{name}: params[{i}] {tuple(p.shape)} is in group {taken[id(p)]} already"
                )
            taken[id(p)] = len(self.param_groups)
        self.check(group)
        self.param_groups.append(group)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ArgumentError unless the settings of a group make sense."""
        for name in NOT_NEGATIVE:
            value = group.get(name, 0)
            if name == "lr" and not isinstance(getattr(value, "array", 0.0), (np.ndarray, float)):
                continue  # a Tensor on a GPU, which a captured step reads there
            if not (isinstance(value, Real) and 0 <= float(value) < math.inf):
                raise ArgumentError(f"{name} must be a number from 0 up, got {value!r}")
        betas = group.get("betas", (0, 0))
        if len(betas) != 2:
            raise ArgumentError(f"betas must be two numbers, got {betas}")
        for i, beta in enumerate(betas):
            if not 0 <= beta < 1:
                raise ArgumentError(f"betas[{i}] must be in [0, 1), got {beta}")

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            clear_grads(group["params"], set_to_none)

    # -------------------------------------------------------------------------- a step

    def begin(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        return {}

    def update(self, xp: Any, x: Any, g: Any, s: dict[str, Any], a: Any, b: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no update(): define it")

    def step(self, closure: Callable | None = None) -> Any:
        """Update every parameter that has a gradient. `closure` computes the loss again first."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.step_group(group)
        return loss

    def step_group(self, group: dict[str, Any]) -> None:
        """One group: what a kernel takes of it all at once, the CPU's by blocks, then the rest."""
        where = user_line()
        params = [p for p in group["params"] if p.grad is not None]
        left = self.together(params, group)
        if left and not (self.found_inf is not None and self.found_inf.item() != 0):
            group = {**group, "lr": _number(group.get("lr"))}
            on_cpu = [p for p in left if isinstance(p.array, backend.ndarray)]
            if on_cpu:
                self._by_blocks(on_cpu, group)
            self._one_by_one([p for p in left if not isinstance(p.array, backend.ndarray)], group)
        for p in params:
            p._version[0] += 1
            p._version[1] = where

    def together(self, params: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """A place to update many parameters at once; returns those that are left."""
        return params

    def _by_blocks(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Those on the CPU, on all threads."""
        numbers = [self.begin(self.state[p], p, group) for p in params]
        states = [_moments(self.state[p]) for p in params]
        layout = self._layouts.pop(params[0], None)
        if layout is None or not layout.fits(params, states):
            layout = None  # before the new one asks who holds an array
            layout = Layout(params, states)
        self._layouts[params[0]] = layout
        grads = [np.asarray(p.grad.array, order="C") for p in params]
        factor = 1.0 if self.grad_scale is None else 1 / self.grad_scale.item()
        group = {**group, "factor": factor}

        def update(block: Block) -> None:
            *scratch, room = self._scratch_like(np, block.x, 3)
            g = block.gradient(grads, room)
            if factor != 1 and not self.takes_factor:
                g = np.multiply(g, factor, out=room)
            own = numbers[block.of[0]]
            self.update(np, block.x, g, {**group, **own, **block.state}, *scratch)

        parallel(update, layout.alike(numbers, params, states))

    def _one_by_one(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Those on a GPU."""
        for p in params:
            with backend.using(p.array):
                xp, state = backend.namespace_of(p.array), self.state[p]
                g = p.grad.array
                numbers = self.begin(state, p, group)
                if self.grad_scale is not None:  # stays on the device: nobody waits for it
                    scale = backend.to_device(self.grad_scale.array, backend.device_of(g))
                    g = g / scale.astype(g.dtype)
                moments = {name: t.array for name, t in _moments(state).items()}
                s = {**group, **numbers, **moments, "factor": 1.0}
                self.update(xp, p.array, g, s, *self._scratch_like(xp, p.array, 2))

    def _scratch_like(self, xp: Any, x: Any, count: int) -> list[Any]:
        """So many arrays like x, over memory that every update on this thread uses again."""
        key = (x.dtype, backend.device_of(x), get_ident())
        memory = self._scratch.get(key)
        if memory is None or memory.shape[1] < x.size:
            memory = self._scratch[key] = xp.empty((count, x.size), x.dtype)
        return [row[: x.size].reshape(x.shape) for row in memory]

    # -------------------------------------------------------------------------- saving, loading

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's layout: {"state": {index: {...}}, "param_groups": [{..., "params": [index]}]}.

        Parameters are numbered through all groups in order. Tensors share the optimizer's memory;
        steps, and a learning rate, that are counted on a GPU are read.
        """
        params = [p for group in self.param_groups for p in group["params"]]
        number = {id(p): i for i, p in enumerate(params)}
        groups = [
            {**{k: _number(v) for k, v in group.items()},
             "params": [number[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        state = {i: dict(self.state[p]) for i, p in enumerate(params) if self.state.get(p)}
        for entries in state.values():
            if "step" in entries:
                entries["step"] = _number(entries["step"])
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Copy state and settings of a state_dict; its arrays may be Tensors or NumPy's.

        raises  CheckpointError that lists all mismatches; then nothing was loaded
        """
        groups, saved = state_dict["param_groups"], state_dict["state"]
        sizes = [len(g["params"]) for g in self.param_groups]
        saved_sizes = [len(g["params"]) for g in groups]
        if sizes != saved_sizes:
            raise CheckpointError(
                f"load_state_dict: the optimizer has groups of {sizes} parameters, the state_dict "
                f"of {saved_sizes}"
            )
        params = [p for group in self.param_groups for p in group["params"]]
        owner = dict(zip([i for g in groups for i in g["params"]], params))
        problems: list[str] = []
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for i, entries in saved.items():
            if i not in owner:
                problems.append(f"state of parameter {i}: no group has it")
                continue
            p = owner[i]
            for name, value in entries.items():
                if name == "step":  # PyTorch's is a tensor
                    state[p][name] = int(value)
                elif hasattr(value, "shape") and value.shape != p.shape:
                    problems.append(
                        f"{name} of parameter {i} is {tuple(value.shape)}, the parameter "
                        f"{tuple(p.shape)}"
                    )
                elif hasattr(value, "shape"):
                    state[p][name] = as_tensor(value, copy=True).to(p.device, p.dtype)
                elif value is not None:  # PyTorch's momentum_buffer without momentum
                    state[p][name] = value
        if problems:
            raise CheckpointError("\n  ".join(["load_state_dict:", *problems]))
        for group, new in zip(self.param_groups, groups):
            for name, value in new.items():
                if name != "params":  # JSON has made lists of tuples
                    group[name] = tuple(value) if isinstance(group.get(name), tuple) else value
        self.state = state

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}: {len(group['params'])} tensors")
            lines += [f"    {k}: {v}" for k, v in sorted(group.items()) if k != "params"]
        return "\n".join([f"{type(self).__name__} (", *lines, ")"])


def _moments(state: dict[str, Any]) -> dict[str, Any]:
    return {name: v for name, v in state.items() if isinstance(v, Variable)}


def _number(x: Any) -> Any:
    return x.item() if isinstance(x, Tensor) else x


def moment(p: Tensor) -> Tensor:
    """Zeros like a parameter, to average its gradients in."""
    return wrap(backend.full_like(p.array, 0))


def mix(xp: Any, y: Any, beta: float, x: Any, alpha: float, a: Any) -> None:
    """y = beta * y + alpha * x, in place; a is scratch, which may be x."""
    if xp is np:
        blas.add_scaled(alpha, x, beta, y)
    else:
        y *= beta
        y += xp.multiply(x, alpha, out=a)


def decay(xp: Any, average: Any, new: Any, beta: float, a: Any, factor: float = 1.0) -> None:
    """average = beta * average + (1 - beta) * factor * new, in place; a is scratch, as in mix."""
    mix(xp, average, beta, new, (1 - beta) * factor, a)


def descent(xp: Any, x: Any, g: Any, s: dict[str, Any], out: Any) -> Any:
    """The gradient to descend: -g to maximize, plus the L2 penalty's weight_decay * x."""
    if s["weight_decay"]:
        xp.multiply(x, s["weight_decay"], out=out)
        return xp.subtract(out, g, out=out) if s["maximize"] else xp.add(out, g, out=out)
    return xp.negative(g, out=out) if s["maximize"] else g
