"""Op by op, the CPU beside a GPU over sizes from one row on: where does the GPU start to win?

A call on a GPU costs some microseconds before anything is computed, so small things are faster on
the CPU. Forward and backward, from arrays that are where they are needed: a batch that has to be
uploaded first moves the crossing up.
"""

from __future__ import annotations

from math import exp, log
from typing import Any

from .cases import Size, cases, cold
from .timing import clock_of, single

WIDTH, HEADS, CLASSES, TIME = 384, 6, 8192, 256
ROWS = [4**i for i in range(11)]


def sized(rows: int) -> Size:
    """Rows of WIDTH numbers, in sequences of up to TIME."""
    return Size(max(1, rows // TIME), min(rows, TIME), WIDTH, HEADS, CLASSES)


def seconds(name: str, rows: int, device: str, dtype: str) -> float:
    run = cold(cases(sized(rows))[name], device, dtype)
    return single(run, 5, 0.01, clock_of(device))


def crossing(rows: list[int], cpu: list[float], gpu: list[float]) -> float | None:
    """From how many rows on the GPU is faster, between two sizes by a line in logarithms.

    None where it never is, 1 where it always is.
    """
    wins = [g < c for c, g in zip(cpu, gpu)]
    if not wins or not wins[-1]:
        return None
    first = len(wins) - wins[::-1].index(False) if False in wins else 0
    if first == 0:
        return float(rows[0])
    a, b = (log(gpu[i] / cpu[i]) for i in (first - 1, first))  # a >= 0 > b
    return exp(log(rows[first - 1]) + a / (a - b) * log(rows[first] / rows[first - 1]))


def compare(names: list[str], device: str, dtype: str, most: float) -> list[dict[str, Any]]:
    """A line for each op; sizes go up to where a call on the CPU takes `most` seconds."""
    found = []
    print(f"\n{'op':22} {'rows':>7} {'CPU ms':>9} {'GPU ms':>9} {'CPU / GPU':>10}  GPU wins from")
    for name in cases(sized(1)):
        if names and name not in names:
            continue
        row: dict[str, Any] = {"op": name, "rows": [], "cpu_ms": [], "gpu_ms": []}
        for rows in ROWS:
            row["rows"].append(rows)
            row["cpu_ms"].append(1e3 * seconds(name, rows, "cpu", "float32"))
            if device != "cpu":
                row["gpu_ms"].append(1e3 * seconds(name, rows, device, dtype))
            if row["cpu_ms"][-1] > 250 * most:  # the next size takes four times as long
                break
        row["gpu_wins_from"] = crossing(row["rows"], row["cpu_ms"], row["gpu_ms"])
        found.append(row)
        print(line(row), flush=True)
    return found


def line(row: dict[str, Any]) -> str:
    start = f"{row['op']:22} {row['rows'][-1]:7} {row['cpu_ms'][-1]:9.3f} "
    if not row["gpu_ms"]:
        return start + f"{'no GPU':>9}"
    wins = row["gpu_wins_from"]
    where = "nowhere" if wins is None else f"{wins:.0f} rows of {WIDTH}"
    gpu = row["gpu_ms"][-1]
    return start + f"{gpu:9.3f} {row['cpu_ms'][-1] / gpu:10.1f}  {where}"


def plot(found: list[dict[str, Any]], path: str) -> None:
    """A panel for each op: milliseconds over rows, both axes in logarithms."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    across = min(4, len(found))
    down = -(-len(found) // across)
    figure, panels = plt.subplots(down, across, figsize=(3.2 * across, 2.6 * down), squeeze=False,
                                  sharex=True, layout="constrained")  # fmt: skip
    for axes, row in zip(panels.flat, found):
        axes.loglog(row["rows"], row["cpu_ms"], "o-", markersize=3, label="CPU")
        if row["gpu_ms"]:
            axes.loglog(row["rows"], row["gpu_ms"], "s-", markersize=3, label="GPU")
        if row["gpu_wins_from"]:
            axes.axvline(row["gpu_wins_from"], color="black", linewidth=0.8, linestyle=":")
        axes.set_title(row["op"], fontsize=9)
    for axes in panels.flat[len(found) :]:
        axes.set_visible(False)
    panels[0, 0].legend()
    figure.supxlabel(f"rows of {WIDTH} numbers")
    figure.supylabel("ms, forward and backward")
    figure.savefig(path, dpi=110)
