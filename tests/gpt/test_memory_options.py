"""Less memory by --checkpoint-activations, and what a run answers when there is not enough."""

import pytest

import tinytensor as tt
from gpt.run import read_metrics
from gpt.train import Training

pytestmark = pytest.mark.usefixtures("undrawn")


def weights(run):
    kept = sorted((run / "checkpoints").iterdir())[-1]
    return (kept / "model.safetensors").read_bytes(), (kept / "optimizer.safetensors").read_bytes()


def losses(run):
    return [[r.get(k) for k in ("step", "train_loss", "val_loss", "grad_norm")]
            for r in read_metrics(run / "metrics.jsonl")]  # fmt: skip


@pytest.mark.parametrize("options", [[], ["--norm-position", "post"], ["--grad-accum", "2"]])
def test_checkpointed_runs_are_the_same_bit_for_bit(train, tmp_path, options):
    """With dropout: what is computed again draws the masks again."""
    plain, again = tmp_path / "plain", tmp_path / "again"
    options = ["--dropout", "0.2", *options]
    assert train("--out", plain, *options).code == 0
    assert train("--out", again, *options, "--checkpoint-activations").code == 0
    assert weights(plain) == weights(again) and losses(plain) == losses(again)


def test_bigrams_have_nothing_to_forget(train, tmp_path):
    answer = train("--out", tmp_path / "r", "--model", "bigram", "--checkpoint-activations")
    assert answer.code == 2 and "--checkpoint-activations" in answer.err


def fails(monkeypatch, at: int, error: Exception, where: str = "gradients"):
    """Step number `at` runs out of memory, after it has drawn random numbers."""
    real = Training.step

    def step(self, number, lr):
        if number != at:
            return real(self, number, lr)
        tt.rand(100)
        if where == "update":
            monkeypatch.setattr(self.optimizer, "step", lambda: (_ for _ in ()).throw(error))
            return real(self, number, lr)
        raise error

    monkeypatch.setattr(Training, "step", step)
    return lambda: monkeypatch.setattr(Training, "step", real)


@pytest.mark.parametrize("error", [
    MemoryError("Unable to allocate 9 GiB"),
    RuntimeError("cudaErrorMemoryAllocation: out of memory"),
], ids=["MemoryError", "CUDA's"])  # fmt: skip
def test_what_was_learned_is_kept(train, run, tmp_path, monkeypatch, error):
    """The last step done is saved, and going on from it is as if nothing had happened."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train("--out", whole, "--n-layer", "4").code == 0
    done = fails(monkeypatch, 2, error)
    answer = train("--out", parts, "--n-layer", "4")
    assert answer.code == 2 and str(error) in answer.err and "Traceback" not in answer.err
    assert "lower --batch-size" in answer.err and "step 2 is saved" in answer.err
    assert "--checkpoint-activations" in answer.err
    done()
    assert run("gpt.train", "--resume", parts, "--checkpoint-activations").code == 0
    assert weights(whole) == weights(parts)


def test_half_an_update_is_not_kept(train, tmp_path, monkeypatch):
    fails(monkeypatch, 2, MemoryError("no"), "update")
    answer = train("--out", tmp_path / "r")
    assert answer.code == 2 and "is saved" not in answer.err
    assert not [*(tmp_path / "r" / "checkpoints").iterdir()]


def test_other_errors_are_bugs(train, tmp_path, monkeypatch):
    fails(monkeypatch, 2, RuntimeError("cudaErrorIllegalAddress"))
    with pytest.raises(RuntimeError, match="IllegalAddress"):
        train("--out", tmp_path / "r")
