"""Sample inputs for every op of the registry: what test_registry.py and mutations.py run on.

To add an op, write a generator here, or in a file `samples_*.py` beside this one:

    @samples_of("my_op")                      # the op's name in tt.REGISTRY
    def _(rng):
        yield call(rng.normal(size=(3, 4)))                       # tensor arguments
        yield call(rng.normal(size=(3, 4)), None, dim=1)          # None, and keyword arguments

Floats are float64 here and cast by the tests; ints and bools stay as they are. Keep samples small
(up to a dozen elements: a Jacobian is taken of each), away from kinks and ties, with results that
are finite, and let one of them use each argument and each option. An elementwise op (promote=...)
needs nothing where numbers in (0.12, 0.9) will do: it gets `elementwise` samples by itself.
"""

import importlib
import inspect
import math
import pathlib
import sys
from collections.abc import Callable, Iterable

import numpy as np

import tinytensor as tt
from tinytensor.random import Key

SAMPLES: dict[str, Callable] = {}

# ops without samples, and why
NOT_EXPANDED: set[str] = set()  # ops that cannot have an argument of equal numbers
NONE_NEEDED = {"transfer": "moves an array to another device: needs two; tested where there are"}


class Call:
    """The tensor arguments (arrays, numbers, None) and keyword arguments of one call of an op."""

    def __init__(self, *args, **static):
        self.args, self.static = args, static

    def __repr__(self):
        shown = [f"{a.shape}" if hasattr(a, "shape") else repr(a) for a in self.args]
        return ", ".join(shown + [f"{k}={v!r}"[:60] for k, v in self.static.items()])


call = Call


def samples_of(*names):
    def register(generator):
        for name in names:
            SAMPLES[name] = generator
        return generator

    return register


def samples(name: str) -> list[Call]:
    """The samples of an op of tt.REGISTRY, the same in every run."""
    rng = np.random.default_rng(sum(map(ord, name)))
    op = tt.REGISTRY[name]
    if name in SAMPLES:
        return list(SAMPLES[name](rng))
    required = inspect.Parameter.empty
    if op.promote is not None and all(d is not required for d in op.defaults.values()):
        return list(elementwise(len(op.params))(rng))
    return []


def elementwise(count: int, low: float = 0.12, high: float = 0.9, **static) -> Callable:
    """Samples of an elementwise op: shapes that broadcast, 0-d, empty, numbers among tensors.

    All numbers of one sample are at least 0.02 apart, so that nothing ties.
    """

    def generate(rng) -> Iterable[Call]:
        shapes = {
            1: [[(2, 3)], [()], [(0, 2)], [(1, 3, 1)]],
            2: [[(2, 3), (2, 3)], [(2, 1), (1, 3)], [(3,), ()], [(), ()], [(0, 2), (2,)]],
            3: [[(2, 2), (2, 2), (2, 2)], [(2, 1), (3,), ()], [(), (2, 1), (1, 2)]],
        }
        for listed in shapes.get(count, [[(2,)] * count, [(2, 1)] * (count - 1) + [(3,)]]):
            yield call(*distinct(rng, listed, low, high), **static)
        if count == 2:
            (x,) = distinct(rng, [(2, 2)], low, high)
            yield call(x, low + 0.51 * (high - low), **static)
            yield call(low + 0.49 * (high - low), x, **static)

    return generate


def distinct(rng, shapes, low, high):
    """Arrays of the given shapes whose numbers are spread evenly over (low, high), shuffled."""
    sizes = [math.prod(s) for s in shapes]
    numbers = rng.permutation(np.linspace(low, high, sum(sizes) + 2)[1:-1])
    parts = np.split(numbers, np.cumsum(sizes)[:-1])
    return [p.reshape(s) for p, s in zip(parts, shapes)]


def spread(*shape, low=-2.0, high=2.1, seed=0):
    return distinct(np.random.default_rng(seed), [shape], low, high)[0]


# ------------------------------------------------------------------------------ elementwise

for _name in ("add", "sub"):
    samples_of(_name)(
        lambda rng: [*elementwise(2, -2, 2)(rng), call(spread(2, 3), spread(3, seed=1), alpha=0.7)]
    )
for _name in ("mul", "maximum", "minimum", "squared_error"):
    samples_of(_name)(elementwise(2, -2, 2))
for _name in ("neg", "abs", "sign", "exp", "sin", "cos", "tanh", "sigmoid", "erf", "relu", "silu"):
    samples_of(_name)(elementwise(1, -2.2, 2.1))
for _name in ("log", "sqrt", "rsqrt"):
    samples_of(_name)(elementwise(1, 0.3, 2))
samples_of("div")(
    lambda rng: (
        [call(spread(2, 3), spread(2, 3, low=0.4)), call(spread(2, 1), spread(3, low=-1.7))]
        + [call(spread(3), 0.7), call(0.7, spread(3)), call(spread(), spread(low=1))]
    )
)
for _mode in ("floor", "trunc"):
    samples_of("div_rounded")(
        lambda rng: [
            c
            for mode in ("floor", "trunc")
            for c in elementwise(2, 0.3, 2.9, rounding_mode=mode)(rng)
        ]
    )


@samples_of("pow")
def _(rng):
    yield from elementwise(2, 0.3, 2.2)(rng)
    yield call(spread(2, 3), 3)
    yield call(spread(2, 3), 0)
    yield call(spread(2, 2), np.array([2, 3]))  # negative bases: only x can be differentiated


@samples_of("gelu")
def _(rng):
    for approximate in ("none", "tanh"):
        yield from elementwise(1, -2.5, 2.5, approximate=approximate)(rng)


@samples_of("clamp")
def _(rng):
    x = spread(3, 4)
    yield call(x, -0.9, 1.1)
    yield call(x, None, 0.7)
    yield call(x, -0.3, None)
    yield call(x, spread(4, low=-1.4, high=-0.6), spread(3, 1, low=0.4, high=1.3))
    yield call(x, spread(4, seed=1), spread(4, seed=2))  # min above max here and there


@samples_of("where")
def _(rng):
    yield call(rng.random((2, 3)) < 0.5, spread(2, 3), spread(2, 3, seed=1))
    yield call(rng.random((2, 1)) < 0.5, spread(3), spread(2, 1, seed=1))
    yield call(rng.random((2, 2)) < 0.5, spread(2, 2), 0.3)
    yield call(np.array(True), spread(), spread(seed=1))


@samples_of("masked_fill")
def _(rng):
    yield call(spread(2, 3), rng.random((2, 3)) < 0.5, 0.7)
    yield call(spread(2, 3), rng.random(3) < 0.5, spread(seed=1))
    yield call(spread(3), rng.random((2, 3)) < 0.5, spread(seed=1))
    yield call(spread(), np.array(True), spread(seed=1))


samples_of("cast")(
    lambda rng: [call(spread(2, 3), dtype=tt.float64), call(spread(), dtype=tt.float64)]
)
samples_of("clone", "positive")(elementwise(1, -2, 2))


@samples_of("eq", "ne", "lt", "le", "gt", "ge")
def _(rng):
    x = rng.integers(-1, 2, (3, 4)).astype(float)
    y = rng.integers(-1, 2, (3, 4)).astype(float)
    yield call(x, y)
    yield call(x, y[0])
    yield call(x, 1.0)


@samples_of(
    "logical_not", "isnan", "isinf", "isfinite", "isposinf", "isneginf", "signbit", "isreal"
)
def _(rng):
    yield call(np.array([[0.0, -1.5, np.nan], [np.inf, -np.inf, 2.0]]))
    yield call(np.array(0.5))
    yield call(np.zeros((0, 2)))


@samples_of("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift")
def _(rng):
    yield call(rng.integers(0, 9, (2, 3)), rng.integers(0, 5, 3))
    yield call(rng.integers(0, 9, (2, 3)), 3)


samples_of("bitwise_not")(
    lambda rng: [call(rng.integers(-5, 9, (2, 3))), call(rng.random(3) < 0.5)]
)

# ------------------------------------------------------------------------------ reductions

DIMS = [
    ((2, 3), {}),
    ((2, 3), {"dim": 0}),
    ((2, 3, 2), {"dim": (0, -1)}),
    ((2, 3, 2), {"dim": 1, "keepdim": True}),
    ((), {}),
    ((), {"dim": 0}),
    ((1, 3), {"dim": 1}),
]


def reduction(*extra, empty=True, **options):
    def generate(rng):
        for shape, dims in DIMS:
            yield call(spread(*shape), **dims, **options)
        if empty:
            yield call(np.zeros((0, 2)), dim=0, **options)
        yield from (c() for c in extra)

    return generate


samples_of("sum")(reduction())
samples_of("mean")(reduction(empty=False))
samples_of("amax", "amin")(reduction(empty=False))


@samples_of("var", "std")
def _(rng):
    for shape, dims in DIMS:
        if shape == (2, 3, 2) or shape == (2, 3):
            yield call(spread(*shape), **dims)
            yield call(spread(*shape), **dims, correction=0)


@samples_of("argmax", "argmin")
def _(rng):
    for shape, dims in DIMS:
        if not isinstance(dims.get("dim"), tuple):
            yield call(spread(*shape), **dims)
    yield call(np.array([[1.0, 3.0, 3.0], [2.0, 0.0, 0.0]]), dim=1)  # the first of equal ones


@samples_of("all", "any")
def _(rng):
    for shape, dims in DIMS:
        yield call(np.asarray(rng.random(shape) < 0.7, float), **dims)


@samples_of("logsumexp")
def _(rng):
    for shape, dims in DIMS:
        yield call(spread(*shape), **{"dim": tuple(range(len(shape))), **dims})


@samples_of("cumsum")
def _(rng):
    yield call(spread(2, 3), dim=0)
    yield call(spread(2, 3), dim=-1)
    yield call(spread(), dim=0)
    yield call(np.zeros((0, 2)), dim=0)


# ------------------------------------------------------------------------------ shapes

samples_of("reshape")(
    lambda rng: [
        call(spread(2, 3), shape=(3, 2)), call(spread(2, 3), shape=(-1,)),
        call(spread(), shape=(1, 1)), call(np.zeros((0, 2)), shape=(2, 0)),
    ]
)  # fmt: skip
samples_of("permute")(
    lambda rng: [call(spread(2, 3, 2), dims=(2, 0, 1)), call(spread(2, 3), dims=(0, 1)),
                 call(spread(), dims=())]
)  # fmt: skip
samples_of("transpose")(
    lambda rng: [call(spread(2, 3, 2), dim0=0, dim1=-1), call(spread(), dim0=0, dim1=0)]
)
samples_of("expand")(
    lambda rng: [call(spread(2, 1), shape=(2, 2, 3)), call(spread(), shape=(2, 2)),
                 call(spread(2, 3), shape=(2, 3))]
)  # fmt: skip
samples_of("diagonal")(
    lambda rng: [call(spread(3, 4)), call(spread(3, 4), offset=1), call(spread(3, 4), offset=-2),
                 call(spread(2, 2, 3), offset=0, dim1=2, dim2=0)]
)  # fmt: skip
samples_of("diagonal_scatter")(
    lambda rng: [call(spread(3), shape=(3, 4), offset=1, dim1=0, dim2=1),
                 call(spread(2, 2), shape=(2, 2, 3), offset=0, dim1=2, dim2=0)]
)  # fmt: skip
samples_of("cat")(
    lambda rng: [call(spread(2, 3), spread(1, 3, seed=1)), call(spread(2, 1), spread(2, 2), dim=-1),
                 call(spread(2, 2)), call(np.zeros((0, 2)), spread(1, 2), dim=0)]
)  # fmt: skip
samples_of("stack")(
    lambda rng: [call(spread(2, 3), spread(2, 3, seed=1)), call(spread(2), spread(2), dim=1),
                 call(spread(), spread())]
)  # fmt: skip
samples_of("split")(
    lambda rng: [call(spread(2, 5), sizes=(2, 0, 3), dim=1), call(spread(3), sizes=(1, 2), dim=0)]
)
samples_of("unbind")(lambda rng: [call(spread(3, 2), dim=0), call(spread(3, 2), dim=1)])
samples_of("flip")(lambda rng: [call(spread(2, 3), dims=(0, 1)), call(spread(2, 3), dims=(-1,))])
samples_of("tril", "triu")(
    lambda rng: [
        call(spread(3, 4)),
        call(spread(2, 3, 2), diagonal=1),
        call(spread(3, 3), diagonal=-1),
    ]
)

# ------------------------------------------------------------------------------ indexing

INDICES = [
    (slice(None), slice(0, 3, 2)),
    (1,),
    (Ellipsis, None, -1),
    (np.array([2, 0, 2]),),
    (slice(1, 3), np.array([[0, 1], [1, 1]])),
    (np.array([[True, False, True, True]] * 3),),
    (np.array([True, False, True]), slice(1, 2)),
    (np.array([0, 0]), slice(None, 2)),
]


@samples_of("getitem")
def _(rng):
    for index in INDICES:
        yield call(spread(3, 4), index=index)
    yield call(spread(), index=())


@samples_of("put_zeros")
def _(rng):
    for index in INDICES:
        yield call(spread(*np.zeros((3, 4))[index].shape), index=index, shape=(3, 4))


@samples_of("index_put")
def _(rng):
    for index in INDICES:
        repeats = any(hasattr(p, "dtype") and p.dtype.kind == "i" for p in index)
        shape = np.zeros((3, 4))[index].shape
        if not repeats:
            yield call(spread(3, 4), spread(*shape, seed=1), index=index)
        yield call(spread(3, 4), spread(*shape, seed=1), index=index, accumulate=True)
    yield call(spread(3, 4), spread(2, seed=1), index=(slice(None), slice(0, 2)))  # broadcast
    yield call(spread(3, 4), spread(seed=1), index=(np.array([2, 0]),))


@samples_of("take_along_axis")
def _(rng):
    yield call(spread(2, 3), index=np.array([[0, 0], [2, 1]]), axis=1)
    yield call(spread(2, 3), index=np.array([[0, 1, 1]]), axis=0)


@samples_of("put_along_axis")
def _(rng):
    yield call(spread(2, 2), index=np.array([[0, 0], [2, 1]]), axis=1, shape=(2, 3))
    yield call(spread(1, 3), index=np.array([[0, 1, 1]]), axis=0, shape=(2, 3))


@samples_of("gather")
def _(rng):
    yield call(spread(2, 3), index=np.array([[0, 0], [2, 1]]), dim=1)
    yield call(spread(2, 3), index=np.array([[0, 1]]), dim=0)  # smaller than x elsewhere


@samples_of("embedding")
def _(rng):
    yield call(spread(4, 2), index=np.array([[0, 3], [3, 1]]))
    yield call(spread(4, 2), index=np.array([0, 1, 1]), padding_idx=3)  # 3 would get none
    yield call(spread(4, 2), index=np.array(2))


@samples_of("add_rows")
def _(rng):
    yield call(spread(2, 2, 2), index=np.array([[0, 3], [3, 1]]), count=4)
    yield call(spread(3, 2), index=np.array([0, 0, 0]), count=2)


samples_of("argsort")(
    lambda rng: [call(spread(2, 3)), call(spread(2, 3), dim=0, descending=True), call(spread())]
)
samples_of("top")(
    lambda rng: [call(spread(2, 4), k=2, dim=1, largest=True),
                 call(spread(4, 2), k=3, dim=0, largest=False)]
)  # fmt: skip
samples_of("one_hot")(lambda rng: [call(np.array([[0, 2], [1, 1]]), num_classes=3)])
samples_of("take")(lambda rng: [call(spread(2, 3), places=np.array([[4, 0], [0, 5]][:1]))])
samples_of("put")(lambda rng: [call(spread(2, 3), spread(2, seed=1), places=np.array([4, 0]))])
samples_of("overwrite")(
    lambda rng: [call(spread(2, 3), spread(2, 3, seed=1)), call(spread(2, 3), spread(3, seed=1)),
                 call(spread(2), spread(seed=1))]
)  # fmt: skip

# ------------------------------------------------------------------------------ products, nn


@samples_of("matmul")
def _(rng):
    yield call(spread(2, 3), spread(3, 2, seed=1))
    yield call(spread(2, 2, 3), spread(3, 2, seed=1))
    yield call(spread(2, 1, 3), spread(2, 3, 2, seed=1))
    yield call(spread(2, 3), spread(2, 3, 1, seed=1))
    yield call(spread(2, 1, 1, 2), spread(1, 2, 2, 1, seed=1))
    yield call(np.zeros((2, 0)), np.zeros((0, 2)))


@samples_of("linear")
def _(rng):
    yield call(spread(2, 3), spread(2, 3, seed=1), spread(2, seed=2))
    yield call(spread(2, 2, 3), spread(1, 3, seed=1), None)
    yield call(spread(3), spread(2, 3, seed=1), spread(2, seed=2))
    yield call(np.zeros((0, 3)), spread(2, 3, seed=1), spread(2, seed=2))


@samples_of("softmax", "log_softmax")
def _(rng):
    yield call(spread(2, 3), dim=1)
    yield call(spread(2, 3, 2), dim=0)
    yield call(spread(), dim=0)
    yield call(spread(2, 1), dim=1)
    yield call(np.zeros((0, 2)), dim=1)


@samples_of("layer_norm")
def _(rng):
    yield call(spread(2, 4), spread(4, seed=1), spread(4, seed=2))
    yield call(spread(2, 2, 3), spread(3, seed=1), None, eps=0.1)
    yield call(spread(2, 3), None, None)
    yield call(spread(4), spread(4, seed=1), spread(4, seed=2))


@samples_of("rms_norm")
def _(rng):
    yield call(spread(2, 4), spread(4, seed=1))
    yield call(spread(2, 2, 3), None, eps=0.1)
    yield call(spread(4), spread(4, seed=1))


@samples_of("cross_entropy")
def _(rng):
    yield call(spread(3, 4), target=np.array([1, 3, 1]), ignore_index=-100)
    yield call(spread(3, 2), target=np.array([1, -1, 0]), ignore_index=-1)


samples_of("sub_at")(lambda rng: [call(spread(3, 2), spread(3, seed=1), index=np.array([1, 0, 1]))])
samples_of("dropout")(
    lambda rng: [call(spread(3, 4), p=0.5, key=Key(7, 2)), call(spread(2, 3), p=0.1, key=Key(1, 0))]
)


@samples_of("attention")
def _(rng):
    q, k, v = spread(2, 2), spread(3, 2, seed=1), spread(3, 2, seed=2)
    seen = np.array([[True, False, True], [True, True, False]])
    yield call(q, k, v, None, scale=0.7)
    yield call(spread(1, 3, 2), spread(2, 3, 2, seed=1), spread(3, 1, seed=2), None, is_causal=True)
    yield call(q, k, v, seen)
    yield call(q, k, v, spread(2, 3, seed=3))
    yield call(spread(2, 2, 2), k, v, spread(1, 3, seed=3), scale=0.5)
    yield call(q, k, v, None, dropout_p=0.3, rng=Key(3, 1))


@samples_of("packed_attention")
def _(rng):
    yield call(spread(2, 3, 12), n_head=2, scale=0.7)
    yield call(spread(1, 4, 6), n_head=1, is_causal=True)
    yield call(spread(2, 3, 12), n_head=2, is_causal=True, dropout_p=0.3, rng=Key(3, 1))


@samples_of("add_layer_norm")
def _(rng):
    yield call(spread(2, 4), spread(2, 4, seed=3), spread(4, seed=1), spread(4, seed=2))
    yield call(spread(2, 2, 3), spread(2, 2, 3, seed=3), spread(3, seed=1), None, eps=0.1)
    yield call(spread(2, 3), spread(2, 3, seed=1), None, None)


@samples_of("add_rms_norm")
def _(rng):
    yield call(spread(2, 4), spread(2, 4, seed=3), spread(4, seed=1))
    yield call(spread(2, 2, 3), spread(2, 2, 3, seed=3), None, eps=0.1)


@samples_of("gelu_mlp")
def _(rng):
    yield call(spread(2, 3), spread(4, 3, seed=1), spread(2, 4, seed=2), spread(4, seed=3),
               spread(2, seed=4))  # fmt: skip
    yield call(spread(1, 2, 2), spread(8, 2, seed=1), spread(3, 8, seed=2), None, None)
    yield call(spread(3), spread(2, 3, seed=1), spread(1, 2, seed=2), None, spread(1, seed=4))


@samples_of("layer_norm_linear")
def _(rng):
    yield call(spread(2, 4), spread(3, 4, seed=1), spread(4, seed=2), spread(4, seed=3),
               spread(3, seed=4))  # fmt: skip
    yield call(spread(2, 2, 3), spread(4, 3, seed=1), spread(3, seed=2), None, None, eps=0.1)
    yield call(spread(2, 3), spread(1, 3, seed=1), None, None, spread(1, seed=4))


@samples_of("layer_norm_mlp")
def _(rng):
    mlp = spread(5, 4, seed=1), spread(4, 5, seed=2)
    yield call(spread(2, 4), spread(2, 4, seed=3), *mlp, spread(4, seed=4), spread(4, seed=5),
               spread(5, seed=6), spread(4, seed=7))  # fmt: skip
    yield call(spread(1, 2, 4), spread(1, 2, 4, seed=3), *mlp, spread(4, seed=4), None, None, None,
               eps=0.1)  # fmt: skip
    yield call(spread(2, 4), spread(2, 4, seed=3), *mlp, None, None, None, spread(4, seed=7))


@samples_of("linear_cross_entropy")
def _(rng):
    kept = {"ignore_index": -1, "ahead": True}
    yield call(spread(3, 2), spread(4, 2, seed=1), spread(4, seed=2), target=np.array([1, 3, 1]),
               divisor=3, **kept)  # fmt: skip
    yield call(spread(1, 2, 3), spread(2, 3, seed=1), None, target=np.array([[1, -1]]),
               divisor=1, **kept)  # fmt: skip
    yield call(spread(2, 2), spread(3, 2, seed=1), 90 + spread(3), target=np.array([0, 2]),
               divisor=2, ignore_index=-1, ahead=False)  # fmt: skip


for _path in sorted(pathlib.Path(__file__).parent.glob("samples_*.py")):
    sys.path.insert(0, str(_path.parent))
    importlib.import_module(_path.stem)
    sys.path.pop(0)
