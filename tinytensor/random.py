"""Random numbers by counting: Philox 4x64-10 (Salmon et al. 2011, "Parallel random numbers: as
easy as 1, 2, 3"), the same stream on every device.

A number is a pure function of (seed, position). A Generator is just that pair, so its state is
two integers, and a mask can be drawn again in backward from the position it came from.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .errors import ArgumentError


class Key(NamedTuple):
    """A place in a stream: 64-bit words from 4 * block on, of the stream of `seed`.

    base  on a GPU, while a graph is captured: two uint64, {seed, block}, which it reads whenever it
          is launched. `seed` is 0 then, and `block` counts from the base's.
    """

    seed: int
    block: int
    base: Any = None


class Generator:
    """A stream of random numbers: `seed`, and `block`, the next block of four 64-bit words.

    base  where these are relative to, see Key
    """

    base: Any = None

    def __init__(self, seed: int = 0):
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        if not isinstance(seed, (int, np.integer)):
            raise ArgumentError(f"a seed must be an int, got {seed!r}")
        self.seed, self.block = int(seed) % 2**64, 0
        return self

    def initial_seed(self) -> int:
        return self.seed

    def get_state(self) -> tuple[int, int]:
        return self.seed, self.block

    def set_state(self, state: tuple[int, int]) -> None:
        self.seed, self.block = (int(n) for n in state)

    def reserve(self, words: int) -> Key:
        """The key of the next `words` 64-bit words; the stream moves past them."""
        key = Key(self.seed, self.block, self.base)
        self.block += -(-words // 4)
        return key

    def __repr__(self) -> str:
        return f"Generator(seed={self.seed}, block={self.block})"


default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Start the default stream of random numbers over, at `seed`."""
    return default_generator.manual_seed(seed)


def _drawn(reference: Callable) -> Any:
    """A function of (xp, ...) that may have kernels, `@words.kernel("cuda")`, as an op has."""
    kernels: dict[str, Callable] = {}

    @functools.wraps(reference)
    def draw(xp: Any, *args: Any) -> Any:
        return kernels.get(xp.__name__, reference)(xp, *args)

    def kernel(device: str) -> Callable:
        return lambda f: kernels.setdefault({"cpu": "numpy", "cuda": "cupy"}[device], f)

    function: Any = draw
    function.reference, function.kernel = reference, kernel
    return function


# ------------------------------------------------------------------------------ the words

_M0, _M1 = 0xD2E7470EE14C6C93, 0xCA5A826395121157  # Salmon et al., table 2: multipliers
_W0, _W1 = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B  # and key increments
_MASK = 2**64 - 1


@_drawn
def words(xp: Any, key: Key, count: int) -> Any:
    """`count` random uint64 from `key` on: NumPy's C implementation, or the same in array ops."""
    if xp is np:
        return np.random.Philox(key=key.seed, counter=key.block).random_raw(count)
    return philox(xp, key, count)


def philox(xp: Any, key: Key, count: int) -> Any:
    """The definition of `words` in array operations, for any array module."""
    blocks = -(-count // 4)
    u = xp.uint64
    c0 = xp.arange(blocks, dtype=u) + u((key.block + 1) & _MASK)  # NumPy counts before it draws
    c1 = xp.zeros(blocks, u)
    c2, c3 = c1, c1
    seed: Any = 0
    if key.base is not None:
        seed, c0 = key.base[:1], c0 + key.base[1:]
    for i in range(10):
        hi0, lo0 = _multiply(xp, c0, _M0)
        hi1, lo1 = _multiply(xp, c2, _M1)
        k0, k1 = seed + u((key.seed + i * _W0) & _MASK), u(i * _W1 & _MASK)
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
    return xp.stack([c0, c1, c2, c3], axis=1).reshape(-1)[:count]


def _multiply(xp: Any, a: Any, b: int) -> tuple[Any, Any]:
    """The high and the low 64 bits of a * b, by halves."""
    u, low = xp.uint64, xp.uint64(0xFFFFFFFF)
    half = u(32)
    a0, a1, b0, b1 = a & low, a >> half, u(b & 0xFFFFFFFF), u(b >> 32)
    p00, p01, p10 = a0 * b0, a0 * b1, a1 * b0
    middle = (p00 >> half) + (p01 & low) + (p10 & low)
    return a1 * b1 + (p01 >> half) + (p10 >> half) + (middle >> half), a * u(b)


# ------------------------------------------------------------------------------ distributions


@_drawn
def uniform(xp: Any, key: Key, shape: tuple, dtype: Any) -> Any:
    """Uniform in [0, 1): the top 53 bits of a word for float64, 24 for all other dtypes."""
    w = words(xp, key, math.prod(shape)).reshape(shape)
    if np.dtype(dtype) == np.float64:
        return (w >> xp.uint64(11)).astype(np.float64) * 2.0**-53
    bits = 11 if np.dtype(dtype) == np.float16 else 24  # no rounding up to 1
    return ((w >> xp.uint64(64 - bits)).astype(np.float32) * np.float32(2.0**-bits)).astype(dtype)


@_drawn
def normal(xp: Any, key: Key, shape: tuple, dtype: Any) -> Any:
    """Standard normal, by Box and Muller (1958): sqrt(-2 ln u) cos(2 pi v), in float64."""
    n = math.prod(shape)
    w = words(xp, key, 2 * n)
    u = ((w[:n] >> xp.uint64(11)).astype(np.float64) + 1) * 2.0**-53  # (0, 1]
    v = (w[n:] >> xp.uint64(11)).astype(np.float64) * 2.0**-53
    return (xp.sqrt(-2 * xp.log(u)) * xp.cos(2 * math.pi * v)).reshape(shape).astype(dtype)


@_drawn
def integers(xp: Any, key: Key, shape: tuple, low: int, high: int) -> Any:
    """Uniform in [low, high): the word modulo the range; the bias is below range / 2^64."""
    w = words(xp, key, math.prod(shape)).reshape(shape)
    return (w % xp.uint64(high - low)).astype(np.int64) + low


def keep_mask(xp: Any, key: Key, shape: tuple, p: float, dtype: Any, start: int = 0) -> Any:
    """Dropout's factor per element: 1/(1-p) with probability 1-p, else 0.

    `start` is where in the stream of `key` the first element stands.
    """
    if p == 1:
        return xp.zeros(shape, dtype)
    keep = kept(xp, key, math.prod(shape), p, start).reshape(shape)
    return keep.astype(dtype) * np.dtype(dtype).type(1 / (1 - p))


def kept(xp: Any, key: Key, count: int, p: float, start: int = 0) -> Any:
    """Which of `count` elements dropout keeps: True with probability 1-p, half a word for each."""
    blocks, skip = divmod(start, 8)
    place = key._replace(block=key.block + blocks)
    halves = words(xp, place, -(-(skip + count) // 2)).view(np.uint32)[skip : skip + count]
    return halves >= np.uint32(round(p * 2**32))
