"""A random order of n things that is computed, not stored: place i is a function of (key, i).

A Feistel network: i becomes a pair (left, right) of a grid with a * b >= n places, and each round
adds to one half a scramble of the other, which can be undone, so that no two places collide. What
falls on a place beyond n is sent through again until it does not ("cycle walking"; Black and
Rogaway, Ciphers with Arbitrary Finite Domains, 2002).
"""

from __future__ import annotations

from math import isqrt

import numpy as np

ROUNDS = 16  # half for each side; with 8, the orders of 5 things are not equally likely


def permute(index: np.ndarray, n: int, key: np.ndarray) -> np.ndarray:
    """(B,) int64: where each `index` in 0 .. n - 1 goes; `key`: (ROUNDS,) random uint64."""
    a = np.uint64(isqrt(n - 1) + 1)  # a * a >= n
    b = np.uint64(-(-n // int(a)))  # and so is a * b, with less than a to spare
    out = np.asarray(index).astype(np.uint64)
    todo = np.arange(len(out))
    while len(todo):
        left, right = np.divmod(out[todo], b)  # left < a, right < b
        for r in range(0, ROUNDS, 2):
            left = (left + scramble(right + key[r]) % a) % a
            right = (right + scramble(left + key[r + 1]) % b) % b
        out[todo] = left * b + right
        todo = todo[out[todo] >= np.uint64(n)]
    return out.astype(np.int64)


def scramble(x: np.ndarray) -> np.ndarray:
    """A uint64 whose every bit depends on every bit of x: SplitMix64's finalizer."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
