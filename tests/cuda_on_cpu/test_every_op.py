"""Every op of the registry on `cuda` as on the CPU: values, gradients, gradients of gradients.

float64 within 1e-9, float32 within 2e-4 (sums in another order), float16 within two units in the
last place of the largest number; an argument that the CPU refuses is refused with the same class.
cuda:1 as well as cuda:0, while the current device is 0: what an op makes, it makes where its
arguments are.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import tinytensor as tt
from tinytensor import backend
from tinytensor.autograd import Variable, wrap
from tinytensor.kernels.cuda import launch
from tinytensor.testing import LAYOUTS

from .launches import launches
from .standin import CUBLASLT

sys.path.insert(0, str(Path(__file__).parents[1] / "tinytensor"))
from samples import NOT_EXPANDED, samples  # noqa: E402
from test_registry import DIFFERENTIABLE, OPS, chosen, floating, outputs, run, seeds_of  # noqa: E402

TOLERANCE = {"float64": (1e-9, 1e-10), "float32": (2e-4, 1e-5), "float16": (2e-3, 2e-3)}
OTHER_DTYPES = ("float16", "int64", "int32", "int16", "uint8", "bool")


@pytest.fixture(params=["cuda:0", "cuda:1"])
def gpu(cuda, request):
    if int(request.param[-1]) >= backend.cuda_device_count():
        pytest.skip("this machine has one GPU")
    return tt.device(request.param)


def frozen(array):
    """Memory that must not be written to: the stand-in refuses, a real GPU cannot."""
    under = getattr(array, "_a", array)
    if isinstance(under, np.ndarray):
        under.flags.writeable = False
    return array


def moved(x, device):
    """Arrays, also those inside of an index, on the device."""
    if isinstance(x, np.ndarray):
        return backend.to_device(x, device)
    if isinstance(x, tuple) and type(x) is tuple:
        return tuple(moved(i, device) for i in x)
    return x


def laid_out(a, layout, device):
    """An array on the device in a layout: views of what was uploaded."""
    put = lambda a: backend.to_device(np.array(a, order="C"), device)  # noqa: E731
    if layout == "transposed":
        return put(a.T).T
    if layout == "sliced":  # every other element, NaN or 1 in between
        large = np.full([2 * n + 1 for n in a.shape], np.nan if a.dtype.kind == "f" else 1, a.dtype)
        places = tuple(slice(1, 2 * n + 1, 2) for n in a.shape)
        large[places] = a
        return put(large)[places]
    if layout == "reversed":
        back = (slice(None, None, -1),) * a.ndim
        return put(a[back])[back]
    if layout == "expanded":
        with backend.using(row := put(a[:1])):
            return backend.namespace(device).broadcast_to(row, a.shape)
    return put(a)


def tensors(name, call, device, dtype, layout, as_dtype=False):
    """The arguments of a call on the device; as_dtype: the integers among them as well."""
    op = tt.REGISTRY[name]
    made = []
    for argument, a in zip(op.argument_names(len(call.args)), call.args):
        if isinstance(a, np.ndarray):
            wants = floating(a) and np.dtype(dtype).kind in "fV"
            wants = wants and (op.variadic or argument in op.rules)
            if floating(a) or as_dtype:
                a = a.astype(dtype)
            a = wrap(frozen(laid_out(a, layout if a.ndim else "", device)), None, wants)
        made.append(a)
    return made


def all_of(name, call, device, dtype, layout="contiguous", second=False, as_dtype=False):
    """Outputs, gradients of a weighted sum of them, gradients of the sum of those squared."""
    args = tensors(name, call, device, dtype, layout, as_dtype)
    static = {k: moved(v, device) for k, v in call.static.items()}
    with np.errstate(all="ignore"):
        result = outputs(run(name, args, static))
        found, tracked = [*result], [o for o in result if o.requires_grad]
        leaves = [a for a in args if isinstance(a, Variable) and a.requires_grad]
        if tracked:
            seeds = seeds_of([o.detach().cpu() for o in tracked])
            seeds = [wrap(frozen(backend.to_device(s.array, device))) for s in seeds]
            how = {"create_graph": second, "allow_unused": True}
            grads = [g for g in tt.autograd.grad(tracked, leaves, seeds, **how) if g is not None]
            found += grads
            again = [(g * g).sum() for g in grads if second and g.requires_grad]
            if again:
                found += [
                    g for g in tt.autograd.grad(again, leaves, allow_unused=True) if g is not None
                ]
    assert all(x.device == device for x in found), f"{[str(x.device) for x in found]}"
    return [x.detach().cpu().array for x in found]


def assert_same(mine, expected, dtype, what):
    assert len(mine) == len(expected), what
    for a, b in zip(mine, expected):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), what
        rtol, atol = TOLERANCE.get(dtype, TOLERANCE["float32"])
        atol *= max(1, np.max(np.abs(b[np.isfinite(b)]), initial=0)) if dtype == "float16" else 1
        np.testing.assert_allclose(a, b, rtol, atol, equal_nan=True, err_msg=what)


@pytest.mark.parametrize("name", OPS)
def test_values_and_gradients(name, gpu):
    for call in samples(name):
        for dtype in ("float64", "float32")[: 1 if gpu.index else 2]:
            expected = all_of(name, call, backend.CPU, dtype)
            assert_same(all_of(name, call, gpu, dtype), expected, dtype, f"{name}({call}) {dtype}")


def own_work(name, device):
    """Launches of our kernels, casts aside, and products of cuBLAS, in an op's samples."""
    products = len(CUBLASLT.calls)
    with launches() as names:
        for call in samples(name):
            for dtype in ("float32", "float16"):  # some kernels are for tensor cores
                for layout in ("contiguous", "transposed"):  # which a copy's kernel is for
                    all_of(name, call, device, dtype, layout)
    casts = launch.entries(launch.source("cast")) if name != "clone" else ()
    return len(CUBLASLT.calls) - products + sum(n not in casts for n in names)


# cast's samples go to float64, which its kernel is not for: see test_cast_kernels.py
KERNELS = [
    name for name in OPS
    if tt.REGISTRY[name].implementations["cupy"] is not tt.REGISTRY[name].forward and name != "cast"
]  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_what_ran(name, cuda):
    """An op that has a kernel is compared with its reference, and not the reference with itself."""
    assert own_work(name, backend.resolve(cuda))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_gradients(name, gpu):
    for call in chosen(samples(name)):
        expected = all_of(name, call, backend.CPU, "float64", second=True)
        got = all_of(name, call, gpu, "float64", second=True)
        assert_same(got, expected, "float64", f"{name}({call})")


@pytest.mark.parametrize("name", OPS)
def test_layouts(name, cuda):
    """Transposed, sliced, expanded ... memory of the GPU gives what contiguous memory does."""
    device = backend.resolve(cuda)
    for call in samples(name):
        for layout in LAYOUTS:
            if layout != "contiguous" and not (layout == "expanded" and name in NOT_EXPANDED):
                expected = all_of(name, call, backend.CPU, "float64", layout)
                got = all_of(name, call, device, "float64", layout)
                assert_same(got, expected, "float64", f"{name}({call}) {layout}")


def outcome(*args, **kwargs):
    try:
        return all_of(*args, **kwargs)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError) as error:
        return error


# what only a look at the values shows: on a GPU that would mean to wait for it
UNSEEN = (tt.errors.SingularError, tt.errors.DivisionError)
NOT_FOR_INTEGERS = {
    "top": "which of equal numbers is among the largest is open",
    "layer_norm": "layer_norm() takes floats only, and so does its kernel for the CPU",
}


@pytest.mark.parametrize("name", OPS)
def test_other_dtypes(name, cuda):
    """The same numbers in the same dtype, or the same class of error."""
    device = backend.resolve(cuda)
    for dtype in OTHER_DTYPES[: 1 if name in NOT_FOR_INTEGERS else None]:
        for call in samples(name):
            expected = outcome(name, call, backend.CPU, dtype)
            got = outcome(name, call, device, dtype)
            what = f"{name}({call}) {dtype}: {expected!r:.200} on the CPU, {got!r:.200}"
            if isinstance(expected, UNSEEN):
                continue
            if isinstance(expected, Exception) or isinstance(got, Exception):
                assert type(got) is type(expected), what
            else:
                assert_same(got, expected, dtype, what)


WIDE = {"cross_entropy", "linear_cross_entropy"}  # losses are float32
UNLIKE = {"middle": "the median of what bfloat16 makes equal"} | dict.fromkeys(
    ("inv", "solve", "det", "slogdet"), "LAPACK knows no half precision, nor does PyTorch there"
)


@pytest.mark.parametrize("name", [name for name in OPS if name not in UNLIKE])
def test_bfloat16(name, cuda):
    """Which only CUDA has: float32's results on the same numbers, to two digits, as bfloat16."""
    bfloat16 = tt.bfloat16
    device = backend.resolve(cuda)
    for call in samples(name):
        rounded = [
            a.astype(bfloat16).astype(a.dtype) if isinstance(a, np.ndarray) and floating(a) else a
            for a in call.args
        ]
        call = type(call)(*rounded, **call.static)
        expected = outcome(name, call, backend.CPU, "float32")
        got = outcome(name, call, device, bfloat16)
        what = f"{name}({call}): {expected!r:.200} in float32, {got!r:.200}"
        if isinstance(expected, Exception) or isinstance(got, Exception):
            assert type(got) is type(expected), what
            continue
        for a, b in zip(got, expected, strict=True):
            if b.dtype == np.float32:
                assert a.dtype == bfloat16 or name in WIDE, what
            else:
                assert a.dtype == b.dtype, what
            size = np.max(np.abs(b[np.isfinite(b)]), initial=1) if b.dtype.kind == "f" else 0
            np.testing.assert_allclose(
                a.astype(b.dtype), b, 0.02, 0.02 * size, equal_nan=True, err_msg=what
            )
