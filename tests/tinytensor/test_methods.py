"""Methods, operators and in-place forms against PyTorch's: of each entry of its operator database.

The functions themselves are compared in test_opinfo.py; here a few samples of each entry go through
`x.name(...)`, `x.name_(...)`, `x + y` and `x += y`. What PyTorch has and we have not stands in
ABSENT, with the reason.
"""

import itertools
import operator
import warnings

import numpy as np
import pytest
from test_opinfo import (
    ANY_ORDER,
    ENTRIES,
    RANDOM,
    Foreign,
    assert_close,
    convert,
    leaves,
    set_rng_seed,
)

import tinytensor as tt

torch = pytest.importorskip("torch")
op_db = pytest.importorskip("torch.testing._internal.common_methods_invocations").op_db
warnings.filterwarnings("ignore")

ABSENT = {
    "complex numbers": """angle cfloat cdouble chalf conj conj_physical conj_physical_ resolve_conj
        resolve_neg""",
    "factorisations": """cholesky cholesky_inverse cholesky_solve geqrf lu lu_solve ormqr qr svd
        pinverse triangular_solve""",
    "special functions": """digamma digamma_ erfinv erfinv_ i0 i0_ igamma igamma_ igammac igammac_
        lgamma lgamma_ mvlgamma mvlgamma_ polygamma polygamma_ nextafter nextafter_ frexp""",
    "signals and histograms": "histc histogram stft istft gradient",
    "memory formats and storage": """as_strided as_strided_ as_strided_scatter resize_ resize_as_
        to_sparse bfloat16 narrow_copy new_empty_strided""",
    "an operator of Python 2": "__rdiv__",
    "rare": """hash_tensor index_reduce index_reduce_ matrix_exp mode nonzero_static renorm renorm_
        nanquantile unsafe_chunk unsafe_split""",
}  # fmt: skip
BY_CHANCE = RANDOM | set("new_empty uniform log_normal exponential cauchy geometric".split())
ABSENT_NAMES = {name for names in ABSENT.values() for name in names.split()}


def variants():
    for info in op_db:
        for kind in ("method", "inplace"):
            name = getattr(getattr(info, f"{kind}_variant"), "__name__", "<lambda>")
            ours = info.name.split(".")[-1] + ("_" if kind == "inplace" else "")
            if name in (info.name, ours) and not hasattr(torch.nn.functional, info.name):
                yield pytest.param(info, kind, name, id=f"{info.formatted_name}-{kind}")


VARIANTS = [p for p in variants() if hasattr(tt.Tensor, p.values[2])]


def test_nothing_is_absent_without_a_reason():
    absent = {p.values[2] for p in variants() if not hasattr(tt.Tensor, p.values[2])}
    assert absent <= ABSENT_NAMES, f"no Tensor.{sorted(absent - ABSENT_NAMES)}"


PROMISED = """
    square reciprocal minimum maximum clamp log1p expm1 erf floor round sign remainder fmod
    floor_divide isnan isinf isfinite logical_and logical_or logical_not logical_xor all any
    allclose prod amax amin argmin cumsum cumprod sort argsort topk norm linalg.vector_norm median
    mm bmm mv outer dot einsum tensordot addmm baddbmm index_select index_add scatter scatter_add
    index_put masked_select nonzero take_along_dim repeat tile flip roll diagonal movedim
    broadcast_to unbind F.pad unfold meshgrid lerp addcmul addcdiv logaddexp xlogy atan2
    nan_to_num F.leaky_relu F.elu F.softplus F.logsigmoid F.hardtanh F.relu6 F.selu F.mish F.glu
    F.prelu F.binary_cross_entropy F.binary_cross_entropy_with_logits F.l1_loss F.smooth_l1_loss
    F.huber_loss F.kl_div F.cosine_similarity F.normalize F.rms_norm F.group_norm F.batch_norm
    F.conv1d F.conv2d F.conv_transpose2d F.max_pool2d F.avg_pool2d F.adaptive_avg_pool2d
    F.interpolate F.embedding_bag linalg.inv linalg.det linalg.solve full eye linspace rand_like
    randint bernoulli zeros_like ones_like full_like randn_like randint_like empty_like
"""


def test_every_promised_op_is_there_and_compared_with_pytorch():
    promised = {name.replace("F.", "nn.functional.") for name in PROMISED.split()}
    compared = {info.name for info in ENTRIES}
    assert promised - compared == {"empty_like"}, "memory as it comes is not compared"


@pytest.mark.parametrize("info, kind, name", VARIANTS)
def test_method(info, kind, name):
    set_rng_seed()
    dtype = torch.float32 if torch.float32 in info.dtypes else torch.int64
    compared = 0
    for sample in itertools.islice(info.sample_inputs("cpu", dtype, requires_grad=False), 4):
        if kind == "inplace" and sample.broadcasts_input:
            continue
        try:
            args, kwargs = convert((sample.input.clone(), *sample.args)), convert(sample.kwargs)
            theirs = getattr(info, f"{kind}_variant")
            want = theirs(sample.input.clone(), *sample.args, **sample.kwargs)
        except (Foreign, RuntimeError, AttributeError):
            continue
        got = getattr(args[0], name)(*args[1:], **kwargs)
        compared += 1
        if kind == "inplace":
            assert got is args[0]
        for a, b in zip(leaves(got), leaves(want), strict=True):
            if info.name in BY_CHANCE:
                assert tuple(a.shape) == tuple(b.shape)
            elif not (info.name in ANY_ORDER and b.dtype is torch.int64):
                assert_close(a, b, f"{name}{sample.summary()[:200]}", info.name)
    if not compared:
        pytest.skip("PyTorch itself takes none of the samples this way")


NUMBERS = {
    "float": (np.array([[-2.5, 0.7], [3.0, 5.5]]), np.array([1.5, -2.0])),
    "int": (np.array([[-5, 7], [3, 12]]), np.array([2, -3])),
    "bits": (np.array([[5, 7], [3, 12]]), np.array([2, 3])),
}
ARITHMETIC = ["add", "sub", "mul", "truediv", "floordiv", "mod"]
LOGIC = ["and_", "or_", "xor", "lshift", "rshift"]
CASES = [(o, k) for o in ARITHMETIC for k in ("float", "int")] + [(o, "bits") for o in LOGIC]


@pytest.mark.parametrize("name, kind", [*CASES, ("pow", "bits")])
def test_operator(name, kind):
    x, y = NUMBERS[kind]
    f, number = getattr(operator, name), (1.5 if kind == "float" else 3)
    a, b, c, d = tt.tensor(x), tt.tensor(y), torch.tensor(x), torch.tensor(y)
    assert_close(f(a, b), f(c, d), name)
    assert_close(f(a, number), f(c, number), name)
    if kind != "int" or name not in ("floordiv", "mod"):
        assert_close(f(number, b), f(number, d), name)
    in_place = getattr(operator, "i" + name.rstrip("_"), None) or getattr(operator, "i" + name)
    if (name, kind) == ("truediv", "int"):
        with pytest.raises(RuntimeError, match="float"):
            in_place(a, b)
        return
    for other, theirs in ((b, d), (number, number)):
        x1, x2 = a.clone(), c.clone()
        got = in_place(x1, other)
        assert got is x1
        assert_close(got, in_place(x2, theirs), name)


def test_integers_divided_by_zero_raise_as_in_pytorch():
    for f in (operator.floordiv, operator.mod, tt.fmod):
        with pytest.raises(RuntimeError):
            f(tt.tensor([1, 2]), tt.tensor([1, 0]))
        with pytest.raises(ZeroDivisionError):
            f(tt.tensor([1, 2]), 0)


def test_rearranging_in_place_keeps_the_graph_and_views():
    grads = []
    for m in (tt, torch):
        x = m.arange(6.0).reshape(2, 1, 3).requires_grad_()
        y = x * 2
        view = y[0]
        assert tuple(y.squeeze_(1).shape) == (2, 3)
        assert tuple(y.t_().shape) == (3, 2)
        y.mul_(3)
        assert tuple(y.unsqueeze_(0).transpose_(0, 2).shape) == (2, 3, 1)
        (y.sum() + (view * view).sum()).backward()
        grads.append(x.grad.tolist())
    assert grads[0] == grads[1]
    with pytest.raises(RuntimeError, match="squeeze_: x is a leaf"):
        tt.ones(1, requires_grad=True).squeeze_()


N = 20000


@pytest.mark.parametrize(
    "name, args, median, mean",
    [
        ("uniform_", (-1, 3), 1, 1), ("normal_", (2, 3), 2, 2), ("exponential_", (0.5,), 1.386, 2),
        ("cauchy_", (1, 2), 1, None), ("log_normal_", (0, 0.5), 1, 1.133),
        ("geometric_", (0.3,), 2, 3.333), ("bernoulli_", (0.3,), 0, 0.3),
        ("random_", (10,), 4.5, 4.5),
    ],
)
def test_random_filling(name, args, median, mean):
    tt.manual_seed(0)
    x = tt.empty(N, dtype=tt.float64)
    assert getattr(x, name)(*args) is x
    values = x.numpy()
    assert abs(np.median(values) - median) < 0.6
    if mean is not None:
        assert abs(values.mean() - mean) < 5 * values.std() / N**0.5
    again = getattr(tt.empty(N, dtype=tt.float64), name)(*args, generator=tt.Generator(3))
    same = getattr(tt.empty(N, dtype=tt.float64), name)(*args, generator=tt.Generator(3))
    assert (again == same).all() and not (again == x).all()


def test_random_filling_of_a_leaf_needs_no_grad():
    x = tt.zeros(3, requires_grad=True)
    with pytest.raises(tt.errors.InPlaceError, match="normal_: x is a leaf"):
        x.normal_()
    with tt.no_grad():
        x.normal_()


@pytest.mark.parametrize(
    "shape, wrap", [((5, 3), False), ((5, 3), True), ((3, 5), True), ((3, 3, 3), False)]
)
def test_fill_diagonal(shape, wrap):
    got = tt.zeros(shape).fill_diagonal_(7, wrap=wrap)
    assert_close(got, torch.zeros(shape).fill_diagonal_(7, wrap=wrap), "fill_diagonal_")
