"""PyTorch's operators and methods: one line each into ops, by subject."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .arguments import guard, guard_all
from .autograd import Variable, wrap
from .ops import activations as act
from .ops import arithmetic as ar
from .ops import arrange as arr
from .ops import (
    diagonals,
    fill,
    index,
    inplace,
    length,
    linalg,
    logical,
    nn,
    order,
    pieces,
    reduce,
    rounding,
    scan,
)  # fmt: skip
from .ops import elementwise as e
from .ops import products as pr
from .ops import scatter as sc
from .ops import shape as sh
from .ops import solve as so
from .ops import statistics as st
from .ops import transcendental as tr


def _operator(function: Any, swapped: bool = False) -> Any:
    """A binary operator: a foreign operand gets its own turn, through NotImplemented."""

    @functools.wraps(function)
    def method(x: Any, y: Any) -> Any:
        if not isinstance(y, OPERANDS):
            return NotImplemented
        if isinstance(y, np.ndarray):
            y = wrap(y)
        return function(y, x) if swapped else function(x, y)

    return method


def _new(name: str) -> Any:
    """`t.new_zeros(...)`: the creation function, by default of t's dtype and on t's device."""

    def method(self: Any, *args: Any, **options: Any) -> Any:
        from . import creation

        for key, value in (("dtype", self.dtype), ("device", self.device)):
            if options.get(key) is None:
                options[key] = value
        return guard(getattr(creation, name))(*args, **options)

    method.__name__, method.__doc__ = f"new_{name}", f"{name}, by default of this dtype and device"
    return method


def _in_place(*functions: Any) -> list:
    """`add_` of `add` and so on, in the order given."""
    return [inplace.in_place(f, f.__name__ + "_") for f in functions]


OPERANDS = (Variable, int, float, np.ndarray, np.generic)


class Methods:
    """What Tensor can do; what it is stands in tensor.py."""

    __slots__ = ()

    # -------------------------------------------------------------------------- operators

    __add__, __radd__ = _operator(e.add), _operator(e.add, True)
    __sub__, __rsub__ = _operator(e.sub), _operator(e.sub, True)
    __mul__, __rmul__ = _operator(e.mul), _operator(e.mul, True)
    __truediv__, __rtruediv__ = _operator(e._div), _operator(e._div, True)
    __floordiv__, __rfloordiv__ = (_operator(rounding.floor_divide, s) for s in (False, True))
    __mod__, __rmod__ = _operator(rounding.remainder), _operator(rounding.remainder, True)
    __pow__, __rpow__ = _operator(e.pow), _operator(e.pow, True)
    __matmul__, __rmatmul__ = _operator(linalg.matmul), _operator(linalg.matmul, True)
    __and__, __rand__ = _operator(e.bitwise_and), _operator(e.bitwise_and, True)
    __or__, __ror__ = _operator(e.bitwise_or), _operator(e.bitwise_or, True)
    __xor__, __rxor__ = _operator(e.bitwise_xor), _operator(e.bitwise_xor, True)
    __lshift__ = _operator(logical.bitwise_left_shift)
    __rshift__ = _operator(logical.bitwise_right_shift)
    __rlshift__ = _operator(logical.bitwise_left_shift, True)
    __rrshift__ = _operator(logical.bitwise_right_shift, True)
    __eq__, __ne__ = _operator(e.eq), _operator(e.ne)
    __lt__, __le__ = _operator(e.lt), _operator(e.le)
    __gt__, __ge__ = _operator(e.gt), _operator(e.ge)
    __neg__, __abs__, __pos__, __invert__ = e.neg, e.abs, ar.positive, e.bitwise_not
    __getitem__, __setitem__ = index.getitem, inplace.setitem

    # -------------------------------------------------------------------------- elementwise

    add, sub, mul, div, neg, pow = e.add, e.sub, e.mul, e.div, e.neg, e.pow
    subtract, multiply, divide, true_divide = e.sub, e.mul, e.div, e.div
    abs, sign, exp, log, sqrt, rsqrt = e.abs, e.sign, e.exp, e.log, e.sqrt, e.rsqrt
    sin, cos, tanh, sigmoid, erf = e.sin, e.cos, e.tanh, e.sigmoid, e.erf
    relu, prelu, hardshrink = act.relu, act.prelu, act.hardshrink
    maximum, minimum, clamp, masked_fill = e.maximum, e.minimum, e.clamp, e.masked_fill
    eq, ne, lt, le, gt, ge = e.eq, e.ne, e.lt, e.le, e.gt, e.ge
    isnan, isinf, isfinite, logical_not = e.isnan, e.isinf, e.isfinite, e.logical_not
    negative, absolute, clip, sgn = e.neg, e.abs, e.clamp, e.sign
    greater, greater_equal, less, less_equal, not_equal = e.gt, e.ge, e.lt, e.le, e.ne
    bitwise_and, bitwise_or, bitwise_xor = e.bitwise_and, e.bitwise_or, e.bitwise_xor
    bitwise_not = e.bitwise_not
    bitwise_left_shift = logical.bitwise_left_shift
    bitwise_right_shift = logical.bitwise_right_shift
    logical_and, logical_or = logical.logical_and, logical.logical_or
    logical_xor = logical.logical_xor
    isposinf, isneginf, isreal = logical.isposinf, logical.isneginf, logical.isreal
    isclose, allclose, equal = logical.isclose, logical.allclose, logical.equal

    floor, ceil, round, frac = rounding.floor, rounding.ceil, rounding.round, rounding.frac
    trunc, fix = rounding.trunc, rounding.fix
    remainder, fmod, floor_divide = rounding.remainder, rounding.fmod, rounding.floor_divide
    signbit, copysign, heaviside = rounding.signbit, rounding.copysign, rounding.heaviside
    square, reciprocal, positive, lerp = ar.square, ar.reciprocal, ar.positive, ar.lerp
    fmax, fmin, gcd, lcm, ldexp = ar.fmax, ar.fmin, ar.gcd, ar.lcm, ar.ldexp
    clamp_min, clamp_max, float_power = ar.clamp_min, ar.clamp_max, ar.float_power
    addcmul, addcdiv, nan_to_num = ar.addcmul, ar.addcdiv, ar.nan_to_num
    deg2rad, rad2deg = ar.deg2rad, ar.rad2deg
    exp2, expm1, log1p, log2, log10 = tr.exp2, tr.expm1, tr.log1p, tr.log2, tr.log10
    logaddexp, logaddexp2, xlogy, logit = tr.logaddexp, tr.logaddexp2, tr.xlogy, tr.logit
    tan, asin, acos, atan, atan2 = tr.tan, tr.asin, tr.acos, tr.atan, tr.atan2
    arcsin, arccos, arctan, arctan2 = tr.asin, tr.acos, tr.atan, tr.atan2
    sinh, cosh, asinh, acosh, atanh = tr.sinh, tr.cosh, tr.asinh, tr.acosh, tr.atanh
    arcsinh, arccosh, arctanh = tr.asinh, tr.acosh, tr.atanh
    hypot, sinc, erfc = tr.hypot, tr.sinc, tr.erfc

    def where(self: Any, condition: Any, other: Any) -> Any:
        return e.where(condition, self, other)

    # -------------------------------------------------------------------------- the other ops

    sum, mean, var, std = reduce.sum, reduce.mean, reduce.var, reduce.std
    max, min, amax, amin = reduce.max, reduce.min, reduce.amax, reduce.amin
    argmax, argmin, logsumexp = reduce.argmax, reduce.argmin, reduce.logsumexp
    all, any, cumsum = reduce.all, reduce.any, reduce.cumsum

    prod, cumprod, logcumsumexp = scan.prod, scan.cumprod, scan.logcumsumexp
    cummax, cummin = scan.cummax, scan.cummin
    cumsum_, cumprod_ = _in_place(reduce.cumsum, scan.cumprod)
    median, nanmedian, kthvalue = order.median, order.nanmedian, order.kthvalue
    quantile, unique, bincount = order.quantile, order.unique, order.bincount
    count_nonzero, aminmax, msort = order.count_nonzero, order.aminmax, order.msort
    unique_consecutive = order.unique_consecutive
    nansum, nanmean, diff, cov, corrcoef = st.nansum, st.nanmean, st.diff, st.cov, st.corrcoef

    reshape, view, flatten, unflatten = sh.reshape, sh.view, sh.flatten, sh.unflatten
    permute, transpose, movedim, t = sh.permute, sh.transpose, sh.movedim, sh.t
    swapaxes = swapdims = sh.transpose
    squeeze, unsqueeze, expand = sh.squeeze, sh.unsqueeze, sh.expand
    split, chunk, unbind, flip = sh.split, sh.chunk, sh.unbind, sh.flip
    tril, triu, diagonal, contiguous = sh.tril, sh.triu, sh.diagonal, sh.contiguous

    repeat, tile, repeat_interleave = arr.repeat, arr.tile, arr.repeat_interleave
    roll, fliplr, flipud, rot90 = arr.roll, arr.fliplr, arr.flipud, arr.rot90
    unfold, ravel, broadcast_to, moveaxis = arr.unfold, arr.ravel, arr.broadcast_to, arr.moveaxis
    narrow, select, tensor_split = pieces.narrow, pieces.select, pieces.tensor_split
    hsplit, vsplit, dsplit = pieces.hsplit, pieces.vsplit, pieces.dsplit
    select_scatter, slice_scatter = pieces.select_scatter, pieces.slice_scatter
    diagonal_scatter = pieces.diagonal_scatter
    diag, diag_embed, diagflat = diagonals.diag, diagonals.diag_embed, diagonals.diagflat
    kron, trace = diagonals.kron, diagonals.trace
    split_with_sizes, sum_to_size = sh.split, arr.sum_to_size
    squeeze_ = inplace.rearranged(sh.squeeze, "squeeze_")
    unsqueeze_ = inplace.rearranged(sh.unsqueeze, "unsqueeze_")
    transpose_ = swapaxes_ = swapdims_ = inplace.rearranged(sh.transpose, "transpose_")
    t_ = inplace.rearranged(sh.t, "t_")
    tril_, triu_ = _in_place(sh.tril, sh.triu)

    new_zeros, new_ones, new_empty = _new("zeros"), _new("ones"), _new("empty")
    new_full, new_tensor = _new("full"), _new("tensor")

    def bernoulli(self: Any, *, generator: Any = None) -> Any:
        from .creation import bernoulli

        return bernoulli(self, generator=generator)

    def multinomial(
        self: Any, num_samples: Any, replacement: Any = False, *, generator: Any = None
    ) -> Any:
        from .creation import multinomial

        return multinomial(self, num_samples, replacement, generator=generator)

    def argwhere(self: Any) -> Any:
        return index.nonzero(self)

    def expand_as(self: Any, other: Any) -> Any:
        return sh.expand(self, other.shape)

    def view_as(self: Any, other: Any) -> Any:
        return sh.view(self, other.shape)

    def reshape_as(self: Any, other: Any) -> Any:
        return sh.reshape(self, other.shape)

    gather, topk, sort, argsort = index.gather, index.topk, index.sort, index.argsort
    nonzero = index.nonzero
    index_select, index_add, index_copy = sc.index_select, sc.index_add, sc.index_copy
    index_fill, index_put, take, put = sc.index_fill, sc.index_put, sc.take, sc.put
    scatter, scatter_add, scatter_reduce = sc.scatter, sc.scatter_add, sc.scatter_reduce
    take_along_dim = sc.take_along_dim
    masked_select, masked_scatter = sc.masked_select, sc.masked_scatter
    index_add_, index_copy_, index_fill_, index_put_, put_ = _in_place(
        sc.index_add, sc.index_copy, sc.index_fill, sc.index_put, sc.put
    )
    scatter_, scatter_add_, scatter_reduce_, masked_scatter_ = _in_place(
        sc.scatter, sc.scatter_add, sc.scatter_reduce, sc.masked_scatter
    )
    matmul, mm, bmm, mv, dot, vdot = linalg.matmul, pr.mm, pr.bmm, pr.mv, pr.dot, pr.vdot
    inner, outer, ger, cross = pr.inner, pr.outer, pr.ger, pr.cross
    addmm, addmv, addr, addbmm, baddbmm = pr.addmm, pr.addmv, pr.addr, pr.addbmm, pr.baddbmm
    addmm_, addmv_, addr_, addbmm_, baddbmm_ = _in_place(
        pr.addmm, pr.addmv, pr.addr, pr.addbmm, pr.baddbmm
    )
    matrix_power, inverse, det = pr.matrix_power, so.inverse, so.det
    slogdet, logdet = so.slogdet, so.logdet
    norm, dist = length.norm, length.dist
    softmax, log_softmax = nn.softmax, nn.log_softmax

    # -------------------------------------------------------------------------- in place

    copy_, fill_, zero_ = inplace.copy_, inplace.fill_, inplace.zero_
    uniform_, normal_, log_normal_ = fill.uniform_, fill.normal_, fill.log_normal_
    exponential_, cauchy_, geometric_ = fill.exponential_, fill.cauchy_, fill.geometric_
    bernoulli_, random_, fill_diagonal_ = fill.bernoulli_, fill.random_, fill.fill_diagonal_
    __iadd__ = inplace.in_place(e.add, "+=")
    __isub__ = inplace.in_place(e.sub, "-=")
    __imul__ = inplace.in_place(e.mul, "*=")
    __itruediv__ = inplace.in_place(e._div, "/=")
    __ifloordiv__ = inplace.in_place(rounding.floor_divide, "//=")
    __imod__ = inplace.in_place(rounding.remainder, "%=")
    __ipow__ = inplace.in_place(e.pow, "**=")
    __iand__ = inplace.in_place(e.bitwise_and, "&=")
    __ior__ = inplace.in_place(e.bitwise_or, "|=")
    __ixor__ = inplace.in_place(e.bitwise_xor, "^=")
    __ilshift__ = inplace.in_place(logical.bitwise_left_shift, "<<=")
    __irshift__ = inplace.in_place(logical.bitwise_right_shift, ">>=")
    add_, sub_, mul_, div_, pow_, neg_ = _in_place(e.add, e.sub, e.mul, e.div, e.pow, e.neg)
    subtract_, multiply_, divide_, true_divide_, negative_ = sub_, mul_, div_, div_, neg_
    abs_, sign_, clamp_, masked_fill_ = _in_place(e.abs, e.sign, e.clamp, e.masked_fill)
    absolute_, sgn_, clip_ = abs_, sign_, clamp_
    exp_, log_, sqrt_, rsqrt_, sin_, cos_ = _in_place(e.exp, e.log, e.sqrt, e.rsqrt, e.sin, e.cos)
    tanh_, sigmoid_, relu_, erf_ = _in_place(e.tanh, e.sigmoid, act.relu, e.erf)
    eq_, ne_, lt_, le_, gt_, ge_ = _in_place(e.eq, e.ne, e.lt, e.le, e.gt, e.ge)
    not_equal_, less_, less_equal_, greater_, greater_equal_ = ne_, lt_, le_, gt_, ge_
    bitwise_and_, bitwise_or_, bitwise_xor_, bitwise_not_ = _in_place(
        e.bitwise_and, e.bitwise_or, e.bitwise_xor, e.bitwise_not
    )
    bitwise_left_shift_, bitwise_right_shift_ = _in_place(
        logical.bitwise_left_shift, logical.bitwise_right_shift
    )
    logical_and_, logical_or_, logical_xor_, logical_not_ = _in_place(
        logical.logical_and, logical.logical_or, logical.logical_xor, e.logical_not
    )
    floor_, ceil_, round_, trunc_, frac_ = _in_place(
        rounding.floor, rounding.ceil, rounding.round, rounding.trunc, rounding.frac
    )
    remainder_, fmod_, floor_divide_, copysign_, heaviside_ = _in_place(
        rounding.remainder, rounding.fmod, rounding.floor_divide, rounding.copysign,
        rounding.heaviside,
    )  # fmt: skip
    fix_ = trunc_
    square_, reciprocal_, lerp_, addcmul_, addcdiv_, nan_to_num_ = _in_place(
        ar.square, ar.reciprocal, ar.lerp, ar.addcmul, ar.addcdiv, ar.nan_to_num
    )
    gcd_, lcm_, ldexp_, clamp_min_, clamp_max_, float_power_ = _in_place(
        ar.gcd, ar.lcm, ar.ldexp, ar.clamp_min, ar.clamp_max, ar.float_power
    )
    deg2rad_, rad2deg_ = _in_place(ar.deg2rad, ar.rad2deg)
    exp2_, expm1_, log1p_, log2_, log10_ = _in_place(tr.exp2, tr.expm1, tr.log1p, tr.log2, tr.log10)
    xlogy_, logit_, hypot_, sinc_, erfc_ = _in_place(tr.xlogy, tr.logit, tr.hypot, tr.sinc, tr.erfc)
    tan_, asin_, acos_, atan_, atan2_ = _in_place(tr.tan, tr.asin, tr.acos, tr.atan, tr.atan2)
    sinh_, cosh_, asinh_, acosh_, atanh_ = _in_place(tr.sinh, tr.cosh, tr.asinh, tr.acosh, tr.atanh)
    arcsin_, arccos_, arctan_, arctan2_ = asin_, acos_, atan_, atan2_
    arcsinh_, arccosh_, arctanh_ = asinh_, acosh_, atanh_


for _name, _method in guard_all(vars(Methods)).items():
    setattr(Methods, _name, _method)
