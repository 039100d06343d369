"""The stand-in against CuPy: what it refuses, and, where CuPy is installed, that CuPy agrees.

CuPy imports without a GPU, and can be asked everything up to the launch of a kernel: signatures,
the loops of its ufuncs and how one is chosen, and what it refuses, over arrays in host memory that
it takes for a device's. (Where it would launch, it says that there is no driver.)
"""

import inspect
import itertools
import pickle

import numpy as np
import pytest

from .device import CUDARuntimeError, Device, Memory, Waited, current, no_waiting
from .functions import LINALG, METHODS, SIGNATURES
from .standin import cupy as standin
from .ufuncs import ALIASES, LOOPS, WHERE, resolve


@pytest.fixture(scope="module")
def real():
    pytest.importorskip("ml_dtypes")  # before cupy, for bfloat16
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: nothing to hold against")
    if not cupy.__version__.startswith("14."):
        pytest.skip(f"the stand-in keeps the rules of CuPy 14, this is {cupy.__version__}")
    return cupy


# ------------------------------------------------------------------------------ signatures, loops


def parameters(signature):
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


def wanted(text):
    scope: dict = {}
    exec(f"def f({text}): pass", scope)
    return parameters(inspect.signature(scope["f"]))


@pytest.mark.parametrize("name", SIGNATURES)
def test_functions_have_cupys_signatures(real, name):
    assert wanted(SIGNATURES[name]) == parameters(inspect.signature(getattr(real, name))) or (
        type(getattr(real, name)).__name__ == "builtin_function_or_method"
    )


@pytest.mark.parametrize("name", LINALG)
def test_matrix_functions_have_cupys_signatures(real, name):
    assert wanted(LINALG[name]) == parameters(inspect.signature(getattr(real.linalg, name)))


@pytest.mark.parametrize("name", METHODS)
def test_methods_have_cupys_signatures(real, name):
    """CuPy's are written in Cython: the signature is the first line of the docstring."""
    line = getattr(real.ndarray, name).__doc__.splitlines()[0]
    text = line[line.index("(self") + 5 : line.index(")")].lstrip(", ")
    for kind in ("_ndarray_base ", "Py_ssize_t ", "int "):
        text = text.replace(kind, "")
    assert wanted(METHODS[name]) == wanted(text)


def test_every_name_is_cupys(real):
    for name in vars(standin):
        assert name.startswith("__") or hasattr(real, name), name
    ours = {n for n in dir(standin.ndarray) if not n.startswith("__")} - {"_a", "_memory"}
    assert ours <= set(dir(real.ndarray))


def loops_of(ufunc):
    """CuPy's, without complex numbers and with one name for each dtype."""
    found = []
    for text in ufunc.types:
        inputs, out = text.replace("q", "l").replace("Q", "L").split("->")
        if not set("FDV") & set(inputs) and (inputs, out) not in found:
            found.append((inputs, out))
    return found


def chars(loops):
    letter = lambda t: "E" if t.name == "bfloat16" else t.char  # noqa: E731
    return [("".join(map(letter, inputs)), letter(out)) for inputs, out in loops]


@pytest.mark.parametrize("name", [*LOOPS, *ALIASES])
def test_ufuncs_have_cupys_loops(real, name):
    assert chars(LOOPS[ALIASES.get(name, name)]) == loops_of(getattr(real, name))


COMPARED = LOOPS["equal"]
DTYPES = [np.dtype(c) for c in "?bBhHiIlLefd"]


def weak_as_cupy_has_it(types, weak):
    """Python numbers are weak unless their kind is above that of all arrays: CuPy's own test of
    this cannot be called."""
    kinds = [{"b": 0, "i": 1, "u": 1, "f": 2}[t.kind] for t in types]
    arrays = [k for k, w in zip(kinds, weak) if not w]
    numbers = [k for k, w in zip(kinds, weak) if w]
    follow = bool(arrays) and bool(numbers) and max(arrays) >= max(numbers)
    return tuple(w if w and follow else False for w in weak)


@pytest.mark.parametrize("name", LOOPS)
def test_the_same_loop_is_chosen(real, name):
    """For every pair of dtypes, and every dtype with a Python number."""
    loops, ops = LOOPS[name], getattr(real, name)._ops
    nin = len(loops[0][0])
    cases = [(types, (None,) * nin) for types in itertools.product(DTYPES, repeat=nin)]
    for t, weak in itertools.product(DTYPES if nin == 2 else [], (bool, int, float)):
        cases += [((t, np.dtype(weak)), (None, weak)), ((np.dtype(weak), t), (weak, None))]
    for types, weak in cases:
        if int in weak and np.dtype(np.uint64) in types and loops is COMPARED:
            continue  # CuPy compares them as uint64 and int64: with the same result
        theirs = ops._guess_routine_from_in_types(types, weak_as_cupy_has_it(types, weak))
        try:
            inputs, out = resolve(name, loops, list(types), list(weak))
            expected = f"_Op({inputs!r}, ({out!r},), routine="
        except TypeError:
            expected = "None"
        assert expected in repr(theirs), (types, weak)


def test_where_has_cupys_loops(real):
    from cupy._sorting.search import _where_ufunc

    assert chars(WHERE) == loops_of(_where_ufunc)


# ------------------------------------------------------------------------------ what is refused


def standins(shape, dtype=np.float32):
    return standin.asarray(np.ones(shape, dtype))


HOST = np.ones((2, 3), np.float32)
# what is tried -> the exception. `a` makes an array of the device
REFUSED = {
    "np.asarray(a)": (TypeError, lambda cp, a: np.asarray(a((2, 3)))),
    "np.array([a, a])": (TypeError, lambda cp, a: np.array([a((2,)), a((2,))])),
    "memoryview": (TypeError, lambda cp, a: memoryview(a((2, 3)))),
    "as an index of a list": (TypeError, lambda cp, a: [1, 2][a((), np.int64)]),
    "range(a)": (TypeError, lambda cp, a: range(a((), np.int64))),
    "hash": (TypeError, lambda cp, a: hash(a((2,)))),
    "len of 0-d": (TypeError, lambda cp, a: len(a(()))),
    "iterating 0-d": (TypeError, lambda cp, a: iter(a(()))),
    "NumPy writes it": (TypeError, lambda cp, a: HOST.copy().__setitem__(..., a((2, 3)))),
    "item(0)": (TypeError, lambda cp, a: a((2, 3)).item(0)),
    "item of many": (ValueError, lambda cp, a: a((2, 3)).item()),
    "astype(casting=)": (TypeError, lambda cp, a: a((2,)).astype(int, casting="safe")),
    "sum(where=)": (TypeError, lambda cp, a: cp.sum(a((2,)), where=a((2,), bool))),
    "sum(initial=)": (TypeError, lambda cp, a: a((2,)).sum(initial=1.0)),
    "add(where=)": (TypeError, lambda cp, a: cp.add(a((2,)), a((2,)), where=True)),
    "add.at of int8": (
        TypeError, lambda cp, a: cp.add.at(a((2,), np.int8), a((2,), np.int64), a((2,), np.int8))
    ),
    "add.at of bool": (
        TypeError, lambda cp, a: cp.add.at(a((2,), bool), a((2,), np.int64), a((2,), bool))
    ),
    "maximum.at of float16": (
        TypeError,
        lambda cp, a: cp.maximum.at(a((2,), np.float16), a((2,), np.int64), a((2,), np.float16)),
    ),
    "multiply.at": (
        NotImplementedError, lambda cp, a: cp.multiply.at(a((2,)), a((2,), np.int64), a((2,)))
    ),
    "maximum.reduce": (NotImplementedError, lambda cp, a: cp.maximum.reduce(a((2, 3)))),
    "maximum.accumulate": (NotImplementedError, lambda cp, a: cp.maximum.accumulate(a((2, 3)))),
    "quicksort": (ValueError, lambda cp, a: cp.argsort(a((2, 3)), kind="quicksort")),
    "repeat by NumPy": (TypeError, lambda cp, a: a((2, 3)).repeat(np.array([1, 2]), 0)),
    "flags.writeable": (AttributeError, lambda cp, a: a((2,)).flags.writeable),
    "ctypes": (AttributeError, lambda cp, a: a((2,)).ctypes),
    "an index out of range": (IndexError, lambda cp, a: a((2, 3))[5]),
    "too many indices": (IndexError, lambda cp, a: a((2, 3))[0, 0, 0]),
    "floats as an index": (IndexError, lambda cp, a: a((2, 3))[a((2,))]),
    "a mask of another shape": (IndexError, lambda cp, a: a((2, 3))[a((3,), bool)]),
    "NumPy written by a slice": (ValueError, lambda cp, a: a((2, 3)).__setitem__(0, HOST[0])),
    "squeeze of 2": (ValueError, lambda cp, a: a((2, 3)).squeeze(0)),
    "transpose": (ValueError, lambda cp, a: cp.transpose(a((2, 3)), (0,))),
    "take_along_axis by floats": (
        IndexError, lambda cp, a: cp.take_along_axis(a((2, 3)), a((2, 3)), 0)
    ),
    "take_along_axis, dims": (
        ValueError, lambda cp, a: cp.take_along_axis(a((2, 3)), a((2,), np.int64), 0)
    ),
    "where of a number": (AttributeError, lambda cp, a: cp.where(True, a((2,)), 0)),
    "where of half": (ValueError, lambda cp, a: cp.where(a((2,), bool), a((2,)))),
    "a name CuPy lacks": (AttributeError, lambda cp, a: cp.nditer),
}  # fmt: skip
# what the stand-in refuses and CuPy, too, but only at the GPU
REFUSED_AT_THE_GPU = {
    "host + device": (TypeError, lambda cp, a: HOST + a((2, 3))),
    "device + host": (TypeError, lambda cp, a: a((2, 3)) + HOST),
    "exp(host)": (TypeError, lambda cp, a: cp.exp(HOST)),
    "np.add(out=host)": (TypeError, lambda cp, a: np.add(a((2, 3)), 1, out=HOST.copy())),
    "concatenate mixed": (TypeError, lambda cp, a: cp.concatenate([a((2, 3)), HOST])),
    "a wider out=": (
        TypeError, lambda cp, a: cp.add(a((2,)), 1.0, out=a((2,), np.int32))
    ),
    "solve does not broadcast": (
        ValueError, lambda cp, a: cp.linalg.solve(a((2, 3, 3)), a((3, 1)))
    ),
    "inv of float16": (TypeError, lambda cp, a: cp.linalg.inv(a((2, 2), np.float16))),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED | REFUSED_AT_THE_GPU)
def test_refused(what):
    error, attempt = (REFUSED | REFUSED_AT_THE_GPU)[what]
    with pytest.raises(error):
        attempt(standin, standins)


@pytest.mark.parametrize("what", REFUSED)
def test_cupy_refuses_it_too(real, what):
    host = np.zeros(64)

    def array(shape, dtype=np.float32):
        memory = real.cuda.UnownedMemory(host.ctypes.data, host.nbytes, host, device_id=0)
        return real.ndarray(shape, dtype, memptr=real.cuda.MemoryPointer(memory, 0))

    error, attempt = REFUSED[what]
    with pytest.raises(error) as caught:
        attempt(real, array)
    assert not isinstance(caught.value, real.cuda.runtime.CUDARuntimeError)


# ------------------------------------------------------------------------------ devices, waiting


def test_a_kernel_on_another_device_is_noticed():
    x = standins((2, 3))
    with Device(1):
        y = standins((2, 3))
        for run in (lambda: x + 1, lambda: y + x, lambda: x.sum(), lambda: x @ x.T, lambda: x[[0]],
                    lambda: standin.concatenate([x, x]), lambda: x.astype(int), lambda: x.fill(1),
                    lambda: x.__setitem__(0, 1), lambda: standin.exp(x, out=y)):  # fmt: skip
            with pytest.raises(ValueError, match="different from the current device"):
                run()
        assert x.T.device.id == x[0].device.id == x[:0].device.id == 0  # views: no kernel
        assert x.copy().device.id == standin.asarray(x).device.id == 1
        with pytest.raises(NotImplementedError, match="non-contiguous"):
            standin.asarray(x[:, ::2])
    assert (y.device.id, current.device) == (1, 0) and float(y.get().sum()) == 6
    with pytest.raises(CUDARuntimeError, match="invalid device"), Device(7):
        pass


WAITS = {
    "float": lambda x: float(x[0, 0]), "bool": lambda x: bool(x[0, 0]),
    "int": lambda x: int(x[0, 0]),
    "item": lambda x: x[0, 0].item(), "tolist": lambda x: x.tolist(), "get": lambda x: x.get(),
    "print": repr, "format": lambda x: f"{x[0, 0]}", "asnumpy": standin.asnumpy,
    "a mask": lambda x: x[x > 0], "a mask, written": lambda x: x.__setitem__(x > 0, 1),
    "nonzero": standin.nonzero, "unique": standin.unique, "in": lambda x: 5 in x[0],
    "synchronize": lambda x: x.device.synchronize(), "pickle": pickle.dumps,
    "bincount": lambda x: standin.bincount(x[0].astype(int)),
}  # fmt: skip


@pytest.mark.parametrize("what", WAITS)
def test_who_reads_a_value_waits(what):
    x = standins((2, 3))
    before = current.waits
    WAITS[what](x)
    assert current.waits > before
    with no_waiting(), pytest.raises(Waited):
        WAITS[what](x)


def test_arithmetic_does_not_wait():
    x = standins((2, 3))
    with no_waiting():
        y = (x @ x.T).max() * 2 + standin.where(x > 0, x, 0).sum(axis=0)[1]
        y[...] = standin.argsort(x, axis=1)[0, 0]
    assert type(y) is type(x) and y.shape == () and y.item() == 0


def test_results_stay_arrays_and_indices_wrap_around():
    x = standin.asarray(np.arange(6.0))
    assert type(x[2]) is type(x.sum()) is standin.ndarray
    assert x[standin.asarray([7, -1])].get().tolist() == [1, 5]  # unseen, as on a GPU
    standin.add.at(x, standin.asarray([0, 0, 6]), 1.0)
    assert x.get()[0] == 3
    assert np.isnan(standin.empty(3).get()).all()  # memory as it comes
    singular = standin.linalg.inv(standin.zeros((2, 2)))
    assert not np.isfinite(singular.get()).any()  # no error: cuSOLVER's word is not asked for


def test_memory_is_counted():
    before = list(Memory.used)
    x = standins((1000,))
    view = x[10:]
    assert Memory.used[0] - before[0] == 4096  # 4000 in units of 512
    del x
    assert Memory.used[0] > before[0] and view.base is not None
    del view
    assert Memory.used == before
