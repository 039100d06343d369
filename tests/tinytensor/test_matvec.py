"""Products of a few rows, and attention of one query: paths of their own on the CPU."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytensor as tt
from tinytensor.kernels import matvec
from tinytensor.nn import functional as F


@pytest.fixture
def two_threads():
    before = tt.get_num_threads()
    tt.set_num_threads(2)
    yield
    tt.set_num_threads(before)


def random(rng, *shape, dtype="float32"):
    return rng.standard_normal(shape).astype(dtype)


@given(st.integers(1, 20), st.integers(1, 3000), st.sampled_from(["float32", "float64"]))
@settings(max_examples=40)
def test_few_rows_are_a_product(rows, n, dtype):
    before = tt.get_num_threads()
    tt.set_num_threads(2)
    try:
        rng = np.random.default_rng(rows * n)
        a, w, b = (random(rng, *s, dtype=dtype) for s in ((rows, 150), (n, 150), (n,)))
        out = F.linear(*map(tt.tensor, (a, w, b))).numpy()
        exact = a.astype(np.longdouble) @ w.T.astype(np.longdouble) + b
        scale = np.abs(a).astype(np.longdouble) @ np.abs(w.T) + np.abs(b)
        assert (np.abs(out - exact) <= 200 * np.finfo(dtype).eps * scale).all()
    finally:
        tt.set_num_threads(before)


@pytest.mark.parametrize("n, k", [(50257, 96), (2304, 768), (1537, 384), (1001, 1000), (70, 9000)])
def test_a_crowd_changes_no_bit(two_threads, monkeypatch, n, k):
    """One thread or BLAS's own, whichever the moment decides: the text may not depend on it."""
    rng = np.random.default_rng(0)
    a, w = random(rng, 1, k), random(rng, n, k)
    results = []
    for until in (0.0, float("inf")):
        monkeypatch.setattr(matvec._Crowd, "until", until)
        results.append(F.linear(tt.tensor(a), tt.tensor(w)).numpy())
    np.testing.assert_array_equal(*results)


def test_slow_products_are_a_crowd(two_threads, monkeypatch):
    """By a clock of our own: one thread takes over for a moment, twice as long each time that
    BLAS is slow again, and a moment is enough once it has been fast for a while."""
    now, takes = [0.0], [1.0]

    def clock():
        now[0] += takes[0] / 2
        return now[0]

    monkeypatch.setattr(matvec, "perf_counter", clock)
    for name, value in (("until", 0.0), ("pause", matvec.MOMENT)):
        monkeypatch.setattr(matvec._Crowd, name, value)
    a, w = tt.ones(1, 1000), tt.ones(1000, 1000)
    pauses = []
    for _ in range(10):
        F.linear(a, w)  # half a second
        pauses.append(matvec._Crowd.until - now[0])
        before = matvec._Crowd.until
        now[0] = before - 1.0
        F.linear(a, w)  # not tried: this thread alone, whatever the time it takes
        assert matvec._Crowd.until == before
        now[0] = before
    expected = [min(matvec.MOMENT * 2**i, matvec.PAUSE) for i in range(10)]
    np.testing.assert_allclose(pauses, expected, rtol=1e-9)
    takes[0] = 0.0
    for _ in range(60):
        F.linear(a, w)
    assert matvec._Crowd.until == before and matvec._Crowd.pause == matvec.MOMENT


@pytest.mark.parametrize("S", [1, 7, 700])
def test_one_query_is_attention(S):
    rng = np.random.default_rng(S)
    q, k, v = (random(rng, 2, 3, n, 300) * scale for n, scale in ((1, 1), (S, 9), (S, 1)))
    tensors = [tt.tensor(a, requires_grad=True) for a in (q, k, v)]
    out = F.scaled_dot_product_attention(*tensors)
    scores = q.astype(float) @ k.astype(float).swapaxes(2, 3) / np.sqrt(300)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    np.testing.assert_allclose(out.detach().numpy(), p / p.sum(-1, keepdims=True) @ v, atol=2e-5)
    out.sum().backward()  # what it saved is what backward needs
    double = [tt.tensor(a.astype(float), requires_grad=True) for a in (q, k, v)]
    weights = (double[0] @ double[1].transpose(2, 3) / np.sqrt(300)).softmax(-1)
    (weights @ double[2]).sum().backward()
    for ours, theirs in zip(tensors, double):
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), atol=2e-3)


def test_cached_attention_is_attention_token_by_token():
    rng = np.random.default_rng(0)
    B, T, n_head, hs = 2, 5, 3, 4
    qkv = tt.tensor(random(rng, B, T, 3 * n_head * hs))
    keys, values = tt.zeros(B, n_head, T, hs), tt.zeros(B, n_head, T, hs)
    whole = F.packed_attention(qkv, n_head, is_causal=True).numpy()
    for t in range(T):
        out = F.cached_attention(qkv[:, t : t + 1], n_head, keys, values, t)
        np.testing.assert_allclose(out.numpy(), whole[:, t : t + 1], atol=1e-6)
    _, k, v = qkv.view(B, T, 3, n_head, hs).permute(2, 0, 3, 1, 4).unbind(0)
    np.testing.assert_array_equal(keys.numpy(), k.numpy())
    np.testing.assert_array_equal(values.numpy(), v.numpy())
    assert keys._version[0] == values._version[0] == T  # what was saved of them is out of date


def test_cached_attention_says_what_does_not_fit():
    qkv, keys = tt.randn(2, 1, 36), tt.zeros(2, 3, 5, 4)
    with pytest.raises(tt.errors.ArgumentError, match="slot 5 of 5: the cache is full"):
        F.cached_attention(qkv, 3, keys, keys.clone(), 5)
    with pytest.raises(tt.errors.ShapeError, match=r"values \(2, 3, 6, 4\)"):
        F.cached_attention(qkv, 3, keys, tt.zeros(2, 3, 6, 4), 0)
    with pytest.raises(tt.errors.ShapeError, match=r"qkv \(2, 2, 36\)"):
        F.cached_attention(tt.randn(2, 2, 36), 3, keys, keys.clone(), 0)
    with pytest.raises(tt.errors.GraphError, match=r"no_grad\(\)"):
        F.cached_attention(qkv.requires_grad_(), 3, keys, keys.clone(), 0)
