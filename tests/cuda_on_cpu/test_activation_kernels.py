"""activation.cu: in every schedule against float64, then as ops against the references."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinytensor as tt
from tinytensor.kernels.cuda import activation
from tinytensor.kernels.cuda.launch import STORAGE

from .launches import launches
from .schedules import dtype_of, empty, run_everywhere

F = tt.nn.functional
ROUNDING = {"float32": 0, "float16": 2**-11, "bfloat16": 2**-8}  # of what is stored
C = math.sqrt(2 / math.pi)
erf = np.vectorize(math.erf, otypes=["float64"])


def sigmoid(x):
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(C * (x + 0.044715 * x**3)))


def gelu_tanh_slope(x):
    t = np.tanh(C * (x + 0.044715 * x**3))
    return (1 + t) / 2 + x / 2 * (1 - t * t) * C * (1 + 3 * 0.044715 * x * x)


def gelu_erf_slope(x):
    return (1 + erf(x / math.sqrt(2))) / 2 + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


FUNCTIONS = {
    "gelu_tanh": (gelu_tanh, gelu_tanh_slope, lambda x: F.gelu(x, approximate="tanh")),
    "gelu_erf": (lambda x: x * (1 + erf(x / math.sqrt(2))) / 2, gelu_erf_slope, F.gelu),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x))), F.silu),
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype("float64"), F.relu),
}
SCALE = [0, 1e-30, 1e-3, 1, 3, 30, 6e4]


def numbers(seed, n, dtype, scale=3.0):
    return np.random.default_rng(seed).normal(0, scale, n).clip(-6e4, 6e4).astype(dtype_of(dtype))


def close(got, want, dtype, terms=None):
    """To what float32 can tell of the terms, and half a last place of what is stored."""
    terms = np.abs(want) if terms is None else terms
    within = ROUNDING[dtype] * np.abs(want) + 1e-6 * terms + (2**-25 if dtype == "float16" else 0)
    # float32's smallest numbers are flushed to 0
    assert (np.abs(got.astype("float64") - want) <= within + 2e-38).all()


def run(name, dtype, arrays, shift):
    n, blocks = arrays[0].size, -(-arrays[0].nbytes // (activation.THREADS * activation.BYTES))
    (out,) = run_everywhere(
        "activation", name, (blocks,), (activation.THREADS,), [empty(n, dtype), *arrays, n],
        real=dtype, shift=shift,
    )  # fmt: skip
    return out


shifts = st.just(0) | st.integers(-1, 7)
sizes = st.sampled_from([1, 7, 31, 32, 33, 768, 1000, 1023, 1024, 1025, 2048, 4096, 5000])


@pytest.mark.parametrize("name", [*FUNCTIONS])
@settings(max_examples=8)
@given(sizes, st.sampled_from([*STORAGE]), st.sampled_from(SCALE), shifts)
@example(2048, "bfloat16", 1, 0)
@example(5000, "float16", 3, 0)
@example(2049, "float32", 3, -1)
@example(2048, "float16", 3, 1)
@example(2048, "float16", 3, 2)
@example(2048, "float16", 3, 4)
def test_kernels(name, n, dtype, scale, shift):
    value, slope, _ = FUNCTIONS[name]
    x, g = numbers(n, n, dtype, scale), numbers(n + 1, n, dtype)
    wide = x.astype("float64")
    with np.errstate(over="ignore"):
        want, want_slope = value(wide), slope(wide)
    # 1 + tanh(u) or 1 + erf(x) of a negative number is a small difference
    close(run(f"{name}_forward", dtype, [x], shift), want, dtype, np.abs(wide))
    at = want.astype(x.dtype) if name == "relu" else x
    terms = np.abs(g.astype("float64")) * (1 + np.minimum(np.abs(wide), 9) ** 2)
    close(run(f"{name}_backward", dtype, [g, at], shift), g.astype("float64") * want_slope,
          dtype, terms)  # fmt: skip


@pytest.mark.parametrize("name", [*FUNCTIONS])
@pytest.mark.parametrize("dtype", [*STORAGE])
def test_the_largest_numbers_and_none(cuda, monkeypatch, name, dtype):
    """NaN, infinities, the largest and the smallest numbers: as the reference, but for what
    overflows in its float16 and not in float32."""
    largest = 65504 if dtype == "float16" else 3e38
    x = [math.nan, math.inf, -math.inf, largest, -largest, 1e4, -1e4, 100, -100, 0.0, -0.0, 1e-7]

    def values_and_slopes():
        t = tt.tensor(x, device=cuda).to(getattr(tt, dtype)).detach().requires_grad_()
        with np.errstate(all="ignore"):
            y = FUNCTIONS[name][2](t)
            y.backward(tt.ones_like(y))
        return y.detach().float().cpu().numpy(), t.grad.float().cpu().numpy()

    with launches("activation") as names:
        got = values_and_slopes()
    assert names == [f"{name}_forward", f"{name}_backward"]
    monkeypatch.setattr(activation, "served", lambda x: False)
    with launches("activation") as names:
        want = values_and_slopes()
    assert not names
    value, slope, _ = FUNCTIONS[name]
    for a, b, f in zip(got, want, (value, slope)):
        if dtype == "float16":
            finite = np.isfinite(x)
            b = np.where(finite, f(np.where(finite, x, 0)), b)
        np.testing.assert_allclose(a, b, max(4 * ROUNDING[dtype], 1e-5), 1e-6)


@pytest.mark.parametrize("name", [*FUNCTIONS])
@pytest.mark.parametrize("dtype", [*STORAGE])
@pytest.mark.parametrize("shape", [(), (0,), (3, 33)])
def test_as_the_reference(cuda, monkeypatch, name, dtype, shape):
    """Also of transposed memory, and with a gradient that is one number expanded."""

    def values_and_gradients():
        x = np.linspace(-4, 4, math.prod(shape), dtype="float32").reshape(shape)
        t = tt.tensor(x, device=cuda).to(getattr(tt, dtype)).detach().requires_grad_()
        y = FUNCTIONS[name][2](t.T if len(shape) == 2 else t)
        y.sum().backward()
        return y.detach(), t.grad

    with launches("activation") as names:
        got = values_and_gradients()
    assert names == [f"{name}_forward", f"{name}_backward"]
    monkeypatch.setattr(activation, "served", lambda x: False)
    for a, b in zip(got, values_and_gradients()):
        assert a.shape == b.shape and a.dtype == dtype_of(dtype)
        a, b = a.float().cpu().numpy(), b.float().cpu().numpy()
        # in half precision the reference rounds each of its steps
        step = ROUNDING[dtype]
        np.testing.assert_allclose(a, b, max(16 * step, 1e-5), 8 * step + 1e-6)


def test_other_dtypes_go_to_the_reference(cuda):
    with launches("activation") as names:
        assert F.relu(tt.arange(3, device=cuda)).tolist() == [0, 1, 2]
        for _, _, function in FUNCTIONS.values():
            function(tt.randn(5, dtype=tt.float64, device=cuda))
    assert not names
