"""repr against PyTorch's, character for character."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinytensor as tt
from tinytensor.errors import ArgumentError
from tinytensor.printing import get_printoptions, printoptions

DTYPES = ["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]


def check(array, requires_grad=False):
    a, b = tt.tensor(array), torch.tensor(array)
    if requires_grad and b.is_floating_point():
        a, b = a.requires_grad_(), b.requires_grad_()
    assert repr(a) == in_our_name(repr(b))
    assert str(a) == repr(a)


def in_our_name(text):
    """PyTorch's text with our module's name."""
    return re.sub(r"\btorch\.", "tinytensor.", text)


@pytest.fixture(autouse=True)
def same_width(monkeypatch):
    """Line breaks depend on the length of the module's name: give PyTorch's the same."""
    from torch import _tensor_str

    original = _tensor_str._add_suffixes

    def add(text, suffixes, indent, force_newline):
        return original(text, [in_our_name(s) for s in suffixes], indent, force_newline)

    monkeypatch.setattr(_tensor_str, "_add_suffixes", add)


CASES = [
    1.0, 0.0, -1, 3, True, 2.5, 1e10, 1e-10, math.nan, math.inf, -math.inf, -0.0,
    [], [[]], [[], []], [0.0], [0.0, -0.0], [1.0, 2.0], [1.0, 2.5], [1.0, math.nan],
    [math.nan, math.inf], [1.5, math.inf, -math.inf], [1e-5, 1.0], [1e5, 1.0], [1e9, 1e9],
    [123456.0, 7.0], [1e-5, 1e-5], [99999.5, 100.25], [0.1, 100.0], [0.1, 101.0], [True, False],
    [True, True], [-1, 10, 100], list(range(50)), [float(i) for i in range(50)],
    [[1, 2], [3, 4]], [[[1.5, 2], [3, 4]], [[5, 6], [7, 8]]], [[[[1.0]]]],
    list(range(1000)), list(range(1001)), [[0.5] * 40] * 30, [[[0.25] * 7] * 20] * 9,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: str(c)[:30])
def test_cases(case):
    dtype = None if np.array(case).dtype.kind in "ib" and np.array(case).size else np.float32
    array = np.array(case, dtype)
    check(array)
    check(array, requires_grad=True)
    check(array.astype(np.float64))


def arrays(dtype):
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    elements = None
    if dtype.startswith("float"):
        w = int(dtype[5:])
        elements = st.one_of(
            st.floats(width=w),
            st.floats(-10, 10, width=w),
            st.integers(-2000, 2000).map(float),
            st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf]),
        )
    return hnp.arrays(dtype, shapes, elements=elements)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(DTYPES).flatmap(arrays), st.booleans())
def test_any_array(array, requires_grad):
    check(array, requires_grad)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["float32", "int64", "bool"]),
    st.sampled_from([(1001,), (30, 40), (2, 600), (600, 2), (7, 8, 20), (1, 1, 1100), (3, 0, 500)]),
    st.sampled_from([1.0, 1e-3, 1e4, 1e9]),
    st.integers(0, 2**31),
)
def test_large_arrays_show_their_corners(dtype, shape, scale, seed):
    check((np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype))


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["float32", "float64", "int64"]).flatmap(arrays),
    st.fixed_dictionaries(
        {},
        optional={
            "precision": st.integers(0, 8),
            "threshold": st.integers(0, 20),
            "edgeitems": st.integers(1, 4),
            "linewidth": st.integers(20, 120),
            "profile": st.sampled_from(["default", "short", "full"]),
            "sci_mode": st.sampled_from([None, True, False]),
        },
    ),
)
def test_options(array, options):
    with printoptions(**options), torch._tensor_str.printoptions(**options):
        check(array)


def test_options_are_kept_and_restored():
    before = get_printoptions()
    tt.set_printoptions(precision=2)
    try:
        assert repr(tt.tensor([1.12345])) == "tensor([1.12])"
        tt.set_printoptions(threshold=5)
        assert repr(tt.arange(10)) == "tensor([0, 1, 2,  ..., 7, 8, 9])"
        assert get_printoptions()["precision"] == 2
    finally:
        tt.set_printoptions(profile="default")
    assert get_printoptions() == before == torch._tensor_str.get_printoptions()
    with pytest.raises(ArgumentError, match="default, short, full"):
        tt.set_printoptions(profile="long")


def test_default_dtype_decides_what_is_noted():
    tt.set_default_dtype(tt.float64)
    torch.set_default_dtype(torch.float64)
    try:
        for array in (np.zeros(2, np.float32), np.zeros(2), np.zeros(0), np.zeros(0, np.float32)):
            check(array)
    finally:
        tt.set_default_dtype(tt.float32)
        torch.set_default_dtype(torch.float32)


def test_the_op_that_made_it():
    a, b = tt.ones(2, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    for f in (lambda x: x * 2, lambda x: x.exp(), lambda x: x.sum(), lambda x: x.log_softmax(0)):
        assert repr(f(a)) == repr(f(b))
    assert repr(a.detach()) == repr(b.detach())


def test_parameters_and_subclasses():
    assert repr(tt.nn.Parameter(tt.ones(2))) == repr(torch.nn.Parameter(torch.ones(2)))

    class Mine(tt.Tensor):
        __slots__ = ()

    assert repr(Mine([1.0])) == "Mine([1.])"


def test_views_and_odd_strides():
    a, b = tt.arange(12).reshape(3, 4), torch.arange(12).reshape(3, 4)
    assert repr(a.T) == repr(b.T) and repr(a[:, 1]) == repr(b[:, 1])
    assert repr(a[:1].expand(5, 4)) == repr(b[:1].expand(5, 4))
