"""tiktoken as a faster way to the same ids, for the one vocabulary where that is known.

tiktoken merges whatever two neighbours spell a token, BPE only pairs that were learned. For GPT-2's
vocabulary the two agree; for any other they need not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from gpt.tokenizers.base import END_OF_TEXT
from gpt.tokenizers.patterns import PATTERNS

GPT2_TOKENS = "e424375bafc3e423128be739985d6bac4839b3014b9ed3f34c3b55f6d2b968d9"


def gpt2_encoding(ids: Mapping[bytes, int]) -> Any:
    """tiktoken's encoding, if `ids` is GPT-2's vocabulary and tiktoken is installed, else None."""
    if len(ids) != 50256 or tokens_hash(ids) != GPT2_TOKENS:
        return None
    try:
        return encoding(ids, "gpt2")
    except ModuleNotFoundError:
        return None


def encoding(ids: Mapping[bytes, int], pattern: str) -> Any:
    """tiktoken's encoding made of these ids: its own loader would download them."""
    import tiktoken

    # Never given out; but with none, tiktoken looks for them at every piece: half the speed.
    special = {END_OF_TEXT: len(ids)}
    return tiktoken.Encoding(
        "given", pat_str=PATTERNS[pattern], mergeable_ranks=dict(ids), special_tokens=special
    )


def tokens_hash(ids: Mapping[bytes, int]) -> str:
    """sha256 of the tokens in the order of their ids."""
    ordered = sorted((id, token) for token, id in ids.items())
    return hashlib.sha256(b"\n".join(token for _, token in ordered)).hexdigest()
