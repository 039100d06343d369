"""Attention on CUDA, four ways, the first that fits:

    decode     one query a head, no gradient: a pass over a cache (decode.cu)
    flash      half precision, no mask but the causal one: nothing (L, S) in memory (attention.cu)
    chunks     float32, TF32, any mask: some query rows at a time, products by gemm, the softmax
               between them fused with scale, masks and dropout (softmax.cu)
    reference  the rest: float64, heads that broadcast, the gradient of a mask

Nothing (L, S) is kept for backward but dropout's mask, a bit an element: drawing it again, twice,
would cost more than the products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...op import Saved
from ...ops import fused, nn
from .gemm import gemm
from .launch import STORAGE, kernel
from .random import place as place_of
from .softmax import rows_kernel

Array = Any
HALF = ("float16", "bfloat16")
CHUNKS = 8  # of causal rows: a sixteenth of what their products make is hidden
CHUNK_NUMBERS = 2**26  # scores of a chunk, at most

_attention = nn._attention.op.forward
_attention_rule = nn._attention.op.rules["query"].function


# ------------------------------------------------------------------------------ operands


class Place(NamedTuple):
    """Where a (B, H, n, hs) lies in a contiguous array: from `at` on, by steps in numbers."""

    array: Array
    at: int
    batch: int
    head: int
    row: int


def _place(a: Array) -> Place:
    """The place of an array whose rows are whole and 16 bytes wide; of a copy, if it has none."""
    whole, unit = a if a.base is None else a.base, 16 // a.itemsize
    *steps, last = [s // a.itemsize for s in a.strides]
    at = (a.data.ptr - whole.data.ptr) // a.itemsize
    if (
        last != 1
        or not whole.flags.c_contiguous
        or whole.dtype != a.dtype
        or whole.data.ptr % 16
        or any(n % unit for n in (at, *steps))
        or min(steps) < 0
    ):
        return _place(a.copy())
    return Place(whole, at, *steps)


def _whole(a: Array) -> Array:
    """a, contiguous and at a multiple of 16 bytes, which views need not be; if need be a copy."""
    return a if a.flags.c_contiguous and a.data.ptr % 16 == 0 else a.copy()


def _keep_bits(xp: Any, p: float, rng: Any, B: int, H: int, L: int, S: int, causal: bool) -> Array:
    """dropout's mask of (B, H, L, S), which is random.keep_mask's, as bits: (B H L, words)"""
    rows, words = B * H * L, 2 * -(-S // 64)
    keep = xp.empty((rows, words), "uint32")
    kernel("keep_bits", "keep_bits")(
        (-(-rows * words // 256),), (256,), keep, *place_of(rng), round(p * 2**32), rows, words,
        S, L, causal,
    )  # fmt: skip
    return keep


def _keep_scale(p: float) -> float:
    return 1 / (1 - p) if p < 1 else 0.0


# ------------------------------------------------------------------------------ flash


class Flash:
    """One call of attention.cu. q, k and v say where the operands lie, out where it and g do."""

    def __init__(
        self, xp: Any, shape: tuple, q: Place, k: Place, v: Place, out: tuple[int, int, int],
        is_causal: bool, scale: float, dropout_p: float,
    ):  # fmt: skip
        self.xp, (self.B, self.H, self.L, self.S, hs) = xp, shape
        self.operands = q.array, k.array, v.array
        self.head = 32 if hs <= 32 else 64 if hs <= 64 else 128
        self.dropout = int(dropout_p > 0)
        self.padded = -(-self.L // 128) * 128
        self.scalars = (
            self.H, self.L, self.S, hs, self.padded, 2 * -(-self.S // 64), is_causal, scale,
            _keep_scale(dropout_p), *q[2:], *k[2:], *out, q.at, k.at, v.at,
        )  # fmt: skip

    def _launch(self, entry: str, n: int, rows: int, own: int, *arrays: Array) -> None:
        """`own` tiles of the block's `rows`, of n, and four of 64 rows are in shared memory."""
        shared = (own * rows + 4 * 64) * (self.head + 8) * 2
        grid = (self.B * self.H * -(-n // rows),)
        launched = kernel("attention", entry, HEAD=self.head, DROPOUT=self.dropout)
        launched(grid, (128,), *arrays, *self.scalars, shared=shared)

    def forward(self, out: Array, keep: Array | None) -> Array:
        """lse; what is seen goes to `out`"""
        lse = self.xp.empty((self.B * self.H, self.padded), "float32")
        self._launch("attention_forward", self.L, 128, 1, out, lse, *self.operands, keep)
        return lse

    def backward(
        self, g: Array, out: Array, lse: Array, keep: Array | None, into: tuple[Array, ...]
    ) -> None:
        """The gradients of q, k and v, where these lie in `into`."""
        dq, dk, dv = into
        rows = 64 if self.head == 128 else 128
        D = self.xp.empty_like(lse)
        self._launch(
            "attention_backward_query", self.L, rows, 2, dq, D, g, out, lse, *self.operands, keep
        )
        self._launch(
            "attention_backward_key_value", self.S, rows, 2, dk, dv, g, lse, D, *self.operands, keep
        )


def _flashes(xp: Any, dtype: Any, hs: int, scale: float) -> bool:
    capable = int(xp.cuda.Device().compute_capability) >= 80
    return dtype.name in HALF and hs % 8 == 0 and hs <= 128 and scale > 0 and capable


def _packed(
    xp: Any, qkv: Array, n_head: int, is_causal: bool, scale: float, dropout_p: float
) -> Flash:
    B, T, width = qkv.shape
    C, hs = width // 3, width // 3 // n_head
    q, k, v = (Place(qkv, part * C, T * width, hs, width) for part in range(3))
    shape = (B, n_head, T, T, hs)
    return Flash(xp, shape, q, k, v, (T * C, hs, C), is_causal, scale, dropout_p)


def _apart(
    xp: Any, q: Place, k: Place, v: Place, shape: tuple, is_causal: bool, scale: float,
    dropout_p: float,
) -> Flash:  # fmt: skip
    """Of three arrays (B, H, n, hs); the result has its heads side by side, (B, L, H, hs)."""
    _, H, L, _, hs = shape
    return Flash(xp, shape, q, k, v, (L * H * hs, hs, H * hs), is_causal, scale, dropout_p)


# ------------------------------------------------------------------------------ chunks


class Chunks:
    """Attention over some query rows at a time: their scores are all that is in memory."""

    def __init__(
        self, xp: Any, q: Array, k: Array, v: Array, mask: Array | None, is_causal: bool,
        scale: float, dropout_p: float, keep: Array | None,
    ):  # fmt: skip
        self.xp, self.keep = xp, keep
        self.q, self.k, self.v = (xp.ascontiguousarray(a) for a in (q, k, v))
        self.is_causal, self.scale, self.keep_scale = is_causal, scale, _keep_scale(dropout_p)
        self.B, self.H, self.L, _ = q.shape
        self.S = k.shape[2]
        self.seen = self.bias = None
        self.mask_steps: tuple[int, ...] = (0, 0, 0, 0)
        if mask is not None:
            mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
            if mask.dtype.kind == "b":
                self.seen = mask = xp.ascontiguousarray(mask)
            else:
                self.bias = mask = xp.ascontiguousarray(mask.astype("float32"))
            self.mask_steps = tuple(
                0 if n == 1 else s // mask.itemsize for n, s in zip(mask.shape, mask.strides)
            )
        most = max(1, CHUNK_NUMBERS // (self.B * self.H * self.S))
        self.rows = min(most, max(128, -(-self.L // CHUNKS)) if is_causal else self.L)

    def chunks(self) -> list[tuple[slice, int]]:
        """(rows, keys they see)"""
        cuts = [slice(i, min(i + self.rows, self.L)) for i in range(0, self.L, self.rows)]
        return [(rows, min(rows.stop, self.S) if self.is_causal else self.S) for rows in cuts]

    def _scores(self, rows: slice, n: int) -> Array:
        return gemm(self.q[:, :, rows], self.k[:, :, :n].swapaxes(-1, -2), dtype="float32")

    def _rows_kernel(self, entry: str, rows: slice, n: int, *arrays: Array) -> None:
        count = rows.stop - rows.start
        total = self.B * self.H * count
        words = 0 if self.keep is None else self.keep.shape[-1]
        rows_kernel(
            entry, total, n, *arrays, self.keep, self.seen, self.bias, total, self.H, count,
            rows.start, self.L, n, words, self.is_causal, self.scale, self.keep_scale,
            *self.mask_steps,
        )  # fmt: skip

    def forward(self) -> Array:
        xp, out = self.xp, self.xp.empty((*self.q.shape[:3], self.v.shape[3]), self.v.dtype)
        for rows, n in self.chunks():
            scores = self._scores(rows, n)
            p = xp.empty(scores.shape, self.q.dtype)
            self._rows_kernel("attention_weights", rows, n, p, scores)
            gemm(p, self.v[:, :, :n], out=out[:, :, rows])
        return out

    def backward(self, g: Array) -> tuple[Array, Array, Array]:
        """dq, dk and dv"""
        xp = self.xp
        dq = xp.empty_like(self.q)
        dk, dv = (xp.empty(a.shape, "float32") for a in (self.k, self.v))
        seen = self.chunks()[-1][1]
        dk[:, :, seen:] = dv[:, :, seen:] = 0
        for rows, n in reversed(self.chunks()):  # the last sees most keys: it writes, others add
            beta = 0.0 if rows.stop == self.L else 1.0
            scores, grad = self._scores(rows, n), g[:, :, rows]
            dp = gemm(grad, self.v[:, :, :n].swapaxes(-1, -2), dtype="float32")
            p, ds = (xp.empty(scores.shape, self.q.dtype) for _ in range(2))
            self._rows_kernel("attention_weights_backward", rows, n, p, ds, scores, dp)
            gemm(ds, self.k[:, :, :n], out=dq[:, :, rows])
            gemm(ds.swapaxes(-1, -2), self.q[:, :, rows], out=dk[:, :, :n], beta=beta)
            gemm(p.swapaxes(-1, -2), grad, out=dv[:, :, :n], beta=beta)
        return dq, dk.astype(self.k.dtype), dv.astype(self.v.dtype)


# ------------------------------------------------------------------------------ the ops


def _plain(q: Array, k: Array, v: Array, mask: Array | None) -> bool:
    """Four dims, of which the first two are those of all; a dtype that kernels have"""
    return (
        q.ndim == k.ndim == v.ndim == 4
        and q.shape[:2] == k.shape[:2] == v.shape[:2]
        and q.dtype.name in STORAGE
        and q.size > 0
        and k.size > 0
        and v.size > 0
        and (mask is None or mask.ndim <= 4)
    )


def _decodes(q: Array, k: Array, v: Array, mask: Array | None) -> bool:
    unit, hs = 16 // q.itemsize, q.shape[3]
    return (
        q.shape[2] == 1
        and hs == v.shape[3]
        and hs % unit == 0
        and hs <= 32 * unit
        and (mask is None or mask.shape == (len(k), 1, 1, k.shape[2]) and mask.dtype.kind == "b")
    )


def _decode(xp: Any, q: Array, k: Array, v: Array, mask: Array | None, scale: float) -> Array:
    B, H, _, hs = q.shape
    out = xp.empty(q.shape, q.dtype)
    queries, keys, values = _place(q), _place(k), _place(v)
    kernel("decode", "attention_decode")(
        (B * H,), (256,), out, queries.array, keys.array, values.array,
        None if mask is None else xp.ascontiguousarray(mask), H, k.shape[2], hs, scale,
        *keys[2:], *values[2:], *queries[1:4], keys.at, values.at,
    )  # fmt: skip
    return out


def _reference(xp: Any, q: Array, k: Array, v: Array, mask: Array | None, **static: Any) -> Array:
    """In float32 for half precision: what CuPy multiplies in any number of dims"""
    if q.dtype.name not in HALF:
        return _attention(xp, q, k, v, mask, **static)
    wide = (a.astype("float32") for a in (q, k, v))
    return _attention(xp, *wide, mask, **static).astype(q.dtype)


@nn._attention.kernel("cuda")
def _(
    xp: Any, query: Any, key: Any, value: Any, mask: Any = None,
    *, is_causal: bool = False, scale: float = 1.0, dropout_p: float = 0.0, rng: Any = None,
) -> Any:  # fmt: skip
    if not _plain(query, key, value, mask):
        return _reference(
            xp, query, key, value, mask,
            is_causal=is_causal, scale=scale, dropout_p=dropout_p, rng=rng,
        )  # fmt: skip
    B, H, L, hs = query.shape
    S, keep = key.shape[2], None
    if not dropout_p and not is_causal and _decodes(query, key, value, mask):
        return _decode(xp, query, key, value, mask, scale)
    if dropout_p:
        keep = _keep_bits(xp, dropout_p, rng, B, H, L, S, is_causal)
    if mask is not None or hs != value.shape[3] or not _flashes(xp, query.dtype, hs, scale):
        work = Chunks(xp, query, key, value, mask, is_causal, scale, dropout_p, keep)
        lse = None
        return work.forward(), Saved(lse=lse, keep=keep)
    q, k, v = _place(query), _place(key), _place(value)
    if k[2:] != v[2:]:
        k, v = _place(key.copy()), _place(value.copy())
    flash = _apart(xp, q, k, v, (B, H, L, S, hs), is_causal, scale, dropout_p)
    out = xp.empty((B, L, H, hs), query.dtype)
    lse = flash.forward(out, keep)
    return out.transpose(0, 2, 1, 3), Saved(lse=lse, keep=keep)


@nn._attention.kernel("cuda", "query", "key", "value", "mask")
def _(
    xp: Any, g: Any, query: Any, key: Any, value: Any, mask: Any, is_causal: bool, scale: float,
    dropout_p: float, rng: Any, lse: Any, keep: Any, out: Any, needs: Any,
) -> Any:  # fmt: skip
    if not _plain(query, key, value, mask) or needs[3]:
        return _reference_rule(
            xp, g, query, key, value, mask, is_causal, scale, dropout_p, rng, needs
        )
    if lse is None:
        work = Chunks(xp, query, key, value, mask, is_causal, scale, dropout_p, keep)
        return *work.backward(g), None
    B, H, L, hs = query.shape
    operands = [_whole(a) for a in (query, key, value)]
    into = tuple(xp.empty_like(a) for a in operands)
    g, out = (_whole(a.transpose(0, 2, 1, 3)) for a in (g, out))
    q, k, v = (Place(a, 0, H * a.shape[2] * hs, a.shape[2] * hs, hs) for a in operands)
    shape = (B, H, L, key.shape[2], hs)
    _apart(xp, q, k, v, shape, is_causal, scale, dropout_p).backward(g, out, lse, keep, into)
    return *into, None


def _reference_rule(
    xp: Any, g: Array, q: Array, k: Array, v: Array, mask: Array | None, *static: Any
) -> tuple:
    operands = (q, k, v, mask)
    if q.dtype.name not in HALF:
        return _attention_rule(xp, g, *operands, *static)
    wide = (a.astype("float32") for a in (g, q, k, v))
    grads = _attention_rule(xp, *wide, mask, *static)
    return tuple(d if d is None else d.astype(a.dtype) for d, a in zip(grads, operands))


# ------------------------------------------------------------------------------ packed


_packed_forward = fused._packed_attention.op.forward
_packed_rule = fused._packed_attention.op.rules["qkv"].function


def _heads(x: Array, n_head: int, parts: int) -> Array:
    """(B, T, parts * C) as (parts, B, n_head, T, hs): a view"""
    B, T, width = x.shape
    return x.reshape(B, T, parts, n_head, width // (parts * n_head)).transpose(2, 0, 3, 1, 4)


@fused._packed_attention.kernel("cuda")
def _(
    xp: Any, qkv: Any, *, n_head: int, is_causal: bool = False, scale: float = 1.0,
    dropout_p: float = 0.0, rng: Any = None,
) -> Any:  # fmt: skip
    if qkv.dtype.name not in STORAGE or not qkv.size:
        return _packed_forward(
            xp, qkv, n_head=n_head, is_causal=is_causal, scale=scale, dropout_p=dropout_p, rng=rng
        )
    (B, T, width), keep = qkv.shape, None
    if dropout_p:
        keep = _keep_bits(xp, dropout_p, rng, B, n_head, T, T, is_causal)
    if not _flashes(xp, qkv.dtype, width // (3 * n_head), scale):
        q, k, v = _heads(qkv, n_head, 3)
        out = Chunks(xp, q, k, v, None, is_causal, scale, dropout_p, keep).forward()
        lse = None
        return fused.merge_heads(xp, out), Saved(lse=lse, keep=keep)
    qkv = _whole(qkv)
    out = xp.empty((B, T, width // 3), qkv.dtype)
    lse = _packed(xp, qkv, n_head, is_causal, scale, dropout_p).forward(out, keep)
    return out, Saved(lse=lse, keep=keep)


@fused._packed_attention.kernel("cuda", "qkv")
def _(
    xp: Any, g: Any, qkv: Any, out: Any, n_head: int, is_causal: bool, scale: float,
    dropout_p: float, rng: Any, lse: Any, keep: Any,
) -> Any:  # fmt: skip
    if qkv.dtype.name not in STORAGE or not qkv.size:
        return _packed_rule(xp, g, qkv, n_head, is_causal, scale, dropout_p, rng)
    if lse is None:
        q, k, v = _heads(qkv, n_head, 3)
        work = Chunks(xp, q, k, v, None, is_causal, scale, dropout_p, keep)
        return fused.merge_heads(xp, *work.backward(_heads(g, n_head, 1)[0]))
    qkv, g, out = (_whole(a) for a in (qkv, g, out))
    d_qkv = xp.empty_like(qkv)
    flash = _packed(xp, qkv, n_head, is_causal, scale, dropout_p)
    flash.backward(g, out, lse, keep, (d_qkv,) * 3)
    return d_qkv
