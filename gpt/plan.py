"""What a run will cost, before its first step: `python -m gpt.plan [flags of gpt.train]`.

Parameters, arithmetic and memory are computed (gpt/estimate.py), what there is of memory is asked
of the machine, and the time is reckoned from a short measurement: an estimate.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import tinytensor as tt

from . import finetune, source
from .checkpoint import Checkpoint
from .config import CommandLine, Config
from .errors import UserError, command, out_of_memory
from .estimate import Cost, seconds_per_token
from .fit import divisor, fitted
from .machine import device_memory
from .precision import Precision
from .progress import quantity

GB, MB = 1 << 30, 1 << 20


@command
def main() -> int:
    asked = CommandLine(sys.argv[1:], "gpt.plan")
    if asked.resume is None or asked.help:
        config, start = finetune.start(asked)
        tokenizer = start.tokenizer if start else None
    else:
        saved = Checkpoint.find(asked.resume)
        config, tokenizer = asked.resumed(saved.config), saved.tokenizer
    device = tt.backend.resolve(config.run.device)
    Precision(config.run.dtype, device)  # or say that it cannot be
    config = source.settled(config, source.load(config, tokenizer))
    if asked.auto_batch:
        config = fitted(config, device)
    print(Plan(config, device))
    return 0


class Plan:
    """The cost of a run, beside what its device has."""

    def __init__(self, config: Config, device: Any):
        self.config, self.device = config, device
        try:
            self.cost = Cost(config, device.type)
            self.peak = self.cost.peak(config.data.batch_size)
        except MemoryError:
            raise UserError("out of memory: the weights alone are more than there is memory for; "
                            "lower --n-embd or --n-layer") from None  # fmt: skip
        self.available, self.total = device_memory(device)
        self.largest = self.cost.largest_batch(self.available) if self.total else 0

    def check(self) -> None:
        """Raise UserError where a step cannot fit, whatever else is closed.

        On a GPU, whose kernels keep less than is reckoned, where what is fixed does not.
        """
        needed = self.peak if self.device.type == "cpu" else sum(self.cost.fixed.values())
        if self.total is not None and needed > self.total:
            raise self.refusal(f"a step needs {size(needed)}, and {self.device} has "
                               f"{size(self.total)}")  # fmt: skip

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Inside, too little memory is answered with what to change."""
        try:
            yield
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise self.refusal(str(error) or "no more is to be had") from error

    def refusal(self, why: str) -> UserError:
        """Out of memory: the table is printed, and the error says what to change."""
        print(self.memory())
        return UserError(f"out of memory: {why}; {self.advice()}")

    def advice(self) -> str:
        batch = self.config.data.batch_size
        sequences = batch * self.config.optim.grad_accum
        fits = divisor(sequences, self.largest if 0 < self.largest < batch else max(1, batch // 2))
        if fits < batch and self.largest:
            first = (f"lower --batch-size to {fits} and raise --grad-accum to {sequences // fits}, "
                     "which keeps the tokens of a step; or --batch-size auto does")  # fmt: skip
        else:
            first = ("lower --batch-size (--grad-accum keeps the tokens of a step), --block-size, "
                     "--n-layer or --n-embd")  # fmt: skip
        return first + self.forgetting()

    def forgetting(self) -> str:
        """What --checkpoint-activations would spare, if that is much."""
        if self.config.run.checkpoint_activations or self.config.model != "gpt":
            return ""
        run = replace(self.config.run, checkpoint_activations=True)
        peak = Cost(replace(self.config, run=run), self.device.type).peak(
            self.config.data.batch_size)  # fmt: skip
        if peak > 0.9 * self.peak:
            return ""
        return f"; or --checkpoint-activations, with which a step needs {size(peak)}"

    def memory(self) -> str:
        """A line per kind of memory, and what there is."""
        cost, batch = self.cost, self.config.data.batch_size
        fixed = cost.fixed
        rows = {**fixed, "activations": cost.activations(batch)}
        rows["while it works"] = max(self.peak - sum(rows.values()), 0)
        notes = {"gradients": f"of {cost.trained:,} parameters trained",
                 "moments": "two of AdamW for each of them",
                 "copies": f"of the weights in {self.config.run.dtype}",
                 "activations": f"kept for backward, of {batch} x {self.config.gpt.block_size} "
                 "tokens"}  # fmt: skip
        lines = [f"{name:<16}{size(value):>10}   {notes.get(name, '')}".rstrip()
                 for name, value in rows.items()]  # fmt: skip
        lines.append(f"{'at the most':<16}{size(self.peak):>10}   at one time")
        if self.total is not None:
            lines.append(f"{'there is':<16}{size(self.available):>10}   free of {size(self.total)} "
                         f"on {self.device}: " + (f"room for --batch-size {self.largest:,}"
                         if self.largest else "no room for one sequence"))  # fmt: skip
        return "\n".join(lines)

    def time(self) -> str:
        """How long it will take, measured for a moment."""
        config, cost = self.config, self.cost
        step = seconds_per_token(cost, self.device) * cost.tokens_per_step
        if not step:
            return "a table: no arithmetic to speak of"
        rate = cost.flops_per_token * cost.tokens_per_step / step
        return (f"{config.optim.max_steps:,} steps of {cost.tokens_per_step:,} tokens, "
                f"{quantity(rate)}FLOP/s measured on one block: about "
                f"{duration(step * config.optim.max_steps)}, {step:.3g} s a step (an estimate, "
                "without evaluations)")  # fmt: skip

    def brief(self) -> list[str]:
        """Two lines before a run."""
        cost = self.cost
        lines = [f"memory  {size(self.peak)} at the most" + (
            "" if self.total is None else f", {size(self.available)} free"
            + (f": room for --batch-size {self.largest:,}" if self.largest else ""))]  # fmt: skip
        if self.total is not None and self.peak > self.available:
            lines.append(f"        that may be too much: {self.advice()}")
        lines.append(f"time    {quantity(cost.flops_per_token)}FLOP a token; {self.time()}")
        return lines

    def __str__(self) -> str:
        cost = self.cost
        lines = [f"{name:<16}{count:>15,}" for name, count in cost.modules.items()]
        lines += [f"{'parameters':<16}{cost.parameters:>15,}   {cost.trained:,} trained", "",
                  self.memory(), "",
                  f"a token takes {quantity(cost.flops_per_token)}FLOP: 6 for each weight in a "
                  "product (4 if it is frozen), 12 n_layer block_size n_embd for attention",
                  self.time()]  # fmt: skip
        return "\n".join(lines)


def size(count: float) -> str:
    """Bytes to glance at."""
    return f"{count / GB:,.2f} GB" if count >= GB else f"{count / MB:,.1f} MB"


def duration(seconds: float) -> str:
    """A time to glance at."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"


if __name__ == "__main__":
    raise SystemExit(main())
