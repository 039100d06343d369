"""NumPy, DLPack, copy, pickle and Python's protocols: as in PyTorch; nothing silently detached."""

import copy
import math
import operator
import pickle

import numpy as np
import pytest
import torch

import tinytensor as tt
from tinytensor.errors import ExportError, GraphError, InPlaceError
from tinytensor.interop import numpy_functions

A = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def tracked(array=A):
    return tt.tensor(array, requires_grad=True)


# ------------------------------------------------------------------------------ to NumPy


def test_asarray_shares_memory_or_raises():
    t = tt.tensor(A)
    assert np.shares_memory(np.asarray(t), t.numpy()) and np.asarray(t).dtype == np.float32
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(t), t.numpy())
    for x in (tracked(), tracked() * 2):
        for f in (np.asarray, np.array, lambda x: np.array([x, x]), lambda x: x.numpy()):
            with pytest.raises(ExportError, match="detach"):
                f(x)
        assert x.numpy(force=True).shape == (3, 4)
    with pytest.raises(RuntimeError):  # PyTorch's class
        np.zeros((3, 4))[:] = tracked()


UFUNCS = [
    "add", "subtract", "multiply", "divide", "true_divide", "maximum", "minimum", "negative",
    "absolute", "exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "square", "reciprocal", "log1p",
    "expm1", "log2", "log10", "exp2", "arctan", "arctan2", "sinh", "cosh", "arcsinh", "hypot",
    "logaddexp", "sign", "positive", "deg2rad", "degrees", "power", "floor", "ceil", "trunc",
    "rint", "remainder", "fmod", "copysign", "fabs",
]  # fmt: skip


@pytest.mark.parametrize("name", UFUNCS)
def test_ufuncs_run_our_ops(name):
    ufunc = getattr(np, name)
    arrays = [np.abs(A) + 0.5, np.abs(A[::-1]) + 0.3][: ufunc.nin]
    xs = [tracked(a) for a in arrays]
    out = ufunc(*xs)
    assert isinstance(out, tt.Tensor) and out.requires_grad and out.grad_fn is not None
    np.testing.assert_allclose(out.detach().numpy(), ufunc(*arrays), rtol=1e-5, atol=1e-6)
    out.sum().backward()
    assert all(x.grad is not None for x in xs)
    if ufunc.nin == 2:  # an array or a scalar of NumPy's on either side
        for args in ((arrays[0], xs[1]), (xs[0], arrays[1]), (np.float32(2), xs[1])):
            out = ufunc(*args)
            assert isinstance(out, tt.Tensor) and out.requires_grad


@pytest.mark.parametrize("name", ["equal", "less", "greater_equal", "isnan", "logical_not"])
def test_predicates(name):
    ufunc = getattr(np, name)
    out = ufunc(*[tracked()] * ufunc.nin)
    assert isinstance(out, tt.Tensor) and out.dtype == tt.bool
    np.testing.assert_array_equal(out.numpy(), ufunc(*[A] * ufunc.nin))


def test_operators_with_arrays_on_the_left():
    x = tracked()
    for out in (A * x, A + x, A - x, A / x, np.float64(2) * x, A.T @ x, A < x):
        assert isinstance(out, tt.Tensor)
    (A * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), A)


def test_reduce_and_accumulate():
    x = tracked()
    for got, want in (
        (np.add.reduce(x), np.add.reduce(A)),
        (np.maximum.reduce(x, axis=1), np.maximum.reduce(A, axis=1)),
        (np.multiply.reduce(x, axis=1, keepdims=True), A.prod(1, keepdims=True)),
        (np.add.accumulate(x, axis=1), A.cumsum(1)),
    ):
        assert got.requires_grad
        np.testing.assert_allclose(got.detach().numpy(), want, rtol=1e-5)


CALLS = {
    "concatenate": lambda x: np.concatenate([x, A, x], axis=1),
    "concat": lambda x: np.concatenate([x, x], axis=None),
    "stack": lambda x: np.stack([x, x], axis=1),
    "sum": lambda x: np.sum(x, axis=1, keepdims=True),
    "mean": lambda x: np.mean(x, axis=0),
    "amax": lambda x: np.max(x, axis=1),
    "max": np.max,
    "amin": lambda x: np.min(x, axis=(0, 1)),
    "min": np.min,
    "std": lambda x: np.std(x, axis=0),
    "var": lambda x: np.var(x, ddof=1),
    "where": lambda x: np.where(A > 0, x, 0.5),
    "clip": lambda x: np.clip(x, -0.5, 0.5),
    "reshape": lambda x: np.reshape(x, (2, -1)),
    "transpose": np.transpose,
    "permute_dims": lambda x: np.transpose(x, (1, 0)),
    "ravel": np.ravel,
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "moveaxis": lambda x: np.moveaxis(x, 0, -1),
    "squeeze": lambda x: np.squeeze(np.expand_dims(x, 1), 1),
    "expand_dims": lambda x: np.expand_dims(x, (0, 2)),
    "flip": lambda x: np.flip(x, 1),
    "dot": lambda x: np.dot(x, A.T),
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 3, 4)),
    "tril": np.tril,
    "triu": lambda x: np.triu(x, 1),
    "diagonal": np.diagonal,
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "sort": np.sort,
    "take_along_axis": lambda x: np.take_along_axis(x, np.argsort(A, axis=1), axis=1),
    "copy": np.copy,
    "einsum": lambda x: np.einsum("ij,kj->ik", x, A),
}
WITHOUT_GRADIENT = {
    "all": lambda x: np.all(x > 0, axis=1),
    "any": lambda x: np.any(x > 0),
    "argmax": lambda x: np.argmax(x, axis=1),
    "argmin": np.argmin,
    "argsort": lambda x: np.argsort(x, axis=0),
    "zeros_like": np.zeros_like,
    "ones_like": lambda x: np.ones_like(x, dtype=np.float64),
    "empty_like": lambda x: np.empty_like(x) * 0,
    "shape": np.shape,
    "ndim": np.ndim,
    "size": np.size,
}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_functions_run_our_ops(name):
    x = tracked()
    out, want = CALLS[name](x), CALLS[name](A)
    assert isinstance(out, tt.Tensor) and out.requires_grad
    np.testing.assert_allclose(out.detach().numpy(), want, rtol=1e-5, atol=1e-6)
    out.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("name", sorted(WITHOUT_GRADIENT))
def test_functions_without_gradient(name):
    got, want = WITHOUT_GRADIENT[name](tracked()), WITHOUT_GRADIENT[name](A)
    np.testing.assert_array_equal(np.asarray(got), want)


def test_every_function_of_the_table_is_tested():
    assert set(numpy_functions()) == {*CALLS, *WITHOUT_GRADIENT}


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.linalg.norm(x),
        lambda x: np.median(x),
        lambda x: np.cbrt(x),
        lambda x: np.modf(x)[0],
        lambda x: np.add(x, 1, out=np.zeros_like(A)),
        lambda x: np.sum(x, axis=0, initial=3.0),
        lambda x: np.add.outer(x, x),
        lambda x: np.percentile(x, 50),
        lambda x: np.interp(x, [0, 1], [0, 1]),
        lambda x: np.save("file", x) or 0,
        lambda x: np.testing.assert_allclose(x, A) or 0,
        lambda x: np.histogram(x)[0],
    ],
)
def test_what_has_no_op_raises_in_a_graph_and_works_outside(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for x in (tracked(), tracked() * 1):
        with pytest.raises(ExportError, match="detach"):
            call(x)
    got, want = call(tt.tensor(A)), call(A)
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-6)


def test_results_outside_are_tensors():
    assert isinstance(np.cbrt(tt.tensor(A)), tt.Tensor)
    assert all(isinstance(p, tt.Tensor) for p in np.split(tt.tensor(A), 3))


def test_out_and_in_place_on_arrays():
    array, t = np.ones((3, 4), np.float32), tt.tensor(A)
    same = array
    array += t
    assert array is same
    np.testing.assert_array_equal(array, 1 + A)
    with pytest.raises(ExportError):
        array += tracked()


# ------------------------------------------------------------------------------ DLPack


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int64", "int32", "uint8", "bool"]
)
def test_dlpack_both_ways_shares_memory(dtype):
    t = tt.tensor((A * 10).astype(dtype))
    other, array = torch.from_dlpack(t), np.from_dlpack(t)
    assert str(other.dtype) == f"torch.{dtype}" and array.dtype == dtype
    np.testing.assert_array_equal(other.numpy(), t.numpy())
    other[0, 0] = 1
    assert array[0, 0] == 1 == t[0, 0].item()
    for source in (torch.tensor(A).to(getattr(torch, dtype)), (A * 10).astype(dtype)):
        back = tt.from_dlpack(source)
        assert back.dtype == dtype and isinstance(back, tt.Tensor)
        source[0, 0] = 0
        assert back[0, 0].item() == 0
        back[0, 1] = 1
        assert source[0, 1] == 1
    assert t.__dlpack_device__() == torch.tensor(A).__dlpack_device__()


def test_dlpack_of_strided_and_empty():
    t = tt.tensor(A)
    np.testing.assert_array_equal(torch.from_dlpack(t.T[1:, ::2]).numpy(), A.T[1:, ::2])
    assert tt.from_dlpack(torch.tensor(A).T).stride() == (1, 4)
    assert tt.from_dlpack(torch.zeros(0, 3)).shape == (0, 3)
    assert tt.from_dlpack(torch.tensor(3.0)).item() == 3.0


def test_dlpack_refuses_graphs_and_strangers():
    for x in (tracked(), tracked() * 2):
        for f in (torch.from_dlpack, np.from_dlpack, tt.from_dlpack):
            with pytest.raises(BufferError, match="detach"):
                f(x)
    with pytest.raises(TypeError, match="does not speak DLPack"):
        tt.from_dlpack([1, 2])
    with pytest.raises(AttributeError):
        getattr(tt.ones(1), "__cuda_array_interface__")  # noqa: B009


def test_read_only_memory_is_refused_in_place():
    array = np.ones(3, np.float32)
    array.flags.writeable = False
    t = tt.from_numpy(array)
    assert (t + 1).tolist() == [2, 2, 2]
    for write in (lambda: t.add_(1), lambda: t.__setitem__(0, 5.0), lambda: t.zero_()):
        with pytest.raises(InPlaceError, match="read-only"):
            write()


# ------------------------------------------------------------------------------ copy, pickle


def test_copies():
    x = tracked()
    x.grad = tt.ones(3, 4)
    deep, shallow = copy.deepcopy(x), copy.copy(x)
    assert deep.requires_grad and shallow.requires_grad and deep.is_leaf
    assert not np.shares_memory(deep.array, x.array) and np.shares_memory(shallow.array, x.array)
    assert deep.grad.tolist() == x.grad.tolist() and deep.grad is not x.grad
    twice = copy.deepcopy([x, x])
    assert twice[0] is twice[1]
    p = tt.nn.Parameter(tt.ones(2))
    assert type(copy.deepcopy(p)) is type(copy.copy(p)) is type(p)
    y = x * 2
    with pytest.raises(GraphError, match="only leaves"):
        copy.deepcopy(y)
    copy.copy(y).sum().backward()  # the copy is where y is in the graph
    assert x.grad.tolist() == (tt.ones(3, 4) * 3).tolist()
    h = y * 1
    other = copy.copy(h)
    loss = (h * h).sum()
    with tt.no_grad():
        other.add_(1)  # the same memory, and the graph knows it
    with pytest.raises(InPlaceError):
        loss.backward()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol):
    t = tt.tensor(A)
    for x in (tracked(), t, t.T, tt.arange(3), tt.tensor(2.5), tt.zeros(0, 2)):
        y = pickle.loads(pickle.dumps(x, protocol))
        assert type(y) is type(x) and y.dtype == x.dtype and y.requires_grad == x.requires_grad
        np.testing.assert_array_equal(y.detach().numpy(), x.detach().numpy())
    p = pickle.loads(pickle.dumps({"w": tt.nn.Parameter(tt.ones(2))}, protocol))["w"]
    assert type(p) is tt.nn.Parameter and p.requires_grad
    y = pickle.loads(pickle.dumps(tracked() * 2, protocol))  # as PyTorch: a leaf
    assert y.is_leaf and y.requires_grad


# ------------------------------------------------------------------------------ Python's protocols

PROTOCOLS = [
    len, list, bool, float, int, complex, operator.index, reversed, str, iter, math.sqrt, round,
    lambda t: f"{t}", lambda t: f"{t:.2f}", lambda t: f"{t:>10}", lambda t: format(t, "d"),
    lambda t: 2 in t, lambda t: 2.5 in t, lambda t: "a" in t, lambda t: None in t,
    lambda t: t in [t], lambda t: t == None, lambda t: t != "a",  # noqa: E711
    lambda t: t == [1, 2], lambda t: [0, 1, 2][t], lambda t: range(5)[t], lambda t: t + "a",
    lambda t: t + [1], lambda t: [1] + t, lambda t: t * None, operator.neg, abs,
    lambda t: t.item(), lambda t: t.tolist(), lambda t: hash(t) == hash(t), lambda t: not t,
    lambda t: [x.item() for x in t], lambda t: dict([(t, 1)])[t], lambda t: t[0] if t.ndim else 0,
    lambda t: sum(t), lambda t: max(t), lambda t: sorted(t), lambda t: t and 1, lambda t: (*t,),
]  # fmt: skip
VALUES = [2, 2.5, True, False, [], [2], [1.5], [1, 2], [[1, 2], [3, 4]], [2.5, math.inf], -3]


def outcome(f, t):
    """What f does with t: a value as nested lists, or the class of the error."""
    try:
        return plain(f(t))
    except (TypeError, ValueError, RuntimeError, IndexError, OverflowError) as error:
        return error


def plain(r):
    if isinstance(r, (tt.Tensor, torch.Tensor)):
        return ("tensor", r.tolist())
    if isinstance(r, (list, tuple)):
        return [plain(v) for v in r]
    if hasattr(r, "__next__"):
        return [plain(v) for v in r]
    return r


@pytest.mark.parametrize("i", range(len(PROTOCOLS)))
@pytest.mark.parametrize("value", VALUES, ids=str)
def test_protocols_as_in_pytorch(i, value):
    f = PROTOCOLS[i]
    if f is abs and np.array(value).dtype == bool:
        pytest.skip("PyTorch's abs is not for bools, NumPy's is")
    for make in (lambda m: m.tensor(value), lambda m: m.tensor(value)[None]):
        ours, theirs = outcome(f, make(tt)), outcome(f, make(torch))
        if isinstance(theirs, Exception):
            assert isinstance(ours, type(theirs)), (ours, theirs)
        else:
            assert repr(ours) == repr(theirs)


def test_iteration_is_on_the_tape():
    x = tracked()
    for row in x:
        (row * row).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * A, rtol=1e-6)
    first, *_ = x
    assert first.requires_grad


def test_scalar_conversions_of_special_values():
    for make in (tt.tensor, torch.tensor):
        assert math.isnan(float(make(math.nan)))
        with pytest.raises(ValueError):
            int(make(math.nan))
        with pytest.raises(OverflowError):
            int(make(math.inf))
