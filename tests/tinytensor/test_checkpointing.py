"""checkpoint: same numbers, same masks, less memory; and complaints where f cannot be repeated."""

import gc
import tracemalloc

import numpy as np
import pytest

import tinytensor as tt
from tinytensor.errors import ArgumentError, GraphError, InPlaceError
from tinytensor.nn import functional as F

checkpoint = tt.autograd.checkpoint


def leaves(seed=0, n=4):
    tt.manual_seed(seed)
    return [tt.randn(n, n, dtype=tt.float64, requires_grad=True) for _ in range(3)]


def gradients(f, x, *parameters, **options):
    """The gradients of f(x) and f's value."""
    loss = f(x).sum()
    return [loss.item(), *(g.numpy() for g in tt.autograd.grad(loss, (x, *parameters), **options))]


def assert_same(a, b):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def test_gradients_reach_arguments_and_what_f_captures():
    x, w, v = leaves()

    def block(x):
        return ((x @ w).tanh() @ v).softmax(-1) * x

    plain = gradients(block, x, w, v)
    assert_same(plain, gradients(lambda x: checkpoint(block, x), x, w, v))
    # captured tensors that are not leaves, and .grad by backward()
    hidden = w * 2
    checkpoint(lambda x: (x @ hidden).exp().mean(), x).backward()
    via = w.grad.numpy().copy()
    w.grad = None
    (x @ (w * 2)).exp().mean().backward()
    np.testing.assert_array_equal(via, w.grad.numpy())


def test_f_runs_twice_and_only_when_needed():
    x, w, _ = leaves()
    calls = []

    def f(x):
        calls.append(tt.is_grad_enabled())
        return (x @ w).tanh()

    out = checkpoint(f, x)
    assert calls == [True]
    out.sum().backward()
    assert calls == [True, True]
    with tt.no_grad():
        checkpoint(f, x)
    assert calls == [True, True, False]


def test_dropout_draws_the_same_mask_and_leaves_the_stream_alone():
    x, w, _ = leaves()

    def f(x):
        return F.dropout((x @ w).tanh(), 0.5) * (tt.rand(4, 4, dtype=tt.float64) + x)

    tt.manual_seed(7)
    plain = gradients(f, x, w)
    after = tt.rand(3).tolist()
    tt.manual_seed(7)
    again = gradients(lambda x: checkpoint(f, x), x, w)
    assert_same(plain, again)
    assert tt.rand(3).tolist() == after
    tt.manual_seed(7)
    careless = gradients(lambda x: checkpoint(f, x, preserve_rng_state=False), x, w)
    assert not np.array_equal(careless[1], plain[1])


def test_several_outputs_other_arguments_and_keywords():
    x, w, _ = leaves()

    def f(x, power, *, names, scale=None):
        h = (x**power).tanh()
        return {"h": h * scale}, names, (h @ w).exp()

    h, names, e = checkpoint(f, x, 2, names=["a"], scale=w)
    assert names == ["a"]
    got = tt.autograd.grad((h["h"].sum() + e.sum()), (x, w))
    h, _, e = f(x, 2, names=None, scale=w)
    want = tt.autograd.grad((h["h"].sum() + e.sum()), (x, w))
    assert_same([g.numpy() for g in want], [g.numpy() for g in got])
    # one output alone: the node of the other is not visited
    h, _, e = checkpoint(f, x, 2, names=None, scale=w)
    del e
    np.testing.assert_array_equal(
        tt.autograd.grad(h["h"].sum(), x)[0].numpy(),
        tt.autograd.grad(f(x, 2, names=None, scale=w)[0]["h"].sum(), x)[0].numpy(),
    )


def test_split_inside():
    x, _, _ = leaves()

    def f(x):
        a, b = x.exp().split(2)
        return a * b.tanh()

    assert_same(gradients(f, x), gradients(lambda x: checkpoint(f, x), x))


def test_nested():
    x, w, v = leaves()
    calls = []

    def innermost(x):
        calls.append(3)
        return F.dropout((x @ v).exp().tanh(), 0.3)

    def inner(x, run):
        calls.append(2)
        return run(innermost, (x @ w).tanh()) * x

    def outer(x, run):
        calls.append(1)
        return run(inner, run(inner, x * 2, run), run).tanh()

    call = lambda f, *args: f(*args)  # noqa: E731
    tt.manual_seed(1)
    plain = gradients(lambda x: outer(x, call), x, w, v)
    tt.manual_seed(1)
    calls.clear()
    assert_same(plain, gradients(lambda x: checkpoint(outer, x, checkpoint), x, w, v))
    assert calls.count(1) == 2 and calls.count(2) == 2 * 3 and calls.count(3) == 2 * 4


def test_create_graph_and_retain_graph():
    x, w, _ = leaves()

    def second(f):
        (g,) = tt.autograd.grad(f(x).sum(), x, create_graph=True)
        return [h.numpy() for h in tt.autograd.grad((g * g).sum(), (x, w))]

    def f(x):
        return F.layer_norm((x @ w).tanh(), 4) * x

    assert_same(second(f), second(lambda x: checkpoint(f, x)))
    out = checkpoint(f, x).sum()
    first = tt.autograd.grad(out, x, retain_graph=True)[0].numpy()
    np.testing.assert_array_equal(first, tt.autograd.grad(out, x)[0].numpy())
    with pytest.raises(GraphError, match="second time"):
        tt.autograd.grad(out, x)


def test_a_backward_inside_of_f():
    x, w, _ = leaves()

    def penalty(x):
        h = (x @ w).tanh()
        (g,) = tt.autograd.grad(h.sum(), x, create_graph=True)
        return (g * g).sum() + h.sum()

    assert_same(gradients(penalty, x, w), gradients(lambda x: checkpoint(penalty, x), x, w))


def test_memory_is_really_saved():
    width, depth = 64, 8
    tt.manual_seed(0)
    x = tt.randn(1000, width, requires_grad=True)
    ws = [tt.randn(width, width, requires_grad=True) for _ in range(depth)]
    layer = 1000 * width * 4

    def block(x, w):
        return (x @ w).tanh().exp().tanh()  # keeps three layers of activations

    def kept(run):
        gc.collect()
        tracemalloc.start()
        h = x
        for w in ws:
            h = run(block, h, w)
        loss = h.sum()
        del h
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return loss, held

    plain, held = kept(lambda f, *args: f(*args))
    assert held > 3 * depth * layer
    light, less = kept(checkpoint)
    assert less < 1.05 * depth * layer  # each block keeps its argument alone
    assert plain.item() == light.item()

    def all_blocks(h, run):
        for w in ws:
            h = run(block, h, w)
        return h

    gc.collect()
    tracemalloc.start()
    loss = checkpoint(all_blocks, x, checkpoint).sum()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 0.2 * layer  # a checkpoint of checkpoints keeps x alone
    assert loss.item() == plain.item()


@pytest.mark.parametrize("what", ["argument", "captured"])
def test_writing_into_the_outside_is_refused(what):
    x, w, _ = leaves()
    h, k = x * 1, w * 1

    def f(h):
        y = h * k
        (h if what == "argument" else k).add_(1)
        return y.exp()

    with pytest.raises(InPlaceError, match="inside of f, wrote into a tensor made outside"):
        checkpoint(f, h)


def test_overwritten_between_forward_and_backward():
    x, w, _ = leaves()
    bias = tt.zeros(4, dtype=tt.float64, requires_grad=True)  # its value is not saved by any node
    loss = checkpoint(lambda x: (x @ w + bias).exp().sum(), x)
    with tt.no_grad():
        bias.add_(1)
    with pytest.raises(InPlaceError, match="overwritten by .*test_checkpointing.py"):
        loss.backward()


def test_in_place_inside_of_f_on_its_own_tensors():
    x, w, _ = leaves()

    def f(x):
        y = x @ w
        y.mul_(2)
        y.mul_(w)  # saves the y that it overwrites
        y[0] = 0
        return y.exp()

    assert_same(gradients(f, x, w), gradients(lambda x: checkpoint(f, x), x, w))

    def wrong(x):
        y = (x @ w).exp()
        y.add_(1)
        return y

    with pytest.raises(InPlaceError, match="exp .* saved its output"):
        checkpoint(wrong, x).sum().backward()


def test_f_must_do_the_same_again():
    x, _, _ = leaves()
    count = iter(range(10))
    loss = checkpoint(lambda x: x.exp().tanh() if next(count) == 0 else x.exp().sin(), x).sum()
    with pytest.raises(GraphError, match="tanh .* the first time, sin .* the second"):
        loss.backward()
    count = iter(range(10))
    loss = checkpoint(lambda x: x.exp().tanh() if next(count) == 0 else x.exp(), x).sum()
    with pytest.raises(GraphError, match="tanh .* the first time, nothing the second"):
        loss.backward()


def test_pytorchs_flags():
    x, _, _ = leaves()
    checkpoint(lambda x: x.exp(), x, use_reentrant=False).sum().backward()
    with pytest.raises(ArgumentError, match="use_reentrant"):
        checkpoint(lambda x: x, x, use_reentrant=True)
