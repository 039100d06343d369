"""Are the gradients right? Compare what the rules say with finite differences, element by element.

    analytic   a row of the Jacobian for each output element, by backward from a one-hot gradient
    numeric    a column for each input element: (f(x + eps) - f(x - eps)) / (2 eps), in float64

The numeric error is eps^2 |f'''| / 6 by truncation and 1e-16 |f| / eps by rounding, both near 1e-10
at eps = 1e-6, far below the tolerances. The complex step, which has no rounding error, would need
ops that take complex numbers; ours are real, so it is not offered.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import autograd, backend
from .apply import apply
from .autograd import Variable, Watcher, enable_grad, format_line, wrap
from .describe import formula, place
from .errors import ArgumentError, GradcheckError

ROWS = 8  # of a failure's table


def gradcheck(
    func: Callable, inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
    raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True,
) -> bool:  # fmt: skip
    """True if backward through func agrees with finite differences at inputs.

    func        an op, or any function of ops: takes inputs, returns a Tensor or several
    inputs      Tensors and other arguments; those that require grad are checked. Use float64
    atol, rtol  |analytic - numeric| <= atol + rtol |numeric| must hold for every element
    nondet_tol  how far two backward passes may differ
    check_undefined_grad  PyTorch's; always on: each output is differentiated on its own

    Raises GradcheckError, or returns False if raise_exception is False. The error shows the worst
    elements, names a kink where there is one, and says which argument's rule of which op is wrong.
    """
    check = _Check(eps, atol, rtol, nondet_tol)
    return _verdict("gradcheck", check.first, func, _as_tuple(inputs), raise_exception)


def gradgradcheck(
    func: Callable, inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6,
    atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True,
    nondet_tol: float = 0.0, check_undefined_grad: bool = True,
) -> bool:  # fmt: skip
    """True if second derivatives through func agree with finite differences: gradcheck of

        inputs, grad_outputs -> autograd.grad(func(inputs), inputs, grad_outputs)

    grad_outputs  the gradients of func's outputs; random if None. The rest is gradcheck's
    """
    check = _Check(eps, atol, rtol, nondet_tol)
    seeds = None if grad_outputs is None else _as_tuple(grad_outputs)

    def test(f: Callable, xs: tuple) -> _Failure | None:
        return check.second(f, xs, seeds if f is func else None)

    return _verdict("gradgradcheck", test, func, _as_tuple(inputs), raise_exception)


def _verdict(name: str, test: Callable, func: Callable, inputs: tuple, raising: bool) -> bool:
    checked = [x for x in inputs if isinstance(x, Variable) and x.requires_grad]
    if not checked:
        raise ArgumentError(f"{name}: no input requires grad: call .requires_grad_() on one")
    for x in checked:
        if x.array.dtype != np.float64:
            warnings.warn(
                f"{name}: an input is {x.array.dtype}: finite differences need float64, use "
                ".double() first",
                stacklevel=3,
            )
    failure = test(func, inputs)
    if failure is not None and raising:
        raise GradcheckError(f"{name}: {_report(test, func, inputs, failure)}")
    return failure is None


# ------------------------------------------------------------------------------ two Jacobians


@dataclass
class _Failure:
    """What is wrong with d out / d x: a problem in words, or numbers, out x x, that disagree."""

    names: tuple[str, str]  # of the output and the input
    argument: int  # whose rule it is
    problem: str = ""
    analytic: Any = None
    numeric: Any = None
    wrong: Any = None
    shapes: tuple = ()
    sides: Any = None  # column -> the differences to its left and to its right

    def headline(self) -> str:
        of, to = self.names
        if self.problem:
            return f"d {of} / d {to}: {self.problem}"
        return f"{self.wrong.sum()} of {self.wrong.size} elements of d {of} / d {to} disagree"

    def table(self) -> str:
        """The worst elements, what the ratio suggests, and a kink if there is one."""
        if self.problem:
            return ""
        (of, to), distance = self.names, np.abs(self.analytic - self.numeric)
        distance = np.where(self.wrong, np.where(np.isnan(distance), np.inf, distance), -1)
        order = np.argsort(-distance, axis=None, kind="stable")[: min(ROWS, self.wrong.sum())]
        rows = [(f"{of}[...]", f"{to}[...]", "analytic", "numeric", "difference")]
        notes: list[str] = []
        for r, c in zip(*np.unravel_index(order, self.wrong.shape)):
            a, n = self.analytic[r, c], self.numeric[r, c]
            rows.append(
                (self._at(0, r), self._at(1, c), f"{a:.6g}", f"{n:.6g}", f"{abs(a - n):.2g}")
            )
            left, right = (side[r, 0] for side in self.sides(c))
            if not notes and abs(right - left) > 1e-3 * max(abs(left), abs(right)):
                notes.append(
                    f"a kink at {to}{self._at(1, c)}: the slope is {left:.6g} to its left and "
                    f"{right:.6g} to its right: try an input away from it"
                )
        widths = [max(len(row[k]) for row in rows) for k in range(5)]
        lines = ["  " + "  ".join(f"{v:>{w}}" for v, w in zip(row, widths)) for row in rows]
        lines[1] += "  <- worst"
        if len(order) < self.wrong.sum():
            lines.append(f"  ... and {self.wrong.sum() - len(order)} more")
        return "\n".join(lines + [f"  {note}" for note in notes or self._ratio()])

    def _at(self, which: int, flat: int) -> str:
        return str([int(n) for n in np.unravel_index(flat, self.shapes[which])])

    def _ratio(self) -> list[str]:
        """Is one a multiple of the other? Then a sign or a factor is missing."""
        a, n = self.analytic, self.numeric
        large = np.abs(n) > 1e-3
        if large.sum() < 2 or not np.isfinite(a).all():
            return []
        ratio = a[large] / n[large]
        factor = float(np.median(ratio))
        if np.abs(ratio - factor).max() > 1e-3 or abs(factor - 1) < 1e-3:
            return []
        if abs(factor) < 1e-3:
            return ["analytic is 0 everywhere: is the rule there, does the value leave the graph?"]
        cause = "a sign" if abs(factor + 1) < 1e-3 else "a factor"
        return [f"analytic is {factor:.4g} times numeric everywhere: {cause}"]


@dataclass(frozen=True)
class _Check:
    """How closely the two Jacobians must agree, and the comparison."""

    eps: float
    atol: float
    rtol: float
    nondet_tol: float

    def first(
        self, func: Callable, inputs: tuple, names: Any = None, rules: list | None = None
    ) -> _Failure | None:
        """The first disagreement between the backward of func and its differences.

        names  of outputs and inputs;  rules: for each output the argument whose rule made it
        """
        inputs = tuple(_leaf(x) for x in inputs)
        checked = [i for i, x in enumerate(inputs) if _wants_grad(x)]
        outputs = _outputs(func, inputs)
        of, to = names or (_output_names(len(outputs)), _argument_names(func, inputs))
        for k, out in enumerate(outputs):
            rows, again = (self._backward(out, [inputs[i] for i in checked], n) for n in (None, 1))
            for i, analytic, once in zip(checked, rows, again):
                what = (of[k], to[i]), (i if rules is None else rules[k])
                if isinstance(analytic, str):
                    return _Failure(*what, analytic)
                if once.size and np.abs(analytic[:1] - once).max() > self.nondet_tol:
                    return _Failure(*what, "two backward passes gave different numbers")
                numeric = self._differences(func, inputs, i, k, self.eps, -self.eps)
                wrong = ~(np.abs(analytic - numeric) <= self.atol + self.rtol * np.abs(numeric))
                wrong &= ~(np.isnan(analytic) & np.isnan(numeric)) & (analytic != numeric)
                if wrong.any():
                    shapes = tuple(out.array.shape), tuple(inputs[i].array.shape)
                    sides = lambda j, i=i, k=k: (
                        self._differences(func, inputs, i, k, 0, -self.eps, j),
                        self._differences(func, inputs, i, k, self.eps, 0, j),
                    )
                    return _Failure(*what, "", analytic, numeric, wrong, shapes, sides)
        return None

    def second(self, func: Callable, inputs: tuple, seeds: tuple | None = None) -> _Failure | None:
        """first, for the backward of func as a function of inputs and output gradients."""
        inputs = tuple(_leaf(x) for x in inputs)
        checked = [i for i, x in enumerate(inputs) if _wants_grad(x)]
        outputs = [o for o in _outputs(func, inputs) if o.requires_grad]
        if not outputs:
            return None
        seeds = _random_like(outputs) if seeds is None else seeds
        n = len(inputs)

        def backward(*args: Any) -> list:
            outs = [o for o in _outputs(func, args[:n]) if o.requires_grad]
            wanted = [args[i] for i in checked]
            grads = autograd.grad(outs, wanted, args[n:], create_graph=True, allow_unused=True)
            return [g if g is not None else wrap(x.array * 0) for g, x in zip(grads, wanted)]

        to = [*_argument_names(func, inputs), *_output_names(len(seeds), "g")]
        of = [f"(dL/d{to[i]})" for i in checked]
        return self.first(backward, (*inputs, *seeds), (of, to), checked)

    def _backward(self, out: Variable, inputs: list, rows: int | None) -> list:
        """d out / d input for each input, a row for each element of out (or the first `rows`)."""
        size = out.array.size
        jacobians: list = [np.zeros((min(size, rows or size), x.array.size)) for x in inputs]
        if not out.requires_grad:
            return jacobians
        for row in range(len(jacobians[0])):
            one_hot = np.zeros(size, out.array.dtype)
            one_hot[row] = 1
            seed = backend.to_device(one_hot.reshape(out.array.shape), out.device)  # type: ignore
            grads = autograd.grad(out, inputs, wrap(seed), retain_graph=True, allow_unused=True)
            for i, (x, g) in enumerate(zip(inputs, grads)):
                if g is None or isinstance(jacobians[i], str):
                    continue
                if g.array.shape != x.array.shape or g.array.dtype != x.array.dtype:
                    jacobians[i] = (
                        f"the gradient is {tuple(g.array.shape)} {g.array.dtype}, the input "
                        f"{tuple(x.array.shape)} {x.array.dtype}: they must be equal"
                    )
                else:
                    jacobians[i][row] = backend.to_numpy(g.array).ravel()
        return jacobians

    def _differences(
        self, func: Callable, inputs: tuple, i: int, k: int, up: float, down: float,
        only: int | None = None,
    ) -> np.ndarray:  # fmt: skip
        """(f(x + up) - f(x + down)) / (up - down) of output k: a column for each element of x."""
        x = inputs[i]
        columns = []
        for j in range(x.array.size) if only is None else [only]:
            place = np.unravel_index(j, x.array.shape)
            values, at = [], []
            for step in (up, down):
                moved = _leaf(x)
                with backend.using(x.array):
                    moved.array[place] += step
                at.append(float(moved.array[place]))  # x + step, as rounded
                args = [moved if m == i else _leaf(a) for m, a in enumerate(inputs)]
                out = _outputs(func, args)[k].array
                values.append(backend.to_numpy(out).astype(np.float64).ravel())
            with np.errstate(invalid="ignore"):
                columns.append((values[0] - values[1]) / (at[0] - at[1]))
        return np.stack(columns, axis=1) if columns else np.zeros((1, 0))


def _as_tuple(x: Any) -> tuple:
    return tuple(x) if isinstance(x, (list, tuple)) else (x,)


def _wants_grad(x: Any) -> bool:
    return isinstance(x, Variable) and x.requires_grad


def _leaf(x: Any) -> Any:
    """A fresh leaf with x's value, strides and all; anything but a Tensor as it is."""
    if not isinstance(x, Variable):
        return x
    return wrap(same_layout(x.array), None, x.requires_grad)


@backend.on_its_device
def same_layout(array: Any) -> Any:
    """A copy with the same strides, unless elements share memory (an expanded array)."""
    xp, size = backend.namespace_of(array), array.itemsize
    if array.size == 0 or any(s == 0 and n > 1 for s, n in zip(array.strides, array.shape)):
        return array.copy()
    reach = [(n - 1) * s for n, s in zip(array.shape, array.strides)]
    start = -sum(r for r in reach if r < 0) // size
    buffer = xp.zeros(1 + sum(abs(r) for r in reach) // size, array.dtype)
    copy = xp.lib.stride_tricks.as_strided(buffer[start:], array.shape, array.strides)
    copy[...] = array
    return copy


def _outputs(func: Callable, inputs: Any) -> list:
    """The outputs that carry a gradient; if none does, all floating ones: theirs is zero then."""
    with enable_grad():
        result = func(*inputs)
    outputs = [o for o in _as_tuple(result) if isinstance(o, Variable)]
    if not outputs and not isinstance(result, (list, tuple)):
        raise ArgumentError(f"gradcheck: func must return Tensors, got {type(result).__name__}")
    floating = [o for o in outputs if o.array.dtype.kind in "fV"]
    return [o for o in floating if o.requires_grad] or floating


def _random_like(outputs: list) -> tuple:
    rng = np.random.default_rng(0)
    return tuple(
        wrap(
            backend.to_device(
                np.asarray(rng.normal(size=o.array.shape), dtype=o.array.dtype), o.device
            ),
            None,
            True,
        )
        for o in outputs
    )


# ------------------------------------------------------------------------------ the report


def _argument_names(func: Callable, inputs: tuple) -> list[str]:
    op = getattr(func, "op", None)
    if op is not None:
        return op.argument_names(len(inputs))
    try:
        named = list(inspect.signature(func).parameters.values())
    except (TypeError, ValueError):
        named = []
    if len(named) < len(inputs) or any(p.kind is p.VAR_POSITIONAL for p in named):
        return [f"inputs[{i}]" for i in range(len(inputs))]
    return [p.name for p in named]


def _output_names(count: int, name: str = "out") -> list[str]:
    return [name] if count == 1 else [f"{name}[{i}]" for i in range(count)]


def _report(test: Callable, func: Callable, inputs: tuple, failure: _Failure) -> str:
    """The op at fault with its rule and its own table, or the table of func."""
    calls = _Calls()
    with calls:
        _outputs(func, [_leaf(x) for x in inputs])
    for call, args, where in calls.seen:
        own = test(call, args)
        if own is None:
            continue
        op = call.op
        name = op.argument_names(len(args))[own.argument]
        rule = op.rules[op.params[0] if op.variadic else name].function
        table = own.table()
        verdict = "meets a kink" if "a kink at" in table else "is wrong"
        lines = [
            f"the rule of {op.name} for {name!r} {verdict}: {own.headline()}",
            table,
            f"  rule    {formula(rule)}    ({place(rule)})",
            f"  called  {format_line(where)}",
        ]
        return "\n".join(filter(None, lines))
    advice = (
        "each op in it passes a check of its own: does a value leave the graph (detach, .array, "
        ".item, no_grad) or is something not a function of the inputs (randomness, state)?"
    )
    return "\n".join([failure.headline(), *filter(None, [failure.table()]), f"  {advice}"])


class _Calls(Watcher):
    """The op calls that were recorded, with their arguments as they were."""

    def __init__(self) -> None:
        self.seen: list = []

    def forward(self, op: Any, args: tuple, static: dict, outs: tuple, node: Any) -> None:
        if node is None or op.name == "cast":
            return
        if all(a.array.dtype == np.float64 for a in args if _wants_grad(a)):
            self.seen.append((_Call(op, static), tuple(_leaf(a) for a in args), node.where))


class _Call:
    """An op with its keyword arguments: a function of its tensor arguments."""

    def __init__(self, op: Any, static: dict):
        self.op, self.static = op, static

    def __call__(self, *args: Any) -> Any:
        return apply(self.op, args, self.static)
