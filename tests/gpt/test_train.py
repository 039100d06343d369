"""`python -m gpt.train` and `python -m gpt.generate`, through the real commands, on tiny models."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gpt.checkpoint import Checkpoint
from gpt.config import from_command_line
from gpt.run import read_metrics

TINY = ("--n-layer 1 --n-head 2 --n-embd 16 --block-size 16 --batch-size 4 --max-steps 25 "
        "--lr 1e-2 --warmup-steps 5 --eval-every 10 --eval-batches 2 --log-every 5 --samples 2 "
        "--sample-chars 40 --init-std 0.02").split()
TEXT = "the cat sat on the mat.\nthe dog sat on the log.\n" * 60


def command(repo, module: str, *argv: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", module, *argv], cwd=repo, capture_output=True,
                          text=True, timeout=120, **kwargs)  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "cats.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture(scope="module")
def trained(repo, text, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "cats"
    return command(repo, "gpt.train", *TINY, "--data", text, "--out", str(out)), out


def test_a_run_tells_and_keeps_what_it_learned(trained):
    result, out = trained
    assert result.returncode == 0, result.stderr
    for words in ("held out", "5-gram", "bits/char", "this gpt",
                  f"python -m gpt.generate {out}"):
        assert words in result.stdout
    assert sorted(p.name for p in out.iterdir()) == [
        "checkpoints", "config.toml", "loss.png", "metrics.csv", "metrics.jsonl", "samples",
    ]  # fmt: skip
    assert from_command_line(["--config", str(out / "config.toml")]).gpt.n_embd == 16
    assert len((out / "samples" / "000025-2.txt").read_text()) == 40


def test_metrics_have_every_reading_and_the_loss_falls(trained):
    records = read_metrics(trained[1] / "metrics.jsonl")
    assert [r["step"] for r in records] == [0, 1, 5, 10, 15, 20, 25]
    assert [r["step"] for r in records if "val_loss" in r] == [0, 10, 20, 25]
    for record in records[1:]:
        assert {"train_loss", "lr", "grad_norm", "tokens_per_s"} <= record.keys()
    assert records[0]["val_loss"] == pytest.approx(math.log(len(set(TEXT))), abs=0.05)
    assert records[-1]["val_loss"] < records[0]["val_loss"] - 0.3


def test_the_checkpoint_is_the_model(trained):
    saved = Checkpoint.find(trained[1])
    assert (saved.step, saved.config.gpt.vocab_size) == (25, len(set(TEXT)))
    weights = saved.weights()
    assert all(np.isfinite(w).all() and w.dtype == np.float32 for w in weights.values())
    assert saved.optimizer_state()["param_groups"][0]["weight_decay"] == 0.1


def test_the_same_command_gives_the_same_run(repo, trained, text, tmp_path):
    again = command(repo, "gpt.train", *TINY, "--data", text, "--out", str(tmp_path / "b"))
    assert again.returncode == 0, again.stderr
    first, second = (Checkpoint.find(p).state["sha256"] for p in (trained[1], tmp_path / "b"))
    assert first == second
    other = command(repo, "gpt.train", *TINY, "--data", text, "--seed", "2",
                    "--out", str(tmp_path / "c"))  # fmt: skip
    assert other.returncode == 0, other.stderr
    assert Checkpoint.find(tmp_path / "c").state["sha256"] != first


def test_a_prompt_is_continued(repo, trained):
    def generate(*argv: str) -> subprocess.CompletedProcess:
        return command(repo, "gpt.generate", str(trained[1]), *argv)

    thirty = ("--prompt", "the ", "--max-new-tokens", "30", "--seed")
    one = generate(*thirty, "5")
    assert one.returncode == 0, one.stderr
    assert one.stdout.startswith("the ") and len(one.stdout) == 4 + 30 + 1
    assert set(one.stdout) <= set(TEXT)
    assert generate(*thirty, "5").stdout == one.stdout != generate(*thirty, "6").stdout
    greedy = [generate("--prompt", "the ", "--max-new-tokens", "9", "--temperature", "0", "--seed",
                       seed).stdout for seed in "12"]  # fmt: skip
    assert greedy[0] == greedy[1]


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--prompt", "the Zoo"], ["'Z'", "position 4"]),
        (["--temperature", "-1", "--top-k", "x"], ["--temperature -1.0", "--top-k x"]),
        (["--promt", "x"], ["--promt", "did you mean '--prompt'"]),
    ],
)
def test_generates_mistakes_are_named(repo, trained, argv, words):
    result = command(repo, "gpt.generate", str(trained[1]), *argv)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr and all(word in result.stderr for word in words)


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--n-head", "3", "--lr", "-1", "--n-layers", "2"], ["--n-head 3", "--lr -1", "n-layer'"]),
        (["--data", "no such file"], ["'no such file'"]),
        (["--block-size", "5000"], ["--block-size 5000", "2,"]),
        (["--device", "cuda:77"], ["cuda"]),
        (["--device", "gpu"], ["--device gpu"]),
        (["--preset", "shakespear-cpu"], ["'shakespeare-cpu'"]),
        (["--lr", "1e30", "--min-lr", "0", "--grad-clip", "0"], ["loss is", "--lr"]),
    ],
)
def test_trains_mistakes_are_named(repo, text, tmp_path, argv, words):
    start = [*TINY, "--data", text, "--out", str(tmp_path / "run")]
    result = command(repo, "gpt.train", *start, *argv)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr and all(word in result.stderr for word in words)


def test_a_run_is_never_overwritten(repo, trained, text):
    before = {p: p.read_bytes() for p in trained[1].rglob("*") if p.is_file()}
    result = command(repo, "gpt.train", *TINY, "--data", "not read", "--out", str(trained[1]))
    assert result.returncode == 2 and "is not empty" in result.stderr
    assert {p: p.read_bytes() for p in trained[1].rglob("*") if p.is_file()} == before


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_says_so(repo, text, tmp_path, number):
    out = tmp_path / "run"
    argv = [*TINY, "--data", text, "--out", str(out), "--max-steps", "1000000", "--log-every", "1"]
    process = subprocess.Popen([sys.executable, "-m", "gpt.train", *argv], cwd=repo, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    metrics = out / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    saved = Checkpoint.find(out)
    assert process.returncode == 128 + number and not stderr
    assert f"Stopped after step {saved.step} of 1000000; saved {saved.path}" in stdout
    assert f"python -m gpt.train --resume {out}" in stdout
    assert saved.step == json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert (out / "loss.png").exists()


@pytest.fixture
def training(text, tmp_path, monkeypatch):
    """A Training in this process, for what only its inside shows."""
    from gpt.train import Training

    monkeypatch.chdir(tmp_path)
    return lambda *argv: Training(from_command_line([*TINY, "--data", text, *argv]))


def test_accumulation_is_one_large_batch(training):
    whole, parts = training("--batch-size", "8"), training("--grad-accum", "2")
    x, y = whole.batches.batch(0)
    halves = [(x[:4], y[:4]), (x[4:], y[4:])]
    parts.batches = type("Halves", (), {"batch": lambda self, i: halves[i]})()
    (loss, norm), (loss2, norm2) = whole.step(0, 1e-3), parts.step(0, 1e-3)
    assert loss2.item() == pytest.approx(loss.item(), rel=1e-5)
    assert norm2.item() == pytest.approx(norm.item(), rel=1e-4)
    for p, q in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-3, atol=1e-6)


def test_matrices_decay_and_vectors_do_not(training):
    t = training("--weight-decay", "0.5")
    decayed, kept = t.optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.5, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2} and {p.ndim for p in kept["params"]} == {1}
    assert len(decayed["params"]) + len(kept["params"]) == len(list(t.model.parameters()))


def test_the_learning_rate_of_a_step_is_the_one_used(training):
    a, b = training(), training()
    for t, lr in ((a, 1e-3), (b, 0.0)):
        before = [p.detach().numpy().copy() for p in t.model.parameters()]
        t.step(0, lr)
        after = [p.detach().numpy() for p in t.model.parameters()]
        assert any(map(np.any, map(np.subtract, after, before))) == (lr > 0)


def test_a_step_starts_from_no_gradient(training):
    t = training()
    gradients = []
    for _ in range(2):  # the same batch, and weights that a rate of 0 leaves where they are
        t.step(0, 0.0)
        gradients.append([p.grad.numpy().copy() for p in t.model.parameters()])
    for first, second in zip(*gradients, strict=True):
        np.testing.assert_array_equal(first, second)


def test_evaluation_changes_nothing_and_repeats(training):
    from gpt.evaluate import evaluate

    t = training("--dropout", "0.5")
    t.model.train()
    losses = [evaluate(t.model, t.exams["val_loss"], 2, t.device) for _ in range(2)]
    assert losses[0] == losses[1] and t.model.training
    assert all(p.grad is None for p in t.model.parameters())


@pytest.mark.parametrize("length, block", [(17, 16), (18, 16), (100, 16), (99, 7), (50, 1), (3, 2)])
def test_a_text_is_judged_token_by_token_once(length, block):
    """A model whose loss says which targets it saw: each is counted once, with enough before."""
    import tinytensor as tt
    from gpt.evaluate import evaluate_text

    seen: dict[int, int] = {}

    class Spy:
        training = True

        def eval(self):
            self.training = False

        def train(self):
            self.training = True

        def loss(self, x, y):
            assert not self.training
            for row, targets in zip(x.numpy(), y.numpy(), strict=True):
                for i, target in enumerate(targets):
                    if target >= 0:
                        assert target not in seen and target == row[i] + 1
                        seen[int(target)] = i + 1  # tokens before it
            kept = y.numpy()[y.numpy() >= 0]
            return tt.tensor(float(kept.mean()))

    loss = evaluate_text(Spy(), np.arange(length), block, 3, "cpu")
    assert sorted(seen) == list(range(1, length))
    assert all(before >= min(target, max(1, block // 2)) for target, before in seen.items())
    assert loss == pytest.approx(np.arange(1, length).mean())
