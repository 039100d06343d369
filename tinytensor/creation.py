"""Making tensors: from data, of constants, of random numbers."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from . import backend, dtypes, random
from .autograd import Variable, wrap
from .errors import ArgumentError, DtypeError, RaggedError, RangeError, ShapeError
from .ops.shape import sizes
from .random import Generator, default_generator
from .tensor import Tensor


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new leaf that copies data: numbers, nested lists, NumPy arrays, Tensors.

    Python floats become the default dtype, ints int64, bools bool; arrays keep their dtype.
    """
    t = as_tensor(data, dtype=dtype, device=device, copy=True)
    return t.requires_grad_() if requires_grad else t


def as_tensor(data: Any, dtype: Any = None, device: Any = None, *, copy: bool = False) -> Tensor:
    """data as a Tensor, without a copy where memory can be shared."""
    if isinstance(data, Variable):
        if not copy:
            return data.to(device=device, dtype=dtype)  # type: ignore[attr-defined]
        array = data.array
        device = device or backend.device_of(array)
    elif hasattr(data, "dtype") and hasattr(data, "shape"):  # an array, or a scalar of one
        array = data if not isinstance(data, np.generic) else np.asarray(data)
        if not isinstance(array, np.ndarray):
            device = device or backend.device_of(array)
    else:
        array = _from_python(data, dtype)
    if array.dtype.kind not in "biufV":
        raise DtypeError(f"tensor: data of dtype {array.dtype} is neither numbers nor bools")
    array = backend.to_device(array, backend.resolve(device))
    if dtype is not None and array.dtype != dtype:
        with backend.using(array):
            array = array.astype(dtype)
    elif copy:
        array = backend.copy(array)
    return wrap(array)


def _from_python(data: Any, dtype: Any) -> np.ndarray:
    try:
        array = np.array(_plain(data))
    except ValueError:
        raise RaggedError(
            "tensor: the nested lists have different lengths: every row needs as many elements"
        ) from None
    if array.dtype.kind == "f" or array.size == 0:
        return array.astype(dtype or dtypes.get_default_dtype())
    if array.dtype.kind not in "biu":
        raise ArgumentError(
            f"tensor: data must be numbers, lists of numbers, arrays or Tensors, got "
            f"{type(data).__name__} {str(data)[:40]!r}"
        )
    return array


def _plain(data: Any) -> Any:
    """Lists that hold Tensors, as lists of numbers."""
    if isinstance(data, (list, tuple)):
        return [_plain(d) for d in data]
    return data.tolist() if isinstance(data, Variable) else data  # type: ignore[attr-defined]


def from_numpy(array: np.ndarray) -> Tensor:
    """A Tensor over the memory of a NumPy array: writes to one show in the other."""
    if not isinstance(array, np.ndarray):
        raise ArgumentError(f"from_numpy: expected a NumPy array, got {type(array).__name__}")
    return as_tensor(array)


def _new(make: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    device = backend.resolve(device)
    dtype = dtypes.get_default_dtype() if dtype is None else np.dtype(dtype)
    xp = backend.namespace(device)
    if device.type == "cuda":
        with xp.cuda.Device(device.index):
            t = wrap(make(xp, dtype))
    else:
        t = wrap(make(xp, dtype))
    return t.requires_grad_() if requires_grad else t


def _checked(name: str, shape: tuple) -> tuple:
    shape = sizes(shape)
    if any(n < 0 for n in shape):
        raise ShapeError(f"{name}: sizes must not be negative, got {shape}")
    return shape


def _number(v: Any) -> Any:
    return v.item() if hasattr(v, "item") else v


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    shape = _checked("zeros", size)
    return _new(lambda xp, d: xp.zeros(shape, d), dtype, device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    shape = _checked("ones", size)
    return _new(lambda xp, d: xp.ones(shape, d), dtype, device, requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Memory as it comes: fill it before you read it."""
    shape = _checked("empty", size)
    return _new(lambda xp, d: xp.empty(shape, d), dtype, device, requires_grad)


def full(
    size: Any, fill_value: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    shape = _checked("full", (size,))
    if isinstance(fill_value, Variable):
        fill_value = fill_value.item()  # type: ignore[attr-defined]
    if dtype is None:
        dtype = dtypes.result_type(fill_value)
    make = lambda xp, d: xp.full(shape, np.asarray(fill_value).astype(d).item(), d)
    return _new(make, dtype, device, requires_grad)


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """start, start + step, ... below end: ceil((end - start) / step) numbers."""
    if end is None:
        start, end = 0, start
    start, end, step = (_number(v) for v in (start, end, step))
    if step == 0 or not 0 <= (end - start) / step < math.inf:
        raise ArgumentError(f"arange: from {start} a step of {step} never reaches {end}")
    if dtype is None and all(isinstance(v, int) for v in (start, end, step)):
        dtype = dtypes.int64
    if dtype == dtypes.int64:
        start, end, step = int(start), int(end), int(step)
    count = math.ceil((end - start) / step)

    def make(xp: Any, d: Any) -> Any:
        if d.kind in "iu":
            return (int(start) + int(step) * xp.arange(count)).astype(d)
        return (start + step * xp.arange(count, dtype=np.float64)).astype(d)

    return _new(make, dtype, device, requires_grad)


def linspace(
    start: float, end: float, steps: int, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """steps numbers from start to end, both included, equally far apart."""
    start, end, steps = (_number(v) for v in (start, end, steps))
    if dtype == dtypes.bool:
        raise DtypeError("linspace: there are no bools between start and end: use tt.full")
    if not isinstance(steps, int) or steps < 0:
        raise ArgumentError(f"linspace: steps must be an int, not negative, got {steps!r}")

    def make(xp: Any, d: Any) -> Any:
        first, last = (int(start), int(end)) if d.kind in "iu" else (start, end)
        step = (last - first) / max(steps - 1, 1)
        i = xp.arange(steps, dtype=np.float64)
        ahead, back = first + step * i, last - step * (steps - 1 - i)
        return xp.where(i < steps / 2, ahead, back).astype(d)

    return _new(make, dtype, device, requires_grad)


def logspace(
    start: float, end: float, steps: int, base: float = 10.0, *, dtype: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """base to the power of linspace(start, end, steps)."""
    start, end, steps = (_number(v) for v in (start, end, steps))
    if not isinstance(steps, int) or steps < 0:
        raise ArgumentError(f"logspace: steps must be an int, not negative, got {steps!r}")

    def make(xp: Any, d: Any) -> Any:
        ends = (int(start), int(end)) if d.kind in "iu" else (start, end)
        return (base ** xp.linspace(*ends, steps)).astype(d)

    return _new(make, dtype, device, requires_grad)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None):
    """(2, count): rows and columns of what is on and below a diagonal of a (row, col) matrix."""
    _checked("tril_indices", (row, col))
    make = lambda xp, d: xp.stack(xp.nonzero(xp.tri(row, col, offset))).astype(d)  # noqa: E731
    return _new(make, dtype or dtypes.int64, device, False)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None):
    """(2, count): rows and columns of what is on and above a diagonal of a (row, col) matrix."""
    _checked("triu_indices", (row, col))
    above = lambda xp: 1 - xp.tri(row, col, offset - 1)  # noqa: E731
    make = lambda xp, d: xp.stack(xp.nonzero(above(xp))).astype(d)  # noqa: E731
    return _new(make, dtype or dtypes.int64, device, False)


def scalar_tensor(
    s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """The number s as a 0-d tensor, of the default float dtype."""
    dtype = dtypes.get_default_dtype() if dtype is None else dtype
    return full((), s, dtype=dtype, device=device, requires_grad=requires_grad)


def eye(
    n: int, m: int | None = None, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Ones on the diagonal of an (n, m) matrix, zeros elsewhere."""
    _checked("eye", (n, n if m is None else m))
    return _new(lambda xp, d: xp.eye(n, m, dtype=d), dtype, device, requires_grad)


def _like(t: Tensor, dtype: Any, device: Any) -> tuple[Any, Any]:
    return (dtype or t.dtype), (device or t.device)


def zeros_like(t: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False):
    dtype, device = _like(t, dtype, device)
    return zeros(t.shape, dtype=dtype, device=device, requires_grad=requires_grad)


def ones_like(t: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False):
    dtype, device = _like(t, dtype, device)
    return ones(t.shape, dtype=dtype, device=device, requires_grad=requires_grad)


def empty_like(t: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False):
    dtype, device = _like(t, dtype, device)
    return empty(t.shape, dtype=dtype, device=device, requires_grad=requires_grad)


def full_like(
    t: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
):  # fmt: skip
    dtype, device = _like(t, dtype, device)
    return full(t.shape, fill_value, dtype=dtype, device=device, requires_grad=requires_grad)


# ------------------------------------------------------------------------------ random numbers


def rand(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Uniform in [0, 1)."""
    shape = _checked("rand", size)
    key = (generator or default_generator).reserve(math.prod(shape))
    return _new(lambda xp, d: random.uniform(xp, key, shape, d), dtype, device, requires_grad)


def randn(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Standard normal."""
    shape = _checked("randn", size)
    key = (generator or default_generator).reserve(2 * math.prod(shape))
    return _new(lambda xp, d: random.normal(xp, key, shape, d), dtype, device, requires_grad)


def randint(
    low: int, high: Any, size: Any = None, *, generator: Generator | None = None,
    dtype: Any = None, device: Any = None,
) -> Tensor:  # fmt: skip
    """Uniform integers, low <= n < high. randint(high, size) starts at 0."""
    if size is None:
        low, high, size = 0, low, high
    try:
        low, high = operator.index(low), operator.index(high)
    except TypeError:
        raise ArgumentError(f"randint: low {low!r} and high {high!r} must be ints") from None
    if high <= low:
        raise ArgumentError(f"randint: high {high} must be above low {low}")
    shape = _checked("randint", (size,))
    key = (generator or default_generator).reserve(math.prod(shape))
    make = lambda xp, d: random.integers(xp, key, shape, low, high).astype(d)  # noqa: E731
    return _new(make, dtype or dtypes.int64, device, False)


def randperm(
    n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None
) -> Tensor:
    """The numbers 0 to n - 1 in random order."""
    key = (generator or default_generator).reserve(n)
    make = lambda xp, d: xp.argsort(random.words(xp, key, n)).astype(d)  # noqa: E731
    return _new(make, dtype or dtypes.int64, device, False)


def rand_like(t: Tensor, *, dtype: Any = None, device: Any = None, generator: Any = None):
    dtype, device = _like(t, dtype, device)
    return rand(t.shape, dtype=dtype, device=device, generator=generator)


def randn_like(t: Tensor, *, dtype: Any = None, device: Any = None, generator: Any = None):
    dtype, device = _like(t, dtype, device)
    return randn(t.shape, dtype=dtype, device=device, generator=generator)


def randint_like(t: Tensor, low: int, high: int | None = None, *, dtype: Any = None, device=None):
    low, high = (0, low) if high is None else (low, high)
    dtype, device = _like(t, dtype, device)
    return randint(low, high, t.shape, dtype=dtype, device=device)


@backend.on_its_device
def bernoulli(p: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with probability p, else 0, for each p."""
    xp = backend.namespace_of(p.array)
    key = (generator or default_generator).reserve(p.array.size)
    drawn = random.uniform(xp, key, p.array.shape, np.float64)
    return wrap((drawn < p.array).astype(p.array.dtype))


def normal(
    mean: Any, std: Any, size: Any = None, *, generator: Generator | None = None, **options: Any
) -> Tensor:
    """Normal with the given mean and standard deviation, numbers or tensors."""
    if not isinstance(std, Variable) and std < 0:
        raise ArgumentError(f"normal: std must not be negative, got {std}")
    like = next((v for v in (mean, std) if isinstance(v, Variable)), None)
    if size is None and like is None:
        raise ArgumentError("normal: mean and std are numbers: pass size")
    if like is not None:
        size = np.broadcast_shapes(*(np.shape(getattr(v, "array", v)) for v in (mean, std)))
        options = {"device": like.device, "dtype": like.dtype, **options}  # type: ignore
    return randn(size, generator=generator, **options) * std + mean


@backend.on_its_device
def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False,
    *, generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """num_samples indices per row of weights input (C,) or (N, C), each drawn in proportion.

    With replacement by inverting the cumulative weights; without, as the num_samples smallest of
    e / weight with e ~ Exp(1) (Efraimidis & Spirakis 2006).
    """
    weights = input.array
    xp = backend.namespace_of(weights)
    if weights.ndim not in (1, 2) or weights.dtype.kind not in "fV":
        raise DtypeError("multinomial: input must be floats of shape (C,) or (N, C)")
    if num_samples <= 0:
        raise ArgumentError(f"multinomial: num_samples must be positive, got {num_samples}")
    w = weights.astype(np.float64)
    if isinstance(w, np.ndarray) and not (np.isfinite(w).all() and (w >= 0).all()):
        raise RangeError("multinomial: weights must be finite and not negative")
    if isinstance(w, np.ndarray) and not (w.sum(-1) > 0).all():
        raise RangeError("multinomial: the weights of each row must add up to more than 0")
    if not replacement and num_samples > w.shape[-1]:
        raise RangeError(
            f"multinomial: cannot draw {num_samples} of {w.shape[-1]} without replacement"
        )
    gen = generator or default_generator
    if replacement or num_samples == 1:
        shape = (*w.shape[:-1], num_samples)
        u = random.uniform(xp, gen.reserve(math.prod(shape)), shape, np.float64)
        edges = xp.cumsum(w, axis=-1)
        u = u * edges[..., -1:]
        return wrap((u[..., None] >= edges[..., None, :]).sum(-1).astype(np.int64))
    u = random.uniform(xp, gen.reserve(w.size), w.shape, np.float64)
    with np.errstate(divide="ignore"):
        race = -xp.log1p(-u) / w
    race = xp.where(w > 0, race, math.inf)
    return wrap(xp.argsort(race, axis=-1)[..., :num_samples].astype(np.int64))
