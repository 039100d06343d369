"""What a run costs, computed from its settings: parameters, arithmetic and memory.

Arithmetic, a multiplication and an addition being two, of a token in the forward pass:

    2 N             N weights of the matrices it is multiplied by (Kaplan et al. 2020, section 2.1)
    4 n_layer T C   attention: scores, and what they weigh (PaLM, arXiv:2204.02311, appendix B,
                    which counts 12 with backward), of T = block_size keys

and twice as much in backward: once for the inputs' gradients, once for the weights', where they are
trained. Memory: 4 bytes for a weight, 4 for its gradient, 8 for Adam's moments, 4 for its average,
with --dtype bfloat16 or float16 2 for a copy of it; of a sequence of T tokens what waits for
backward (tt.tape_memory lists it), in numbers per token:

    a block         17 C  4 C before and after GELU, 3 C of queries, keys and values, 1 C each of
                          the attention's result, two norms' inputs and outputs, and their sum;
                          13 C with ReLU; 1 C less where norms come after
    its attention   n_head T, kept where T <= 3 C / n_head, on the CPU
    the end         2 C, and the logits, V; on the CPU, where the loss makes its gradients as it
                    goes, 3 C and once the head's gradient instead

With --checkpoint-activations a block keeps C, its input, and the rest of one block at a time.

A step needs room of its own: two more copies of the logits for the loss, or on the CPU those of
some rows at a time; 13 C for a block's backward, 7 C with ReLU; and on the CPU three blocks of
weights for each of the optimizer's threads.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tinytensor as tt
from tinytensor import nn
from tinytensor.kernels.cpu.linear_cross_entropy import ROOM
from tinytensor.optim.layout import largest_block

from .config import Config
from .models import build_model
from .precision import HALF, Precision

FLOAT = 4  # bytes; an activation has half as many with --dtype bfloat16 or float16
USABLE = 0.9  # of the memory that is there: the rest is Python's, and the estimate's error


@dataclass(frozen=True)
class Cost:
    """Of a run with `config`, whose vocab_size is settled, on a device of this type."""

    config: Config
    device: str = "cpu"

    @cached_property
    def shapes(self) -> list[tuple[str, int, bool]]:
        """Name, size and whether it is trained of every parameter of the model, as it is made."""
        before = tt.default_generator.get_state()
        with nn.init.skipped():
            model = build_model(self.config)
        tt.default_generator.set_state(before)
        return [(name, p.numel(), p.requires_grad) for name, p in model.named_parameters()]

    @property
    def parameters(self) -> int:
        return sum(size for _, size, _ in self.shapes)

    @property
    def trained(self) -> int:
        return sum(size for _, size, trained in self.shapes if trained)

    @property
    def modules(self) -> dict[str, int]:
        """Parameters by module; those of all blocks together."""
        table: dict[str, int] = {}
        for name, size, _ in self.shapes:
            block = re.match(r"h\.\d+\.(attn|mlp|ln)", name)
            where = f"h.*.{block[1]}" if block else name.split(".")[0]
            where += " (LoRA)" if ".lora_" in name else ""
            table[where] = table.get(where, 0) + size
        return table

    # ------------------------------------------------------------------------ arithmetic

    @property
    def flops_per_token(self) -> float:
        """Of a training step, forward and backward."""
        gpt = self.config.gpt
        if self.config.model != "gpt":
            return 0.0  # a table is looked up
        shares = [(size, trained) for name, size, trained in self.shapes
                  if name.startswith("h.") and not re.search(r"(bias|ln_\d\.weight)$", name)
                  ]  # fmt: skip
        head = gpt.vocab_size * gpt.n_embd
        shares.append((head, any(trained for name, _, trained in self.shapes
                                 if name.startswith(("lm_head", "wte")))))  # fmt: skip
        return (sum((6 if trained else 4) * size for size, trained in shares)
                + 12 * gpt.n_layer * gpt.block_size * gpt.n_embd)  # fmt: skip

    @property
    def tokens_per_step(self) -> int:
        config = self.config
        return config.data.batch_size * config.optim.grad_accum * config.gpt.block_size

    # ------------------------------------------------------------------------ memory

    @property
    def fixed(self) -> dict[str, int]:
        """Bytes that do not depend on the batch."""
        rows = {"weights": FLOAT * self.parameters, "gradients": FLOAT * self.trained,
                "moments": 2 * FLOAT * self.trained}  # fmt: skip
        if self.config.optim.ema:
            rows["averages"] = FLOAT * self.trained
        if self.width < FLOAT:
            rows["copies"] = self.width * self.parameters
        return rows

    @property
    def width(self) -> int:
        """Bytes of an activation."""
        return FLOAT // 2 if self.config.run.dtype in HALF else FLOAT

    def activations(self, batch: int) -> int:
        """Bytes that wait for backward once the loss is known."""
        gpt, data = self.config.gpt, self.config.data
        T, C, L = gpt.block_size, gpt.n_embd, self.kept_blocks
        if self.config.model != "gpt":
            return self.width * batch * T * gpt.vocab_size
        block = C if self.config.run.checkpoint_activations else self.block_numbers
        numbers = L * block + (3 * C if self.device == "cpu" else 2 * C + gpt.vocab_size)
        if data.document_attention:
            numbers += T // self.width  # a mask of bytes
        head = gpt.vocab_size * C if self.device == "cpu" else 0
        return self.width * batch * T * numbers + FLOAT * head

    @property
    def block_numbers(self) -> int:
        """What a block keeps for backward, in numbers per token."""
        gpt = self.config.gpt
        T, C = gpt.block_size, gpt.n_embd
        numbers = ((17 if gpt.activation != "relu" else 13) - (gpt.norm_position == "post")) * C
        if self.config.data.document_attention:
            numbers += C  # heads side by side again
        elif self.device == "cpu" and T <= 3 * C // gpt.n_head:
            numbers += gpt.n_head * T
        adapters = sum(".lora_A" in name for name, *_ in self.shapes) // gpt.n_layer
        return numbers + self.config.finetune.lora_rank * adapters

    @property
    def kept_blocks(self) -> int:
        """Blocks that backward goes through: those from the first trained parameter on."""
        gpt = self.config.gpt
        names = [name for name, _, trained in self.shapes if trained]
        if any(name.startswith(("wte", "wpe")) for name in names):
            return gpt.n_layer
        first = [int(m[1]) for name in names if (m := re.match(r"h\.(\d+)\.", name))]
        return gpt.n_layer - min(first, default=gpt.n_layer)

    def peak(self, batch: int) -> int:
        """Bytes at the worst moment of a step of `batch` sequences at a time."""
        gpt, kept = self.config.gpt, self.activations(batch)
        rows = self.width * batch * gpt.block_size
        block = (13 if gpt.activation != "relu" else 7) * gpt.n_embd
        if self.config.data.document_attention or self.device != "cpu":
            scores = 4 * gpt.n_head * gpt.block_size  # and what becomes of them, all at once
            block = max(block, 8 * gpt.n_embd + scores)
        logits, head = FLOAT * batch * gpt.block_size * gpt.vocab_size, 0
        if self.device == "cpu":
            loss = min(logits, ROOM) + 3 * rows * gpt.n_embd
        else:
            loss = 2 * logits
            head = sum(size for name, size, trained in self.shapes
                       if trained and name.startswith(("wte", "lm_head")))  # fmt: skip
        last = sum(size for name, size, trained in self.shapes
                   if trained and name.startswith(f"h.{gpt.n_layer - 1}.mlp."))  # fmt: skip
        again = rows * self.block_numbers if self.config.run.checkpoint_activations else 0
        moments = (
            kept + loss,
            kept + again + rows * block + FLOAT * (head + last),  # the last block
            FLOAT * self.trained + rows * (17 * gpt.n_embd + block),  # the first
            8 * self.trained,  # a checkpoint being written
        )
        fixed = self.fixed
        return sum(fixed.values()) - fixed["gradients"] + self.scratch + max(moments)

    @property
    def scratch(self) -> int:
        """Bytes that the optimizer's threads compute in."""
        if self.device != "cpu":
            return 0
        block = largest_block([size for _, size, trained in self.shapes if trained])
        return 3 * FLOAT * block * tt.get_num_threads()

    def largest_batch(self, available: int) -> int:
        """The most sequences at a time for which there is room; 0 if there is none."""
        return last_true(lambda batch: self.peak(batch) <= USABLE * available)


def last_true(holds: Callable[[int], bool]) -> int:
    """The largest n >= 1 of which it holds, where it holds up to some n and no further; or 0."""
    if not holds(1):
        return 0
    low, high = 1, 2
    while holds(high) and high < 2**40:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def seconds_per_token(cost: Cost, device: Any, budget: float = 2e10) -> float:
    """Measured on one block of the model, and reckoned up to all of it: an estimate.

    budget  floating-point operations that the measurement may take
    """
    from dataclasses import replace
    from time import perf_counter

    from .model import GPT

    gpt = cost.config.gpt
    if cost.config.model != "gpt":
        return 0.0
    small = replace(gpt, n_layer=1, vocab_size=64, dropout=0.0)
    probe = Cost(replace(cost.config, gpt=small, finetune=type(cost.config.finetune)()))
    rows = int(budget / 3 / probe.flops_per_token // gpt.block_size)
    T = gpt.block_size if rows else max(1, int(budget / 3 / probe.flops_per_token))
    rows = min(max(rows, 1), cost.config.data.batch_size)
    before = tt.default_generator.get_state()
    with nn.init.skipped():
        model = GPT(small)
    for p in model.parameters():
        p.array[...] = 0.01
    model.to(device)
    idx = tt.zeros(rows, T, dtype=tt.int64, device=device)
    times = []
    for _ in range(3):
        start = perf_counter()
        with Precision(cost.config.run.dtype, device).computing():
            loss = model(idx, idx)[1]
        loss.backward()
        model.zero_grad()
        tt.backend.synchronize(device)
        times.append(perf_counter() - start)
    tt.default_generator.set_state(before)
    rate = probe.flops_per_token * rows * T / min(times)
    return cost.flops_per_token / rate
