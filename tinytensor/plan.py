"""What the tape keeps of one call of an op, and how its rules are called back.

Which arguments need a gradient decides which rules run, and their parameter names decide which
values are kept. One `Plan` per op and pattern of needs holds that decision, compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ArgumentError
from .node import Node, Port, Variable, late, wrap

if TYPE_CHECKING:
    from .op import Op


class Saved(dict):
    """Intermediates that a forward hands to its rules by name."""


class Rule:
    """A gradient formula: for one argument, or, joint, for several at once.

    kernels  by array module: Rules to take there instead. A kernel may ask for other values, also
             such as only its forward's kernel saves, and may stand for several rules at once
    """

    __slots__ = ("names", "function", "parameters", "joint", "kernels")

    def __init__(self, names: tuple[str, ...], function: Callable, parameters: tuple, joint: bool):
        self.names, self.function, self.parameters = names, function, parameters
        self.joint = joint
        self.kernels: dict[str, list[Rule]] = {}


class Step:
    """One rule as a plan runs it: which arguments it serves and how it is called."""

    __slots__ = ("names", "targets", "rule", "joint", "call")

    def __init__(self, names: tuple, targets: list, rule: Rule | None, call: Any):
        self.names, self.targets, self.rule, self.call = names, targets, rule, call
        self.joint = rule is not None and rule.joint


class Plan:
    """What the tape keeps for one pattern of arguments that need gradients, and how to use it.

    steps    the rules to run on arrays of `module`, kernels where it has any
    written  the rules as they are written, for differentiating them
    """

    def __init__(self, op: Op, count: int, needs: tuple[bool, ...], module: str):
        self.op = op
        self.needs = needs
        names = op.argument_names(count)
        wanted = [n for n, need in zip(names, needs) if need]
        if op.variadic:
            wanted = [op.params[0]]
        written, taken = self._chosen(wanted, ""), self._chosen(wanted, module)
        keep: list[str] = []
        for _, rule in written + taken:
            for p in rule.parameters if rule else ():
                if p not in ("g", "xp", "needs", *keep):
                    keep.append(p)
        self.keep = keep
        self.sources = [op.source(name, count) for name in keep]
        expressions = [source for _, _, source in self.sources]
        listed = "".join(e + ", " for e in expressions)
        self.fetch = eval(f"lambda a, out, saved, static: ({listed})", {"_shape": np.shape})
        kinds = {kind for kind, _, _ in self.sources}
        self.keeps_arrays = not kinds.isdisjoint(("argument", "out", "saved", "extra"))
        self.written = [self._step(names, rule_names, rule) for rule_names, rule in written]
        self.steps = [self._step(names, rule_names, rule) for rule_names, rule in taken]
        # versions to watch: arguments whose own arrays are kept, and the output
        self.watched = [i for kind, i, _ in self.sources if kind == "argument"]
        if op.variadic and self.watched:
            self.watched = list(range(count))
        self.watches_out = "out" in kinds
        self.uses_saved = "saved" in kinds

    def _chosen(self, wanted: list[str], module: str) -> list[tuple[tuple, Rule | None]]:
        """The rules that serve the wanted arguments, each once; kernels for arrays of `module`.

        A kernel for several rules is taken where all that it serves is wanted.
        """
        chosen: list[tuple[tuple, Rule | None]] = []
        served: set[str] = set()
        rules = self.op.rules
        for n in wanted:
            rule = rules.get(n)
            if n in served:
                continue
            if rule is None:
                chosen.append(((n,), None))
                continue
            for kernel in rule.kernels.get(module, ()):
                whole = all(kernel in rules[m].kernels.get(module, ()) for m in kernel.names)
                free = served.isdisjoint(kernel.names) and set(kernel.names) <= {*wanted}
                if whole and (free or rule.joint):
                    rule = kernel
                    break
            served.update(rule.names)
            chosen.append((rule.names, rule))
        return chosen

    def _step(self, names: list, rule_names: tuple, rule: Rule | None) -> Step:
        if self.op.variadic:
            targets = list(range(len(self.needs)))
        else:
            targets = [names.index(n) for n in rule_names]
        if rule is None:
            return Step(rule_names, targets, None, None)
        needs = tuple(self.needs[i] for i in targets)
        terms = [
            p if p in ("g", "xp", "needs") else f"v[{self.keep.index(p)}]" for p in rule.parameters
        ]
        call = eval(f"lambda rule, xp, g, v: rule({', '.join(terms)})", {"needs": needs})
        return Step(rule_names, targets, rule, call)

    def not_saved(self, saved: Saved | None) -> ArgumentError:
        """The complaint about a rule that asks for a local which the forward kept to itself."""
        asked = [name for kind, name, _ in self.sources if kind == "saved"]
        name = next(n for n in asked if saved is None or n not in saved)
        return ArgumentError(
            f"{self.op.name}: a rule asks for {name!r}, a local of the forward: hand it over, as "
            f"in return out, Saved({name}={name})"
        )

    def watched_names(self, node: Node) -> list[tuple[str, int | None]]:
        """For an in-place complaint: what each of node.cells is, and which argument, if any."""
        names = self.op.argument_names(len(self.needs))
        kept = dict(zip(self.keep, node.values))
        tensors: Any = kept.get(self.op.params[0]) if self.op.variadic else [*map(kept.get, names)]
        result: list[tuple[str, int | None]] = [
            (f"argument {names[i]!r}", i) for i in self.watched if hasattr(tensors[i], "dtype")
        ]
        return result + [("output", None)] * (len(node.cells) - len(result))

    def as_tensors(self, node: Node, values: tuple) -> tuple:
        """The kept values as Tensors of the graph, for differentiating the rule itself."""
        result = []
        fresh = None
        for (kind, key, _), value in zip(self.sources, values):
            if kind == "argument":
                value = _regrow(value, node.parents, key, self.op.variadic)
            elif kind == "out" and type(value) is tuple:
                like = [(o.shape, o.dtype) for o in value]
                ports = [Port(node, i, len(value), like) for i in range(len(value))]
                value = tuple([wrap(o, port, True) for o, port in zip(value, ports)])
            elif kind == "out":
                value = wrap(value, node, True)
            elif kind == "extra":
                value = None
            elif kind == "saved":
                if node.inputs is not None and value is not None and value.dtype.kind in "fV":
                    fresh = fresh or self._saved_tensors(node)
                    value = fresh[key]
                elif not isinstance(value, (int, float, tuple, type(None))):
                    value = wrap(value)
            result.append(value)
        return tuple(result)

    def _saved_tensors(self, node: Node) -> Saved:
        """Intermediates are raw arrays, without a graph: run the forward again on Tensors."""
        parents = node.parents
        inputs = [_regrow(v, parents, i, False) for i, v in enumerate(node.inputs or ())]
        return self.op.forward(late.namespace, *inputs, **node.static)[-1]


def _regrow(value: Any, parents: tuple, i: int, variadic: bool) -> Any:
    """The Tensor that a kept array was, with its place in the graph."""
    if variadic:
        return [_regrow(v, parents, k, False) for k, v in enumerate(value)]
    if value is None or isinstance(value, (float, int)):
        return value
    parent = parents[i]
    if parent is None:
        return wrap(value)
    return parent if isinstance(parent, Variable) else wrap(value, parent, True)
