"""Module hooks: forward pre, forward, full backward, against PyTorch."""

import copy

import numpy as np
import pytest
import torch

import tinytensor as tt
from tinytensor import nn


def test_forward_hooks_see_and_replace():
    m = nn.Linear(2, 3)
    calls = []
    pre = m.register_forward_pre_hook(lambda module, args: calls.append((module, args)))
    double = m.register_forward_pre_hook(lambda module, args: args[0] * 2)
    post = m.register_forward_hook(lambda module, args, out: calls.append(out))
    x = tt.randn(4, 2)
    out = m(x)
    assert calls[0] == (m, (x,)) and calls[1] is out
    assert (out == m.forward(x * 2)).all()
    double.remove(), post.remove()
    replace = m.register_forward_hook(lambda module, args, out: out + 1)
    assert (m(x) == m.forward(x) + 1).all()
    replace.remove(), pre.remove()
    assert (m(x) == m.forward(x)).all() and len(calls) == 3
    pre.remove()  # twice is no harm


class Two(nn.Module):
    def forward(self, x, y, n):
        return x * y, x + n


class TorchTwo(torch.nn.Module):
    def forward(self, x, y, n):
        return x * y, x + n


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_backward_hook_is_pytorchs(needs):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, 3))
    results = []
    for lib, module in ((tt, Two()), (torch, TorchTwo())):
        seen = []
        module.register_full_backward_hook(lambda m, gi, go, seen=seen: seen.append((gi, go)))
        x, y = (lib.tensor(v, requires_grad=n) for v, n in zip(values, needs))
        a, b = module(x * 1, y * 1, 3.0)
        (a * 2 + b).sum().backward()
        results.append((seen, x.grad, y.grad))
    (ours, *our_grads), (theirs, *their_grads) = results
    assert len(ours) == len(theirs) == 1
    (grad_input, grad_output), (its_input, its_output) = ours[0], theirs[0]
    assert [g is not None for g in grad_input] == [*needs, False]
    assert [g is not None for g in grad_output] == [True, needs[0]]  # PyTorch's: zeros
    for mine, its in zip(
        [*grad_input, *grad_output, *our_grads], [*its_input, *its_output, *their_grads]
    ):
        if mine is not None:
            np.testing.assert_allclose(mine.numpy(), its.numpy())
    assert [g is None for g in our_grads] == [g is None for g in their_grads]


def test_a_backward_hook_replaces_grad_input():
    m = nn.Linear(2, 3)
    handle = m.register_full_backward_hook(lambda module, gi, go: (gi[0] * 10,))
    x = tt.randn(4, 2, requires_grad=True)
    m(x).sum().backward()
    changed, x.grad = x.grad, None
    weights = m.weight.grad.clone()
    handle.remove(), m.zero_grad()
    m(x).sum().backward()
    assert np.allclose(changed.array, 10 * x.grad.array)
    assert np.array_equal(weights.array, m.weight.grad.array)  # only the input's is replaced


def test_a_backward_hook_where_no_input_needs_a_gradient():
    m, seen = nn.Embedding(5, 2), []
    m.register_full_backward_hook(lambda module, gi, go: seen.append((gi, go)))
    m(tt.tensor([1, 2])).sum().backward()
    (gi, go), = seen
    assert gi == (None,) and (go[0] == 1).all() and m.weight.grad.array.sum() == 4
    with tt.no_grad():
        assert not m(tt.tensor([1])).requires_grad
    assert len(seen) == 1


def test_a_backward_hook_under_create_graph():
    m = nn.Tanh()
    m.register_full_backward_hook(lambda module, gi, go: (gi[0] * 3,))
    x = tt.tensor([0.5], dtype=tt.float64, requires_grad=True)
    (g,) = tt.autograd.grad(m(x).sum(), x, create_graph=True)
    (gg,) = tt.autograd.grad(g.sum(), x)
    t = np.tanh(0.5)
    np.testing.assert_allclose(g.detach().numpy(), [3 * (1 - t * t)])
    # the way back to x leads through m a second time, and so through its hook
    np.testing.assert_allclose(gg.numpy(), [3 * 3 * -2 * t * (1 - t * t)])


def test_writing_in_place_behind_a_gate_is_noticed():
    m = nn.Tanh()  # saves its output
    m.register_full_backward_hook(lambda module, gi, go: None)
    y = m(tt.ones(2, requires_grad=True))
    y.mul_(2)
    with pytest.raises(tt.errors.InPlaceError):
        y.sum().backward()


def test_hooks_of_containers_and_copies():
    m = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    order = []
    for name, module in m.named_modules():
        module.register_full_backward_hook(lambda *a, name=name: order.append(name))
    clone = copy.deepcopy(m)
    clone[1].register_forward_hook(lambda *a: order.append("only in the copy"))
    m(tt.randn(3, 2, requires_grad=True)).sum().backward()
    assert order == ["1", "0", ""]
    assert not nn.Module()._hooks
