"""What public functions take: checked at the door, by the names of their parameters.

`dim` is an int and `keepdim` a bool wherever they appear, so one table says what every function
takes. A wrong type is answered with PyTorch's class of exception and a sentence that names function
and parameter; what NumPy still complains about inside is said in the function's own words.
Inside of the engine functions call each other directly, unchecked.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from .autograd import Variable
from .errors import ArgumentError, DimError, ShapeError, TinyTensorError
from .messages import describe, located
from .signature import Signature, signature

# ------------------------------------------------------------------------------ the kinds


class Kind(NamedTuple):
    """What a parameter may be: types that need no look, and a function that takes or refuses."""

    what: str
    plain: tuple
    take: Callable


def _refuse(v: Any) -> Any:
    raise TypeError


def _int(v: Any) -> Any:
    if isinstance(v, bool):
        return v
    mask = isinstance(v, Variable) and v.array.dtype.kind == "b"
    return _refuse(v) if mask else operator.index(v)


def _ints(v: Any) -> Any:
    if isinstance(v, (tuple, list)):
        return type(v)([_int(n) for n in v]) if type(v) in (tuple, list) else v
    return _int(v)


def _sizes(v: Any) -> Any:
    """As many as there are dims, or one for all; None leaves one as it is."""
    if isinstance(v, (tuple, list)):
        return tuple([None if n is None else _int(n) for n in v])
    return _int(v)


def _bool(v: Any) -> Any:
    return bool(v) if isinstance(v, np.bool_) else _refuse(v)


def _number(v: Any) -> Any:
    one = isinstance(v, np.generic) or (isinstance(v, Variable) and v.array.size == 1)
    return v if one else _refuse(v)


def _tensors(v: Any) -> Any:
    given = isinstance(v, (tuple, list)) and all(isinstance(t, Variable) for t in v)
    return v if given or isinstance(v, Variable) else _refuse(v)


INT = Kind("an int", (int,), _int)
INTS = Kind("an int or a tuple of ints", (int,), _ints)
SIZES = Kind("an int or a tuple of ints", (int,), _sizes)
PADDING = Kind("an int, a tuple of ints, 'valid' or 'same'", (int, str), _ints)
BOOL = Kind("a bool", (bool,), _bool)
NUMBER = Kind("a number", (int, float), _number)
VALUE = Kind("a Tensor or a number", (Variable, int, float, np.generic), _refuse)
TENSOR = Kind("a Tensor", (Variable,), _refuse)
TENSORS = Kind("a list of Tensors", (), _tensors)
ORD = Kind("a number, 'fro' or 'nuc'", (int, float, str), _number)
STR = Kind("a string", (str,), _refuse)
DTYPE = Kind("a dtype, as tt.float32", (np.dtype,), np.dtype)

# ------------------------------------------------------------------------------ the table

_NAMES = {
    TENSOR: """x y x1 x2 t input input1 input2 target weight bias other tensor tensor1 tensor2
        batch1 batch2 mat mat1 mat2 vec vec1 vec2 index mask indices src source query key attn_mask
        condition boundaries sorted_sequence sorter running_mean running_var pos_weight weights
        offsets per_sample_weights anchor positive negative fweights aweights prepend append
        qkv residual self bernoulli.p scaled_dot_product_attention.value""",
    VALUE: """div.x div.y floor_divide.x floor_divide.y float_power.x float_power.y rsub.x rsub.y
        ldexp.x ldexp.y clamp_min.min clamp_max.max bucketize.input searchsorted.values
        isin.elements isin.test_elements normal.mean normal.std scatter.src scatter.value
        index_fill.value fill_.value full.fill_value full_like.fill_value repeat_interleave.repeats
        bernoulli_.p quantile.q gaussian_nll_loss.var where.other""",
    TENSORS: "tensors matrices index_put.indices",
    INT: """dim dim0 dim1 dim2 axis start_dim end_dim dimension diagonal offset k n m row col steps
        n_head groups chunks upscale_factor downscale_factor num_samples minlength num_groups
        num_classes decimals ignore_index padding_idx length divisor_override narrow.start
        slice_scatter.start slice_scatter.end slice_scatter.step unfold.size unfold.step
        select.index select_scatter.index randint_like.low randint_like.high random_.low
        random_.high cov.correction local_response_norm.size repeat_interleave.output_size""",
    INTS: """shape size sizes_ dims shifts stride dilation kernel_size output_padding
        normalized_shape repeats pad padding split_size_or_sections indices_or_sections
        movedim.source movedim.destination moveaxis.source moveaxis.destination""",
    SIZES: "output_size interpolate.size",
    BOOL: """keepdim keepdims requires_grad return_indices training ceil_mode count_include_pad
        equal_nan descending stable copy out_int32 right replacement sorted return_inverse
        return_counts largest as_tuple accumulate full scale_grad_by_freq sparse include_last_offset
        align_corners antialias log_target log_input is_causal swap left full_matrices include_self
        unbiased assume_unique enable_gqa invert use_input_stats wrap inplace""",
    NUMBER: """alpha beta eps rtol atol margin lambd min_val max_val delta negative_slope threshold
        value p scale dropout_p label_smoothing momentum max_norm norm_type nan posinf neginf base s
        dx start end step mean std median sigma low high correction local_response_norm.k""",
    ORD: "ord norm.p",
    STR: "reduction mode indexing interpolation approximate reduce compute_mode rounding_mode",
    DTYPE: "dtype",
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
_SEVERAL_DIMS = set(
    """all any amax amin sum mean nansum nanmean std var std_mean var_mean logsumexp squeeze
    count_nonzero norm linalg_norm vector_norm matrix_norm normalize max min squeeze_""".split()
)
_UNCHECKED = set(  # their functions know better
    """einsum.equation tensordot.dims tensor_split.indices_or_sections max.dim min.dim max.axis
    min.axis randint.high randint.low take_along_axis.index""".split()
)
_ALSO_TEXT = {f"conv{n}d" for n in (1, 2, 3)}


def kind_of(function: str, parameter: str) -> Kind | None:
    """What `parameter` of `function` may be; None where nobody looks."""
    if f"{function}.{parameter}" in _UNCHECKED:
        return None
    if parameter in ("dim", "axis") and function in _SEVERAL_DIMS:
        return INTS
    if parameter == "padding" and function in _ALSO_TEXT:
        return PADDING
    return _KINDS.get(f"{function}.{parameter}") or _KINDS.get(parameter)


def checked(function: str, parameter: str, kind: Kind, value: Any) -> Any:
    """The value as the function takes it, or an ArgumentError."""
    try:
        return kind.take(value)
    except TypeError:
        pass
    got = type(value).__name__
    if isinstance(value, (tuple, list)) and kind not in (TENSOR, NUMBER, BOOL):
        got += " of " + ", ".join(sorted({type(v).__name__ for v in value}))
    elif isinstance(value, (str, float, bool)):
        got += f" {value!r}"
    fix = ": wrap it in tt.tensor(...)" if kind is TENSOR and not isinstance(value, str) else ""
    raise ArgumentError(f"{function}: {parameter} must be {kind.what}, got {got}{fix}")


# ------------------------------------------------------------------------------ the door


def guard(function: Any, name: str = "", home: str | None = None) -> Any:
    """`function` behind the checks of its parameters. Ops, which check by themselves, stay."""
    if hasattr(function, "op") or hasattr(function, "guarded"):
        return function
    name = name or function.__name__
    s = signature(getattr(function, "__wrapped__", function))
    doors = {p: found for p in s.names if (found := door(function.__name__, p, s.defaults))}
    by_place = [doors.get(p) for p in s.positional]
    rest = doors.get(s.variadic or "")

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        new = None
        for i, (known, a) in enumerate(zip(by_place, args)):
            if known is not None and not isinstance(a, known[2]):
                new = new or list(args)
                new[i] = checked(name, known[0], known[1], a)
        for key, a in kwargs.items():
            known = doors.get(key)
            if known is not None and not isinstance(a, known[2]):
                kwargs[key] = checked(name, key, known[1], a)
        if rest is not None:
            if rest[0] in kwargs:  # zeros(size=(2, 3))
                args = (*args, kwargs.pop(rest[0]))
            given = args[len(by_place) :]
            several = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
            if rest[1] is INTS and not given:
                raise ArgumentError(f"{name}: pass {rest[0]}, ints or a tuple of them")
            checked(name, rest[0], rest[1], tuple(several))
        try:
            return function(*(new or args), **kwargs)
        except _COMPLAINTS as error:
            if isinstance(error, TinyTensorError):
                located(error, name, [*s.names, *["..."] * len(args)], args)
                raise
            if error.__traceback__ is None or error.__traceback__.tb_next is None:
                raise  # about the call itself: a missing argument
            raise _said_again(name, s, args, error) from None

    guarded.guarded = True  # type: ignore[attr-defined]
    guarded.__module__ = home or function.__module__  # where pickle finds it
    return guarded


_COMPLAINTS = (TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError)


def door(function: str, parameter: str, defaults: dict) -> tuple | None:
    """(parameter, its kind, the types that need no look), or None where nobody looks."""
    kind = kind_of(function, parameter)
    if kind is None:
        return None
    optional = parameter in defaults and defaults[parameter] is None
    return parameter, kind, (*kind.plain, type(None)) if optional else kind.plain


def _said_again(name: str, s: Signature, args: tuple, error: Exception) -> Exception:
    """The exception in place of NumPy's or Python's own, of the class PyTorch would raise."""
    what = describe(list(s.names) + ["..."] * len(args), args)
    if str(error) == "tuple index out of range":  # of a shape
        return ShapeError(f"{name}: {what}: there are not enough dims")
    kind: type[Exception] = DimError if isinstance(error, IndexError) else ShapeError
    if isinstance(error, (TypeError, ZeroDivisionError)):
        kind = ArgumentError
    return kind(f"{name}: {what}: {error}")


def guard_all(names: Mapping[str, Any]) -> dict:
    """The functions of the ops and of creation among `names`, behind their doors."""
    return {
        name: guard(f, name, names.get("__name__"))
        for name, f in names.items()
        if isinstance(f, FunctionType) and f.__module__.startswith(_HOMES) and name[:2] != "__"
    }


_HOMES = tuple(f"{__package__}.{home}" for home in ("ops.", "creation", "methods", "linalg", "nn."))
