"""kernels/cuda/random and dropout: the numbers of the CPU, in every schedule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytensor as tt
import tinytensor.nn.functional as F
from tinytensor import backend, random
from tinytensor.kernels.cuda.launch import kernel

from .launches import launches
from .schedules import dtype_of, everywhere, shifted
from .standin import installed

keys = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**63)).map(lambda k: random.Key(*k))
HALF = ["float16", "bfloat16"]


@settings(max_examples=15)
@given(keys, st.integers(0, 1100))
def test_draws(key, n):
    shape = (n,)
    draws = [
        lambda xp: random.words(xp, key, n),
        *[lambda xp, d=d: random.uniform(xp, key, shape, dtype_of(d))
          for d in ("float32", "float64", *HALF)],
        *[lambda xp, r=r: random.integers(xp, key, shape, *r)
          for r in ((0, 10), (-5, 2**40), (-(2**62), 2**62))],
    ]  # fmt: skip
    with installed():
        xp = backend.cupy()
        found = everywhere(lambda: [draw(xp) for draw in draws])
    for mine, draw in zip(found, draws):
        theirs = draw(np)
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


@settings(max_examples=20)
@given(keys, st.integers(1, 300))
def test_normal(key, n):
    """The words of the CPU; log and cos may differ by their last digit."""
    with installed():
        xp = backend.cupy()
        names = ("float64", "float32", *HALF)
        found = everywhere(lambda: [random.normal(xp, key, (n,), dtype_of(d)) for d in names])
    exact = random.normal(np, key, (n,), np.float64)
    np.testing.assert_allclose(found[0], exact, 1e-14, 1e-15)
    for name, mine in zip(names, found):
        assert mine.dtype == dtype_of(name)
        rounding = {"float64": 1e-14, "float32": 6e-8, "float16": 1e-3, "bfloat16": 8e-3}[name]
        np.testing.assert_allclose(mine.astype(float), exact, rounding, rounding)


@pytest.mark.parametrize("entry, dtype, more", [
    ("words", "uint64", ()), ("normal_double", "float64", ()), ("integers", "int64", (99, -3)),
])  # fmt: skip
def test_a_base_in_memory(cuda, entry, dtype, more):
    """In a graph seed and block are what lies in memory, and the block counts from there."""
    xp, found = backend.cupy(), []
    base = xp.asarray(np.array([2**63 + 5, 70], np.uint64))
    for place in ((None, 2**63 + 5, 77), (base, 0, 7)):
        out = xp.empty(50, dtype)
        kernel("random", entry)((1,), (32,), out, *place, *more, 50)
        found.append(out.get())
    np.testing.assert_array_equal(*found)


# ------------------------------------------------------------------------------ dropout


@settings(max_examples=30)
@given(
    keys, st.integers(1, 90), st.sampled_from([1, 3, 8, 41]), st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from(["float32", *HALF]), st.integers(0, 7),
)  # fmt: skip
def test_dropout(key, n, m, p, dtype, shift):
    """Bit for bit what the reference multiplies by, inf * 0 and -0 included."""
    x = np.random.default_rng(n).standard_normal((n, m)).astype(dtype_of(dtype))
    x[0, 0] = np.inf
    op = tt.REGISTRY["dropout"]
    with installed():
        xp = backend.cupy()
        run = op.implementations["cupy"]
        (out,) = everywhere(lambda: [run(xp, shifted(x, shift), p=p, key=key)])
    with np.errstate(invalid="ignore"):
        expected = op.forward(np, x, p=p, key=key)
    both = np.isnan(out.astype(float)) & np.isnan(expected.astype(float))
    assert ((out.view(f"u{x.itemsize}") == expected.view(f"u{x.itemsize}")) | both).all()
    assert out.dtype == x.dtype


def test_backward_draws_the_same_mask(cuda, unread):
    found = []
    for device in ("cpu", cuda):
        tt.manual_seed(5)
        x = tt.ones(30, 41, device=device).requires_grad_()
        g = tt.ones(41, 30, device=device).T * 2  # not contiguous
        with launches() as names, unread():
            out = F.dropout(x, 0.3)
            out.backward(g)
        found.append([out.detach().cpu().numpy(), x.grad.cpu().numpy()])
    assert names == ["dropout", "dropout"]
    for mine, theirs in zip(*found):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(found[1][1], 2 * found[1][0])


def test_public_draws(cuda):
    """tt.rand and its like go through the kernels."""
    for draw, entry in (
        (lambda d: tt.rand(33, device=d), "uniform"),
        (lambda d: tt.randint(0, 9, (33,), device=d), "integers"),
        (lambda d: tt.randperm(33, device=d), "words"),
        (lambda d: tt.randn(33, device=d), "normal"),
    ):
        with launches() as names:
            tt.manual_seed(1)
            mine = draw(cuda).cpu().numpy()
        tt.manual_seed(1)
        assert names == [entry]
        np.testing.assert_allclose(mine, draw("cpu").numpy(), 1e-6)
