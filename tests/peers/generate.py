"""Greedy decoding with a cache beside transformers': `python tests/peers/generate.py`.

One random GPT-2 of 124M in both, equal threads, a few tokens here and a few there in turn: medians,
and the median of the pairs' ratios. First the ids must be equal. Prints a table and a JSON line.

    --threads N     of both (all cores)
    --tokens N      per prompt length
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import GPT2LMHeadModel  # noqa: E402
from transformers.cache_utils import DynamicCache  # noqa: E402

import tinytensor as tt  # noqa: E402
from benchmarks.generate import timed  # noqa: E402
from gpt.config import GPTConfig  # noqa: E402
from gpt.decoding import Writer  # noqa: E402
from gpt.model import GPT  # noqa: E402
from gpt.sampling import Sampler  # noqa: E402

RUN = 8  # tokens at a time
PAUSE = 0.3  # seconds: OpenMP's threads keep a core busy for 0.2 after a step


class Theirs:
    """transformers' model and cache, without the bookkeeping of its generate: the faster judge."""

    def __init__(self, model: GPT2LMHeadModel, ids: list[int]):
        self.model, self.cache = model, DynamicCache()
        self.ids = list(ids)
        self.unread = torch.tensor([ids])

    @torch.inference_mode()
    def step(self) -> None:
        logits = self.model(self.unread, past_key_values=self.cache, use_cache=True,
                            logits_to_keep=1).logits  # fmt: skip
        self.unread = logits[:, -1].argmax(-1, keepdim=True)
        self.ids.append(int(self.unread))


def rested(step: Callable[[], object]) -> float:
    """Seconds a token, over a few of them, once the other's threads have ceased to spin."""
    time.sleep(PAUSE)
    step()
    return median(timed(step) for _ in range(RUN - 1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=tt.get_num_threads())
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--prompts", type=int, nargs="+", default=[16, 256, 900])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tt.set_num_threads(args.threads)
    tt.manual_seed(0)
    ours = GPT(GPTConfig()).eval()
    with tempfile.TemporaryDirectory() as folder:
        ours.save_pretrained(folder)
        theirs = GPT2LMHeadModel.from_pretrained(folder).eval()
    rows = []
    print(f"{'prompt':>6} {'ours ms':>8} {'transformers ms':>16} {'theirs / ours':>14}")
    for length in args.prompts:
        ids = np.random.default_rng(length).integers(0, 50257, length).tolist()
        a, b = Writer(ours, [ids], Sampler(temperature=0), 0), Theirs(theirs, ids)
        a.step(), b.step()
        pairs = [(rested(a.step), rested(b.step)) for _ in range(args.tokens // RUN)]
        if a.rows[0].ids != b.ids:
            print(f"the ids differ after a prompt of {length}")
            return 1
        x, y = (median(times) * 1e3 for times in zip(*pairs))
        ratio = median(t / o for o, t in pairs)
        rows.append({"prompt": length, "ours_ms": x, "transformers_ms": y, "ratio": ratio})
        print(f"{length:6} {x:8.1f} {y:16.1f} {ratio:14.2f}")
    print(json.dumps({"benchmark": "generate against transformers", "threads": args.threads,
                      "rows": rows}))  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
