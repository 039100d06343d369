"""A worker's part: one unit of an archive, its documents split in two sides and encoded.

Which side a document is on, its text alone says: nothing that came before it, no number of workers
and no name of a file. Of a document larger than memory (`Document.more`) the first piece decides.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from multiprocessing import connection, parent_process
from threading import Thread
from typing import NamedTuple

import numpy as np

from data import archives
from data.archives import Report, Unit
from data.errors import DataError
from gpt.tokenizers import Tokenizer, TokenizerError

HEAD = 1 << 16  # characters of a document that its hashes are taken of
OPEN = "open"  # the side of what goes on from the unit before: whatever that was on
LEFT_OUT = "left out"  # the side of what --fraction passes over


class Split(NamedTuple):
    """How documents come to their sides."""

    val_fraction: float
    fraction: float
    seed: int

    def side(self, text: str) -> str:
        """train, val or LEFT_OUT: a function of the text."""
        head = text[:HEAD].encode()
        if self.fraction < 1 and share(head, "fraction", self.seed) >= self.fraction:
            return LEFT_OUT
        return "val" if share(head, "split") < self.val_fraction else "train"


def share(data: bytes, purpose: str, seed: int = 0) -> float:
    """A number in [0, 1), evenly spread over texts, independent from purpose to purpose."""
    key = seed.to_bytes(8, "little")
    digest = blake2b(data, digest_size=7, key=key, person=purpose.encode()).digest()
    return int.from_bytes(digest, "little") / 2**56


class Job(NamedTuple):
    """A unit, and how it is split.

    cut: of a source that is a single document, the characters of this unit that are for training,
    and those that are used at all; None where documents are split by their hash.
    """

    unit: Unit
    split: Split
    cut: tuple[int, int] | None = None


class Part(NamedTuple):
    """Text of one side. A document begins with it; it ends with it."""

    side: str
    text: str
    begins: bool
    ends: bool
    label: str


def parts(job: Job, report: Report) -> Iterator[Part]:
    """The text of a unit, in order, each piece with its side."""
    if job.cut:
        at = 0
        for document in archives.documents(job.unit, report=report):
            train, used = (min(max(cut - at, 0), len(document.text)) for cut in job.cut)
            yield Part("train", document.text[:train], False, False, document.label)
            yield Part("val", document.text[train:used], False, False, document.label)
            at += len(document.text)
        return
    side, goes_on = OPEN, job.unit.pieces[0].continues
    for document in archives.documents(job.unit, report=report):
        if not goes_on:
            side = job.split.side(document.text)
        yield Part(side, document.text, not goes_on, not document.more, document.label)
        goes_on = document.more


@dataclass
class Encoded:
    """What one side gets of a unit. begins: where documents begin, counted from its first token."""

    ids: np.ndarray
    begins: np.ndarray
    n_bytes: int  # of text, as UTF-8


@dataclass
class Result:
    sides: dict[str, Encoded]
    last: str  # the side of the last piece of text: what may go on in the next unit
    stored: int
    report: Report = field(default_factory=Report)


def encode(job: Job, tokenizer: Tokenizer) -> Result:
    """A unit's tokens by side. Raises DataError, naming the document."""
    arrays: dict[str, list[np.ndarray]] = {}
    begins: dict[str, list[int]] = {}
    lengths: dict[str, int] = {}
    n_bytes: dict[str, int] = {}
    end = tokenizer.end_of_text
    separator = np.array([] if end is None else [end], tokenizer.dtype)
    result = Result({}, OPEN, job.unit.size)
    # All read, then all encoded: in turn, LZMA's and the tokenizer's tables push each other out of
    # the processor's caches.
    for part in list(parts(job, result.report)):
        result.last = side = part.side
        if side == LEFT_OUT:
            continue
        try:
            ids = tokenizer.encode(part.text)
        except TokenizerError as error:
            raise DataError(f"{part.label}: {error}") from None
        length = lengths.get(side, 0)
        if part.begins:
            begins.setdefault(side, []).append(length)
        arrays.setdefault(side, []).append(ids)
        if part.ends:
            arrays[side].append(separator)
        lengths[side] = length + len(ids) + len(separator) * part.ends
        n_bytes[side] = n_bytes.get(side, 0) + len(part.text.encode())
    for side, pieces in arrays.items():
        begun = np.array(begins.get(side, []), np.int64)
        result.sides[side] = Encoded(np.concatenate(pieces), begun, n_bytes[side])
    return result


_tokenizer: Tokenizer  # a worker's own


def start(tokenizer: Tokenizer) -> None:
    """Called once in each worker."""
    global _tokenizer
    _tokenizer = tokenizer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process to answer
    Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()  # the vocabulary stays: the collector need not look through it again and again


def work(job: Job) -> Result:
    return encode(job, _tokenizer)


def _end_with_parent() -> None:
    """A main process that was killed leaves no workers behind."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
