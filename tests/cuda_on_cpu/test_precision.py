"""`--dtype` and the guard on the device: runs of `gpt.train --device cuda` on the stand-in.

Losses in half precision stay within 1% of float32's over these steps, weights are float32.
"""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gpt.generate
import gpt.plan
import gpt.train
import tinytensor as tt
from gpt import doctor
from gpt import options as opts
from gpt.checkpoint import Checkpoint
from gpt.config import Config, OptimConfig, from_command_line
from gpt.guard import Gate, Guard
from gpt.precision import Precision
from gpt.run import read_metrics
from gpt.state import TrainingState
from gpt.train import Training
from tinytensor.autograd import Watcher

from .test_training import TEXT, TINY, command, readings

WIDE: list[dict] = []  # what the run in float32 said, which is made once
DTYPES = ["tf32", "bfloat16", "float16"]
# a step that a test looks into, or spoils, is one that Python runs
EAGER = ["--no-graph"] if "graph" in opts.settings(Config) else []


@pytest.fixture
def train(cuda, monkeypatch, capsys, tmp_path):
    """train(name, *flags): exit code of a run in tmp_path/name, and what it printed."""
    data = tmp_path / "cats.txt"
    data.write_text(TEXT)

    def run(name, *argv, device=cuda):
        if "--resume" in argv:
            argv = [*argv[:1], str(tmp_path / name), *argv[1:]]
        else:
            argv = [*TINY, "--data", str(data), "--out", str(tmp_path / name), "--device", device,
                    *argv]  # fmt: skip
        code = command(gpt.train.main, monkeypatch, *argv)
        out = capsys.readouterr()
        return code, out.out + out.err

    return run


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_run_in_it_learns_as_one_in_float32(dtype, train, tmp_path, monkeypatch, capsys):
    for name, flag in (("own", dtype), *([] if WIDE else [("wide", "float32")])):
        code, said = train(name, "--dtype", flag, "--eval-every", "6")
        assert code == 0, said
    WIDE.extend(readings(tmp_path / "wide") if not WIDE else [])
    own = readings(tmp_path / "own")
    assert len(own) == len(WIDE) == 5
    for a, b in zip(own, WIDE):
        assert a == pytest.approx(b, rel=0.01)
    saved = Checkpoint.find(tmp_path / "own")
    assert all(w.dtype == np.float32 for w in saved.weights().values())
    assert saved.config.run.dtype == dtype
    scaler = saved.state["scaler"]
    assert (scaler is not None) == (dtype == "float16")
    assert scaler is None or scaler["scale"] == 2.0**16 and scaler["_growth_tracker"] == 6
    used = []
    computing = Precision.computing
    monkeypatch.setattr(
        Precision, "computing", lambda self: used.append(self.dtype) or computing(self)
    )
    for device, dtype_used in (("cuda", dtype), ("cpu", "float32")):
        argv = [str(tmp_path / "own"), "--prompt", "the ", "--max-new-tokens", "9"]
        assert command(gpt.generate.main, monkeypatch, *argv, "--device", device) == 0
        assert used[-1] == dtype_used and "the " in capsys.readouterr().out


HALF = {"linear", "packed_attention", "gelu", "gelu_mlp", "dropout", "layer_norm",
        "add_layer_norm"}  # fmt: skip


class Seen(Watcher):
    def __init__(self):
        self.dtypes, self.casts = {}, []

    def forward(self, op, args, static, outs, node):
        self.dtypes.setdefault(op.name, set()).add(outs[0].dtype.name)
        if op.name == "cast" and args[0].is_leaf and args[0].requires_grad:
            self.casts.append(id(args[0]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_activations_are_half_and_weights_are_cast_once_a_step(dtype, cuda, tmp_path):
    (tmp_path / "cats.txt").write_text(TEXT)
    argv = [*TINY, "--data", str(tmp_path / "cats.txt"), "--out", str(tmp_path / "r"),
            "--device", cuda, "--dtype", dtype, "--grad-accum", "3", *EAGER]  # fmt: skip
    training = Training(from_command_line(argv))
    for step in range(2):
        with Seen() as seen:
            training.step(step, 1e-3)
        assert len(seen.casts) == len(set(seen.casts))  # or never, where a kernel does
    half = {name for name in HALF if seen.dtypes.get(name) == {dtype}}
    assert half == HALF & seen.dtypes.keys() and len(half) >= 5
    losses = {"cross_entropy", "linear_cross_entropy"} & seen.dtypes.keys()
    assert losses and all(seen.dtypes[name] == {"float32"} for name in losses)
    assert all(p.grad.dtype == tt.float32 for p in training.model.parameters())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_second_derivatives_go_through_float32_weights(dtype, cuda):
    """A kernel has taken the weight as it is: the rules, run on Tensors, do so as well."""
    tt.manual_seed(1)
    found = []
    for device, kind in ((cuda, dtype), ("cpu", "float32")):
        tt.manual_seed(1)
        layer, x = tt.nn.Linear(6, 5).to(device), tt.randn(4, 6).to(device).requires_grad_()
        with Precision(kind, device).computing():
            out = layer(x)
        (g,) = tt.autograd.grad((out.float() ** 2).sum(), x, create_graph=True)
        (g**2).sum().backward()
        found.append([t.grad.numpy(force=True) for t in (x, layer.weight, layer.bias)])
        assert all(t.dtype == np.float32 for t in found[-1])
    for mine, theirs in zip(*found):  # 2^-8 for each rounding to bfloat16
        np.testing.assert_allclose(mine, theirs, 0.05, 0.05 * abs(theirs).max())


def overflowing(monkeypatch, steps, value=np.inf):
    """Make a gradient overflow at some steps."""
    plain = TrainingState.gradients

    def poisoned(self, batches):
        loss = plain(self, batches)
        if self.step in steps:
            next(iter(self.model.parameters())).grad.array[...] = value
        return loss

    monkeypatch.setattr(TrainingState, "gradients", poisoned)


def test_float16_goes_on_bit_for_bit_over_an_overflow(train, tmp_path, monkeypatch):
    """Its scale is in the checkpoint: 6 steps, and 3, a break, and the rest."""
    overflowing(monkeypatch, (1, 4))
    flags = [*EAGER, "--dtype", "float16", "--save-every", "3", "--max-skipped", "0", "--ema",
             "0.9", "--log-every", "3"]  # fmt: skip
    code, said = train("whole", *flags)
    assert code == 0 and "step      2   left out" in said and "loss scale of 65536" in said
    step = Training.step

    def killed(self, at, lr):
        if at == 4:
            raise KeyboardInterrupt
        return step(self, at, lr)

    monkeypatch.setattr(Training, "step", killed)
    assert train("parts", *flags)[0] == 130
    monkeypatch.setattr(Training, "step", step)
    assert train("parts", "--resume")[0] == 0
    paths = [tmp_path / name / "checkpoints" / "000006" for name in ("whole", "parts")]
    for name in ("model.safetensors", "optimizer.safetensors", "ema.safetensors"):
        assert (paths[0] / name).read_bytes() == (paths[1] / name).read_bytes()
    states = [json.loads((path / "state.json").read_text()) for path in paths]
    for key in ("scaler", "guard", "rng", "optimizer"):
        assert states[0][key] == states[1][key]
    assert states[0]["scaler"]["scale"] == 2.0**14 and states[0]["guard"]["skipped"] == 2
    assert {s["step"] for s in states[0]["optimizer"]["state"].values()} == {4}


# ------------------------------------------------------------------------------ the guard


LOSSES = st.one_of(st.floats(0, 10, width=32), st.sampled_from([np.nan, np.inf, 1e30, 50.0]))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(LOSSES, LOSSES, st.sampled_from([1.0, 4.0])), max_size=70),
       st.sampled_from([0.0, 2.0]), st.integers(0, 3))  # fmt: skip
def test_the_gate_is_the_guard(cuda, steps, spikes, limit):
    """Step by step the same word, until too many were left out; then it stays shut."""
    guard = Guard(OptimConfig(skip_spikes=spikes, max_skipped=limit))
    first = [guard.judge(2.0 + i % 3 / 8, 1.0) for i in range(60)]
    gate = Gate(guard, cuda)
    assert all(first)
    for loss, norm, scale in steps:
        numbers = [tt.tensor(n, dtype=tt.float32, device=cuda) for n in (loss, norm, scale)]
        shut = gate.shut(*numbers).item()
        if guard.exhausted:
            assert shut == 1
            continue
        assert shut == (not guard.judge(*(n.item() for n in numbers)))
        own = gate.in_a_row.item(), gate.seen.item(), gate.mean.item(), gate.variance.item()
        assert own == (guard.in_a_row, guard.seen, guard.mean, guard.variance)


def test_steps_left_out_change_nothing_and_are_told_later(train, tmp_path, monkeypatch):
    overflowing(monkeypatch, (1, 2), np.nan)
    code, said = train("r", *EAGER, "--save-every", "1", "--log-every", "4", "--ema", "0.5")
    assert code == 0
    folder = tmp_path / "r" / "checkpoints"
    for name in ("model", "optimizer", "ema"):
        files = [(folder / f"{n:06d}" / f"{name}.safetensors").read_bytes() for n in range(1, 5)]
        assert files[0] == files[1] == files[2] != files[3]
    assert said.index("step      2   left out: the loss is") < said.index("step      3   left out")
    assert [r.get("skipped") for r in read_metrics(tmp_path / "r" / "metrics.jsonl")][-1] == 2
    assert Checkpoint.find(tmp_path / "r").state["guard"]["in_a_row"] == 0


def test_too_many_in_a_row_are_found_at_the_next_reading(train, tmp_path, monkeypatch, capsys):
    """The step, its batch and the state before it are those at which a CPU stops, though four more
    sound steps were made until the reading."""
    for device in ("cuda", "cpu"):
        with monkeypatch.context() as patch:
            overflowing(patch, (2, 3, 4), np.nan)
            code, said = train(device, *EAGER, "--max-skipped", "2", "--log-every", "9",
                               "--eval-every", "9", "--max-steps", "9", device=device)  # fmt: skip
        assert code == 2 and "3 steps in a row were left out" in said, said
        assert f"python -m gpt.replay {tmp_path / device}/crash/000004" in said
    crashes = [Checkpoint(tmp_path / device / "crash" / "000004") for device in ("cuda", "cpu")]
    for name, w in crashes[0].weights().items():
        np.testing.assert_allclose(w, crashes[1].weights()[name], 1e-4, 1e-6)
    for key in ("rng", "step", "guard"):
        assert crashes[0].state[key] == crashes[1].state[key]
    batches = [crash.arrays("batch.safetensors")["x"] for crash in crashes]
    assert np.array_equal(*batches)
    assert {s["step"] for s in crashes[0].state["optimizer"]["state"].values()} == {2}
    import gpt.replay

    argv = [str(tmp_path / "cuda" / "crash" / "000004"), "--device", "cuda"]
    assert command(gpt.replay.main, monkeypatch, *argv) == 0
    assert "every number in this step is finite" in capsys.readouterr().out


# ------------------------------------------------------------------------------ where it cannot be


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("main", [gpt.train.main, gpt.plan.main], ids=["train", "plan"])
def test_a_cpu_has_none_of_it(main, dtype, tmp_path, monkeypatch, capsys):
    (tmp_path / "cats.txt").write_text(TEXT)
    argv = [*TINY, "--data", str(tmp_path / "cats.txt"), "--device", "cpu", "--dtype", dtype]
    argv += ["--out", str(tmp_path / "r")]
    assert command(main, monkeypatch, *argv) == 2
    error = capsys.readouterr().err
    assert f"--dtype {dtype}: only a GPU computes in it" in error and "--device cuda" in error
    assert "Traceback" not in error and len(error.splitlines()) == 1
    assert not (tmp_path / "r").exists()


def test_an_old_gpu_is_told_what_it_has(cuda, monkeypatch, request):
    if request.config.getoption("--device") == "cuda":
        pytest.skip("for a GPU that it plays")
    monkeypatch.setattr(tt.backend.cupy().cuda.Device, "compute_capability", "75")
    with pytest.raises(gpt.errors.UserError, match="capability 7.5, and bfloat16 needs 8.0: use "
                       "--dtype float16"):  # fmt: skip
        Precision("bfloat16", cuda)
    Precision("float16", cuda)
    monkeypatch.setattr(doctor, "installed", lambda name: name != "ml_dtypes")
    found = "\n".join(map(str, doctor.cuda()))  # its properties say 9.0
    assert "GB free; --dtype float32, float16, tf32, bfloat16" in found
    assert "only for --dtype bfloat16: pip install ml_dtypes" in found


def test_the_plan_counts_half_precision(cuda):
    from gpt.estimate import Cost

    wide, half = (
        Cost(from_command_line(["--preset", "tales", "--dtype", dtype]), "cuda")
        for dtype in ("float32", "bfloat16")
    )
    assert half.activations(64) == wide.activations(64) / 2
    assert half.fixed["copies"] == 2 * half.parameters and "copies" not in wide.fixed
    assert half.largest_batch(2**33) > 1.2 * wide.largest_batch(2**33)
