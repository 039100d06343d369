"""`gpt.plan`: its numbers against a model that is made and trained, and against the machine."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

import tinytensor as tt
from gpt import machine, plan
from gpt.checkpoint import Checkpoint
from gpt.config import Config, DataConfig, FinetuneConfig, GPTConfig, OptimConfig, RunConfig
from gpt.documents import loss_of
from gpt.estimate import Cost, last_true
from gpt.models import build_model
from gpt.state import TrainingState
from gpt.tokenizers import ByteTokenizer
from tinytensor.nn.utils import clip_grad_norm_

pytestmark = pytest.mark.usefixtures("undrawn")
PLAIN = GPTConfig(100, 64, 2, 4, 128)
FORGETS = RunConfig(checkpoint_activations=True)
LORA = FinetuneConfig(init_from="somewhere", lora_rank=4)
CASES = {
    "plain": (Config(gpt=PLAIN), 8),
    "deep": (Config(gpt=GPTConfig(100, 256, 4, 4, 128)), 4),
    "a large vocabulary": (Config(gpt=GPTConfig(5000, 64, 2, 4, 128)), 8),
    "a long context": (Config(gpt=GPTConfig(100, 512, 2, 2, 64)), 4),
    "the course's": (Config(gpt=replace(PLAIN, norm_position="post", activation="relu",
                                        tie_weights=False)), 8),
    "dropout, without bias": (Config(gpt=replace(PLAIN, dropout=0.1, bias=False)), 8),
    "LoRA": (Config(gpt=PLAIN, finetune=LORA), 8),
    "averages": (Config(gpt=PLAIN, optim=OptimConfig(ema=0.9)), 8),
    "the lower half frozen": (Config(gpt=GPTConfig(100, 64, 4, 4, 128), finetune=FinetuneConfig(
        freeze="wte.*,wpe.*,h.[01].*")), 8),
    "documents": (Config(gpt=PLAIN, data=DataConfig(document_attention=True)), 8),
    "checkpointed": (Config(gpt=GPTConfig(100, 64, 6, 4, 128), run=FORGETS), 8),
    "checkpointed documents": (Config(gpt=PLAIN, data=DataConfig(document_attention=True),
                                      run=FORGETS), 8),
}  # fmt: skip


def one_batch(config: Config, batch: int) -> tuple:
    x = np.random.default_rng(0).integers(0, config.gpt.vocab_size, (batch, config.gpt.block_size))
    ids = np.arange(config.gpt.block_size) // 20 + np.zeros_like(x)
    return (x, x, ids) if config.data.document_attention else (x, x)


def steps(config: Config, batch: int):
    """A training state, and a function that does one step of it."""
    state = TrainingState.new(config, ByteTokenizer(), tt.device("cpu"))
    data = one_batch(config, batch)

    def step():
        state.gradients([data])
        clip_grad_norm_(state.model.parameters(), 1.0)
        state.optimizer.step()
        if state.ema:
            state.ema.update(1)

    return state, data, step


@pytest.mark.parametrize("config, batch", CASES.values(), ids=CASES)
def test_activations_are_what_the_tape_keeps(config, batch):
    state, data, _ = steps(config, batch)
    kept = tt.tape_memory(loss_of(state.model, data, "cpu")).owned
    assert Cost(config).activations(batch) == pytest.approx(kept, rel=0.1)


@pytest.mark.parametrize("config, batch", CASES.values(), ids=CASES)
def test_the_peak_is_what_a_step_takes(config, batch):
    tracemalloc.start()
    try:
        _, _, step = steps(config, batch)
        step()  # moments are made, and memory that is used again
        tracemalloc.reset_peak()
        step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert Cost(config).peak(batch) == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize("config, batch", CASES.values(), ids=CASES)
def test_parameters_are_the_models(config, batch):
    tt.manual_seed(7)
    cost = Cost(config)
    assert cost.parameters == sum(cost.modules.values())
    assert tt.default_generator.get_state() == (7, 0)  # looking changes nothing
    model = build_model(config)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert cost.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_gpt2s_numbers():
    cost = Cost(Config())
    assert cost.parameters == 124_439_808
    # nanoGPT's estimate_mfu: 6 N + 12 L H Q T, with N = all weights but positions
    theirs = 6 * (124_439_808 - 1024 * 768) + 12 * 12 * 12 * 64 * 1024
    assert cost.flops_per_token == pytest.approx(theirs, rel=1e-3)


def test_frozen_weights_cost_two_thirds():
    plain, lora = Cost(Config(gpt=PLAIN)), Cost(Config(gpt=PLAIN, finetune=LORA))
    attention = 12 * 2 * 64 * 128
    N = 2 * 12 * 128**2 + 100 * 128
    assert plain.flops_per_token == 6 * N + attention
    assert 4 * N + attention < lora.flops_per_token < 5 * N + attention


def test_the_largest_batch_is_the_largest():
    cost = Cost(CASES["plain"][0])
    for available in (0, 1 << 20, 1 << 25, 1 << 30, 10**12):
        n = cost.largest_batch(available)
        assert n == 0 or cost.peak(n) <= 0.9 * available
        assert cost.peak(n + 1) > 0.9 * available
    assert [last_true(lambda n, m=m: n <= m) for m in (0, 1, 2, 3, 1000)] == [0, 1, 2, 3, 1000]


def test_the_command(run, cats):
    answer = run("gpt.plan", "--data", cats, "--n-layer", "2", "--max-steps", "200")
    assert answer.code == 0, answer.err
    for words in ("h.*.attn", "parameters", "moments", "there is", "FLOP/s measured", "estimate"):
        assert words in answer.out


def test_of_a_run_that_goes_on(run, train, tmp_path):
    assert train("--out", tmp_path / "r").code == 0
    before = sorted((tmp_path / "r").rglob("*"))
    answer = run("gpt.plan", "--resume", tmp_path / "r", "--max-steps", "99")
    assert answer.code == 0 and "99 steps" in answer.out
    assert sorted((tmp_path / "r").rglob("*")) == before
    assert run("gpt.plan", "--resume", tmp_path / "r", "--n-layer", "2").code == 2


def test_the_preamble_says_it(train, tmp_path):
    out = train("--out", tmp_path / "r").out
    assert "at the most" in out and "FLOP a token" in out and "an estimate" in out


def test_too_much_is_said_before_anything_is_made(train, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "device_memory", lambda device: (1 << 20, 1 << 20))
    answer = train("--out", tmp_path / "r", "--batch-size", "600")
    assert answer.code == 2 and not (tmp_path / "r").exists()
    assert "activations" in answer.out and "--batch-size to" in answer.err
    assert "--grad-accum to" in answer.err


def test_memory_that_ends_in_a_step_is_said(train, tmp_path, monkeypatch):
    def none_left(self, step, lr):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("gpt.train.Training.step", none_left)
    answer = train("--out", tmp_path / "r")
    assert answer.code == 2 and "Unable to allocate 9 GiB; lower --batch-size" in answer.err
    assert "activations" in answer.out


def test_auto_keeps_the_tokens_of_a_step(train, tmp_path, monkeypatch):
    config = Config(gpt=GPTConfig(17, 16, 1, 2, 16), optim=OptimConfig(grad_accum=5))
    cost = Cost(config)
    room = math.ceil(cost.peak(13) / 0.9) + 1
    monkeypatch.setattr("gpt.fit.device_memory", lambda device: (room, 1 << 40))
    answer = train("--out", tmp_path / "r", "--preset", "shakespeare-cpu", "--grad-accum", "5",
                   "--batch-size", "auto", "--dropout", "0")  # fmt: skip
    assert answer.code == 0, answer.err
    config = Checkpoint.find(tmp_path / "r").config
    assert (config.data.batch_size, config.optim.grad_accum) == (12, 5)  # of 60, up to 13


def test_auto_is_not_for_a_run_that_goes_on(train, run, tmp_path):
    assert train("--out", tmp_path / "r").code == 0
    answer = run("gpt.train", "--resume", tmp_path / "r", "--batch-size", "auto")
    assert answer.code == 2 and "--batch-size auto: the run has 4" in answer.err


GROUPS = {
    "version 2": ("0::/a/b\n", {"a/memory.max": "5000", "a/memory.current": "3000",
                                "a/memory.stat": "inactive_file 1000", "a/b/memory.max": "max",
                                "a/b/memory.current": "1", "a/b/memory.stat": ""}),
    "version 1": ("9:cpu:/\n4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "5000",
                                             "memory/a/memory.usage_in_bytes": "3000",
                                             "memory/a/memory.stat": "total_inactive_file 1000"}),
}  # fmt: skip


@pytest.mark.parametrize("own, files", GROUPS.values(), ids=GROUPS)
def test_a_containers_limit_counts(tmp_path, monkeypatch, own, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN", tmp_path / "own")
    assert machine.memory_bytes() == (3000, 5000)
