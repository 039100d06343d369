"""What a GPU's report says at its head: measured values beside the targets, from the parts' JSON.

A value that was not measured is `pending`: nothing is reckoned from another machine's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

GPT2, CHAR = 0, 1  # rows of the step benchmarks
VAL, SECONDS = 1.47, 180


class Target(NamedTuple):
    """`met` is None where nothing was measured."""

    what: str
    wanted: str
    measured: str
    met: bool | None


def targets(parts: dict[str, dict[str, Any]]) -> list[Target]:
    """In the order of the issue."""
    found = []
    for what, wanted, value, text, met in _measured(parts):
        shown = "pending" if value is None else text.format(value)
        if value == []:
            shown = "all"
        found.append(Target(what, wanted, shown, None if value is None else met(value)))
    return found


def _measured(parts: dict[str, dict[str, Any]]) -> Iterator[tuple]:
    eager, compiled = rows(parts, "torch"), rows(parts, "compiled")
    yield ("GPT-2 124M, bf16, T=1024: tokens/s against PyTorch eager", ">= 1.0x",
           of(eager, GPT2, "torch / ours"), "{:.3f}x", lambda x: x >= 1)  # fmt: skip
    yield ("the same against torch.compile", ">= 0.9x",
           of(compiled, GPT2, "torch / ours"), "{:.3f}x", lambda x: x >= 0.9)  # fmt: skip
    yield ("its share of the measured bf16 matrix-product peak", ">= 45%",
           share_of_peak(parts), "{:.1%}", lambda x: x >= 0.45)  # fmt: skip
    ratio = of(eager, CHAR, "torch / ours")
    yield ("6/6/384 char GPT, T=256, batch 64: step time against PyTorch eager", "<= 0.6x",
           1 / ratio if ratio else None, "{:.3f}x", lambda x: x <= 0.6)  # fmt: skip
    run = data(parts, "train")
    whole = parts.get("train", {}).get("outcome") == "done"
    seconds = parts.get("train", {}).get("seconds", 0)
    yield ("preset shakespeare-gpu: best val loss", f"<= {VAL}",
           run.get("val_loss"), "{:.4f}", lambda x: x <= VAL)  # fmt: skip
    yield ("and its time, evaluations and samples included", f"< {SECONDS} s",
           seconds if run and (whole or seconds >= SECONDS) else None, "{:.0f} s",
           lambda x: whole and x < SECONDS)  # fmt: skip
    for kind, what in (("parity", "CPU/GPU parity"), ("determinism", "two runs bit-identical"),
                       ("graph", "a captured step is the eager one, bit for bit"),
                       ("waiting", "no hidden syncs")):  # fmt: skip
        bad = [r["check"] for r in rows(parts, "checks")
               if r["check"].startswith(kind) and not r["ok"]]  # fmt: skip
        yield what, "all", bad if rows(parts, "checks") else None, "{}", lambda bad: not bad
    for name, what in (("tests", "tests on the GPU"), ("more_tests", "every op on the GPU")):
        tests = data(parts, name)
        failed = tests["failed"] + tests["error"] if tests.get("passed") else None
        yield (what, "no failure", failed,
               "{} failed, " + f"{tests.get('passed')} passed", lambda x: x == 0)  # fmt: skip
    bad = [r["kernel"] for r in rows(parts, "shim") if not r["ok"]]
    yield ("each kernel as on the CPU shim", "all", bad if rows(parts, "shim") else None,
           "{}", lambda bad: not bad)  # fmt: skip
    for tool in ("memcheck", "racecheck"):
        yield (f"compute-sanitizer {tool}", "0 errors", data(parts, tool).get("errors"),
               "{} errors", lambda x: x == 0)  # fmt: skip


def data(parts: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    return parts.get(name, {}).get("data") or {}


def rows(parts: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return data(parts, name).get("rows", [])


def of(table: list[dict[str, Any]], row: int, column: str) -> Any:
    return table[row][column] if len(table) > row else None


def share_of_peak(parts: dict[str, dict[str, Any]], dtype: str = "bfloat16") -> float | None:
    """The best rate of GPT-2's step over the best product of any library."""
    rates = [r["gflop_per_s"] / 1e3 for r in rows(parts, "step")[:1]]
    peaks = [r["value"] for r in rows(parts, "ceilings") if r.get("dtype") == dtype]
    peaks += [r["peak_gflop_per_s"] / 1e3 for r in rows(parts, "step")[:1]]
    return rates[0] / max(peaks) if rates and peaks else None
