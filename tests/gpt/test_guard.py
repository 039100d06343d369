"""Steps that are left out, the run that stops after too many, its last step repeated."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinytensor as tt
from gpt.checkpoint import Checkpoint
from gpt.config import OptimConfig
from gpt.guard import RECENT, Guard
from gpt.run import read_metrics


def look(guard: Guard, loss: float, norm: float = 1.0) -> bool:
    return guard.allows(tt.tensor(loss), tt.tensor(norm))


@pytest.mark.parametrize("loss, norm", [(np.nan, 1), (np.inf, 1), (1, np.nan), (1, np.inf)])
def test_a_number_that_is_not_finite_is_left_out(loss, norm):
    guard = Guard(OptimConfig(max_skipped=1))
    assert look(guard, 1.0) and not look(guard, loss, norm) and not guard.exhausted
    assert not look(guard, loss, norm) and guard.exhausted and guard.skipped == 2
    assert look(guard, 1.0) and not guard.exhausted and guard.skipped == 2


def test_a_spike_is_one_by_its_z_score():
    rng = np.random.default_rng(0)
    guard = Guard(OptimConfig(skip_spikes=6.0))
    losses = 2 + 0.1 * rng.standard_normal(500)
    assert all(look(guard, loss) for loss in losses)
    assert guard.mean == pytest.approx(2, abs=0.1)
    assert guard.variance**0.5 == pytest.approx(0.1, rel=0.5)
    assert look(guard, 2.3) and look(guard, 0.1)  # within, and a drop is welcome
    assert not look(guard, 9.0) and "standard deviations above the recent" in guard.why
    mean = guard.mean
    assert not look(guard, 9.0) and guard.mean == mean  # a spike teaches nothing


def test_nothing_is_a_spike_before_there_is_a_past():
    guard = Guard(OptimConfig(skip_spikes=3.0))
    assert all(look(guard, loss) for loss in [1.0] * (RECENT - 1) + [50.0])
    assert all(look(Guard(OptimConfig()), loss) for loss in [1.0] * 100 + [50.0])  # off


@given(st.lists(st.floats(-1e3, 1e3), max_size=120), st.integers(0, 120))
def test_a_guard_goes_on_from_its_state(losses, at):
    whole, first, then = (Guard(OptimConfig(skip_spikes=2.0)) for _ in range(3))
    for loss in losses:
        look(whole, loss)
    for loss in losses[:at]:
        look(first, loss)
    then.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for loss in losses[at:]:
        look(then, loss)
    assert then.state_dict() == whole.state_dict()


def poison(monkeypatch, steps: range) -> None:
    """Make the gradient NaN at some steps."""
    from gpt.state import TrainingState

    plain = TrainingState.gradients

    def poisoned(self, batches):
        loss = plain(self, batches)
        if self.step in steps:
            next(iter(self.model.parameters())).grad.array[:] = np.nan
        return loss

    monkeypatch.setattr(TrainingState, "gradients", poisoned)


def test_a_poisoned_step_changes_nothing_and_is_counted(train, tmp_path, monkeypatch):
    poison(monkeypatch, range(4, 6))
    assert train("--out", tmp_path / "r", "--save-every", "1").code == 0
    folder = tmp_path / "r" / "checkpoints"
    files = [(folder / f"{n:06d}" / "model.safetensors").read_bytes() for n in range(3, 8)]
    assert files[1] == files[2] == files[3] and files[0] != files[1] and files[3] != files[4]
    records = read_metrics(tmp_path / "r" / "metrics.jsonl")
    assert [r["skipped"] for r in records[4:8]] == [0, 1, 2, 2]
    assert [r["grad_norm"] is None for r in records[4:8]] == [False, True, True, False]
    assert "NaN" not in (tmp_path / "r" / "metrics.jsonl").read_text()


def test_too_many_in_a_row_stop_the_run_and_the_step_can_be_repeated(
    train, run, tmp_path, monkeypatch
):
    out = tmp_path / "r"
    with monkeypatch.context() as patch:
        poison(patch, range(4, 99))
        answer = train("--out", out, "--max-skipped", "2", "--save-every", "2")
    assert answer.code == 2 and "3 steps in a row" in answer.err and "lower --lr" in answer.err
    assert f"python -m gpt.replay {out}/crash/000006" in answer.err
    crash = Checkpoint(out / "crash" / "000006")
    assert crash.arrays("batch.safetensors")["x"].shape == (2, 4, 16)
    assert crash.state["why"].startswith("the loss is")

    # without the poison the run goes on from its last checkpoint, and its step 7 is the replay's
    answer = run("gpt.replay", out / "crash" / "000006")
    assert answer.code == 0, answer.err
    assert "every number in this step is finite" in answer.out
    again = next(line for line in answer.out.splitlines() if line.startswith("again"))
    poison(monkeypatch, range(4, 6))
    assert run("gpt.train", "--resume", out, "--max-skipped", "9").code == 0
    record = next(r for r in read_metrics(out / "metrics.jsonl") if r["step"] == 7)
    assert f"loss {record['train_loss']:.9g}, gradient norm {record['grad_norm']:.9g}" in again


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_replay_names_the_first_op_that_failed(train, run, tmp_path):
    answer = train("--out", tmp_path / "r", "--lr", "1e25", "--min-lr", "0", "--grad-clip", "0")
    assert answer.code == 2 and "the loss is" in answer.err
    crash = answer.err.split("gpt.replay ")[1].split()[0]
    answer = run("gpt.replay", crash)
    assert answer.code == 0 and "not finite" in answer.out, answer
    assert "first   " in answer.out and " made " in answer.out


@pytest.mark.parametrize("argv, words", [
    (["nowhere"], "there is no such folder"),
    (["checkpoints/000012"], "is a checkpoint, not a crash"),
])  # fmt: skip
def test_what_is_no_crash_is_said(train, run, tmp_path, monkeypatch, argv, words):
    assert train("--out", tmp_path / "r").code == 0
    monkeypatch.chdir(tmp_path / "r")
    answer = run("gpt.replay", *argv)
    assert answer.code == 2 and words in answer.err
