"""gemm: every matrix product on CUDA, with what can be done to its numbers before they are stored.

    out (..., M, N) = alpha a (..., M, K) @ b (..., K, N) + beta out

Ours are rows behind rows; BLAS knows columns behind columns. The same memory read by columns is the
transpose, so BLAS is asked for out^T = b^T a^T: its A is our b, its B our a, its m our N, its n our
M, and nothing is moved.

    ours, row-major            as BLAS reads it            what it is told
    b (K, N), rows ld apart    (N, K), columns ld apart    A = b, no transpose, lda = ld
    b = w.T, w (N, K)          w is (K, N)                 A = w, transpose, lda = its ld
    a (M, K)                   (K, M)                      B = a, no transpose, ldb = ld
    out (M, N)                 (N, M)                      D, ldd = ld

So a bias (N,), which BLAS adds to each of its columns, is added to each of our rows; "the sum of B
over k" (BGRADB) is that of our a over K, M numbers; of A (BGRADA) that of our b, N numbers.
"""

from __future__ import annotations

import functools
import math
from ctypes import byref
from typing import Any, NamedTuple

import numpy as np

from ... import backend
from ...errors import ArgumentError, DeviceError, DtypeError, ShapeError
from ...ops.activations import gelu
from ...precision import get_float32_matmul_precision
from . import cublaslt as lt
from .plans import TYPES, Problem, plan_of

Array = Any

HALF = ("float16", "bfloat16")
AUX_STEP = 8  # numbers from one row of aux to the next: a multiple of it

EPILOGUES = {  # of the activation, and of what else is given
    (None,): lt.CUBLASLT_EPILOGUE_DEFAULT,
    (None, "bias"): lt.CUBLASLT_EPILOGUE_BIAS,
    ("relu",): lt.CUBLASLT_EPILOGUE_RELU,
    ("relu", "bias"): lt.CUBLASLT_EPILOGUE_RELU_BIAS,
    ("gelu",): lt.CUBLASLT_EPILOGUE_GELU,
    ("gelu", "bias"): lt.CUBLASLT_EPILOGUE_GELU_BIAS,
    ("gelu", "aux"): lt.CUBLASLT_EPILOGUE_GELU_AUX,
    ("gelu", "bias", "aux"): lt.CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
    ("dgelu", "aux"): lt.CUBLASLT_EPILOGUE_DGELU,
    (None, "sum_a"): lt.CUBLASLT_EPILOGUE_BGRADB,
    (None, "sum_b"): lt.CUBLASLT_EPILOGUE_BGRADA,
}


class Operand(NamedTuple):
    """A matrix, or a batch of them, as BLAS reads it."""

    array: Array
    transposed: bool
    ld: int  # numbers from one row (column, if transposed) to the next
    stride: int  # numbers from one matrix to the next


@functools.cache
def _name(dtype: Any) -> str:
    return dtype.name


def multiplies(x: Array) -> bool:
    """Is x of a dtype that gemm takes?"""
    return _name(x.dtype) in TYPES


# ------------------------------------------------------------------------------ the operands


def _batch_stride(shape: tuple, strides: tuple, lead: tuple) -> int | None:
    """Numbers from one matrix to the next over all of `lead`, to which `shape` is broadcast; None
    if that is not one number."""
    stride = after = None
    for i in range(1, len(lead) + 1):
        size = lead[-i]
        if size == 1:
            continue
        step = strides[-i] if i <= len(shape) and shape[-i] != 1 else 0
        if stride is None:
            stride = step
        elif step != after:
            return None
        after = step * size
    return stride or 0


def _read(x: Array, lead: tuple) -> Operand | None:
    """x as BLAS can read it where it is; None if it cannot."""
    rows, columns = x.shape[-2:]
    size = x.itemsize
    *batch, down, across = [s // size for s in x.strides]
    stride = _batch_stride(x.shape[:-2], tuple(batch), lead)
    if stride is None or stride < 0:
        return None
    if (across == 1 or columns == 1) and (rows == 1 or down >= columns):
        return Operand(x, False, down if rows > 1 else columns, stride)
    if (down == 1 or rows == 1) and (columns == 1 or across >= rows):
        return Operand(x, True, across if columns > 1 else rows, stride)
    return None


def _operand(xp: Any, x: Array, lead: tuple) -> Operand:
    """x as BLAS can read it, if need be a copy."""
    found = _read(x, lead)
    if found is None:
        found = _read(x := xp.ascontiguousarray(x), lead)
    if found is None:  # broadcast in some leading dims and not in others
        found = _read(xp.ascontiguousarray(xp.broadcast_to(x, (*lead, *x.shape[-2:]))), lead)
    assert found is not None  # contiguous
    return found


def _as_one(M: int, b: Operand, *with_rows: Operand) -> list[Operand] | None:
    """A batch of products with the same b is one product of more rows, where these follow each
    other in a, out and aux: as that one sees those."""
    if b.stride:
        return None
    seen = []
    for x in with_rows:
        if x.transposed or (x.stride != M * x.ld if M > 1 else x.stride < x.ld):
            return None
        seen.append(x._replace(ld=x.stride // M, stride=0))
    return seen


def _alignment(address: int) -> int:
    """The largest power of two that divides it, up to 256, which no algorithm asks more than."""
    return min(address & -address, 256)


# ------------------------------------------------------------------------------ the product


def _fail(a: Array, b: Array, why: str, error: Any = ShapeError) -> Any:
    return error(f"gemm: a {a.dtype} {tuple(a.shape)}, b {b.dtype} {tuple(b.shape)}: {why}")


def _check(a: Array, b: Array, out: Array, given: dict) -> None:
    """All that must hold of the arguments, out being there; given: those that are not None."""
    if a.dtype != b.dtype or _name(a.dtype) not in TYPES:
        raise _fail(a, b, f"both must be of one dtype of {', '.join(TYPES)}", DtypeError)
    own = _name(a.dtype)
    allowed = (own, "float32") if own in HALF else (own,)
    if _name(out.dtype) not in allowed:
        raise _fail(a, b, f"out must be {' or '.join(allowed)}, not {out.dtype}", DtypeError)
    M, N = out.shape[-2:]
    shapes = {"bias": (N,), "aux": out.shape, "sum_a": (M,), "sum_b": (N,)}
    for name, x in given.items():
        if x.shape != shapes[name] or x.dtype != out.dtype:
            what = f"{out.dtype} {shapes[name]}, not {x.dtype} {tuple(x.shape)}"
            raise _fail(a, b, f"{name} must be {what}")
        if name.startswith("sum") and not x.flags.c_contiguous:
            raise _fail(a, b, f"{name} must be contiguous", ArgumentError)
    here = backend.cupy().cuda.runtime.getDevice()
    if any(x.data.device_id != here for x in (a, b, out, *given.values())):
        backend.check_one_device("gemm", a=a, b=b, out=out, **given)
        raise _fail(a, b, f"they are on {backend.device_of(a)}, not on cuda:{here}", DeviceError)


def aux_like(xp: Any, out: Array) -> Array:
    """Room for aux beside out (..., M, N): its rows start at multiples of 8 numbers."""
    *lead, N = out.shape
    return xp.empty((*lead, -(-N // AUX_STEP) * AUX_STEP), out.dtype)[..., :N]


def gemm(
    a: Array, b: Array, out: Array = None, *, dtype: Any = None,
    alpha: float = 1.0, beta: float = 0.0, bias: Array = None,
    activation: str | None = None, aux: Array = None,
    sum_a: Array = None, sum_b: Array = None,
) -> Array:  # fmt: skip
    """out (..., M, N) = alpha a (..., M, K) @ b (..., K, N) + beta out; leading dims broadcast.

    a, b     one dtype: float32, float64, float16 or bfloat16. Transposed and strided ones are read
             where they are; what BLAS cannot read (a step in both dims, a reversed one) is copied
    out      of that dtype, or float32 for half precision, whose sums are float32 in any case; made,
             of `dtype`, if not given. Its rows must be contiguous
    bias     (N,), added to each row;  aux (..., M, N), made by aux_like.  Both of out's dtype
    activation  'relu', 'gelu' (the tanh form), of which aux gets the argument, if given; 'dgelu':
             the numbers are gradients to be multiplied by gelu'(aux)
    sum_a    (M,) = sum of a over K, or sum_b (N,) = sum of b over K, of out's dtype, for matrices:
             of dW = g^T @ x, sum_a is the gradient of the bias

    What cublasLt has no fused algorithm for is done in steps. Runs on CuPy's current stream and
    device, and may be captured, once a product has been done on that device.
    Raises ShapeError, DtypeError, ArgumentError, DeviceError.
    """
    xp = backend.cupy()
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise _fail(a, b, "the last dim of a must be the last but one of b")
    (M, K), N, lead = a.shape[-2:], b.shape[-1], a.shape[:-2]
    if b.shape[:-2] != lead:
        try:
            lead = np.broadcast_shapes(lead, b.shape[:-2])
        except ValueError:
            raise _fail(a, b, "the leading dims do not broadcast") from None
    if out is None:
        if beta:
            raise _fail(a, b, f"beta = {beta} needs out", ArgumentError)
        out = xp.empty((*lead, M, N), a.dtype if dtype is None else dtype)
    elif out.shape != (*lead, M, N):
        raise _fail(a, b, f"out {tuple(out.shape)} must be {(*lead, M, N)}")
    if bias is not None and not bias.flags.c_contiguous:
        bias = xp.ascontiguousarray(bias)
    given = {"bias": bias, "aux": aux, "sum_a": sum_a, "sum_b": sum_b}
    given = {name: x for name, x in given.items() if x is not None}
    _check(a, b, out, given)
    epilogue = EPILOGUES.get((activation, *given))
    if epilogue is None or lead and ("sum_a" in given or "sum_b" in given):
        what = f"activation {activation} with {', '.join(given) or 'nothing else'}"
        raise _fail(a, b, f"there is no epilogue of {what} here", ArgumentError)
    plain = epilogue == lt.CUBLASLT_EPILOGUE_DEFAULT
    if plain and not (out.size and K):
        return _without_product(out, beta)
    vector = given.get("sum_a", given.get("sum_b", bias))
    if not out.size or not K or not _run(
        xp, a, b, out, lead, alpha, beta, epilogue, vector, aux
    ):  # fmt: skip
        gemm(a, b, out, alpha=alpha, beta=beta)
        _afterwards(xp, a, b, out, activation, **given)
    return out


def _without_product(out: Array, beta: float) -> Array:
    """beta out, where a @ b is a sum of nothing, or there is no number in out."""
    if beta:
        out *= beta
    else:
        out.fill(0)
    return out


def _run(
    xp: Any, a: Array, b: Array, out: Array, lead: tuple, alpha: float, beta: float,
    epilogue: int, vector: Array, aux: Array,
) -> bool:  # fmt: skip
    """One call of cublasLtMatmul; False if there is none for this epilogue."""
    (M, N), K, batch = out.shape[-2:], a.shape[-1], math.prod(lead)
    A, B, D = _operand(xp, a, lead), _operand(xp, b, lead), _read(out, lead)
    X = D if aux is None else _read(aux, lead)
    if D is None or D.transposed or batch > 1 and D.stride < N:
        raise _fail(a, b, f"out's rows must be contiguous, its strides are {out.strides}")
    if X is None or X.transposed:
        return False
    if batch > 1 and (one := _as_one(M, B, A, D, X)):
        (A, D, X), M, batch = one, M * batch, 1
    aux_ld = 0 if aux is None else X.ld
    if epilogue != lt.CUBLASLT_EPILOGUE_DEFAULT and (batch > 1 or aux_ld % AUX_STEP):
        return False
    pointers = (0 if vector is None else vector.data.ptr, 0 if aux is None else aux.data.ptr)
    addresses = (A.array.data.ptr, B.array.data.ptr, out.data.ptr, *pointers)
    problem = Problem(
        _name(a.dtype), _name(out.dtype),
        _name(a.dtype) == "float32" and get_float32_matmul_precision() != "highest",
        (M, N, K), batch, A[1:], B[1:], (D.ld, D.stride), epilogue, aux_ld,
        tuple([_alignment(address) for address in addresses]),
    )  # fmt: skip
    context = lt.context(a.data.device_id)
    with context.lock:
        plan = plan_of(problem, context, pointers)
        if plan.algorithm is None:
            return False
        plan.point(*pointers)
        status = lt.library().cublasLtMatmul(
            context.handle, plan.operation,
            byref(plan.scalar(alpha)), addresses[1], plan.A, addresses[0], plan.B,
            byref(plan.scalar(beta)), addresses[2], plan.D, addresses[2], plan.D,
            byref(plan.algorithm), context.workspace.data.ptr, lt.WORKSPACE,
            xp.cuda.get_current_stream().ptr,
        )  # fmt: skip
    if status:
        lt.check(status, f"cublasLtMatmul of {problem}")
    return True


def _afterwards(
    xp: Any, a: Array, b: Array, out: Array, activation: str | None,
    bias: Array = None, aux: Array = None, sum_a: Array = None, sum_b: Array = None,
) -> None:  # fmt: skip
    """The epilogue after the product, as far as there is one; in float32."""
    if sum_a is not None:
        gemm(a, xp.ones((a.shape[1], 1), a.dtype), sum_a[:, None])
        return
    if sum_b is not None:
        gemm(xp.ones((1, b.shape[0]), b.dtype), b, sum_b[None])
        return
    x = out.astype(xp.float32) if _name(out.dtype) in HALF else out
    if bias is not None:
        x += bias
    if activation == "relu":
        x = xp.maximum(x, 0)
    elif activation == "gelu":
        if aux is not None:
            aux[...] = x
        x = gelu.on(xp, x, approximate="tanh")
    elif activation == "dgelu":
        x = gelu.op.rules["x"].function(xp, x, aux.astype(x.dtype), "tanh")
    if x is not out:
        out[...] = x
