"""GPT-2 as Hugging Face's `transformers` keeps it: a folder, read and written.

    config.json                  the architecture; see `to_config` for what we can express
    model.safetensors            weights, or model-00001-of-00002.safetensors, ... and
                                 model.safetensors.index.json; older ones: pytorch_model.bin
    vocab.json, merges.txt       the tokenizer

Its names are ours behind an optional `transformer.`. Its Conv1D keeps (in, out) where Linear keeps
(out, in). Buffers (`attn.bias`, `attn.masked_bias`: the causal mask) are not weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tinytensor as tt
from tinytensor import serialize
from tinytensor.serialize.files import whole_file

from .config import GPTConfig
from .pretrained import PretrainedError, Source, Weight, folder_tokenizer, is_tied, make_config

CONV1D = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")
BUFFERS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu",
               "relu": "relu"}  # fmt: skip
SETTINGS = {"vocab_size": "vocab_size", "n_positions": "block_size", "n_layer": "n_layer",
            "n_head": "n_head", "n_embd": "n_embd", "layer_norm_epsilon": "norm_eps",
            "initializer_range": "init_std"}  # fmt: skip
DEFAULTS = {"vocab_size": 50257, "n_positions": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768,
            "layer_norm_epsilon": 1e-5, "initializer_range": 0.02,
            "activation_function": "gelu_new"}  # fmt: skip
# what a GPT of ours does in one way only
FIXED = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
         "reorder_and_upcast_attn": False, "add_cross_attention": False}  # fmt: skip
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
STEMS = (("model", "safetensors"), ("pytorch_model", "bin"))
FILES = {name for stem, suffix in STEMS for name in (f"{stem}.{suffix}",
                                                    f"{stem}.{suffix}.index.json")}  # fmt: skip
LARGEST_JSON = 100_000_000  # bytes


# ------------------------------------------------------------------------------ reading


def open_folder(folder: Path, changes: Mapping[str, Any]) -> Source:
    path = folder / "config.json"
    stored = read_json(path)
    values = {**to_config(stored, path), **changes}
    weights = named(read_weights(folder))
    tied = stored.get("tie_word_embeddings", True) is not False and is_tied(weights)
    if tied:  # as transformers does: two matrices that differ are two, whatever the config says
        weights.pop("lm_head.weight", None)
    config = make_config({**values, "tie_weights": tied}, str(path))
    return Source(folder, "a Hugging Face folder", config, weights,
                  folder_tokenizer(folder, config))  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise PretrainedError(f"{path}: is larger than any such file")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise PretrainedError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise PretrainedError(f"{path}: is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise PretrainedError(f"{path}: is not a JSON object")
    return value


def to_config(stored: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings of our GPT, or an error for each that it does not have."""
    problems = []
    kind = stored.get("model_type", "gpt2")
    if kind != "gpt2":
        raise PretrainedError(f"{path}: model_type is {kind!r}, and only 'gpt2' is known here")
    for name, value in FIXED.items():
        if stored.get(name, value) is not value:
            problems.append(f"{name} = {stored[name]!r}: this GPT has {value} only")
    n_embd, n_inner = stored.get("n_embd", DEFAULTS["n_embd"]), stored.get("n_inner")
    if n_inner is not None and n_inner != 4 * n_embd:
        problems.append(f"n_inner = {n_inner!r}: this GPT's MLP is 4 n_embd = {4 * n_embd} wide")
    activation = stored.get("activation_function", DEFAULTS["activation_function"])
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        problems.append(f"activation_function = {activation!r}: this GPT has {known}")
    if problems:
        raise PretrainedError("\n".join(f"{path}: {problem}" for problem in problems))
    values = {ours: stored.get(name, DEFAULTS[name]) for name, ours in SETTINGS.items()}
    # of three dropouts we have one; it is the residual stream's that regularises most
    dropout = stored.get("resid_pdrop", 0.1)
    return {**values, "activation": ACTIVATIONS[activation], "dropout": dropout}


def read_weights(folder: Path) -> dict[str, Weight]:
    """All arrays of the folder by their names in it, from one file or several."""
    for stem, suffix in STEMS:
        whole, index = folder / f"{stem}.{suffix}", folder / f"{stem}.{suffix}.index.json"
        if whole.exists():
            return read_file(whole)
        if index.exists():
            return read_shards(folder, index)
    raise PretrainedError(f"{folder}: has no weights: neither model.safetensors nor "
                          "pytorch_model.bin, nor an index of either")  # fmt: skip


def read_shards(folder: Path, index: Path) -> dict[str, Weight]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(f, str) for f in places.values()):
        raise PretrainedError(f"{index}: has no weight_map of names to files")
    found: dict[str, Weight] = {}
    for file in sorted(set(places.values())):
        if Path(file).name != file:
            raise PretrainedError(f"{index}: refuses {file!r}: not a file of this folder")
        shard = read_file(folder / file)
        for name, weight in shard.items():
            if places.get(name) != file:
                raise PretrainedError(f"{weight.where}: is not what {index.name} says of this file")
            found[name] = weight
    if lost := sorted(places.keys() - found.keys()):
        raise PretrainedError(f"{folder / places[lost[0]]}: lacks {lost[0]}, which {index.name} "
                              "says it has")  # fmt: skip
    return found


def read_file(path: Path) -> dict[str, Weight]:
    """A state_dict in one file: safetensors, or torch's."""
    if path.suffix == ".safetensors":
        arrays: Any = serialize.load_safetensors(path)
    else:
        arrays = serialize.load_torch(path)
    if not isinstance(arrays, dict):
        raise PretrainedError(f"{path}: holds no dict of arrays by name")
    for name, array in arrays.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            raise PretrainedError(f"{path}: {str(name)[:80]}: is no array with a name")
    return {name: Weight(array, f"{path}: {name}") for name, array in arrays.items()}


def named(weights: Mapping[str, Weight]) -> dict[str, Weight]:
    """By our names, without buffers, Conv1D's matrices marked as turned."""
    found: dict[str, Weight] = {}
    for key, weight in weights.items():
        name = key.removeprefix("transformer.")
        if BUFFERS.fullmatch(name):
            continue
        if name in found:
            raise PretrainedError(f"{weight.where}: is there twice, with and without transformer.")
        found[name] = weight._replace(turned=bool(CONV1D.fullmatch(name)))
    return found


# ------------------------------------------------------------------------------ writing


def save_pretrained(
    model: Any, folder: str | Path, tokenizer: Any = None, dtype: str = "float32"
) -> None:
    """Write a folder that `GPT2LMHeadModel.from_pretrained` and `GPT.from_pretrained` load.

    dtype   of the stored weights: float32, float16 or bfloat16
    raises  PretrainedError where GPT-2 is not able to say what the model is
    """
    config: GPTConfig = model.config
    if config.norm_position != "pre" or config.head_bias:
        what = "LayerNorm after each sublayer" if config.norm_position != "pre" else "a head bias"
        raise PretrainedError(f"{folder}: GPT-2 does not have {what}, so this model cannot be one")
    folder = Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PretrainedError(f"{folder}: {error.strerror}; choose another folder") from None
    stored = from_config(config, tokenizer, dtype)
    generation = {"_from_model_config": True, "bos_token_id": stored["bos_token_id"],
                  "eos_token_id": stored["eos_token_id"]}  # fmt: skip
    serialize.save_safetensors(
        folder / "model.safetensors", foreign_names(model), {"format": "pt"}, dtype
    )
    if tokenizer is not None and tokenizer.type == "bpe":
        write_bpe(tokenizer, folder)
    write_json(folder / "generation_config.json", generation)
    write_json(folder / "config.json", stored)


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    with whole_file(path) as file:
        file.write((json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode())


def from_config(config: GPTConfig, tokenizer: Any, dtype: str) -> dict[str, Any]:
    end = getattr(tokenizer, "end_of_text", None)
    if end is None and config.vocab_size == 50257:  # GPT-2's own vocabulary
        end = 50256
    activation = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation)
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{name: getattr(config, ours) for name, ours in SETTINGS.items()},
        "n_ctx": config.block_size,
        "n_inner": None,
        "activation_function": activation,
        **dict.fromkeys(DROPOUTS, config.dropout),
        **FIXED,
        "tie_word_embeddings": config.tie_weights,
        "bos_token_id": end,
        "eos_token_id": end,
        "dtype": dtype,
        "torch_dtype": dtype,  # what transformers before 5 called it
        "use_cache": True,
    }


def foreign_names(model: Any) -> dict[str, Any]:
    """GPT-2's names and layout: views of the model's weights; biases it lacks are zeros."""
    found: dict[str, Any] = {}
    for name, p in model.named_parameters():  # a tied head comes once, as wte
        p = p.detach()
        prefix = "" if name.startswith("lm_head") else "transformer."
        found[prefix + name] = p.T if CONV1D.fullmatch(name) else p
        if not model.config.bias and name.endswith(".weight") and not EMBEDDING.fullmatch(name):
            found[f"{prefix}{name.removesuffix('weight')}bias"] = tt.zeros(p.shape[0])
    return found


EMBEDDING = re.compile(r"(wte|wpe|lm_head)\.weight")


def write_bpe(tokenizer: Any, folder: Path) -> None:
    """vocab.json and merges.txt, bytes in the printable characters that GPT-2 gives them."""
    from .tokenizers.alphabet import to_printable

    ids = {to_printable(token): i for token, i in tokenizer.ids.items()} | tokenizer.special_tokens
    merges = [" ".join(map(to_printable, pair)) for pair in tokenizer.merges]
    write_json(folder / "vocab.json", dict(sorted(ids.items(), key=lambda item: item[1])), None)
    with whole_file(folder / "merges.txt") as file:
        file.write("\n".join(["#version: 0.2", *merges, ""]).encode())
