"""A run that is interrupted and resumed is the run that was not: weights, moments, numbers, texts.

`python tests/gpt/kill_trials.py 60` kills a run as often; here it is killed a few times.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kill_trials import trials
from tiny import TEXT, TINY

import tinytensor as tt
from gpt import checkpoint
from gpt import run as runs
from gpt.checkpoint import Checkpoint, sealed
from gpt.run import read_metrics

TIMED = {"tokens_per_s"}


def metrics(folder: Path) -> list[dict]:
    return [{k: v for k, v in r.items() if k not in TIMED}
            for r in read_metrics(folder / "metrics.jsonl")]  # fmt: skip


def bytes_of(folder: Path, step: int) -> dict[str, bytes]:
    """Weights and moments after a step."""
    return {p.name: p.read_bytes()
            for p in (folder / "checkpoints" / f"{step:06d}").glob("*.safetensors")}  # fmt: skip


def stop_after(monkeypatch, step: int) -> None:
    """Ctrl-C in the middle of a step, once so many are done."""
    from gpt.train import Training

    plain = Training.step

    def step_and_stop(self, n, lr):
        if n == step:
            os.kill(os.getpid(), 2)
        return plain(self, n, lr)

    monkeypatch.setattr(Training, "step", step_and_stop)


# a rate that does harm: no evaluation is better than the first
HARM = ("--lr", "3", "--min-lr", "3", "--warmup-steps", "0", "--eval-every", "2",
        "--grad-clip", "0", "--weight-decay", "0")  # fmt: skip
EVERY = ("--save-every", "5", "--sample-every", "6", "--skip-spikes", "9")


@pytest.fixture(scope="module")
def once(repo, cats, tmp_path_factory):
    """A run to its end, in a process of its own."""
    out = tmp_path_factory.mktemp("once") / "run"
    argv = [*TINY, *EVERY, "--data", cats, "--out", str(out)]
    subprocess.run([sys.executable, "-m", "gpt.train", *argv], cwd=repo, check=True)
    return out


@pytest.fixture
def whole(once, tmp_path):
    """A copy of it, to do harm to."""
    return shutil.copytree(once, tmp_path / "whole")


@pytest.mark.parametrize("after", [0, 3, 4, 10])
def test_stopped_and_resumed_is_the_whole_run(train, run, whole, tmp_path, monkeypatch, after):
    part = tmp_path / "part"
    with monkeypatch.context() as patch:
        stop_after(patch, after)
        answer = train(*EVERY, "--out", part)
    assert answer.code == 130 and f"python -m gpt.train --resume {part}" in answer.out
    assert f"Stopped after step {after + 1} of 12" in answer.out
    tt.manual_seed(99)  # as another process would
    answer = run("gpt.train", "--resume", part)
    assert answer.code == 0, answer.err
    assert bytes_of(part, 12) == bytes_of(whole, 12)
    assert metrics(part) == metrics(whole)
    assert [r["step"] for r in metrics(part)] == list(range(13))
    texts = [{p.name: p.read_text() for p in (f / "samples").iterdir()} for f in (part, whole)]
    assert texts[0] == texts[1] and texts[0].keys() == {"000006-1.txt", "000012-1.txt"}
    rng, guard = ([Checkpoint.find(f).state[k] for f in (part, whole)] for k in ("rng", "guard"))
    assert rng[0] == rng[1] and guard[0] == guard[1]
    table = (part / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["step", *map(str, range(13))]


def test_looking_at_a_run_changes_nothing(train, whole, tmp_path):
    """Evaluations, texts, logs and checkpoints as often as can be, and not at all: one run."""
    for name, every in (("often", "1"), ("never", "99")):
        answer = train("--out", tmp_path / name, "--eval-every", every, "--sample-every", every,
                       "--log-every", every, "--save-every", every)  # fmt: skip
        assert answer.code == 0, answer.err
        assert bytes_of(tmp_path / name, 12) == bytes_of(whole, 12)


def test_a_run_that_grows_is_one_that_was_long_from_the_start(train, run, tmp_path):
    """The cosine ends where it did; a longer run with that decay is the same run."""
    for name, steps in (("long", "12"), ("short", "7")):
        answer = train("--out", tmp_path / name, "--max-steps", steps, "--decay-steps", "7")
        assert answer.code == 0, answer.err
    assert run("gpt.train", "--resume", tmp_path / "short", "--max-steps", "12").code == 0
    assert bytes_of(tmp_path / "short", 12) == bytes_of(tmp_path / "long", 12)
    assert Checkpoint.find(tmp_path / "short").config.optim.decay_steps == 7


def test_growing_keeps_the_rates_that_were(train, run, tmp_path):
    assert train("--out", tmp_path / "r").code == 0
    assert run("gpt.train", "--resume", tmp_path / "r", "--max-steps", "15").code == 0
    config = Checkpoint.find(tmp_path / "r").config
    assert (config.optim.max_steps, config.optim.decay_steps) == (15, 12)
    assert metrics(tmp_path / "r")[-1]["lr"] == config.optim.min_lr


def test_a_finished_run_says_so(run, whole):
    before = bytes_of(whole, 12), (whole / "metrics.jsonl").read_bytes()
    answer = run("gpt.train", "--resume", whole)
    assert answer.code == 0 and "after step 12, where the run has ended" in answer.out
    assert (bytes_of(whole, 12), (whole / "metrics.jsonl").read_bytes()) == before


@pytest.mark.parametrize("last", [0, 10])
def test_metrics_are_cut_to_the_checkpoint(run, whole, last):
    """Lines after it, and one torn by a crash, are of steps that will be done again."""
    for step in checkpoint.saved_steps(whole / "checkpoints"):
        if step > last:
            shutil.rmtree(whole / "checkpoints" / f"{step:06d}")
    expected = metrics(whole)
    with (whole / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "train_l')
    assert run("gpt.train", "--resume", whole).code == 0
    assert metrics(whole) == expected


def test_a_run_killed_before_its_first_checkpoint_starts_over(run, whole):
    expected, weights = metrics(whole), bytes_of(whole, 12)
    shutil.rmtree(whole / "checkpoints")
    answer = run("gpt.train", "--resume", whole)
    assert answer.code == 0, answer.err
    assert metrics(whole) == expected and bytes_of(whole, 12) == weights


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--lr", "1e-3"], ["--lr 0.001: the run has 0.01", "--resume can change", "--max-steps"]),
        (["--n-layer", "3", "--seed", "1"], ["--n-layer 3: the run has 1", "--seed 1: the run"]),
        (["--max-steps", "12", "--dropout", "0.2"], ["--dropout 0.2"]),
        (["--max-steps", "9"], ["--max-steps 9", "has done 12 steps"]),
        (["--out", "other"], ["--out other"]),
        (["--preset", "bigram"], ["--preset bigram"]),
        (["--n-layers", "3"], ["unknown flag --n-layers; did you mean '--n-layer'?"]),
        (["--data", "README.md"], ["--data README.md", "not among the 15 characters"]),
    ],
)
def test_flags_that_would_make_another_run_are_refused(run, whole, repo, monkeypatch, argv, words):
    monkeypatch.chdir(repo)
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    answer = run("gpt.train", "--resume", whole, *argv)
    assert answer.code == 2 and not answer.out
    assert all(word in answer.err for word in words), answer.err
    assert {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()} == before


def test_flags_that_change_nothing_and_moved_data_are_fine(run, whole, cats, tmp_path):
    moved = tmp_path / "moved.txt"
    shutil.copy(cats, moved)
    answer = run("gpt.train", "--resume", whole, "--lr", "1e-2", "--data", moved,
                 "--config", whole / "config.toml")  # fmt: skip
    assert answer.code == 0, answer.err


def test_other_text_in_the_same_characters_is_refused(run, whole, tmp_path):
    (tmp_path / "dogs.txt").write_text(TEXT.replace("cat", "dog"))
    answer = run("gpt.train", "--resume", whole, "--data", tmp_path / "dogs.txt")
    assert answer.code == 2 and "its contents differ" in answer.err


def test_only_the_last_checkpoint_is_resumed(run, whole):
    answer = run("gpt.train", "--resume", whole / "checkpoints" / "000005")
    assert answer.code == 2 and "is not the last checkpoint" in answer.err
    assert run("gpt.train", "--resume", whole / "checkpoints" / "000012").code == 0


def test_two_processes_cannot_share_a_run(run, whole):
    with runs.Run(whole):
        answer = run("gpt.train", "--resume", whole)
    assert answer.code == 2 and "another process is training" in answer.err
    assert run("gpt.train", "--resume", whole).code == 0


def test_other_threads_are_warned_of(run, whole):
    saved = Checkpoint.find(whole)
    state = saved.state | {"machine": saved.state["machine"] | {"threads": 77}}
    (saved.path / checkpoint.STATE).write_bytes(sealed(state))
    assert "threads was 77, now it is" in run("gpt.train", "--resume", whole).out


def test_the_last_and_the_best_are_kept(train, run, tmp_path):
    answer = train("--out", tmp_path / "r", "--save-every", "1", "--keep", "2", *HARM,
                   "--max-steps", "14")  # fmt: skip
    assert answer.code == 0, answer.err
    losses = {r["step"]: r["val_loss"] for r in metrics(tmp_path / "r") if "val_loss" in r}
    best = min(losses, key=losses.get)
    assert best < 12  # or the test shows nothing
    assert checkpoint.saved_steps(tmp_path / "r" / "checkpoints") == sorted({best, 13, 14})


def test_patience_ends_a_run_and_can_be_extended(train, run, tmp_path):
    answer = train("--out", tmp_path / "r", *HARM, "--patience", "3")
    assert answer.code == 0, answer.err
    assert Checkpoint.find(tmp_path / "r").step == 6
    assert "final_val_loss" in metrics(tmp_path / "r")[-1]
    answer = run("gpt.train", "--resume", tmp_path / "r", "--patience", "5")
    assert answer.code == 0 and Checkpoint.find(tmp_path / "r").step == 10


@pytest.mark.parametrize("file", ["metrics.jsonl", "samples"])
def test_a_full_disk_is_said(train, run, tmp_path, monkeypatch, file):
    """/dev/full answers every write as a full disk does."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    folder = tmp_path / "r"
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        assert train("--out", folder, "--save-every", "5", "--sample-every", "10").code == 130
    if file == "samples":
        (folder / "samples").mkdir()
        (folder / "samples" / "000010-1.txt").symlink_to("/dev/full")
        full = None
    else:
        plain = runs.Run.log

        def full(self, step, **more):
            if step == 10:
                self.loggers[0].path = Path("/dev/full")
            plain(self, step, **more)

    with monkeypatch.context() as patch:
        if full:
            patch.setattr(runs.Run, "log", full)
        answer = run("gpt.train", "--resume", folder)
    assert answer.code == 2 and "No space left on device" in answer.err
    assert f"go on with: python -m gpt.train --resume {folder}" in answer.err
    assert checkpoint.saved_steps(folder / "checkpoints") == [0, 5, 8]
    if file == "samples":
        (folder / "samples" / "000010-1.txt").unlink()
    assert run("gpt.train", "--resume", folder).code == 0
    assert [r["step"] for r in metrics(folder)] == list(range(13))


def test_a_disk_that_fills_up_keeps_the_last_good_checkpoint(repo, cats, tmp_path):
    """A real one: a file system of 700 KB in memory, in a mount namespace of our own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "-rm", "sh", "-c", f"mount -t tmpfs -o size=700k tmpfs {disk} && "]
    if not shutil.which("unshare") or subprocess.run([*mount[:4], mount[4] + "true"]).returncode:
        pytest.skip("no mount namespaces here")

    argv = " ".join([*TINY, "--data", cats, "--out", str(disk / "r"), "--save-every", "1",
                     "--n-embd", "64"])  # fmt: skip
    script = (f"{sys.executable} -m gpt.train {argv}; echo code $?; ls {disk}/r/checkpoints; "
              f"cp -r {disk}/r {tmp_path}/out")  # fmt: skip
    answer = subprocess.run([*mount[:4], mount[4] + script], cwd=repo, capture_output=True,
                            text=True, timeout=120)  # fmt: skip
    assert "code 2" in answer.stdout and "Traceback" not in answer.stderr, answer.stderr
    assert "could not be written: No space left on device; earlier ones are intact" in answer.stderr
    saved = Checkpoint.find(tmp_path / "out")
    saved.weights(), saved.optimizer_state()
    assert f"step {saved.step} is saved; go on with:" in answer.stderr


@pytest.mark.filterwarnings("ignore:overflow")
def test_ruined_weights_are_not_saved(train, tmp_path, monkeypatch):
    """A learning rate that overflows: the checkpoint before it stays the last."""
    answer = train("--out", tmp_path / "r", "--lr", "3e38", "--min-lr", "0", "--warmup-steps", "0",
                   "--weight-decay", "0.9", "--save-every", "1")  # fmt: skip
    assert answer.code == 2 and "not finite" in answer.err and "is not saved" in answer.err
    Checkpoint.find(tmp_path / "r").weights()


def test_killed_at_any_moment(tmp_path):
    assert trials(3, tmp_path, seed=1) == []


def test_state_json_is_json(whole):
    state = json.loads((Checkpoint.find(whole).path / checkpoint.STATE).read_text())
    assert state["step"] == 12 and state["batch"] == 24 and len(state["history"]) == 13
    assert len(state["config_hash"]) == 64
