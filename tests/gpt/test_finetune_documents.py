"""Documents side by side in a row are worth what they are alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytensor as tt
from data.shards import Tokens
from gpt import source
from gpt.config import Config, DataConfig, GPTConfig
from gpt.documents import DocumentBatches, Documents, loss_of, within
from gpt.evaluate import evaluate_text
from gpt.model import GPT
from gpt.run import read_metrics

pytestmark = pytest.mark.usefixtures("undrawn")
CONFIG = GPTConfig(vocab_size=11, block_size=24, n_layer=2, n_head=2, n_embd=8, init_std=0.3)


def model() -> GPT:
    tt.manual_seed(3)
    return GPT(CONFIG).eval()


@settings(max_examples=10)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=2))
def test_logits_and_gradients_are_those_of_separate_sequences(rows):
    T = max(map(sum, rows))
    ids = np.zeros((len(rows), T), np.int64)
    for row, sizes in zip(ids, rows):
        row[: sum(sizes)] = np.repeat(np.arange(len(sizes)), sizes)
        row[sum(sizes) :] = len(sizes)
    rng = np.random.default_rng(T)
    x, y = rng.integers(0, 11, (2, *ids.shape))
    if T > CONFIG.block_size:
        ids, x, y = ids[:, :24], x[:, :24], y[:, :24]
    packed, apart = model(), model()
    logits, _ = packed(tt.tensor(x), tt.tensor(y), Documents(ids, "cpu"))
    loss_of(packed, (x, y, ids), "cpu").backward()
    total = 0.0
    for b in range(len(rows)):
        for document in np.unique(ids[b]):
            at = np.flatnonzero(ids[b] == document)
            alone, loss = apart(tt.tensor(x[b : b + 1, at]), tt.tensor(y[b : b + 1, at]))
            np.testing.assert_allclose(logits.detach().numpy()[b, at], alone.detach().numpy()[0],
                                       rtol=0, atol=1e-5)  # fmt: skip
            total = total + loss * (len(at) / x.size)
    total.backward()
    for (name, p), q in zip(packed.named_parameters(), apart.parameters()):
        scale = np.abs(q.grad.numpy()).max() + 1e-3
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=0, atol=1e-5 * scale,
                                   err_msg=name)  # fmt: skip


def test_batches_say_whose_each_token_is_and_ask_for_no_other_beginning():
    tokens = Tokens([np.arange(40) % 11], documents=np.array([0, 5, 6, 20]))
    batches = DocumentBatches(tokens, 8, 6, seed=1)
    plain = super(DocumentBatches, batches)
    seen = 0
    for step in range(20):
        x, y, ids = batches.batch(step)
        assert np.array_equal(x, plain.batch(step)[0])
        for b, start in enumerate(batches.starts(step)):
            whole = np.searchsorted([0, 5, 6, 20], np.arange(start, start + 9), "right")
            assert np.array_equal(np.diff(whole[:-1]), np.diff(ids[b]))
            ends = np.diff(whole) > 0
            assert ((y[b] == -1) == ends).all()
            assert (y[b][~ends] == (x[b][~ends] + 1) % 11).all()
            seen += ends.sum()
    assert seen


def test_the_final_loss_is_of_documents_alone():
    m, sizes = model(), [5, 1, 7, 3]
    tokens = np.random.default_rng(0).integers(0, 11, sum(sizes))
    ids = np.repeat(np.arange(4), sizes)
    ours = evaluate_text(m, tokens, 15, 4, "cpu", ids)
    total = 0.0
    for document in range(4):
        t = tokens[ids == document]
        if len(t) > 1:
            total += m(tt.tensor(t[None, :-1]), tt.tensor(t[None, 1:]))[1].item() * (len(t) - 1)
    assert ours == pytest.approx(total / (4 + 6 + 2), rel=1e-5)


def test_targets_within():
    assert within(np.array([[1, 2, 3]]), np.array([[0, 0, 1, 1]])).tolist() == [[1, -1, 3]]


def test_dropout_is_there_in_training():
    config = GPTConfig(11, 8, 1, 2, 8, dropout=0.5, init_std=0.5)
    m = GPT(config)
    x = np.ones((1, 8), np.int64)
    for part in (m.drop, m.h[0].attn.resid_dropout, m.h[0].mlp.dropout):
        part.p = 0.0  # only attention's is left
    losses = {loss_of(m, (x, x, x), "cpu").item() for _ in range(4)}
    assert len(losses) > 1


@pytest.fixture
def prepared(run, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i:02}.txt").write_text("the cat sat on the mat.\n" * (1 + i % 3))
    answer = run("data.prepare.__main__", folder, "--tokenizer", "byte", "--val-fraction", "0.2",
                 "--out", tmp_path / "p")  # fmt: skip
    assert answer.code == 0, answer.err
    return tmp_path / "p"


def test_the_final_loss_of_a_prepared_folder_is_of_documents_alone(prepared):
    config = Config(gpt=GPTConfig(257, 24, 1, 2, 8, init_std=0.3),
                    data=DataConfig(str(prepared), document_attention=True))  # fmt: skip
    found = source.load(config)
    tt.manual_seed(0)
    m = GPT(config.gpt).eval()
    ids = found.val.document_ids(np.zeros(1, np.int64), len(found.final))[0]
    loss = found.final_loss(m, config, "cpu")
    assert loss == evaluate_text(m, found.final, 24, 12, "cpu", ids)
    assert loss != evaluate_text(m, found.final, 24, 12, "cpu")


def test_a_run(train, prepared, tmp_path):
    for flag in ("--document-attention", "--no-document-attention"):
        answer = train("--data", prepared, "--out", tmp_path / flag, flag)
        assert answer.code == 0, answer.err
    a, b = (read_metrics(tmp_path / flag / "metrics.jsonl") for flag in
            ("--document-attention", "--no-document-attention"))  # fmt: skip
    assert a[-1]["val_loss"] != b[-1]["val_loss"] and a[-1]["final_val_loss"] < a[0]["val_loss"]
