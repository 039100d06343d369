"""Memory of the GPU: what is counted, what is tried, and what is answered when there is no more."""

import numpy as np
import pytest

import gpt.train
import tinytensor as tt
from gpt import fit
from gpt.checkpoint import Checkpoint
from gpt.config import from_command_line

from .device import Memory, OutOfMemoryError
from .test_training import TINY, command, readings, text  # noqa: F401  (text: a fixture)

MB = 1 << 20


@pytest.fixture
def room(cuda, request, monkeypatch):
    """`room(n)`: the GPU has n bytes, beside what is in use already."""
    if request.config.getoption("--device") == "cuda":
        pytest.skip("the memory of a real GPU is what it is")

    def make(n: int) -> None:
        monkeypatch.setattr(Memory, "total", Memory.used[0] + n)

    return make


def test_the_peak_is_counted(cuda):
    device = f"{cuda}:0"
    tt.cuda.reset_peak_memory_stats(device)
    before = tt.cuda.memory_allocated(device)
    a = tt.zeros(MB, device=device)
    b = a + 1
    del a, b
    assert tt.cuda.max_memory_allocated(device) == before + 8 * MB
    assert tt.cuda.memory_allocated(device) == before
    assert tt.cuda.memory_reserved(device) >= tt.cuda.memory_allocated(device)
    tt.cuda.reset_peak_memory_stats(device)
    assert tt.cuda.max_memory_allocated(device) == before
    with pytest.raises(tt.errors.DeviceError):
        tt.cuda.reset_peak_memory_stats("cuda:9")


def test_what_a_gpu_is(cuda):
    own = tt.cuda.get_device_properties(cuda)
    assert own.name == tt.cuda.get_device_name(cuda) and own.name
    assert own.total_memory >= tt.cuda.mem_get_info(cuda)[0] > 0
    assert tt.cuda.get_device_capability(cuda) == (own.major, own.minor) >= (7, 0)
    assert own.multi_processor_count > 0 and own.L2_cache_size > 0
    tt.cuda.set_device(f"{cuda}:0")
    assert tt.cuda.current_device() == 0


def test_no_more_memory_is_cupys_error(room):
    room(MB)
    with pytest.raises(OutOfMemoryError, match="Out of memory allocating 4,194,304 bytes"):
        tt.zeros(MB, device="cuda")
    assert tt.ones(1000, device="cuda").sum().item() == 1000  # and life goes on


def config_of(text, *more):  # noqa: F811
    plain = ["--data", text, "--device", "cuda", "--dropout", "0"]
    return from_command_line([*TINY, *plain, *more])


def test_auto_finds_what_fits(cuda, room, text):  # noqa: F811
    """One more divisor of the step's 60 sequences does not fit; nothing stays behind."""
    config = config_of(text, "--batch-size", "12", "--grad-accum", "5", "--vocab-size", "30")
    device = tt.backend.resolve(cuda)
    step = fit.trial(config, device)
    peaks = {}
    for n in (1, 10, 12, 15):
        tt.cuda.reset_peak_memory_stats(device)
        step(n, 60)
        peaks[n] = tt.cuda.max_memory_allocated(device)
    del step
    before = tt.cuda.memory_allocated(device)
    for batch, more in ((10, 12), (12, 15)):
        room(int((peaks[batch] + peaks[more]) / 2 / fit.USABLE) - Memory.used[0])
        fitted = fit.fitted(config, device)
        assert (fitted.data.batch_size, fitted.optim.grad_accum) == (batch, 60 // batch)
    assert tt.cuda.memory_allocated(device) == before


def test_auto_halves_where_the_estimate_was_wrong(cuda, room, text, monkeypatch):  # noqa: F811
    config = config_of(text, "--batch-size", "16", "--vocab-size", "30")
    monkeypatch.setattr(fit, "line", lambda points, batch: 0)  # promises room for all
    room(MB // 5)
    fitted = fit.fitted(config, tt.backend.resolve(cuda))
    assert 1 <= fitted.data.batch_size < 16
    assert fitted.data.batch_size * fitted.optim.grad_accum == 16


def test_a_run_in_what_fits_and_one_that_does_not(
    cuda, room, text, tmp_path, monkeypatch, capsys  # noqa: F811
):
    argv = [*TINY, "--dropout", "0", "--max-steps", "2", "--n-layer", "4", "--data", text,
            "--device", cuda, "--batch-size"]  # fmt: skip
    room(MB)
    assert command(gpt.train.main, monkeypatch, *argv, "400", "--out", str(tmp_path / "a")) == 2
    error = capsys.readouterr().err
    assert "Out of memory allocating" in error and "Traceback" not in error
    assert "--batch-size to" in error and "--checkpoint-activations" in error
    room(MB)
    auto = [*argv, "auto", "--preset", "shakespeare-cpu", "--out", str(tmp_path / "b")]
    assert command(gpt.train.main, monkeypatch, *auto) == 0, capsys.readouterr().err
    config = Checkpoint.find(tmp_path / "b").config
    assert config.data.batch_size * config.optim.grad_accum == 12


def test_checkpointed_activations(cuda, text, tmp_path, monkeypatch):  # noqa: F811
    """The same run bit for bit, in less memory."""
    argv = [*TINY, "--n-layer", "4", "--block-size", "32", "--data", text, "--device", cuda]
    argv += ["--max-steps", "2"]
    peaks = []
    for name, more in (("plain", []), ("again", ["--checkpoint-activations"])):
        tt.cuda.reset_peak_memory_stats(cuda)
        before = tt.cuda.memory_allocated(cuda)
        out = [*more, "--out", str(tmp_path / name)]
        assert command(gpt.train.main, monkeypatch, *argv, *out) == 0
        peaks.append(tt.cuda.max_memory_allocated(cuda) - before)
    assert readings(tmp_path / "plain") == readings(tmp_path / "again")
    weights = [Checkpoint.find(tmp_path / name).weights() for name in ("plain", "again")]
    for name, w in weights[0].items():
        np.testing.assert_array_equal(w, weights[1][name], err_msg=name)
    assert peaks[1] < 0.8 * peaks[0]
