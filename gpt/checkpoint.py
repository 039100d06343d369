"""Checkpoints: a folder per saved step, complete or absent, and never code.

    checkpoints/002000/
      model.safetensors        weights, by their names in the model
      optimizer.safetensors    the optimizer's arrays
      ema.safetensors          averaged weights, with --ema
      state.json               all else: step, settings, tokenizer, random numbers, metrics so far,
                               versions, the sha256 of the other two, and its own

A folder is written under another name, flushed to the disk, then renamed, and renamed before it is
deleted: a crash at any instant leaves the other checkpoints as they were. What it does not do: put
a training run back together, see gpt/state.py.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as to_safetensors

from tinytensor.errors import CheckpointError as Misfit
from tinytensor.serialize.safetensors import load_safetensors

from . import durable, ema, tokenizers
from .config import Config, from_dict
from .config_text import hash_of
from .errors import ConfigError, UserError
from .packing import arrays_of, pack, unpack

VERSION = 2
LARGE = 2**26  # weights: what is not, may be built before it turns out not to fit
WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


class CheckpointError(UserError):
    """A checkpoint that is not there, is damaged, or is not what it says."""


# ------------------------------------------------------------------------------ writing


def save(
    folder: Path,
    step: int,
    model: Any,
    optimizer: Any,
    tokenizer: tokenizers.Tokenizer,
    config: Config,
    *,
    files: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    finite: bool = True,
    **more: Any,
) -> Path:
    """Write checkpoint `step` into `folder` and return its path. `more` joins state.json.

    A step that is there already is the same step of the same run: it is left alone.
    files    further files, and their arrays by name
    finite   refuse weights and moments that are not: what cannot be trained on is not worth keeping
    """
    final = folder / f"{step:06d}"
    if final.exists():
        return final
    moments, numbers = pack(optimizer.state_dict())
    arrays = {WEIGHTS: arrays_of(model.state_dict()), OPTIMIZER: moments, **(files or {})}
    if finite:
        for name, group in arrays.items():
            check_finite(group, f"step {step} is not saved, earlier checkpoints are: {name}")
    state = {
        "version": VERSION,
        "step": step,
        "config": asdict(config),
        "config_hash": hash_of(config),
        "tokenizer": tokenizer.to_dict(),
        "tokenizer_hash": tokenizer.hash,
        "optimizer": numbers,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        **more,
    }

    def contents() -> Iterator[tuple[str, bytes]]:
        sha256 = {}
        for name, group in arrays.items():
            data = to_safetensors(dict(group))
            sha256[name] = hashlib.sha256(data).hexdigest()
            yield name, data
        yield STATE, sealed({**state, "sha256": sha256})

    try:
        durable.sweep(folder)
        durable.write_folder(final, contents())
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {final} could not be written: {error.strerror}; earlier ones are intact"
        ) from error
    return final


def sealed(state: Mapping[str, Any]) -> bytes:
    """state.json: JSON that ends with its own sha256."""
    return json.dumps({**state, "seal": seal(state)}, indent=1).encode()


def seal(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def prune(folder: Path, keep: int, losses: Mapping[int, float]) -> None:
    """Remove all but the last `keep` >= 1 checkpoints and the one of lowest loss."""
    steps = saved_steps(folder)
    measured = [step for step in steps if step in losses]
    kept = {*steps[-keep:], *([min(measured, key=losses.__getitem__)] if measured else [])}
    for step in steps:
        if step not in kept:
            durable.remove_folder(folder / f"{step:06d}")


def saved_steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, in order."""
    names = [p.name for p in folder.iterdir() if p.is_dir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


# ------------------------------------------------------------------------------ reading


class Checkpoint:
    """A saved step. Files are read, and verified, when they are asked for."""

    def __init__(self, path: Path):
        self.path = path
        self.state = self._read_state()
        self.step: int = self.state["step"]

    @classmethod
    def find(cls, path: str | Path) -> "Checkpoint":
        """The checkpoint at `path`, or the last one of the run at `path`."""
        path = Path(path).expanduser()
        if not path.is_dir():
            what = "is a file, not a run folder" if path.exists() else "there is no such folder"
            raise CheckpointError(f"{path}: {what}{near(path)}")
        if (path / STATE).exists():
            return cls(path)
        if not (path / "checkpoints").is_dir():
            raise CheckpointError(
                f"{path}: is neither a run (it has no checkpoints/) nor a checkpoint (no {STATE})"
            )
        steps = saved_steps(path / "checkpoints")
        if not steps:
            raise CheckpointError(f"{path}: the run has saved no checkpoint yet; see --save-every")
        return cls(path / "checkpoints" / f"{steps[-1]:06d}")

    @cached_property
    def config(self) -> Config:
        try:
            config = from_dict(self.state["config"], f"{self.path / STATE}")
        except ConfigError as error:
            raise CheckpointError(str(error)) from error
        gpt, path = config.gpt, self.path / WEIGHTS
        least = gpt.n_embd * (gpt.vocab_size + gpt.block_size + 12 * gpt.n_layer * gpt.n_embd)
        if config.model == "gpt" and path.is_file() and least > max(path.stat().st_size, LARGE):
            raise CheckpointError(
                f"{self.path / STATE}: describes a model of {least:,} weights or more, and {path} "
                f"has {path.stat().st_size:,} bytes"
            )
        return config

    @cached_property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer it was trained with, checked by its hash and against the model."""
        where = self.path / STATE
        try:
            tokenizer = tokenizers.from_dict(self.state["tokenizer"])
        except tokenizers.TokenizerError as error:
            raise CheckpointError(f"{where}: {error}") from error
        if tokenizer.hash != self.state["tokenizer_hash"]:
            raise CheckpointError(f"{where}: the tokenizer is not the one saved")
        if tokenizer.vocab_size > self.config.gpt.vocab_size:
            raise CheckpointError(
                f"{where}: the tokenizer is not this model's: it has {tokenizer.vocab_size} "
                f"tokens, the model knows {self.config.gpt.vocab_size}"
            )
        return tokenizer

    def weights(self, finite: bool = True, averaged: bool = False) -> dict[str, np.ndarray]:
        """Floats by name, read-only: mapped, so none is in memory twice.

        averaged  those that --ema kept; CheckpointError where it did not
        """
        weights = self.arrays(WEIGHTS, finite)
        if averaged:
            if ema.FILE not in self.state["sha256"]:
                raise CheckpointError(f"--ema: {self.path} has no averaged weights: the run was "
                                      "not trained with --ema")  # fmt: skip
            weights |= self.arrays(ema.FILE, finite)
            if self.config.gpt.tie_weights and "lm_head.weight" in weights:
                weights["lm_head.weight"] = weights["wte.weight"]
        for name, array in weights.items():
            if array.dtype.kind != "f":
                raise CheckpointError(f"{self.path / WEIGHTS}: {name} is {array.dtype}, not floats")
        return weights

    def load_into(self, model: Any, finite: bool = True, averaged: bool = False) -> None:
        """Copy the weights into a model of the same settings."""
        weights = self.weights(finite, averaged)
        for name, own in model.state_dict().items():
            if name in weights and weights[name].dtype != own.array.dtype:
                raise CheckpointError(f"{self.path / WEIGHTS}: {name} is {weights[name].dtype}, "
                                      f"the model's is {own.array.dtype}")
        try:
            model.load_state_dict(weights)
        except Misfit as error:
            reasons = "; ".join(str(error).split("\n  ")[1:])
            raise CheckpointError(
                f"{self.path / WEIGHTS}: does not fit the settings in {STATE}: {reasons}"
            ) from error

    def optimizer_state(self, finite: bool = True) -> Any:
        """What `optimizer.load_state_dict` takes, its arrays in NumPy's."""
        try:
            return unpack(self.arrays(OPTIMIZER, finite), self.state["optimizer"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{self.path / OPTIMIZER}: lacks {error}") from error

    def arrays(self, name: str, finite: bool = True) -> dict[str, np.ndarray]:
        """The arrays of one of its files."""
        path = self.path / name
        try:
            if not path.is_file():  # a pipe or a device would be read for ever
                raise CheckpointError(f"{path}: is missing" if not path.exists() else
                                      f"{path}: is not a file")
            if digest(path) != self.state["sha256"].get(name):
                raise CheckpointError(f"{path}: is damaged: its sha256 is not the one in {STATE}")
            arrays = load_safetensors(path)
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from error
        except Misfit as error:
            raise CheckpointError(str(error)) from error
        if finite:
            check_finite(arrays, str(path))
        return arrays

    def _read_state(self) -> dict[str, Any]:
        path = self.path / STATE
        if not path.is_file():
            raise CheckpointError(f"{path}: is missing, or not a file")
        try:
            state = json.loads(path.read_bytes())
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or meant to harm
            raise CheckpointError(f"{path}: is damaged: {error}") from error
        if not isinstance(state, dict):
            raise CheckpointError(f"{path}: is damaged: not an object")
        version = state.get("version")
        if type(version) is int and version != VERSION:
            by = "a newer" if version > VERSION else "an older"
            raise CheckpointError(f"{path}: has version {version}, and this program reads "
                                  f"{VERSION}: it was written by {by} one")
        kinds = {"version": int, "step": int, "config": dict, "tokenizer": dict,
                 "tokenizer_hash": str, "optimizer": dict, "sha256": dict}  # fmt: skip
        for name, kind in kinds.items():
            if type(state.get(name)) is not kind:
                raise CheckpointError(f"{path}: is damaged: it has no valid {name!r}")
        if state.pop("seal", None) != seal(state):
            raise CheckpointError(f"{path}: is damaged: its sha256 is not the one it ends with")
        return state


def digest(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_finite(arrays: Mapping[str, np.ndarray], where: str) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CheckpointError(f"{where}: {name} has values that are not finite")


def near(path: Path) -> str:
    """What a mistyped run may have meant: its neighbours."""
    parent = path.parent
    names = sorted(p.name for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []
    return f"; {parent} has {', '.join(names[:8])}" if names else ""
