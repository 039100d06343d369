"""Samples (see samples.py) of the ops beyond a GPT's: both sides of each kink, every option."""

import math

import numpy as np
from samples import NONE_NEEDED, NOT_EXPANDED, call, distinct, elementwise, samples_of, spread

NONE_NEEDED.update(
    scale_gradient="its rule is not the derivative of its value: tested with embedding_bag",
    svd="U and V are given up to signs, which finite differences do not keep: test_linalg.py",
)

NOT_EXPANDED |= {"inv", "solve", "slogdet"}  # a matrix of equal numbers is singular

# ------------------------------------------------------------------------------ elementwise

WIDE = ("expm1", "tan", "atan", "sinc", "sinh", "cosh", "asinh", "erfc", "logsigmoid", "softsign",
        "mish", "selu", "square", "deg2rad", "rad2deg")  # fmt: skip
samples_of(*WIDE)(elementwise(1, -1.4, 1.5))
samples_of("hypot", "logaddexp", "logaddexp2", "absolute_error")(elementwise(2, -2, 2.1))
samples_of("acosh")(elementwise(1, 1.2, 2.5))
samples_of("floor", "ceil", "trunc", "round", "frac")(elementwise(1, -2.93, 2.94))
samples_of("lerp")(
    lambda rng: [*elementwise(3, -1, 2)(rng), call(spread(2, 3), spread(3, seed=1), 0.3)]
)


@samples_of("atan2")
def _(rng):
    yield from elementwise(2, -2, 2.1)(rng)
    yield call(spread(3), -0.7)


@samples_of("reciprocal")
def _(rng):
    yield call(spread(2, 3, low=0.4, high=2))
    yield call(spread(3, low=-2, high=-0.4))


@samples_of("remainder", "fmod")
def _(rng):
    yield call(spread(2, 3, low=-7.1, high=8), spread(3, low=1.3, high=2.9))
    yield call(spread(2, 3, low=-7.1, high=8), spread(2, 1, low=-2.9, high=-1.3))
    yield call(spread(3, low=-7.1, high=8), 1.7)
    yield call(7.3, spread(3, low=1.3, high=2.9))


@samples_of("copysign")
def _(rng):
    x, y = distinct(rng, [(2, 3), (3,)], -2, 2.1)
    yield call(x, y)
    yield call(x, -1.0)


@samples_of("xlogy")
def _(rng):
    yield call(spread(2, 3), spread(2, 3, low=0.3, high=2))
    yield call(spread(2, 1), 0.7)
    yield call(0.7, spread(3, low=0.3, high=2))


@samples_of("logit")
def _(rng):
    yield from elementwise(1, 0.1, 0.9)(rng)
    yield from elementwise(1, -0.2, 1.2, eps=0.16)(rng)


@samples_of("nan_to_num")
def _(rng):
    yield call(spread(2, 3))  # of finite numbers: finite differences know no others
    yield call(spread(), nan=1.0, posinf=2.0, neginf=3.0)


@samples_of("addcmul")
def _(rng):
    yield from elementwise(3, -2, 2)(rng)
    yield call(spread(2, 3), spread(3, seed=1), spread(2, 1, seed=2), value=0.7)


@samples_of("addcdiv")
def _(rng):
    for value in (1, 0.7):
        yield call(spread(2, 3), spread(3, seed=1), spread(2, 1, low=0.6, seed=2), value=value)


@samples_of("fmax", "fmin")
def _(rng):
    yield from elementwise(2, -2, 2)(rng)


@samples_of("gcd", "lcm")
def _(rng):
    yield call(rng.integers(1, 20, (2, 3)), rng.integers(1, 20, 3))


@samples_of("isclose")
def _(rng):
    x = np.array([1.0, 2.0, np.nan, np.inf])
    for equal_nan in (False, True):
        y = np.array([1.05, 2.5, np.nan, np.inf])
        yield call(x, y, rtol=0.1, atol=0.0, equal_nan=equal_nan)


samples_of("leaky_relu")(
    lambda rng: [
        *elementwise(1, -2, 2.1)(rng), call(spread(3), negative_slope=0.3),
        call(spread(3), negative_slope=-0.3),
    ]
)  # fmt: skip
samples_of("threshold")(elementwise(1, -2, 2.1, threshold=0.4, value=7.0))
samples_of("elu")(lambda rng: [*elementwise(1, -2, 2.1)(rng), call(spread(3), alpha=0.6)])
samples_of("celu")(lambda rng: [*elementwise(1, -2, 2.1)(rng), call(spread(3), alpha=0.6)])
samples_of("softplus")(
    lambda rng: [*elementwise(1, -2, 2.1)(rng), call(spread(4), beta=2.0, threshold=1.5)]
)
samples_of("hardtanh")(
    lambda rng: [*elementwise(1, -2, 2.1)(rng), call(spread(4), min_val=-0.3, max_val=1.2)]
)
samples_of("hardsigmoid", "hardswish")(elementwise(1, -5, 5.2))
samples_of("hardshrink", "softshrink")(
    lambda rng: [*elementwise(1, -2, 2.1)(rng), call(spread(4), lambd=1.1)]
)
samples_of("huber")(
    lambda rng: [c for d in (0.7, 1.9) for c in elementwise(2, -2, 2, delta=d)(rng)]
)
for _name, _low, _high in (("binary_cross_entropy", 0.15, 0.85), ("prelu", -2, 2.1)):
    samples_of(_name)(  # their arguments are tensors, never numbers
        lambda rng, low=_low, high=_high: [
            c for c in elementwise(2, low, high)(rng) if not any(map(np.isscalar, c.args))
        ]
    )

# ------------------------------------------------------------------------------ scans, order


@samples_of("cumprod", "logcumsumexp")
def _(rng):
    for shape, dim in (((2, 5), 1), ((3, 2), 0), ((), 0), ((2, 1), 1), ((0, 2), 0)):
        yield call(spread(*shape), dim=dim)
    x = spread(5)
    x[[1, 3]] = 0  # two zeros
    yield call(x, dim=0)


@samples_of("prod")
def _(rng):
    x = spread(2, 3)
    yield call(x)
    yield call(x, dim=1)
    yield call(x, dim=0, keepdim=True)
    yield call(spread())
    yield call(np.zeros((0, 2)), dim=0)
    for zeros in ([(0, 1)], [(0, 1), (0, 2)]):
        y = x.copy()
        y[tuple(zip(*zeros))] = 0
        yield call(y, dim=1)


@samples_of("where_extreme")
def _(rng):
    x = rng.integers(0, 4, (2, 6)) * 1.0
    for largest in (True, False):
        yield call(x, dim=1, largest=largest)


samples_of("nth")(lambda rng: [call(spread(2, 4), dim=1, n=2), call(spread(4, 2), dim=0, n=0)])
samples_of("middle")(
    lambda rng: [call(np.array([[3.0, np.nan, 1.0, 2.0]]), dim=1, ignore_nan=i) for i in (0, 1)]
)

# ------------------------------------------------------------------------------ places


@samples_of("scatter_amax", "scatter_amin")
def _(rng):
    index = (np.array([0, 2, 0, 2]),)
    for fresh in (None, np.array([1, 0, 1, 0], bool)):
        yield call(*distinct(rng, [(4,), (4,)], -2, 2), index=index, fresh=fresh)


@samples_of("roll")
def _(rng):
    yield call(spread(2, 3), shifts=(1,), dims=(1,))
    yield call(spread(2, 3), shifts=(1, -2), dims=(0, 1))


@samples_of("pad")
def _(rng):
    yield call(spread(2, 3), widths=[(1, 0), (0, 2)], value=7.0)
    yield call(spread(), widths=[], value=0)


@samples_of("windows")
def _(rng):
    yield call(spread(2, 7), size=(3,), stride=(2,), dilation=(1,))
    yield call(spread(1, 4, 3), size=(2, 2), stride=(1, 1), dilation=(2, 1))


@samples_of("overlap_add")
def _(rng):
    yield call(spread(2, 3, 3), space=(7,), stride=(2,), dilation=(1,))
    yield call(spread(1, 2, 2, 2, 2), space=(4, 3), stride=(1, 1), dilation=(2, 1))


samples_of("largest")(lambda rng: [call(spread(2, 3))])

# ------------------------------------------------------------------------------ convolutions

PLAIN = {"stride": (1,), "dilation": (1,), "groups": 1}
FANCY = {"stride": (2,), "dilation": (2,), "groups": 2}


@samples_of("conv")
def _(rng):
    yield call(spread(2, 1, 4), spread(2, 1, 2, seed=1), **PLAIN)
    yield call(spread(1, 2, 6), spread(2, 1, 2, seed=1), **FANCY)
    both = {"stride": (2, 1), "dilation": (1, 1), "groups": 1}
    yield call(spread(1, 1, 3, 3), spread(1, 1, 2, 2, seed=1), **both)


@samples_of("conv_input")
def _(rng):
    yield call(spread(2, 2, 3), spread(2, 1, 2, seed=1), space=(4,), **PLAIN)
    yield call(spread(1, 2, 2), spread(2, 1, 2, seed=1), space=(6,), **FANCY)


@samples_of("conv_weight")
def _(rng):
    yield call(spread(2, 1, 4), spread(2, 2, 3, seed=1), size=(2,), **PLAIN)
    yield call(spread(1, 2, 6), spread(1, 2, 2, seed=1), size=(2,), **FANCY)


@samples_of("normalize")
def _(rng):
    yield call(spread(2, 4), dims=(1,), eps=1e-3)
    yield call(spread(2, 2, 3), dims=(0, 2), eps=1e-2)


# ------------------------------------------------------------------------------ matrices


def regular(*batch, n=3, seed=0):
    """Matrices far from singular, of distinct singular values."""
    x = spread(*batch, n, n, seed=seed) * 0.4
    return x + np.diag(np.arange(1, n + 1) * 1.0)


samples_of("identity")(lambda rng: [call(spread(2, 2)), call(spread(2, 2, 2))])
samples_of("inv", "det", "slogdet")(
    lambda rng: [call(regular()), call(regular(2, n=2)), call(-regular(n=2)), call(regular(n=1))]
)


@samples_of("solve")
def _(rng):
    yield call(regular(), spread(3, 2, seed=1))
    yield call(regular(2, n=2), spread(2, 1, seed=1))
    yield call(regular(n=2), spread(2, 2, 1, seed=1))


@samples_of("p_norm")
def _(rng):
    for ord in (0, 1, 2, 3, 0.5, -1, 1.5):
        yield call(spread(2, 3), ord=ord, dim=None, keepdim=False)
    yield call(spread(2, 3), ord=2, dim=(1,), keepdim=True)
    yield call(spread(), ord=2, dim=None, keepdim=False)
    yield call(spread(2, 3), ord=math.pi, dim=(0, 1), keepdim=False)
