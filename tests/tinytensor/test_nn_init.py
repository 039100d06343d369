"""nn.init: bounds, moments, shapes; trunc_normal_ against its distribution, orthogonality."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

import tinytensor as tt
from tinytensor.nn import Parameter, init


@pytest.fixture(autouse=True)
def seed():
    tt.manual_seed(0)


def param(*shape):
    return Parameter(tt.empty(*shape, dtype=tt.float64))


def test_constants():
    p = param(3, 4)
    assert init.zeros_(p) is p and (p == 0).all() and p.requires_grad and p.is_leaf
    assert (init.ones_(p) == 1).all() and (init.constant_(p, 2.5) == 2.5).all()
    assert np.array_equal(init.eye_(p).detach().numpy(), np.eye(3, 4))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        init.eye_(param(3))


def test_generator_and_dtype():
    a, b = param(5, 5), Parameter(tt.empty(5, 5))
    init.normal_(a, generator=tt.Generator(3)), init.normal_(b, generator=tt.Generator(3))
    assert b.dtype == tt.float32 and np.allclose(a.detach().numpy(), b.detach().numpy())
    assert not np.array_equal(init.normal_(b).array, a.array)


DISTRIBUTIONS = {
    "uniform": (lambda p: init.uniform_(p, -1, 3), scipy.stats.uniform(-1, 4)),
    "normal": (lambda p: init.normal_(p, 2, 3), scipy.stats.norm(2, 3)),
    "trunc_normal": (lambda p: init.trunc_normal_(p), scipy.stats.truncnorm(-2, 2)),
    "trunc_normal, scaled": (
        lambda p: init.trunc_normal_(p, 1, 2, -1, 2), scipy.stats.truncnorm(-1, 0.5, 1, 2)
    ),
    "trunc_normal, a tail": (
        lambda p: init.trunc_normal_(p, 0, 1, 2, 4), scipy.stats.truncnorm(2, 4)
    ),
    "trunc_normal, narrow": (
        lambda p: init.trunc_normal_(p, 0, 1, -0.1, 0.2), scipy.stats.truncnorm(-0.1, 0.2)
    ),
    "xavier_uniform": (
        lambda p: init.xavier_uniform_(p, 2), scipy.stats.uniform(-0.2, 0.4)
    ),
    "xavier_normal": (lambda p: init.xavier_normal_(p, 2), scipy.stats.norm(0, 0.2 / 3**0.5)),
    "kaiming_uniform": (
        lambda p: init.kaiming_uniform_(p, nonlinearity="relu"),
        scipy.stats.uniform(-math.sqrt(6 / 200), 2 * math.sqrt(6 / 200)),
    ),
    "kaiming_normal": (
        lambda p: init.kaiming_normal_(p, 0.5, "fan_out"),
        scipy.stats.norm(0, math.sqrt(2 / 1.25 / 400)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distribution(name):
    fill, expected = DISTRIBUTIONS[name]
    values = fill(param(400, 200)).detach().numpy().ravel()
    low, high = expected.support()
    assert low <= values.min() and values.max() <= high
    assert scipy.stats.kstest(values, expected.cdf).pvalue > 1e-3
    assert abs(values.mean() - expected.mean()) < 5 * expected.std() / len(values) ** 0.5


def test_fans_count_further_dimensions():
    p = init.kaiming_normal_(param(64, 8, 5, 5), mode="fan_out").detach().numpy()
    assert abs(p.std() - math.sqrt(2 / (64 * 25))) < 1e-3


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (4, 2, 3)])
def test_orthogonal(shape):
    q = init.orthogonal_(param(*shape), gain=2).detach().numpy().reshape(shape[0], -1)
    gram = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-12)


def test_orthogonal_is_as_often_a_reflection_as_a_rotation():
    dets = [np.linalg.det(init.orthogonal_(param(3, 3)).detach().numpy()) for _ in range(100)]
    assert 30 < sum(d > 0 for d in dets) < 70


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "selu", "leaky_relu"])
def test_gain(name):
    assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


@given(st.floats(-5, 5), st.floats(0.1, 3), st.floats(-5, 5), st.floats(0.1, 5))
def test_trunc_normal_never_leaves_its_bounds(mean, std, a, width):
    p = init.trunc_normal_(Parameter(tt.empty(50)), mean, std, a, a + width)
    assert np.float32(a) <= p.array.min() and p.array.max() <= np.float32(a + width)


@pytest.mark.parametrize(
    "call",
    [
        lambda: init.uniform_(param(2), 1, 0),
        lambda: init.normal_(param(2), std=-1),
        lambda: init.trunc_normal_(param(2), a=1, b=1),
        lambda: init.xavier_uniform_(param(2)),
        lambda: init.orthogonal_(param(2)),
        lambda: init.kaiming_normal_(param(2, 2), mode="fan"),
        lambda: init.kaiming_normal_(param(2, 2), nonlinearity="gelu"),
    ],
)
def test_mistakes(call):
    with pytest.raises(tt.errors.TinyTensorError):
        call()
