"""Where metrics go, one file format or service a class. A record is `{"step": 10, "lr": ...}`.

Every logger starts from the history: a resumed run's files end where its checkpoint does, without
gaps or repeats. A number that is not finite is written as null, which JSON has, or left out.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from .durable import write_file
from .errors import UserError

Record = dict[str, Any]
MODULES = {"tensorboard": "tensorboardX", "wandb": "wandb"}


class Logger(Protocol):
    def log(self, record: Record) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """metrics.jsonl: an object a line; on its way to the disk before the next step begins."""

    def __init__(self, path: Path, history: Sequence[Record]):
        self.path = path
        write_file(path, "".join(map(self._line, history)).encode())

    def log(self, record: Record) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self._line(record))

    def close(self) -> None:
        pass

    @staticmethod
    def _line(record: Record) -> str:
        return json.dumps(record, allow_nan=False) + "\n"


class Csv:
    """metrics.csv: a column per number, empty where a step has none."""

    def __init__(self, path: Path, history: Sequence[Record]):
        self.path, self.history = path, history
        self._rewrite()

    def log(self, record: Record) -> None:
        if not record.keys() <= set(self.columns):  # a number that no step had before
            return self._rewrite(record)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(record)

    def close(self) -> None:
        pass

    def _rewrite(self, *new: Record) -> None:
        records = [*self.history, *new]
        self.columns = list(dict.fromkeys(["step", *(name for r in records for name in r)]))
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        write_file(self.path, text.getvalue().encode())


class TensorBoard:
    """tensorboard/: event files for `tensorboard --logdir`."""

    def __init__(self, path: Path, history: Sequence[Record]):
        writer = needed("tensorboard").SummaryWriter
        # Events from purge_step on, of a run that was killed after its last checkpoint, are hidden.
        # Its files are named by the second: the step keeps those of a quick resume apart.
        step = history[-1]["step"] + 1 if history else 0
        self.writer = writer(str(path), purge_step=step or None, filename_suffix=f".{step:08d}")

    def log(self, record: Record) -> None:
        for name, value in record.items():
            if name != "step" and value is not None:
                self.writer.add_scalar(name, value, record["step"])
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WandB:
    """Weights & Biases, under the run's id: a resumed run goes on in its own curve there."""

    def __init__(self, path: Path, run_id: str, settings: dict[str, Any]):
        self.run = needed("wandb").init(
            project="tinytensor", id=run_id, name=path.name, dir=str(path), resume="allow",
            config=settings,
        )  # fmt: skip

    def log(self, record: Record) -> None:
        self.run.log({k: v for k, v in record.items() if v is not None}, step=record["step"])

    def close(self) -> None:
        self.run.finish()


def needed(extra: str) -> Any:
    """The module behind an extra of setup.py, or what to install."""
    from importlib import import_module

    module = MODULES[extra]
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"--log-to {extra}: {module} cannot be imported ({error}): "
                        f"run pip install -e '.[{extra}]'") from error


def check(log_to: str) -> None:
    """Whether the services that `--log-to` names can be had, before anything begins."""
    for extra in filter(None, log_to.split(",")):
        needed(extra)


def build(
    path: Path, log_to: str, history: Sequence[Record], run_id: str, settings: dict[str, Any]
) -> list[Logger]:
    """The loggers of a run: those of its folder, and those that `--log-to` names."""
    loggers: list[Logger] = [JsonLines(path / "metrics.jsonl", history),
                             Csv(path / "metrics.csv", history)]  # fmt: skip
    names = log_to.split(",")
    if "tensorboard" in names:
        loggers.append(TensorBoard(path / "tensorboard", history))
    if "wandb" in names:
        loggers.append(WandB(path, run_id, settings))
    return loggers
