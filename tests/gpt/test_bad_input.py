"""What a user, a disk or an attacker may hand to a command, and the sentence it is answered with.

Each case runs the command itself and must end with exit code 2, one sentence per problem on stderr
that names what is wrong, no traceback, and every file as it was. `python -m gpt.train --resume`
and `python -m gpt.generate` read the same damaged checkpoints. Nothing in them is ever executed.
"""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save
from tiny import TINY

from gpt.checkpoint import OPTIMIZER, STATE, WEIGHTS, Checkpoint, sealed
from gpt.checkpoint import digest as sha256

# ------------------------------------------------------------------------------ flags

FLAGS = [
    ("--lr 0", "--lr 0.0: must be above 0"),
    ("--lr -1e-3", "--lr -0.001: must be above 0"),
    ("--lr nan", "--lr nan: must be finite"),
    ("--lr inf", "--lr inf: must be finite"),
    ("--lr 1e400", "--lr inf: must be finite"),
    ("--lr fast", "--lr fast: must be a number"),
    ("--lr", "--lr: needs a value"),
    ("--min-lr -1", "--min-lr -1.0: must be at least 0"),
    ("--min-lr 1", "--min-lr 1.0: must not exceed lr"),
    ("--min-lr nan", "--min-lr nan: must be finite"),
    ("--n-head 3", "--n-head 3: must divide n_embd = 16"),
    ("--n-head 0", "--n-head 0: must be at least 1"),
    ("--n-head 2.0", "--n-head 2.0: must be a whole number"),
    ("--n-embd 15", "must divide n_embd = 15"),
    ("--n-embd -16", "--n-embd -16: must be at least 1"),
    ("--n-layer 0", "--n-layer 0: must be at least 1"),
    ("--n-layer 1e3", "--n-layer 1e3: must be a whole number"),
    ("--n-layers 3", "unknown flag --n-layers; did you mean '--n-layer'?"),
    ("--block-size 0", "--block-size 0: must be at least 1"),
    ("--block-size 100000", "--block-size 100000 needs at least 100,001"),
    ("--block-size 1000", "the validation text has"),
    ("--batch-size 0", "--batch-size 0: must be at least 1"),
    ("--dropout 1", "--dropout 1.0: must be below 1"),
    ("--dropout -0.1", "--dropout -0.1: must be at least 0"),
    ("--init-std 0", "--init-std 0.0: must be above 0"),
    ("--activation swish", "--activation swish: must be one of gelu_tanh, gelu, relu"),
    ("--norm-position middle", "--norm-position middle: must be one of pre, post"),
    ("--model llama", "--model llama: must be one of gpt, bigram"),
    ("--preset nano", "--preset nano: there is no such preset"),
    ("--preset ../train", "--preset ../train: there is no such preset"),
    ("--max-steps 0", "--max-steps 0: must be at least 1"),
    ("--max-steps ten", "--max-steps ten: must be a whole number"),
    ("--warmup-steps 13", "--warmup-steps 13: must not exceed max_steps = 12"),
    ("--warmup-steps -1", "--warmup-steps -1: must be at least 0"),
    ("--decay-steps 2", "--decay-steps 2: must not be below warmup_steps = 3"),
    ("--beta1 1", "--beta1 1.0: must be below 1"),
    ("--beta2 -0.5", "--beta2 -0.5: must be at least 0"),
    ("--weight-decay -1", "--weight-decay -1.0: must be at least 0"),
    ("--grad-clip -1", "--grad-clip -1.0: must be at least 0"),
    ("--grad-accum 0", "--grad-accum 0: must be at least 1"),
    ("--skip-spikes -3", "--skip-spikes -3.0: must be at least 0"),
    ("--max-skipped -1", "--max-skipped -1: must be at least 0"),
    ("--patience -1", "--patience -1: must be at least 0"),
    ("--keep -1", "--keep -1: must be at least 0"),
    ("--seed -1", "--seed -1: must be at least 0"),
    ("--seed 18446744073709551616", "--seed 18446744073709551616: must be below"),
    ("--device gpu", "--device gpu: must be cpu, cuda, cuda:N or auto"),
    ("--device cuda:99", "cuda"),
    ("--device cpu:1", "--device cpu:1: must be cpu, cuda"),
    ("--log-to mlflow", "--log-to mlflow: must be tensorboard, wandb"),
    ("--schedule linear", "--schedule linear: must be one of cosine, constant"),
    ("--tokenizer bpee", "bpee is no tokenizer, file or folder; did you mean 'bpe'?"),
    ("--tokenizer bpe", "--tokenizer bpe: needs --vocab-size"),
    ("--tokenizer bpe --vocab-size 100", "vocab_size is 100"),
    ("--tokenizer word --vocab-size 9", "vocab_size is 9"),
    ("--vocab-size 0", "--vocab-size 0: must be at least 1"),
    ("--val-fraction 1", "--val-fraction 1.0: must be below 1"),
    ("--val-fraction 0", "--val-fraction 0.0: must be above 0"),
    ("--val-fraction 1e-9", "the validation text has 1 tokens"),
    ("--n-chars 1", "--n-chars is 1: at least 2"),
    ("--eval-batches 0", "--eval-batches 0: must be at least 1"),
    ("--config nowhere.toml", "--config nowhere.toml: No such file"),
    ("stray", "unexpected argument 'stray'"),
    ("--lr=x --n-head=x --seed=x", "--seed x: must be a whole number"),
]


def refused(answer, words: str, problems: int | None = None) -> None:
    assert answer.code == 2, answer
    lines = answer.err.splitlines()
    assert words in answer.err and "Traceback" not in answer.err, answer.err
    assert lines and all(line.startswith("error: ") for line in lines), answer.err
    assert problems is None or len(lines) == problems, answer.err


@pytest.mark.parametrize("argv, words", FLAGS, ids=[argv for argv, _ in FLAGS])
def test_a_wrong_flag(train, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    refused(train("--out", "run", *argv.split(" ")), words)
    assert not list(tmp_path.iterdir())


def test_more_than_there_is_memory_for(train, tmp_path):
    """Found out when it is asked for: the run's folder is there by then."""
    refused(train("--out", tmp_path / "r", "--batch-size", "999999999999"), "lower --batch-size")


def test_all_problems_come_at_once(train, tmp_path):
    answer = train("--out", tmp_path / "r", *"--lr -1 --n-head 3 --seed x --foo 1 bar".split())
    refused(answer, "--foo", problems=5)


OUTS = [
    ("a file", lambda d: (d / "f").write_text("mine") and d / "f", "is a file"),
    ("below a file", lambda d: (d / "f").write_text("mine") and d / "f" / "run", "Not a directory"),
    ("not empty", lambda d: (d / "f").write_text("mine") and d, "is not empty"),
    ("where nothing can be written", lambda d: Path("/proc/run"), "/proc"),
    ("too long a name", lambda d: d / ("n" * 300), "File name too long"),
    ("a NUL", lambda d: f"{d}/a\0b", "NUL"),
]


@pytest.mark.parametrize("make, words", [c[1:] for c in OUTS], ids=[c[0] for c in OUTS])
def test_a_folder_that_cannot_be_written(train, tmp_path, make, words):
    out = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    refused(train("--out", out), words, problems=1)
    assert sorted(tmp_path.rglob("*")) == before


# ------------------------------------------------------------------------------ settings files

TOMLS = [
    ("n_layers = 3", "unknown setting n_layers; did you mean 'n_layer'?"),
    ("[optimm]\nlr = 1.0", "unknown table [optimm]; did you mean 'optim'?"),
    ("[optim]\nn_layer = 3", "unknown setting optim.n_layer"),
    ("lr = = 1", "not TOML"),
    ("lr = 1\nlr = 2", "not TOML"),
    ("\0", "not TOML"),
    (b"\xff\xfe", "not TOML"),
    ("n_layer = true", "n_layer = True: must be a whole number"),
    ("n_layer = 2.5", "n_layer = 2.5: must be a whole number"),
    ("bias = 1", "bias = 1: must be true or false"),
    ("lr = [1]", "must be a number"),
    ("lr = nan", "lr = nan: must be finite"),
    ("out = 3", "out = 3: must be text"),
    ('preset = "none"', "none: there is no such preset"),
    ('data = "a\\u0000b"', "is neither a corpus nor a file"),
]


@pytest.mark.parametrize("text, words", TOMLS, ids=[repr(t) for t, _ in TOMLS])
def test_a_wrong_settings_file(run, tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "c.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    data = [] if "data" in str(text) else ["--data", "nowhere.txt"]  # in case it is accepted
    refused(run("gpt.train", "--config", file, *data), words)
    assert list(tmp_path.iterdir()) == [file]


# ------------------------------------------------------------------------------ data

TEXTS = [
    ("nothing", b"", "is empty"),
    ("one character", b"a", "characters leave"),
    ("two", b"ab", "tokens, but --block-size 16"),
    ("spaces alone, short", b" " * 20, "--block-size 16"),
    ("Latin-1", b"caf\xe9 " * 99, "UTF-8"),
    ("a cut character", "é".encode()[:1] * 2, "UTF-8"),
    ("UTF-16", "text ".encode("utf-16") * 99, "UTF-16"),
    ("binary", bytes(range(256)) * 9, ""),
    ("a zip", b"PK\x03\x04" + b"\0" * 99, ""),
    ("a pickle", pickle.dumps({"a": list(range(99))}), ""),
]


@pytest.mark.parametrize("data, words", [c[1:] for c in TEXTS], ids=[c[0] for c in TEXTS])
def test_a_text_that_cannot_be_learned_from(run, tmp_path, data, words):
    file = tmp_path / "t.txt"
    file.write_bytes(data)
    answer = run("gpt.train", *TINY, "--data", file, "--out", tmp_path / "run")
    refused(answer, words, problems=1)
    assert list(tmp_path.iterdir()) == [file]


FOLDERS = [
    ("empty", {}, "is a folder"),
    ("a manifest that is no JSON", {"manifest.json": "{"}, "manifest.json is damaged"),
    ("a manifest that is a list", {"manifest.json": "[]"}, "is not an object"),
    ("a manifest of nothing", {"manifest.json": "{}"}, "has no version"),
    ("a newer manifest", {"manifest.json": '{"version": 99}'}, "newer"),
    ("a manifest without sides", {"manifest.json": '{"version": 1}'}, "manifest.json is damaged"),
    ("unfinished", {"unfinished.json": "{}"}, "is unfinished"),
]


@pytest.mark.parametrize("files, words", [c[1:] for c in FOLDERS], ids=[c[0] for c in FOLDERS])
def test_a_folder_that_is_no_prepared_corpus(run, tmp_path, files, words):
    folder = tmp_path / "prepared"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    answer = run("gpt.train", *TINY, "--data", folder, "--out", tmp_path / "run")
    refused(answer, words, problems=1)
    assert list(tmp_path.iterdir()) == [folder]


# ------------------------------------------------------------------------------ checkpoints


@pytest.fixture(scope="module")
def good(repo, cats, tmp_path_factory):
    """A run to damage copies of."""
    out = tmp_path_factory.mktemp("good") / "run"
    argv = [*TINY, "--max-steps", "4", "--data", cats, "--out", str(out)]
    subprocess.run([sys.executable, "-m", "gpt.train", *argv], cwd=repo, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return out


def raw(name, change):
    """Damage one file's bytes, and leave the checksums."""

    def damage(path: Path) -> None:
        file = path / name
        data = change(file.read_bytes())
        file.unlink()
        if data is not None:
            file.write_bytes(data)

    return damage


def forged(**changes):
    """Change state.json and seal it again, as one who means harm would."""

    def damage(path: Path) -> None:
        state = Checkpoint(path).state
        for name, value in changes.items():
            state[name] = value(state[name]) if callable(value) else value
        (path / STATE).write_bytes(sealed(state))

    return damage


def arrays(name, change):
    """Change the arrays of a file, and every checksum with it."""

    def damage(path: Path) -> None:
        found = change(load_file(path / name))
        (path / name).write_bytes(found if isinstance(found, bytes) else save(found))
        forged(sha256=lambda old: old | {name: sha256(path / name)})(path)

    return damage


def one(key, value):
    """A dict with one entry changed."""
    return lambda old: old | {key: value(old[key]) if callable(value) else value}


class Attack:
    """Unpickled, it would leave a file behind."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/executed-by-a-checkpoint",)


ATTN, WTE = "h.0.attn.c_attn.weight", "wte.weight"
HUGE_HEADER = (2**62).to_bytes(8, "little") + b"{}"
OVERLAP = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                      "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}).encode()

DAMAGES = [
    # bytes that rot, are cut or are of something else
    ("weights missing", raw(WEIGHTS, lambda b: None), "model.safetensors: is missing"),
    ("weights empty", raw(WEIGHTS, lambda b: b""), "is damaged"),
    ("weights cut by a byte", raw(WEIGHTS, lambda b: b[:-1]), "is damaged"),
    ("weights cut in half", raw(WEIGHTS, lambda b: b[: len(b) // 2]), "is damaged"),
    ("weights with a byte more", raw(WEIGHTS, lambda b: b + b"\0"), "is damaged"),
    ("a bit of the weights", raw(WEIGHTS, lambda b: b[:-5] + bytes([b[-5] ^ 1]) + b[-4:]),
     "is damaged"),
    ("weights of zeros", raw(WEIGHTS, lambda b: b"\0" * len(b)), "is damaged"),
    ("state missing", raw(STATE, lambda b: None), "state.json"),
    ("state empty", raw(STATE, lambda b: b""), "state.json: is damaged"),
    ("state cut", raw(STATE, lambda b: b[: len(b) // 2]), "state.json: is damaged"),
    ("state a list", raw(STATE, lambda b: b"[]"), "state.json: is damaged"),
    ("state null", raw(STATE, lambda b: b"null"), "state.json: is damaged"),
    ("state not UTF-8", raw(STATE, lambda b: b"\xff" + b), "state.json: is damaged"),
    ("state nested deeply", raw(STATE, lambda b: b"[" * 99_999), "state.json: is damaged"),
    ("state with a changed digit", raw(STATE, lambda b: b.replace(b'"step": 4', b'"step": 5')),
     "sha256"),
    ("state a pickle", raw(STATE, lambda b: pickle.dumps(Attack())), "state.json: is damaged"),
    # forged with valid checksums: the settings
    ("a newer version", forged(version=99), "written by a newer one"),
    ("an older version", forged(version=1), "written by an older one"),
    ("version true", forged(version=True), "no valid 'version'"),
    ("step text", forged(step="4"), "no valid 'step'"),
    ("no config", forged(config=None), "no valid 'config'"),
    ("unknown setting", forged(config=one("gpt", one("n_layerz", 1))), "unknown setting gpt.n_lay"),
    ("heads that do not divide", forged(config=one("gpt", one("n_head", 3))), "must divide n_embd"),
    ("a width of text", forged(config=one("gpt", one("n_embd", "wide"))), "must be a whole numb"),
    ("a negative depth", forged(config=one("gpt", one("n_layer", -1))), "must be at least 1"),
    ("a depth of billions", forged(config=one("gpt", one("n_layer", 10**9))), "describes a model"),
    ("a width of billions", forged(config=one("gpt", one("n_embd", 2 * 10**9))), "describes a mod"),
    ("a block of billions", forged(config=one("gpt", one("block_size", 10**12))), "describes a m"),
    ("more layers than weights", forged(config=one("gpt", one("n_layer", 2))), "missing: h.1."),
    ("another width", forged(config=one("gpt", one("n_embd", 8))), "shape: "),
    ("another block size", forged(config=one("gpt", one("block_size", 8))), "wpe.weight"),
    ("another model", forged(config=one("model", "bigram")), "unexpected: "),
    ("dropout NaN", forged(config=one("gpt", one("dropout", float("nan")))), "must be finite"),
    # the tokenizer
    ("a tokenizer of another model", forged(
        tokenizer={"type": "byte"}, tokenizer_hash="0"), "state.json: "),
    ("a tokenizer with more tokens", forged(tokenizer=one("chars", lambda c: [*c, "z"])),
     "the tokenizer is not the one saved"),
    ("a tokenizer of no type", forged(tokenizer={}), "tokenizer type None is unknown"),
    ("a tokenizer of a listed type", forged(tokenizer=one("type", ["char"])), "is unknown"),
    ("a tokenizer of numbers", forged(tokenizer=one("chars", [1, 2])), "chars"),
    ("another hash", forged(tokenizer_hash="00"), "the tokenizer is not the one saved"),
    # forged: the arrays
    ("a pickle for weights", arrays(WEIGHTS, lambda a: pickle.dumps(Attack())), "safetensors"),
    ("a huge header", arrays(WEIGHTS, lambda a: HUGE_HEADER), "header would have"),
    ("a header that is no JSON", arrays(WEIGHTS, lambda a: b"\5\0\0\0\0\0\0\0{{{{{"), "header is"),
    ("arrays that overlap", arrays(WEIGHTS, lambda a: len(OVERLAP).to_bytes(8, "little") + OVERLAP
                                   + b"\0" * 12), "overlaps"),
    ("a transposed weight", arrays(WEIGHTS, one(ATTN, lambda w: np.ascontiguousarray(w.T))),
     f"shape: {ATTN} is (48, 16) here, (16, 48)"),
    ("all transposed", arrays(WEIGHTS, lambda a: {k: np.ascontiguousarray(v.T)
                                                  for k, v in a.items()}), "shape: "),
    ("a flat weight", arrays(WEIGHTS, one(ATTN, lambda w: w.reshape(-1))), f"shape: {ATTN}"),
    ("a weight too few", arrays(WEIGHTS, lambda a: {k: v for k, v in a.items() if k != ATTN}),
     f"missing: {ATTN}"),
    ("a weight too many", arrays(WEIGHTS, lambda a: a | {"evil": np.ones(3, np.float32)}),
     "unexpected: evil"),
    ("no weights", arrays(WEIGHTS, lambda a: {}), "missing: "),
    ("a NaN", arrays(WEIGHTS, one(WTE, lambda w: w * np.float32("nan"))),
     "wte.weight has values that are not finite"),
    ("an infinity", arrays(WEIGHTS, one(ATTN, lambda w: w + np.float32("inf"))), "not finite"),
    ("weights of integers", arrays(WEIGHTS, one(WTE, lambda w: w.astype(np.int64))),
     "wte.weight is int64"),
    ("weights of booleans", arrays(WEIGHTS, one(WTE, lambda w: w > 0)), "wte.weight is bool"),
    ("weights of halves", arrays(WEIGHTS, one(WTE, lambda w: w.astype(np.float16))),
     "wte.weight is float16, the model's is float32"),
    ("weights of doubles", arrays(WEIGHTS, one(WTE, lambda w: w.astype(np.float64))),
     "wte.weight is float64, the model's is float32"),
    ("the optimizer's arrays for weights", lambda p: (
        shutil.copy(p / OPTIMIZER, p / WEIGHTS), arrays(WEIGHTS, lambda a: a)(p)), "missing: "),
]  # fmt: skip

RESUMED = [  # what a resumed run needs, and generating does not
    ("optimizer missing", raw(OPTIMIZER, lambda b: None), "optimizer.safetensors: is missing"),
    ("optimizer cut", raw(OPTIMIZER, lambda b: b[:-9]), "optimizer.safetensors: is damaged"),
    ("a bit of the moments", raw(OPTIMIZER, lambda b: b[:-5] + bytes([b[-5] ^ 1]) + b[-4:]),
     "optimizer.safetensors: is damaged"),
    ("moments NaN", arrays(OPTIMIZER, lambda a: {k: v * np.float32("nan") for k, v in a.items()}),
     "not finite"),
    ("moments transposed", arrays(OPTIMIZER, lambda a: {k: np.ascontiguousarray(v.T)
                                                        for k, v in a.items()}), "the parameter"),
    ("moments missing", arrays(OPTIMIZER, lambda a: {}), "lacks"),
    ("no optimizer", forged(optimizer={}), "is not the state of this training"),
    ("groups null", forged(optimizer=one("param_groups", None)), "is not the state of this"),
    ("one group", forged(optimizer=one("param_groups", lambda g: g[:1])), "the optimizer has gr"),
    ("betas of text", forged(optimizer=one("param_groups", lambda g: [
        x | {"betas": "ab"} for x in g])), "is not the state of this training"),
    ("a rate below zero", forged(optimizer=one("param_groups", lambda g: [
        x | {"lr": -1} for x in g])), "lr must be"),
    ("steps below zero", forged(optimizer=one("state", lambda s: {
        k: v | {"step": -1} for k, v in s.items()})), "more steps than the run"),
    ("an array that is a list", forged(optimizer={"array": ["x"]}), "lacks"),
    ("no random numbers", forged(rng=None), "is not the state of this training"),
    ("random numbers of text", forged(rng=["a", "b"]), "is not the state of this training"),
    ("random numbers beyond 64 bits", forged(rng=[2**64, -1]), "rng is"),
    ("no guard", forged(guard={}), "is not the state of this training"),
    ("a guard of text", forged(guard=one("seen", "many")), "is not the state of this training"),
    ("a guard of NaN", forged(guard=one("mean", float("nan"))), "guard: mean is nan"),
    ("a negative step", forged(step=-4), "its history is not that of a run"),
    ("no history", forged(history=None), "its history is not that of a run"),
    ("a history of text", forged(history=["x"]), "its history is not that of a run"),
    ("losses of text", forged(history=[{"step": 0, "val_loss": "low"}]), "its history is not"),
    ("a history of the future", forged(history=[{"step": 99}]), "its history is not that of a run"),
    ("other data", forged(data_hash="0"), "its contents differ"),
    ("a run's name of numbers", forged(run_id=7), "its history is not that of a run"),
]  # fmt: skip


def damaged(good: Path, tmp_path: Path, damage) -> Path:
    """A copy of the run whose last checkpoint is damaged."""
    folder = shutil.copytree(good, tmp_path / "run")
    damage(Checkpoint.find(folder).path)
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("damage, words", [c[1:] for c in DAMAGES], ids=[c[0] for c in DAMAGES])
def test_a_damaged_checkpoint(run, good, tmp_path, damage, words):
    folder = damaged(good, tmp_path, damage)
    before = contents(folder)
    path = Checkpoint.find(good).path.name
    generate = ("gpt.generate", folder / "checkpoints" / path, "--prompt", "the ",
                "--max-new-tokens", "2", "--device", "cpu")  # fmt: skip
    if (folder / "checkpoints" / path / STATE).exists():  # else it is no checkpoint to generate
        refused(run(*generate), words, problems=1)
    refused(run("gpt.train", "--resume", folder), words, problems=1)
    assert contents(folder) == before
    assert not Path("/tmp/executed-by-a-checkpoint").exists()


@pytest.mark.parametrize("damage, words", [c[1:] for c in RESUMED], ids=[c[0] for c in RESUMED])
def test_a_checkpoint_that_cannot_be_resumed(run, good, tmp_path, damage, words):
    folder = damaged(good, tmp_path, damage)
    before = contents(folder)
    refused(run("gpt.train", "--resume", folder), words, problems=1)
    assert contents(folder) == before
    answer = run("gpt.generate", folder, "--prompt", "the ", "--max-new-tokens", "2")
    assert answer.code == 0, answer.err  # it needs none of this


PLACES = [
    ("nowhere", lambda d: d / "absent", "there is no such folder"),
    ("a file", lambda d: (d / "f").write_text("x") and d / "f", "is a file"),
    ("an empty folder", lambda d: (d / "e").mkdir() or d / "e", "is neither a run"),
    ("a run without a checkpoint", lambda d: (d / "r/checkpoints").mkdir(parents=True) or d / "r",
     "has saved no checkpoint yet"),
    ("one with half of one", lambda d: (d / "r/checkpoints/.unfinished-000004").mkdir(parents=True)
     or d / "r", "has saved no checkpoint yet"),
    ("a NUL", lambda d: f"{d}/a\0b", "there is no such folder"),
    ("an empty name", lambda d: "", ""),
]  # fmt: skip


@pytest.mark.parametrize("make, words", [c[1:] for c in PLACES], ids=[c[0] for c in PLACES])
def test_what_is_no_run(run, tmp_path, make, words):
    refused(run("gpt.train", "--resume", make(tmp_path)), words, problems=1)


@pytest.mark.parametrize("name", [STATE, WEIGHTS])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(run, good, tmp_path, name):
    def pipe(path: Path) -> None:
        (path / name).unlink()
        os.mkfifo(path / name)

    folder = damaged(good, tmp_path, pipe)
    signal.alarm(30)  # a hang would be the failure
    try:
        refused(run("gpt.train", "--resume", folder), name, problems=1)
    finally:
        signal.alarm(0)


@pytest.mark.parametrize(
    "argv, words",
    [
        (["gpt.train", "--n-head", "3", "--n-embd", "16"], "must divide n_embd"),
        (["gpt.train", "--resume", "nowhere"], "there is no such folder"),
        (["gpt.generate", "nowhere"], "nowhere"),
        (["gpt.replay", "nowhere"], "there is no such folder"),
    ],
)
def test_in_a_process_of_its_own(repo, argv, words):
    answer = subprocess.run([sys.executable, "-m", *argv], cwd=repo, capture_output=True, text=True,
                            timeout=60)  # fmt: skip
    assert answer.returncode == 2 and not answer.stdout
    assert words in answer.stderr and "Traceback" not in answer.stderr
