"""Count models: what the last n - 1 tokens alone tell about the next. Yardsticks for a GPT.

An n-gram model with add-alpha smoothing (Jurafsky & Martin, Speech and Language Processing, ch. 3):

    P(c | h) = (count(h c) + alpha) / (count(h) + alpha V)

h being the n - 1 tokens before c, V the number of symbols, and the counts the training text's.
`python -m gpt.ngram PATH|NAME` prints the table for any text.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import data
from gpt.errors import command
from gpt.tokenizers import CharTokenizer

ORDERS = (2, 3, 4, 5)
ALPHAS = (1, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)  # finer: under 0.01 nats better


class CountModel(NamedTuple):
    """`loss`: nats per token on the validation tokens; `alpha`: the best of those tried *there*.

    Choosing alpha on the text it is judged by flatters the count model: a GPT must beat it anyway.
    """

    n: int
    loss: float
    alpha: float

    @property
    def bits(self) -> float:
        """Bits per token."""
        return self.loss / math.log(2)


def count_models(
    train: np.ndarray,
    val: np.ndarray,
    vocab_size: int,
    orders: Sequence[int] = ORDERS,
    alphas: Sequence[float] = ALPHAS,
) -> list[CountModel]:
    """Each order's loss on `val`, over every token with n - 1 tokens before it there.

    train, val: 1-d integer arrays of ids below vocab_size. Orders that the validation tokens are
    too few for are left out. Memory: about 40 bytes per token; time: one sort per order.
    """
    n_train = len(train)
    tokens = np.concatenate([train, val]).astype(np.int64)
    history = np.zeros_like(tokens)  # a number for the n - 1 tokens before each position
    models = []
    for n in range(1, max(orders) + 1):
        # Renamed 0, 1, 2, ... at every order, the numbers stay small: any n and V fit in 64 bits.
        _, gram = np.unique(history * vocab_size + tokens, return_inverse=True)
        if n in orders and len(val) >= n:
            ours, theirs = slice(n - 1, n_train), slice(n_train + n - 1, None)
            seen = np.bincount(gram[ours], minlength=len(tokens))[gram[theirs]]
            total = np.bincount(history[ours], minlength=len(tokens))[history[theirs]]
            losses = [-np.log((seen + a) / (total + a * vocab_size)).mean() for a in alphas]
            best = int(np.argmin(losses))
            models.append(CountModel(n, float(losses[best]), alphas[best]))
        history = np.roll(gram, 1)  # position 0 has no past; the slices above leave it out
    return models


def table(models: Sequence[CountModel]) -> str:
    """Lines for people: order, nats and bits per token, alpha."""
    rows = [f"{m.n}-gram  {m.loss:9.4f}  {m.bits:9.4f}  {m.alpha:6g}" for m in models]
    return "\n".join(["model   nats/char  bits/char   alpha", *rows])


@command
def main() -> None:
    parser = argparse.ArgumentParser("python -m gpt.ngram", description=__doc__.splitlines()[0])
    parser.add_argument("data", help=f"a corpus ({', '.join(data.names())}) or a text file")
    parser.add_argument("--val-fraction", type=float, default=0.1, help="share held out (0.1)")
    parser.add_argument("--max-order", type=int, default=5, help="longest n-gram (5)")
    parser.add_argument("--data-dir", help="where downloads are kept (the user's cache folder)")
    args = parser.parse_args()
    if args.max_order < 1:
        parser.error(f"--max-order {args.max_order}: it must be at least 1")
    corpus = data.load(args.data, val_fraction=args.val_fraction, data_dir=args.data_dir)
    tokenizer = CharTokenizer.train(corpus.text)
    train, val = tokenizer.encode(corpus.train), tokenizer.encode(corpus.val)
    print(f"{corpus.name}: {len(train):,} characters to count, {len(val):,} to predict, "
          f"{tokenizer.vocab_size} distinct")
    print(table(count_models(train, val, tokenizer.vocab_size, range(1, args.max_order + 1))))
    if corpus.floor:
        print(f"floor   {corpus.floor.val:9.4f}  {corpus.floor.val / math.log(2):9.4f}")


if __name__ == "__main__":
    raise SystemExit(main())
