"""What the tape keeps: `tape_memory(loss)` lists every array that waits for backward.

Counted is memory, not arrays: views and arrays seen twice are counted where they are seen first,
and a view counts as all of the memory that it keeps alive. Not the tape's are the leaves, whose
memory lives anyway, and what else is still held by somebody outside (a batch, a target, a mask).
Not counted are the Python objects of the graph, about half a KiB per op, and what checkpointed
functions captured from outside.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .autograd import Node, Variable, format_line, topological
from .checkpointing import Recipe
from .describe import short_path, size
from .errors import ArgumentError


@dataclass(frozen=True)
class Row:
    """One array that a node keeps: `argument` is a parameter name of its rules.

    bytes   of the memory that it keeps alive
    shared  the same memory is counted in a row above
    owned   only the tape keeps it alive: it is freed with the tape
    """

    op: str
    argument: str
    line: str
    shape: tuple
    dtype: str
    bytes: int
    shared: bool
    owned: bool


class TapeMemory:
    """The rows, and their totals in bytes: `owned` by the tape, `borrowed`, and `total`."""

    def __init__(self, rows: list[Row], nodes: int):
        self.rows, self.nodes = rows, nodes
        self.owned = sum(r.bytes for r in rows if r.owned and not r.shared)
        self.borrowed = sum(r.bytes for r in rows if not r.owned and not r.shared)
        self.total = self.owned + self.borrowed

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Any:
        return iter(self.rows)

    def by(self, *fields: str) -> dict:
        """Bytes owned by the tape per op, argument or line: `by("op")`, `by("op", "line")`."""
        totals: dict = {}
        for r in self.rows:
            if r.owned and not r.shared:
                values = tuple(getattr(r, f) for f in fields)
                key = values if len(fields) > 1 else values[0]
                totals[key] = totals.get(key, 0) + r.bytes
        return dict(sorted(totals.items(), key=lambda item: -item[1]))

    def __repr__(self) -> str:
        groups: dict = {}
        for r in self.rows:
            groups.setdefault((r.op, r.argument, r.line, r.shape, r.dtype), []).append(r)
        lines = [("op", "argument", "shape", "dtype", "bytes", "", "line")]
        order = sorted(groups.items(), key=lambda item: -_counted(item[1]))
        for (op, argument, line, shape, dtype), rows in order:
            counted, notes = _counted(rows), []
            if all(r.shared for r in rows):
                notes.append("counted above")
            if not any(r.owned for r in rows):
                notes.append("not the tape's")
            times = f" x{len(rows)}" if len(rows) > 1 else ""
            lines.append(
                (op, argument, str(shape) + times, dtype, size(counted), ", ".join(notes), line)
            )
        widths = [max(len(row[k]) for row in lines) for k in range(7)]
        table = [
            "  ".join(
                cell.rjust(width) if k == 4 else cell.ljust(width)
                for k, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in lines
        ]
        return "\n".join(
            [
                f"{self.nodes} ops keep {size(self.owned)} for backward, and refer to "
                f"{size(self.borrowed)} of parameters and inputs",
                *(row.rstrip() for row in table),
            ]
        )


def _counted(rows: list[Row]) -> int:
    return sum(r.bytes for r in rows if not r.shared)


def tape_memory(*tensors: Variable) -> TapeMemory:
    """The memory kept for the backward of these tensors (a loss; several may share a graph).

    Prints as a table, largest first; `rows` has every array in the order of the forward.
    """
    for t in tensors:
        if not isinstance(t, Variable):
            raise ArgumentError(f"tape_memory: expected a Tensor, got {type(t).__name__}")
    roots = [t if t._node is None else t._node for t in tensors]
    order = topological(roots)
    nodes = [n for n in order if type(n) is Node]
    ledger = _Ledger(id(memory(leaf.array)) for leaf in order if isinstance(leaf, Variable))
    for node in nodes:
        ledger.enter_node(node)
    return TapeMemory(ledger.rows(), len(nodes))


def _is_array(value: Any) -> bool:
    return hasattr(value, "nbytes") and hasattr(value, "base") and not isinstance(value, np.generic)


def memory(array: Any) -> Any:
    """The array that owns the memory of this one."""
    while isinstance(array.base, type(array)) and not isinstance(array, np.memmap):
        array = array.base
    return array


class _Ledger:
    """Every array that the tape refers to, and how often, so that outside holders are noticed."""

    def __init__(self, leaves: Iterable[int]):
        self.leaves = set(leaves)
        self.entries: list = []  # (op, argument, line, array, is it a constant?)
        self.containers: dict[int, Any] = {}
        self.references: dict[int, int] = {}  # id(array) -> references from the tape
        self.runs: set[int] = set()

    def enter_node(self, node: Any) -> None:
        line = format_line(node.where)
        if type(node.values) is Recipe:
            self._enter_checkpoint(node.values.run)
        elif node.values is not None:
            self._hold(node.values)
            for name, (kind, key, _), value in zip(
                node.plan.keep, node.plan.sources, node.values, strict=True
            ):
                constant = kind == "static" or (kind == "argument" and _constant(node, key))
                self._enter(node.op.name, name, line, value, constant)
        if node.inputs is not None:
            self._hold(node.inputs)
            for i, (name, value) in enumerate(
                zip(node.op.argument_names(len(node.inputs)), node.inputs, strict=True)
            ):
                self._enter(node.op.name, name, line, value, node.parents[i] is None)
        self._hold(node.static)
        for name, value in node.static.items():
            self._enter(node.op.name, name, line, value, True)

    def _enter_checkpoint(self, run: Any) -> None:
        if id(run) in self.runs:
            return
        self.runs.add(id(run))
        line = format_line(run.where)
        named = [*((f"args[{i}]", a) for i, a in enumerate(run.args)), *run.kwargs.items()]
        for name, a in named:
            if isinstance(a, Variable):
                self._enter("checkpoint", name, line, a.array, False)
        for k, kept in (run.again or {}).items():
            self._hold(kept[0])
            self._enter("checkpoint", f"values[{k}]", line, kept[0], False)

    def _hold(self, container: Any) -> None:
        """Count the container's references to arrays, once."""
        if id(container) in self.containers:
            return
        self.containers[id(container)] = container
        for v in container.values() if isinstance(container, dict) else container:
            if _is_array(v):
                self.references[id(v)] = self.references.get(id(v), 0) + 1
            elif isinstance(v, (tuple, list, dict)):
                self._hold(v)

    def _enter(self, op: str, name: str, line: str, value: Any, constant: bool) -> None:
        if isinstance(value, (tuple, list)):
            for i, v in enumerate(value):
                self._enter(op, f"{name}[{i}]" if len(value) > 1 else name, line, v, constant)
        elif _is_array(value):
            if not any(e[:3] == (op, name, line) and e[3] is value for e in self.entries[-8:]):
                self.entries.append((op, name, line, value, constant))

    def rows(self) -> list[Row]:
        rows, seen = [], set()
        outside = self._held_outside()
        for op, name, line, array, constant in self.entries:
            whole = memory(array)
            borrowed = id(whole) in self.leaves or (constant and id(whole) in outside)
            rows.append(
                Row(
                    op, name, short_path(line), tuple(array.shape), str(array.dtype),
                    int(whole.nbytes), id(whole) in seen, not borrowed,
                )  # fmt: skip
            )
            seen.add(id(whole))
        return rows

    def _held_outside(self) -> set[int]:
        """Memory with more references to it than the tape's own and this ledger's."""
        families, listed = self._families()  # no local here may hold an array
        held = set()
        for key, family in families.items():
            # the ledger's own references: the family, getrefcount's argument, the views, entries
            extra = sys.getrefcount(family[0]) - 2 - len(family[1])
            extra -= listed.get(key, 0) + self.references.get(key, 0)
            for k in family[1]:
                extra += sys.getrefcount(family[1][k]) - 2 - listed[k] - self.references.get(k, 0)
            if extra > 0:
                held.add(key)
        return held

    def _families(self) -> tuple[dict, dict]:
        """{id: (owner of a memory, {id: view of it})}, and how often each array is listed."""
        families: dict[int, tuple] = {}
        listed: dict[int, int] = {}
        for *_, array, _ in self.entries:
            listed[id(array)] = listed.get(id(array), 0) + 1
            family = families.setdefault(id(memory(array)), (memory(array), {}))
            if array is not family[0]:
                family[1][id(array)] = array
        return families, listed


def _constant(node: Any, key: int) -> bool:
    """Was this argument without a gradient: data or a mask, rather than an activation?"""
    return all(p is None for p in node.parents) if node.op.variadic else node.parents[key] is None
