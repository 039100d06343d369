"""Linear layers, matmul and the GELU MLP on `cuda`: values, gradients, and what they cost."""

import ml_dtypes
import numpy as np
import pytest

import tinytensor as tt
from tinytensor import backend, nn
from tinytensor.autograd import wrap
from tinytensor.kernels.cuda import products
from tinytensor.modes import mode
from tinytensor.nn import functional as F

from .standin import CUBLASLT
from .test_gemm import calls, cupy, refused  # noqa: F401  (fixtures)

BF16 = np.dtype(ml_dtypes.bfloat16)
# inputs are rounded before both sides see them: what is left is the rounding of results, of what
# lies in between, and of sums
TOLERANCE = {"float64": 1e-12, "float32": 1e-4, "float16": 1e-2, "bfloat16": 6e-2}
DTYPES = [  # of x, of the parameters
    (np.float64, np.float64), (np.float32, np.float32), (np.float16, np.float16),
    (np.float16, np.float32), (BF16, BF16), (BF16, np.float32),
]  # fmt: skip
BIAS, GELU_AUX_BIAS, DGELU, BGRADB = 4, 164, 192, 512


def leaves(device, arrays, dtypes):
    """Tensors on the device, x first, and the same numbers in float64 on the CPU."""
    put = lambda a, d: wrap(backend.to_device(a.astype(d), backend.resolve(device)), None, True)  # noqa: E731
    mine = [None if a is None else put(a, dtypes[i > 0]) for i, a in enumerate(arrays)]
    theirs = [
        None if t is None else tt.tensor(t.array.get().astype(float), requires_grad=True)
        for t in mine
    ]
    return mine, theirs


def compare(function, reference, arrays, device, dtypes):
    mine, theirs = leaves(device, arrays, dtypes)
    out, expected = function(*mine), reference(*theirs)
    g = np.asarray(np.cos(np.arange(expected.numel()))).reshape(expected.shape).astype(dtypes[0])
    out.backward(wrap(backend.to_device(g, backend.resolve(device))))
    expected.backward(tt.tensor(g.astype(float)))
    assert out.dtype == dtypes[0]
    pairs = [(out, expected)]
    for a, b in zip(mine, theirs):
        if a is not None:
            assert a.grad.dtype == a.dtype
            pairs.append((a.grad, b.grad))
    for got, right in pairs:
        right = right.array if hasattr(right, "array") else right
        tolerance = TOLERANCE[np.dtype(dtypes[0]).name] * max(1, np.abs(right).max(initial=0))
        np.testing.assert_allclose(got.array.get().astype(float), right, 0, tolerance)


def spread(*shapes):
    rng = np.random.default_rng(0)
    return [None if s is None else rng.uniform(-1, 1, s) for s in shapes]


def run_linear(x, w, b):  # past the check that all have one dtype: autocast is what mixes them
    from tinytensor.ops.nn import _linear

    return _linear(x, w, b)


def run_mlp(x, fc, proj, fc_bias, proj_bias):
    from tinytensor.ops.fused import _gelu_mlp

    return _gelu_mlp(x, fc, proj, fc_bias, proj_bias)


def plain_mlp(x, fc, proj, fc_bias, proj_bias):
    return F.linear(F.gelu(F.linear(x, fc, fc_bias), approximate="tanh"), proj, proj_bias)


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize(
    "x, bias", [((2, 3, 5), True), ((5,), True), ((4, 5), False), ((0, 5), True)]
)
@pytest.mark.parametrize("together", [True, False])
def test_linear(cuda, dtypes, x, bias, together, monkeypatch):
    monkeypatch.setattr(products, "SUMS_RIDE_ALONG", together)
    compare(run_linear, F.linear, spread(x, (7, 5), (7,) if bias else None), cuda, dtypes)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("x, h, bias", [((2, 3, 5), 8, True), ((5,), 7, True), ((4, 5), 16, False)])
def test_mlp(cuda, refused, dtypes, x, h, bias, fused):  # noqa: F811
    if not fused:
        refused.update((GELU_AUX_BIAS, GELU_AUX_BIAS - 4, DGELU, BGRADB))
    sizes = [x, (h, 5), (3, h), *([(h,), (3,)] if bias else [None, None])]
    compare(run_mlp, plain_mlp, spread(*sizes), cuda, dtypes)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16])
@pytest.mark.parametrize("x, y", [
    ((2, 3, 4, 5), (2, 3, 5, 6)), ((2, 1, 4, 5), (3, 5, 6)), ((4, 5), (2, 5, 6)),
    ((2, 4, 5), (5, 6)), ((5,), (5,)),
])  # fmt: skip
def test_matmul(cuda, dtype, x, y):
    compare(tt.matmul, tt.matmul, spread(x, y), cuda, (dtype, dtype))


def test_convolutions_in_half_precision(cuda):
    from tinytensor.ops.conv import _conv

    how = {"stride": (1, 1), "dilation": (1, 1), "groups": 2}
    run = lambda x, w: _conv(x, w, **how)  # noqa: E731
    compare(run, run, spread((2, 4, 5, 5), (6, 2, 3, 3)), cuda, (BF16, BF16))


@pytest.mark.parametrize("frozen", [(), (0,), (1,), (2,), (1, 2), (0, 2), (0, 1)])
def test_some_gradients(cuda, frozen):
    mine, theirs = leaves(cuda, spread((4, 5), (7, 5), (7,)), (np.float64, np.float64))
    for pair in (mine, theirs):
        for i in frozen:
            pair[i].requires_grad = False
        F.linear(*pair).sum().backward()
    for i, (a, b) in enumerate(zip(mine, theirs)):
        assert (a.grad is None) == (i in frozen)
        if a.grad is not None:
            np.testing.assert_allclose(a.grad.array.get(), b.grad.array, 1e-12)


def test_a_layer_is_three_products(cuda, calls, unread):  # noqa: F811
    layer = nn.Linear(16, 8, device=cuda)
    x = tt.randn(4, 6, 16, device=cuda).requires_grad_()
    layer(x)
    calls.clear()
    with unread():
        layer(x).backward(tt.ones(4, 6, 8, device=cuda))
    assert sorted(c.epilogue for c in calls) == [1, BIAS, BGRADB]
    assert {c.shape for c in calls} == {(8, 24, 16), (16, 24, 8), (16, 8, 24)}


def test_generating_casts_a_parameter_once(cuda):
    """Training leaves float32 parameters to the kernels, for the sake of their gradients."""
    layer, x = nn.Linear(16, 8, device=cuda), tt.randn(3, 16, device=cuda)
    with tt.autocast("cuda"):
        layer(x)
        assert not mode.autocast.made
        with tt.no_grad():
            outs = [layer(x) for _ in range(3)]
        assert len(mode.autocast.made) == 2
    assert outs[0].dtype == BF16


def test_an_mlp_is_six_products(cuda, calls, unread):  # noqa: F811
    fc, proj = nn.Linear(8, 32, device=cuda), nn.Linear(32, 8, device=cuda)
    x = tt.randn(4, 6, 8, device=cuda).requires_grad_()
    run = lambda: F.gelu_mlp(x, fc.weight, fc.bias, proj.weight, proj.bias)  # noqa: E731
    run()
    calls.clear()
    with unread():
        run().backward(tt.ones(4, 6, 8, device=cuda))
    assert [c.epilogue for c in calls] == [GELU_AUX_BIAS, BIAS, BGRADB, DGELU, BGRADB, 1]


def test_an_odd_vocabulary_is_made_even(cuda, calls):  # noqa: F811
    """All three products at the end of a model have sizes that tensor cores like."""
    x, w = (tt.randn(n, 16, device=cuda).requires_grad_() for n in (12, 50))
    F.fused_linear_cross_entropy(x, w, tt.arange(12, device=cuda)).backward()
    assert [c.shape for c in calls] == [(56, 12, 16), (16, 12, 56), (16, 56, 12)]
    assert tuple(w.grad.shape) == (50, 16)


def test_second_gradients_of_the_mlp(cuda):
    """Through the rules as they are written, whatever the kernel kept."""
    mine, theirs = leaves(cuda, spread((2, 3), (4, 3), (2, 4), (4,), (2,)), (np.float64,) * 2)
    for some in (mine, theirs):
        (dx,) = tt.autograd.grad(run_mlp(*some).sum(), some[0], create_graph=True)
        (dx * dx).sum().backward()
    for a, b in zip(mine[:2], theirs[:2]):
        np.testing.assert_allclose(a.grad.array.get(), b.grad.array, 1e-10)


def test_overwritten_weights_are_noticed(cuda):
    layer = nn.Linear(3, 2, device=cuda)
    out = layer(tt.ones(4, 3, device=cuda).requires_grad_()).sum()
    with tt.no_grad():
        layer.weight.mul_(2)
    with pytest.raises(tt.errors.InPlaceError, match="argument 'weight'"):
        out.backward()


@pytest.mark.parametrize("shapes, words", [
    (((2, 3), (4, 5), None, (2, 4), None), "last axis"), (((2, 3), (4, 3), None, (2, 5), None),
    r"proj_weight \(2, 5\) must be \(2, 4\)"), (((2, 3), (4, 3), (4,), (2, 4), (3,)), "proj_bias"),
])  # fmt: skip
def test_the_mlps_shapes(cuda, shapes, words):
    given = [None if s is None else tt.zeros(*s, device=cuda) for s in shapes]
    with pytest.raises(tt.errors.ShapeError, match=words):
        F.gelu_mlp(*given)


def test_a_gpt_uses_it(cuda, calls):  # noqa: F811
    from gpt import GPT, GPTConfig

    model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=16)).to(cuda)
    idx = tt.zeros(2, 8, dtype=tt.int64, device=cuda)
    model(idx, idx)[1].backward()
    assert GELU_AUX_BIAS in [c.epilogue for c in calls] and DGELU in [c.epilogue for c in calls]
    calls.clear()
    seen = []
    model.h[0].mlp.c_fc.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    model(idx)
    assert seen and GELU_AUX_BIAS not in [c.epilogue for c in calls]
    assert CUBLASLT.calls is calls
