"""Training on tokens of every kind, and on folders that data.prepare made."""

import math
import shutil

import numpy as np
import pytest

from gpt import source, tokenizers
from gpt.checkpoint import Checkpoint
from gpt.config import from_command_line
from gpt.run import read_metrics


@pytest.mark.parametrize("argv", ["byte", "word --vocab-size 260", "bpe --vocab-size 280"])
def test_a_run_on_tokens(train, run, tmp_path, argv):
    out = tmp_path / "r"
    argv = ["--tokenizer", *argv.split(), "--max-steps", "6"]
    answer = train("--out", out, *argv)
    assert answer.code == 0, answer.err
    saved = Checkpoint.find(out)
    assert saved.tokenizer.type == argv[1]
    assert saved.config.gpt.vocab_size == saved.tokenizer.vocab_size
    last = read_metrics(out / "metrics.jsonl")[-1]
    per_byte = last["val_loss"] / math.log(2) / last["val_bits_per_byte"]
    words = ("bits a byte", "nats a token", f"{saved.tokenizer.vocab_size:,} tokens of")
    assert all(word in answer.out for word in words)
    assert per_byte == pytest.approx(1) if argv[1] == "byte" else 1 < per_byte < 9

    # and again with the tokenizer's file, then on from there
    saved.tokenizer.save(tmp_path / "t.json")
    assert train("--out", tmp_path / "s", *argv, "--tokenizer", tmp_path / "t.json").code == 0
    weights = [Checkpoint.find(folder).state["sha256"] for folder in (out, tmp_path / "s")]
    assert weights[0] == weights[1]
    assert run("gpt.train", "--resume", out, "--max-steps", "8").code == 0
    assert run("gpt.generate", out, "--prompt", "the cat", "--max-new-tokens", "3").code == 0


@pytest.fixture
def prepared(run, cats, tmp_path):
    """The cats as bytes, in shards."""
    folder = tmp_path / "prepared"
    answer = run("data.prepare.__main__", cats, "--tokenizer", "byte", "--val-fraction", "0.2",
                 "--out", folder)  # fmt: skip
    assert answer.code == 0, answer.err
    return folder


def test_a_prepared_folder_is_trained_on_and_resumed(train, run, prepared, cats, tmp_path):
    """Its ids are the text's; the folder may move, and may not change."""
    answer = train("--data", prepared, "--out", tmp_path / "r")
    assert answer.code == 0, answer.err
    assert "tokenizer byte, 25" in answer.out and "bits a byte" in answer.out
    found = source.load(from_command_line(["--data", str(prepared)]))
    ids = tokenizers.get("byte").encode(open(cats).read())
    np.testing.assert_array_equal(np.concatenate([found.train[:], found.val[:]])[: len(ids)], ids)

    moved = shutil.move(prepared, tmp_path / "moved")
    resume = ("gpt.train", "--resume", tmp_path / "r", "--max-steps", "14")
    assert run(*resume).code == 2
    answer = run(*resume, "--data", moved)
    assert answer.code == 0, answer.err
    assert Checkpoint.find(tmp_path / "r").step == 14


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--tokenizer", "char"], "comes with another, of type byte"),
        (["--tokenizer", "bpe", "--vocab-size", "300"], "comes with another"),
        (["--block-size", "100000"], "--block-size 100000"),
    ],
)
def test_what_does_not_fit_a_prepared_folder_is_said(train, prepared, tmp_path, argv, words):
    answer = train("--data", prepared, "--out", tmp_path / "r", *argv)
    assert answer.code == 2 and words in answer.err and not (tmp_path / "r").exists()


def test_a_damaged_shard_is_said(train, prepared, tmp_path):
    shard = next(prepared.glob("train-*.tokens"))
    shard.write_bytes(shard.read_bytes()[:-5])
    answer = train("--data", prepared, "--out", tmp_path / "r")
    assert answer.code == 2 and shard.name in answer.err and "Traceback" not in answer.err
