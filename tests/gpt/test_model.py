"""gpt.GPT against the same model in PyTorch, and against what theory says of its first loss."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from peers.loss_curve import curves, worst
from peers.torch_gpt import twin

import tinytensor as tt
from gpt.bigram import Bigram
from gpt.config import Config, GPTConfig
from gpt.model import GPT

SMALL = GPTConfig(vocab_size=31, block_size=16, n_layer=2, n_head=4, n_embd=32, bias=True)
VARIANTS = {
    "gpt2": SMALL,
    "no bias": replace(SMALL, bias=False),
    "course": replace(SMALL, norm_position="post", activation="relu", tie_weights=False),
    "exact gelu": replace(SMALL, activation="gelu", n_layer=1),
}


def some_ids(config, batch=3, time=None, seed=0):
    rng = np.random.default_rng(seed)
    shape = (batch, time or config.block_size)
    return tuple(rng.integers(0, config.vocab_size, shape) for _ in "xy")


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_logits_and_gradients_equal_pytorch_in_float64(config):
    tt.manual_seed(1)
    ours = GPT(config).double()
    theirs = twin(ours, torch.float64)
    x, y = some_ids(config)
    logits, loss = ours(tt.tensor(x), tt.tensor(y))
    loss.backward()
    their_logits, their_loss = theirs(torch.tensor(x), torch.tensor(y))
    their_loss.backward()
    np.testing.assert_allclose(logits.detach().numpy(), their_logits.detach().numpy(), rtol=1e-10)
    expected = dict(theirs.named_parameters())
    assert {name for name, _ in ours.named_parameters()} == set(expected)
    for name, p in ours.named_parameters():
        np.testing.assert_allclose(
            p.grad.numpy(), expected[name].grad.numpy(), rtol=1e-9, atol=1e-14, err_msg=name
        )


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_training_follows_pytorch_step_by_step(config):
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, 5000)
    base = Config()
    run = replace(
        base,
        gpt=config,
        optim=replace(base.optim, max_steps=30, warmup_steps=5),
        data=replace(base.data, batch_size=4),
    )
    ours, theirs = curves(run, tokens, 30)
    assert worst(ours, theirs) < 1e-4


def test_parameter_count_of_gpt2():
    """124,439,808, counted on shapes: V C + T C + L (12 C^2 + 13 C) + 2 C."""
    c = GPTConfig(vocab_size=97, block_size=24, n_layer=3, n_head=2, n_embd=16)
    C, L = c.n_embd, c.n_layer
    count = sum(p.numel() for p in GPT(c).parameters())
    assert count == c.vocab_size * C + c.block_size * C + L * (12 * C * C + 13 * C) + 2 * C
    big = GPTConfig()
    C, L = big.n_embd, big.n_layer
    formula = big.vocab_size * C + big.block_size * C + L * (12 * C * C + 13 * C) + 2 * C
    assert formula == 124_439_808


def test_first_loss_is_what_theory_says():
    """E[loss] = ln V + n_embd * 0.02^2 / 2 for an untied head: the spread of the logits."""
    config = replace(SMALL, vocab_size=200, n_embd=512, n_head=4, n_layer=1, tie_weights=False)
    expected = math.log(200) + 512 * 0.02**2 / 2
    losses = []
    for seed in range(4):
        tt.manual_seed(seed)
        x, y = some_ids(config, batch=64, seed=seed)
        with tt.no_grad():
            losses.append(GPT(config)(tt.tensor(x), tt.tensor(y))[1].item())
    # the mean of 4 x 1024 tokens, each logit N(0, 0.2): standard error 0.45 / 64 = 0.007
    assert abs(np.mean(losses) - expected) < 0.025
    assert abs(np.mean(losses) - math.log(200)) > 0.06  # the second term is really there


def test_first_loss_of_the_bigram():
    tt.manual_seed(0)
    x, y = np.random.default_rng(0).integers(0, 80, (2, 64, 256))
    loss = Bigram(80)(tt.tensor(x), tt.tensor(y))[1].item()
    assert abs(loss - (math.log(80) + 0.5)) < 0.05


def test_no_position_sees_the_future():
    tt.manual_seed(0)
    model = GPT(SMALL).eval()
    x, y = some_ids(SMALL, batch=1)
    changed = x.copy()
    changed[:, 9:] = (changed[:, 9:] + 1) % SMALL.vocab_size
    a, b = (model(tt.tensor(v), tt.tensor(y))[0].detach().numpy() for v in (x, changed))
    np.testing.assert_array_equal(a[:, :9], b[:, :9])
    assert np.abs(a[:, 9:] - b[:, 9:]).max() > 1e-3


def test_targets_of_minus_one_do_not_count():
    model = GPT(SMALL)
    x, y = some_ids(SMALL)
    masked = y.copy()
    masked[:, ::2] = -1
    _, loss = model(tt.tensor(x), tt.tensor(masked))
    logits, _ = model(tt.tensor(x), tt.tensor(y))
    logs = logits.log_softmax(-1).detach().numpy()
    kept = [-logs[b, t, y[b, t]] for b in range(3) for t in range(1, 16, 2)]
    assert loss.item() == pytest.approx(np.mean(kept), rel=1e-5)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="17 tokens do not fit block_size = 16"):
        GPT(SMALL)(tt.zeros(1, 17, dtype=tt.int64))
    with pytest.raises(ValueError, match="n_head = 5: must divide n_embd = 32"):
        GPT(replace(SMALL, n_head=5))
