"""Where did the NaN come from: `with tt.detect_anomaly():` stops at the first op that made one.

An op is blamed when a number that is not finite comes out though none of its kind went in, so a
mask of -inf may pass until something turns it into a NaN. In backward nothing may be infinite.
What it does not do: look inside of an op, or at numbers that no op and no rule made.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from . import autograd
from .autograd import Node, Variable, Watcher, format_line, user_line
from .describe import as_floats, formula, is_bad, place, ranges, shape_dtype
from .errors import NonFiniteError


class detect_anomaly(Watcher):
    """Inside, the first op or rule to make a NaN or an inf raises NonFiniteError.

    The error names the op, its line, and the shapes and ranges of what went in; for a backward also
    the line of the forward and the argument whose rule it was. check_nan=False watches nothing.
    Every result is looked at, and on a GPU waited for: for debugging, not for training.
    """

    def __init__(self, check_nan: bool = True):
        self.check_nan = check_nan

    def forward(self, op: Any, args: tuple, static: dict, outs: tuple, node: Any) -> None:
        if not self.check_nan or not any(is_bad(o.array) for o in outs) or _inside_a_rule():
            return
        names = op.argument_names(len(args))
        named = [(n, _value(a)) for n, a in zip(names, args, strict=False)]
        before = _kinds([v for _, v in named] + list(static.values()))
        made = _kinds([o.array for o in outs])
        where = format_line(node.where if node is not None else user_line(3))
        table = [*named, *_outputs(outs)]
        if made - before:  # a NaN out of an inf is news, an inf out of an inf is not
            raise NonFiniteError(
                f"{op.name} ({where}) made {_count(outs)} out of "
                f"{'values with ' + ' and '.join(sorted(before)) if before else 'finite numbers'}\n"
                + _rows(table)
            )
        if "nan" in made and op.differentiable:
            guilty = [n for n, v in named if "nan" in _kinds([v])] or ["a keyword argument"]
            raise NonFiniteError(
                f"{op.name} ({where}) was given NaN in its {' and '.join(guilty)}, which no op "
                f"made while anomalies were watched for: look at the data\n{_rows(table)}"
            )

    def backward(self, node: Node, g: Any, grads: list) -> None:
        if not self.check_nan:
            return
        gs = list(g) if type(g) is tuple else [g]
        kept = [(n, _value(v)) for n, v in zip(node.plan.keep, node.values, strict=True)]
        arrays = [(n, v) for n, v in kept if isinstance(v, (float, int)) or hasattr(v, "dtype")]
        incoming = [("g" if len(gs) == 1 else f"g[{i}]", _value(v)) for i, v in enumerate(gs)]
        if any(is_bad(v) for _, v in incoming):
            raise NonFiniteError(
                f"the gradient that reached {node.op.name} ({format_line(node.where)}) is not "
                "finite, and no rule made it so: it was passed to backward(), changed by a hook, "
                f"or overflowed where gradients were added up\n{_rows(incoming)}"
            )
        names = node.op.argument_names(len(node.parents))
        for name, grad in zip(names, grads, strict=False):
            if grad is None or not is_bad(_value(grad)):
                continue
            rule = node.op.rules[node.op.params[0] if node.op.variadic else name]
            raise NonFiniteError(
                f"the backward of {node.op.name} made {_count([grad])} in the gradient of its "
                f"argument {name!r}\n"
                f"  forward   {format_line(node.where)}\n"
                f"  backward  {format_line(user_line(2))}\n"
                f"  rule      {_indented(formula(rule.function))}    ({place(rule.function)})\n"
                + _rows([*incoming, *arrays, (f"dL/d{name}", _value(grad))])
            )


class set_detect_anomaly(detect_anomaly):
    """detect_anomaly as a switch: `tt.autograd.set_detect_anomaly(True)`, or a `with` block."""

    def __init__(self, mode: bool, check_nan: bool = True):
        super().__init__(check_nan)
        self.before = autograd.mode.watchers
        autograd.mode.watchers = tuple(w for w in self.before if not isinstance(w, detect_anomaly))
        if mode:
            super().__enter__()

    def __enter__(self) -> set_detect_anomaly:
        return self

    def __exit__(self, *exc: object) -> None:
        autograd.mode.watchers = self.before


def is_anomaly_enabled() -> bool:
    return any(isinstance(w, detect_anomaly) for w in autograd.mode.watchers)


def _inside_a_rule() -> bool:
    """Is this an op of a rule run on Tensors (create_graph)? Then backward() reports, in full."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code is not Node.vjp.__code__:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


# ------------------------------------------------------------------------------ what is reported


def _value(a: Any) -> Any:
    return a.array if isinstance(a, Variable) else a


def _outputs(outs: tuple) -> list:
    return [("out" if len(outs) == 1 else f"out[{i}]", o.array) for i, o in enumerate(outs)]


def _kinds(values: list) -> set:
    """Which of 'nan' and 'inf' are among the values."""
    kinds: set = set()
    for v in values:
        if isinstance(v, float):
            nan, inf = math.isnan(v), math.isinf(v)
        elif hasattr(v, "dtype") and hasattr(v, "shape") and is_bad(v):
            nan, inf = (bool(f(as_floats(v)).any()) for f in (np.isnan, np.isinf))
        else:
            continue
        kinds |= {"nan"} if nan else set()
        kinds |= {"inf"} if inf else set()
    return kinds


def _count(outs: Any) -> str:
    """`2 nan, 1 inf among 6 numbers`"""
    arrays = [as_floats(_value(o)) for o in outs]
    nan = sum(int(np.isnan(a).sum()) for a in arrays)
    inf = sum(int(np.isinf(a).sum()) for a in arrays)
    total = sum(a.size for a in arrays)
    kinds = ", ".join(f"{n} {kind}" for n, kind in ((nan, "nan"), (inf, "inf")) if n)
    return f"{kinds} among {total} number{'s' * (total != 1)}"


def _rows(named: list) -> str:
    """A line for each value: its name, shape, dtype and range."""
    rows = []
    for name, v in named:
        if hasattr(v, "dtype"):
            rows.append((name, shape_dtype(v), ranges(v)))
        elif v is not None:
            rows.append((name, "number", repr(v)))
    widths = [max((len(r[k]) for r in rows), default=0) for k in (0, 1)]
    return "\n".join(f"  {n:<{widths[0]}}  {s:<{widths[1]}}  {r}" for n, s, r in rows)


def _indented(text: str) -> str:
    return text.replace("\n", "\n" + " " * 12)
