"""Type promotion is PyTorch's: every pair of dtypes, as tensors, 0-d tensors and numbers."""

import itertools

import numpy as np
import pytest

import tinytensor as tt

torch = pytest.importorskip("torch")

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
NUMBERS = [True, 2, 2.5]


def operands(T, name):
    dtype = getattr(T, name)
    return [T.ones(2, dtype=dtype), T.ones((), dtype=dtype)]


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


PAIRS = list(itertools.product(NAMES, NAMES))


def test_promote_types():
    for a, b in PAIRS:
        mine = tt.promote_types(getattr(tt, a), getattr(tt, b))
        assert name_of(mine) == name_of(torch.promote_types(getattr(torch, a), getattr(torch, b)))


def test_result_type_over_tensors_zero_dim_tensors_and_numbers():
    for a, b in PAIRS:
        for (x, s), (y, t) in itertools.product(
            zip(operands(tt, a), operands(torch, a)), zip(operands(tt, b), operands(torch, b))
        ):
            what = f"{a} {tuple(x.shape)} with {b} {tuple(y.shape)}"
            assert name_of(tt.result_type(x, y)) == name_of(torch.result_type(s, t)), what
    for a, n in itertools.product(NAMES, NUMBERS):
        for x, s in zip(operands(tt, a), operands(torch, a)):
            assert name_of(tt.result_type(x, n)) == name_of(torch.result_type(s, n)), (a, n)
            assert name_of(tt.result_type(n, x)) == name_of(torch.result_type(n, s)), (a, n)


BINARY = ["add", "mul", "div", "maximum", "pow", "where", "eq", "atan2"]


@pytest.mark.parametrize("op", BINARY)
def test_results_have_the_promoted_dtype(op):
    """The forward really makes what result_type promises, also where NumPy would not."""

    def run(T, x, y):
        if op == "where":
            return T.where(T.tensor([True, False]), x, y)
        return getattr(T, op)(x, y)

    for a, b in PAIRS:
        if op in ("pow", "atan2") and "bool" in (a, b):
            continue  # pow of bools: an error in PyTorch
        for (x, s), (y, t) in itertools.product(
            zip(operands(tt, a), operands(torch, a)), zip(operands(tt, b), operands(torch, b))
        ):
            mine, theirs = run(tt, x, y), run(torch, s, t)
            what = f"{op} of {a} {tuple(x.shape)} and {b} {tuple(y.shape)}"
            assert name_of(mine.dtype) == name_of(theirs.dtype), what
            np.testing.assert_allclose(mine.numpy(), theirs.numpy(), 1e-3, err_msg=what)


MORE_THAN_PYTORCH = {("abs", "bool"), ("argmax", "bool")}  # harmless, and NumPy's


@pytest.mark.parametrize("op", ["exp", "abs", "neg", "sqrt", "sum", "mean", "cumsum", "argmax"])
def test_unary_and_reduction_dtypes(op):
    for a in NAMES:
        if (op, a) in MORE_THAN_PYTORCH:
            continue
        for x, s in zip(operands(tt, a), operands(torch, a)):
            args = (0,) if op == "cumsum" else ()
            try:
                theirs = getattr(torch, op)(s, *args)
            except (RuntimeError, IndexError) as error:
                with pytest.raises(type(error)):
                    getattr(tt, op)(x, *args)
                continue
            mine = getattr(tt, op)(x, *args)
            assert name_of(mine.dtype) == name_of(theirs.dtype), f"{op} of {a}"


@pytest.mark.parametrize("a, b", [p for p in PAIRS if "float" in p[0]])
def test_gradients_have_the_dtype_of_their_tensor(a, b):
    for x, y in itertools.product(operands(tt, a), operands(tt, b)):
        x.requires_grad_()
        if "float" in b:
            y.requires_grad_()
        (x * y + x / 2 - y * 1.5).sum().backward()
        assert x.grad.dtype == x.dtype and x.grad.shape == x.shape
        assert y.grad is None or (y.grad.dtype == y.dtype and y.grad.shape == y.shape)


def test_default_dtype():
    try:
        tt.set_default_dtype(tt.float64)
        assert tt.tensor([1.0]).dtype == tt.zeros(1).dtype == (tt.tensor([1]) * 0.5).dtype
        assert tt.tensor([1.0]).dtype == tt.float64 and tt.exp(tt.tensor(1)).dtype == tt.float64
    finally:
        tt.set_default_dtype(tt.float32)
    assert tt.tensor([1.0]).dtype == tt.float32
    with pytest.raises(tt.errors.DtypeError, match="floating"):
        tt.set_default_dtype(tt.int64)


def test_numbers_do_not_widen_a_tensor():
    x = tt.ones(2, dtype=tt.float16)
    assert (x * 2.5 + 1).dtype == (2 / x).dtype == (x**2).dtype == tt.float16
    assert (tt.ones(2, dtype=tt.int32) * 2).dtype == tt.int32
    assert (tt.ones(2, dtype=tt.int32) * np.float64(2)).dtype == tt.float32  # a number, as 2.0 is
