"""Module: a part of a model. Its attributes are its registry.

    class Block(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.ln = nn.LayerNorm(n)                   # a Module: found by name
            self.scale = nn.Parameter(tt.ones(n))       # a Parameter: found by name
            self.register_buffer("seen", tt.zeros(1))   # a Tensor to save and move, not to train

        def forward(self, x):
            return self.ln(x) * self.scale

There is no second book-keeping: `block.scale` is in `vars(block)`, and that is where parameters()
and state_dict() look. Only the names of buffers are noted down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from typing import Any, NamedTuple

from .. import dtypes
from ..autograd import RemovableHandle, Variable, no_grad
from ..creation import as_tensor
from ..errors import ArgumentError, CheckpointError, DtypeError
from ..tensor import Tensor
from . import hooks
from .parameter import Parameter


class IncompatibleKeys(NamedTuple):
    """What load_state_dict(strict=False) left alone."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of all layers and models: write `forward`, call the module itself."""

    training: bool = True
    _persistent: Mapping[str, bool] = {}  # names of buffers: are they saved?
    _hooks: Mapping[str, list] = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward(): define it")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._hooks:
            return hooks.call(self, args, kwargs)
        return self.forward(*args, **kwargs)

    # -------------------------------------------------------------------------- registration

    def __setattr__(self, name: str, value: Any) -> None:
        """A parameter or module is replaced by another one or None, not lost by accident."""
        old = vars(self).get(name)
        for kind in (Parameter, Module):
            if isinstance(old, kind) and not (value is None or isinstance(value, kind)):
                raise ArgumentError(
                    f"{type(self).__name__}.{name} is a {kind.__name__} and cannot become a "
                    f"{type(value).__name__}: assign a {kind.__name__} or None, or del it first"
                )
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        if name in self._persistent:
            self._persistent = {n: p for n, p in self._persistent.items() if n != name}

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """A tensor that moves and (if persistent) is saved with the module, but is not trained."""
        self._check_name(name, tensor, Tensor)
        setattr(self, name, tensor)
        self._persistent = {**self._persistent, name: persistent}

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        self._check_name(name, param, Parameter)
        setattr(self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        self._check_name(name, module, Module)
        setattr(self, name, module)

    register_module = add_module

    def _check_name(self, name: str, value: Any, kind: type) -> None:
        owner = type(self).__name__
        if not isinstance(name, str) or not name or "." in name:
            raise ArgumentError(f"{owner}: a name must be a string without '.', got {name!r}")
        if hasattr(type(self), name):
            raise ArgumentError(f"{owner}: the name {name!r} is taken by the class itself")
        if value is not None and not isinstance(value, kind):
            what = type(value).__name__
            raise ArgumentError(f"{owner}.{name} must be a {kind.__name__} or None, got {what}")

    # -------------------------------------------------------------------------- what is inside

    def _own_modules(self) -> list[tuple[str, Module]]:
        return [(n, v) for n, v in vars(self).items() if isinstance(v, Module)]

    def _own_parameters(self) -> list[tuple[str, Parameter]]:
        return [(n, v) for n, v in vars(self).items() if isinstance(v, Parameter)]

    def _own_buffers(self) -> list[tuple[str, Tensor]]:
        return [(n, v) for n in self._persistent if (v := vars(self).get(n)) is not None]

    def _saved(self) -> list[tuple[str, Tensor]]:
        kept = [(n, b) for n, b in self._own_buffers() if self._persistent[n]]
        return [*self._own_parameters(), *kept]

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Modules that are attributes of this one; one with two names comes once."""
        seen: set[int] = set()
        for name, module in self._own_modules():
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(dotted path, module) of this module and all inside it, parents first."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        if remove_duplicate:
            memo.add(id(self))
        yield prefix, self
        for name, module in self._own_modules():
            yield from module.named_modules(memo, _join(prefix, name), remove_duplicate)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def _tensors(
        self, own: Callable, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """(dotted path, tensor) of what `own` lists of each module; shared tensors once."""
        seen: set[int] = set()
        inside = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in inside:
            for name, t in own(module):
                if id(t) not in seen:
                    if remove_duplicate:
                        seen.add(id(t))
                    yield _join(path, name), t

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(dotted path, parameter); a parameter that is shared comes once, by its first name."""
        return self._tensors(lambda m: m._own_parameters(), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        return self._tensors(lambda m: m._own_buffers(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path: `model.get_submodule("h.0.attn")`."""
        return reduce(getattr, target.split("."), self) if target else self

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path."""
        return reduce(getattr, target.split("."), self)  # type: ignore[return-value]

    get_buffer = get_parameter

    # -------------------------------------------------------------------------- saving, loading

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """{dotted path: tensor} of parameters and persistent buffers, under all of their names.

        The tensors share the module's memory; keep_vars leaves them on the tape, too.
        """
        found = self._tensors(lambda m: m._saved(), prefix.rstrip("."), remove_duplicate=False)
        return {name: t if keep_vars else t.detach() for name, t in found}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy Tensors or arrays into the parameters and buffers of these names.

        strict  names missing in state_dict, and unexpected ones, are errors
        assign  take over dtype, device and memory of the state_dict's tensors instead of copying
        raises  CheckpointError that lists every mismatch; then nothing at all was loaded
        """
        own = dict(self._tensors(lambda m: m._saved(), remove_duplicate=False))
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        problems = []
        if strict:
            problems += [f"missing: {name}" for name in missing]
            problems += [f"unexpected: {name}{_hint(name, missing or own)}" for name in unexpected]
        for name, t in own.items():
            value = state_dict.get(name)
            if value is not None and tuple(value.shape) != tuple(t.shape):
                problems.append(
                    f"shape: {name} is {tuple(t.shape)} here, {tuple(value.shape)} in state_dict"
                )
        if problems:
            count = f"{len(problems)} mismatch{'es' if len(problems) > 1 else ''}"
            raise CheckpointError(
                "\n  ".join([f"{type(self).__name__}.load_state_dict: {count}", *problems])
            )
        with no_grad():
            for name, t in own.items():
                if name in state_dict:
                    value = as_tensor(state_dict[name])
                    if assign:
                        t.data = value
                    else:
                        t.copy_(value)
        return IncompatibleKeys(missing, unexpected)

    # -------------------------------------------------------------------------- changing it all

    def apply(self, fn: Callable[[Module], Any]) -> Any:
        """fn(module) for every module inside and then this one; returns self."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Any:
        """Training mode (dropout drops) or not, for all modules inside; returns self."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Any:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        clear_grads(self.parameters(), set_to_none)

    def to(self, *args: Any, **options: Any) -> Any:
        """All parameters and buffers to a device and/or, the floating ones, to a floating dtype.

        In place: a parameter stays the same object, so an optimizer that has it is not left behind.
        """

        def move(t: Tensor) -> Tensor:
            moved = t.to(*args, **options)
            if not t.is_floating_point():
                return t.to(moved.device)
            if not moved.is_floating_point():
                raise DtypeError(f"Module.to: parameters are floats, {moved.dtype} is not one")
            return moved

        for t in [*self.parameters(), *self.buffers()]:
            t.data = move(t.detach())
            if t.grad is not None:
                t.grad = move(t.grad.detach())
        return self

    def cpu(self) -> Any:
        return self.to("cpu")

    def cuda(self, device: Any = "cuda") -> Any:
        return self.to(device if isinstance(device, str) else f"cuda:{device}")

    def float(self) -> Any:
        return self.to(dtypes.float32)

    def double(self) -> Any:
        return self.to(dtypes.float64)

    def half(self) -> Any:
        return self.to(dtypes.float16)

    # -------------------------------------------------------------------------- hooks

    def register_forward_pre_hook(self, hook: Callable) -> RemovableHandle:
        """hook(module, args) before forward; what it returns, if not None, replaces args."""
        return self._register("forward_pre", hook)

    def register_forward_hook(self, hook: Callable) -> RemovableHandle:
        """hook(module, args, output) after forward; a result other than None replaces output."""
        return self._register("forward", hook)

    def register_full_backward_hook(self, hook: Callable) -> RemovableHandle:
        """hook(module, grad_input, grad_output) when the gradients of the inputs are known.

        Both are tuples of Tensors, grad_input one per positional argument, None for an argument
        that needs no gradient. A returned tuple replaces grad_input.
        """
        return self._register("backward", hook)

    def _register(self, kind: str, hook: Callable) -> RemovableHandle:
        hooks = self._hooks.get(kind, [])
        hooks.append(hook)
        self._hooks = {**self._hooks, kind: hooks}
        return RemovableHandle(hooks, hook)

    # -------------------------------------------------------------------------- printing

    def extra_repr(self) -> str:
        """What repr shows between the parentheses of a layer."""
        return ""

    def _child_lines(self) -> list[str]:
        return [f"({name}): {module!r}" for name, module in self._own_modules()]

    def __repr__(self) -> str:
        extra, lines = self.extra_repr(), self._child_lines()
        name = type(self).__name__
        if not lines:
            return f"{name}({extra})"
        body = "\n".join([extra] * bool(extra) + lines).replace("\n", "\n  ")
        return f"{name}(\n  {body}\n)"


def clear_grads(params: Iterator[Variable] | list, set_to_none: bool) -> None:
    """Forget gradients, or make them zeros in place."""
    for p in params:
        if set_to_none:
            p.grad = None
        elif p.grad is not None:
            p.grad.requires_grad, p.grad._node = False, None
            p.grad.zero_()


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _hint(name: str, names: Any) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
