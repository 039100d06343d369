"""tape_memory against what NumPy really allocated."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytensor as tt
from tinytensor.errors import ArgumentError
from tinytensor.nn import functional as F

N = 32  # N * N float32 numbers are 4 KiB: above the small blocks that NumPy recycles
SMALL = 1024


def array_bytes():
    """Bytes in NumPy's arrays now, as tracemalloc counts them."""
    snapshot = tracemalloc.take_snapshot()
    only = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
    return sum(s.size for s in snapshot.filter_traces((only,)).traces)


def measured(f):
    """f's result, and the bytes of arrays that live on because of it."""
    f()  # plans are made, caches filled
    tracemalloc.start()
    try:
        before = array_bytes()
        result = f()
        return result, array_bytes() - before
    finally:
        tracemalloc.stop()


def check_exact(f):
    loss, held = measured(f)
    tape = tt.tape_memory(loss)
    assert abs(held - tape.owned) < SMALL, tape
    assert tape.total == tape.owned + tape.borrowed
    assert tape.owned == sum(r.bytes for r in tape.rows if r.owned and not r.shared)
    return tape


def parameter(*shape):
    return tt.randn(*shape, requires_grad=True)


def test_attention_block_is_exact():
    x, w, w2 = tt.randn(N, N), parameter(N, 3 * N), parameter(N, N)
    weight, target = tt.ones(N, requires_grad=True), tt.randint(0, N, (N,))

    def f():
        q, k, v = (F.layer_norm(x, N, weight) @ w).split(N, dim=1)
        a = F.softmax(q @ k.T, -1) @ v
        a = F.dropout(tt.where(a > 0, a, a * 0.1), 0.1)
        return F.cross_entropy(a @ w2, target)

    tape = check_exact(f)
    rows = {(r.op, r.argument, r.shape): r for r in tape.rows}
    assert not rows["layer_norm", "x", (N, N)].owned  # the batch is ours
    assert not rows["layer_norm", "weight", (N,)].owned  # a parameter
    assert not rows["cross_entropy", "target", (N,)].owned
    assert rows["where", "condition", (N, N)].owned  # a mask nobody else has
    assert rows["softmax", "out", (N, N)].bytes == 4 * N * N
    qkv = [r for r in tape.rows if r.bytes == 3 * 4 * N * N and r.owned]
    assert sorted(r.shared for r in qkv) == [False, True, True]  # q, k and v are one memory


def test_each_row_names_op_argument_and_line():
    x, y = parameter(N, N), parameter(N, N)
    loss = (x.exp() * y).sum()
    tape = tt.tape_memory(loss)
    found = {(r.op, r.argument): r for r in tape.rows}
    assert set(found) == {("exp", "out"), ("mul", "x"), ("mul", "y")}
    assert all(r.line.endswith(f"test_tape.py:{_line_of('x.exp() * y')}") for r in tape.rows)
    assert found["exp", "out"].owned and not found["exp", "out"].shared
    assert found["mul", "x"].shared  # the output of exp again
    assert not found["mul", "y"].owned
    assert (tape.owned, tape.borrowed) == (4 * N * N, 4 * N * N)
    assert tape.by("op") == {"exp": 4 * N * N} and tape.by("op", "argument") == {
        ("exp", "out"): 4 * N * N
    }
    text = repr(tape)
    assert "2 ops" not in text and "3 ops keep 4.0 KiB for backward" in text
    assert "not the tape's" in text and "counted above" in text and "exp" in text


def _line_of(text):
    with open(__file__) as source:
        return next(i for i, line in enumerate(source, 1) if text in line)


def test_x_times_x_counts_once():
    x = parameter(N, N)
    h = x * 2
    tape = tt.tape_memory((h * h).sum())
    assert tape.owned == 4 * N * N
    assert [r.shared for r in tape.rows if r.op == "mul" and r.shape == (N, N)].count(False) == 1


def test_a_view_keeps_all_of_its_memory():
    x = parameter(N, N)

    def f():
        row = (x * 2)[0]
        return row.exp().sum() + (row * row).sum()

    tape = check_exact(f)
    assert any(r.bytes == 4 * N * N and r.shape == (N,) for r in tape.rows)


def test_expanded_memory_is_counted_as_it_is():
    x = parameter(1, N * N)
    check_exact(lambda: ((x * 2).expand(100, N * N) * x).sum())


def test_constants_count_if_nobody_else_holds_them():
    x, held = parameter(N, N), tt.randn(N, N)
    assert check_exact(lambda: (x * held).sum()).owned == 0
    assert check_exact(lambda: (x * tt.ones(N, N)).sum()).owned == 4 * N * N
    assert check_exact(lambda: (x * held[:, :]).sum()).owned == 0  # a view of what we hold
    assert check_exact(lambda: (x * tt.ones(N, 2 * N)[:, :N]).sum()).owned == 8 * N * N


def test_index_arrays_are_memory_too():
    table, index = parameter(N, N), tt.randint(0, N, (4 * N,))
    assert check_exact(lambda: F.embedding(index, table).sum()).owned == 0
    assert check_exact(lambda: F.embedding(index + 0, table).sum()).owned == 8 * 4 * N


def test_checkpoint_keeps_its_arguments():
    x, w = parameter(N, N), parameter(N, N)

    def block(h):
        return (h @ w).tanh().exp()

    tape = check_exact(lambda: tt.autograd.checkpoint(block, block(x) * 2).sum())
    rows = [r for r in tape.rows if r.op == "checkpoint"]
    assert [(r.argument, r.bytes) for r in rows] == [("args[0]", 4 * N * N)]
    assert not any(r.op == "tanh" and r.line == rows[0].line for r in tape.rows)


def test_freed_and_retained():
    x = parameter(N, N)
    loss = x.exp().sum()
    loss.backward(retain_graph=True)
    assert tt.tape_memory(loss).owned == 4 * N * N
    loss.backward()
    assert tt.tape_memory(loss).owned == 0


def test_several_losses_share_a_graph():
    x = parameter(N, N)
    h = x.exp()
    a, b = h.sum(), (h * h).sum()
    assert tt.tape_memory(a, b).owned == 4 * N * N == tt.tape_memory(b).owned
    assert tt.tape_memory(tt.zeros(1)).total == 0
    with pytest.raises(ArgumentError, match="expected a Tensor"):
        tt.tape_memory(1.0)


STEPS = {
    "exp": lambda h, p: (h * 0.01).exp(),
    "tanh": lambda h, p: h.tanh(),
    "matmul": lambda h, p: h @ p,
    "mul": lambda h, p: h * p,
    "square": lambda h, p: h * h,
    "transpose": lambda h, p: h.T,
    "half": lambda h, p: tt.cat([h[: N // 2], h[N // 2 :]]),
    "mask": lambda h, p: tt.where(h > 0, h, 0.0),
    "softmax": lambda h, p: F.softmax(h, -1),
    "norm": lambda h, p: F.layer_norm(h, N, p[0]),
    "reshape": lambda h, p: h.reshape(-1, N),
    "write": lambda h, p: _write(h),
    "permute": lambda h, p: h[tt.arange(N).flip(0)],
}


def _write(h):
    h = h * 1
    h[0] = 0
    return h


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=8))
def test_any_program_is_exact(program):
    x, p = parameter(N, N), parameter(N, N)

    def f():
        h = x
        for step in program:
            h = STEPS[step](h, p)
        return h.sum()

    check_exact(f)
