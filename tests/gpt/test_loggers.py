"""Metrics as JSON lines, CSV, TensorBoard events, and what Weights & Biases is told."""

import csv
import json
import sys
from types import SimpleNamespace

import pytest

from gpt import loggers
from gpt.errors import UserError

HISTORY = [{"step": 0, "val_loss": 4.0}, {"step": 5, "train_loss": 3.5, "grad_norm": None}]


def test_files_begin_with_the_history_and_go_on(tmp_path):
    history = list(HISTORY)
    (tmp_path / "metrics.jsonl").write_text('{"step": 7}\n{"step": 8, "tra')
    for logger in loggers.build(tmp_path, "", history, "id", {}):
        logger.log({"step": 10, "train_loss": 1.25})
        logger.log({"step": 15, "new": 0.1})
        logger.close()
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert records == [*HISTORY, {"step": 10, "train_loss": 1.25}, {"step": 15, "new": 0.1}]


def test_a_new_column_keeps_the_rows_before_it(tmp_path):
    history = list(HISTORY)
    table = loggers.Csv(tmp_path / "m.csv", history)
    for record in ({"step": 10, "train_loss": 0.1 + 0.2}, {"step": 15, "new": 0.5}, {"step": 20}):
        table.log(record)
        history.append(record)
    rows = list(csv.DictReader((tmp_path / "m.csv").open(newline="")))
    assert list(rows[0]) == ["step", "val_loss", "train_loss", "grad_norm", "new"]
    assert [r["step"] for r in rows] == ["0", "5", "10", "15", "20"]
    assert float(rows[2]["train_loss"]) == 0.1 + 0.2 and rows[3]["new"] == "0.5"
    assert rows[1]["grad_norm"] == rows[1]["val_loss"] == ""


def test_tensorboard_shows_a_resumed_run_once(train, run, tmp_path):
    pytest.importorskip("tensorboardX")
    out = tmp_path / "r"
    assert train("--out", out, "--log-to", "tensorboard", "--max-steps", "4").code == 0
    assert run("gpt.train", "--resume", out, "--max-steps", "6").code == 0
    assert scalars(out / "tensorboard", "train_loss") == [
        (r["step"], pytest.approx(r["train_loss"]))
        for r in map(json.loads, (out / "metrics.jsonl").open()) if "train_loss" in r
    ]  # fmt: skip


def scalars(folder, name: str) -> list[tuple[int, float]]:
    """(step, value) of one curve, from TensorBoard's files: records of length, crc, event, crc."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            if event.session_log.status:
                found = {step: v for step, v in found.items() if step < event.step}
            for value in event.summary.value:
                if value.tag == name:
                    assert event.step not in found
                    found[event.step] = value.simple_value
    return sorted(found.items())


@pytest.fixture
def wandb(monkeypatch):
    """The module's place, taken by one that remembers what it was told."""
    told: list = []
    service = SimpleNamespace(log=lambda values, step: told.append((step, values)),
                              finish=lambda: told.append("finished"))  # fmt: skip

    def init(**settings):
        told.append(settings)
        return service

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    return told


def test_wandb_is_told_all_under_one_id(train, run, tmp_path, wandb):
    out = tmp_path / "r"
    argv = ("--log-to", "tensorboard,wandb") if "tensorboardX" in sys.modules else (
        "--log-to", "wandb")  # fmt: skip
    assert train("--out", out, *argv, "--max-steps", "4").code == 0
    assert run("gpt.train", "--resume", out, "--max-steps", "6").code == 0
    settings = [told for told in wandb if isinstance(told, dict)]
    assert len({s["id"] for s in settings}) == 1 and len(settings) == 2
    assert settings[0]["config"]["gpt"]["n_embd"] == 16 and settings[0]["resume"] == "allow"
    assert [told[0] for told in wandb if isinstance(told, tuple)] == list(range(7))
    assert wandb.count("finished") == 2


def test_a_service_that_is_not_installed_is_named_before_anything_begins(
    train, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    answer = train("--out", tmp_path / "r", "--log-to", "wandb")
    assert answer.code == 2 and "pip install -e '.[wandb]'" in answer.err
    assert not (tmp_path / "r").exists()
    with pytest.raises(UserError, match="--log-to wandb"):
        loggers.check("wandb")
