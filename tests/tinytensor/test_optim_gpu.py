"""What happens on a GPU, without one: arrays that refuse to be read, and only know CuPy's names.

A stand-in for cupy: NumPy underneath, but every operation must go through the module or the
array's own operators, and nothing may look at a value (float(), bool(), item(): a GPU would have
to be waited for). The results must be those of the CPU.
"""

import math
import sys
import types

import numpy as np
import pytest

import tinytensor as tt
from tinytensor import nn, optim
from tinytensor.autograd import wrap


class GpuArray:
    """Like a cupy.ndarray, as far as it goes."""

    __array_ufunc__ = None  # NumPy must not touch it
    device_stack: list = []

    def __init__(self, a):
        self.a = np.asarray(a)

    shape = property(lambda self: self.a.shape)
    dtype = property(lambda self: self.a.dtype)
    size = property(lambda self: self.a.size)
    ndim = property(lambda self: self.a.ndim)
    flags = property(lambda self: self.a.flags)
    device = property(lambda self: GpuDevice())

    def __getattr__(self, name):
        if name not in ("reshape", "astype", "sum", "max", "copy"):
            raise AttributeError(f"not asked of a GPU array so far: {name}")
        method = getattr(self.a, name)
        return lambda *args, **kwargs: GpuArray(method(*args, **kwargs))

    def __getitem__(self, index):
        return GpuArray(self.a[index])

    def __setitem__(self, index, value):
        self.a[index] = plain(value)

    def refuse(self, *_):
        raise AssertionError("a value was read: the GPU is waited for")

    __bool__ = __float__ = __int__ = __index__ = __array__ = item = get = tolist = refuse


class GpuDevice:
    id = 0

    def __enter__(self):
        GpuArray.device_stack.append(self)

    def __exit__(self, *_):
        GpuArray.device_stack.pop()


def plain(x):
    if isinstance(x, (list, tuple)):
        return [plain(i) for i in x]
    assert not isinstance(x, np.ndarray), "an array of the CPU among those of the GPU"
    return x.a if isinstance(x, GpuArray) else x


def on_gpu(function):
    def run(*args, out=None, **kwargs):
        assert GpuArray.device_stack, "on whichever device is the current one"
        result = function(*map(plain, args), **kwargs)
        if out is None:
            return GpuArray(result)
        out.a[...] = result
        return out

    return run


for operator in ("add", "sub", "mul", "truediv", "pow", "radd", "rsub", "rmul", "rtruediv",
                 "eq", "lt", "gt"):  # fmt: skip
    setattr(GpuArray, f"__{operator}__", on_gpu(getattr(np.ndarray, f"__{operator}__")))
GpuArray.__abs__ = on_gpu(np.abs)


def in_place(function):
    def run(self, other):
        assert GpuArray.device_stack
        self.a[...] = function(self.a, plain(other))
        return self

    return run


for operator, function in (("iadd", np.add), ("isub", np.subtract), ("imul", np.multiply),
                           ("itruediv", np.divide)):  # fmt: skip
    setattr(GpuArray, f"__{operator}__", in_place(function))


@pytest.fixture
def gpu(monkeypatch):
    names = ("add", "subtract", "multiply", "divide", "negative", "sqrt", "maximum", "minimum",
             "stack", "asarray", "dot", "clip", "empty", "zeros_like")  # fmt: skip
    fake = types.SimpleNamespace(**{name: on_gpu(getattr(np, name)) for name in names})
    monkeypatch.setitem(sys.modules, "cupy", fake)
    return lambda a: wrap(GpuArray(np.array(a)))


OPTIMIZERS = {
    "SGD": (optim.SGD, {"momentum": 0.9, "weight_decay": 0.1, "dampening": 0.2}),
    "SGD nesterov": (optim.SGD, {"momentum": 0.9, "nesterov": True, "maximize": True}),
    "Adam": (optim.Adam, {"weight_decay": 0.1, "maximize": True}),
    "AdamW": (optim.AdamW, {"amsgrad": True}),
    "RMSprop": (optim.RMSprop, {"centered": True, "momentum": 0.9}),
}


@pytest.mark.parametrize("norm_type", [2, math.inf, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_and_clipping_never_wait(gpu, name, norm_type):
    rng = np.random.default_rng(0)
    make, options = OPTIMIZERS[name]
    values = [rng.standard_normal(s).astype(np.float32) for s in ((3, 4), (5,), ())]
    sides = []
    for put in (tt.tensor, gpu):
        params = [put(v) for v in values]
        for p in params:
            p.requires_grad = True
        sides.append((put, params, make(params, lr=0.1, **options)))
    for _ in range(4):
        grads = [rng.standard_normal(v.shape).astype(np.float32) for v in values]
        norms = []
        for put, params, opt in sides:
            opt.zero_grad()
            for p, g in zip(params, grads):
                p.grad = put(g)
            norms.append(nn.utils.clip_grad_norm_(params, 0.7, norm_type))
            nn.utils.clip_grad_value_(params, 0.3)
            opt.step()
        assert norms[0].item() == norms[1].array.a
    for p, q in zip(sides[0][1], sides[1][1]):
        assert np.array_equal(p.array, q.array.a) and isinstance(q.array, GpuArray)
