"""kernels/cuda/embedding: rows, their order, sums of rows, in every schedule; then the ops."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinytensor as tt
import tinytensor.nn.functional as F
from tinytensor import backend
from tinytensor.kernels.cuda import embedding as kernels

from .launches import launches
from .schedules import dtype_of, everywhere, shifted
from .standin import installed

dtypes = st.sampled_from(["float32", "float16", "bfloat16"])
widths = st.sampled_from([1, 3, 8, 16, 40, 264])


@settings(max_examples=25)
@given(st.integers(0, 70), st.integers(1, 20), widths, dtypes, dtypes, st.integers(0, 7))
def test_rows_are_taken(n, rows, width, dtype, of_table, shift):
    """As they are; float32 to half precision, rounded; NaN where there is no such row."""
    rng = np.random.default_rng(n)
    of_table = of_table if of_table == "float32" else dtype
    table = rng.standard_normal((rows, width)).astype(dtype_of(of_table))
    index = rng.integers(-3, rows + 2, n)
    with installed():
        xp = backend.cupy()
        run = lambda: [kernels.take_rows(  # noqa: E731
            xp, shifted(table, shift), xp.asarray(index), dtype_of(dtype))]  # fmt: skip
        (out,) = everywhere(run)
    there = (index >= 0) & (index < rows)
    assert out.dtype == dtype_of(dtype) and out.shape == (n, width)
    assert np.isnan(out[~there].astype(float)).all()
    assert (out[there] == table[index[there]].astype(dtype_of(dtype))).all()


counts = st.sampled_from([1, 2, 65, 255, 256, 257, 1000, 70_000])


@settings(max_examples=25)
@given(st.integers(1, 700), counts, widths, dtypes, st.integers(0, 7), st.integers(1, 6))
@example(1500, 70_000, 8, "bfloat16", 0, 1)  # three passes, and rows of many pieces
@example(64, 5, 8, "float32", 0, 1)  # two whole pieces of one row
@example(65, 5, 8, "float32", 0, 1)
def test_rows_are_added_up(n, count, width, dtype, shift, kinds):
    """Small integers, whose sums are exact, of few different rows, some of which there are not."""
    rng = np.random.default_rng(n + kinds)
    few = rng.integers(-3, count + 3, kinds)
    index = rng.choice(np.append(few, few[0] + 2**32), n)
    x = rng.integers(-8, 8, (n, width)).astype(dtype_of(dtype))
    skip = int(few[-1])
    with installed():
        xp = backend.cupy()
        run = lambda: [kernels.add_rows(  # noqa: E731
            xp, shifted(x, shift), xp.asarray(index), count, skip)]  # fmt: skip
        (out,) = everywhere(run)
    expected = np.zeros((count, width), np.float32)
    kept = (index >= 0) & (index < count) & (index != skip)
    np.add.at(expected, index[kept], x[kept].astype(np.float32))
    np.testing.assert_array_equal(out, expected)


def test_sums_have_an_order(cuda):
    """Floats: within float32's rounding of float64's sums, wherever the places stand."""
    rng = np.random.default_rng(0)
    index, x = rng.zipf(1.3, 3000) % 50, rng.standard_normal((3000, 24)).astype(np.float32)
    xp = backend.cupy()
    (out,) = everywhere(lambda: [kernels.add_rows(xp, xp.asarray(x), xp.asarray(index), 50)])
    exact = np.zeros((50, 24))
    np.add.at(exact, index, x.astype(np.float64))
    np.testing.assert_allclose(out, exact, 0, 3e-5)


# ------------------------------------------------------------------------------ as ops


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("padding_idx", [None, 3])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_embedding(cuda, unread, dtype, padding_idx, index):
    rng = np.random.default_rng(1)
    weight = rng.integers(-9, 9, (300, 16)).astype(dtype)
    ids, factor = rng.zipf(1.3, (4, 60)) % 300, rng.integers(-2, 3, (4, 60, 16)).astype(dtype)
    found = []
    for device in ("cpu", cuda):
        w = tt.tensor(weight, device=device, requires_grad=True)
        i, f = tt.tensor(ids.astype(index), device=device), tt.tensor(factor, device=device)
        with launches() as names, unread():
            out = F.embedding(i, w, padding_idx)
            out.backward(f)
        found.append([out.detach().cpu().numpy(), w.grad.cpu().numpy()])
    sort = ["sort_count", "sort_scan", "sort_place"]
    assert names == ["take_rows", *sort, *sort, "sum_pieces", "sum_ends"]
    for mine, theirs in zip(*found):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype == dtype


def test_embedding_in_autocast(cuda, unread):
    """float32 rows come out rounded, by one kernel; their gradient is float32, exact to it."""
    rng = np.random.default_rng(2)
    w = tt.tensor(rng.standard_normal((9, 8)).astype("float32"), device=cuda, requires_grad=True)
    index = np.arange(1000) % 3
    ids = tt.tensor(index, device=cuda)
    with launches() as names, unread():
        with tt.autocast(cuda, dtype=tt.bfloat16):
            out = F.embedding(ids, w)
        g = (ids % 5 + 1).to(tt.bfloat16).unsqueeze(1).expand(1000, 8).contiguous()
        out.backward(g)
    assert out.dtype == tt.bfloat16 and w.grad.dtype == tt.float32
    assert names[0] == "take_float_rows" and names[-1] == "sum_ends" and "narrow" not in names
    rounded = w.detach().cpu().numpy()[index].astype(dtype_of("bfloat16"))
    assert (out.detach().cpu().numpy() == rounded).all()
    sums = np.bincount(index, index % 5 + 1, 9)
    np.testing.assert_array_equal(w.grad.cpu().numpy(), np.repeat(sums[:, None], 8, 1))


def test_the_gradient_of_rows_by_number(cuda):
    """x[index], numbers from the end too: the same sums, and no atomics."""
    index = np.array([[0, -1], [5, 0], [0, 0]])
    grads = []
    for device in ("cpu", cuda):
        x = tt.arange(36.0, device=device).reshape(6, 2, 3).detach().requires_grad_()
        with launches() as names:
            y = x[tt.tensor(index, device=device)]
            y.backward(y.detach())
        grads.append(x.grad.cpu().numpy())
    assert "sum_pieces" in names
    np.testing.assert_array_equal(*grads)


def test_no_rows_at_all(cuda):
    w = tt.ones(3, 4, device=cuda, requires_grad=True)
    F.embedding(tt.zeros(0, dtype=tt.int64, device=cuda), w).sum().backward()
    assert (w.grad == 0).all().item()
