"""Writing: with a cache as without, in a batch as alone, and shown as what it turns out to be."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytensor as tt
from gpt.bigram import Bigram
from gpt.completion import Completion, StopStrings, encode, write
from gpt.config import GPTConfig
from gpt.decoding import Writer, window_start
from gpt.errors import UserError
from gpt.model import GPT
from gpt.sampling import Sampler
from gpt.tokenizers import ByteTokenizer, CharTokenizer

V = 23
CONFIG = GPTConfig(vocab_size=V, block_size=10, n_layer=2, n_head=2, n_embd=8, init_std=0.5)
SAMPLERS = {
    "greedy": Sampler(temperature=0),
    "sampled": Sampler(),
    "all cuts": Sampler(0.8, top_k=12, top_p=0.9, min_p=0.02, repetition_penalty=1.3),
}


def model_of(config=CONFIG, seed=0):
    tt.manual_seed(seed)
    return GPT(config).eval()


DOUBLE = model_of().double()
POST = model_of(replace(CONFIG, norm_position="post", tie_weights=False, bias=False)).double()


def texts(model, prompts, sampler, steps, seed=3, **options):
    writer = Writer(model, prompts, sampler, seed, **options)
    for _ in range(steps):
        writer.step()
    return [row.ids for row in writer.rows]


PROMPTS = st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=25), min_size=1, max_size=4)


@given(PROMPTS, st.sampled_from(list(SAMPLERS)), st.integers(1, 24), st.booleans())
@settings(max_examples=30)
def test_the_cache_changes_nothing_nor_does_the_batch(prompts, name, steps, post):
    model, sampler = POST if post else DOUBLE, SAMPLERS[name]
    cached = texts(model, prompts, sampler, steps, room=steps)
    assert cached == texts(model, prompts, sampler, steps, cached=False)
    assert cached == [texts(model, [p], sampler, steps)[0] for p in prompts]


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_nor_in_float32(sampler):
    model = model_of(replace(CONFIG, n_layer=3, n_embd=32, block_size=24))
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, V, n).tolist() for n in (1, 9, 24, 40)]
    assert texts(model, prompts, sampler, 60) == texts(model, prompts, sampler, 60, cached=False)


@given(st.integers(1, 200), st.integers(1, 40))
def test_the_window_moves_by_half_a_block(length, block):
    start = window_start(length, block)
    assert block // 2 + 1 <= length - start <= block if length > block else start == 0
    assert start <= window_start(length + 1, block)


def test_the_window_is_what_the_model_sees():
    """Greedy, each token is the likeliest after the window before it, and none else is read."""
    (ids,) = texts(DOUBLE, [[1, 2, 3]], SAMPLERS["greedy"], 40)
    for n in range(3, 43):
        seen = tt.tensor([ids[window_start(n, 10) : n]])
        assert ids[n] == DOUBLE(seen)[0].detach().numpy()[0, 0].argmax()


def test_a_cache_is_read_on_in_pieces():
    """Rows of different lengths read several tokens each: the mask says who sees what."""
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, V, n).tolist() for n in (9, 6)]
    cache = DOUBLE.cache(2)
    with tt.no_grad():
        first = tt.tensor([rows[0][:5], rows[1][:2] + [0] * 3])
        DOUBLE(first, cache=cache.reading(5, counts=[5, 2]))
        rest = tt.tensor([rows[0][5:], rows[1][2:]])
        logits = DOUBLE(rest, cache=cache.reading(4))[0].numpy()[:, 0]
        alone = [DOUBLE(tt.tensor([row]))[0].numpy()[0, 0] for row in rows]
    np.testing.assert_allclose(logits, alone, rtol=1e-10)
    assert cache.length.tolist() == [9, 6]
    with pytest.raises(ValueError, match="do not fit 10"):
        cache.reading(2)


def test_a_text_is_taken_up_again():
    """`resume` reads only what is new, and the text is the one of a fresh start."""
    writer = Writer(DOUBLE, [[1, 2, 3]], SAMPLERS["greedy"], 0)
    for _ in range(3):
        writer.step()
    for ids in ([*writer.rows[0].ids, 7, 8], [1, 2, 9], [1, 2, 9], list(range(20)), [5]):
        writer.resume(ids)
        expected = texts(DOUBLE, [ids], SAMPLERS["greedy"], 1)[0]
        writer.step()
        assert writer.rows[0].ids == expected


def test_generate_is_repeatable_and_leaves_the_mode_alone():
    model = model_of(replace(CONFIG, dropout=0.5)).train()
    start = tt.tensor([[0], [4]])
    out = [model.generate(start, 20, generator=tt.Generator(7)).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*out)
    assert model.training and all(m.training for m in model.modules())
    assert out[0].shape == (2, 21)
    # stream b of the seed is row b's, however many there are
    one = model.generate(start[:1], 20, generator=tt.Generator(7)).numpy()
    np.testing.assert_array_equal(one[0], out[0][0])
    with pytest.raises(ValueError, match="at least one token"):
        model.generate(tt.zeros(2, 0, dtype=tt.int64), 3)


def test_the_bigram_writes_too():
    tt.manual_seed(0)
    model = Bigram(V)
    after = model.token_embedding_table.weight.detach().numpy().argmax(1)
    (ids,) = model.generate(tt.tensor([[2, 5]]), 6, temperature=0).tolist()
    assert all(ids[n + 1] == after[ids[n]] for n in range(1, 7))


# ------------------------------------------------------------------------------ texts

BYTES = ByteTokenizer()
BYTE_MODEL = model_of(replace(CONFIG, vocab_size=BYTES.vocab_size))


def say(count=3, prompts=("Once", "é"), show=None, **options):
    ids = [encode(BYTES, p) for p in prompts]
    settings = {"max_new_tokens": 25, "seed": 5, "samples": range(count)} | options
    return write(BYTE_MODEL, BYTES, ids, Sampler(), show=show, **settings)


def test_a_sample_does_not_depend_on_its_neighbours():
    many = say(20)  # more than fit into one batch
    assert len({text.text for text in many[0]}) == 20
    for samples in ([3], range(5), [17, 2]):
        (few,) = say(prompts=("Once",), samples=samples)
        assert [t.ids for t in few] == [many[0][i].ids for i in samples]


def test_what_is_shown_is_the_text():
    shown = []
    texts = say(2, show=shown.append, stops=("q", "\ufffd\ufffdz"))
    assert "".join(shown) == "".join(t.text for row in texts for t in row)
    for text in texts[0]:
        assert text.finish_reason in ("stop", "length") and len(text.ids) <= 25


class Spelled:
    """A tokenizer of the given pieces of bytes."""

    end_of_text = None

    def __init__(self, pieces):
        self.token_bytes = [*pieces, b""]
        self._bytes = lambda i: self.token_bytes[i]


WORDS = st.text("abcé€", min_size=1, max_size=4)


@given(st.text("abcé€", max_size=30), st.lists(WORDS, max_size=3), st.data())
def test_stop_strings_cut_the_same_text_however_it_is_spelled(text, stops, data):
    """Any division into tokens, also within characters: shown is what precedes the first stop."""
    whole = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)])]
    ends = [(at + len(s), at) for s in stops if (at := text.find(s)) >= 0]
    expected = text[: min(ends)[1]] if ends else text

    completion = Completion(Spelled(pieces), len(pieces), stops)
    shown = ""
    for token in range(len(pieces)):
        shown += completion.hear(token, np.zeros(1))
        assert expected.startswith(shown)  # never more than will stand
        if completion.finish_reason:
            break
    assert shown == completion.text == expected
    assert completion.finish_reason == ("stop" if ends else "length")


def test_what_may_begin_a_stop_string_waits():
    stops = StopStrings(["END"])
    assert [stops.feed(p) for p in ("a E", "N", "O EN", "D")] == ["a ", "", "ENO ", ""]
    assert stops.found and stops.flush() == ""
    stops = StopStrings(["END"])
    assert stops.feed("E") + stops.feed("N") == "" and stops.flush() == "EN"


def test_end_of_text_ends_and_is_not_shown():
    class Ending(Spelled):
        end_of_text = 1

    completion = Completion(Ending([b"a"]), 9)
    assert [completion.hear(t, np.zeros(2)) for t in (0, 1)] == ["a", ""]
    assert (completion.finish_reason, completion.text) == ("end_of_text", "a")
    assert completion.ids == [0, 1]


def test_logprobs_are_the_models_own():
    (((text,),)) = say(1, prompts=("ab",), alternatives=3, max_new_tokens=4)
    ids = BYTES.encode("ab").tolist()
    for one, token in zip(text.logprobs, text.ids):
        with tt.no_grad():
            logs = BYTE_MODEL(tt.tensor([ids]))[0].log_softmax(-1).numpy()[0, 0]
        assert one["id"] == token and one["logprob"] == pytest.approx(logs[token], abs=1e-5)
        assert [t["id"] for t in one["top"]] == np.argsort(-logs)[:3].tolist()
        ids.append(token)


def test_padding_of_the_vocabulary_is_never_drawn():
    tokenizer = CharTokenizer("abc")
    ids = [encode(tokenizer, "a")]
    (samples,) = write(DOUBLE, tokenizer, ids, Sampler(), max_new_tokens=30, samples=range(4),
                       seed=1)  # fmt: skip
    assert all(max(s.ids) < 3 and len(s.text) == 30 for s in samples)


def test_a_text_from_nothing_begins_after_a_separator():
    assert encode(CharTokenizer("ab\n"), "") == [0]
    with pytest.raises(UserError, match="is empty.*one character"):
        encode(CharTokenizer("ab"), "")
