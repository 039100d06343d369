"""The tales' claims: one derivation each, exact probabilities and floor, a fair checker."""

import math
import re
import sys
from collections import Counter
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import tales
from data.tales.__main__ import main
from data.tales.stories import CHILDREN, PLOTS, story
from data.tales.teller import Reader, Sampler, Surveyor, Teller, explore, read
from data.tales.words import Number, count

SEEDS = st.integers(0, 2**32 - 1)


# --- one program, several tellers ---


def small(t: Teller) -> None:
    """Six stories: "a1" 1/4, "a2" 1/4, and "b1" ... "b4" 1/8 each."""
    last = t.choose((2, 4))
    t.say("__", ("a" if last == 2 else "b",), range(1, last + 1))


def test_small_program_read_surveyed_and_sampled():
    ways = {"a1": 4, "a2": 4, "b1": 8, "b2": 8, "b3": 8, "b4": 8}
    for text, n in ways.items():
        told, reached, _ = read(small, text)
        assert [path.ways for path in told] == [n] and reached == 2
    assert read(small, "a3")[:2] == ([], 1)
    assert read(small, "b44") == ([], 2, "")  # "" is the end
    entropy = sum(math.log(path.ways) / path.plots for path in explore(small, Surveyor))
    assert entropy == pytest.approx(sum(math.log(n) / n for n in ways.values()))
    rng, n_samples = Random(0), 20_000
    seen: Counter[str] = Counter()
    for _ in range(n_samples):
        teller = Sampler(rng)
        small(teller)
        seen[teller.text] += 1
        assert teller.ways == ways[teller.text]
    for text, n in ways.items():
        sigma = math.sqrt(n_samples * (1 / n) * (1 - 1 / n))
        assert abs(seen[text] - n_samples / n) < 5 * sigma


def test_a_choice_that_does_not_show_gives_two_derivations():
    def hidden(t: Teller) -> None:
        t.choose((1, 2))
        t.say("a_", ("b", "bc"))

    assert len(read(hidden, "ab")[0]) == 2


def test_a_word_that_begins_another_is_no_trap():
    def prefix(t: Teller) -> None:
        t.say("___", ("a", "ab"), ("bc", "c", "d"), ("!",))

    assert [[d.ways for d in read(prefix, text)[0]] for text in ("ad!", "abd!")] == [[6], [6]]
    assert len(read(prefix, "abc!")[0]) == 2  # a-bc and ab-c


# --- generated text ---


@given(SEEDS)
def test_a_story_has_one_derivation_with_the_probability_it_was_told_with(seed):
    for text, log_prob in islice(tales.tell(seed), 3):
        (derivation,) = tales.parse(text + tales.END)
        assert derivation.log_prob == log_prob
        assert tales.parse(text) == [derivation]


@given(SEEDS, SEEDS, st.integers(1, 2000))
def test_generate(seed, other, n_chars):
    a, b = tales.generate(n_chars, seed), tales.generate(500, other)
    assert a == tales.generate(n_chars, seed)
    assert tales.generate(n_chars + 500, seed).text.startswith(a.text)
    *stories, rest = a.text.split(tales.END)
    assert len(stories) == a.n_stories and rest == ""
    assert n_chars <= len(a.text) < n_chars + len(stories[-1] + tales.END)
    assert tales.floor(a.text) == a.floor == -a.log_prob / len(a.text)
    both = (a.log_prob + b.log_prob) / (len(a.text) + len(b.text))
    assert tales.floor(a.text + b.text) == pytest.approx(-both, rel=1e-12)


def test_seeds_differ_and_every_plot_is_told():
    text = tales.generate(100_000, seed=1).text
    assert text != tales.generate(100_000, seed=2).text
    told = {derivation.path for s in text.split(tales.END) for derivation in tales.parse(s)}
    assert len(told) > 350  # hardly a story twice
    for name in CHILDREN:
        assert f"{name} " in text
    assert len(PLOTS) == 8


def test_the_reader_needs_the_whole_grammar():
    """Each word of a story matters: with any one changed, the story has no derivation."""
    text, _ = next(tales.tell(seed=5))
    words = text.split(" ")
    for i in range(len(words)):
        assert not tales.parse(" ".join([*words[:i], "zebra", *words[i + 1 :]]))
        assert not tales.parse(" ".join(words[:i])) and not tales.parse(" ".join(words[i + 1 :]))


def test_a_capital_that_begins_a_name_begins_nothing_else():
    names = {child.name for child in CHILDREN}
    text = tales.generate(100_000, seed=4).text
    capitals = set(re.findall(r"[A-Z][a-z]*", text))
    assert names < capitals and len({name[0] for name in names}) == len(names)
    assert not {name[0] for name in names} & {word[0] for word in capitals - names}


@pytest.mark.parametrize("n", [0, -1])
def test_generate_wants_characters(n):
    with pytest.raises(ValueError, match=f"n_chars is {n}"):
        tales.generate(n)


def test_floor_wants_whole_stories():
    text = tales.generate(500, seed=0).text
    with pytest.raises(ValueError, match="blank line"):
        tales.floor(text[:-1])
    with pytest.raises(ValueError, match="story 1 has 0 derivations"):
        tales.floor("x" + text)


# --- entropy ---


def test_the_probability_of_a_story_depends_on_its_plot_alone():
    """What makes the entropy exact: which word is picked never changes how many choices follow."""
    paths = {path.path: path.ways for path in explore(story, Surveyor)}

    class Recorder(Sampler):
        def choose(self, options):
            plot.append(0)
            choice = super().choose(options)
            plot[-1] = options.index(choice)
            return choice

    rng, seen = Random(3), set()
    for _ in range(5000):
        plot: list[int] = []
        teller = Recorder(rng)
        story(teller)
        assert teller.ways == paths[tuple(plot)]
        seen.add(tuple(plot))
    assert seen == set(paths)


def test_entropy_is_the_mean_surprise():
    surprise = [-log_prob for _, log_prob in islice(tales.tell(seed=11), 10_000)]
    mean = math.fsum(surprise) / len(surprise)
    sigma = math.sqrt(math.fsum((s - mean) ** 2 for s in surprise)) / len(surprise)
    assert abs(mean - tales.entropy()) < 5 * sigma < 0.2
    assert sum(1 / path.plots for path in explore(story, Surveyor)) == pytest.approx(1)


def test_a_5_gram_is_far_from_the_floor():
    """Best add-alpha count model: 1 MB to train on, at least 0.25 nats/char above on other text."""
    train, val = tales.generate(1_000_000, seed=1), tales.generate(100_000, seed=2)
    grams, contexts = (Counter(train.text[i : i + n] for i in range(len(train.text) - n + 1))
                       for n in (5, 4))  # fmt: skip
    test = Counter(val.text[i : i + 5] for i in range(len(val.text) - 4))
    n_chars = len(set(train.text))

    def loss(alpha: float) -> float:
        return -sum(
            n * math.log((grams[gram] + alpha) / (contexts[gram[:4]] + alpha * n_chars))
            for gram, n in test.items()
        ) / test.total()

    best = min(loss(alpha) for alpha in (1e-4, 1e-3, 1e-2, 1e-1, 1))
    assert best - val.floor > 0.25


# --- the checker ---


@given(SEEDS, st.data())
def test_check_accepts_what_was_generated_wherever_it_stops(seed, data):
    text = tales.generate(800, seed).text
    report = tales.check(text)
    assert report.story_share == report.sentence_share == 1 and not report.unfinished
    assert report.n_sentences > 3 * report.n_stories and not report.bad
    stop = data.draw(st.integers(1, len(text)))
    report = tales.check("\n" + text[:stop])
    assert report.n_good_stories == report.n_stories == text[:stop].count(tales.END)
    assert report.n_good_sentences == report.n_sentences and not report.bad
    report = tales.check(text[stop:], mid_story=True)
    assert report.n_good_stories == report.n_stories == max(0, text[stop:].count(tales.END) - 1)


GOOD = (
    "Mia was a wise girl. One cold day she met Dan at the park. "
    "Mia had six figs and gave two to Dan. Now Mia had four figs and Dan had two. "
    "What a wise girl!"
)


@pytest.mark.parametrize(
    "right, wrong, n_good, sentence, wanted",
    [
        ("she met", "he met", 1, "One cold day he met Dan at the park.", "she "),
        ("six figs", "six zebras", 2, "Mia had six zebras and gave two to Dan.", ""),
        ("four figs", "five figs", 3, "Now Mia had five figs and Dan had two.", "four figs"),
        ("four figs", "four nuts", 3, "Now Mia had four nuts and Dan had two.", "four figs"),
        ("Dan had two", "Ben had two", 3, "Now Mia had four figs and Ben had two.", "Dan had two"),
        ("wise girl!", "kind girl!", 4, "What a kind girl!", "What a wise girl!"),
        ("girl!", "girl! The end.", 5, "The end.", ""),
        (" What a wise girl!", "", 4, "", ""),
    ],
)
def test_check_finds_the_planted_error(right, wrong, n_good, sentence, wanted):
    assert str(tales.check(GOOD + tales.END)).startswith("5 of 5 (100.0%) sentences and 1 of 1")
    assert GOOD.count(right) == 1
    text = tales.END.join([GOOD, GOOD.replace(right, wrong), GOOD, ""])
    report = tales.check(text)
    assert (report.n_stories, report.n_good_stories) == (3, 2)
    assert report.n_good_sentences == 10 + n_good
    (bad,) = report.bad
    assert (bad.number, bad.sentence) == (2, sentence)
    assert wanted in bad.wanted
    assert str(bad).startswith("story 2") and (sentence or "ends too early") in str(bad)


def test_check_of_an_unfinished_story():
    """Its whole sentences are judged; it is not counted as a story, good or bad."""
    report = tales.check(GOOD[:70])
    assert (report.n_stories, report.n_sentences, report.n_good_sentences) == (0, 2, 2)
    assert math.isnan(report.story_share) and report.unfinished and not report.bad
    assert "unfinished" in str(report)
    report = tales.check(GOOD.replace("she met", "he met"))
    assert report.n_stories == 0 and report.sentence_share < 0.5 and len(report.bad) == 1


@pytest.mark.parametrize("text", ["", "\n", "Mi", "\n\n"])
def test_check_of_next_to_nothing(text):
    report = tales.check(text)
    assert math.isnan(report.story_share) and math.isnan(report.sentence_share)
    assert "0 of 0 stories" in str(report)


def test_check_of_something_else():
    report = tales.check("To be, or not to be. That is it!\n\nx\n\n")
    assert report.story_share == report.sentence_share == 0
    assert [bad.sentence for bad in report.bad] == ["To be, or not to be.", "x"]


def test_reader_says_how_far_it_came():
    reader = Reader("Mia was a wise gorl.")
    assert reader.at == 0
    assert read(story, reader.text)[1:] == (len("Mia was a wise g"), "girl. One ")


# --- words and commands ---


def test_numbers_are_words():
    assert f"{Number(3)} {Number(4 - 3)}" == "three one"
    assert (count(1, "apples"), count(2, "apples")) == ("one apple", "two apples")


def run(monkeypatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tales", *argv])
    return main()


def test_command_tells(monkeypatch, capsys):
    assert run(monkeypatch, "--seed", "7", "--stories", "2") == 0
    out = capsys.readouterr().out
    for text, log_prob in islice(tales.tell(7), 2):
        assert text in out and f"{log_prob:.2f} nats" in out


def test_command_checks(monkeypatch, capsys, tmp_path):
    file = tmp_path / "sample.txt"
    file.write_text(GOOD + tales.END + GOOD.replace("four", "five") + tales.END)
    assert run(monkeypatch, "--check", str(file)) == 0
    out = capsys.readouterr().out
    assert "story 2: 'Now Mia had five figs" in out and "1 of 2 (50.0%) stories" in out
    assert run(monkeypatch, "--check", str(tmp_path / "none.txt")) == 2
    assert "no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        run(monkeypatch, "--stories", "0")
    assert exit.value.code == 2
