"""What a run will cost, before its first step: `python -m gpt.plan [flags of gpt.train]`.

Parameters, arithmetic and memory are computed (gpt/estimate.py), what there is of memory is asked
of the machine, and the time is reckoned from a short measurement: an estimate.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import tinytensor as tt

from . import finetune, source
from .checkpoint import Checkpoint
from .config import CommandLine, Config
from .errors import UserError, command
from .estimate import Cost, seconds_per_token
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
        """Raise UserError where a step cannot fit, whatever else is closed."""
        if self.total is not None and self.peak > self.total:
            raise self.refusal(f"a step needs {size(self.peak)}, and {self.device} has "
                               f"{size(self.total)}")  # fmt: skip

    def refusal(self, why: str) -> UserError:
        """Out of memory: the table is printed, and the error says what to change."""
        print(self.memory())
        return UserError(f"out of memory: {why}; {self.advice()}")

    def advice(self) -> str:
        sequences = self.config.data.batch_size * self.config.optim.grad_accum
        if 0 < self.largest < self.config.data.batch_size:
            fits = divisor(sequences, self.largest)
            return (f"lower --batch-size to {fits} and raise --grad-accum to {sequences // fits}, "
                    "which keeps the tokens of a step; or --batch-size auto does")  # fmt: skip
        return ("lower --batch-size (--grad-accum keeps the tokens of a step), --block-size, "
                "--n-layer or --n-embd")  # fmt: skip

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


def fitted(config: Config, device: Any) -> Config:
    """`--batch-size auto`: as many at a time as fit; the tokens of a step stay as many."""
    sequences = config.data.batch_size * config.optim.grad_accum
    plan = Plan(config, device)
    batch = divisor(sequences, plan.largest or 1) if plan.total else config.data.batch_size
    return replace(config, data=replace(config.data, batch_size=batch),
                   optim=replace(config.optim, grad_accum=sequences // batch))  # fmt: skip


def divisor(number: int, most: int) -> int:
    """Its largest divisor up to `most` >= 1."""
    return next(n for n in range(min(number, most), 0, -1) if number % n == 0)


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
