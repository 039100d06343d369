"""Every CPU kernel against the reference it overrides: same values, same gradients, same Saved.

The references themselves are held against PyTorch elsewhere. Shapes reach from one row to several
blocks per thread.
"""

import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytensor as tt
from tinytensor.kernels import threads
from tinytensor.kernels.cpu.blocks import row_blocks
from tinytensor.ops import activations, cross_entropy, elementwise, fused, index, linalg, nn
from tinytensor.ops import norm_linear as norm_linear_ops
from tinytensor.random import Key

# How far rounding may move a sum of n terms of size 1: a few ulp times sqrt(n), generously.
TOLERANCE = {"float32": 2e-4, "float64": 1e-11}


def kernels():
    """Every op with a kernel for the CPU, by name."""
    ops = tt.REGISTRY.values()
    return {o.name for o in ops if o.implementations["numpy"] is not o.forward} | {
        o.name for o in ops for r in o.rules.values() if "numpy" in r.kernels
    }


@pytest.fixture(autouse=True)
def restored_threads():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


def numbers(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


def lce(rng, dtype, n, classes, level=0, best=0):
    """Some targets do not count; no bias for some n; and gradients that were not foreseen."""
    target = np.where(rng.random(n) < 0.2, -1, rng.integers(0, classes, n))
    bias = numbers(rng, dtype, classes) + np.dtype(dtype).type(level) if level or n % 2 else None
    if best:
        bias = np.zeros(classes, dtype)
        bias[0] = best
    return (
        fused._linear_cross_entropy,
        [numbers(rng, dtype, n, 24), numbers(rng, dtype, classes, 24), bias],
        {"target": target, "ignore_index": -1, "divisor": 7, "ahead": n % 3 > 0},
    )


def with_zeros(rng, dtype, *shape):
    """Some numbers are 0, where ReLU has its kink and SiLU's out / x is 0 / 0."""
    return numbers(rng, dtype, *shape) * (rng.random(shape) < 0.9).astype(dtype)


CASES = {
    "relu": lambda rng, d, n: (activations.relu, [with_zeros(rng, d, n, 37, 5)], {}),
    "silu": lambda rng, d, n: (activations.silu, [8 * with_zeros(rng, d, n, 37, 5)], {}),
    "gelu": lambda rng, d, n: (
        activations.gelu, [with_zeros(rng, d, n, 37)], {"approximate": "tanh"}
    ),
    "gelu, exact": lambda rng, d, n: (
        activations.gelu, [with_zeros(rng, d, n, 37, 5)], {"approximate": "none"}
    ),
    "softmax": lambda rng, d, n: (nn._softmax, [9 * numbers(rng, d, n, 3, 61)], {"dim": 2}),
    "softmax, not the last axis": lambda rng, d, n: (
        nn._softmax, [9 * numbers(rng, d, 3, n, 7)], {"dim": n % 2}
    ),
    "softmax, masked": lambda rng, d, n: (
        nn._softmax, [np.where(np.arange(300) > 7 * n, -np.inf, numbers(rng, d, n, 300))],
        {"dim": 1},
    ),
    "log_softmax": lambda rng, d, n: (
        nn._log_softmax, [99 * numbers(rng, d, n, 3, 61)], {"dim": 2}
    ),
    "cross_entropy": lambda rng, d, n: (
        cross_entropy._cross_entropy, [99 * numbers(rng, d, n, 65)],
        {"target": np.where(rng.random(n) < 0.2, -1, rng.integers(0, 65, n)), "ignore_index": -1},
    ),
    "dropout": lambda rng, d, n: (
        nn._dropout, [numbers(rng, d, n, 101)], {"p": n % 10 / 10, "key": Key(3, n)}
    ),
    "layer_norm": lambda rng, d, n: (
        nn._layer_norm, [numbers(rng, d, n, 3, 40), *numbers(rng, d, 2, 40)], {"eps": 1e-5}
    ),
    "rms_norm": lambda rng, d, n: (
        nn._rms_norm, [numbers(rng, d, n, 3, 40), numbers(rng, d, 40)], {"eps": 1e-5}
    ),
    "attention": lambda rng, d, n: (
        nn._attention,
        [numbers(rng, d, 2, n % 140 + 1, 3, 8).transpose(0, 2, 1, 3) for _ in range(3)],
        {"is_causal": bool(n % 2), "scale": 0.3},
    ),
    "attention, dropout": lambda rng, d, n: (
        nn._attention,
        [numbers(rng, d, 2, n % 140 + 1, 3, 8).transpose(0, 2, 1, 3) for _ in range(3)],
        {"is_causal": bool(n % 2), "scale": 0.3, "dropout_p": 0.4, "rng": Key(seed=7, block=n)},
    ),
    "linear": lambda rng, d, n: (
        nn._linear, [numbers(rng, d, n, 30), numbers(rng, d, 70, 30), numbers(rng, d, 70)], {}
    ),
    "gelu_mlp": lambda rng, d, n: (
        fused._gelu_mlp,
        [numbers(rng, d, n, 3, 20), numbers(rng, d, 70, 20) / 4, numbers(rng, d, 33, 70) / 8,
         *([numbers(rng, d, 70), numbers(rng, d, 33)] if n % 3 else [None, None])],
        {},
    ),
    "matmul": lambda rng, d, n: (
        linalg._matmul, [numbers(rng, d, 2, n, 30), numbers(rng, d, 30, 50)], {}
    ),
    "add": lambda rng, d, n: (elementwise.add, [*numbers(rng, d, 2, 30 * n, 37)], {"alpha": 1}),
    "add_layer_norm": lambda rng, d, n: (
        fused._add_layer_norm,
        [*numbers(rng, d, 2, n, 3, 40), *numbers(rng, d, 2, 40)],
        {"eps": 1e-5},
    ),
    "layer_norm_linear": lambda rng, d, n: (
        norm_linear_ops._layer_norm_linear,
        [numbers(rng, d, n, 3, 20), numbers(rng, d, 70, 20) / 4, 1 + numbers(rng, d, 20) / 4,
         *([numbers(rng, d, 20), numbers(rng, d, 70)] if n % 3 else [None, None])],
        {"eps": 1e-5},
    ),
    "layer_norm_mlp": lambda rng, d, n: (
        norm_linear_ops._layer_norm_mlp,
        [*numbers(rng, d, 2, n, 3, 20), numbers(rng, d, 70, 20) / 4, numbers(rng, d, 20, 70) / 8,
         1 + numbers(rng, d, 20) / 4, *([numbers(rng, d, k) for k in (20, 70, 20)] if n % 3
                                        else [None] * 3)],
        {"eps": 1e-5},
    ),
    "add_rms_norm": lambda rng, d, n: (
        fused._add_rms_norm, [*numbers(rng, d, 2, n, 3, 40), numbers(rng, d, 40)], {"eps": 1e-5}
    ),
    "linear_cross_entropy": lambda rng, d, n: lce(rng, d, n, 65),
    "linear_cross_entropy, many classes": lambda rng, d, n: lce(rng, d, min(n, 300), 1500),
    "linear_cross_entropy, large logits": lambda rng, d, n: lce(rng, d, n % 200 + 1, 1100, 90),
    "linear_cross_entropy, small logits": lambda rng, d, n: lce(rng, d, n % 200 + 1, 1100, -90),
    "linear_cross_entropy, losses of 100": lambda rng, d, n: lce(rng, d, n % 200 + 1, 1100, 0, 100),
    "packed_attention": lambda rng, d, n: (
        fused._packed_attention,
        [numbers(rng, d, 2, n % 140 + 1, 3 * 3 * 8)],
        {"n_head": 3, "is_causal": bool(n % 2), "scale": 0.3},
    ),
    "packed_attention, dropout": lambda rng, d, n: (
        fused._packed_attention,
        [numbers(rng, d, 2, n % 140 + 1, 3 * 3 * 40)],
        {"n_head": 3, "is_causal": True, "scale": 0.3, "dropout_p": 0.4, "rng": Key(7, n)},
    ),
    "add_rows": lambda rng, d, n: (
        index._add_rows, [numbers(rng, d, n, 5)], {"index": rng.integers(0, 9, n), "count": 11}
    ),
}  # fmt: skip


def run(op, arrays, static):
    """(out, gradients) of one call; float32 gradients come from a fixed dL/dout."""
    tensors = [tt.tensor(a, requires_grad=True) for a in arrays if a is not None]
    tensors = [
        t.transpose(1, 2).contiguous().transpose(1, 2) if t.ndim == 4 else t for t in tensors
    ]
    leaves = [t.detach().requires_grad_() for t in tensors]
    out = op(*leaves, *[None] * (len(arrays) - len(leaves)), **static)
    if isinstance(out, tuple):
        out = tt.stack([i * t for i, t in enumerate(out, 1)])
    g = np.random.default_rng(9).standard_normal(out.shape).astype(out.dtype)
    out.backward(tt.tensor(g))
    return out.detach().numpy(), [t.grad.numpy() for t in leaves]


class reference:
    """Inside, an op runs without its kernels."""

    def __init__(self, op):
        self.op = op.op

    def __enter__(self):
        self.implementations = dict(self.op.implementations)
        self.op.implementations["numpy"] = self.op.forward
        self.kernels = [(r, dict(r.kernels)) for r in self.op.rules.values()]
        for r, _ in self.kernels:
            r.kernels.clear()
        self.op.plans.clear()

    def __exit__(self, *exc):
        self.op.implementations.update(self.implementations)
        for r, k in self.kernels:
            r.kernels.update(k)
        self.op.plans.clear()


def test_every_kernel_has_a_case():
    assert kernels() == {name.partition(",")[0] for name in CASES}


@pytest.mark.parametrize("name", CASES)
@given(
    n=st.integers(1, 400) | st.sampled_from([1, 2, 4000]),
    dtype=st.sampled_from(["float32", "float64"]),
    count=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=20)
def test_kernels_equal_their_references(name, n, dtype, count, seed):
    op, arrays, static = CASES[name](np.random.default_rng(seed), dtype, n)
    threads.set_num_threads(count)
    out, grads = run(op, arrays, static)
    again, grads_again = run(op, arrays, static)
    with reference(op):
        expected, expected_grads = run(op, arrays, static)
    tolerance = TOLERANCE[dtype] * max(1, n / 400) ** 0.5
    assert out.dtype == expected.dtype == dtype
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(out, again)
    for ours, same, theirs in zip(grads, grads_again, expected_grads):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
        np.testing.assert_array_equal(ours, same)


@pytest.mark.parametrize(
    "name", ["layer_norm", "add_layer_norm", "rms_norm", "add_rms_norm", "gelu_mlp"]
)
def test_kernels_save_what_their_references_save(name):
    op, arrays, static = CASES[name](np.random.default_rng(0), "float64", 101)
    *_, saved = op.op.implementations["numpy"](np, *arrays, **static)
    *_, expected = op.op.forward(np, *arrays, **static)
    assert saved.keys() >= expected.keys()
    for key in expected:
        np.testing.assert_allclose(saved[key], expected[key], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1300, 1311), (7, 3)])
def test_gradients_that_come_together_are_added_in_place(count, shape):
    """Of one leaf with three consumers, and with those of a backward before."""
    threads.set_num_threads(count)
    rng = np.random.default_rng(count)
    w = tt.tensor(numbers(rng, "float32", *shape), requires_grad=True)
    factors = [tt.tensor(numbers(rng, "float32", *shape)) for _ in range(3)]
    for times in (1, 2):
        sum((w * f).sum() for f in factors).backward()
        expected = times * sum(f.numpy() for f in factors)
        np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-5, atol=1e-5)
    before = w.grad.array
    (w * factors[0].t().contiguous().t()).sum().backward()  # in another order of memory
    assert w.grad.array is before
    expected = expected + factors[0].numpy()
    np.testing.assert_allclose(before, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gelu_mlp", "layer_norm_linear", "layer_norm_mlp"])
@pytest.mark.parametrize("wanted", [(0,), (1, 3), (2, 4), (4,), (0, 1, 2)], ids=str)
def test_frozen_weights(name, wanted):
    op, arrays, static = CASES[name](np.random.default_rng(0), "float64", 100)

    def grads():
        tensors = [tt.tensor(a, requires_grad=i in wanted) for i, a in enumerate(arrays)]
        op(*tensors, **static).sum().backward()
        return [None if t.grad is None else t.grad.numpy() for t in tensors]

    ours = grads()
    with reference(op):
        expected = grads()
    for i, (g, e) in enumerate(zip(ours, expected)):
        assert (g is None) == (e is None) == (i not in wanted)
        assert g is None or np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-10) is None


def test_row_blocks_cover_all_rows_once():
    for rows, row_bytes in ((0, 4), (1, 4), (1000, 512), (7, 10**9)):
        blocks = row_blocks(rows, row_bytes)
        assert [i for s in blocks for i in range(rows)[s]] == list(range(rows))


# ------------------------------------------------------------------------------ threads


def test_parallel_runs_every_block_once_on_several_threads():
    threads.set_num_threads(3)
    seen, names, met = [0] * 50, set(), threading.Barrier(3, timeout=20)

    def block(i):
        seen[i] += 1
        names.add(threading.get_ident())
        if i < 3:
            met.wait()  # passes only if three threads are at work at once

    threads.parallel(block, range(50))
    assert seen == [1] * 50 and len(names) == 3


def test_an_error_in_a_block_reaches_the_caller_and_the_pool_lives_on():
    threads.set_num_threads(2)
    for bad in (0, 1):

        def block(i, bad=bad):
            if i == bad:
                raise ZeroDivisionError(f"block {i}")

        with pytest.raises(ZeroDivisionError, match=f"block {bad}"):
            threads.parallel(block, range(4))
    done = []
    threads.parallel(done.append, range(4))
    assert sorted(done) == [0, 1, 2, 3]


def test_parallel_inside_parallel_and_from_several_threads():
    threads.set_num_threads(2)
    done = []

    def outer(i):
        threads.parallel(lambda j: done.append((i, j)), range(3))

    callers = [threading.Thread(target=threads.parallel, args=(outer, range(4))) for _ in range(4)]
    for t in callers:
        t.start()
    for t in callers:
        t.join(20)
    assert sorted(done) == sorted([(i, j) for i in range(4) for j in range(3)] * 4)


def test_blas_is_held_to_one_thread_where_we_work_alone():
    threads.set_num_threads(2)
    depths = []
    threads.parallel(lambda block: depths.append(threads._held.depth), [0])
    assert depths == [1] and threads._held.depth == 0


def test_the_number_of_threads_is_checked():
    with pytest.raises(ValueError, match="at least 1"):
        threads.set_num_threads(0)


def test_cores_follow_the_affinity(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert threads.available_cores() == 1
        os.sched_setaffinity(0, before)
        assert threads.available_cores() <= len(before)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert threads.available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_memory_of_one_step_serves_the_next():
    """No page faults in steady state: freed arrays are handed out again."""
    resource = pytest.importorskip("resource")
    from tinytensor.kernels import memory

    if not memory.keep_freed_memory():
        pytest.skip("not glibc")
    x = tt.randn(600, 600)

    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    for _ in range(3):
        (x + x).tanh()
    before = faults()
    for _ in range(10):
        (x + x).tanh()
    assert faults() - before < 350  # one fresh array alone is 352 pages
