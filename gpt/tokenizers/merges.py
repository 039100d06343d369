"""Learning byte-pair merges: again and again the most frequent pair of neighbours becomes a token.

Ties: of pairs equally frequent, the one whose left id is smaller; then the one whose right id is.
Bytes have the ids that GPT-2 gave them. Hugging Face's BpeTrainer breaks ties so, and merges come
in its order. Of overlapping pairs, as in "aaa", the leftmost go first. No two merges make one
token: all places with the same bytes between the same bounds have seen the same merges.

Counts are upper bounds until they are needed: merging elsewhere can only lower them. The top of the
heap is counted anew at the places where it was last seen; if the count still holds, it is the most
frequent, and if not, it goes back with the new one. Pairs rarer than `floor` wait until no other is
left; then the floor sinks and the text, shorter by now, is searched again.

Algorithm: Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units"
(2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush

import numpy as np

from gpt.tokenizers.alphabet import BYTES
from gpt.tokenizers.symbols import WALL, Pairs, Symbols
from gpt.tokenizers.utf8 import encode_utf8

SINK = 8  # how much less frequent than the last the next pairs to be searched for may be


def learn_merges(
    words: Mapping[str, int], n_tokens: int, min_frequency: int = 1
) -> list[tuple[bytes, bytes]]:
    """Merges in order, as pairs of tokens, until there are n_tokens with the 256 of one byte.

    words: how often each occurs; no merge spans two. Fewer where no pair is left that occurs
    `min_frequency` times.
    """
    tokens = [bytes([byte]) for byte in BYTES]
    merges: list[tuple[bytes, bytes]] = []
    symbols = lay_out(words)
    where: dict[int, np.ndarray] = {}  # places of the pairs in the heap
    heap: list[tuple[int, int]] = []  # (-count, key)
    floor = 0
    while len(tokens) < n_tokens:
        if not heap:
            if floor == min_frequency:
                break
            pairs = symbols.pairs()
            most = int(symbols.count(pairs).max(initial=0))
            floor = max(min_frequency, most // SINK)
            where = {}
            for key, count, places in frequent(symbols, pairs, floor):
                heap.append((-count, key))
                where[key] = places
            heapify(heap)
            continue
        bound, key = heappop(heap)
        at = symbols.find(key, where.pop(key))
        count = int(symbols.weight[at].sum())
        if count < -bound:
            if count >= floor:
                heappush(heap, (-count, key))
                where[key] = at
            continue
        left, right = tokens[key >> 32], tokens[key & 0xFFFFFFFF]
        merges.append((left, right))
        made = symbols.merge(key, at, len(tokens))
        tokens.append(left + right)
        for key, count, places in frequent(symbols, made, floor):
            heappush(heap, (-count, key))
            where[key] = places
    return merges


def frequent(symbols: Symbols, pairs: Pairs, floor: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Key, count and places of the pairs that occur `floor` times."""
    counts = symbols.count(pairs)
    enough = np.flatnonzero(counts >= floor)
    for (key, places), count in zip(pairs.each(enough), counts[enough].tolist()):
        yield key, count, places


def lay_out(words: Mapping[str, int]) -> Symbols:
    wall = 0xFF  # no byte of UTF-8
    ids = np.empty(256, np.int64)
    ids[BYTES] = np.arange(256)
    ids[wall] = WALL
    encoded = [encode_utf8(word) for word in words]
    text = np.frombuffer(bytes([wall]).join(encoded), np.uint8)
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1
    weight = np.repeat(np.fromiter(words.values(), np.int64, len(encoded)), lengths)[: len(text)]
    return Symbols(ids[text], weight)
