"""Derivatives of functions, as in torch.func: each takes a function and gives a function or values.

    grad(f)(x)              df/dx of a scalar f
    vjp(f, x)               f(x), and v -> v^T J      one backward: a row of the Jacobian J = df/dx
    jvp(f, (x,), (t,))      f(x), and J t             a column, forward mode
    jacrev(f)(x), jacfwd    J, by rows or by columns;  hessian(f)(x)  d2f/dx2

Forward mode needs no rules of its own, by a trick (Townsend 2017, "A new trick for calculating
Jacobian vector products"): u -> u^T J is linear in u, so its own vjp is t -> J t. Hence jvp is the
vjp of the vjp, at any u. It costs a backward through a backward; a rule per op would cost less.

Inputs and outputs may be dicts, lists and tuples of tensors, nested. Calls nest: grad(grad(f)).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from . import autograd, backend
from .autograd import Variable, enable_grad, mode, topological, wrap
from .errors import ArgumentError, DtypeError, ShapeError
from .ops import shape as sh

__all__ = [
    "grad", "grad_and_value", "hessian", "jacfwd", "jacobian", "jacrev", "jvp", "vjp",
]  # fmt: skip


# ------------------------------------------------------------------------------ trees of tensors


def flatten(tree: Any) -> tuple[list, Callable]:
    """The tensors of nested dicts, lists and tuples, and what puts others in their places."""
    if isinstance(tree, Variable):
        return [tree], lambda leaves: leaves[0]
    kind: Any
    if isinstance(tree, dict):
        parts, kind = list(tree.values()), lambda values: dict(zip(tree, values, strict=True))
    elif isinstance(tree, (list, tuple)):
        parts = list(tree)
        kind = tree._make if hasattr(tree, "_make") else type(tree)  # _make: a namedtuple
    else:
        return [], lambda leaves: tree
    flat = [flatten(p) for p in parts]

    def rebuild(leaves: Sequence) -> Any:
        values, start = [], 0
        for inside, put in flat:
            values.append(put(leaves[start : start + len(inside)]))
            start += len(inside)
        return kind(values)

    return [leaf for inside, _ in flat for leaf in inside], rebuild


def _tensors(name: str, what: str, tree: Any) -> tuple[list, Callable]:
    leaves, rebuild = flatten(tree)
    if not leaves:
        raise ArgumentError(
            f"{name}: {what} must be a Tensor, or dicts, lists and tuples of them, got "
            f"{type(tree).__name__}"
        )
    return leaves, rebuild


# ------------------------------------------------------------------------------ one run of f


class _Run:
    """f at given inputs, with a graph from fresh copies of these inputs to the outputs."""

    def __init__(self, name: str, f: Callable, primals: tuple, has_aux: bool):
        self.name, self.outer = name, mode.enabled
        leaves, put = _tensors(name, "the input", primals)
        for x in leaves:
            if x.array.dtype.kind not in "fV":
                raise DtypeError(f"{name}: only floats have derivatives, the input is {x.dtype}")
        with enable_grad():
            self.inputs = [_fresh(x, self.outer) for x in leaves]
            self.restore = put
            out = f(*put(self.inputs))
        self.aux = None
        if has_aux:
            if not isinstance(out, tuple) or len(out) != 2:
                raise ArgumentError(f"{name}: with has_aux=True f must return (output, aux)")
            out, aux = out
            extra, put_aux = flatten(aux)
            self.aux = put_aux([t.detach() for t in extra])
        self.outputs, self.put_outputs = _tensors(name, "what f returns", out)
        # is the result to be differentiated further, by the caller?
        ours = set(map(id, self.inputs))
        nodes = topological([autograd._node_of(t) for t in self.outputs])
        self.tracked = self.outer and any(
            isinstance(n, Variable) and n.requires_grad and id(n) not in ours for n in nodes
        )

    def value(self) -> Any:
        """f's output: outside of the graph, unless the caller has one of its own."""
        return self.put_outputs([t if self.tracked else t.detach() for t in self.outputs])

    def pull(self, cotangents: Sequence, create_graph: bool, retain: bool = True) -> list:
        """v^T J for each input: zeros where the outputs do not depend on it."""
        pairs = [(o, v) for o, v in zip(self.outputs, cotangents, strict=True) if o.requires_grad]
        with enable_grad():
            if not pairs:
                return [_zeros(x) for x in self.inputs]
            return list(
                autograd.grad(
                    [o for o, _ in pairs], self.inputs, [v for _, v in pairs],
                    retain_graph=retain, create_graph=create_graph, materialize_grads=True,
                )
            )  # fmt: skip

    def push(self, tangents: Sequence) -> list:
        """J t for each output, as the vjp of u -> u^T J."""
        us = [_fresh(_zeros(o), False) for o in self.outputs]
        rows = self.pull(us, create_graph=True)
        pairs = [(r, t) for r, t in zip(rows, tangents, strict=True) if r.requires_grad]
        if not pairs:
            return [_zeros(o) for o in self.outputs]
        with enable_grad():
            return list(
                autograd.grad(
                    [r for r, _ in pairs], us, [t for _, t in pairs],
                    retain_graph=True, create_graph=self.tracked, materialize_grads=True,
                )
            )  # fmt: skip


def _fresh(x: Any, outer: bool) -> Any:
    """x as an input of its own: still on the caller's tape if it is on one."""
    if x.requires_grad and outer:
        return sh._reshape(x, tuple(x.array.shape))
    return wrap(x.array, None, True)


def _zeros(x: Any) -> Any:
    return wrap(backend.full_like(x.array, 0))


def _like(name: str, what: str, given: Any, expected: Sequence) -> list:
    """The tensors of `given`, which must be as many and as large as the expected ones."""
    leaves, _ = flatten(given)
    shapes = [tuple(t.array.shape) for t in leaves]
    if shapes != [tuple(t.array.shape) for t in expected]:
        raise ShapeError(
            f"{name}: {what} of shapes {shapes} must have the structure and shapes of what it "
            f"belongs to, {[tuple(t.array.shape) for t in expected]}"
        )
    return leaves


def _chosen(name: str, args: tuple, argnums: Any) -> tuple:
    """The arguments numbered argnums, and a way to call f with others in their places."""
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise ArgumentError(f"{name}: argnums {n}, but f was given {len(args)} arguments")
    numbers = tuple(n % len(args) for n in numbers)

    def place(f: Callable, kwargs: dict) -> Callable:
        def g(*values: Any) -> Any:
            replaced = dict(zip(numbers, values, strict=True))
            return f(*(replaced.get(i, a) for i, a in enumerate(args)), **kwargs)

        return g

    return tuple(args[n] for n in numbers), place


def _one_or_all(values: tuple, argnums: Any) -> Any:
    return values[0] if isinstance(argnums, int) else values


# ------------------------------------------------------------------------------ first derivatives


def grad_and_value(f: Callable, argnums: int | tuple = 0, has_aux: bool = False) -> Callable:
    """x -> (df/dx, f(x)), or (df/dx, (f(x), aux)) if f returns (value, aux); f is scalar."""

    @functools.wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        primals, place = _chosen("grad", args, argnums)
        run = _Run("grad", place(f, kwargs), primals, has_aux)
        loss = run.outputs[0]
        if len(run.outputs) != 1 or loss.array.ndim:
            raise ShapeError(
                f"grad: f must return one 0-d tensor, got {[tuple(o.shape) for o in run.outputs]}: "
                "sum it up, or use jacrev"
            )
        one = wrap(backend.full_like(loss.array, 1))
        found = run.restore(run.pull([one], run.tracked, retain=run.tracked))
        value = run.value()
        return _one_or_all(found, argnums), ((value, run.aux) if has_aux else value)

    return function


def grad(f: Callable, argnums: int | tuple = 0, has_aux: bool = False) -> Callable:
    """x -> df/dx of a scalar f, by its argument argnums or those; (df/dx, aux) with has_aux."""
    both = grad_and_value(f, argnums, has_aux)

    @functools.wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return function


def vjp(f: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """f(*primals), and v -> v^T J, a tuple with one for each primal; call it as often as you like.

    With has_aux f returns (output, aux), and aux comes third.
    """
    run = _Run("vjp", f, primals, has_aux)

    def pull(*cotangents: Any) -> tuple:
        vs = _like("vjp", "cotangents", cotangents, run.outputs)
        further = mode.enabled and (run.tracked or any(v.requires_grad for v in vs))
        return run.restore(run.pull(vs, create_graph=further))

    return (run.value(), pull, run.aux) if has_aux else (run.value(), pull)


def jvp(f: Callable, primals: Any, tangents: Any, *, has_aux: bool = False) -> tuple:
    """f(*primals), and J t: how the output moves as the primals move along the tangents."""
    if isinstance(primals, Variable):
        primals, tangents = (primals,), (tangents,)
    ts = _like("jvp", "tangents", tangents, _tensors("jvp", "primals", primals)[0])
    run = _Run("jvp", f, tuple(primals), has_aux)
    run.tracked |= mode.enabled and any(t.requires_grad for t in ts)
    moved = run.put_outputs(run.push(ts))
    return (run.value(), moved, run.aux) if has_aux else (run.value(), moved)


# ------------------------------------------------------------------------------ whole Jacobians


def _basis(x: Any) -> Any:
    """The unit tensors of x's shape, one by one."""
    xp = backend.namespace_of(x.array)
    for i in range(x.array.size):
        with backend.using(x.array):
            unit = xp.zeros(x.array.size, x.array.dtype)
            unit[i] = 1
        yield wrap(unit.reshape(x.array.shape))


def jacrev(f: Callable, argnums: int | tuple = 0, has_aux: bool = False) -> Callable:
    """x -> J of shape (*out.shape, *x.shape), a backward per element of the output.

    For trees, J has the structure of the output, with the structure of the input inside.
    """

    @functools.wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        primals, place = _chosen("jacrev", args, argnums)
        run = _Run("jacrev", place(f, kwargs), primals, has_aux)
        blocks = []
        for k, o in enumerate(run.outputs):
            rows = []
            for unit in _basis(o):
                vs = [unit if i == k else _zeros(p) for i, p in enumerate(run.outputs)]
                rows.append(run.pull(vs, create_graph=run.tracked))
            blocks.append(run.restore([_join(c, o, x, 0) for c, x in _columns(rows, run.inputs)]))
        jacobian = run.put_outputs([_one_or_all(b, argnums) for b in blocks])
        return (jacobian, run.aux) if has_aux else jacobian

    return function


def jacfwd(f: Callable, argnums: int | tuple = 0, has_aux: bool = False) -> Callable:
    """jacrev's result by columns, a jvp per element of the input: for few inputs, many outputs."""

    @functools.wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        primals, place = _chosen("jacfwd", args, argnums)
        run = _Run("jacfwd", place(f, kwargs), primals, has_aux)
        found: list[list] = [[] for _ in run.outputs]
        for k, x in enumerate(run.inputs):
            columns = [
                run.push([unit if i == k else _zeros(p) for i, p in enumerate(run.inputs)])
                for unit in _basis(x)
            ]
            for i, (column, o) in enumerate(_columns(columns, run.outputs)):
                found[i].append(_join(column, o, x, o.array.ndim))
        blocks = [_one_or_all(run.restore(block), argnums) for block in found]
        return (run.put_outputs(blocks), run.aux) if has_aux else run.put_outputs(blocks)

    return function


def _columns(rows: list, like: list) -> list:
    """[(the k-th of every row, like[k])]"""
    return [([row[k] for row in rows], x) for k, x in enumerate(like)]


def _join(parts: list, out: Any, x: Any, dim: int) -> Any:
    """Gradients, one for each element of one side, as a block of shape (*out.shape, *x.shape)."""
    shape = (*out.array.shape, *x.array.shape)
    if not parts:
        with backend.using(x.array):
            return wrap(backend.namespace_of(x.array).zeros(shape, x.array.dtype))
    joined = sh.stack([sh.reshape(p, tuple(p.array.shape)) for p in parts], dim)
    return sh.reshape(joined, shape)


def jacobian(f: Callable, inputs: Any = 0, has_aux: bool = False) -> Any:
    """jacrev: jacobian(f)(x), jacobian(f, argnums)(x); or at once, jacobian(f, inputs)."""
    if _is_argnums(inputs):
        return jacrev(f, inputs, has_aux)
    args, argnums = _all_of(inputs)
    return jacrev(f, argnums, has_aux)(*args)


def hessian(f: Callable, inputs: Any = 0) -> Any:
    """d2f/dx2 of shape (*x.shape, *x.shape) for scalar f: hessian(f)(x), or hessian(f, x) at once.

    Rows of rows: jacrev of jacrev, since a forward mode made of two backwards gains nothing here.
    """
    if _is_argnums(inputs):
        return jacrev(jacrev(f, inputs), inputs)
    args, argnums = _all_of(inputs)
    return jacrev(jacrev(f, argnums), argnums)(*args)


def _is_argnums(inputs: Any) -> bool:
    numbers = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    return all(isinstance(i, int) for i in numbers)


def _all_of(inputs: Any) -> tuple[tuple, Any]:
    """The arguments of f, and the numbers of those to differentiate by: all of them."""
    if isinstance(inputs, Variable):
        return (inputs,), 0
    return tuple(inputs), tuple(range(len(inputs)))
