"""attention.cu and keep_bits.cu in every schedule of the shim, against float64; the ops on them."""

import math
import os

import numpy as np
import pytest

import tinytensor as tt
import tinytensor.nn.functional as F
from tinytensor import random
from tinytensor.kernels.cuda import attention, launch

from . import shim
from .launches import launches
from .schedules import dtype_of, empty, run_everywhere

P = 0.25  # of dropout
KEY = random.Key(7, 5)


def bits(B, H, L, S, is_causal=False, base=None, key=KEY, p=P):
    words = 2 * -(-S // 64)
    rows = B * H * L
    args = (
        empty((rows, words), "uint32"), base, key.seed, key.block, round(p * 2**32), rows, words,
        S, L, is_causal,
    )  # fmt: skip
    return run_everywhere("keep_bits", "keep_bits", (-(-rows * words // 128),), (128,), args)[0]


@pytest.mark.parametrize("L, S", [(3, 64), (5, 7), (2, 130), (9, 33)])
def test_the_bits_are_the_mask_of_the_cpu(L, S):
    want = random.keep_mask(np, KEY, (2, 2, L, S), P, np.float32) > 0
    kept = bits(2, 2, L, S)
    got = np.unpackbits(kept.view(np.uint8), axis=1, bitorder="little")[:, :S]
    assert (got.reshape(want.shape) == want).all() and 0 < got.mean() < 1
    base = np.array([3, 2], np.uint64)  # a graph's: {seed, block}, from which the key counts
    assert (bits(2, 2, L, S, base=base, key=random.Key(4, 3)) == kept).all()
    some = bits(2, 2, L, S, is_causal=True).reshape(2, 2, L, -1)
    for i in range(L):
        seen = i // 32 + 1
        assert (some[:, :, i, :seen] == kept.reshape(some.shape)[:, :, i, :seen]).all()


# ------------------------------------------------------------------------------ flash attention


class Problem:
    """Operands in the packed layout (B, T, 3C) or as (B, H, L, hs) and (B, H, S, hs)."""

    def __init__(self, B, H, L, S=None, hs=32, is_causal=True, dropout=False, real="bfloat16",
                 packed=True, large=1.0):  # fmt: skip
        rng = np.random.default_rng(0)
        self.real, self.hs, self.is_causal, self.dropout = real, hs, is_causal, dropout
        self.B, self.H, self.L, self.S = B, H, L, S or L
        assert not packed or self.S == L
        dtype = dtype_of(real)
        self.scale = 1 / math.sqrt(hs)
        if packed:
            C = H * hs
            self.qkv = (rng.standard_normal((B, L, 3 * C)) * large).astype(dtype)
            self.operands = (self.qkv,) * 3
            self.q, self.k, self.v = self.heads(self.qkv, 3)
            own = (L * 3 * C, hs, 3 * C)
            self.layout = (*own, *own, L * C, hs, C, 0, C, 2 * C)
            self.g = rng.standard_normal((B, L, C)).astype(dtype)
            self.grad = self.heads(self.g, 1)[0]
        else:
            self.operands = self.q, self.k, self.v = tuple(
                (rng.standard_normal((B, H, n, hs)) * large).astype(dtype)
                for n in (L, self.S, self.S)
            )
            ql, kl = [(H * n * hs, n * hs, hs) for n in (L, self.S)]
            self.layout = (*ql, *kl, *ql, 0, 0, 0)
            self.g = self.grad = rng.standard_normal((B, H, L, hs)).astype(dtype)
        self.packed = packed
        self.keep = bits(B, H, L, self.S, is_causal) if dropout else None
        self.padded = -(-L // 128) * 128

    def heads(self, x, parts):
        B, T, width = x.shape
        return x.reshape(B, T, parts, self.H, -1).transpose(2, 0, 3, 1, 4)

    def run(self, entry, outputs, inputs, rows, step, source=None):
        head = next(h for h in (32, 64, 128) if self.hs <= h)
        scalars = (
            self.H, self.L, self.S, self.hs, self.padded, 2 * -(-self.S // 64), self.is_causal,
            self.scale, 1 / (1 - P), *self.layout,
        )  # fmt: skip
        n = self.S if entry.endswith("value") else self.L
        block = rows if entry != "attention_forward" or head < 128 else 128
        shared = (step * block + 4 * 64) * (head + 8) * 2
        return run_everywhere(
            "attention", entry, (self.B * self.H * -(-n // block),), (128,),
            (*outputs, *inputs, self.keep, *scalars), real=self.real, shared=shared,
            source=source, constants={"HEAD": head, "DROPOUT": int(self.dropout)},
        )  # fmt: skip

    def forward(self, source=None):
        self.out, self.lse = self.run(
            "attention_forward",
            (empty(self.g.shape, self.real), empty((self.B * self.H, self.padded), "float32")),
            self.operands, 128, 1, source,
        )  # fmt: skip
        return self.heads(self.out, 1)[0] if self.packed else self.out

    def backward(self, source=None):
        rows = 64 if self.hs > 64 else 128
        made = [empty(a.shape, self.real) for a in self.operands]
        dq, D = self.run(
            "attention_backward_query", (made[0], empty(self.lse.shape, "float32")),
            (self.g, self.out, self.lse, *self.operands), rows, 2, source,
        )  # fmt: skip
        dk, dv = self.run(
            "attention_backward_key_value", made[1:], (self.g, self.lse, D, *self.operands),
            rows, 2, source,
        )  # fmt: skip
        if self.packed:
            return self.heads(dq, 3)[0], self.heads(dk, 3)[1], self.heads(dv, 3)[2]
        return dq, dk, dv

    def expected(self, out=None):
        """out, lse, dq, dk, dv in float64, of the numbers as they are stored; given `out`, its
        rounding is taken into D, as flash attention does"""
        q, k, v, g = (x.astype(np.float64) for x in (self.q, self.k, self.v, self.grad))
        S = q @ k.swapaxes(-1, -2) * self.scale
        if self.is_causal:
            S = np.where(np.tril(np.ones(S.shape[-2:], bool)), S, -np.inf)
        top = S.max(-1, keepdims=True)
        E = np.exp(S - top)
        total = E.sum(-1, keepdims=True)
        weights, keep = E / total, 1.0
        if self.dropout:
            keep = random.keep_mask(np, KEY, weights.shape, P, np.float64)
        dW = (g @ v.swapaxes(-1, -2)) * keep
        dropped = weights * keep
        out = dropped @ v if out is None else out.astype(np.float64)
        dS = weights * (dW - (g * out).sum(-1, keepdims=True)) * self.scale
        dk, dv = dS.swapaxes(-1, -2) @ q, dropped.swapaxes(-1, -2) @ g
        return out, (top + np.log(total))[..., 0], dS @ k, dk, dv


def close(a, b, real):
    """Half precision rounds operands, P and dS: the error is that of a sum of rounded numbers."""
    a = a.astype(np.float64)
    tolerance = {"bfloat16": 8e-3, "float16": 1e-3}[real]
    assert np.isfinite(a).all()
    assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b) + 1e-12
    assert np.abs(a - b).max() <= 8 * tolerance * (np.abs(b).max() + 1e-12)


CASES = {
    "one": dict(B=1, H=2, L=1),
    "seven": dict(B=1, H=1, L=7),
    "63": dict(B=1, H=1, L=63),
    "64": dict(B=1, H=1, L=64, hs=64, is_causal=False),
    "65": dict(B=1, H=2, L=65),
    "130": dict(B=1, H=1, L=130, hs=64),
    "192": dict(B=1, H=1, L=192),
    "float16": dict(B=1, H=1, L=70, hs=64, real="float16"),
    "dropout": dict(B=1, H=2, L=75, dropout=True),
    "dropout 64": dict(B=1, H=1, L=136, hs=64, dropout=True, is_causal=False),
    "128": dict(B=1, H=1, L=67, hs=128),
    "128 dropout": dict(B=1, H=1, L=65, hs=128, dropout=True),
    "padded": dict(B=2, H=2, L=33, hs=24),
    "large logits": dict(B=1, H=1, L=66, large=12.0),
    "queries and keys": dict(B=1, H=2, L=7, S=135, packed=False, is_causal=False),
    "more keys, causal": dict(B=1, H=1, L=5, S=140, packed=False),
    "more queries, causal": dict(B=1, H=1, L=135, S=6, packed=False),
}


@pytest.mark.parametrize("name", CASES)
def test_flash_attention(name):
    problem = Problem(**CASES[name])
    out, lse, *gradients = problem.expected()
    mine = problem.forward()
    close(mine, out, problem.real)
    if name == "large logits":  # P is 0 or 1: dS is what remains where P g v^T and D cancel
        gradients = problem.expected(mine)[2:]
    mine = problem.lse.reshape(problem.B, problem.H, -1)
    np.testing.assert_allclose(mine[..., : problem.L], lse, 1e-4, 1e-4)
    assert (mine[..., problem.L :] == np.inf).all()
    for a, b in zip(problem.backward(), gradients):
        close(a, b, problem.real)


FORWARD, BACKWARD = launch.source("attention").split("// " + "-" * 76 + " backward")
BUGS = {  # in a case that shows it: what is written instead of what
    "missing wait": ("65", "copy_wait<0>();\n    __syncthreads();  // this", "__syncthreads(); //"),
    "missing barrier": ("65", "__syncthreads();  // this tile is there", "// this tile is there"),
    "swapped fragments": (
        "seven", "mma(s[m][n], fa[m], fb);\n        Half<real>::mma(s[m][n + 1], fa[m], fb + 2)",
        "mma(s[m][n], fa[m], fb + 2);\n        Half<real>::mma(s[m][n + 1], fa[m], fb)",
    ),
    "mask off by one": ("seven", "is_causal && key > query", "is_causal && key >= query"),
    "diagonal tile not masked": ("65", "begin + PART > own + 1", "begin > own + 16 * R"),
    "row of odd width": ("seven", "LD = HEAD + 8", "LD = HEAD + 4"),
    "tail not masked": ("64 of 70", "key >= S || ", ""),
    "no zeros behind the keys": ("seven", "rows = c < width ? rows - r : 0;", "rows = N;"),
    "tile reused too early": ("seven", "__syncwarp();  // the last to read", "// the last to read"),
    "bits of other columns": ("dropout", "at % 32 + lane % 4 * 2 + i", "at % 32 + lane % 4 + i"),
}  # fmt: skip
KEPT = ("missing wait", "missing barrier", "swapped fragments", "mask off by one")
CASES["64 of 70"] = dict(B=1, H=1, L=64, S=70, packed=False, is_causal=False)


@pytest.mark.parametrize("name", BUGS if os.environ.get("EVERY_BUG") else KEPT)
def test_a_bug_is_noticed(name):
    case, right, wrong = BUGS[name]
    assert right in FORWARD
    problem = Problem(**CASES[case])
    with pytest.raises((shim.KernelError, AssertionError)) as noticed:
        close(problem.forward(FORWARD.replace(right, wrong)), problem.expected()[0], problem.real)
    print(name, "->", str(noticed.value).splitlines()[0][:300])


# ------------------------------------------------------------------------------ the ops


@pytest.fixture
def launched():
    """The names of the kernels that ran."""
    with launches() as names:
        yield names


FLASH = ["attention_forward", "attention_backward_query", "attention_backward_key_value"]
CHUNKS = ["attention_weights", "attention_weights_backward"]
TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3, "bfloat16": 1.5e-2}


def result_and_gradients(op, arrays, g, device, dtype):
    """op's result and the gradients of its arguments, as float64 NumPy arrays."""
    tt.manual_seed(3)
    leaves = [
        tt.tensor(a.astype(np.float64), dtype=tt.float64).to(device).to(dtype).detach()
        for a in arrays
    ]
    for leaf in leaves:
        leaf.requires_grad = True
    out = op(*leaves)
    assert out.dtype == dtype and out.device.type == device
    out.backward(tt.tensor(g.astype(np.float64), dtype=tt.float64).to(device).to(dtype))
    return [t.detach().cpu().to(tt.float64).numpy() for t in (out, *(x.grad for x in leaves))]


def compare(op, arrays, g, dtype):
    """On the GPU in `dtype`, against the CPU's in float64."""
    theirs = result_and_gradients(op, arrays, g, "cpu", tt.float64)
    mine = result_and_gradients(op, arrays, g, "cuda", dtype_of(dtype))
    for a, b in zip(mine, theirs):
        assert a.shape == b.shape and np.isfinite(a).all()
        assert np.linalg.norm(a - b) <= TOLERANCE[dtype] * np.linalg.norm(b) + 1e-12


def numbers(*shapes, dtype="float32"):
    rng = np.random.default_rng(1)
    return [rng.standard_normal(s).astype(dtype_of(dtype)) for s in shapes]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_packed_attention(dtype, dropout, cuda, launched):
    qkv, g = numbers((2, 13, 3 * 2 * 16), (2, 13, 2 * 16), dtype=dtype)
    compare(lambda x: F.packed_attention(x, 2, dropout, is_causal=True), [qkv], g, dtype)
    expected = CHUNKS if dtype == "float32" else FLASH
    assert launched == ["keep_bits"] * (dropout > 0) + expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("mask", [None, "causal", "bool", "float", "wide"])
def test_scaled_dot_product_attention(dtype, mask, cuda, launched):
    q, k, v, g = numbers((2, 2, 5, 16), (2, 2, 9, 16), (2, 2, 9, 16), (2, 2, 5, 16), dtype=dtype)
    if mask == "wide":  # values of another size
        v, g = numbers((2, 2, 9, 24), (2, 2, 5, 24), dtype=dtype)
    rng = np.random.default_rng(2)
    masks = {"bool": rng.random((2, 1, 5, 9)) > 0.3, "float": rng.random((5, 9), np.float32)}
    hidden = masks.get(mask)

    def op(q, k, v):
        m = None if hidden is None else tt.tensor(hidden).to(q.device)
        return F.scaled_dot_product_attention(q, k, v, m, is_causal=mask == "causal")

    compare(op, [q, k, v], g, dtype)
    flash = dtype == "bfloat16" and mask in (None, "causal")
    assert launched == (FLASH if flash else CHUNKS)


def test_operands_are_read_where_they_lie(cuda, launched, monkeypatch):
    """Heads of one product in place; copies only of what does not begin at 16 bytes."""
    copies = []
    place = attention._place

    def noted(a):
        found = place(a)
        copies.append(found.array is not (a if a.base is None else a.base))
        return found

    monkeypatch.setattr(attention, "_place", noted)
    qkv, g = numbers((2, 9, 3 * 2 * 16), (2, 2, 9, 16), dtype="bfloat16")
    wide, g_wide = numbers((2, 2, 9, 20), (2, 2, 9, 16), dtype="bfloat16")

    def of_one_product(x):
        q, k, v = x.view(2, 9, 3, 2, 16).permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def at_eight_bytes(x):
        return F.scaled_dot_product_attention(x[..., 4:], x[..., 4:], x[..., 4:])

    def moved(x):
        """From the third number on: contiguous, but on no multiple of 16 bytes."""
        return tt.cat([x.reshape(-1)[:3], x.reshape(-1)])[3:].view(*x.shape)

    def off_by_six_bytes(x):
        return moved(F.packed_attention(moved(x), 2, is_causal=True))

    compare(off_by_six_bytes, [qkv], g.reshape(2, 9, 32), "bfloat16")
    compare(lambda x: moved(of_one_product(moved(x))), [qkv], g, "bfloat16")
    copies.clear(), launched.clear()
    compare(of_one_product, [qkv], g, "bfloat16")
    assert copies == [False] * 3
    compare(at_eight_bytes, [wide], g_wide, "bfloat16")
    assert copies[3:] == [False, True] * 3  # the copy's own place is found first
    assert launched == FLASH * 2


@pytest.mark.parametrize(
    "what",
    ["float64", "odd head", "negative scale", "long head", "broadcast heads", "mask's gradient"],
)
def test_what_flash_attention_is_not_for(what, cuda, launched):
    hs = {"odd head": 12, "long head": 136}.get(what, 16)
    dtype = "float64" if what == "float64" else "bfloat16"
    q, k, v, g = numbers(*[(1, 2, 6, hs)] * 4, dtype=dtype)
    arrays, scale = [q, k, v], -0.3 if what == "negative scale" else None
    if what == "broadcast heads":
        arrays = [q, k[:, :1], v[:, :1]]
    if what == "mask's gradient":
        arrays += numbers((6, 6), dtype=dtype)
    compare(lambda *a: F.scaled_dot_product_attention(*a, scale=scale), arrays, g, dtype)
    assert [n for n in launched if n in FLASH] == []


def test_attention_in_several_chunks(cuda, launched, monkeypatch):
    monkeypatch.setattr(attention, "CHUNK_NUMBERS", 2 * 4 * 20)
    qkv, g = numbers((1, 20, 3 * 2 * 8), (1, 20, 2 * 8))
    for causal in (True, False):

        def op(x, causal=causal):
            return F.packed_attention(x, 2, dropout_p=0.2, is_causal=causal)

        compare(op, [qkv], g, "float32")
    assert launched.count("attention_weights") == 2 * 5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("hs, S", [(16, 1), (64, 7), (24, 70), (128, 33)])
def test_one_query_and_a_cache(hs, S, dtype, cuda, launched):
    """Keys and values are part of a longer cache, queries part of what one product gave."""
    B, H = 2, 2
    k, v, qkv = numbers((B, H, S + 3, hs), (B, H, S + 3, hs), (B, 1, 3, H, hs), dtype=dtype)
    seen = np.arange(S) < np.array([S, max(1, S - 2)])[:, None, None, None]
    for mask in (None, seen):
        results = []
        for device, kind in (("cpu", tt.float64), ("cuda", dtype_of(dtype))):
            a, b, c = (
                tt.tensor(x.astype(np.float64), dtype=tt.float64).to(device).to(kind)
                for x in (k, v, qkv)
            )
            q = c.permute(2, 0, 3, 1, 4)[0]
            m = None if mask is None else tt.tensor(mask).to(device)
            with tt.no_grad():
                out = F.scaled_dot_product_attention(q, a[:, :, :S], b[:, :, :S], m)
            results.append(out.cpu().to(tt.float64).numpy())
        close_to, mine = results
        assert np.linalg.norm(mine - close_to) <= TOLERANCE[dtype] * np.linalg.norm(close_to)
    assert launched == ["attention_decode"] * 2
