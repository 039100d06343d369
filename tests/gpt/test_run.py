"""The run folder: never overwritten, metrics that survive a crash, a curve that is drawn."""

import dataclasses
import json

import pytest

from gpt import run as r
from gpt.config import Config, RunConfig, from_command_line
from gpt.errors import UserError
from gpt.plot import plot


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def config(out: str) -> Config:
    return dataclasses.replace(Config(), run=RunConfig(out=out))


def test_folders_are_numbered_unless_named(tmp_path):
    names = [str(r.Run.create(config("")).path) for _ in range(3)]
    assert names == ["runs/tales", "runs/tales-2", "runs/tales-3"]
    run = r.Run.create(config("deep/er"))
    assert run.path.is_dir() and run.checkpoints.is_dir()
    assert from_command_line(["--config", "deep/er/config.toml"]) == config("deep/er")


def test_an_empty_folder_is_taken_and_a_used_one_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    r.Run.create(config("empty"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="--out empty: is not empty.*another --out"):
        r.Run.create(config("empty"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="--out file: is a file"):
        r.Run.create(config("file"))
    with pytest.raises(UserError, match="--out file/run: Not a directory"):
        r.Run.create(config("file/run"))
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "file"])


def test_metrics_are_one_object_a_line(tmp_path):
    run = r.Run.create(config("run"))
    run.log(0, val_loss=4.0)
    run.log(10, train_loss=3.5, lr=1e-3)
    file = run.path / "metrics.jsonl"
    assert [json.loads(line) for line in file.read_text().splitlines()] == run.history
    assert r.read_metrics(file) == run.history
    with file.open("a") as f:
        f.write('{"step": 20, "train_l')  # the machine went down here
    assert r.read_metrics(file) == run.history


def test_samples_are_kept_as_they_are(tmp_path):
    run = r.Run.create(config("run"))
    path = run.sample("000012-1", "Once…\n\n")
    assert path.parent.name == "samples" and path.read_text("utf-8") == "Once…\n\n"


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{"step": 0, "val_loss": 4.2}],
        [{"step": 0, "val_loss": 4.2}, {"step": 1, "train_loss": 4.1},
         {"step": 9, "train_loss": 2.0, "eval_train_loss": 2.1, "val_loss": 2.3}],
    ],
)  # fmt: skip
def test_a_curve_is_drawn_whatever_there_is(tmp_path, history):
    from matplotlib.image import imread

    plot(history, tmp_path / "bare.png")
    plot(history, tmp_path / "full.png", "title", {"2-gram": 2.5, "5-gram": 1.75}, floor=1.0)
    bare, full = imread(tmp_path / "bare.png"), imread(tmp_path / "full.png")
    assert bare.shape == full.shape and (bare != full).any()
    assert (full[..., :3].min(axis=(0, 1)) < 0.5).all()  # something is drawn on the white
