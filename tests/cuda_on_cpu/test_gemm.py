"""gemm against float64: every layout, batch, dtype and epilogue; and that mistakes are noticed."""

import ctypes
import itertools
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytensor import backend, precision
from tinytensor.errors import ArgumentError, DeviceError, DtypeError, ShapeError
from tinytensor.kernels.cuda import cublaslt, plans
from tinytensor.kernels.cuda import gemm as module
from tinytensor.kernels.cuda.gemm import aux_like, gemm

from .standin import CUBLASLT, installed

BF16 = np.dtype(ml_dtypes.bfloat16)
# how far from float64 a result of a few dozen terms around 1 may be: its own rounding, and for
# float32 that of the sums
TOLERANCE = {"float64": 1e-13, "float32": 2e-5, "float16": 2e-3, "bfloat16": 1.6e-2}
PAIRS = [
    (np.float64, np.float64), (np.float32, np.float32), (np.float16, np.float16),
    (np.float16, np.float32), (BF16, BF16), (BF16, np.float32),
]  # fmt: skip


@pytest.fixture
def cupy(request, cuda):
    """CuPy, or the stand-in."""
    return backend.cupy()


@pytest.fixture
def calls(request, cupy):
    """What cublasLtMatmul was asked since; of the stand-in alone."""
    if request.config.getoption("--device") == "cuda":
        pytest.skip("only the stand-in notes its calls")
    CUBLASLT.calls.clear()
    return CUBLASLT.calls


@pytest.fixture
def refused(request, calls):
    """Epilogues that there is no algorithm for: cublasLt has fewer than it has names."""
    before = {d: c.plans for d, c in cublaslt.contexts.items()}
    for context in cublaslt.contexts.values():
        context.plans = {}
    yield CUBLASLT.refused
    CUBLASLT.refused.clear()
    for device, known in before.items():
        cublaslt.contexts[device].plans = known


def numbers(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def laid_out(cp, a, layout):
    """The array on the device, in some strides."""
    if layout == "transposed":
        return cp.asarray(np.ascontiguousarray(a.swapaxes(-1, -2))).swapaxes(-1, -2)
    if layout == "padded":  # rows further apart than they are long
        wide = np.full((*a.shape[:-1], a.shape[-1] + 3), np.nan).astype(a.dtype)
        wide[..., : a.shape[-1]] = a
        return cp.asarray(wide)[..., : a.shape[-1]]
    if layout == "sliced":  # a step in both dims: BLAS cannot read that
        wide = np.full((*a.shape[:-2], 2 * a.shape[-2], 2 * a.shape[-1]), np.nan).astype(a.dtype)
        wide[..., ::2, ::2] = a
        return cp.asarray(wide)[..., ::2, ::2]
    if layout == "reversed":
        return cp.asarray(np.ascontiguousarray(a[..., ::-1, :]))[..., ::-1, :]
    if layout == "heads" and a.ndim > 2:  # (n, B, k) in memory, (B, n, k) in the product
        return cp.asarray(np.ascontiguousarray(a.swapaxes(0, -2))).swapaxes(0, -2)
    return cp.asarray(a)


LAYOUTS = ("plain", "transposed", "padded", "sliced", "reversed", "heads")
SIZES = st.sampled_from((0, 1, 2, 3, 5, 8, 17))


@st.composite
def leads(draw):
    """Leading dims of a and b that broadcast."""
    lead = draw(st.lists(st.sampled_from((1, 2, 3)), max_size=3))
    pair = []
    for _ in range(2):
        own = [draw(st.sampled_from((1, n))) for n in lead]
        pair.append(tuple(own[draw(st.integers(0, len(own))) :]))
    return pair


def close(out, expected, terms, dtype):
    scale = max(1.0, float(np.sqrt(terms))) * TOLERANCE[np.dtype(dtype).name]
    got = backend.to_numpy(out)
    assert (got.dtype, got.shape) == (dtype, expected.shape)
    np.testing.assert_allclose(got.astype(float), expected, 2 * scale, 2 * scale)


@given(
    st.tuples(SIZES, SIZES, SIZES), leads(), st.sampled_from(PAIRS),
    st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)),
    st.sampled_from((1.0, -0.5)), st.sampled_from((None, 0.0, 1.0, 0.25)), st.integers(0, 9),
)  # fmt: skip
def test_products(sizes, lead, dtypes, layouts, alpha, beta, seed):
    """beta None: out is made, else it is given, for beta = 0 full of NaN"""
    (M, N, K), rng = sizes, np.random.default_rng(seed)
    x, y = numbers(rng, (*lead[0], M, K), dtypes[0]), numbers(rng, (*lead[1], K, N), dtypes[0])
    expected = alpha * (x.astype(float) @ y.astype(float))
    with installed() as cp:
        a, b = laid_out(cp, x, layouts[0]), laid_out(cp, y, layouts[1])
        if beta is None:
            out = gemm(a, b, dtype=dtypes[1], alpha=alpha)
        else:
            before = numbers(rng, expected.shape, dtypes[1])
            given_ = before if beta else np.full_like(before, np.nan)
            out = laid_out(cp, given_, "padded" if seed % 2 else "plain")
            assert gemm(a, b, out, alpha=alpha, beta=beta) is out
            expected = expected + beta * before.astype(float)
        close(out, expected, K, dtypes[1])


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def slope(x):
    return gelu(x + 1e-30j).imag / 1e-30


SHAPES = [
    ((), (3, 8, 5)), ((), (4, 7, 3)), ((2, 3), (4, 16, 2)), ((), (1, 1, 1)), ((), (2, 3, 0)),
    ((2,), (0, 3, 4)),
]  # fmt: skip


@pytest.mark.parametrize("there_is_one", [True, False])
@pytest.mark.parametrize("lead, sizes", SHAPES)
@pytest.mark.parametrize("dtypes", PAIRS)
def test_epilogues(refused, cupy, dtypes, lead, sizes, there_is_one):
    """The same whether cublasLt has an algorithm for it or not."""
    if not there_is_one:
        refused.update(module.EPILOGUES.values())
        refused.discard(1)
    cp, (M, N, K), rng = cupy, sizes, np.random.default_rng(3)
    a, b = numbers(rng, (*lead, M, K), dtypes[0]), numbers(rng, (K, N), dtypes[0])
    bias, dtype = numbers(rng, N, dtypes[1]), np.dtype(dtypes[1])
    product = a.astype(float) @ b.astype(float)
    A, B, Bias = cp.asarray(a), cp.asarray(b), cp.asarray(bias)
    plus = product + bias.astype(float)
    close(gemm(A, B, dtype=dtype, bias=Bias), plus, K, dtype)
    close(gemm(A, B, dtype=dtype, activation="relu"), np.maximum(product, 0), K, dtype)
    close(gemm(A, B, dtype=dtype, bias=Bias, activation="relu"), np.maximum(plus, 0), K, dtype)
    for x, given_ in ((product, {}), (plus, {"bias": Bias})):
        close(gemm(A, B, dtype=dtype, activation="gelu", **given_), gelu(x), K, dtype)
        out = cp.empty(product.shape, dtype)
        aux = aux_like(cp, out)
        gemm(A, B, out, activation="gelu", aux=aux, **given_)
        close(out, gelu(x), K, dtype)
        close(aux, x, K, dtype)
        close(gemm(A, B, dtype=dtype, activation="dgelu", aux=aux), product * slope(x), K, dtype)
    if not lead:
        total, other = cp.empty(M, dtype), cp.empty(N, dtype)
        close(gemm(A, B, dtype=dtype, sum_a=total), product, K, dtype)
        close(total, a.astype(float).sum(1), K, dtype)
        close(gemm(A, B, dtype=dtype, sum_b=other), product, K, dtype)
        close(other, b.astype(float).sum(0), K, dtype)


def test_one_call_where_there_can_be_one(calls, cupy):
    """What is fused is asked for in one call, and what can be read in place is not copied."""
    cp, rng = cupy, np.random.default_rng(0)
    new = lambda *shape: cp.asarray(numbers(rng, shape, BF16))  # noqa: E731
    x, w, bias = new(2, 3, 8), new(16, 8), new(16)
    out = cp.empty((2, 3, 16), BF16)
    before = CUBLASLT.algorithms[:]
    gemm(x, w.T, out, bias=bias, activation="gelu", aux=aux_like(cp, out))
    assert [(c.shape, c.batch, c.epilogue) for c in calls] == [((16, 6, 8), 1, 164)]
    gemm(x, w.T, out, bias=bias, activation="gelu", aux=aux_like(cp, out))
    assert len(CUBLASLT.algorithms) == len(before) + 1  # the second time it is known
    calls.clear()
    gemm(out.reshape(6, 16).T, x.reshape(6, 8), dtype=np.float32, sum_a=cp.empty(16, np.float32))
    assert [(c.shape, c.types, c.transposed, c.epilogue) for c in calls] == [
        ((8, 16, 6), (14, 0), (0, 1), 512)
    ]
    calls.clear()
    gemm(new(1, 4, 5, 6).transpose(0, 1, 3, 2), new(3, 1, 5, 2)[:, 0][None, 0])  # strides 30 and 0
    gemm(new(7, 5, 6)[::2], new(4, 6, 2))
    assert [(c.shape, c.batch) for c in calls] == [((2, 6, 5), 4), ((2, 5, 6), 4)]


@pytest.mark.parametrize("layout", ["plain", "transposed", "padded"])
def test_nothing_is_copied(monkeypatch, cupy, layout):
    cp, rng = cupy, np.random.default_rng(0)
    a, b = numbers(rng, (4, 3, 5), np.float32), numbers(rng, (4, 5, 6), np.float32)
    A, B = laid_out(cp, a, layout), laid_out(cp, b, layout)
    monkeypatch.setattr(cp, "ascontiguousarray", lambda x: pytest.fail("copied"))
    close(gemm(A, B), a.astype(float) @ b, 5, np.float32)


def test_tf32_is_an_option(cupy):
    cp, rng = cupy, np.random.default_rng(0)
    a, b = numbers(rng, (32, 64), np.float32), numbers(rng, (64, 32), np.float32)
    exact = a.astype(float) @ b
    off = {}
    for wanted in precision.PRECISIONS:
        precision.set_float32_matmul_precision(wanted)
        off[wanted] = np.abs(gemm(cp.asarray(a), cp.asarray(b)).get() - exact).max()
    precision.set_float32_matmul_precision("highest")
    assert off["highest"] < 1e-5 < off["high"] < 5e-2 and off["high"] == off["medium"]


def test_on_another_device(cupy):
    cp = cupy
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one GPU")
    with cp.cuda.Device(1):
        a = cp.asarray(np.eye(3))
        close(gemm(a, a), np.eye(3), 3, np.float64)
    with pytest.raises(DeviceError, match="a is on cuda:1, b is on cuda:0"):
        gemm(a, cp.asarray(np.eye(3)), a)
    with pytest.raises(DeviceError, match="they are on cuda:1, not on cuda:0"):
        gemm(a, a, a)


def test_no_waiting(cupy, unread):
    a = cupy.asarray(np.eye(3, dtype=np.float32))
    gemm(a, a)  # the device's handle and workspace are there
    with unread():
        gemm(a, a, bias=cupy.zeros(3, np.float32))


def test_refusals(cupy):
    cp = cupy
    new = lambda *shape: cp.zeros(shape, np.float32)  # noqa: E731
    a, b, half = new(2, 3), new(3, 4), cp.zeros((3, 4), np.float16)
    for error, words, call in [
        (ShapeError, r"a float32 \(2, 3\), b float32 \(2, 3\): the last", lambda: gemm(a, a)),
        (ShapeError, "must be the last but one", lambda: gemm(new(3), b)),
        (ShapeError, "do not broadcast", lambda: gemm(new(2, 2, 3), new(3, 3, 4))),
        (ShapeError, r"out \(2, 3\) must be \(2, 4\)", lambda: gemm(a, b, new(2, 3))),
        (ShapeError, "rows must be contiguous", lambda: gemm(a, b, new(4, 2).T)),
        (ShapeError, r"bias must be float32 \(4,\)", lambda: gemm(a, b, bias=new(2))),
        (ShapeError, "bias must be float32", lambda: gemm(a, b, bias=half[0])),
        (ShapeError, r"sum_a must be float32 \(2,\)", lambda: gemm(a, b, sum_a=new(4))),
        (ArgumentError, "sum_a must be contig", lambda: gemm(a, b, sum_a=new(4)[::2])),
        (DtypeError, "both must be of one dtype", lambda: gemm(a, half)),
        (DtypeError, "both must be of one dtype", lambda: gemm(a.astype(int), b.astype(int))),
        (DtypeError, "out must be float32, not", lambda: gemm(a, b, dtype=np.float16)),
        (DtypeError, "out must be float16 or float32", lambda: gemm(half.T, half, dtype="d")),
        (ArgumentError, "beta = 1 needs out", lambda: gemm(a, b, beta=1)),
        (ArgumentError, "activation dgelu with nothing", lambda: gemm(a, b, activation="dgelu")),
        (ArgumentError, "with sum_a, sum_b", lambda: gemm(a, b, sum_a=new(2), sum_b=new(4))),
        (ArgumentError, "with sum_b here", lambda: gemm(a[None], b, sum_b=new(4))),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            call()


def test_old_plans_make_room(monkeypatch, calls, cupy):
    monkeypatch.setattr(plans, "MOST_PLANS", 3)
    context = cublaslt.context(0)
    monkeypatch.setattr(context, "plans", {})
    living = len([o for o in CUBLASLT.objects.values() if "destroyed" not in o.kind])
    for n in range(1, 9):
        gemm(cupy.zeros((2, n)), cupy.zeros((n, 2)))
    assert len(context.plans) == 3
    after = len([o for o in CUBLASLT.objects.values() if "destroyed" not in o.kind])
    assert after - living == 3 * 4  # an operation and three layouts each


# ------------------------------------------------------------------------------ planted mistakes


def operands(monkeypatch, change, through="_read"):
    """gemm sees each operand changed; through _operand, only a and b."""
    read = getattr(module, through)
    monkeypatch.setattr(module, through, lambda *args: change(read(*args)))


def attributes(monkeypatch, attribute, change):
    """The attribute is set to something else, or not at all."""
    set_ = plans.Descriptor.set

    def other(self, which, value):
        if (self.kind, which) != attribute:
            set_(self, which, value)
        elif change is not None:
            set_(self, which, change(value))

    monkeypatch.setattr(plans.Descriptor, "set", other)


def forget_pointers(monkeypatch):
    """Pointers are those of the call that made the plan."""
    point, seen = plans.Plan.point, set()

    def once(self, *pointers):
        if self not in seen:
            seen.add(self)
            point(self, *pointers)

    monkeypatch.setattr(plans.Plan, "point", once)


AUX, AUX_LD = ("MatmulDesc", 11), ("MatmulDesc", 12)
LAYOUT, PREFERENCE = "MatrixLayout", "MatmulPreference"
STREAMS = itertools.count()
MISTAKES = {
    "ld too small": lambda m: operands(m, lambda x: x._replace(ld=x.ld - 1)),
    "ld too large": lambda m: operands(m, lambda x: x._replace(ld=x.ld + 1)),
    "transposed": lambda m: operands(
        m, lambda x: x._replace(transposed=not x.transposed), "_operand"
    ),
    "flag of A": lambda m: attributes(m, ("MatmulDesc", 3), lambda v: 1 - v),
    "flag of B": lambda m: attributes(m, ("MatmulDesc", 4), None),
    "batch stride": lambda m: operands(m, lambda x: x._replace(stride=x.stride + 1)),
    "no batch": lambda m: attributes(m, (LAYOUT, 5), None),
    "batch of one matrix": lambda m: attributes(m, (LAYOUT, 6), None),
    "no aux": lambda m: attributes(m, AUX, None),
    "no ld of aux": lambda m: attributes(m, AUX_LD, None),
    "odd ld of aux": lambda m: attributes(m, AUX_LD, lambda v: v - 4),
    "no bias": lambda m: attributes(m, ("MatmulDesc", 8), None),
    "bias of before": forget_pointers,
    "no epilogue": lambda m: attributes(m, ("MatmulDesc", 7), None),
    "GELU without aux": lambda m: attributes(m, ("MatmulDesc", 7), lambda v: v & ~128 or 1),
    "another epilogue": lambda m: attributes(m, ("MatmulDesc", 7), lambda v: v ^ 34 or 1),
    "alignment": lambda m: attributes(m, (PREFERENCE, 8), lambda v: 256),
    "workspace": lambda m: m.setattr(cublaslt, "WORKSPACE", 2**26),
    "alpha in double": lambda m: m.setattr(plans, "c_float", ctypes.c_double),
    "type of out": lambda m: m.setitem(plans.TYPES, "float32", 1),
    "accumulator": lambda m: m.setattr(cublaslt, "CUBLAS_COMPUTE_32F", 64),
    "a width": lambda m: m.setitem(
        cublaslt.ATTRIBUTES["MatmulDesc"], cublaslt.CUBLASLT_MATMUL_DESC_EPILOGUE, ctypes.c_int64
    ),
    "another stream": lambda m: m.setattr(
        backend.cupy().cuda, "get_current_stream", lambda: SimpleNamespace(ptr=next(STREAMS))
    ),
}  # fmt: skip


def exercise(cp):
    """A few products as a model asks for them, each checked."""
    rng = np.random.default_rng(0)
    a, w, biases = (numbers(rng, s, BF16) for s in ((6, 5), (12, 5), (2, 128)))
    A, W, Biases, out = cp.asarray(a), cp.asarray(w), cp.asarray(biases), cp.empty((6, 12), BF16)
    aux = aux_like(cp, out)
    for i in range(2):  # the same problem with another bias
        x = a.astype(float) @ w.T.astype(float) + biases[i, :12].astype(float)
        gemm(A, W.T, out, bias=Biases[i, :12], activation="gelu", aux=aux)
        close(out, gelu(x), 5, BF16)
        close(aux, x, 5, BF16)
        total = cp.empty(6, np.float32)
        close(gemm(A, A.T, dtype=np.float32, sum_a=total), a.astype(float) @ a.T.astype(float), 5,
              np.float32)  # fmt: skip
        close(total, a.astype(float).sum(1), 5, np.float32)
        b, c = numbers(rng, (3, 4, 5), np.float32), numbers(rng, (3, 5, 7), np.float32)
        product = gemm(laid_out(cp, b, "transposed"), cp.asarray(c))
        close(product, b.astype(float) @ c, 5, np.float32)
        one = np.eye(7, dtype=np.float32)
        odd = cp.zeros(50, np.float32)[1:].reshape(7, 7)  # at an odd address
        close(gemm(cp.asarray(one), cp.asarray(one), odd), one, 7, np.float32)
    assert not plans.without_algorithm()


@pytest.mark.parametrize("mistake", [None, *MISTAKES])
def test_mistakes_are_noticed(monkeypatch, refused, cupy, mistake):
    if mistake is None:
        return exercise(cupy)
    MISTAKES[mistake](monkeypatch)
    with pytest.raises((AssertionError, DeviceError)):
        exercise(cupy)
