"""The folder of one training run: what was asked, what was measured, what came of it.

    config.toml      the resolved settings; `--config` reads them back
    metrics.jsonl    one object a line, by step
    loss.png         the curve, beside the yardsticks
    samples/         text the model wrote
    checkpoints/     see gpt/checkpoint.py
"""

import json
from itertools import count
from pathlib import Path
from typing import Any

from .config import Config, to_toml
from .errors import UserError

RUNS = Path("runs")  # of the folder the command runs in


class Run:
    """A run folder, and the metrics written to it so far."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.history: list[dict[str, Any]] = []

    @classmethod
    def create(cls, config: Config) -> "Run":
        """A new folder: `config.run.out`, or the next free one in runs/. Never one in use."""
        check_out(config.run.out)
        path = Path(config.run.out).expanduser() if config.run.out else None
        try:
            path = path or numbered(RUNS / config.preset)
            path.mkdir(parents=True, exist_ok=True)
            (path / "checkpoints").mkdir()
            (path / "config.toml").write_text(to_toml(config), "utf-8")
        except OSError as error:
            raise UserError(
                f"--out {error.filename}: {error.strerror}; choose a folder that can be written"
            ) from error
        return cls(path)

    def log(self, step: int, **metrics: float) -> None:
        """Add a line to metrics.jsonl; it is on its way to the disk before the next step begins."""
        record = {"step": step, **metrics}
        self.history.append(record)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def sample(self, name: str, text: str) -> Path:
        """Keep text that the model wrote."""
        path = self.path / "samples" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        return path


def check_out(out: str) -> None:
    """Refuse a folder in use, before anything is read or computed."""
    path = Path(out).expanduser()
    if out and path.exists() and not path.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    if out and path.is_dir() and any(path.iterdir()):
        raise UserError(
            f"--out {out}: is not empty, and no run overwrites another; choose another --out, "
            "leave it out for the next free folder in runs/, or remove this one"
        )


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
