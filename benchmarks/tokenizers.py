"""BPE against others: training against minbpe's algorithm, encoding against tiktoken.

    python -m benchmarks.tokenizers                        Dorothy and the Wizard in Oz
    python -m benchmarks.tokenizers --file F --vocab-size 32000 --no-minbpe

All in one process and on the same text: minbpe's algorithm (Andrej Karpathy's RegexTokenizer: every
merge counts all pairs of the text anew), Hugging Face's `tokenizers` and tiktoken where they are
installed. Seconds are processor time, of all threads. Encoding is measured with what was trained;
tiktoken is given the same vocabulary. Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any

from data.reading import read_text
from data.recipes.dorothy import FILE
from gpt.errors import command
from gpt.tokenizers import BPETokenizer
from gpt.tokenizers.fast import encoding
from gpt.tokenizers.patterns import PATTERNS, split


def minbpe(text: str, vocab_size: int, pattern: str) -> list[tuple[int, int]]:
    """minbpe's training: merges as pairs of ids, the bytes being 0 .. 255."""
    words = [list(piece.encode()) for piece in split(text, pattern)]
    merges = []
    for new in range(256, vocab_size):
        counts: dict[tuple[int, int], int] = {}
        for ids in words:
            for pair in zip(ids, ids[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        best = max(counts, key=lambda pair: counts[pair])
        merges.append(best)
        words = [merged(ids, best, new) for ids in words]
    return merges


def merged(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    result, i = [], 0
    while i < len(ids):
        if ids[i] == pair[0] and i < len(ids) - 1 and ids[i + 1] == pair[1]:
            result.append(new)
            i += 2
        else:
            result.append(ids[i])
            i += 1
    return result


def hugging_face(text: str, vocab_size: int, pattern: str) -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    level = pre_tokenizers.ByteLevel
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated"),
        level(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=level.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def timed(f: Callable[[], Any]) -> tuple[float, Any]:
    start = process_time()
    result = f()
    return process_time() - start, result


def training(text: str, args: argparse.Namespace) -> tuple[dict[str, float], BPETokenizer, Any]:
    """Seconds of each, our tokenizer, and Hugging Face's or None."""
    given = args.vocab_size, args.pattern
    ours = [timed(lambda: BPETokenizer.train(text, *given, special_tokens=()))
            for _ in range(args.rounds)]  # fmt: skip
    seconds = {"ours": median(took for took, _ in ours)}
    theirs = None
    try:
        seconds["hugging face"], theirs = timed(lambda: hugging_face(text, *given))
    except ModuleNotFoundError:
        pass
    if args.minbpe:
        seconds["minbpe"], _ = timed(lambda: minbpe(text, *given))
    return seconds, ours[0][1], theirs


def encoders(tokenizer: BPETokenizer, theirs: Any) -> dict[str, Callable[[str], Any]]:
    """What can encode, of which each gives the same ids."""

    def cold(text: str) -> Any:
        tokenizer._known.clear()
        return tokenizer.encode(text)

    table: dict[str, Callable[[str], Any]] = {"ours, nothing remembered": cold}
    table["ours"] = tokenizer.encode
    try:
        fast = encoding(tokenizer.ids, tokenizer.pattern)
        table["tiktoken"] = lambda text: fast.encode_to_numpy(text, disallowed_special=())
    except ModuleNotFoundError:
        pass
    if theirs:
        table["hugging face"] = lambda text: theirs.encode(text).ids
    return table


@command
def main() -> None:
    about, *rest = (__doc__ or "").split("\n\n")
    parser = argparse.ArgumentParser(
        "python -m benchmarks.tokenizers", description=about, epilog="\n\n".join(rest),
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)  # fmt: skip
    add = parser.add_argument
    add("--file", help="a text (default: the recipe dorothy's, downloaded)")
    add("--vocab-size", type=int, default=1024, help="tokens (default: 1024)")
    add("--pattern", choices=["gpt2", "gpt4"], default="gpt4",
        help="how text is split (default: gpt4, as in minbpe)")  # fmt: skip
    add("--minbpe", action=argparse.BooleanOptionalAction, default=True,
        help="train by minbpe's algorithm, a minute here, hours on large texts")  # fmt: skip
    add("--rounds", type=int, default=5, help="of which the median is taken (default: 5)")
    args = parser.parse_args()
    text = read_text(args.file or FILE.fetch(), "keep")
    megabytes = len(text.encode()) / 1e6

    seconds, tokenizer, theirs = training(text, args)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{megabytes:.2f} MB, {tokenizer.vocab_size:,} tokens, pattern {args.pattern}\n")
    print(f"{'training':28}{'s':>10}{'ours is faster':>18}")
    for name, took in seconds.items():
        print(f"{name:28}{took:10.2f}{took / seconds['ours']:17.1f}x")

    table = encoders(tokenizer, theirs)
    ids = {name: list(encode(text)) for name, encode in table.items()}
    times: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(args.rounds):
        for name, encode in table.items():  # in turn: noise hits all alike
            times[name].append(timed(lambda: encode(text))[0])  # noqa: B023 - called at once
    speed = {name: megabytes / median(took) for name, took in times.items()}
    print(f"\n{'encoding':28}{'MB/s':>10}{'same ids':>18}")
    for name, rate in speed.items():
        print(f"{name:28}{rate:10.2f}{'yes' if ids[name] == ids['ours'] else 'no':>18}")

    print(json.dumps({
        "benchmark": "tokenizers", "mb": megabytes, "vocab_size": tokenizer.vocab_size,
        "pattern": args.pattern, "train_s": seconds, "encode_mb_per_s": speed, "peak_mb": peak,
        "times_minbpe": seconds["minbpe"] / seconds["ours"] if args.minbpe else None,
    }))  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
