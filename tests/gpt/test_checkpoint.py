"""Checkpoints: what is saved comes back; what is damaged is named; a crash harms nothing."""

import json
import os
from mmap import mmap
from types import SimpleNamespace as Namespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gpt import checkpoint as c
from gpt.config import Config, GPTConfig
from gpt.errors import UserError
from gpt.tokenizers import CharTokenizer


def tensor(array: np.ndarray) -> Namespace:
    return Namespace(numpy=lambda force=False: array)


WEIGHTS = {"wte.weight": np.arange(12, dtype=np.float32).reshape(4, 3).T, "ln_f.bias": np.ones(3)}
CONFIG = Config(gpt=GPTConfig(vocab_size=4, block_size=1, n_layer=1, n_head=1, n_embd=3))
MOMENTS = {
    "state": {0: {"step": 7, "exp_avg": tensor(WEIGHTS["wte.weight"] * 2)}, 1: {"step": 7}},
    "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.99), "params": [0, 1]}],
}


def save(folder, step=7, **more):
    model = Namespace(state_dict=lambda: {name: tensor(w) for name, w in WEIGHTS.items()})
    optimizer = Namespace(state_dict=lambda: MOMENTS)
    (folder / "checkpoints").mkdir(exist_ok=True)
    return c.save(folder / "checkpoints", step, model, optimizer, CharTokenizer.train("abc\n"),
                  CONFIG, **more)  # fmt: skip


def test_everything_comes_back(tmp_path):
    path = save(tmp_path, note="kept")
    saved = c.Checkpoint.find(tmp_path)
    assert (saved.path, saved.step, saved.config) == (path, 7, CONFIG)
    assert saved.state["note"] == "kept"
    assert saved.tokenizer.decode(saved.tokenizer.encode("cab")) == "cab"
    weights = saved.weights()
    assert weights.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(weights[name], array, strict=True)
    state = saved.optimizer_state()
    assert state["param_groups"] == [{"lr": 1e-3, "betas": [0.9, 0.99], "params": [0, 1]}]
    np.testing.assert_array_equal(state["state"][0]["exp_avg"], WEIGHTS["wte.weight"] * 2)
    assert state["state"][1] == {"step": 7}


def test_the_last_step_is_found_by_number(tmp_path):
    for step in (9, 1_000_000, 999_999):
        save(tmp_path, step)
    (tmp_path / "checkpoints" / ".unfinished-2000000").mkdir()
    assert c.Checkpoint.find(tmp_path).step == 1_000_000
    assert c.Checkpoint.find(tmp_path / "checkpoints" / "000009").step == 9


def test_saving_a_step_twice_keeps_the_first(tmp_path):
    path = save(tmp_path, note=1)
    assert save(tmp_path, note=2) == path
    assert c.Checkpoint(path).state["note"] == 1


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_write_that_fails_leaves_nothing_half(tmp_path, monkeypatch, call):
    save(tmp_path, 1)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if call == "fsync" else (c.Path, "rename")), full)
        with pytest.raises(UserError, match="000002 could not be written: No space left"):
            save(tmp_path, 2)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["000001"]
    assert c.Checkpoint.find(tmp_path).weights()


def test_what_a_killed_run_left_is_swept_away(tmp_path):
    save(tmp_path, 1)
    leftover = tmp_path / "checkpoints" / ".unfinished-000002"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    save(tmp_path, 2)
    assert sorted(p.name for p in leftover.parent.iterdir()) == ["000001", "000002"]


@pytest.mark.parametrize("name", [c.WEIGHTS, c.OPTIMIZER])
@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:-1] + b"\x00\x01", lambda b: b"", lambda b: None]
)
def test_damaged_arrays_are_named(tmp_path, name, damage):
    path = save(tmp_path)
    data = damage((path / name).read_bytes())
    (path / name).unlink()
    if data is not None:
        (path / name).write_bytes(data)
    saved = c.Checkpoint.find(tmp_path)
    with pytest.raises(c.CheckpointError, match=name):
        saved.weights() if name == c.WEIGHTS else saved.optimizer_state()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"version": 99}, "version 99.*newer"),
        ({"version": 1}, "version 1.*older"),
        ({"version": "1"}, "no valid 'version'"),
        ({"step": None}, "no valid 'step'"),
        ({"config": []}, "no valid 'config'"),
        ({"sha256": {}}, "model.safetensors: is damaged"),
        ({"config": {"gpt": {"n_layers": 3}}}, "unknown setting gpt.n_layers"),
        ({"config": {"optim": {"lr": -1}}}, "lr = -1.0: must be above 0"),
        ({"tokenizer_hash": "0"}, "tokenizer is not the one saved"),
        ({"tokenizer": {"type": "bpe9"}}, "tokenizer type 'bpe9' is unknown"),
        ({"config": {"gpt": {"n_layer": 10**9}}}, "describes a model of .* weights or more"),
        ({"config": {"model": "bigram", "gpt": {"vocab_size": 3}}}, "is not this model's.* 4 .* 3"),
        ({"tokenizer": {"type": "char", "chars": [1]}}, "chars"),
        ({"optimizer": {"array": "nowhere"}}, "lacks 'nowhere'"),
        ({"optimizer": {"array": ["nowhere"]}}, "lacks"),
    ],
)
def test_a_wrong_state_is_named(tmp_path, change, words):
    path = save(tmp_path) / c.STATE
    path.write_bytes(c.sealed(c.Checkpoint.find(tmp_path).state | change))
    with pytest.raises(UserError, match=words):
        saved = c.Checkpoint.find(tmp_path)
        saved.config, saved.tokenizer, saved.weights(), saved.optimizer_state()  # noqa: B018


def test_one_changed_digit_is_found(tmp_path):
    path = save(tmp_path, note=12345) / c.STATE
    path.write_text(path.read_text().replace("12345", "12346"))
    with pytest.raises(c.CheckpointError, match="its sha256 is not the one it ends with"):
        c.Checkpoint.find(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path, monkeypatch, bad):
    monkeypatch.setitem(WEIGHTS, "ln_f.bias", np.array([1, bad]))
    with pytest.raises(c.CheckpointError, match="step 7 is not saved.*ln_f.bias"):
        save(tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())
    saved = c.Checkpoint(save(tmp_path, finite=False))
    with pytest.raises(c.CheckpointError, match="ln_f.bias has values that are not finite"):
        saved.weights()
    np.testing.assert_array_equal(saved.weights(finite=False)["ln_f.bias"], [1, bad])


def test_weights_are_mapped_not_copied(tmp_path):
    weights = c.Checkpoint(save(tmp_path)).weights()
    for array in weights.values():
        assert not array.flags.writeable
        while isinstance(array, np.ndarray):
            array = array.base
        assert isinstance(array if isinstance(array, mmap) else array.obj, mmap)


@pytest.mark.parametrize("step", ["rename", "rmtree"])
def test_pruning_is_whole_or_not_at_all(tmp_path, monkeypatch, step):
    for n in range(1, 6):
        save(tmp_path, n)
    folder = tmp_path / "checkpoints"
    c.prune(folder, 2, {1: 3.0, 2: 1.0, 3: 1.5, 9: 0.5})
    assert c.saved_steps(folder) == [2, 4, 5]

    def crash(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr({"rename": c.Path, "rmtree": c.durable.shutil}[step], step, crash)
        with pytest.raises(KeyboardInterrupt):
            c.prune(folder, 1, {})
    for n in c.saved_steps(folder):
        c.Checkpoint(folder / f"{n:06d}").weights()
    save(tmp_path, 6)
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_state_that_is_no_json_is_named(tmp_path, text):
    path = save(tmp_path) / c.STATE
    path.write_bytes(text)
    with pytest.raises(c.CheckpointError, match="state.json: is damaged"):
        c.Checkpoint.find(tmp_path)


def test_folders_that_are_no_runs_are_named(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "new" / "checkpoints").mkdir(parents=True)
    for name, words in {"otter": "no such folder.*other", "other": "neither a run",
                        "new": "saved no checkpoint yet"}.items():  # fmt: skip
        with pytest.raises(c.CheckpointError, match=words):
            c.Checkpoint.find(tmp_path / name)


arrays = hnp.arrays(st.sampled_from([np.float32, np.int64, np.uint8]),
                    hnp.array_shapes(min_dims=0, min_side=0, max_side=3))  # fmt: skip
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | arrays
keys = st.integers(0, 99) | st.text("abc_", min_size=1)
trees = st.recursive(leaves, lambda t: st.lists(t, max_size=3)
                     | st.dictionaries(keys, t, max_size=3), max_leaves=8)  # fmt: skip


@given(trees)
def test_any_state_dict_survives_packing(tree):
    def tensors(node):
        if isinstance(node, dict):
            return {k: tensors(v) for k, v in node.items()}
        if isinstance(node, list):
            return [tensors(v) for v in node]
        return tensor(node) if isinstance(node, np.ndarray) else node

    packed, rest = c.pack(tensors(tree))
    np.testing.assert_equal(c.unpack(packed, json.loads(json.dumps(rest))), tree)
