"""Kill `data.prepare` at random moments, start it again, and compare what it ends with.

    PYTHONPATH=. python tests/data/killing.py --trials 100

Each trial prepares a nested archive of OpenWebText's kind into a new folder, killed (SIGKILL) up to
three times; the bytes must be those of a run that nobody disturbed. Prints one line per trial.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from making import tar

ROOT = Path(__file__).resolve().parents[2]
WORDS = "the of and to in a is that for it was on are as with they at be this from".split()


def documents(n: int, seed: int = 0, words: int = 600) -> list[str]:
    """Texts that differ, in words and in a few characters that are no ASCII."""
    rng = random.Random(seed)
    return [f"Document {i} é 中.\n" + " ".join(rng.choices(WORDS, k=rng.randrange(1, 2 * words)))
            for i in range(n)]  # fmt: skip


def nested(path: Path, n_archives: int, n_documents: int, times: int = 1) -> Path:
    """A tar of xz-compressed tars of texts, as OpenWebText is; each of them `times` over."""
    texts = documents(n_archives * n_documents)
    members = {}
    for i in range(n_archives):
        mine = texts[i * n_documents : (i + 1) * n_documents]
        inner = tar({f"{i:03}-{j:04}.txt": text.encode() for j, text in enumerate(mine)})
        data = lzma.compress(inner, preset=0)
        members |= {f"urlsf_subset{again:02}-{i}_data.xz": data for again in range(times)}
    path.write_bytes(tar(members))
    return path


def command(source: Path, out: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "data.prepare", str(source), "--out", str(out), *flags]


def digest(folder: Path) -> dict[str, str]:
    """Every file's name and hash: what must not differ."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.iterdir())}  # fmt: skip


def run(argv: list[str], kill_after: float | None = None) -> bool:
    """Whether it came to its end; with `kill_after` it may be killed before, so many seconds in."""
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said, _ = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    if process.returncode:
        raise AssertionError(f"exit code {process.returncode}: {said.decode()}")
    return True


def trials(count: int, folder: Path, *flags: str, seed: int = 0) -> None:
    """Raises AssertionError where the bytes differ."""
    source = nested(folder / "source.tar", 16, 60)
    start = time.monotonic()
    run(command(source, folder / "whole", "--workers", "2", *flags))
    seconds, rng = time.monotonic() - start, random.Random(seed)
    wanted = digest(folder / "whole")
    for trial in range(count):
        out, kills = folder / f"trial-{trial}", 0
        argv = command(source, out, "--workers", str(rng.randrange(1, 4)), *flags)
        while kills < 3 and not run(argv, rng.uniform(0.2, 1) * seconds):
            kills += 1
        run(argv)
        if digest(out) != wanted:
            raise AssertionError(f"trial {trial}, killed {kills} times: see {out}")
        print(f"trial {trial}: killed {kills} times, the same {len(wanted)} files", flush=True)
        for path in out.iterdir():
            path.unlink()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        trials(args.trials, Path(temporary), "--tokenizer", "bpe", "--vocab-size", "300",
               "--val-fraction", "0.1", "--shard-tokens", "100000", seed=args.seed)  # fmt: skip
