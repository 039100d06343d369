"""A prepared corpus: a folder of token shards, written by `python -m data.prepare`.

    manifest.json                the settings, counts, and the size and sha256 of each file
    tokenizer.json               what made the ids
    train-00000.tokens, ...      shards, see data/shards.py; val-00000.tokens, ...
    train.index, val.index       where each document begins, in tokens
    unfinished.json              while it is being made, instead of the manifest
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.download import sha256_of
from data.errors import DataError
from data.shards import Tokens

VERSION = 1
MANIFEST, TOKENIZER, UNFINISHED = "manifest.json", "tokenizer.json", "unfinished.json"
SIDES = ("train", "val")


@dataclass(frozen=True)
class Prepared:
    """Both sides of a prepared corpus, mapped; `tokenizer` is what its `to_dict` gave."""

    folder: Path
    manifest: dict[str, Any]
    tokenizer: dict[str, Any]
    train: Tokens
    val: Tokens


def open_prepared(folder: str | Path, *, verify: bool = False) -> Prepared:
    """The corpus that `python -m data.prepare` left in a folder.

    Nothing is read but headers and two small files, whatever the size. verify: read it all, and
    compare each sha256 and each id.

    Raises DataError, naming the file, where anything is missing, unfinished, damaged, of a newer
    version or made with another tokenizer.
    """
    folder = Path(folder).expanduser()
    manifest = read_manifest(folder)
    sides = {side: _open_side(folder, manifest, side) for side in SIDES}
    tokenizer = read_json(folder / TOKENIZER)
    if verify:
        for name, sha in {TOKENIZER: manifest["tokenizer"]["hash"], **_files(manifest)}.items():
            if sha256_of(folder / name) != sha:
                raise DataError(f"{folder / name} is damaged: its sha256 is not in {MANIFEST}")
        for tokens in sides.values():
            tokens.verify()
    return Prepared(folder, manifest, tokenizer, **sides)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete preparation. Raises DataError where there is none."""
    path = folder / MANIFEST
    if not path.exists() and (folder / UNFINISHED).exists():
        raise DataError(f"{folder} is unfinished: {again(read_json(folder / UNFINISHED))}")
    if not path.exists():
        raise DataError(f"{folder} holds no prepared corpus: it has no {MANIFEST}")
    manifest = read_json(path)
    version = manifest.get("version")
    if not isinstance(version, int):
        raise DataError(f"{path} is not the manifest of a prepared corpus: it has no version")
    if version > VERSION:
        raise DataError(
            f"{path} has version {version}, and this program reads up to {VERSION}: it was written "
            f"by a newer one"
        )
    return manifest


def again(state: dict[str, Any]) -> str:
    """What to do about an unfinished preparation."""
    return f"continue it with: {state.get('command', 'python -m data.prepare')}"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises DataError, naming the file, for anything else."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path} is damaged: it is not an object")
    return value


def _files(manifest: dict[str, Any]) -> dict[str, str]:
    """Name and sha256 of every shard and index."""
    parts = [manifest[side] for side in SIDES]
    return {file["file"]: file["sha256"] for part in parts
            for file in (*part["shards"], part["index"])}  # fmt: skip


def _open_side(folder: Path, manifest: dict[str, Any], side: str) -> Tokens:
    try:
        part, tokenizer = manifest[side], manifest["tokenizer"]
        paths = [folder / shard["file"] for shard in part["shards"]]
        tokens = Tokens.open(
            paths,
            dtype=np.dtype(manifest["dtype"]),
            tokenizer=tokenizer["hash"],
            index=folder / part["index"]["file"],
            vocab_size=tokenizer["vocab_size"],
        )
        counts = [shard["count"] for shard in part["shards"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / MANIFEST} is damaged: {error}") from None
    for path, count, found in zip(paths, counts, tokens.parts):
        if len(found) != count:
            raise DataError(f"{path} has {len(found):,} tokens, and {MANIFEST} says {count:,}")
    return tokens
