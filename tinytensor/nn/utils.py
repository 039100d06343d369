"""Gradients clipped, parameters as one vector. Nothing here waits for the GPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import backend
from ..autograd import Variable, no_grad, wrap
from ..errors import ArgumentError, NonFiniteError, ShapeError
from ..kernels.cuda import adamw
from ..kernels.threads import parallel
from ..ops.shape import cat
from ..tensor import Tensor

ALONE = 2_000_000  # elements: below, threads would only wait for each other's Python


def _grads(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, Variable):
        parameters = [parameters]  # type: ignore[list-item]
    return [p.grad for p in parameters if p.grad is not None]


def get_total_norm(
    tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """(sum of |t|^p)^(1/p) over all elements of all tensors, p = norm_type; inf: the largest |t|.

    A 0-d Tensor on the device of the first. error_if_nonfinite has to read it, and so waits.
    """
    arrays = [t.array for t in ([tensors] if isinstance(tensors, Tensor) else tensors)]
    p = float(norm_type)
    if not arrays:
        return Tensor(0.0)
    xp, device = backend.namespace_of(arrays[0]), backend.device_of(arrays[0])
    if p <= 0:
        raise ArgumentError(f"norm_type must be positive, got {norm_type}")
    if p == 2 and adamw.takes(arrays):
        total = adamw.total_norm(arrays)
    else:
        terms = [backend.to_device(t, device) for t in _each(lambda a: _term(a, p), arrays)]
        with backend.using(arrays[0]):
            norms = xp.stack(terms)
            total = xp.asarray(norms.max() if p == math.inf else norms.sum() ** (1 / p))
    if error_if_nonfinite and not bool(xp.isfinite(total)):
        raise NonFiniteError(
            f"the total norm of order {p} of the gradients is {float(total)}, so they cannot be "
            "clipped: lower the learning rate, or pass error_if_nonfinite=False to go on"
        )
    return wrap(total)


def _term(a: Any, p: float) -> Any:
    """This array's share of the norm: the sum of |a|^p, or the largest |a|. At least float32."""
    xp = backend.namespace_of(a)
    with backend.using(a):
        if a.dtype.itemsize < 4:
            a = a.astype("float32")
        if p == 2:
            flat = a.reshape(-1)
            return xp.asarray(xp.dot(flat, flat))
        a = abs(a)
        return xp.asarray((a.max() if a.size else a.sum()) if p == math.inf else (a**p).sum())


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:  # fmt: skip
    """Scale all gradients by min(1, max_norm / total norm), in place; returns the total norm.

    One factor for all keeps the direction (Pascanu, Mikolov, Bengio 2013). The norm is a Tensor of
    the device, so nothing waits for it until somebody reads it.
    """
    grads = _grads(parameters)
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    xp = backend.namespace_of(total.array)
    with backend.using(total.array):
        factor = xp.asarray(xp.minimum(float(max_norm) / (total.array + 1e-6), 1))
    if isinstance(factor, backend.ndarray) and factor == 1:  # a GPU would have to be asked
        return total
    scale_grads_(grads, factor)
    return total


def scale_grads_(grads: list[Tensor], factor: Any) -> None:
    """Each of them, in place, times a 0-d array."""
    arrays = [g.array for g in grads]
    if adamw.takes([factor, *arrays]):
        adamw.scale_(arrays, factor)
    else:
        with np.errstate(invalid="ignore"):  # inf * 0, if a norm is infinite: NaN, as in PyTorch
            _each(lambda array: _scale(array, factor), arrays)
    for g in grads:
        g._version[0] += 1


def _each(f: Callable[[Any], Any], arrays: list) -> list:
    """f of each array: on the CPU on all threads, largest arrays first."""
    if not all(isinstance(a, backend.ndarray) for a in arrays):
        return [f(a) for a in arrays]
    results: list = [None] * len(arrays)

    def run(some: list[int]) -> None:
        for i in some:
            results[i] = f(arrays[i])

    order = sorted(range(len(arrays)), key=lambda i: -arrays[i].size)
    alone = sum(a.size for a in arrays) < ALONE
    parallel(run, [order] if alone else [[i] for i in order])
    return results


def _scale(array: Any, factor: Any) -> None:
    with backend.using(array):
        array *= backend.to_device(factor, backend.device_of(array)).astype(array.dtype)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Each element of each gradient into [-clip_value, clip_value], in place."""
    limit = float(clip_value)
    for g in _grads(parameters):
        with backend.using(g.array):
            backend.namespace_of(g.array).clip(g.array, -limit, limit, out=g.array)
        g._version[0] += 1


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters, one after the other; on the tape."""
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """The inverse of parameters_to_vector: copies the vector's elements into the parameters."""
    parameters = list(parameters)
    needed = sum(p.numel() for p in parameters)
    if vec.shape != (needed,):
        raise ShapeError(
            f"vector_to_parameters: vec {tuple(vec.shape)} must be ({needed},): the parameters "
            f"have {needed} elements"
        )
    start = 0
    with no_grad():
        for p in parameters:
            p.copy_(vec[start : start + p.numel()].reshape(p.shape))
            start += p.numel()
