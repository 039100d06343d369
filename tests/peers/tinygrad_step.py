"""A training step on tinytensor and on tinygrad (jitted, its CPU device), in turn.

    python tests/peers/tinygrad_step.py [SHAPE ...] [--threads 2] [--steps 5]

Needs `pip install tinygrad` and clang. The loss of the first step must be ours. Prints medians, the
median of the ratios of pairs (tinygrad's time / ours) and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]


def tiny_step(model, ids):
    """A call that does one step and returns the loss, on a copy of a gpt.GPT's weights."""
    from tinygrad import Tensor, TinyJit, nn
    from tinygrad.helpers import Context

    c = model.config
    w = {name: Tensor(p.numpy().copy()) for name, p in model.state_dict().items()}
    if c.tie_weights:
        w["lm_head.weight"] = w["wte.weight"]
    x, y = (Tensor(a.astype("int32")).realize() for a in ids)
    T = x.shape[1]

    def linear(h, name):
        return h.linear(w[f"{name}.weight"].T, w.get(f"{name}.bias"))

    def norm(h, name):
        return h.layernorm(eps=c.norm_eps) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def attention(h, name):
        qkv = linear(h, f"{name}.c_attn").reshape(*h.shape[:2], 3, c.n_head, -1)
        q, k, v = (qkv[:, :, i].transpose(1, 2) for i in range(3))
        out = q.scaled_dot_product_attention(k, v, is_causal=True)
        return linear(out.transpose(1, 2).reshape(h.shape), f"{name}.c_proj")

    def loss_of():
        h = w["wte.weight"][x] + w["wpe.weight"][:T]
        for i in range(c.n_layer):
            h = h + attention(norm(h, f"h.{i}.ln_1"), f"h.{i}.attn")
            m = linear(norm(h, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc").gelu()
            h = h + linear(m, f"h.{i}.mlp.c_proj")
        logits = linear(norm(h, "ln_f"), "lm_head")
        return logits.reshape(-1, c.vocab_size).sparse_categorical_crossentropy(y.reshape(-1))

    parameters = [*{id(p): p for p in w.values()}.values()]
    optimizer = nn.optim.AdamW(parameters, lr=1e-4, weight_decay=0.1)

    @TinyJit
    def jitted():
        with Context(TRAINING=1):
            optimizer.zero_grad()
            loss = loss_of().backward()
            total = sum(p.grad.square().sum() for p in parameters).sqrt()
            for p in parameters:
                p.grad = p.grad * (1 / (total + 1e-6)).minimum(1)
            return loss.realize(*optimizer.schedule_step())

    return lambda: jitted().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", default=["64/128/4/4/12"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    os.environ.update(OPENBLAS_NUM_THREADS=str(args.threads), DEV="CPU")  # tinygrad's device

    import tinytensor as tt
    from benchmarks.shapes import named, training_step
    from benchmarks.timing import time_calls
    from gpt.model import GPT

    tt.set_num_threads(args.threads)
    rows = []
    print(f"{'shape':18} {'ours ms':>9} {'tinygrad ms':>12} {'tinygrad / ours':>16}")
    for name in args.shapes:
        shape = named(name)
        tt.manual_seed(0)
        model = GPT(shape.config)
        theirs = tiny_step(model, shape.ids())
        first = model.loss(*(tt.tensor(a) for a in shape.ids())).item()
        assert abs(first - theirs()) < 1e-3 * first, "not the same model"
        ours = training_step(model, shape.ids())
        time_calls(ours, 3)
        time_calls(theirs, 3)
        pairs = [(time_calls(ours, 1), time_calls(theirs, 1)) for _ in range(args.steps)]
        row = {"shape": name, "ours_ms": median(a for a, _ in pairs) * 1e3,
               "tinygrad_ms": median(b for _, b in pairs) * 1e3,
               "tinygrad / ours": median(b / a for a, b in pairs)}  # fmt: skip
        rows.append(row)
        print(f"{name:18} {row['ours_ms']:9.1f} {row['tinygrad_ms']:12.1f} "
              f"{row['tinygrad / ours']:16.1f}", flush=True)  # fmt: skip
    print(json.dumps({"benchmark": "step against tinygrad", "threads": args.threads, "rows": rows}))


if __name__ == "__main__":
    main()
