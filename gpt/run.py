"""The folder of one training run: what was asked, what was measured, what came of it.

    config.toml      the resolved settings; `--config` reads them back
    metrics.jsonl    one object a line, by step; metrics.csv is the same as a table
    loss.png         the curve, beside the yardsticks
    samples/         text the model wrote
    checkpoints/     see gpt/checkpoint.py
    crash/           what stopped a run, if something did: see gpt/replay.py

One process at a time trains in it: the folder is locked.
"""

import json
import math
import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from . import durable, loggers
from .config import Config
from .config_text import to_toml
from .errors import UserError

RUNS = Path("runs")  # of the folder the command runs in


class Run:
    """A run folder, locked until `close`, and the metrics written to it so far."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.id = secrets.token_hex(4)
        self.history: list[dict[str, Any]] = []
        self.loggers: list[loggers.Logger] = []
        self._lock = lock(path)

    @classmethod
    def create(cls, config: Config) -> "Run":
        """A new folder: `config.run.out`, or the next free one in runs/. Never one in use."""
        check_out(config.run.out)
        path = Path(config.run.out).expanduser() if config.run.out else None
        try:
            path = path or numbered(RUNS / config.preset)
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path)
            run.begin(config)
        except OSError as error:
            raise UserError(
                f"--out {error.filename or path}: {error.strerror}; choose a folder that can be "
                "written"
            ) from error
        return run

    def begin(self, config: Config, state: Mapping[str, Any] | None = None) -> None:
        """Write down the settings and open the logs, after the history in a checkpoint's state."""
        if state is not None:
            self.id, self.history = state["run_id"], list(state["history"])
        durable.sweep(self.path)
        durable.write_file(self.path / "config.toml", to_toml(config).encode())
        self.checkpoints.mkdir(exist_ok=True)
        self.loggers = loggers.build(self.path, config.run.log_to, self.history, self.id,
                                     asdict(config))  # fmt: skip

    def log(self, step: int, **metrics: float) -> None:
        """Add a record to the history and to every log."""
        record = {"step": step, **{k: v if math.isfinite(v) else None for k, v in metrics.items()}}
        for logger in self.loggers:
            logger.log(record)
        self.history.append(record)

    def sample(self, name: str, text: str) -> Path:
        """Keep text that the model wrote."""
        path = self.path / "samples" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    @property
    def resume(self) -> str:
        """What to type to go on with it."""
        return f"python -m gpt.train --resume {shlex.quote(str(self.path))}"

    def close(self) -> None:
        for logger in self.loggers:
            logger.close()
        self.loggers = []
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def lock(folder: Path) -> int | None:
    """Hold a folder against other processes; however this one ends, the lock ends with it."""
    try:
        import fcntl
    except ImportError:  # Windows has no lock on folders
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError(
            f"{folder}: another process is training in this folder; wait for it, or stop it"
        ) from None
    except OSError:  # a file system without locks
        pass
    return handle


def check_out(out: str) -> None:
    """Refuse a folder in use or out of reach, before anything is read or computed."""
    if "\0" in out:
        raise UserError(f"--out {out!r}: a folder's name cannot have a NUL character")
    path = Path(out or RUNS).expanduser().absolute()
    try:
        if out and path.exists() and not path.is_dir():
            raise UserError(f"--out {out}: is a file; name a folder")
        if out and path.is_dir() and any(path.iterdir()):
            raise UserError(
                f"--out {out}: is not empty, and no run overwrites another; choose another --out, "
                "leave it out for the next free folder in runs/, go on with it by --resume, or "
                "remove this one"
            )
        there = next(p for p in (path, *path.parents) if p.exists())
    except OSError as error:  # a name too long
        raise UserError(f"--out {out}: {error.strerror}; choose another folder") from error
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "cannot be written" if there.is_dir() else "Not a directory"
        raise UserError(f"--out {out or RUNS}: {why}: {there}; choose a folder that can be written")


def numbered(path: Path) -> Path:
    """Make and return `path`, or the first of `path`-2, `path`-3, ... that does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise AssertionError("numbers end")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line cut off by a crash is left out."""
    lines = path.read_text("utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]
