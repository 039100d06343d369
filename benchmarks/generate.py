"""What a token costs, against reading the weights once, which is the least it can cost.

    python -m benchmarks.generate                       a random model of GPT-2's size, 124M
    python -m benchmarks.generate --preset tales        another preset's shape
    python -m benchmarks.generate --device cuda
    python tests/peers/generate.py                      the same beside transformers, in turn

Memory bandwidth is what a matrix-vector product over as many bytes as the weights have, in NumPy,
reads per second, on a GPU a copy of half as many, which are read and written; it is measured in
turn with each token, and the share is the median of the pairs'
ratios. Bytes are those of the weights alone: neither the cache's nor those of activations.
Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import tinytensor as tt
from gpt.config import Config, GPTConfig, read_preset
from gpt.decoding import Writer
from gpt.model import GPT
from gpt.options import build
from gpt.sampling import Sampler

WIDTH = 1024  # of the matrix that bandwidth is measured with


def weight_bytes(model: GPT) -> int:
    """What one token must read: every weight but the tables, of which it reads a row each."""
    config, itemsize = model.config, model.wte.weight.array.itemsize
    numbers = sum(p.numel() for p in model.parameters()) - model.wpe.weight.numel()
    if not config.tie_weights:
        numbers -= model.wte.weight.numel()
    return numbers * itemsize


def reader(nbytes: int, device: str) -> Callable[[], object]:
    """A call that moves about nbytes: one matrix-vector product, or on a GPU a copy; waits."""
    if device != "cpu":
        xp = tt.backend.cupy()
        with xp.cuda.Device(tt.backend.resolve(device).index):
            a, b = (xp.ones(nbytes // 8, np.float32) for _ in range(2))

        def copy() -> None:
            xp.copyto(b, a)
            tt.cuda.synchronize(device)

        return copy
    matrix = np.ones((max(1, nbytes // (4 * WIDTH)), WIDTH), np.float32)
    vector = np.ones(WIDTH, np.float32)
    return lambda: matrix @ vector


def timed(f: Callable[[], object]) -> float:
    start = perf_counter()
    f()
    return perf_counter() - start


def measure(
    config: GPTConfig, batch: int, prompt: int, tokens: int, sampler: Sampler, device: str = "cpu"
) -> dict:
    """One row of the table, for `batch` texts written side by side.

    A token is read before the next one is asked for, so the host's clock is right on a GPU too.
    """
    tt.manual_seed(0)
    model = GPT(config).eval().to(device)
    nbytes = weight_bytes(model)
    read = reader(nbytes, device)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (batch, prompt)).tolist()
    writer = Writer(model, ids, sampler, seed=0, room=tokens + 2)
    first = timed(writer.step)
    writer.step()
    read()
    pairs = [(timed(writer.step), timed(read)) for _ in range(tokens)]
    step, reading = (median(times) for times in zip(*pairs))
    return {
        "batch": batch,
        "prompt_ms": first * 1e3,
        "token_ms": step * 1e3,
        "tokens_per_s": batch / step,
        "gb_per_s": nbytes / step / 1e9,
        "bandwidth_gb_per_s": nbytes / reading / 1e9,
        "share_of_bandwidth": median(r / s for s, r in pairs),
    }


def arguments() -> Any:
    parser = argparse.ArgumentParser("python -m benchmarks.generate", description=__doc__)
    parser.add_argument("--preset", default="gpt2", help="gpt2 (124M), or one of gpt/presets")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=40)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int, default=tt.get_num_threads())
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    return parser.parse_args()


def shape(preset: str) -> GPTConfig:
    """GPT-2's own, or that of a preset with bytes as its vocabulary."""
    if preset == "gpt2":
        return GPTConfig()
    return replace(build(Config, read_preset(preset), {}).gpt, vocab_size=256)


def main() -> None:
    args = arguments()
    tt.set_num_threads(args.threads)
    config = shape(args.preset)
    rows = [measure(config, batch, args.prompt_tokens, args.new_tokens, Sampler(temperature=0),
                    args.device) for batch in args.batch]  # fmt: skip
    print(f"{'batch':>6} {'prompt ms':>10} {'token ms':>9} {'tokens/s':>9} {'GB/s':>6} "
          f"{'memory GB/s':>12} {'share':>6}")  # fmt: skip
    for r in rows:
        print(f"{r['batch']:6} {r['prompt_ms']:10.1f} {r['token_ms']:9.2f} "
              f"{r['tokens_per_s']:9.1f} {r['gb_per_s']:6.1f} {r['bandwidth_gb_per_s']:12.1f} "
              f"{r['share_of_bandwidth']:6.2f}")  # fmt: skip
    print(json.dumps({"benchmark": "generate", "preset": args.preset, "threads": args.threads,
                      "device": args.device, "prompt_tokens": args.prompt_tokens,
                      "rows": rows}))  # fmt: skip


if __name__ == "__main__":
    main()
