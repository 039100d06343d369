"""A model as one pickle, as the course keeps it, but of arrays and plain containers alone.

    {"format": "tinytensor", "version": 1, "config": GPTConfig's settings,
     "weights": {name: array}, "tokenizer": what its to_dict gave, or None, ...}

`pickle.load` reads it with NumPy installed; so does tinytensor.serialize.load_pickle, which would
refuse anything else in it. docs/pickle.md shows why that matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tinytensor.serialize import save_pickle

from .config import GPTConfig
from .pretrained import PretrainedError, Source, Weight, check_vocabulary, make_config

VERSION = 1


def save_model(
    path: str | Path, config: GPTConfig, weights: Mapping[str, Any], tokenizer: Any = None,
    **more: Any,
) -> None:  # fmt: skip
    """Write one file; `more` joins the mapping: step, optimizer, history."""
    save_pickle(
        path,
        {
            "format": "tinytensor", "version": VERSION, "config": asdict(config),
            "weights": dict(weights), "tokenizer": tokenizer and tokenizer.to_dict(), **more,
        },
    )  # fmt: skip


def to_source(path: Path, tree: Mapping[str, Any], changes: Mapping[str, Any]) -> Source:
    """What `save_model` wrote, not yet loaded."""
    from . import tokenizers

    version, settings, arrays = tree.get("version"), tree["config"], tree["weights"]
    if type(version) is not int or not isinstance(settings, dict) or not isinstance(arrays, dict):
        raise PretrainedError(f"{path}: has no valid version, config and weights")
    if version > VERSION:
        raise PretrainedError(f"{path}: has version {version}, and this program reads up to "
                              f"{VERSION}: it was written by a newer one")  # fmt: skip
    settings = settings.get("gpt", settings)  # of a whole run's settings, the architecture
    config = make_config({**settings, **changes}, str(path))
    for name, array in arrays.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            raise PretrainedError(f"{path}: {str(name)[:80]}: is no array with a name")
    weights = {name: Weight(array, f"{path}: {name}") for name, array in arrays.items()}
    if config.tie_weights:
        weights.pop("lm_head.weight", None)
    tokenizer = tree.get("tokenizer") and tokenizers.from_dict(tree["tokenizer"])
    if tokenizer:
        check_vocabulary(tokenizer, config, str(path))
    about = {"step": tree.get("step")}
    return Source(path, "a pickle of ours", config, weights, tokenizer or None, about)
