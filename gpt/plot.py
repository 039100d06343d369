"""loss.png: the curve of one run, between what counting reaches and the floor nobody passes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TRAIN, VAL, FLOOR, COUNTS = "#7aa6c2", "#c2452d", "#2f7d4f", "#8a8a8a"


def plot(
    history: Sequence[Mapping[str, Any]],
    path: Path,
    title: str = "",
    levels: Mapping[str, float] | None = None,
    floor: float | None = None,
    per: float = 1.0,
) -> None:
    """Draw `train_loss`, `eval_train_loss` and `val_loss` by step into a PNG.

    `levels`: losses to compare with, by name (`{"5-gram": 1.75}`). `floor`: the entropy of the
    data. A batch's own loss is drawn thin: it is noisy, and falls before the others do. `per`:
    characters per token: losses are drawn per character.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def curve(name: str) -> tuple[list[int], list[float]]:
        points = [(r["step"], r[name]) for r in history if r.get(name) is not None and r["step"]]
        return [s for s, _ in points], [v / per for _, v in points]

    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    ax.plot(*curve("train_loss"), color=TRAIN, lw=0.7, alpha=0.5, label="train, batch by batch")
    ax.plot(*curve("eval_train_loss"), color=TRAIN, lw=2, marker="o", ms=4, label="train")
    steps, losses = curve("val_loss")
    ax.plot(steps, losses, color=VAL, lw=2, marker="o", ms=4, label="val")
    if steps:
        ax.annotate(f"{losses[-1]:.3f}", (steps[-1], losses[-1]), xytext=(8, 0), color=VAL,
                    textcoords="offset points", va="center", annotation_clip=False)  # fmt: skip
    right = ax.get_yaxis_transform()  # x in shares of the width, y in nats
    marks = [(name, loss, COUNTS, ":", 0.8) for name, loss in (levels or {}).items()]
    if floor is not None:
        marks.append((f"floor {floor:.3f}", floor, FLOOR, "--", 1.5))
    for i, (name, loss, color, style, width) in enumerate(marks):
        ax.axhline(loss, color=color, lw=width, ls=style)
        ax.text(0.3 + 0.1 * i, loss, name, color=color, fontsize=8, va="bottom", transform=right)
    ax.set(xlabel="step", ylabel="loss, nats per character", title=title)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper right")
    figure.savefig(path)
