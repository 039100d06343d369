"""Many words as symbols in a row, and pairs of neighbours merged wherever they stand, by NumPy.

Merging touches only the places where the pair is, so a whole run of merges costs what the text has
symbols, times a logarithm: each place is visited again only after one of its symbols is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

WALL, GONE = -1, -2  # between words; merged into the symbol before


class Pairs(NamedTuple):
    """Distinct pairs, by key."""

    keys: np.ndarray
    starts: np.ndarray  # of each pair's places
    places: np.ndarray  # of the left symbol: the first pair's in order, the second's, ...

    def each(self, which: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Key and places of some of the pairs, by index."""
        ends = np.append(self.starts[1:], len(self.places))
        bounds = self.keys[which].tolist(), self.starts[which].tolist(), ends[which].tolist()
        for key, start, end in zip(*bounds):
            yield key, self.places[start:end].copy()  # a view would keep all of them alive


def pair_key(left: Any, right: Any) -> Any:
    """Pairs, of ids or of arrays of them, as integers that sort as the pairs do."""
    return left << 32 | right


class Symbols:
    """Ids (n,), each with the places of its neighbours. Words are parted by walls.

    `weight`: how often the word at each place occurs.
    """

    def __init__(self, ids: np.ndarray, weight: np.ndarray) -> None:
        wall = np.array([WALL])
        self.ids = np.concatenate([wall, ids, wall])
        self.weight = np.concatenate([wall, weight, wall])
        self._link()

    def _link(self) -> None:
        places = np.arange(len(self.ids))
        self.next, self.prev = places + 1, places - 1

    def pairs(self) -> Pairs:
        """All pairs there are.

        Symbols that are gone are dropped first: places known from before are void.
        """
        alive = self.ids != GONE
        self.ids, self.weight = self.ids[alive], self.weight[alive]
        self._link()
        both = (self.ids[:-1] != WALL) & (self.ids[1:] != WALL)
        places = np.flatnonzero(both)
        return grouped(pair_key(self.ids[places], self.ids[places + 1]), places)

    def find(self, key: int, places: np.ndarray) -> np.ndarray:
        """Those of the places where the pair still stands, in order."""
        left, right = key >> 32, key & 0xFFFFFFFF
        places = places[self.ids[places] == left]
        places = places[self.ids[self.next[places]] == right]
        return np.sort(places) if left == right else places

    def count(self, pairs: Pairs) -> np.ndarray:
        """How often each occurs."""
        return np.add.reduceat(self.weight[pairs.places], pairs.starts)

    def merge(self, key: int, at: np.ndarray, new: int) -> Pairs:
        """Put `new` for the pair at all places that `find` gave; the pairs that this makes.

        Of overlapping pairs, as in a run of one symbol, the leftmost go first.
        """
        ids, after = self.ids, self.next
        if key >> 32 == key & 0xFFFFFFFF and len(at):
            at = at[every_other(after[at[:-1]] == at[1:])]
        gone = after[at]
        right = after[gone]
        ids[at], ids[gone] = new, GONE
        after[at] = right
        self.prev[right] = at
        left = self.prev[at]
        x, y = ids[left], ids[right]  # `new` itself where two of the pairs were side by side
        first, second = x != WALL, y != WALL
        first[1:] &= right[:-1] != at[1:]  # a pair (new, new) counts once, at its left symbol
        keys = np.concatenate([pair_key(x[first], new), pair_key(new, y[second])])
        return grouped(keys, np.concatenate([left[first], at[second]]))


def grouped(keys: np.ndarray, places: np.ndarray) -> Pairs:
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order]
    begins = np.ones(len(keys), bool)
    begins[1:] = keys[1:] != keys[:-1]
    starts = np.flatnonzero(begins)
    return Pairs(keys[starts], starts, places)


def every_other(touches: np.ndarray) -> np.ndarray:
    """The 1st, 3rd, ... place of each run, where touches[i] says that i and i + 1 overlap."""
    index = np.arange(len(touches) + 1)
    run_start = np.where(np.concatenate([[False], touches]), 0, index)
    return (index - np.maximum.accumulate(run_start)) % 2 == 0
