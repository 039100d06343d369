"""From prompts to texts: what a tokenizer makes of the tokens that a Writer draws.

A text grows by what can be shown for certain: never half a character, never what may turn out to
be the beginning of a stop string.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

import tinytensor as tt
from tinytensor.random import words

from .decoding import Writer, evaluating
from .errors import UserError
from .sampling import Sampler, log_softmax
from .tokenizers.stream import StreamDecoder

ROWS = 16  # texts written side by side at most: each needs room in the cache


class StopStrings:
    """Finds where a text that comes in pieces first completes one of `stops`.

    What `feed` returns may be shown: it ends before the stop string, and before what could be the
    beginning of one. However the text is cut into pieces, the same is shown.
    """

    def __init__(self, stops: Sequence[str]):
        self.stops = [s for s in stops if s]
        self.longest = max(map(len, self.stops), default=0)
        self.held, self.found = "", False

    def feed(self, piece: str) -> str:
        text, self.held = self.held + piece, ""
        ends = [(at + len(s), at) for s in self.stops if (at := text.find(s)) >= 0]
        if ends:  # the first to be complete; of those, the longest
            self.found = True
            return text[: min(ends)[1]]
        for n in range(min(len(text), self.longest - 1), 0, -1):
            if any(s.startswith(text[-n:]) for s in self.stops):
                self.held = text[-n:]
                return text[:-n]
        return text

    def flush(self) -> str:
        """What was held back, now that no more comes."""
        held, self.held = self.held, ""
        return held


class Completion:
    """What one row of a Writer has to say.

    ids            all tokens drawn, also those of the stop string and the end-of-text
    text           what may be shown of them so far
    finish_reason  None, then 'length', 'stop' (a stop string) or 'end_of_text'
    logprobs       with alternatives > 0, for each token an object of `token_logprob`
    seconds        from the start until its last token
    """

    def __init__(
        self, tokenizer: Any, max_new_tokens: int, stops: Sequence[str] = (), alternatives: int = 0
    ):
        self.tokenizer, self.limit, self.alternatives = tokenizer, max_new_tokens, alternatives
        self.decoder, self.stops = StreamDecoder(tokenizer), StopStrings(stops)
        self.ids: list[int] = []
        self.text = ""
        self.finish_reason: str | None = None
        self.logprobs: list[dict[str, Any]] = []
        self.began, self.seconds = perf_counter(), 0.0

    def hear(self, token: int, logits: np.ndarray) -> str:
        """Take the next token, drawn from logits (V,); return what it adds to the text."""
        self.ids.append(token)
        if self.alternatives:
            self.logprobs.append(token_logprob(self.tokenizer, token, logits, self.alternatives))
        self.seconds = perf_counter() - self.began
        if token == self.tokenizer.end_of_text:
            return self.end("end_of_text")
        piece = self.stops.feed(self.decoder.feed(token))
        self.text += piece
        if self.stops.found:
            self.finish_reason = "stop"
        elif len(self.ids) == self.limit:
            piece += self.end("length")
        return piece

    def end(self, reason: str) -> str:
        """No more tokens will come: return what was held back."""
        rest = self.stops.feed(self.decoder.flush())
        self.finish_reason = "stop" if self.stops.found else reason
        rest += self.stops.flush()
        self.text += rest
        return rest


def token_logprob(tokenizer: Any, token: int, logits: np.ndarray, count: int) -> dict[str, Any]:
    """{"id", "token", "logprob", "top": the `count` likeliest likewise}: natural logarithms.

    These are the model's own: before penalty, temperature and cuts.
    """
    logs = log_softmax(logits)

    def entry(i: int) -> dict[str, Any]:
        return {"id": i, "token": tokenizer.decode([i]), "logprob": float(logs[i])}

    likeliest = np.argsort(-logs, kind="stable")[:count]
    return {**entry(token), "top": [entry(int(i)) for i in likeliest]}


def write(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], sampler: Sampler, *,
    max_new_tokens: int, samples: Sequence[int] = (0,), seed: int, stops: Sequence[str] = (),
    alternatives: int = 0, show: Callable[[str], None] | None = None,
) -> list[list[Completion]]:  # fmt: skip
    """For each prompt (token ids, not empty) its samples, by their numbers.

    Up to ROWS are written at once, which does not change what any of them says. With `show`, which
    is given each piece of text as it comes, it is one after the other.
    """
    rows = 1 if show else ROWS
    out: list[list[Completion]] = [[] for _ in prompts]
    many = max(1, rows // len(samples))
    for p in range(0, len(prompts), many):
        some = prompts[p : p + many]
        for s in range(0, len(samples), rows):
            chosen = samples[s : s + rows]
            writer = Writer(model, some, sampler, seed, chosen, max_new_tokens,
                            tokenizer.vocab_size)  # fmt: skip
            texts = [Completion(tokenizer, max_new_tokens, stops, alternatives)
                     for _ in range(len(some) * len(chosen))]  # fmt: skip
            with evaluating(model):
                _finish(writer, texts, show)
            for i, text in enumerate(texts):
                out[p + i // len(chosen)].append(text)
    return out


def _finish(writer: Writer, texts: list[Completion], show: Callable | None) -> None:
    """Step until every text has found its end; rows that have leave the batch."""
    going = texts
    while going:
        for text, token, logits in zip(going, *writer.step()):
            piece = text.hear(token, logits)
            if show and piece:
                show(piece)
        left = [i for i, text in enumerate(going) if text.finish_reason is None]
        if len(left) < len(going):
            going = [going[i] for i in left]
            if left:
                writer.keep(left)


def complete(
    model: Any, tokenizer: Any, prompt: str, max_new_tokens: int, count: int = 1, **options: Any
) -> list[str]:
    """`count` continuations of a prompt, which they do not repeat; options as of a Sampler.

    The seed is drawn from the default generator.
    """
    seed = int(words(np, tt.default_generator.reserve(1), 1)[0])
    (texts,) = write(model, tokenizer, [encode(tokenizer, prompt)], Sampler(**options),
                     max_new_tokens=max_new_tokens, samples=range(count), seed=seed)  # fmt: skip
    return [text.text for text in texts]


def encode(tokenizer: Any, prompt: str) -> list[int]:
    """A prompt's ids; of an empty one, end-of-text's or a newline's: what texts begin after."""
    if prompt:
        return tokenizer.encode(prompt).tolist()
    if tokenizer.end_of_text is not None:
        return [tokenizer.end_of_text]
    try:
        return tokenizer.encode("\n").tolist()
    except UserError:
        raise UserError("is empty, and the tokenizer has no end-of-text and no newline to begin "
                        "with: give one character at least") from None
