"""What a batch costs beside the training step that it is for.

    python -m benchmarks.batches

Batches come from a sparse shard as long as OpenWebText in GPT-2's tokens (9 billion, 18 GB that
take no space), in each of the ways that there are; the step is that of the small GPT of the preset
`shakespeare-cpu`, on the CPU. Memory is what the process holds of the shard when all is done.

Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import tinytensor as tt
from data import Batches
from data.shards import DTYPES, LAYOUT, Header, Tokens
from gpt.config import Config, from_command_line
from gpt.models import build_model
from gpt.state import build_optimizer

from .timing import paired

N_TOKENS = 9_035_582_198


def sparse(path: Path, itemsize: int, n: int) -> Path:
    """A shard of zeros that takes no space."""
    with path.open("wb") as file:
        file.write(Header(DTYPES[itemsize], n, "00" * 32).pack())
        file.truncate(LAYOUT.size + itemsize * n)
    return path


def training_step(config: Config) -> Callable[[], None]:
    """One optimizer step of the model on a batch of its own."""
    model = build_model(config)
    optimizer = build_optimizer(model, config.optim)
    shape = (config.data.batch_size, config.gpt.block_size)
    x, y = (tt.tensor(np.random.default_rng(i).integers(0, 65, shape)) for i in (0, 1))

    def step() -> None:
        optimizer.zero_grad()
        _, loss = model(x, y)
        loss.backward()
        optimizer.step()

    return step


def held_mb(path: Path) -> float:
    """MB of a mapped file that are in this process's memory (Linux)."""
    sizes, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            sizes += int(line.split()[1])
    return sizes / 1e3


def main() -> None:
    config = from_command_line(["--preset", "shakespeare-cpu"])
    step, results = training_step(config), {}
    with tempfile.TemporaryDirectory() as folder:
        path = sparse(Path(folder) / "train-00000.tokens", 2, N_TOKENS)
        start = perf_counter()
        tokens = Tokens.open([path], vocab_size=50257)
        opening = perf_counter() - start
        tokens.documents = np.arange(0, N_TOKENS, 1127)  # as many as OpenWebText has
        ways: dict[str, dict[str, Any]] = {
            "random windows": {},
            "epochs": {"epochs": True},
            "at documents": {"documents": "start"},
            "within documents": {"documents": "within"},
            "within documents, epochs": {"documents": "within", "epochs": True},
        }
        size = f"{config.data.batch_size} x {config.gpt.block_size}"
        print(f"{N_TOKENS:,} tokens, opened in {opening * 1e3:.1f} ms")
        print(f"{'a batch of ' + size:28}    us  % of a step")
        for name, chosen in ways.items():
            batches = Batches(tokens, config.gpt.block_size, config.data.batch_size, **chosen)
            steps = count()
            load, _, ratio = paired(lambda: batches.batch(next(steps)), step, repeats=5)  # noqa: B023
            results[name] = ratio
            print(f"{name:28} {load * 1e6:5.0f} {100 * ratio:12.2f}")
        held = held_mb(path)
        print(f"held of the shard: {held:.0f} MB")
    print(json.dumps({"benchmark": "batches", "share_of_step": results, "held_mb": held}))


if __name__ == "__main__":
    main()
