"""softmax.cu and decode.cu in every schedule of the shim, against float64; the ops on the first."""

import numpy as np
import pytest

import tinytensor as tt
import tinytensor.nn.functional as F
from tinytensor import random
from tinytensor.kernels.cuda import softmax

from .launches import launches
from .schedules import dtype_of, empty, run_everywhere

EPSILON = {"float32": 3e-6, "float16": 1e-3, "bfloat16": 8e-3}


def close(a, b, real, terms=0.0):
    """Computed in float32, rounded once: relative to the largest of a row, or of what cancels."""
    a, most = a.astype(np.float64), np.abs(b).max(-1, keepdims=True)
    assert np.isfinite(a).all()
    assert (np.abs(a - b) <= EPSILON[real] * most + 3e-7 * np.abs(terms).max() + 1e-7).all()


def exact(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rows_of(shape, real, scale=3.0):
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) * scale).astype(dtype_of(real))


@pytest.mark.parametrize("real", EPSILON)
@pytest.mark.parametrize("rows, n, wide", [(1, 1, 0), (5, 7, 0), (6, 65, 0), (3, 600, 1)])
def test_softmax(rows, n, wide, real):
    x, g = rows_of((2, rows, n), real)
    x[-1] += 80  # e^80 overflows float16; 600 of e^90 would float32
    x[0, 0] = -np.inf if n > 1 else 0
    grid, block = ((rows,), (96,)) if wide else ((-(-rows // 2),), (64,))
    float_x, float_g = x.astype(np.float64), g.astype(np.float64)
    p = exact(float_x)
    log_p = np.log(np.maximum(p, 1e-300))

    def run(entry, *inputs):
        args = (empty(x.shape, real), *inputs, rows, n)
        return run_everywhere(
            "softmax", entry, grid, block, args, real=real, constants={"WHOLE_BLOCK": wide}
        )[0]

    out = run("softmax_forward", x)
    close(out, p, real)
    out = out.astype(np.float64)  # of what was stored
    dx = run("softmax_backward", g, out.astype(dtype_of(real)))
    close(dx, out * (float_g - (float_g * out).sum(-1, keepdims=True)), real, g)
    out = run("log_softmax_forward", x)
    hidden = float_x == -np.inf
    assert (out[hidden] == -np.inf).all()
    close(np.where(hidden, 0, out), np.where(hidden, 0, log_p), real)
    out = out.astype(np.float64)
    dx = run("log_softmax_backward", g, out.astype(dtype_of(real)))
    close(dx, float_g - np.exp(out) * float_g.sum(-1, keepdims=True), real, float_g.sum(-1))


# ------------------------------------------------------------------------------ attention's weights


@pytest.mark.parametrize("real", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", ["causal", "dropout", "seen", "bias", "wide"])
def test_weights_of_attention(case, real):
    """Queries 3, 4 and 5 of 8 of 2 x 2 heads, and the first 6 of 8 keys, as chunks see them."""
    B, H, count, first, L, n = 2, 2, 3, 3, 8, 6
    causal, p, scale, wide = case != "seen", 0.3 * (case == "dropout"), 0.5, int(case == "wide")
    rng = np.random.default_rng(1)
    s, dp = rng.standard_normal((2, B, H, count, n)).astype(np.float32) * 4
    keep = seen = bias = None
    steps, key = (0, 0, 0, 0), random.Key(3, 9)
    x = s.astype(np.float64) * scale
    if case == "seen":  # (B, 1, L, n)
        seen = rng.random((B, 1, L, 8)) > 0.4
        seen[..., 0] = True
        steps, x = (L * 8, 0, 8, 1), np.where(seen[:, :, first : first + count, :n], x, -np.inf)
    if case == "bias":  # (H, 1, n)
        bias = rng.standard_normal((H, 1, 8)).astype(np.float32)
        steps, x = (0, 8, 0, 1), x + bias[:, :, :n]
    if causal:
        x = np.where(np.arange(n) <= first + np.arange(count)[:, None], x, -np.inf)
    words, kept = 2, 1.0
    if p:
        keep = empty((B * H * L, words), "uint32")
        args = (keep, None, key.seed, key.block, round(p * 2**32), B * H * L, words, L, L, True)
        (keep,) = run_everywhere("keep_bits", "keep_bits", (1,), (64,), args)
        mask = random.keep_mask(np, key, (B, H, L, L), p, np.float64)
        kept = mask[:, :, first : first + count, :n]
    rows = B * H * count
    scalars = (rows, H, count, first, L, n, words, causal, scale, 1 / (1 - p), *steps)
    grid, block = ((rows,), (64,)) if wide else ((-(-rows // 2),), (64,))

    def run(entry, outputs, *inputs):
        made = [empty(s.shape, real) for _ in range(outputs)]
        return run_everywhere(
            "softmax", entry, grid, block, (*made, *inputs, keep, seen, bias, *scalars), real=real,
            constants={"WHOLE_BLOCK": wide},
        )  # fmt: skip

    weights = exact(x)
    D = (weights * dp * kept).sum(-1, keepdims=True)
    (mine,) = run("attention_weights", 1, s)
    close(mine, weights * kept, real)
    again, ds = run("attention_weights_backward", 2, s, dp)
    assert again.tobytes() == mine.tobytes() or real == "float32"
    close(again, weights * kept, real)
    close(ds, scale * weights * (dp * kept - D), real)


# ------------------------------------------------------------------------------ a cache


@pytest.mark.parametrize("real", EPSILON)
@pytest.mark.parametrize("hs, S, masked", [(8, 1, False), (64, 70, True), (24, 9, True)])
def test_decoding(hs, S, masked, real):
    B, H, slots = 2, 2, S + 2
    rng = np.random.default_rng(2)
    q, k, v = (
        rng.standard_normal(shape).astype(dtype_of(real)) for shape in
        ((B, 3, H, hs), (B, H, slots, hs), (B, H, slots, hs))
    )  # fmt: skip
    seen = np.arange(S) <= np.array([[S - 1], [S // 2]]) if masked else None
    steps = H * slots * hs, slots * hs, hs
    args = (
        empty((B, H, hs), real), q, k, v, seen, H, S, hs, 0.4, *steps, *steps,
        H * hs, 3 * H * hs, hs, 0, 0,
    )  # fmt: skip
    (out,) = run_everywhere("decode", "attention_decode", (B * H,), (256,), args, real=real)
    q, k, v = (a.astype(np.float64) for a in (q[:, 1], k[:, :, :S], v[:, :, :S]))
    x = np.einsum("bhc,bhsc->bhs", q, k) * 0.4
    if masked:
        x = np.where(seen[:, None], x, -np.inf)
    close(out, np.einsum("bhs,bhsc->bhc", exact(x), v), real)


# ------------------------------------------------------------------------------ the ops


@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize("op", [F.softmax, F.log_softmax])
def test_the_ops(op, dtype, cuda, monkeypatch):
    monkeypatch.setattr(softmax, "LONG", 16)
    with launches() as entries:
        compare_the_ops(op, dtype)
    name = op.__name__
    assert entries == [f"{name}_forward", f"{name}_backward"] * 2  # dim 0 is the reference's


def compare_the_ops(op, dtype):
    for shape, dim in (((3, 2, 5), -1), ((2, 40), 1), ((3, 4), 0)):
        x, g = rows_of((2, *shape), dtype)
        results = []
        for device, kind in (("cpu", tt.float64), ("cuda", dtype_of(dtype))):
            leaf = tt.tensor(x.astype(np.float64), dtype=tt.float64).to(device).to(kind).detach()
            leaf.requires_grad = True
            out = op(leaf, dim)
            out.backward(tt.tensor(g.astype(np.float64), dtype=tt.float64).to(device).to(kind))
            results += [t.detach().cpu().to(tt.float64).numpy() for t in (out, leaf.grad)]
        for a, b in zip(results[2:], results):
            assert np.abs(a - b).max() <= 6 * EPSILON[dtype] * max(1, np.abs(b).max())
