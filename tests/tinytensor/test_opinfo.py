"""Every op against PyTorch, over PyTorch's own operator database.

An entry of `op_db` is tested if we have something of that name: `tt.NAME`, `tt.nn.functional.NAME`,
`tt.linalg.NAME` or `Tensor.NAME`. So a new op is tested from the day it is there, without a word
here. What cannot be compared stands in NOT_COMPARED or UNSUPPORTED, with the reason.

For each entry: forward and gradients in float32 and float64 over `sample_inputs`, values alone
over `reference_inputs` (extremal values, other layouts, mixed dtypes), in integer dtypes too, and
the class of the exception over `error_inputs`.
"""

import random
import warnings

import numpy as np
import pytest
import torch
from torch.testing._internal import common_utils
from torch.testing._internal.common_methods_invocations import op_db

import tinytensor as tt
from tinytensor.autograd import Variable
from tinytensor.ops import index as index_ops
from tinytensor.ops import nn as nn_ops

torch.set_num_threads(1)
warnings.filterwarnings("ignore")


def set_rng_seed(seed=1234):
    """PyTorch's, without a stack trace per call for the seeds of GPUs that are not there."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


common_utils.set_rng_seed = set_rng_seed
common_utils.extract_test_fn = lambda: None  # PyTorch's walks the stack for each list of samples

# ------------------------------------------------------------------------------ their op, ours

# (name, variant) or name -> a function called as the entry's own op is called
CALLED_DIFFERENTLY = {
    "where": lambda x, condition, y: tt.where(condition, x, y),
    "zero_": lambda x: x.clone().zero_(),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "bool": lambda x, **kw: x.bool(),
    "einsum": lambda operands, equation: tt.einsum(equation, *operands),
    "nn.functional.embedding_bag": lambda weight, index, **kw: functional("embedding_bag")(
        index, weight, **kw
    ),
    "nn.functional.embedding": lambda weight, index, **kw: functional("embedding")(
        index, weight, **kw
    ),
}

# entries that would compare nothing, or not the same thing
NOT_COMPARED = {
    "empty": "memory as it comes",
    "empty_like": "memory as it comes",
    "new_empty": "memory as it comes",
    "svd": "not offered: tt.linalg.svd",
    "linalg.svd": "U and V up to signs: test_linalg.py compares what does not depend on them",
    "normal_in_place": "random, and in place: normal_ is tested with the in-place ops",
}


def unsigned(*args):
    return any(getattr(a, "dtype", None) is torch.uint8 for a in args)


# samples left out: entry -> (does it apply to these args and kwargs?, why)
UNSUPPORTED = {
    "nn.functional.embedding": (
        lambda a, k: {"max_norm", "scale_grad_by_freq", "sparse"} & set(k),
        "renormalising rows during a look-up, sparse gradients: not offered",
    ),
    "add": (lambda a, k: unsigned(*a) and k.get("alpha", 1) < 0, "a negative factor is an error"),
    "rsub": (lambda a, k: unsigned(*a) and k.get("alpha", 1) < 0, "a negative factor is an error"),
    "sub": (lambda a, k: unsigned(*a) and k.get("alpha", 1) < 0, "a negative factor is an error"),
    "kthvalue": (
        lambda a, k: not a[0].is_floating_point(),
        "the index of one of several equal values: any",
    ),
    "sum_to_size": (lambda a, k: not a[0].dim(), "of a 0-d integer PyTorch makes an int64"),
    "nn.functional.batch_norm": (lambda a, k: a[0].dim() < 2, "an input without channels"),
    "nn.functional.interpolate": (
        lambda a, k: k.get("antialias") or (unsigned(*a) and k["mode"] in ("bilinear", "bicubic")),
        "antialias is not offered; bytes are 1 apart at most, see test_image_ops.py",
    ),
    "nn.functional.rms_norm": (
        lambda a, k: a[0].dtype is torch.float16,
        "the samples' squares overflow float16; half precision accumulates in the CUDA kernels",
    ),
}

# compared by shape and dtype only
RANDOM = {
    "rand_like", "randn", "randn_like", "randint", "randint_like", "normal", "bernoulli",
    "multinomial", "nn.functional.dropout", "nn.functional.dropout2d", "nn.functional.dropout3d",
    "nn.functional.alpha_dropout",
}  # fmt: skip

OF_A_GPT = set(
    """abs add amax amin arange argmax argmin cat chunk clamp clone cos cross_entropy
    cumsum diagonal div dropout embedding eq erf exp expand flatten flip full gather ge gelu gt
    layer_norm le linear linspace log log_softmax logsumexp lt masked_fill matmul max maximum
    mean min minimum movedim mse_loss mul multinomial ne neg nll_loss one_hot ones permute pow
    relu reshape rms_norm rsqrt scaled_dot_product_attention sigmoid sign silu sin softmax sort
    split sqrt squeeze stack std sub sum tanh topk transpose tril triu unbind unsqueeze var
    view where __getitem__ zeros""".split()
)

# among equal elements PyTorch's order is any; indices are compared by the values they point to
ANY_ORDER = {"sort": 0, "argsort": 0, "topk": 1, "kthvalue": 1}  # and where dim is in the args

# (entry, dtype) -> rtol and atol, where the usual ones ask for more digits than there are
LOOSER = {
    ("nn.functional.scaled_dot_product_attention", "float32"): (1e-4, 1e-4),  # scores of hundreds
    ("nn.functional.scaled_dot_product_attention", "float16"): (0.1, 0.1),
    ("nn.functional.hardsigmoid", "float64"): (1e-7, 1e-8),  # PyTorch's 1/6 is in float32
    ("cov", "float32"): (1e-3, 1e-4),  # of two observations: differences of nearly equal numbers
    ("nn.functional.interpolate", "float32"): (1e-3, 1e-3),  # PyTorch has places in float32
    ("logcumsumexp", "float32"): (1e-2, 1e-3),  # of numbers to 10000, PyTorch's as well
    ("nn.functional.conv_transpose3d", "float32"): (1e-4, 1e-4),  # sums of 108 terms to 80
}


def functional(name):
    homes = (getattr(getattr(tt, "nn", None), "functional", None), nn_ops, index_ops)
    return next((getattr(m, name) for m in homes if hasattr(m, name)), None)


def ours(info):
    """Our function for an entry of op_db, or None."""
    name = info.name
    for key in ((name, info.variant_test_name), name):
        if key in CALLED_DIFFERENTLY:
            return CALLED_DIFFERENTLY[key]
    if name.startswith("nn.functional."):
        name = name.removeprefix("nn.functional.")
        return functional(name) or getattr(tt, name, None)
    if name.startswith("linalg."):
        return getattr(getattr(tt, "linalg", None), name.removeprefix("linalg."), None)
    found = getattr(tt, name, None) or getattr(tt.Tensor, name, None)
    return found if callable(found) and not isinstance(found, type) else None


ENTRIES = [
    info
    for info in op_db
    if not {info.name, info.formatted_name} & set(NOT_COMPARED) and ours(info) is not None
]

# ------------------------------------------------------------------------------ values across

DTYPES = {
    torch.float64: tt.float64, torch.float32: tt.float32, torch.float16: tt.float16,
    torch.int64: tt.int64, torch.int32: tt.int32, torch.int16: tt.int16, torch.int8: tt.int8,
    torch.uint8: tt.uint8, torch.bool: tt.bool,
}  # fmt: skip


class Foreign(Exception):
    """An argument that no one can pass to us: a complex tensor, a sparse layout."""


def convert(a):
    """A PyTorch argument as ours: the same memory, strides and all."""
    if isinstance(a, torch.Tensor):
        if a.dtype not in DTYPES or a.layout is not torch.strided:
            raise Foreign(f"{a.dtype}, {a.layout}")
        t = tt.from_numpy(a.detach().numpy())
        return t.requires_grad_() if a.requires_grad else t
    if isinstance(a, torch.dtype):
        if a not in DTYPES:
            raise Foreign(str(a))
        return DTYPES[a]
    if isinstance(a, (torch.device, torch.layout, torch.memory_format, torch.Generator, complex)):
        raise Foreign(str(a))
    if isinstance(a, (list, tuple)):
        items = [convert(x) for x in a]
        return tuple(items) if isinstance(a, tuple) else items
    if isinstance(a, dict):
        return {k: convert(v) for k, v in a.items()}
    return a


def leaves(a):
    """The tensors inside of arguments, in order."""
    if isinstance(a, (torch.Tensor, Variable)):
        yield a
    elif isinstance(a, (list, tuple)):
        for x in a:
            yield from leaves(x)
    elif isinstance(a, dict):
        for x in a.values():
            yield from leaves(x)


def to_numpy(t):
    return t.detach().numpy(force=True)


TOLERANCE = {"float64": (1e-9, 1e-10), "float32": (2e-5, 2e-5), "float16": (4e-3, 4e-3)}


def assert_close(mine, theirs, what, name=None):
    a, b = to_numpy(mine), to_numpy(theirs)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, PyTorch {b.shape}"
    assert a.dtype == b.dtype, f"{what}: dtype {a.dtype}, PyTorch {b.dtype}"
    rtol, atol = LOOSER.get((name, b.dtype.name)) or TOLERANCE.get(b.dtype.name, (0, 0))
    finite = b[np.isfinite(b)] if rtol else np.zeros(0)
    if finite.size:  # what cancels to near 0 is as wrong as its largest term
        atol = max(atol, atol * float(np.abs(finite).max()))
    np.testing.assert_allclose(a, b, rtol, atol, equal_nan=True, err_msg=what)


def assert_same_choice(x, index, theirs, dim, what):
    """Both indices pick the same values of x along dim."""
    x, index, theirs = to_numpy(x), to_numpy(index), to_numpy(theirs)
    assert index.shape == theirs.shape and index.dtype == theirs.dtype, what
    if x.ndim > index.ndim:
        index, theirs = np.expand_dims(index, dim), np.expand_dims(theirs, dim)
    if x.ndim:
        pick = [np.take_along_axis(x, i, dim) for i in (index, theirs)]
        np.testing.assert_array_equal(*pick, err_msg=what)


def name_of(info):
    return info.name.removeprefix("nn.functional.")


def samples(info, dtype, requires_grad, kind="sample_inputs", limit=None):
    """All samples, or `limit` of them, evenly chosen."""
    made = list(getattr(info, kind)("cpu", dtype, requires_grad=requires_grad))
    if limit is None or len(made) <= limit:
        return made
    return [made[i * len(made) // limit] for i in range(limit)]


def compare(info, sample, gradients):
    """One sample: values, and gradients for a random dL/dout. False if it is left out."""
    name, args = info.name, (sample.input, *sample.args)
    kwargs = {k: v for k, v in sample.kwargs.items() if k not in ("device", "layout")}
    applies, _ = UNSUPPORTED.get(name, (None, None))
    if applies and applies(args, kwargs):
        return False
    try:
        my_args, my_kwargs = convert(args), convert(kwargs)
    except Foreign:
        return False
    what = f"{name}{sample.summary()[:300]}"
    theirs = info.op(*args, **sample.kwargs)
    mine = ours(info)(*my_args, **my_kwargs)
    if theirs is NotImplemented or not isinstance(theirs, (torch.Tensor, list, tuple)):
        assert theirs is NotImplemented or mine == theirs, what
        return theirs is not NotImplemented
    by_chance = name in RANDOM or kwargs.get("dropout_p")
    outputs, expected = list(leaves(mine)), list(leaves(theirs))
    assert len(outputs) == len(expected), what
    for i, (a, b) in enumerate(zip(outputs, expected)):
        if by_chance:
            assert tuple(a.shape) == tuple(b.shape) and a.dtype == DTYPES[b.dtype], what
        elif name in ANY_ORDER and b.dtype is torch.int64 and i == len(expected) - 1:
            k = ANY_ORDER[name]
            dim = kwargs.get("dim", args[1 + k] if len(args) > 1 + k else -1)
            assert_same_choice(my_args[0], a, b, dim, what)
        else:
            assert_close(a, b, what, name)
    if not gradients or by_chance:
        return True
    for a, b in zip(outputs, expected):
        assert a.requires_grad == b.requires_grad, f"{what}: requires_grad"
    inputs = [t for t in leaves((args, kwargs)) if t.requires_grad]
    my_inputs = [t for t in leaves((my_args, my_kwargs)) if t.requires_grad]
    pairs = [(a, b) for a, b in zip(outputs, expected) if b.requires_grad]
    if not inputs or not pairs:
        return True
    rng = np.random.default_rng(0)
    seeds = [rng.normal(size=tuple(b.shape)).astype(to_numpy(b).dtype) for _, b in pairs]
    wanted = torch.autograd.grad(
        [b for _, b in pairs], inputs, [torch.from_numpy(np.asarray(s)) for s in seeds],
        allow_unused=True, materialize_grads=True,
    )  # fmt: skip
    got = tt.autograd.grad(
        [a for a, _ in pairs], my_inputs,
        [tt.from_numpy(np.asarray(s)).to(a.device) for s, (a, _) in zip(seeds, pairs)],
        materialize_grads=True,
    )  # fmt: skip
    for i, (a, b) in enumerate(zip(got, wanted)):
        assert_close(a, b, f"{what}: gradient {i}", name)
    return True


# ------------------------------------------------------------------------------ the tests


def over(*dtypes):
    """A test for each entry and each of these dtypes that PyTorch offers it for."""
    cases = [
        pytest.param(info, getattr(torch, d), id=f"{info.formatted_name}-{d}")
        for info in ENTRIES
        for d in dtypes
        if getattr(torch, d) in info.dtypes
    ]
    return pytest.mark.parametrize("info, dtype", cases)


def run(info, dtype, gradients, kind, limit):
    set_rng_seed()
    made = samples(info, dtype, gradients, kind, limit)
    compared = [compare(info, sample, gradients) for sample in made]
    if made and not any(compared):
        pytest.skip("no sample can be compared: see UNSUPPORTED and Foreign")


@over("float64", "float32")
def test_value_and_gradient(info, dtype):
    run(info, dtype, info.supports_autograd, "sample_inputs", None)


@over("int64", "uint8", "bool", "float16")
def test_value_in_other_dtypes(info, dtype):
    run(info, dtype, False, "sample_inputs", 6)


@over("float32")
def test_value_of_reference_inputs(info, dtype):
    """Extremal values, other layouts, broadcasting, mixed dtypes."""
    run(info, dtype, False, "reference_inputs", 24)


WITH_ERRORS = [info for info in ENTRIES if info.error_inputs_func]


@pytest.mark.parametrize("info", WITH_ERRORS, ids=lambda info: info.formatted_name)
def test_class_of_errors(info):
    for error in info.error_inputs("cpu"):
        sample = error.sample_input
        if error.error_type is Exception:  # a number on the left, where PyTorch wants a tensor
            continue
        if "out" in sample.kwargs:  # out= is not offered
            continue
        if "number of categories cannot exceed" in error.error_regex:
            continue  # multinomial: a limit of PyTorch's float32 sums, asked of memory as it comes
        try:
            args, kwargs = convert((sample.input, *sample.args)), convert(sample.kwargs)
        except (Foreign, ValueError):  # ValueError: NumPy has no tensors of 65 dims
            continue
        with pytest.raises(error.error_type) as raised:
            ours(info)(*args, **kwargs)
            pytest.fail(f"no error for {sample.summary()}: PyTorch: {error.error_regex}")
        where = raised.traceback[-1].path
        assert isinstance(raised.value, (tt.errors.TinyTensorError, TypeError)), (
            f"{type(raised.value).__name__} from {where}: {raised.value}"
        )


def test_the_database_covers_the_ops_of_a_gpt():
    """What must not silently drop out of the comparison above."""
    tested = {name_of(info) for info in ENTRIES}
    assert not OF_A_GPT - tested
