"""`python -m gpt.train --device cuda` and what follows it, in this process, on the stand-in.

The same command on the CPU is the judge: the same losses within 1e-4 of float32, the same samples.
A step reads no value between the steps that log.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import gpt.generate
import gpt.train
import tinytensor as tt
from gpt.checkpoint import Checkpoint
from gpt.config import from_command_line
from gpt.model import GPT
from gpt.run import read_metrics
from gpt.train import Training

TEXT = "the cat sat on the mat.\nthe dog sat on the log.\n" * 30
TINY = ("--n-layer 1 --n-head 2 --n-embd 16 --block-size 8 --batch-size 4 --max-steps 6 "
        "--lr 1e-2 --warmup-steps 2 --eval-every 3 --eval-batches 2 --log-every 2 --samples 1 "
        "--sample-chars 20 --dropout 0.1").split()  # fmt: skip
READINGS = ("train_loss", "val_loss", "grad_norm", "final_val_loss")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "cats.txt"
    path.write_text(TEXT)
    return str(path)


def command(main, monkeypatch, *argv):
    """A command's main(), as `python -m` would run it; its exit code."""
    monkeypatch.setattr("sys.argv", ["gpt", *argv])
    try:
        return main()
    except SystemExit as stop:
        return stop.code


def readings(run):
    return [{k: r[k] for k in READINGS if k in r} for r in read_metrics(run / "metrics.jsonl")]


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
@pytest.mark.parametrize(
    "options", [[], ["--model", "bigram"], ["--activation", "relu", "--norm-position", "post"]]
)
def test_a_run_is_that_of_the_cpu(device, options, cuda, text, tmp_path, monkeypatch, capsys):
    if device == "cuda:1" and (tt.cuda.device_count() < 2 or options):
        pytest.skip("one run on a second GPU, where there is one")
    for name in ("cpu", device):
        argv = [*TINY, *options, "--data", text, "--out", str(tmp_path / name), "--device", name]
        assert command(gpt.train.main, monkeypatch, *argv) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "parameters on cuda" in shown
    mine, theirs = readings(tmp_path / device), readings(tmp_path / "cpu")
    assert len(mine) == len(theirs) > 3
    for a, b in zip(mine, theirs):
        assert a == pytest.approx(b, rel=1e-4)
    saved = [Checkpoint.find(tmp_path / name) for name in (device, "cpu")]
    weights = [checkpoint.weights() for checkpoint in saved]
    assert weights[0].keys() == weights[1].keys()
    for name, w in weights[0].items():
        np.testing.assert_allclose(w, weights[1][name], 1e-3, 1e-5, err_msg=name)
    samples = [sorted((tmp_path / n / "samples").iterdir())[0].read_text() for n in (device, "cpu")]
    assert samples[0] == samples[1]  # the same random numbers, and no near tie among 20 characters
    written = []
    for name in (device, "cpu"):  # a checkpoint of the GPU's continues on the CPU, and the reverse
        argv = [str(tmp_path / device), "--prompt", "the ", "--max-new-tokens", "12"]
        argv += ["--top-k", "5", "--device", name]
        assert command(gpt.generate.main, monkeypatch, *argv) == 0
        written.append(capsys.readouterr().out)
    assert written[0] == written[1] and "the " in written[0]
    json.dumps(saved[0].state)  # plain numbers only


def test_a_run_goes_on_bit_for_bit(cuda, text, tmp_path, monkeypatch):
    """Six steps; and three of them, then the rest from what was saved on the GPU."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    common = [*TINY, "--grad-accum", "2", "--data", text, "--device", cuda, "--save-every", "3"]
    assert command(gpt.train.main, monkeypatch, *common, "--out", str(whole)) == 0
    step = Training.step

    def killed(self, at, lr):
        if at == 4:
            raise KeyboardInterrupt  # at once, as a second Ctrl-C would
        return step(self, at, lr)

    monkeypatch.setattr(Training, "step", killed)
    assert command(gpt.train.main, monkeypatch, *common, "--out", str(parts)) == 130
    monkeypatch.setattr(Training, "step", step)
    assert command(gpt.train.main, monkeypatch, "--resume", str(parts)) == 0
    for name in ("model.safetensors", "optimizer.safetensors"):
        kept = [run / "checkpoints" / "000006" / name for run in (whole, parts)]
        assert kept[0].read_bytes() == kept[1].read_bytes()
    assert readings(whole) == readings(parts)


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16", "float16"])
def test_steps_read_nothing(dtype, cuda, unread, text, tmp_path):
    """The whole of a step: batch, forward, backward, guard, clipping, AdamW, averages."""
    argv = [*TINY, "--grad-accum", "2", "--data", text, "--out", str(tmp_path / "run")]
    argv += ["--dtype", dtype, "--ema", "0.9", "--skip-spikes", "4", "--device", cuda]
    training = Training(from_command_line(argv))
    with unread():
        for step in range(3):
            loss, norm = training.step(step, 1e-3)
    assert loss.device.type == norm.device.type == "cuda"
    assert np.isfinite(loss.item()) and np.isfinite(norm.item())


def trained(main, monkeypatch, *argv):
    """Weights, moments and readings of a run."""
    assert command(gpt.train.main, monkeypatch, *argv) == 0
    run = Path(argv[argv.index("--out") + 1])
    kept = Checkpoint.find(run).path
    files = ("model.safetensors", "optimizer.safetensors")
    return [(kept / name).read_bytes() for name in files], readings(run)


@pytest.mark.parametrize(
    "options",
    [
        ["--dtype", "bfloat16", "--grad-accum", "2"],
        ["--dtype", "float16", "--ema", "0.9"],
        ["--checkpoint-activations", "--skip-spikes", "4"],
        ["--model", "bigram", "--grad-clip", "0"],
    ],
)
def test_a_captured_step_is_the_step(options, cuda, text, tmp_path, monkeypatch):
    """--graph changes no bit, on a second GPU neither; and two runs are one."""
    launches = []
    replay = tt.cuda.CUDAGraph.replay
    monkeypatch.setattr(
        tt.cuda.CUDAGraph, "replay", lambda graph: (launches.append(1), replay(graph))
    )
    device = f"cuda:{tt.cuda.device_count() - 1}"
    common = [*TINY, *options, "--data", text, "--device", device]
    found = [
        trained(gpt.train.main, monkeypatch, *common, flag, "--out", str(tmp_path / name))
        for name, flag in (("a", "--graph"), ("b", "--no-graph"), ("c", "--graph"))
    ]
    assert found[0] == found[1] == found[2]
    assert len(launches) == 2 * 5  # all steps but the first


def test_a_batch_the_graph_cannot_take(cuda, text, tmp_path, monkeypatch):
    """Targets that do not count change the divisor: that step runs as it is written."""
    argv = [*TINY, "--data", text, "--device", cuda]
    runs = []
    for flag in ("--graph", "--no-graph"):
        config = from_command_line([*argv, flag, "--out", str(tmp_path / flag)])
        training = Training(config)
        batch = training.batches.batch

        def holed(step, batch=batch):
            x, y = batch(step)
            return x, np.where(y % 3 == 0, -1, y) if step == 3 else y

        monkeypatch.setattr(training.batches, "batch", holed)
        losses = [training.step(step, 1e-2)[0].item() for step in range(6)]
        runs.append([losses, [p.tolist() for p in training.model.parameters()]])
    assert runs[0] == runs[1]


def test_a_step_that_cannot_be_captured(cuda, text, tmp_path, monkeypatch, capsys):
    """One sentence, and the flag that does without."""
    loss = GPT.loss

    def reads(self, *args):
        found = loss(self, *args)
        assert math.isfinite(found.item())
        return found

    monkeypatch.setattr(GPT, "loss", reads)
    argv = [*TINY, "--data", text, "--device", cuda]
    assert command(gpt.train.main, monkeypatch, *argv, "--out", str(tmp_path / "a")) == 2
    error = capsys.readouterr().err
    assert "--no-graph" in error and "captur" in error and "Traceback" not in error
    argv += ["--no-graph", "--out", str(tmp_path / "b")]
    assert command(gpt.train.main, monkeypatch, *argv) == 0


def test_a_missing_gpu_is_one_sentence(cuda, text, tmp_path, monkeypatch, capsys):
    argv = [*TINY, "--data", text, "--out", str(tmp_path / "run"), "--device", "cuda:7"]
    assert command(gpt.train.main, monkeypatch, *argv) == 2
    error = capsys.readouterr().err
    assert "cuda:7" in error and "GPU" in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()
