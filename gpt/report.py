"""What a run says: before the first step, at each evaluation, and at the end."""

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from . import samples
from .config import summary
from .evaluate import standing
from .progress import quantity

if TYPE_CHECKING:
    from .train import Training


def introduction(t: "Training") -> str:
    """What is about to happen, and what it is to be held against."""
    config, corpus, floor = t.config, t.source.corpus, t.source.floor
    parameters = sum(p.numel() for p in t.model.parameters())
    marks = [f"{count.n}-gram {count.loss:.3f}" for count in t.counts]
    if floor is not None:
        marks.append(f"floor {floor:.3f}")
    lines = [
        summary(config),
        "",
        f"data    {corpus.name}: {len(corpus.train):,} characters to learn from, "
        f"{len(corpus.val):,} held out, {config.gpt.vocab_size} distinct",
        f"model   {config.model}: {quantity(parameters)} parameters on {t.device}",
        f"marks   {', '.join(marks)} nats/char on the text held out",
        f"folder  {t.folder.path}",
    ]
    if t.state.step:
        lines.append(f"resume  after step {t.state.step}" + (
            ", where the run has ended: a larger --max-steps goes on, or more --patience"
            if t.over() else ""))  # fmt: skip
    if t.warnings:
        lines.append(f"        bits may differ from one run without a break: "
                     f"{', '.join(t.warnings)}")  # fmt: skip
    return "\n".join([*lines, ""])


def exam(t: "Training", eval_train_loss: float, val_loss: float) -> str:
    """An evaluation in one line."""
    floor = t.source.floor
    beaten = [count.n for count in t.counts if val_loss < count.loss]
    return (
        f"step {t.state.step:>6}   train {eval_train_loss:.4f}   val {val_loss:.4f} "
        f"({val_loss / math.log(2):.3f} bits)"
        + (f"   beats the {max(beaten)}-gram" if beaten else "")
        + (f"   {val_loss - floor:.3f} above the floor" if floor is not None else "")
    )


def conclusion(t: "Training") -> str:
    """What was learned: a sample, the table of losses, the distance to the floor."""
    floor, path = t.source.floor, t.folder.path
    val = t.folder.history[-1].get("final_val_loss") or t.final_loss()
    table = standing({f"this {t.config.model}": val}, t.counts, floor)
    lines = ["", *samples.write(t.state, t.source, t.folder), table, "",
             f"Each of {len(t.final_text) - 1:,} held-out characters counts once, read with "
             f"{t.config.gpt.block_size // 2} or more before it.", ""]  # fmt: skip
    if floor is not None:
        lines += [f"val {val:.3f}, floor {floor:.3f} nats/char: "
                  f"{val - floor:.3f} above the floor", ""]  # fmt: skip
    word = shlex.quote((t.source.corpus.train.split() or ["\n"])[0])
    return "\n".join([*lines, f"Kept in {path}; go on with",
                      f"  python -m gpt.generate {path} --prompt {word}"])


def stopped(t: "Training", saved: Path) -> str:
    """After Ctrl-C: where, and how to go on."""
    return (f"Stopped after step {t.state.step} of {t.config.optim.max_steps}; saved {saved}\n"
            f"Go on with\n  {t.folder.resume}")  # fmt: skip
