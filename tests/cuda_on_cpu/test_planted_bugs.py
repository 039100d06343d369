"""A mistake in a real kernel's source, and the engine's own comparison of GPU and CPU notices it.

What the shim finds, and says, is tested with small kernels in test_shim.py; flash attention's own
mistakes are planted in test_attention_kernels.py.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinytensor as tt
import tinytensor.nn.functional as F
from tinytensor.kernels.cuda import launch

from . import shim
from .launches import launches

WIDE = np.random.default_rng(0).standard_normal((9, 2001)).astype(np.float32)
TALL = np.random.default_rng(1).standard_normal((3000, 33)).astype(np.float32)
ROWS = np.random.default_rng(2).integers(0, 50, 4000)
CLASSES = np.random.default_rng(3).integers(0, 2001, 9)


def layer_norm(x):
    n = x.shape[1:]
    weight, bias = (tt.full(n, v, device=x.device, requires_grad=True) for v in (2.0, 3.0))
    (out := F.layer_norm(x, n, weight, bias)).pow(3).sum().backward()
    return out, x.grad, weight.grad, bias.grad


def with_gradient(function):
    def run(x):
        (out := function(x)).square().sum().backward()
        return out, x.grad

    return run


def dropout(x):
    tt.manual_seed(0)
    return with_gradient(lambda x: F.dropout(x, 0.5))(x)


def rows(x):
    return with_gradient(lambda x: F.embedding(tt.tensor(ROWS, device=x.device), x[:50]))(x)


def losses(x):
    return with_gradient(lambda x: F.cross_entropy(x, tt.tensor(CLASSES, device=x.device)))(x)


def transposed(x):
    return (x.detach().t().contiguous(),)


BARRIER = "  __syncthreads();\n"
BUGS = {  # source, what is written there, what in its place, what is computed, of what
    "LayerNorm: no barrier before warps' sums are added": (
        "norm", "/ 32] = v[k];\n" + BARRIER, "/ 32] = v[k];\n", layer_norm, WIDE),
    "LayerNorm: no barrier before the sums are overwritten": (
        "norm", "  __syncthreads();  // the next", "  // the next", layer_norm, WIDE),
    "LayerNorm: no barrier before the weight's gradient is added up": (
        "norm", "d_bias[r][i];\n    }\n" + BARRIER, "d_bias[r][i];\n    }\n", layer_norm, TALL),
    "column sums: no barrier": ("columns", "own[i];\n" + BARRIER, "own[i];\n", layer_norm, TALL),
    "GELU: one element too many": (
        "activation", "if (i >= n) return", "if (i > n) return", with_gradient(F.gelu), WIDE),
    "softmax: a row too long": (
        "softmax", "i < n; i += g.step", "i <= n; i += g.step",
        with_gradient(lambda x: x.softmax(-1)), WIDE),
    "cross-entropy: a row too long": (
        "cross_entropy", "i < n; i += team.size", "i <= n; i += team.size", losses, WIDE),
    "embedding: no barrier before the rows are added": (
        "embedding", "= place;\n  }\n" + BARRIER, "= place;\n  }\n", rows, TALL),
    "transpose: no barrier before the tile is read": (
        "cast", "[k * columns + a];\n    }\n  " + BARRIER, "[k * columns + a];\n    }\n",
        transposed, TALL),
    "dropout: one element too many": (
        "dropout", "if (start + k < n)", "if (start + k <= n)", dropout, WIDE),
}  # fmt: skip


def results(run, array, device):
    x = tt.tensor(array, device=device, requires_grad=True)
    return [a.detach().cpu().numpy() for a in run(x)]


@pytest.fixture
def planted(monkeypatch):
    """planted(file, right, wrong): kernels are compiled with it from here on."""

    def forget():
        launch._module.cache_clear()
        launch.kernel.cache_clear()

    def plant(file, right, wrong):
        original = launch.source
        assert right in original(file), f"{file}.cu reads otherwise: {right!r} is not in it"
        broken = original(file).replace(right, wrong)
        monkeypatch.setattr(launch, "source", lambda f: broken if f == file else original(f))
        forget()

    yield plant
    monkeypatch.undo()
    forget()


def assert_same(run, array, cuda):
    for a, b in zip(results(run, array, cuda), results(run, array, "cpu")):
        np.testing.assert_allclose(a, b, 2e-4, 2e-4 * np.abs(b).max())


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_in_a_real_kernel_is_noticed(name, cuda, planted):
    file, right, wrong, run, array = BUGS[name]
    with launches(file) as names:
        assert_same(run, array, cuda)
    assert names, f"no kernel of {file}.cu has run"
    planted(file, right, wrong)
    with pytest.raises((shim.KernelError, AssertionError)) as caught:
        assert_same(run, array, cuda)
    print(str(caught.value).splitlines()[0])
