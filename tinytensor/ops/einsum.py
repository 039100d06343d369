"""einsum: sums of products named by their indices (Einstein 1916), two tensors at a time.

    einsum("bij,bjk->bik", x, y)[b, i, k] = sum over j of x[b, i, j] y[b, j, k]

Each pair is one batched matrix product: indices that both have and that are needed later are the
batch, those that both have and nobody needs any more are summed over. So there is no rule here: the
gradient is that of permute, reshape and matmul.
"""

from __future__ import annotations

import math

from ..autograd import Variable
from ..errors import ArgumentError, ShapeError
from ..messages import one_dtype
from .elementwise import mul
from .linalg import matmul
from .reduce import sum
from .shape import diagonal, permute, reshape


def einsum(equation, *operands):
    """out = the sum, over all indices that the result does not name, of the operands' product

    equation  "ij,jk->ik": the indices of each operand, then of the result. Without "->" the result
              has those that occur once, in alphabetical order. "..." stands for any dims, which
              broadcast; a repeated index in one operand takes a diagonal.
    Operands come one by one or as a list; or as in einsum(x, [0, 1], y, [1, 2], [0, 2]).
    """
    if isinstance(equation, Variable):
        equation, operands = _from_lists(equation, *operands)
    elif not isinstance(equation, str):
        raise ArgumentError(f"einsum: equation must be a string, got {type(equation).__name__}")
    elif len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    for i, x in enumerate(operands):
        if not isinstance(x, Variable):
            raise ArgumentError(f"einsum: operand {i} must be a Tensor, got {type(x).__name__}")
    if not operands:
        raise ShapeError("einsum: pass at least one tensor")
    one_dtype("einsum", **{f"operands[{i}]": x for i, x in enumerate(operands)})
    inputs, result = _parse(equation, [x.array.ndim for x in operands])
    sizes = _sizes(equation, inputs, operands)
    terms = [_single(x, indices, sizes) for x, indices in zip(operands, inputs)]
    x, here = terms[0]
    for i, (y, there) in enumerate(terms[1:], 2):
        later = {*result, *(k for _, indices in terms[i:] for k in indices)}
        x, here = _pair(x, here, y, there, later)
    x, here = _without(x, here, set(result))
    return permute(x, [here.index(k) for k in result])


def _parse(equation, ndims):
    """The indices of each operand and of the result: letters, and for "..." -n to -1."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(ndims):
        raise ShapeError(
            f"einsum: {equation!r} names {len(parts)} operands, but there are {len(ndims)}"
        )
    inputs = []
    for part, ndim in zip(parts, ndims):
        inputs.append(_spelled(equation, part, lambda letters, n=ndim: n - letters))
        if len(inputs[-1]) != ndim:
            raise ShapeError(
                f"einsum: {equation!r}: {part!r} names the dims of an operand that has {ndim}"
            )
    every = [k for indices in inputs for k in indices]
    dots = -min((k for k in every if isinstance(k, int)), default=0)
    if not arrow:
        once = {k for k in every if isinstance(k, str) and every.count(k) == 1}
        return inputs, [*range(-dots, 0), *sorted(once)]
    result = _spelled(equation, right, lambda letters: dots)
    for k in result:
        if k not in every or result.count(k) > 1:
            raise ShapeError(
                f"einsum: {equation!r}: {k!r} in the result must occur in an operand, and once in "
                "the result"
            )
    return inputs, result


def _spelled(equation, part, dots):
    """"a...b" as ["a", -2, -1, "b"]; dots(number of letters) says how many dims ... stands for."""
    before, ellipsis, after = part.partition("...")
    if not (before + after).isalpha() and before + after:
        raise ShapeError(f"einsum: {equation!r}: {part!r} must be letters and at most one ...")
    n = dots(len(before + after)) if ellipsis else 0
    return [*before, *range(-n, 0), *after]


def _from_lists(*operands):
    """einsum(x, [0, 1], y, [1, 2], [0, 2]) as an equation and the tensors."""
    tensors, lists = list(operands[0::2]), list(operands[1::2])
    result = tensors.pop() if len(operands) % 2 else None

    def spell(indices):
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
        if any(k is not Ellipsis and not 0 <= k < 52 for k in indices):
            raise ShapeError(f"einsum: indices in a list must be 0 to 51 or ..., got {indices}")
        return "".join("..." if k is Ellipsis else letters[k] for k in indices)

    equation = ",".join(map(spell, lists))
    return equation if result is None else f"{equation}->{spell(result)}", tensors


def _sizes(equation, inputs, operands):
    """How large each index is; 1 broadcasts."""
    sizes: dict = {}
    for i, (indices, x) in enumerate(zip(inputs, operands)):
        for k, n in zip(indices, x.array.shape):
            if sizes.setdefault(k, n) == 1:
                sizes[k] = n
            if n not in (1, sizes[k]):
                raise ShapeError(
                    f"einsum: {equation!r}: index {k!r} is {sizes[k]} elsewhere, {n} in operand "
                    f"{i} {tuple(x.array.shape)}"
                )
    return sizes


def _single(x, indices, sizes):
    """x with each index once, and without those of size 1 that broadcast."""
    indices = list(indices)
    for k in set(indices):
        while indices.count(k) > 1:
            a = indices.index(k)
            b = indices.index(k, a + 1)
            shape = x.array.shape
            if shape[a] != shape[b]:
                raise ShapeError(f"einsum: {k!r} stands for {shape[a]} and {shape[b]} in {shape}")
            x = diagonal(x, 0, a, b)
            indices = [j for d, j in enumerate(indices) if d not in (a, b)] + [k]
    kept = [(k, n) for k, n in zip(indices, x.array.shape) if n == sizes[k]]
    return reshape(x, [n for _, n in kept]), [k for k, _ in kept]


def _pair(x, here, y, there, later):
    """The product of two terms, summed over the indices that nobody needs later."""
    x, here = _without(x, here, {*there, *later})
    y, there = _without(y, there, {*here, *later})
    size = dict(zip([*here, *there], [*x.array.shape, *y.array.shape]))
    batch = [k for k in here if k in there and k in later]
    gone = [k for k in here if k in there and k not in later]
    rows, columns = [k for k in here if k not in there], [k for k in there if k not in here]
    total = lambda indices: math.prod(size[k] for k in indices)  # noqa: E731
    x = permute(x, [here.index(k) for k in (*batch, *rows, *gone)])
    y = permute(y, [there.index(k) for k in (*batch, *gone, *columns)])
    x = reshape(x, (total(batch), total(rows), total(gone)))
    y = reshape(y, (total(batch), total(gone), total(columns)))
    out = matmul(x, y) if gone else mul(x, y)
    names = [*batch, *rows, *columns]
    return reshape(out, [size[k] for k in names]), names


def _without(x, indices, needed):
    """x summed over the indices that are not needed."""
    gone = [d for d, k in enumerate(indices) if k not in needed]
    return (sum(x, gone), [k for k in indices if k in needed]) if gone else (x, indices)
