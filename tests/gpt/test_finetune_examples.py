"""Prompts and completions: only completions are learned, and every mistake in a file is named."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import DataError
from data.examples import Example, ExampleBatches, read_examples
from gpt import example_source
from gpt.checkpoint import Checkpoint
from gpt.config import Config, DataConfig, GPTConfig
from gpt.evaluate import mean_loss
from gpt.run import read_metrics
from gpt.tokenizers import ByteTokenizer

pytestmark = pytest.mark.usefixtures("undrawn")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)).filter(lambda n: sum(n) > 1),
                min_size=1, max_size=9), st.integers(1, 5), st.integers(0, 99))  # fmt: skip
def test_targets_are_the_completions_alone(sizes, batch_size, seed):
    rng = np.random.default_rng(seed)
    examples = [Example(rng.integers(1, 99, a + b), a) for a, b in sizes]
    batches = ExampleBatches(examples, batch_size, seed)
    longest = max(map(sum, sizes)) - 1
    seen = []
    for x, y in (batches.batch(step) for step in range(3 * len(examples))):
        assert x.shape == y.shape == (batch_size, longest)
        for row, targets in zip(x, y):
            at = np.flatnonzero(targets != -1)
            matches = [i for i, e in enumerate(examples)
                       if np.array_equal(row[: len(e.ids) - 1], e.ids[:-1])
                       and not row[len(e.ids) - 1 :].any()
                       and np.array_equal(targets[at], e.ids[max(e.n_prompt, 1) :])
                       and np.array_equal(at, np.arange(max(e.n_prompt, 1) - 1, len(e.ids) - 1))]
            assert matches
            seen.append(matches)
    first = seen[: len(examples)]  # an epoch has each once
    assert len({tuple(m) for m in first}) == len({e.ids.tobytes() + bytes([e.n_prompt])
                                                  for e in examples})  # fmt: skip
    total = sum(int((y != -1).sum()) for _, y in batches.sweep(2))
    assert total == sum(len(e.ids) - max(e.n_prompt, 1) for e in examples)


LINES = [
    ("{", "line 1: is not JSON"),
    ('{"prompt": "a"}', 'line 1: is no object with the texts "prompt" and "completion"'),
    ('{"text": "a"}', "python -m data.prepare"),
    ("[1]", "line 1: is no object"),
    ('{"prompt": "a", "completion": 3}', "line 1: is no object"),
    ('{"prompt": "a", "completion": ""}', "line 1: its completion is empty"),
    ("", "is empty"),
    ("\n\n", "has 0 examples: at least 2"),
    ('{"prompt": "a", "completion": "b"}', "has 1 examples: at least 2"),
    ('{"prompt": "abcdefghij", "completion": "abcdefghij"}\n' * 2,
     "line 1: has 20 tokens, and --block-size 16 holds 17"),
    ('{"prompt": "", "completion": "b"}\n' * 2, "line 1: has one token"),
    ("[" * 100_000, "line 1: is not JSON"),
    (b"\xff", "is not valid utf-8"),
]  # fmt: skip


@pytest.mark.parametrize("text, words", LINES, ids=range(len(LINES)))
def test_a_file_that_is_none(train, tmp_path, text, words):
    path = tmp_path / "x.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    answer = train("--data", path, "--out", tmp_path / "r")
    assert answer.code == 2 and words in answer.err and "x.jsonl" in answer.err
    assert not (tmp_path / "r").exists() and "Traceback" not in answer.err


def test_blank_lines_count_as_lines(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('\n{"prompt": "p", "completion": "c", "id": 7}\n\n{"prompt": 1}')
    with pytest.raises(DataError, match="line 4"):
        read_examples(path)
    path.write_text(path.read_text().split('{"prompt": 1}')[0])
    assert read_examples(path) == [(2, "p", "c")]


def test_an_end_of_text_is_learned_where_there_is_one(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "ab", "completion": "c"}\n' * 3)
    config = Config(gpt=GPTConfig(block_size=8), data=DataConfig(tokenizer="byte"))
    found = example_source.load(path, config, None)
    x, y = found.batches(config, "train", "train").batch(0)
    assert isinstance(found.tokenizer, ByteTokenizer)
    assert y[0].tolist() == [-1, ord("c"), found.tokenizer.end_of_text]
    assert found.start == "ab" and found.sizes == (2, 1)


def test_accumulated_batches_weigh_by_their_targets():
    """Two batches of unlike counts have the gradient of one that is both."""
    import tinytensor as tt
    from gpt.state import TrainingState

    config = Config(gpt=GPTConfig(11, 8, 1, 2, 8))
    state = TrainingState.new(config, ByteTokenizer(), tt.device("cpu"))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 11, (2, 4, 8))
    y[0, 1:] = -1
    y[1, :5] = -1
    whole = state.gradients([(x, y)]).item()
    grads = [p.grad.numpy().copy() for p in state.model.parameters()]
    assert state.gradients([(x[:2], y[:2]), (x[2:], y[2:])]).item() == pytest.approx(whole)
    for g, p in zip(grads, state.model.parameters()):
        np.testing.assert_allclose(p.grad.numpy(), g, rtol=0, atol=1e-6)


def test_a_run_learns_to_answer(run, train, tmp_path):
    path = tmp_path / "x.jsonl"
    words = {"cat": "mat", "dog": "log", "hen": "den"}
    lines = [json.dumps({"prompt": f"{a} on ", "completion": f"{b}.\n"}) for a, b in words.items()]
    path.write_text("\n".join(lines * 40))
    out = tmp_path / "r"
    answer = train("--data", path, "--out", out, "--max-steps", "100", "--dropout", "0",
                   "--eval-every", "100", "--val-fraction", "0.1")  # fmt: skip
    assert answer.code == 0 and "108 examples to learn from, 12 held out" in answer.out
    assert "Of 12 held-out examples" in answer.out
    last = read_metrics(out / "metrics.jsonl")[-1]
    assert last["final_val_loss"] < 0.1
    for a, b in words.items():
        text = run("gpt.generate", out, "--prompt", f"{a} on ", "--stop", r"\n",
                   "--temperature", "0", "--max-new-tokens", "8").out  # fmt: skip
        assert text == f"{a} on {b}.\n"


def test_prompts_are_not_learned(tmp_path):
    """The loss of a model does not depend on what it thinks of prompts."""
    import tinytensor as tt
    from gpt.model import GPT

    tt.manual_seed(0)
    model = GPT(GPTConfig(50, 8, 1, 2, 8, init_std=0.3))
    ids = np.arange(1, 8)
    loss = mean_loss(model, ExampleBatches([Example(ids, 4)], 1, 0).sweep(1), "cpu")
    with tt.no_grad():
        logits, _ = model(tt.tensor(ids[None, :-1]), tt.tensor(ids[None, 1:]))
    p = logits.numpy()[0].astype(np.float64)
    nll = np.log(np.exp(p).sum(-1)) - p[np.arange(6), ids[1:]]
    assert loss == pytest.approx(nll[3:].mean(), rel=1e-5)


def test_a_checkpoint_has_the_tokenizer(train, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "é", "completion": "ü"}\n' * 3)
    assert train("--data", path, "--out", tmp_path / "r").code == 0
    assert Checkpoint.find(tmp_path / "r").tokenizer.chars == ["é", "ü"]
