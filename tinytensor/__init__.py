"""tinytensor: tensors that remember how they were made. PyTorch's names; NumPy and CuPy below."""

import warnings as _warnings
from typing import Any as _Any

from . import amp, autograd, backend, cuda, errors, func, kernels, linalg, namespace, nn, optim
from .amp import (
    autocast, get_autocast_dtype, is_autocast_cache_enabled, is_autocast_enabled,
)  # fmt: skip
from .anomaly import detect_anomaly
from .arguments import guard_all as _guard_all
from .autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from .backend import Device as device
from .contributions import contributions
from .creation import (
    arange, as_tensor, bernoulli, empty, empty_like, eye, from_numpy, full, full_like, linspace,
    logspace, multinomial, normal, ones, ones_like, rand, rand_like, randint, randint_like, randn,
    randn_like, randperm, scalar_tensor, tensor, tril_indices, triu_indices, zeros, zeros_like,
)  # fmt: skip
from .dtypes import bfloat16 as _bfloat16
from .dtypes import (
    bool, double, float, float16, float32, float64, get_default_dtype, half, int, int8, int16,
    int32, int64, long, promote_types, result_type, set_default_dtype, short, uint8, uint16,
)  # fmt: skip
from .explain import explain
from .interop import from_dlpack
from .kernels.memory import release_memory
from .kernels.threads import get_num_threads, set_num_threads
from .memory import memory_stats, memory_summary
from .op import REGISTRY, Saved, op
from .ops.activations import celu, hardshrink, prelu, relu, selu, threshold
from .ops.arithmetic import (
    addcdiv, addcmul, clamp_max, clamp_min, deg2rad, float_power, fmax, fmin, gcd, lcm, ldexp, lerp,
    nan_to_num, positive, rad2deg, reciprocal, rsub, square,
)  # fmt: skip
from .ops.arrange import (
    broadcast_shapes, broadcast_tensors, broadcast_to, cartesian_prod, fliplr, flipud, meshgrid,
    moveaxis, ravel, repeat_interleave, roll, rot90, tile,
)  # fmt: skip
from .ops.conv import (
    conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d,
)  # fmt: skip
from .ops.diagonals import block_diag, diag, diag_embed, diagflat, kron, trace
from .ops.einsum import einsum
from .ops.elementwise import (
    abs, add, bitwise_and, bitwise_not, bitwise_or, bitwise_xor, clamp, clone, cos, div, eq, erf,
    exp, ge, gt, isfinite, isinf, isnan, le, log, logical_not, lt, masked_fill, maximum, minimum,
    mul, ne, neg, pow, rsqrt, sigmoid, sign, sin, sqrt, sub, tanh, where,
)  # fmt: skip
from .ops.index import argsort, gather, nonzero, sort, topk
from .ops.length import cdist, cosine_similarity, dist, norm, pairwise_distance
from .ops.linalg import matmul
from .ops.logical import (
    allclose, bitwise_left_shift, bitwise_right_shift, equal, isclose, isin, isneginf, isposinf,
    isreal, logical_and, logical_or, logical_xor,
)  # fmt: skip
from .ops.nn import log_softmax, softmax
from .ops.order import (
    aminmax, bincount, bucketize, count_nonzero, kthvalue, median, msort, nanmedian, quantile,
    searchsorted, unique, unique_consecutive,
)  # fmt: skip
from .ops.pieces import (
    atleast_1d, atleast_2d, atleast_3d, column_stack, diagonal_scatter, dsplit, dstack, hsplit,
    hstack, narrow, select, select_scatter, slice_scatter, tensor_split, vsplit, vstack,
)  # fmt: skip
from .ops.pixels import channel_shuffle, pixel_shuffle, pixel_unshuffle
from .ops.products import (
    addbmm, addmm, addmv, addr, baddbmm, bmm, chain_matmul, cross, dot, ger, inner, matrix_power,
    mm, mv, outer, tensordot, vdot,
)  # fmt: skip
from .ops.reduce import (
    all, amax, amin, any, argmax, argmin, cumsum, logsumexp, max, mean, min, std, sum, var,
)  # fmt: skip
from .ops.rounding import (
    ceil, copysign, fix, floor, floor_divide, fmod, frac, heaviside, remainder, round, signbit,
    trunc,
)  # fmt: skip
from .ops.scan import cummax, cummin, cumprod, logcumsumexp, prod
from .ops.scatter import (
    index_add, index_copy, index_fill, index_put, index_select, masked_scatter, masked_select, put,
    scatter, scatter_add, scatter_reduce, take, take_along_dim,
)  # fmt: skip
from .ops.shape import (
    cat, chunk, diagonal, flatten, flip, movedim, permute, reshape, split, squeeze, stack, t,
    transpose, tril, triu, unbind, unflatten, unsqueeze,
)  # fmt: skip
from .ops.solve import det, inverse, logdet, slogdet
from .ops.statistics import (
    corrcoef, cov, diff, nanmean, nansum, std_mean, trapezoid, trapz, var_mean,
)  # fmt: skip
from .ops.transcendental import (
    acos, acosh, arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh, asin, asinh, atan,
    atan2, atanh, cosh, erfc, exp2, expm1, hypot, log1p, log2, log10, logaddexp, logaddexp2, logit,
    sinc, sinh, tan, xlogy,
)  # fmt: skip
from .precision import get_float32_matmul_precision, set_float32_matmul_precision
from .printing import get_printoptions, printoptions, set_printoptions
from .random import Generator, default_generator, manual_seed
from .tape import tape_memory
from .tensor import Size, Tensor

absolute, clip, concat, concatenate, negative, sgn = abs, clamp, cat, cat, neg, sign
subtract, multiply, divide, true_divide = sub, mul, div, div
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne
swapaxes = swapdims = transpose
row_stack = vstack
argwhere = nonzero
split_with_sizes = split

globals().update(_guard_all(globals()))

__version__ = "0.1.0"


def __getattr__(name: str) -> _Any:
    if name == "bfloat16":  # of a package that is needed for it alone
        return _bfloat16()
    raise AttributeError(f"module 'tinytensor' has no attribute {name!r}")


# 1/0 is inf and log(-1) is NaN without a word, as in PyTorch; tt.detect_anomaly() finds them
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"tinytensor\.")
