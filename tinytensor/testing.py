"""What a student's own op is tested with: gradcheck, gradgradcheck, and hypothesis strategies.

    from hypothesis import given
    from tinytensor.testing import gradcheck, tensors

    @given(tensors(dtype=tt.float64, requires_grad=True))
    def test_my_op(x):
        assert gradcheck(my_op, x)

The strategies need hypothesis; it is imported when the first of them is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import dtypes
from .autograd import wrap
from .errors import ArgumentError
from .gradcheck import gradcheck, gradgradcheck, same_layout
from .tensor import Tensor

__all__ = [
    "LAYOUTS", "broadcastable_shapes", "gradcheck", "gradgradcheck", "in_layout", "layouts",
    "same_layout", "shapes", "tensors",
]  # fmt: skip


# ------------------------------------------------------------------------------ memory layouts


def _transposed(a: np.ndarray) -> np.ndarray:
    return np.array(a, order="F")


def _sliced(a: np.ndarray) -> np.ndarray:
    """Every other element of an array twice as large in each dim; NaN or -1 in between."""
    large = np.full([2 * n + 1 for n in a.shape], np.nan if a.dtype.kind == "f" else 1, a.dtype)
    view = large[tuple(slice(1, 2 * n + 1, 2) for n in a.shape)]
    view[...] = a
    return view


def _reversed(a: np.ndarray) -> np.ndarray:
    back = tuple(slice(None, None, -1) for _ in a.shape)
    return np.array(a[back], order="C")[back]


def _expanded(a: np.ndarray) -> np.ndarray:
    """The first row of a for all rows: stride 0. Not the same values, unless a has one row."""
    return np.broadcast_to(a[:1], a.shape) if a.ndim else a


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": np.ascontiguousarray,
    "transposed": _transposed,
    "sliced": _sliced,
    "reversed": _reversed,
    "expanded": _expanded,
}


def in_layout(array: np.ndarray, layout: str) -> np.ndarray:
    """The array in another memory layout, one of LAYOUTS; `expanded` repeats its first row."""
    if layout not in LAYOUTS:
        raise ArgumentError(f"in_layout: layout must be one of {list(LAYOUTS)}, got {layout!r}")
    return LAYOUTS[layout](array) if array.ndim else array.copy()


# ------------------------------------------------------------------------------ strategies


def _hypothesis() -> tuple[Any, Any]:
    try:
        from hypothesis import strategies
        from hypothesis.extra import numpy
    except ImportError:
        raise ImportError(
            "tinytensor.testing's strategies need hypothesis: pip install hypothesis"
        ) from None
    return strategies, numpy


def layouts() -> Any:
    """The name of a memory layout: see in_layout."""
    return _hypothesis()[0].sampled_from(list(LAYOUTS))


def shapes(min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4) -> Any:
    """A shape, 0-d and empty ones among them."""
    return _hypothesis()[1].array_shapes(
        min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )


def broadcastable_shapes(
    count: int = 2, max_dims: int = 3, min_side: int = 0, max_side: int = 4
) -> Any:
    """A tuple of `count` shapes that broadcast together."""
    shapes = _hypothesis()[1].mutually_broadcastable_shapes(
        num_shapes=count, max_dims=max_dims, min_side=min_side, max_side=max_side
    )
    return shapes.map(lambda found: found.input_shapes)


def tensors(
    shape: Any = None, *, dtype: Any = None, elements: Any = None, layout: Any = "contiguous",
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """A Tensor.

    shape     a tuple or a strategy for one; default shapes()
    dtype     default float32
    elements  a strategy for its numbers; default floats in [-10, 10], ints in [-10, 10] or
              [0, 10], bools: finite, so that sums and products of a few stay finite
    layout    a name of LAYOUTS, or a strategy such as layouts()
    """
    st, extra = _hypothesis()
    dtype = np.dtype(dtypes.get_default_dtype() if dtype is None else dtype)
    if elements is None:
        elements = _elements(st, dtype)
    shape = shapes() if shape is None else shape
    where = layout if not isinstance(layout, str) else st.just(layout)

    def build(array: np.ndarray, name: str) -> Tensor:
        t = wrap(in_layout(array, name))
        return t.requires_grad_() if requires_grad else t

    return st.builds(build, extra.arrays(dtype, shape, elements=elements), where)


def _elements(st: Any, dtype: np.dtype) -> Any:
    if dtype.kind == "f":
        width = 8 * dtype.itemsize
        return st.floats(-10, 10, width=width, allow_subnormal=False)
    if dtype.kind == "b":
        return st.booleans()
    return st.integers(0 if dtype.kind == "u" else -10, 10)
