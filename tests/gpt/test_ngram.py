"""Count models: equal to counting with dictionaries, and to the yardsticks on real text."""

import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import split
from gpt.ngram import ALPHAS, CountModel, count_models, table
from gpt.tokenizers import CharTokenizer


def by_hand(train: list, val: list, vocab_size: int, n: int, alpha: float) -> float:
    """The same loss by the definition: dictionaries of tuples, one token at a time."""
    grams = [tuple(train[i : i + n]) for i in range(len(train) - n + 1)]
    counts, totals = Counter(grams), Counter(gram[:-1] for gram in grams)
    losses = []
    for i in range(n - 1, len(val)):
        gram = tuple(val[i - n + 1 : i + 1])
        p = (counts[gram] + alpha) / (totals[gram[:-1]] + alpha * vocab_size)
        losses.append(-math.log(p))
    return sum(losses) / len(losses)


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(train=tokens, val=tokens, n=st.integers(1, 6), alpha=st.sampled_from(ALPHAS))
def test_equal_to_counting_by_hand(train, val, n, alpha):
    models = count_models(np.array(train, np.uint8), np.array(val, np.uint8), 4, [n], [alpha])
    if len(val) < n:
        assert models == []
    else:
        assert models == [CountModel(n, pytest.approx(by_hand(train, val, 4, n, alpha)), alpha)]


@given(train=tokens, val=tokens)
def test_the_best_alpha_is_taken(train, val):
    for model in count_models(np.array(train), np.array(val), 4, [1, 2]) if len(val) > 1 else []:
        losses = [by_hand(train, val, 4, model.n, alpha) for alpha in ALPHAS]
        assert model.loss == pytest.approx(min(losses))
        assert by_hand(train, val, 4, model.n, model.alpha) == pytest.approx(model.loss)


def test_a_large_vocabulary_does_not_overflow():
    """V**4 = 2**64: in a key of 64 bits a 5-gram would lose its first token."""
    train, val = np.random.default_rng(0).integers(0, 2, (2, 300))
    got = count_models(train, val, 2**16, [5], [0.1])[0].loss
    assert got == pytest.approx(by_hand(train.tolist(), val.tolist(), 2**16, 5, 0.1))


def yardsticks(text: str, val_fraction: float) -> list[float]:
    tokenizer = CharTokenizer.train(text)
    train, val = split(tokenizer.encode(text), val_fraction)
    return [round(m.loss, 3) for m in count_models(train, val, tokenizer.vocab_size)]


def test_tinyshakespeare(shared_data):
    text = (shared_data / "shakespeare" / "tinyshakespeare.txt").read_text()
    assert yardsticks(text, 0.1) == [2.482, 2.046, 1.779, 1.750]


def test_dorothy_as_the_course_reads_it(shared_data):
    """Read as plain UTF-8 the BOM is a character; without it the losses are up to 0.003 lower."""
    text = (shared_data / "oz" / "dorothy_and_the_wizard.txt").read_text(encoding="utf-8")
    assert text[0] == "\ufeff"
    assert yardsticks(text, 0.2) == [2.471, 1.976, 1.735, 1.891]
    assert yardsticks(text[1:], 0.2) == [2.471, 1.975, 1.734, 1.888]


def test_bits_and_table():
    model = CountModel(2, math.log(4), 0.1)
    assert model.bits == pytest.approx(2)
    assert table([model]).splitlines()[1].split() == ["2-gram", "1.3863", "2.0000", "0.1"]


def command(repo, *args):
    return subprocess.run(
        [sys.executable, "-m", "gpt.ngram", *map(str, args)],
        cwd=repo, capture_output=True, text=True, timeout=60,
    )


def test_the_command(repo, tmp_path):
    (tmp_path / "abc.txt").write_text("abc" * 100)
    done = command(repo, tmp_path / "abc.txt", "--val-fraction", "0.2", "--max-order", "3")
    assert done.returncode == 0 and done.stderr == ""
    head, titles, *rows = done.stdout.splitlines()
    assert head == "abc: 240 characters to count, 60 to predict, 3 distinct"
    assert [row.split()[0] for row in rows] == ["1-gram", "2-gram", "3-gram"]
    assert float(rows[0].split()[1]) == pytest.approx(math.log(3), abs=1e-4)


def test_mistakes_at_the_command(repo, tmp_path):
    done = command(repo, tmp_path / "none.txt")
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") and "none.txt" in done.stderr
    done = command(repo, "tales", "--max-order", "0")
    assert done.returncode == 2 and "--max-order 0: it must be at least 1" in done.stderr
