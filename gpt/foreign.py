"""Other people's checkpoints, recognised by what is in them, and their names made ours.

    ours         {"config": settings, "weights": {name: array}, "tokenizer": ...}, gpt/pickled.py
    nanoGPT      ckpt.pt: {"model": state_dict, "model_args": settings, ...}; names as GPT-2's,
                 behind `_orig_mod.` if it was compiled; Linear layers, not Conv1D
    the course   model-01.pkl, a pickled GPTLanguageModel, or its state_dict: per-head key, query
                 and value, LayerNorm after each sublayer, a head bias
    OpenAI       model.ckpt.* and hparams.json; names as model/h0/attn/c_attn/w
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinytensor import serialize

from . import huggingface, pickled
from .pretrained import PretrainedError, Source, Weight, folder_tokenizer, is_tied, make_config

WRAPPERS = ("_orig_mod.", "module.")  # of torch.compile and DistributedDataParallel
INNER = ("model", "state_dict", "model_state_dict")  # where training scripts put the weights
HEAD = re.compile(r"blocks\.\d+\.sa\.heads\.(\d{1,6})\.key\.weight")
BUFFERS = re.compile(r"(blocks\.\d+\.sa\.heads\.\d+\.tril|h\.\d+\.attn\.(bias|masked_bias))")


def open_file(path: Path, changes: Mapping[str, Any]) -> Source:
    """A model in one file, whoever wrote it."""
    if path.name in huggingface.FILES and (path.parent / "config.json").exists():
        return huggingface.open_folder(path.parent, changes)
    if path.suffix == ".safetensors":
        return of_state(path, serialize.load_safetensors(path), {}, changes)
    tree = serialize.load_torch(path)
    if isinstance(tree, dict) and tree.keys() >= {"config", "weights"}:
        return pickled.to_source(path, tree, changes)
    args: Any = tree.get("model_args", {}) if isinstance(tree, dict) else {}
    if not isinstance(args, dict):
        raise PretrainedError(f"{path}: its model_args are no settings")
    if isinstance(tree, dict):
        tree = next((tree[name] for name in INNER if isinstance(tree.get(name), STATES)), tree)
    if isinstance(tree, serialize.Stub):
        tree = serialize.module_state(tree)
    return of_state(path, tree, args, changes)


STATES = (dict, serialize.Stub)


def of_state(path: Path, state: Any, args: Mapping[str, Any], changes: Mapping[str, Any]) -> Source:
    """A source of a state_dict and, where there are some, nanoGPT's model_args."""
    weights: dict[str, Weight] = {}
    for key, array in state.items() if isinstance(state, dict) else ():
        if isinstance(key, str) and isinstance(array, np.ndarray):
            name = key
            for wrapper in WRAPPERS:
                name = name.removeprefix(wrapper)
            name = name.removeprefix("transformer.")
            if not BUFFERS.fullmatch(name):
                weights[name] = Weight(array, f"{path}: {key}")
    if "token_embedding_table.weight" in weights:
        return course(path, weights, changes)
    if "wte.weight" in weights:
        return nanogpt(path, weights, args, changes)
    some = ", ".join(list(weights)[:3])
    raise PretrainedError(f"{path}: is no GPT known here: it has "
                          + (f"weights such as {some}" if some else "no weights"))  # fmt: skip


def nanogpt(
    path: Path, weights: dict[str, Weight], args: Mapping[str, Any], changes: Mapping[str, Any]
) -> Source:
    """GPT-2's names; what the settings do not say, the shapes do, but for the number of heads."""
    C = shape_of(weights, "wte.weight", path)[1]
    if shape_of(weights, "h.0.attn.c_attn.weight", path) == (C, 3 * C):  # Conv1D after all
        weights = huggingface.named(weights)
    said = {name: args[name] for name in ("n_head", "dropout", "bias") if name in args}
    values = {
        "vocab_size": shape_of(weights, "wte.weight", path)[0],
        "block_size": shape_of(weights, "wpe.weight", path)[0],
        "n_layer": count_of(weights, r"h\.(\d{1,9})\."),
        "n_embd": C,
        "bias": "h.0.attn.c_attn.bias" in weights,
        "head_bias": "lm_head.bias" in weights,
        "activation": "gelu",  # nanoGPT's, unlike GPT-2's
        "tie_weights": is_tied(weights),
        **said,
        **changes,
    }
    if "n_head" not in values:
        raise PretrainedError(f"{path}: does not say how many heads it has: add --n-head N")
    if values["tie_weights"]:
        weights.pop("lm_head.weight", None)
    return Source(path, "a file with GPT-2's names", make_config(values, str(path)), weights)


def course(path: Path, weights: dict[str, Weight], changes: Mapping[str, Any]) -> Source:
    """GPTLanguageModel: heads one by one become c_attn, whose bias they do not have: zeros."""
    n_layer, n_head = count_of(weights, r"blocks\.(\d{1,9})\."), count_of(weights, HEAD)
    vocab_size, n_embd = shape_of(weights, "token_embedding_table.weight", path)
    if not n_layer or not n_head:
        raise PretrainedError(f"{path}: has token_embedding_table but no blocks: a bigram model?")
    found: dict[str, Weight] = {}

    def take(ours: str, theirs: str) -> None:
        for part in ("weight", "bias"):
            if (weight := weights.pop(f"{theirs}.{part}", None)) is not None:
                found[f"{ours}.{part}"] = weight

    for i in range(n_layer):
        ours, theirs = f"h.{i}", f"blocks.{i}"
        rows = [  # all queries, then all keys, then all values
            taken(weights, f"{theirs}.sa.heads.{head}.{kind}.weight", path)
            for kind in ("query", "key", "value") for head in range(n_head)
        ]  # fmt: skip
        if {array.shape for array in rows} != {(n_embd // n_head, n_embd)}:
            raise PretrainedError(f"{path}: {theirs}.sa.heads: are not {n_head} of equal width "
                                  f"{n_embd} / {n_head}")  # fmt: skip
        where = f"{path}: {theirs}.sa.heads"
        found[f"{ours}.attn.c_attn.weight"] = Weight(np.concatenate(rows), where)
        found[f"{ours}.attn.c_attn.bias"] = Weight(np.zeros(3 * n_embd, np.float32), where)
        take(f"{ours}.attn.c_proj", f"{theirs}.sa.proj")
        take(f"{ours}.mlp.c_fc", f"{theirs}.ffwd.net.0")
        take(f"{ours}.mlp.c_proj", f"{theirs}.ffwd.net.2")
        take(f"{ours}.ln_1", f"{theirs}.ln1")
        take(f"{ours}.ln_2", f"{theirs}.ln2")
    take("wte", "token_embedding_table")
    take("wpe", "position_embedding_table")
    take("ln_f", "ln_f")
    take("lm_head", "lm_head")
    values = {
        "vocab_size": vocab_size, "block_size": shape_of(found, "wpe.weight", path)[0],
        "n_layer": n_layer, "n_head": n_head, "n_embd": n_embd, "norm_position": "post",
        "activation": "relu", "tie_weights": False, "head_bias": "lm_head.bias" in found, **changes,
    }  # fmt: skip
    return Source(path, "a model of the course", make_config(values, str(path)), found | weights)


def shape_of(weights: Mapping[str, Weight], name: str, path: Path) -> tuple[int, ...]:
    """Of a matrix that must be there."""
    if name not in weights:
        raise PretrainedError(f"{path}: lacks {name}")
    if len(weights[name].array.shape) != 2:
        raise PretrainedError(f"{weights[name].where}: is no matrix")
    return weights[name].array.shape


def taken(weights: dict[str, Weight], name: str, path: Path) -> np.ndarray:
    shape_of(weights, name, path)
    return serialize.widen(weights.pop(name).array)


def count_of(weights: Mapping[str, Weight], pattern: str | re.Pattern) -> int:
    """How many numbers occur at one place of the names: blocks, or heads."""
    return len({m[1] for name in weights if (m := re.match(pattern, name))})


# ------------------------------------------------------------------------------ OpenAI's own


def open_openai(folder: Path, changes: Mapping[str, Any]) -> Source:
    """The folder that OpenAI's download_model.py fills."""
    path = folder / "hparams.json"
    stored = huggingface.read_json(path)
    names = {"n_vocab": "vocab_size", "n_ctx": "block_size", "n_embd": "n_embd",
             "n_head": "n_head", "n_layer": "n_layer"}  # fmt: skip
    if lost := names.keys() - stored.keys():
        raise PretrainedError(f"{path}: lacks {', '.join(sorted(lost))}")
    config = make_config({**{o: stored[t] for t, o in names.items()}, **changes}, str(path))
    indices = sorted(folder.glob("*.index"))
    if len(indices) != 1:
        raise PretrainedError(f"{folder}: has {len(indices)} files *.index, and one is wanted")
    prefix = indices[0].with_suffix("")
    weights = {}
    for key, array in serialize.load_tensorflow(prefix).items():
        name = openai_name(key)
        conv = name.endswith(".weight") and array.ndim == 3 and array.shape[0] == 1
        weights[name] = Weight(array[0] if conv else array, f"{prefix}: {key}", turned=conv)
    return Source(folder, "OpenAI's TensorFlow checkpoint", config, weights,
                  folder_tokenizer(folder, config))  # fmt: skip


def openai_name(key: str) -> str:
    """model/h0/attn/c_attn/w -> h.0.attn.c_attn.weight"""
    name = re.sub(r"^h(\d+)/", r"h.\1/", key.removeprefix("model/"))
    name = re.sub(r"/[wg]$", "/weight", re.sub(r"/b$", "/bias", name)).replace("/", ".")
    return f"{name}.weight" if name in ("wte", "wpe") else name
