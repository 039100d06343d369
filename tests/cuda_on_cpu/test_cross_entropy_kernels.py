"""kernels/cuda/cross_entropy: against float64, in every schedule; then as the ops that use it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytensor as tt
import tinytensor.nn.functional as F
from tinytensor import backend
from tinytensor.autograd import wrap
from tinytensor.kernels.cuda import cross_entropy as kernels
from tinytensor.ops.fused import _linear_cross_entropy

from .launches import launches
from .schedules import dtype_of, everywhere, shifted

# of the gradient, at most 1: its rounding to the dtype; e^x of float32 beside that
TOLERANCE = {"float32": 2e-6, "float16": 6e-4, "bfloat16": 4e-3}
IGNORED = -100


def by_definition(logits, target):
    """losses and d_losses/d_logits of each row, in float64"""
    x = logits.astype(np.float64)
    kept = target != IGNORED
    top = x.max(1, keepdims=True)
    e = np.exp(x - top)
    lse = np.log(e.sum(1)) + top[:, 0]
    rows, own = np.arange(len(x)), np.where(kept, target, 0)
    gradient = e / e.sum(1, keepdims=True)
    gradient[rows, own] -= 1
    return np.where(kept, lse - x[rows, own], 0), gradient * kept[:, None]


def of_kernels(logits, target, shift=0):
    """losses and gradients by the kernel that writes in place, and by the two that do not"""
    xp = backend.cupy()

    def run():
        n = len(logits)
        losses, lse = xp.empty((2, n), np.float32)
        x, t = shifted(logits, shift), xp.asarray(target)
        kernels._losses(losses, lse, x, t, IGNORED, 1.0)
        out = wrap(shifted(logits, shift), None, True)
        apart = kernels.cross_entropy._cross_entropy(out, xp.asarray(target), IGNORED)
        apart.sum().backward()
        return losses, x, apart.array, out.grad.array

    return [a.astype(np.float64) for a in everywhere(run)]


@settings(max_examples=25)
@given(
    st.integers(1, 9), st.sampled_from([1, 2, 7, 32, 65, 513, 1024, 1025, 2047]),
    st.sampled_from([*TOLERANCE]), st.integers(0, 7), st.sampled_from([0.1, 3.0, 40.0]),
    st.integers(0, 99),
)  # fmt: skip
def test_rows(n, classes, dtype, shift, scale, seed):
    from .standin import installed

    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((n, classes)) * scale).astype(dtype_of(dtype))
    target = rng.integers(0, classes, n)
    target[rng.random(n) < 0.2] = IGNORED
    with installed():
        found = of_kernels(logits, target, shift)
    losses, gradient = by_definition(logits, target)
    for mine in (found[0], found[2]):
        np.testing.assert_allclose(mine, losses, 2e-6, 4e-6 * max(1, scale))
    rounded = 2.0**-23 * np.abs(logits.astype(np.float64)).max()  # lse, which the second is from
    for mine, more in ((found[1], 0), (found[3], rounded)):
        np.testing.assert_allclose(mine, gradient, 0, TOLERANCE[dtype] + more)
        np.testing.assert_array_equal(mine[target == IGNORED], 0)


@pytest.mark.parametrize("dtype", [*TOLERANCE])
def test_a_row_of_gpt_2(cuda, dtype):
    """50,257 classes: no row but the first begins at 16 bytes."""
    logits = np.random.default_rng(0).standard_normal((2, 50257)).astype(dtype_of(dtype)) * 4
    target = np.array([50256, 7])
    found = of_kernels(logits.astype(dtype_of(dtype)), target)
    losses, gradient = by_definition(logits, target)
    np.testing.assert_allclose(found[0], losses, 2e-6)
    np.testing.assert_allclose(found[1], gradient, 0, TOLERANCE[dtype])
    np.testing.assert_allclose(found[3], gradient, 0, TOLERANCE[dtype])


@pytest.mark.parametrize("classes", [40, 3000])
def test_what_is_not_finite(cuda, classes):
    """Huge logits are exact, -inf has probability 0, and what has no loss is NaN."""
    rows = np.zeros((8, classes), np.float32)
    rows[0, 3] = 1e30
    rows[1, 3] = -1e30
    rows[2, :] = 3e38
    rows[3, : classes // 2] = -np.inf  # for some threads, all there is
    rows[4, :] = -np.inf
    rows[5, 5] = np.inf
    rows[6, 5] = np.nan
    target = np.array([3, 3, 0, classes - 1, 0, 5, 0, 0])
    losses, gradient, apart, d_apart = of_kernels(rows, target)
    half = np.log(classes - classes // 2)
    np.testing.assert_allclose(losses[:4], [0, 1e30, np.log(classes), half], 1e-6)
    assert np.isnan(losses[4:7]).all() and np.isnan(apart[4:7]).all()
    assert np.isfinite(gradient[[0, 1, 2, 3, 7]]).all() and gradient[0].any() == 0
    np.testing.assert_array_equal(gradient[3, : classes // 2], 0)
    np.testing.assert_allclose(gradient[2, 1:], 1 / classes, 1e-5)
    np.testing.assert_allclose(losses[7], np.log(classes), 1e-6)


@pytest.mark.parametrize("bad", [-1, -101, 40, 2**40])
@pytest.mark.parametrize("classes", [40, 3000])
def test_a_target_of_no_class_is_nan(cuda, bad, classes):
    """The CPU names it; a GPU would have to be waited for. Nothing out of bounds is read."""
    bad = classes if bad == 40 else bad
    logits, target = np.ones((2, classes), np.float32), np.array([bad, 1])
    losses, gradient, apart, d_apart = of_kernels(logits, target)
    for mine in (losses, apart, gradient, d_apart):
        assert np.isnan(mine[0]).all() and np.isfinite(mine[1]).all()


# ------------------------------------------------------------------------------ as ops


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_cross_entropy(cuda, unread, reduction, index):
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((6, 50)).astype("float32")
    target = rng.integers(0, 25, 6).astype(index)
    target[2] = -1
    found = []
    for device in ("cpu", cuda):
        x = tt.tensor(logits, device=device, requires_grad=True)
        t = tt.tensor(target, device=device)
        with launches() as names, unread():
            columns = x[:, ::2]  # to be copied
            loss = F.cross_entropy(columns, t, ignore_index=-1, reduction=reduction)
            (loss * 2).sum().backward()
        found.append((loss.detach().cpu().numpy(), x.grad.cpu().numpy()))
    assert names == ["cross_entropy_by_warp", "cross_entropy_backward_by_warp"]
    for mine, theirs in zip(*found):
        np.testing.assert_allclose(mine, theirs, 1e-5, 1e-6)


def head(dtype, device="cpu", parameters=None, n=23, C=16, V=70, bias=True):
    """x (n, C) and the parameters of a model's last layer, leaves; targets, some ignored"""
    rng = np.random.default_rng(3)
    x, w, b = rng.standard_normal((n, C)), rng.standard_normal((V, C)), rng.standard_normal(V)
    target = rng.integers(0, V, n)
    target[::7] = -1
    made = [(x, dtype), (w, parameters or dtype), (b, parameters or dtype)]
    leaves = [
        tt.tensor(a.astype(dtype_of(dtype)).astype(dtype_of(d)), device=device, requires_grad=True)
        for a, d in made[: 3 if bias else 2]
    ]
    return leaves, tt.tensor(target, device=device)


def loss_of(leaves, target, reduction="mean"):
    x, w, *b = leaves
    return F.fused_linear_cross_entropy(
        x, w, target, linear_bias=b[0] if b else None, ignore_index=-1, reduction=reduction
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("room", [2**30, 70 * 4 * 5])  # all rows at once; 5 of float32
@pytest.mark.parametrize("dtype", [*TOLERANCE])
def test_linear_cross_entropy(cuda, unread, monkeypatch, dtype, room, reduction):
    """Against float64; chunks make no difference but rounding, no array is larger than a chunk's,
    and nobody waits."""
    monkeypatch.setattr(kernels, "ROOM", room)
    leaves, target = head(dtype, cuda)
    with launches() as names, unread():
        loss = loss_of(leaves, target, reduction)
        (loss * 3).backward()
    rows = 23 if room > 10**6 else 5 if dtype == "float32" else 10
    chunks = -(-23 // rows)
    assert names.count("cross_entropy_in_place_by_warp") == chunks and "mean_loss" in names
    assert names.count("scale_gradient") == 3
    exact, t = head(dtype)
    exact = [tt.tensor(a.array.astype("float64"), requires_grad=True) for a in exact]
    expected = loss_of(exact, t, reduction)
    (expected * 3).backward()
    np.testing.assert_allclose(loss.item(), expected.item(), 1e-6 if dtype == "float32" else 2e-2)
    for mine, theirs in zip(leaves, exact):
        assert mine.grad.dtype == mine.dtype
        largest = np.abs(theirs.grad.numpy()).max()
        np.testing.assert_allclose(
            mine.grad.cpu().numpy().astype("float64"), theirs.grad.numpy(), 0,
            largest * 4 * TOLERANCE[dtype],
        )  # fmt: skip


def test_parameters_may_be_float32(cuda):
    """Beside x in half precision; their gradients are, too."""
    leaves, target = head("bfloat16", cuda, "float32")
    loss = _linear_cross_entropy(*leaves, target.array, -1, 1, True)
    loss.backward()
    assert [a.grad.dtype.name for a in leaves] == ["bfloat16", "float32", "float32"]


def test_small_probabilities_of_float16(cuda):
    """1 / 50,304 is below float16's normal numbers: its gradient has all their digits."""
    V = 50304
    x, target = tt.ones(1, 1, dtype=tt.float16, device=cuda), tt.zeros(1, device=cuda).long()
    w = tt.zeros(V, 1, device=cuda, requires_grad=True)
    _linear_cross_entropy(x, w, None, target.array, -1, 1, True).backward()
    np.testing.assert_allclose(w.grad.cpu().numpy()[1:], 1 / V, 2**-11)


def test_logits_are_never_whole(cuda, monkeypatch):
    """Of 50,304 classes a chunk is all there is, in half precision."""
    monkeypatch.setattr(kernels, "ROOM", 2**20)
    xp, sizes = backend.cupy(), []
    empty = xp.empty
    monkeypatch.setattr(xp, "empty", lambda s, d: sizes.append(made := empty(s, d)) or made)
    leaves, target = head("float16", cuda, n=20, C=2, V=50304, bias=False)
    loss_of(leaves, target % 50304).backward()
    assert max(a.nbytes for a in sizes) <= 2**20


def test_again_and_without_gradients(cuda):
    leaves, target = head("float32", cuda)
    loss = loss_of(leaves, target)
    loss.backward(retain_graph=True)
    first = [a.grad.clone() for a in leaves]
    for a in leaves:
        a.grad = None
    loss.backward()  # they are made again
    for a, g in zip(leaves, first):
        assert (a.grad == g).all().item()
    with tt.no_grad(), launches() as names:
        assert loss_of(leaves, target).item() == loss.item()
    assert "cross_entropy_by_warp" in names and "cross_entropy_in_place_by_warp" not in names


def test_nothing_counts(cuda):
    """The mean of no loss is NaN, as in PyTorch; the sum is 0, and so are its gradients."""
    leaves, target = head("float32", cuda)
    none = tt.full_like(target, -1)
    assert np.isnan(loss_of(leaves, none).item())
    loss = loss_of(leaves, none, "sum")
    loss.backward()
    assert loss.item() == 0 and all((a.grad == 0).all().item() for a in leaves)
    empty = [leaves[0][:0], *leaves[1:]]
    assert np.isnan(loss_of(empty, none[:0]).item())
