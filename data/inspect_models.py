"""What compressors, tokenizers and count models make of a sample of a corpus."""

from __future__ import annotations

import lzma
import zlib
from typing import Any

from data.batches import split
from data.errors import DataError

HELD_OUT = 0.1  # of the sample: what trained tokenizers and n-grams have not seen
ORDERS = (1, 2, 3, 4, 5)


def compression(text: str) -> dict[str, float]:
    """Compressed bytes per byte."""
    raw = text.encode()
    return {
        "zlib": round(len(zlib.compress(raw, 9)) / len(raw), 4),
        "lzma": round(len(lzma.compress(raw, lzma.FORMAT_ALONE, preset=6)) / len(raw), 4),
    }


def tokenizers(text: str, names: list[str], vocab_size: int) -> dict[str, dict[str, Any]]:
    """{name: vocab_size, tokens per byte on the last tenth}, or {name: why it cannot be had}.

    Those that are trained have seen the first nine tenths; `char` needs every character, so all.
    """
    from gpt.tokenizers import TokenizerError, get

    seen, held_out = split(text, HELD_OUT)
    n_bytes = len(held_out.encode())
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        train_on = [text if name == "char" else seen]
        size = vocab_size if name == "bpe" else None
        try:
            tokenizer = get(name, lambda train_on=train_on: train_on, size)  # type: ignore[misc]
            n_tokens = len(tokenizer.encode(held_out))
        except TokenizerError as error:
            found[name] = {"unavailable": str(error)}
            continue
        found[name] = {
            "vocab_size": tokenizer.vocab_size,
            "tokens_per_byte": round(n_tokens / n_bytes, 4),
            "tokens_per_character": round(n_tokens / len(held_out), 4),
        }
    if names and all("unavailable" in row for row in found.values()):
        raise DataError("; ".join(f"{name}: {row['unavailable']}" for name, row in found.items()))
    return found


def ngrams(text: str) -> list[dict[str, float]]:
    """Nats per character on the last tenth for each order, by counts of the first nine tenths."""
    from gpt.ngram import count_models
    from gpt.tokenizers import CharTokenizer

    tokenizer = CharTokenizer.train(text)
    train, val = split(tokenizer.encode(text), HELD_OUT)
    models = count_models(train, val, tokenizer.vocab_size, ORDERS)
    return [{"n": m.n, "nats_per_character": round(m.loss, 4), "alpha": m.alpha} for m in models]
