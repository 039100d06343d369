"""kernels/cuda/cast: NumPy's rounding, any alignment; transposed copies; in every schedule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytensor as tt
from tinytensor import backend
from tinytensor.kernels.cuda import cast as kernels

from .launches import launches
from .schedules import dtype_of, everywhere, shifted
from .standin import installed

HALF = st.sampled_from(["float16", "bfloat16"])


@settings(max_examples=30)
@given(st.integers(0, 5000), HALF, st.integers(0, 7), st.integers(0, 99))
def test_casts(n, half, shift, seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(n) * 10.0 ** rng.integers(-4, 6, n)).astype(np.float32)
    x[: min(n, 3)] = [np.inf, -np.inf, np.nan][: min(n, 3)]
    with np.errstate(over="ignore"):
        low = x.astype(dtype_of(half))
    with installed():
        xp = backend.cupy()
        narrow, wide = everywhere(
            lambda: [
                kernels.cast(xp, shifted(x, shift), dtype_of(half)),
                kernels.cast(xp, shifted(low, shift), np.float32),
            ]
        )
    for mine, theirs in ((narrow, low), (wide, low.astype(np.float32))):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine.astype(float), theirs.astype(float))


@settings(max_examples=30)
@given(
    st.integers(1, 3), st.integers(1, 70), st.integers(1, 70),
    st.sampled_from(["float32", "float16", "bfloat16"]), st.integers(0, 3),
)  # fmt: skip
def test_transposed_copies(batch, rows, columns, dtype, shift):
    x = np.arange(batch * rows * columns).reshape(batch, rows, columns).astype(dtype_of(dtype))
    with installed():
        xp = backend.cupy()
        (out,) = everywhere(lambda: [kernels.transposed(xp, shifted(x, shift))])
    np.testing.assert_array_equal(out, np.swapaxes(x, 1, 2))


def test_a_block_takes_several_of_a_large_batch(cuda, monkeypatch):
    monkeypatch.setattr(kernels, "MOST", 2)
    x, xp = np.random.default_rng(0).standard_normal((5, 33, 40)).astype(np.float32), backend.cupy()
    (out,) = everywhere(lambda: [kernels.transposed(xp, xp.asarray(x))])
    np.testing.assert_array_equal(out, np.swapaxes(x, 1, 2))


@pytest.mark.parametrize("shape", [(5, 40), (2, 3, 40, 7)])
def test_ops(cuda, unread, shape):
    x = tt.rand(*shape, device=cuda, requires_grad=True)
    with launches() as names, unread():
        y = x.half()
        z = y.transpose(-1, -2).contiguous()
        z.backward(z.detach())
    assert names == ["narrow", "transpose", "widen"]
    assert z.is_contiguous() and (z == y.transpose(-1, -2)).all().item()
    assert x.grad.dtype == tt.float32 and (x.grad == y.float()).all().item()
