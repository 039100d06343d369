"""Clipping and vectors of parameters, against PyTorch."""

import math

import numpy as np
import pytest
import torch

import tinytensor as tt
from tinytensor.nn import Parameter, utils

rng = np.random.default_rng(0)
SHAPES = [(3, 4), (5,), (), (0,), (2, 2, 2)]


def both(scale=1.0, dtype=np.float64):
    grads = [np.asarray(scale * rng.standard_normal(s), dtype) for s in SHAPES]
    ours = [Parameter(tt.tensor(np.zeros_like(g))) for g in grads]
    theirs = [torch.nn.Parameter(torch.tensor(np.zeros_like(g))) for g in grads]
    for p, q, g in zip(ours, theirs, grads):
        p.grad, q.grad = tt.tensor(g), torch.tensor(g)
    ours.append(Parameter(tt.ones(2)))  # without a gradient
    return ours, theirs


@pytest.mark.parametrize("norm_type", [2, 2.0, 1, 3.5, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_clip_grad_norm(norm_type, max_norm, dtype):
    ours, theirs = both(dtype=dtype)
    versions = [p.grad._version[0] for p in ours[:-1]]
    total = utils.clip_grad_norm_(iter(ours), max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(
        [q for q in theirs if q.numel()], max_norm, norm_type
    )
    tol = 1e-12 if dtype is np.float64 else 1e-6
    assert isinstance(total, tt.Tensor) and total.shape == () and total.dtype == dtype
    np.testing.assert_allclose(total.numpy(), expected.numpy(), rtol=tol)
    for p, q, version in zip(ours, theirs, versions):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=tol)
        assert p.grad.dtype == dtype and (max_norm == 100.0 or p.grad._version[0] > version)


def test_the_norm_of_half_precision_does_not_overflow():
    p = Parameter(tt.zeros(1000, dtype=tt.float16))
    p.grad = tt.full((1000,), 100.0, dtype=tt.float16)
    assert np.isclose(utils.clip_grad_norm_(p, 1.0).item(), 100 * 1000**0.5)
    assert np.isclose(np.linalg.norm(p.grad.array.astype(float)), 1, rtol=1e-2)


def test_nonfinite_norms():
    for bad in (math.inf, math.nan):
        ours, theirs = both()
        ours[0].grad[0, 0], theirs[0].grad[0, 0] = bad, bad
        before = ours[1].grad.array.copy()
        with pytest.raises(RuntimeError, match="error_if_nonfinite"):
            utils.clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
        assert np.array_equal(ours[1].grad.array, before)
        total = utils.clip_grad_norm_(ours, 1.0)
        expected = torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        assert np.array_equal(total.array, expected.numpy(), equal_nan=True)
        for p, q in zip(ours, theirs):
            np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())


def test_nothing_to_clip():
    assert utils.clip_grad_norm_([], 1.0).item() == 0
    assert utils.clip_grad_norm_([Parameter(tt.ones(2))], 1.0).item() == 0
    with pytest.raises(ValueError, match="norm_type"):
        utils.clip_grad_norm_(both()[0], 1.0, norm_type=0)


def test_clip_grad_value():
    ours, theirs = both()
    utils.clip_grad_value_(ours, 0.3), torch.nn.utils.clip_grad_value_(theirs, 0.3)
    for p, q in zip(ours, theirs):
        np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())
    assert abs(ours[0].grad.array).max() == 0.3


def test_vectors():
    params = [Parameter(tt.randn(2, 3)), Parameter(tt.randn(4))]
    vec = utils.parameters_to_vector(params)
    assert vec.shape == (10,) and (vec[6:] == params[1]).all()
    vec.sum().backward()
    assert (params[0].grad == 1).all()
    utils.vector_to_parameters(tt.arange(10, dtype=tt.float32), params)
    assert params[0].tolist() == [[0, 1, 2], [3, 4, 5]] and params[1].tolist() == [6, 7, 8, 9]
    assert params[0].requires_grad and params[0].is_leaf
    with pytest.raises(ValueError, match=r"must be \(10,\)"):
        utils.vector_to_parameters(tt.ones(11), params)
