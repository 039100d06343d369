"""memory_stats: what is held by whom."""

import numpy as np

import tinytensor as tt
from tinytensor import nn
from tinytensor.kernels.memory import keep_freed_memory, resident
from tinytensor.nn import functional as F


def growth(action):
    before = tt.memory_stats()
    kept = action()
    after = tt.memory_stats()
    return kept, {name: after[name] - before[name] for name in after}


def test_parameters_gradients_and_tensors():
    model, more = growth(lambda: nn.Linear(500, 300))
    assert (more["parameters"], more["gradients"], more["tensors"]) == (4 * 300 * 501, 0, 0)
    x, more = growth(lambda: tt.zeros(100, 500))
    assert (more["parameters"], more["tensors"]) == (0, 4 * 100 * 500)
    views, more = growth(lambda: [x[1:], x.reshape(-1), x.detach()])
    assert more["tensors"] == 0, "views are the same memory"
    _, more = growth(lambda: model(x).sum().backward())
    assert (more["gradients"], more["tape"]) == (4 * 300 * 501, 0)


def test_the_tape_holds_what_nothing_else_does():
    x = tt.randn(1000, requires_grad=True)
    loss, more = growth(lambda: (x.exp() * 2).sum())
    assert more["tape"] == 4000  # exp keeps its output
    assert more["tensors"] == 4
    _, more = growth(loss.backward)
    assert more["tape"] == -4000 and more["gradients"] == 4000


def test_the_gradients_made_ahead_are_the_tapes():
    x, w = tt.randn(50, 32, requires_grad=True), tt.randn(2000, 32, requires_grad=True)
    target = tt.tensor(np.arange(50))
    loss, more = growth(lambda: F.fused_linear_cross_entropy(x, w, target))
    assert 4 * 2050 * 32 <= more["tape"] < 4 * 2050 * 32 + 4000
    _, more = growth(loss.backward)
    assert more["tape"] < 0 and more["gradients"] == 4 * 2050 * 32


def test_summary_and_release():
    big = tt.zeros(3000, 1000) + 1
    assert tt.memory_stats()["peak"] == 0 or tt.memory_stats()["peak"] >= 12_000_000
    lines = tt.memory_summary().splitlines()
    assert [line.split()[0] for line in lines] == list(tt.memory_stats())
    del big
    before, _ = resident()
    tt.release_memory()  # "free" counts holes in the heap as well, whose pages are gone
    assert not keep_freed_memory() or before - resident()[0] > 10_000_000
