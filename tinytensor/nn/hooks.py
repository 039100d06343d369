"""Module hooks: user code before and after forward, and around backward.

A backward hook needs the gradients at the module's borders. So its inputs and outputs pass gates:
identities whose rule shows the gradients of all their tensors to a function, at once.

    x -> gate -> forward -> gate -> y         in backward, the right gate is passed first
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..apply import apply
from ..autograd import Variable, mode, wrap
from ..op import Op


def call(module: Any, args: tuple, kwargs: dict) -> Any:
    """module.forward with all hooks of the module."""
    hooks = module._hooks
    for hook in tuple(hooks.get("forward_pre", ())):
        changed = hook(module, args)
        if changed is not None:
            args = changed if isinstance(changed, tuple) else (changed,)
    watched = tuple(hooks.get("backward", ())) if mode.enabled else ()
    seen: dict[str, tuple] = {}
    if watched:
        args, gated = _gate(args, lambda g: _at_input(module, watched, args, gated, seen, g))
    output = module.forward(*args, **kwargs)
    for hook in tuple(hooks.get("forward", ())):
        changed = hook(module, args, output)
        if changed is not None:
            output = changed
    if watched:
        several = isinstance(output, (tuple, list))

        def at_output(g: tuple) -> tuple:
            seen["output"] = _aligned(outputs, leaving, g)
            if not gated:  # no input waits for a gradient: this is the last gate
                for hook in watched:
                    hook(module, (None,) * len(args), seen["output"])
            return g

        outputs, leaving = _gate(tuple(output) if several else (output,), at_output)
        output = type(output)(outputs) if several else outputs[0]
    return output


def _at_input(
    module: Any, watched: tuple, args: tuple, gated: list[int], seen: dict, g: tuple
) -> tuple:
    grad_input = _aligned(args, gated, g)
    for hook in watched:
        changed = hook(module, grad_input, seen["output"])
        if changed is not None:
            grad_input = changed if isinstance(changed, tuple) else (changed,)
    return tuple(grad_input[i] for i in gated)


def _aligned(values: tuple, places: list[int], g: tuple) -> tuple:
    """Gradients at their arguments' places, None elsewhere."""
    found = dict(zip(places, g))
    return tuple(found.get(i) for i in range(len(values)))


def _gate(values: tuple, on_gradient: Callable) -> tuple[tuple, list[int]]:
    """The values, those that require grad behind an identity; and the places of those."""
    places = [i for i, v in enumerate(values) if isinstance(v, Variable) and v.requires_grad]
    if not places:
        return values, places
    inside = apply(_identity, tuple(values[i] for i in places), {"on_gradient": on_gradient})
    result = list(values)
    for i, t in zip(places, inside):
        t._version = values[i]._version  # one memory: a write in place is seen on both sides
        result[i] = t
    return tuple(result), places


def identity(xp: Any, *xs: Any, on_gradient: Any) -> tuple:
    return xs


_identity = Op(identity, promote=None, view=False, differentiable=True)


@_identity.rule("xs")
def _(g: tuple, on_gradient: Callable) -> tuple:
    tensors = tuple(x if isinstance(x, Variable) else wrap(x) for x in g)
    changed = on_gradient(tensors)
    return tuple(c if isinstance(x, Variable) else c.array for x, c in zip(g, changed))
