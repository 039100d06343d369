"""What a run says: before the first step, at each evaluation, and at the end."""

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from . import samples
from .config_text import summary
from .evaluate import standing
from .progress import quantity
from .source import Source

if TYPE_CHECKING:
    from .train import Training


def introduction(t: "Training") -> str:
    """What is about to happen, and what it is to be held against."""
    parameters = sum(p.numel() for p in t.model.parameters())
    trained = sum(p.numel() for p in t.model.parameters() if p.requires_grad)
    share = ""
    if trained < parameters:
        share = f", of which {trained:,} are trained ({trained / parameters:.2%})"
    lines = [
        summary(t.config),
        "",
        f"data    {contents(t.source)}",
        f"model   {t.config.model}: {quantity(parameters)} parameters on {t.device}{share}",
    ]
    if t.also:
        lines.insert(3, f"also    {contents(t.also)}")
    marks = [f"{count.n}-gram {count.loss:.3f}" for count in t.counts]
    if t.source.floor is not None:
        marks.append(f"floor {t.source.floor:.3f}")
    if marks:
        lines.append(f"marks   {', '.join(marks)} nats/char on the text held out")
    lines += t.plan.brief()
    lines.append(f"folder  {t.folder.path}")
    if t.state.step:
        lines.append(f"resume  after step {t.state.step}" + (
            ", where the run has ended: a larger --max-steps goes on, or more --patience"
            if t.over() else ""))  # fmt: skip
    if t.warnings:
        lines.append("        bits may differ from those of a run without a break: "
                     + ", ".join(t.warnings))  # fmt: skip
    return "\n".join([*lines, ""])


def contents(source: Source) -> str:
    """How much there is to learn from, in characters or in tokens."""
    tokenizer, (train, val) = source.tokenizer, source.sizes
    if source.by_char:
        unit = source.unit.replace("tokens", "characters")
        return (f"{source.name}: {train:,} {unit} to learn from, "
                f"{val:,} held out, {tokenizer.vocab_size} distinct")  # fmt: skip
    return (f"{source.name}: {train:,} {source.unit} to learn from, {val:,} held "
            f"out; tokenizer {tokenizer.type}, {tokenizer.vocab_size:,} tokens of "
            f"{source.bytes_per_token:.2f} bytes on average")  # fmt: skip


def exam(
    t: "Training", eval_train_loss: float, val_loss: float, also_val_loss: float | None = None
) -> str:
    """An evaluation in one line."""
    floor, source = t.source.floor, t.source
    per_char = val_loss / source.chars_per_token
    beaten = [count.n for count in t.counts if per_char < count.loss]
    bits = val_loss / math.log(2)
    unit = f"{bits:.3f} bits" if source.by_char else (
        f"{per_char:.4f} a character, {bits / source.bytes_per_token:.3f} bits a byte")
    return (
        f"step {t.state.step:>6}   train {eval_train_loss:.4f}   val {val_loss:.4f} ({unit})"
        + (f"   {t.also.name} {also_val_loss:.4f}" if t.also else "")
        + (f"   beats the {max(beaten)}-gram" if beaten else "")
        + (f"   {per_char - floor:.3f} above the floor" if floor is not None else "")
    )


def conclusion(t: "Training") -> str:
    """What was learned: a sample, the table of losses, the distance to the floor."""
    source, floor, path = t.source, t.source.floor, t.folder.path
    loss = t.folder.history[-1].get("final_val_loss") or t.final_loss()
    val = loss / source.chars_per_token
    table = standing({f"this {t.config.model}": val}, t.counts, floor)
    lines = ["", *samples.write(t.state, source, t.folder), table, "", source.judged(t.config), ""]
    if not source.by_char:
        lines += [f"val {loss:.4f} nats a token, {val:.4f} a character, "
                  f"{loss / source.bytes_per_token / math.log(2):.4f} bits a byte", ""]
    if t.also:
        also = t.folder.history[-1].get("final_also_val_loss") or t.final_loss(t.also)
        lines += [f"{t.also.name}, held out and never learned from: {also:.4f} nats a token", ""]
    if floor is not None:
        lines += [f"val {val:.3f}, floor {floor:.3f} nats/char: "
                  f"{val - floor:.3f} above the floor", ""]  # fmt: skip
    words = source.corpus.train.split(maxsplit=1) if source.corpus else []
    prompt = f" --prompt {shlex.quote(words[0])}" if words else ""
    return "\n".join([*lines, f"Kept in {path}; go on with",
                      f"  python -m gpt.generate {path}{prompt}"])


def stopped(t: "Training", saved: Path) -> str:
    """After Ctrl-C: where, and how to go on."""
    return (f"Stopped after step {t.state.step} of {t.config.optim.max_steps}; saved {saved}\n"
            f"Go on with\n  {t.folder.resume}")  # fmt: skip
