"""The main process: hands units to workers, writes what comes back in the order of the units."""

from __future__ import annotations

import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from data.archives import Report
from data.errors import DataError
from data.prepare.progress import Progress
from data.prepare.settings import Settings
from data.prepare.source import TRAINED, Source
from data.prepare.work import LEFT_OUT, OPEN, Job, Result, start, work
from data.prepare.writer import NEW, Side, locked, write_json
from data.prepared import MANIFEST, SIDES, TOKENIZER, UNFINISHED, VERSION, read_json
from gpt import tokenizers
from gpt.interrupt import Interrupt
from gpt.tokenizers import Tokenizer

IN_FLIGHT = 3  # units per worker: one at work, one waiting for it, one to be written
SPLITS = ("by a hash of each document's text", "by position: it is a single document")
RECORD_EVERY = 0.5  # seconds of work that a kill may cost


class Stopped(Exception):
    """A signal asked for the end; `number` says which."""

    def __init__(self, number: int) -> None:
        self.number = number


def prepare(name: str, settings: Settings, command: str) -> dict[str, Any]:
    """Prepare a corpus, or go on preparing it; return its manifest. See `python -m data.prepare`.

    Raises DataError for what the user can mend, and Stopped after a signal. What was done stays.
    """
    folder = settings.folder(name)
    with _writing(folder, command):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            return Preparation(name, settings, folder, command).run()


@contextmanager
def _writing(folder: Path, command: str) -> Iterator[None]:
    """What goes wrong with files from here on goes wrong in `folder`: all others are named."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"--out {error.filename or folder}: {error.strerror or error}. What is done stays: "
            f"mend that, then continue with: {command}"
        ) from error


class Preparation:
    """One folder on its way to a manifest."""

    def __init__(self, name: str, settings: Settings, folder: Path, command: str) -> None:
        self.name, self.settings, self.folder, self.command = name, settings, folder, command
        self.choices = {"source": name} | asdict(settings.content)

    def run(self) -> dict[str, Any]:
        if manifest := self._finished():
            return manifest
        self.source = Source(self.name, self.settings)
        self.choices["source_bytes"] = self.source.size
        with ExitStack() as stack:
            self.show = stack.enter_context(Progress(self.source.size))
            self._begin()
            self._open_sides(stack)
            self.stop = stack.enter_context(Interrupt())
            self._encode_all()
            return self._finish()

    def _finished(self) -> dict[str, Any] | None:
        """The manifest of an earlier run with the same settings; DataError for any other's."""
        record = self.folder / MANIFEST
        if record.exists():
            manifest = read_json(record)
            self._same(manifest, record)
            (self.folder / UNFINISHED).unlink(missing_ok=True)
            return manifest
        there = [path for path in self.folder.iterdir() if path.suffix != NEW]
        if there and self.folder / UNFINISHED not in there:
            raise DataError(
                f"--out {self.folder}: is not empty, and holds no preparation to continue: choose "
                f"another, or remove it"
            )
        return None

    def _same(self, state: dict[str, Any], record: Path) -> None:
        """DataError unless a record has the settings asked for; it names those that differ."""
        before = state.get("settings", {})
        wrong = [f"{name.replace('_', '-')} {before.get(name)}, not {value}"
                 for name, value in self.choices.items() if before.get(name) != value]  # fmt: skip
        if wrong:
            raise DataError(
                f"--out {self.folder}: was begun with {'; '.join(wrong)} (see {record.name}). "
                f"Repeat its settings to continue it, or choose another --out"
            )

    def _begin(self) -> None:
        """Load the record of an earlier run, or begin one; and the tokenizer."""
        record = self.folder / UNFINISHED
        self.state = read_json(record) if record.exists() else {}
        if self.state.get("tokenizer"):
            self._same(self.state, record)
            self.source.lengths = self.state["lengths"]
            self.tokenizer = tokenizers.load(self.folder / TOKENIZER)
            if self.tokenizer.hash != self.state["tokenizer"]:
                raise DataError(f"{self.folder / TOKENIZER} is not the tokenizer that was saved")
        else:
            self.state = {"version": VERSION, "command": self.command, "settings": self.choices,
                          "tokenizer": None, "lengths": None, "units": 0, "stored": 0,
                          "open": LEFT_OUT, "skipped": counts(Report()), "sides": {}}  # fmt: skip
            write_json(record, self.state)  # first of all files: it says that the rest is ours
            self.source.survey()
            if self.settings.content.tokenizer in TRAINED:
                self.show.print("Reading it through once, to train the tokenizer")
            self.tokenizer = self.source.tokenizer()
            self.tokenizer.save(self.folder / TOKENIZER)
            self.state |= {"tokenizer": self.tokenizer.hash, "lengths": self.source.lengths}
            write_json(record, self.state)
        before = self.state["skipped"]  # by the workers
        self.skipped = Report(before["count"], before["reasons"], Counter(before["ignored"]))
        self.passed_over = Report()  # by the walk through the archive, which begins anew each time

    def _open_sides(self, stack: ExitStack) -> None:
        tokenizer, size = self.tokenizer, self.settings.content.shard_tokens
        self.sides = {}
        for name in SIDES:
            state = self.state["sides"].get(name)
            side = Side(self.folder, name, tokenizer.dtype, tokenizer.hash, size, state)
            self.sides[name] = side
            stack.callback(side.close)

    def _encode_all(self) -> None:
        jobs = islice(self.source.jobs(self.passed_over), self.state["units"], None)
        self.show.begin(self.state["stored"])
        recorded = monotonic()
        try:
            for result in results(jobs, self.tokenizer, self.settings.processes):
                self._take(result)
                if self.stop.asked:
                    raise Stopped(self.stop.asked)
                if monotonic() > recorded + RECORD_EVERY:
                    self._record()
                    recorded = monotonic()
        except (DataError, Stopped):  # of the source, or of a worker: what came before is kept
            self._record()
            raise
        self._record()

    def _take(self, result: Result) -> None:
        """Write what a unit came to."""
        for name, part in result.sides.items():
            name = self.state["open"] if name == OPEN else name
            if name == LEFT_OUT:
                continue
            side, begins = self.sides[name], part.begins
            if self.source.lengths and not side.documents:  # the one document begins on this side
                begins = np.zeros(min(len(part.ids), 1), np.int64)
            side.append(part.ids, begins, part.n_bytes)
        if result.last != OPEN:
            self.state["open"] = result.last
        self.state["units"] += 1
        self.state["stored"] += result.stored
        self.skipped += result.report
        text = sum(part.n_bytes for part in result.sides.values())
        self.show.advance(result.stored, text, sum(len(p.ids) for p in result.sides.values()))

    def _record(self) -> None:
        """What is written so far will not have to be written again."""
        for side in self.sides.values():
            side.sync()
        self.state["sides"] = {name: side.state() for name, side in self.sides.items()}
        self.state["skipped"] = counts(self.skipped)
        write_json(self.folder / UNFINISHED, self.state)

    def _finish(self) -> dict[str, Any]:
        self.skipped += self.passed_over
        tokenizer = self.tokenizer
        manifest = {
            "version": VERSION,
            "settings": self.choices,
            "split": SPLITS[self.source.lengths is not None],
            "tokenizer": {
                "type": tokenizer.type,
                "vocab_size": tokenizer.vocab_size,
                "end_of_text": tokenizer.end_of_text,
                "hash": tokenizer.hash,  # and the sha256 of tokenizer.json
            },
            "dtype": tokenizer.dtype.name,
            "skipped": counts(self.skipped),
            **{name: side.complete() for name, side in self.sides.items()},
        }
        write_json(self.folder / MANIFEST, manifest)
        (self.folder / UNFINISHED).unlink()
        return manifest


def counts(report: Report) -> dict[str, Any]:
    """What was left out, for the record."""
    return {"count": report.skipped, "reasons": report.reasons, "ignored": dict(report.ignored)}


def results(jobs: Iterable[Job], tokenizer: Tokenizer, processes: int) -> Iterator[Result]:
    """The result of each job, in their order; at most IN_FLIGHT jobs per process are held."""
    pool = ProcessPoolExecutor(processes, get_context("spawn"), start, (tokenizer,))
    waiting: deque[Future[Result]] = deque()
    try:
        with ignored(signal.SIGINT):  # a worker inherits it, and is quiet from its first moment on
            for _ in range(processes):
                pool.submit(int)
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) >= processes * IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError(
            f"a worker was killed, perhaps for want of memory: use less than --workers {processes}"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def ignored(number: signal.Signals) -> Iterator[None]:
    """Signals are set in the main thread only; in another one there is nothing to ignore."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)
