"""F.linear_cross_entropy against PyTorch's two functions, and what it says to mistakes."""

import numpy as np
import pytest
import torch

import tinytensor as tt
from tinytensor.errors import ArgumentError, DimError, DtypeError, ShapeError
from tinytensor.kernels.cpu import linear_cross_entropy as kernel
from tinytensor.nn import functional as F


@pytest.mark.parametrize(
    "dtype, digits", [("float32", 1e-5), ("float64", 1e-12), ("float16", 1e-2)]
)
@pytest.mark.parametrize("lead", [(), (2,), (2, 5)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("classes", [4, 2000])
def test_value_and_gradients(dtype, digits, lead, reduction, classes):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(dtype) for s in ((*lead, 3), (classes, 3), classes)]
    target = np.array(rng.integers(0, classes, lead))
    if lead:
        target[..., :1] = -1
    x, w, b = (tt.tensor(a, requires_grad=True) for a in arrays)
    ours = F.linear_cross_entropy(x, w, tt.tensor(target), b, ignore_index=-1, reduction=reduction)
    (2 * ours.sum()).backward()
    x2, w2, b2 = (torch.tensor(a, requires_grad=True) for a in arrays)
    theirs = torch.nn.functional.cross_entropy(
        (x2 @ w2.T + b2).reshape(-1, classes), torch.tensor(target).reshape(-1),
        ignore_index=-1, reduction=reduction,
    )  # fmt: skip
    (2 * theirs.sum()).backward()
    assert ours.shape == (lead if reduction == "none" else ()) and str(ours.dtype) == dtype
    np.testing.assert_allclose(
        ours.detach().numpy().ravel(), theirs.detach().ravel(), rtol=digits, atol=digits
    )
    for mine, its in ((x, x2), (w, w2), (b, b2)):
        np.testing.assert_allclose(mine.grad.numpy(), its.grad, rtol=20 * digits, atol=digits)


def test_chunks_of_rows_add_up(monkeypatch):
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(s).astype("float32") for s in ((70, 16), (1300, 16), 1300)]
    target = tt.tensor(rng.integers(0, 1300, 70))

    def gradients():
        leaves = [tt.tensor(a, requires_grad=True) for a in arrays]
        F.linear_cross_entropy(leaves[0], leaves[1], target, leaves[2]).backward()
        return [t.grad.numpy() for t in leaves]

    whole = gradients()
    monkeypatch.setattr(kernel, "ROOM", 1300 * 4 * 20)  # 20 rows: four chunks
    for a, b in zip(gradients(), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def test_logits_are_never_whole():
    """4000 rows of 5000 logits are 80 MB: neither the forward nor the gradients hold so much."""
    import tracemalloc

    x, w = tt.randn(4000, 8, requires_grad=True), tt.randn(5000, 8, requires_grad=True)
    target = tt.tensor(np.arange(4000))
    for room, call in ((20, tt.no_grad()), (70, tt.enable_grad())):
        tracemalloc.start()
        with call:
            loss = F.linear_cross_entropy(x, w, target)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < room * 2**20
    loss.backward()


def test_a_second_backward_gives_the_same_again():
    x, w = tt.randn(6, 4, requires_grad=True), tt.randn(9, 4, requires_grad=True)
    loss = F.linear_cross_entropy(x, w, tt.tensor(np.arange(6)))
    once = tt.autograd.grad(loss, (x, w), retain_graph=True)
    again = tt.autograd.grad(loss, (x, w))
    for a, b in zip(once, again):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_targets_that_all_do_not_count():
    x, w = tt.randn(2, 3, requires_grad=True), tt.randn(5, 3, requires_grad=True)
    loss = F.linear_cross_entropy(x, w, tt.tensor([-1, -1]), ignore_index=-1)
    loss.backward()
    assert np.isnan(loss.item()) and not x.grad.numpy().any()  # as in PyTorch


@pytest.mark.parametrize(
    "x, w, target, options, error, says",
    [
        ((2, 3), (5, 3), [1], {}, ShapeError, r"target \(1,\) must be \(2,\)"),
        ((2, 3), (5, 2), [1, 2], {}, ShapeError, "the last axis of input must be 2"),
        ((2, 3), (5, 3), [1, 5], {}, DimError, "target 5 is out of bounds: classes are 0 to 4"),
        ((2, 3), (5, 3), [1.0, 2.0], {}, DtypeError, "int64 class numbers"),
        ((2, 3), (5, 3), [1, 2], {"reduction": "all"}, ArgumentError, "reduction must be one of"),
    ],
)
def test_mistakes(x, w, target, options, error, says):
    with pytest.raises(error, match=says):
        F.linear_cross_entropy(tt.ones(x), tt.ones(w), tt.tensor(target), **options)
