"""Checkpoints: a folder per saved step, complete or absent, and never code.

    checkpoints/002000/
      model.safetensors        weights, by their names in the model
      optimizer.safetensors    the optimizer's arrays
      state.json               all else: step, settings, tokenizer, optimizer's numbers, versions,
                               and the sha256 of the other two

A folder is written under another name, flushed to the disk, then renamed: a crash at any instant
leaves the previous checkpoints as they were.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_safetensors
from safetensors.numpy import save as to_safetensors

from . import tokenizers
from .config import Config, from_dict
from .errors import ConfigError, UserError

VERSION = 1
WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


class CheckpointError(UserError):
    """A checkpoint that is not there, is damaged, or is not what it says."""


def save(
    folder: Path,
    step: int,
    model: Any,
    optimizer: Any,
    tokenizer: tokenizers.Tokenizer,
    config: Config,
    **more: Any,
) -> Path:
    """Write checkpoint `step` into `folder` and return its path. `more` joins state.json.

    A step that is there already is the same step of the same run: it is left alone.
    """
    final = folder / f"{step:06d}"
    if final.exists():
        return final
    moments, numbers = pack(optimizer.state_dict())
    files = {WEIGHTS: to_safetensors(arrays_of(model.state_dict())),
             OPTIMIZER: to_safetensors(moments)}  # fmt: skip
    state = {
        "version": VERSION,
        "step": step,
        "config": asdict(config),
        "tokenizer": tokenizer.to_dict(),
        "tokenizer_hash": tokenizer.hash,
        "optimizer": numbers,
        **more,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    files[STATE] = json.dumps(state, indent=1).encode()
    for unfinished in folder.glob(".unfinished-*"):
        shutil.rmtree(unfinished)
    temporary = folder / f".unfinished-{step:06d}"
    try:
        temporary.mkdir()
        for name, data in files.items():
            with (temporary / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(temporary)
        temporary.rename(final)
        sync_folder(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"checkpoint {final} could not be written: {error.strerror}; earlier ones are intact"
        ) from error
    return final


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
            raise CheckpointError(f"{path}: there is no such folder{near(path)}")
        if (path / STATE).exists():
            return cls(path)
        if not (path / "checkpoints").is_dir():
            raise CheckpointError(
                f"{path}: is neither a run (it has no checkpoints/) nor a checkpoint (no {STATE})"
            )
        saved = [p for p in (path / "checkpoints").iterdir() if p.name.isdigit()]
        if not saved:
            raise CheckpointError(f"{path}: the run has saved no checkpoint yet; see --save-every")
        return cls(max(saved, key=lambda p: int(p.name)))

    @cached_property
    def config(self) -> Config:
        try:
            return from_dict(self.state["config"], f"{self.path / STATE}")
        except ConfigError as error:
            raise CheckpointError(str(error)) from error

    @cached_property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer it was trained with, checked by its hash."""
        state = self.state["tokenizer"]
        kind = tokenizers.TYPES.get(state.get("type"))
        if kind is None:
            raise CheckpointError(f"{self.path}: unknown tokenizer type {state.get('type')!r}")
        tokenizer = kind.from_dict(state)
        if tokenizer.hash != self.state["tokenizer_hash"]:
            raise CheckpointError(f"{self.path / STATE}: the tokenizer is not the one saved")
        return tokenizer

    def weights(self) -> dict[str, np.ndarray]:
        return self._arrays(WEIGHTS)

    def optimizer_state(self) -> Any:
        """What `optimizer.load_state_dict` takes, its arrays in NumPy's."""
        return unpack(self._arrays(OPTIMIZER), self.state["optimizer"])

    def _arrays(self, name: str) -> dict[str, np.ndarray]:
        path = self.path / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != self.state["sha256"].get(name):
            raise CheckpointError(f"{path}: is damaged: its sha256 is not the one in {STATE}")
        try:
            return read_safetensors(data)
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(f"{path}: is not safetensors: {error}") from error

    def _read_state(self) -> dict[str, Any]:
        path = self.path / STATE
        try:
            state = json.loads(path.read_bytes())
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or meant to harm
            raise CheckpointError(f"{path}: is damaged: {error}") from error
        kinds = {"version": int, "step": int, "config": dict, "tokenizer": dict,
                 "tokenizer_hash": str, "optimizer": dict, "sha256": dict}  # fmt: skip
        if not isinstance(state, dict):
            raise CheckpointError(f"{path}: is damaged: not an object")
        for name, kind in kinds.items():
            if not isinstance(state.get(name), kind):
                raise CheckpointError(f"{path}: is damaged: it has no valid {name!r}")
            if name == "version" and state["version"] > VERSION:
                raise CheckpointError(
                    f"{path}: has version {state['version']}, and this program reads up to "
                    f"{VERSION}: it was written by a newer one"
                )
        return state


def near(path: Path) -> str:
    """What a mistyped run may have meant: its neighbours."""
    parent = path.parent
    names = sorted(p.name for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []
    return f"; {parent} has {', '.join(names[:8])}" if names else ""


def arrays_of(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(t.numpy(force=True)) for name, t in tensors.items()}


def pack(tree: Any) -> tuple[dict[str, np.ndarray], Any]:
    """Split a state_dict: its arrays by path, and the rest as JSON with `{"array": path}` in it."""
    arrays: dict[str, np.ndarray] = {}

    def walk(node: Any, path: str) -> Any:
        if isinstance(node, Mapping):
            return {str(key): walk(value, f"{path}.{key}") for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [walk(value, f"{path}.{i}") for i, value in enumerate(node)]
        if hasattr(node, "numpy"):
            arrays[path[1:]] = np.ascontiguousarray(node.numpy(force=True))
            return {"array": path[1:]}
        return node

    rest = walk(tree, "")
    return arrays, rest


def unpack(arrays: Mapping[str, np.ndarray], node: Any) -> Any:
    """Undo `pack`. JSON has no integer keys, state_dicts do: keys of digits become integers."""
    if isinstance(node, dict):
        if node.keys() == {"array"}:
            if node["array"] not in arrays:
                raise CheckpointError(f"{OPTIMIZER}: lacks {node['array']!r}")
            return arrays[node["array"]]
        return {int(k) if k.isdigit() else k: unpack(arrays, v) for k, v in node.items()}
    if isinstance(node, list):
        return [unpack(arrays, value) for value in node]
    return node


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; Windows has no call for it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
