"""Tell some tales, or judge a model's: `python -m data.tales [--stories N | --check FILE]`."""

import argparse
import sys
from itertools import islice

from data import tales
from data.errors import DataError
from data.reading import read_text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m data.tales", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="same seed, same stories (default: 0)")
    parser.add_argument("--stories", type=int, default=3, help="how many to tell (default: 3)")
    parser.add_argument("--check", metavar="FILE", help="judge the stories in a text file instead")
    parser.add_argument("--mid-story", action="store_true", help="FILE begins inside a story")
    args = parser.parse_args()
    if args.stories < 1:
        parser.error(f"--stories {args.stories}: it must be at least 1")
    if args.mid_story and not args.check:
        parser.error("--mid-story is about the text of --check FILE: give that too")
    try:
        judge(args.check, args.mid_story) if args.check else tell(args.stories, args.seed)
    except DataError as error:
        print(f"--check: {error}", file=sys.stderr)
        return 2
    return 0


def tell(n: int, seed: int) -> None:
    for text, log_prob in islice(tales.tell(seed), n):
        per_char = -log_prob / len(text + tales.END)
        print(f"{text}\n    log p = {log_prob:.2f} nats, floor {per_char:.3f} nats/char\n")
    print(f"On average a story takes {tales.entropy():.2f} nats.")


def judge(file: str, mid_story: bool) -> None:
    report = tales.check(read_text(file), mid_story=mid_story)
    for bad in report.bad:
        print(bad)
    print(report)


if __name__ == "__main__":
    sys.exit(main())
