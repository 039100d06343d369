"""Weights from elsewhere: what lies at a path, and a GPT made of it.

    a folder   config.json + *.safetensors or *.bin     Hugging Face's GPT-2, gpt/huggingface.py
               hparams.json + model.ckpt.*              OpenAI's GPT-2, gpt/foreign.py
               checkpoints/, or state.json              a run of ours, or one checkpoint of it
    a file     a pickle of ours, a torch file           gpt/foreign.py: nanoGPT, the course

Reading executes nothing. Weights stay in their mapped files, under our names, until each is copied
into the model, so that memory holds the model and at most one tensor more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinytensor import nn, serialize

from .checkpoint import near
from .config import GPTConfig
from .errors import ConfigError, UserError

if TYPE_CHECKING:
    from .model import GPT
    from .tokenizers import Tokenizer

OURS = ("checkpoints", "state.json")  # what a run's folder has, and a checkpoint's
SHOWN = 8  # problems printed before the rest are only counted


class PretrainedError(UserError, ValueError):
    """Weights that are not there, are damaged, or cannot be this model's."""


class Weight(NamedTuple):
    """An array in a file: where it is and what it is called there."""

    array: np.ndarray
    where: str  # "FILE: KEY"
    turned: bool = False  # stored as (in, out), as GPT-2's Conv1D has it

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the parameter that it becomes."""
        return self.array.shape[::-1] if self.turned else self.array.shape

    def copy_to(self, target: np.ndarray) -> None:
        """Into float32 memory, without another array in between."""
        array = self.array.T if self.turned else self.array
        if array.dtype == serialize.BFLOAT16:  # float32's upper half
            bits = target.view(np.uint32)
            bits[...] = array["bfloat16"]
            bits <<= 16
        else:
            target[...] = array


@dataclass
class Source:
    """A model that has been found, not yet loaded."""

    path: Path
    kind: str  # for people: "a Hugging Face folder"
    config: GPTConfig
    weights: dict[str, Weight]  # by their names in gpt.GPT
    tokenizer: Tokenizer | None = None
    about: dict[str, Any] = field(default_factory=dict)  # what else is known, such as the step


def from_pretrained(
    path: str | Path, device: str = "cpu", *, allow_non_finite: bool = False, **changes: Any
) -> GPT:
    """The model at `path` (see above) on `device`, in float32 and in eval mode.

    changes  settings that replace the source's, such as dropout=0.1
    raises   PretrainedError, or tinytensor's CheckpointError, naming file and key
    """
    return load(open_source(path, **changes), device, allow_non_finite)


def open_source(path: str | Path, averaged: bool = False, **changes: Any) -> Source:
    """What is at `path`: its settings, with `changes`, and its weights, unread.

    averaged  the weights that a run's --ema kept
    """
    from . import foreign, huggingface

    path = Path(path).expanduser()
    if averaged and not is_run(path):
        raise PretrainedError(f"--ema: {path} is no run of ours: it has no averaged weights")
    if path.is_file():
        return foreign.open_file(path, changes)
    if not path.is_dir():
        raise PretrainedError(f"{path}: there is no such file or folder{near(path)}")
    readers: dict[str, Callable[[Path, Mapping[str, Any]], Source]] = {
        "config.json": huggingface.open_folder, "hparams.json": foreign.open_openai,
        **{marker: partial(open_run, averaged=averaged) for marker in OURS},
    }  # fmt: skip
    for marker, reader in readers.items():
        if (path / marker).exists():
            return reader(path, changes)
    raise PretrainedError(f"{path}: is no model's folder: it has none of {', '.join(readers)}")


def is_run(path: Path) -> bool:
    """Whether a folder is one of our runs, or a checkpoint of one."""
    return any((path / marker).exists() for marker in OURS)


def open_run(path: Path, changes: Mapping[str, Any], averaged: bool = False) -> Source:
    """A run's last checkpoint, or the one at `path`; LoRA's additions are merged."""
    from . import lora
    from .checkpoint import WEIGHTS, Checkpoint

    saved = Checkpoint.find(path)
    if saved.config.model != "gpt":
        raise PretrainedError(f"{path}: is a {saved.config.model} model, not a GPT")
    arrays = lora.merged(saved.weights(averaged=averaged), saved.config.finetune)
    weights = {name: Weight(array, f"{saved.path / WEIGHTS}: {name}")
               for name, array in arrays.items()}  # fmt: skip
    if saved.config.gpt.tie_weights:  # one matrix under two names
        weights.pop("lm_head.weight", None)
    config = make_config({**vars(saved.config.gpt), **changes}, str(path))
    about = {"step": saved.step}
    return Source(path, f"step {saved.step} of a run", config, weights, saved.tokenizer, about)


def make_config(values: Mapping[str, Any], where: str) -> GPTConfig:
    """A GPTConfig, or an error that names the file whose values it cannot have."""
    try:
        return GPTConfig(**values)
    except (ConfigError, TypeError) as error:
        raise PretrainedError("\n".join(f"{where}: {x}" for x in str(error).split("\n"))) from None


def is_tied(weights: Mapping[str, Weight]) -> bool:
    """Whether reading and writing share a matrix: the head is absent, or it is wte bit for bit."""
    if "lm_head.weight" not in weights or "wte.weight" not in weights:
        return "lm_head.weight" not in weights
    head, table = weights["lm_head.weight"].array, weights["wte.weight"].array
    if (head.dtype, head.shape) != (table.dtype, table.shape):
        return False
    # row by row, so that a difference is found early and nothing large is made
    same = all(a.tobytes() == b.tobytes() for a, b in zip(head, table))
    serialize.release(head)
    serialize.release(table)
    return same


def folder_tokenizer(folder: Path, config: GPTConfig) -> Tokenizer | None:
    """The tokenizer in a folder of weights, if there is one; it must be the model's."""
    from . import tokenizers

    names = [{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}]
    if not any(all((folder / name).exists() for name in pair) for pair in names):
        return None
    tokenizer = tokenizers.get(folder)
    check_vocabulary(tokenizer, config, str(folder))
    return tokenizer


def check_vocabulary(tokenizer: Tokenizer, config: GPTConfig, where: str) -> None:
    """A vocabulary may be smaller than the model's (which may be padded), never larger."""
    if tokenizer.vocab_size > config.vocab_size:
        raise PretrainedError(
            f"{where}: the tokenizer has {tokenizer.vocab_size:,} tokens, the model's vocabulary "
            f"{config.vocab_size:,}: it is another model's"
        )


# ------------------------------------------------------------------------------ into the model


def load(source: Source, device: str = "cpu", allow_non_finite: bool = False) -> GPT:
    """The GPT of a source, which is empty afterwards: each array is let go once it is copied."""
    from .model import GPT

    check_size(source)
    with nn.init.skipped():
        model = GPT(source.config)
    own = dict(model.named_parameters())
    check_names_and_shapes(source, own)
    for name, parameter in own.items():
        weight = source.weights.pop(name)
        weight.copy_to(parameter.array)
        serialize.release(weight.array)
        if not allow_non_finite:
            check_finite(parameter.array, weight.where)
    return model.to(device).eval()


def check_size(source: Source) -> None:
    """Settings that the weights contradict, before a model of that size is made."""
    config, weights = source.config, source.weights
    for name, rows, setting in (("wte.weight", config.vocab_size, "vocab_size"),
                                ("wpe.weight", config.block_size, "block_size")):  # fmt: skip
        found = weights[name].shape if name in weights else None
        if found is not None and len(found) == 2 and found[0] != rows:
            raise PretrainedError(
                f"{weights[name].where}: has {found[0]:,} rows, but {source.path} says "
                f"{setting} = {rows:,}"
            )
        if found is not None and len(found) == 2 and found[1] != config.n_embd:
            raise PretrainedError(
                f"{weights[name].where}: has {found[1]:,} columns, but {source.path} says "
                f"n_embd = {config.n_embd:,}"
            )
    layers = {int(m[1]) for name in weights if (m := re.match(r"h\.(\d{1,9})\.", name))}
    if len(layers) != config.n_layer:
        raise PretrainedError(
            f"{source.path}: has weights of {len(layers)} blocks, and says n_layer = "
            f"{config.n_layer:,}"
        )
    if "wte.weight" not in weights:
        raise PretrainedError(f"{source.path}: lacks wte.weight")


def check_names_and_shapes(source: Source, own: Mapping[str, Any]) -> None:
    """All at once: what is missing, what is too much, and what has another shape or dtype."""
    problems = [f"{source.path}: lacks {name}" for name in own if name not in source.weights]
    for name, weight in source.weights.items():
        if name not in own:
            problems.append(f"{weight.where}: is no weight of a GPT with these settings")
            continue
        wanted, found = tuple(own[name].shape), weight.shape
        if found != wanted:
            # told in the order of the file
            order = -1 if weight.turned else 1
            turned = len(found) == 2 and found == wanted[::-1]
            problems.append(f"{weight.where}: has shape {found[::order]}, not {wanted[::order]}"
                            + (": it is transposed" if turned else ""))  # fmt: skip
        elif weight.array.dtype.kind != "f" and weight.array.dtype != serialize.BFLOAT16:
            problems.append(f"{weight.where}: is {weight.array.dtype}, and weights are floats")
    if more := problems[SHOWN:]:
        problems[SHOWN:] = [f"{source.path}: and {len(more)} more of this kind"]
    if problems:
        raise PretrainedError("\n".join(problems))


def check_finite(array: np.ndarray, where: str) -> None:
    # NaN is handed on by min; no array of booleans is made
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        bad = int(array.size - np.isfinite(array).sum())
        raise PretrainedError(
            f"{where}: {bad:,} of {array.size:,} values are NaN or infinite, so nothing it says "
            "would mean anything; allow_non_finite (--allow-non-finite) loads it all the same"
        )
