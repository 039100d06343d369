"""torch.autograd.functional's spelling of func.py: inputs instead of arguments, values at once.

    jacobian(f, x), hessian(f, x)       vjp(f, x, v), jvp(f, x, v)       vhp(f, x, v), hvp(f, x, v)

inputs is a Tensor or a tuple of them, for as many arguments of f; results have its structure.
Results leave the graph unless create_graph is True and the inputs require gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import func
from .autograd import Variable, is_grad_enabled, set_grad_enabled
from .errors import GraphError


def jacobian(f: Callable, inputs: Any, create_graph: bool = False) -> Any:
    """df/dx, of shape (*out.shape, *x.shape), for each output and each input"""
    with set_grad_enabled(create_graph and is_grad_enabled()):
        return func.jacobian(f, inputs)


def hessian(f: Callable, inputs: Any, create_graph: bool = False) -> Any:
    """d2f/dx2, of shape (*x.shape, *x.shape), for each pair of inputs; f is scalar"""
    with set_grad_enabled(create_graph and is_grad_enabled()):
        return func.hessian(f, inputs)


def vjp(f: Callable, inputs: Any, v: Any = None, create_graph: bool = False) -> tuple:
    """f(x) and v^T J. v, of the outputs' shape, may be left out for a scalar f."""
    with set_grad_enabled(create_graph and is_grad_enabled()):
        args = _args(inputs)
        out, pull = func.vjp(f, *args)
        return out, _as_given(pull(*_args(_ones(out) if v is None else v)), inputs)


def jvp(f: Callable, inputs: Any, v: Any = None, create_graph: bool = False) -> tuple:
    """f(x) and J v. v, of the inputs' shapes, may be left out for one input of one element."""
    with set_grad_enabled(create_graph and is_grad_enabled()):
        return func.jvp(f, _args(inputs), _args(_ones(inputs) if v is None else v))


def vhp(f: Callable, inputs: Any, v: Any = None, create_graph: bool = False) -> tuple:
    """f(x) and v^T H, H the Hessian of the scalar f: a backward through a backward"""
    with set_grad_enabled(create_graph and is_grad_enabled()):
        args = _args(inputs)
        gradient = func.grad_and_value(f, tuple(range(len(args))))
        _, pull, value = func.vjp(gradient, *args, has_aux=True)
        return value, _as_given(pull(*_args(_ones(inputs) if v is None else v)), inputs)


def hvp(f: Callable, inputs: Any, v: Any = None, create_graph: bool = False) -> tuple:
    """f(x) and H v, which is v^T H: H is symmetric"""
    return vhp(f, inputs, v, create_graph)


def _args(inputs: Any) -> tuple:
    return (inputs,) if isinstance(inputs, Variable) else tuple(inputs)


def _as_given(values: tuple, inputs: Any) -> Any:
    return values[0] if isinstance(inputs, Variable) else values


def _ones(like: Any) -> Any:
    if not isinstance(like, Variable) or like.array.size != 1:
        raise GraphError("v may be left out only where it belongs to one tensor of one element")
    return like.detach() * 0 + 1  # type: ignore[attr-defined]
