"""norm.cu and columns.cu: in every schedule against float64, then as ops against the references."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinytensor as tt
from tinytensor import backend
from tinytensor.kernels.cuda import norm
from tinytensor.kernels.cuda.columns import column_sums
from tinytensor.kernels.cuda.launch import STORAGE

from .launches import launches
from .schedules import dtype_of, empty, run_everywhere

# half a unit in the last place of what is stored; float32 sums in another order than float64's
ROUNDING = {"float32": 2e-6, "float16": 2**-11, "bfloat16": 2**-8}
EPS = 1e-5

shifts = st.just(0) | st.integers(-1, 255)  # which arrays start off a multiple of 16 bytes
dtypes = st.sampled_from([*STORAGE])
widths = st.sampled_from([1, 7, 8, 31, 32, 33, 96, 128, 513, 768, 1000, 1600])


def close(got, want, dtype, terms=None):
    """Within rounding of what is stored, and of the largest of the terms that it is the sum of."""
    got, want = np.asarray(got, "float64"), np.asarray(want, "float64")
    assert np.isfinite(want).all()
    largest = np.abs(want if terms is None else terms).max(initial=1e-30)
    step = 2**-24 if dtype == "float16" else 0  # between its smallest numbers
    np.testing.assert_allclose(got, want, ROUNDING[dtype], 4e-6 * largest + step / 2)


def numbers(seed, shape, dtype):
    return np.random.default_rng(seed).normal(0.3, 1, shape).astype(dtype_of(dtype))


class Case:
    """Arguments of the kernels, the same numbers in float64, and what must come out."""

    def __init__(self, rows, C, dtype, centered=True, residual=False, weight=True, bias=True,
                 seed=0, x=None):  # fmt: skip
        self.rows, self.C, self.dtype, self.centered = rows, C, dtype, centered
        self.x = numbers(seed, (rows, C), dtype) if x is None else x.astype(dtype_of(dtype))
        self.residual = numbers(seed + 1, (rows, C), dtype) if residual else None
        self.weight = numbers(seed + 2, C, "float32") if weight else None
        self.bias = numbers(seed + 3, C, "float32") if bias and centered else None
        self.g = numbers(seed + 4, (rows, C), dtype)
        self.total = self.x
        if residual:
            total = self.x.astype("float32") + self.residual.astype("float32")
            self.total = total.astype(self.x.dtype)
        t = self.total.astype("float64")
        self.mean = t.mean(-1, keepdims=True) if centered else np.zeros((rows, 1))
        self.inv_std = 1 / np.sqrt(((t - self.mean) ** 2).mean(-1, keepdims=True) + EPS)
        self.x_hat = (t - self.mean) * self.inv_std

    def want_forward(self):
        out = self.x_hat if self.weight is None else self.x_hat * self.weight.astype("float64")
        return out if self.bias is None else out + self.bias.astype("float64")

    def want_backward(self, g_total):
        g = self.g.astype("float64")
        g_hat = g if self.weight is None else g * self.weight.astype("float64")
        shift = g_hat.mean(-1, keepdims=True) if self.centered else 0
        slope = (g_hat * self.x_hat).mean(-1, keepdims=True)
        dx = self.inv_std * (g_hat - shift - self.x_hat * slope)
        dx = dx if g_total is None else dx + g_total.astype("float64")
        terms = self.inv_std * g_hat * (1 + self.x_hat**2)
        return dx, terms, np.concatenate([(g * self.x_hat).sum(0), g.sum(0)])

    def forward(self, shift=0):
        block = norm._cut(self.x, norm.KEPT_FORWARD)[2]
        shape, statistics = (self.rows, self.C), (self.rows, 1)
        args = [
            empty(shape, self.dtype), None if self.residual is None else empty(shape, self.dtype),
            empty(statistics, "float32") if self.centered else None, empty(statistics, "float32"),
            self.x, self.residual, self.weight, self.bias, self.rows, self.C, EPS,
        ]  # fmt: skip
        outs = run_everywhere("norm", "norm_forward", (-(-self.rows // block[1]),), block, args,
                             real=self.dtype, shift=shift)  # fmt: skip
        return dict(zip(["out"] + ["total"] * (self.residual is not None)
                        + ["mean"] * self.centered + ["inv_std"], outs))  # fmt: skip

    def backward(self, g_total=None, blocks=None, shift=0, sums=True):
        block = norm._cut(self.x, norm.KEPT_BACKWARD)[2]
        blocks = blocks or -(-self.rows // block[1])
        mean = self.mean.astype("float32") if self.centered else None
        args = [
            empty(self.x.shape, self.dtype),
            empty((blocks, 2 * self.C), "float32") if sums else None,
            self.g, g_total, self.total, self.weight, mean, self.inv_std.astype("float32"),
            self.rows, self.C,
        ]  # fmt: skip
        return run_everywhere(
            "norm", "norm_backward", (blocks,), block, args, real=self.dtype, shift=shift,
            shared=8 * self.C * block[1] if sums else 0,
        )  # fmt: skip


cases = st.builds(
    Case, st.integers(1, 9), widths, dtypes, st.booleans(), st.booleans(), st.booleans(),
    st.booleans(), st.integers(0, 99),
)  # fmt: skip


@settings(max_examples=30)
@given(cases, shifts)
@example(Case(2, 8192, "bfloat16", residual=True), 0)
@example(Case(2, 8192, "float32"), 0)
@example(Case(2, 8191, "float16"), -1)
@example(Case(17, 768, "bfloat16", residual=True), 0)
def test_forward(case, shift):
    got = case.forward(shift)
    close(got["out"], case.want_forward(), case.dtype)
    close(got["inv_std"], case.inv_std, "float32")
    if case.centered:
        close(got["mean"], case.mean, "float32")
    if case.residual is not None:
        assert (got["total"] == case.total).all()


@settings(max_examples=30)
@given(cases, st.booleans(), shifts, st.integers(0, 3))
@example(Case(2, 8192, "bfloat16"), True, 0, 0)
@example(Case(3, 8192, "float32"), False, 0, 2)
@example(Case(2, 8191, "float16"), True, -1, 0)
@example(Case(41, 768, "bfloat16"), True, 0, 3)
def test_backward(case, further, shift, blocks):
    """Also with fewer blocks than there are rows to go round."""
    g_total = numbers(7, case.x.shape, case.dtype) if further else None
    dx, sums = case.backward(g_total, blocks, shift)
    want, terms, want_sums = case.want_backward(g_total)
    close(dx, want, case.dtype, terms)
    got = sums.astype("float64").sum(0)
    for half in (slice(case.C), slice(case.C, None)):
        close(got[half], want_sums[half], "float32")
    (alone,) = case.backward(g_total, blocks, shift, sums=False)
    assert alone.tobytes() == dx.tobytes()


@pytest.mark.parametrize("argument", range(8))
def test_each_array_may_start_anywhere(argument):
    """The numbers are taken one by one then, by the same threads: not a bit changes."""
    case = Case(3, 96, "bfloat16", residual=True)
    a, b = case.forward(), case.forward(1 << argument)
    assert all(a[k].tobytes() == b[k].tobytes() for k in a)
    a, b = case.backward(case.residual), case.backward(case.residual, shift=1 << argument)
    assert all(x.tobytes() == y.tobytes() for x, y in zip(a, b))


@pytest.mark.parametrize("dtype", [*STORAGE])
@pytest.mark.parametrize("centered", [True, False])
def test_large_numbers(dtype, centered):
    """Statistics are float32: a row of float16's largest numbers, whose squares are none."""
    largest = 65504 if dtype == "float16" else 1e18
    x = np.clip(numbers(1, (4, 96), "float32"), -1, 1) * largest
    case = Case(4, 96, dtype, centered, x=x)
    close(case.forward()["out"], case.want_forward(), dtype)
    want, terms, _ = case.want_backward(None)
    close(case.backward(sums=False)[0], want, dtype, terms)


@pytest.mark.parametrize("centered", [True, False])
def test_squares_that_overflow(centered):
    """As in the reference: the variance is inf, so nothing is left of the row."""
    out = Case(2, 96, "float32", centered, weight=False, bias=False, x=np.full((2, 96), 1e30))
    out.x[:, ::2] *= -1
    assert (out.forward()["out"] == 0).all() and (out.forward()["inv_std"] == 0).all()


def test_variance_is_not_a_difference_of_large_numbers():
    """x = 1000 + noise: E[x^2] - mean^2 in float32 would have no correct digit."""
    x = 1000 + 1e-2 * numbers(0, (3, 768), "float32")
    case = Case(3, 768, "float32", weight=False, bias=False, x=x)
    got = case.forward()
    # a mean of 1000 is right to some 2^-14, its last place: of a noise of 1/100 that is much
    np.testing.assert_allclose(got["out"], case.want_forward(), 0, 3e-2)
    np.testing.assert_allclose(got["inv_std"], case.inv_std, 1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("centered", [True, False])
def test_what_is_not_finite_stays_in_its_row(bad, centered):
    case = Case(5, 96, "float32", centered)
    fine = case.forward()["out"]
    case.x[2, 40] = bad
    out = case.forward()["out"]
    kept = np.delete(np.arange(5), 2)
    assert (out[kept] == fine[kept]).all()
    t = case.x[2].astype("float64")
    with np.errstate(all="ignore"):
        m = t.mean() if centered else 0
        want = (t - m) / np.sqrt(((t - m) ** 2).mean() + EPS)
    assert (np.isnan(out[2]) == np.isnan(want)).all() and np.isnan(out[2, 40])


# ------------------------------------------------------------------------------ column sums


@settings(max_examples=20)
@given(st.integers(1, 70), st.sampled_from([1, 4, 31, 33, 256, 260, 300]), dtypes,
       st.integers(1, 4), shifts)  # fmt: skip
def test_column_sums_kernel(rows, C, dtype, groups, shift):
    x = numbers(rows, (rows, C), dtype)
    across = -(-C // (32 * 16 // x.itemsize))
    args = [empty((groups, C), "float32"), x, rows, C]
    (sums,) = run_everywhere("columns", "column_sums", (across, groups), (32, 16), args,
                            real=dtype, shift=shift)  # fmt: skip
    close(sums.astype("float64").sum(0), x.astype("float64").sum(0), "float32")


@pytest.mark.parametrize("rows, C", [(1, 1), (513, 33), (1100, 8)])
def test_column_sums(cuda, rows, C):
    import cupy

    x = numbers(0, (rows, C), "float16")
    got = column_sums(cupy.asarray(x))
    assert got.shape == (C,) and got.dtype == "float32"
    close(got.get(), x.astype("float64").sum(0), "float32")


# ------------------------------------------------------------------------------ the ops

OPS = {
    "layer_norm": (lambda x, r, w, b: (tt.nn.functional.layer_norm(x, w.shape, w, b),), "xwb"),
    "add_layer_norm": (lambda x, r, w, b: tt.nn.functional.add_layer_norm(x, r, w.shape, w, b),
                       "xrwb"),
    "rms_norm": (lambda x, r, w, b: (tt.nn.functional.rms_norm(x, w.shape, w),), "xw"),
}  # fmt: skip


def values_and_gradients(name, needed, dtype, weights, device):
    """Outputs and gradients by the engine, of x (2, 3, 33)."""
    function, _ = OPS[name]
    arrays = {k: numbers(i, (2, 3, 33) if k in "xr" else 33, dtype if k in "xr" else weights)
              for i, k in enumerate("xrwb")}  # fmt: skip
    tensors = {k: tt.tensor(a.astype("float32"), device=device).to(getattr(tt, a.dtype.name))
               .detach().requires_grad_(k in needed) for k, a in arrays.items()}  # fmt: skip
    outs = function(*tensors.values())
    seeds = [(tt.arange(o.numel(), device=device).float() / 99 - 1).reshape(o.shape).to(o.dtype)
             for o in outs]  # fmt: skip
    grads = tt.autograd.grad(outs, [tensors[k] for k in needed], seeds) if needed else ()
    assert [g.dtype for g in grads] == [tensors[k].dtype for k in needed]
    outs = [o.detach().float().cpu().numpy() for o in outs]
    return outs, [(g.dtype.name, g.float().cpu().numpy()) for g in grads]


@pytest.mark.parametrize("name", [*OPS])
@pytest.mark.parametrize("dtypes", ["float32 float32", "bfloat16 float32", "float16 float32",
                                    "float16 float16"])  # fmt: skip
def test_as_the_reference(cuda, monkeypatch, name, dtypes):
    """Values, and gradients for each set of arguments that may need them, in their dtypes."""
    (dtype, weights), asked = dtypes.split(), OPS[name][1]
    for needed in itertools.chain.from_iterable(
        itertools.combinations(asked, n) for n in range(len(asked) + 1)
    ):
        with launches("norm", "columns") as names:
            outs, grads = values_and_gradients(name, needed, dtype, weights, cuda)
        summed = {*needed} & {*"wb"}
        expected = ["norm_forward"] + ["norm_backward"] * bool(needed)
        assert names == expected + ["column_sums"] * bool(summed), names
        with monkeypatch.context() as patch, launches("norm", "columns") as names:
            patch.setattr(norm, "served", lambda x: False)
            outs_, grads_ = values_and_gradients(name, needed, dtype, weights, cuda)
        assert not names
        for a, b in zip(outs, outs_, strict=True):
            np.testing.assert_allclose(a, b, 2 * ROUNDING[dtype], 1e-5)
        for (_, a), (d, b) in zip(grads, grads_, strict=True):
            rounding = ROUNDING[d]
            # the reference of add_layer_norm rounds dx before it adds what total passes back
            within = rounding if name == "add_layer_norm" else 1e-5
            np.testing.assert_allclose(a, b, 2 * rounding, within * max(1, np.abs(b).max()))


def test_what_kernels_do_not_take_goes_to_the_reference(cuda):
    device = backend.resolve(cuda)
    for x in (tt.randn(2, 8, dtype=tt.float64), tt.randn(0, 8), tt.randn(1, norm.WIDEST + 1)):
        with launches("norm", "columns") as names:
            out = tt.nn.functional.layer_norm(x.to(device), x.shape[-1:])
        assert not names and out.dtype == x.dtype
        want = tt.nn.functional.layer_norm(x, x.shape[-1:]).numpy()
        np.testing.assert_allclose(out.cpu().numpy(), want, 1e-5, 1e-5)


def test_views_and_expanded_gradients(cuda):
    """x transposed, and the gradient of a sum, one number expanded: both are copied first."""
    x = tt.randn(8, 5, device=cuda).T.requires_grad_()
    w = tt.ones(8, device=cuda, requires_grad=True)
    with launches("norm", "columns") as names:
        tt.nn.functional.layer_norm(x, (8,), w).sum().backward()
    assert names == ["norm_forward", "norm_backward", "column_sums"]
    assert float(x.grad.abs().max()) < 1e-5


def test_nothing_is_read_by_the_host(cuda, unread):
    x = tt.randn(64, 48, device=cuda, requires_grad=True)
    w, b = (tt.ones(48, device=cuda, requires_grad=True) for _ in range(2))
    with unread():
        h, total = tt.nn.functional.add_layer_norm(x, x.detach(), (48,), w, b)
        (tt.nn.functional.gelu(h, approximate="tanh") + total).sum().backward()
    assert w.grad.shape == b.grad.shape == (48,)


def test_two_runs_give_the_same_bits(cuda):
    """300 rows: several to a block, and blocks whose sums are added."""
    runs = []
    for _ in range(2):
        tt.manual_seed(0)
        x = tt.randn(300, 160, device=cuda, requires_grad=True)
        w, b = (tt.ones(160, device=cuda, requires_grad=True) for _ in range(2))
        tt.nn.functional.layer_norm(x, (160,), w, b).square().sum().backward()
        runs.append([t.grad.cpu().numpy().tobytes() for t in (x, w, b)])
    assert runs[0] == runs[1]
