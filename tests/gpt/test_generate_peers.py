"""Generation against Hugging Face's transformers: its processors, and its generate on one model."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2LMHeadModel
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)  # fmt: skip

import tinytensor as tt
from gpt.config import GPTConfig
from gpt.decoding import Writer
from gpt.model import GPT
from gpt.sampling import Sampler, penalize

V = 50


@given(
    st.integers(0, 2**32 - 1), st.floats(0.1, 3), st.integers(0, 60), st.floats(0.05, 1),
    st.floats(0, 0.5), st.floats(0.5, 2), st.lists(st.integers(0, V - 1), min_size=1, max_size=30),
)  # fmt: skip
@settings(max_examples=60)
def test_the_probabilities_are_those_of_transformers(seed, temperature, k, p, min_p, penalty, seen):
    logits = np.random.default_rng(seed).normal(0, 3, V)
    theirs = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty)])
    theirs.append(TemperatureLogitsWarper(temperature))
    if k:
        theirs.append(TopKLogitsWarper(k))
    theirs.append(TopPLogitsWarper(p))
    theirs.append(MinPLogitsWarper(min_p))
    expected = theirs(torch.tensor([seen]), torch.tensor(logits)[None])[0].softmax(-1).numpy()
    ours = Sampler(temperature, k, p, min_p).probabilities(penalize(logits, seen, penalty))
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-15)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The same random GPT-2 here and there."""
    tt.manual_seed(0)
    ours = GPT(GPTConfig(vocab_size=V, block_size=48, n_layer=3, n_head=4, n_embd=32, init_std=0.2))
    folder = tmp_path_factory.mktemp("gpt2")
    ours.save_pretrained(folder)
    return ours.eval(), GPT2LMHeadModel.from_pretrained(folder).eval()


@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("length", [1, 7, 20])
def test_greedy_ids_are_those_of_transformers(pair, length, penalty):
    ours, theirs = pair
    ids = np.random.default_rng(length).integers(0, V, (1, length))
    with torch.no_grad():
        expected = theirs.generate(
            torch.tensor(ids), attention_mask=torch.ones(1, length), do_sample=False,
            max_new_tokens=48 - length, repetition_penalty=penalty, pad_token_id=0,
            eos_token_id=None,
        )  # fmt: skip
    out = ours.generate(tt.tensor(ids), 48 - length, temperature=0, repetition_penalty=penalty)
    np.testing.assert_array_equal(out.numpy(), expected.numpy())


def test_a_batch_of_different_lengths_is_that_of_transformers(pair):
    """There with padding on the left and masks, here with none."""
    ours, theirs = pair
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, V, n).tolist() for n in (3, 11, 6)]
    writer = Writer(ours, prompts, Sampler(temperature=0), 0)
    for _ in range(20):
        writer.step()
    padded = torch.tensor([[0] * (11 - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (11 - len(p)) + [1] * len(p) for p in prompts])
    with torch.no_grad():
        out = theirs.generate(padded, attention_mask=mask, do_sample=False, max_new_tokens=20,
                              pad_token_id=0, eos_token_id=None).tolist()  # fmt: skip
    assert [row.ids for row in writer.rows] == [o[11 - len(p) :] for o, p in zip(out, prompts)]
