"""What data.prepare costs beyond what it cannot do without: LZMA and a tokenizer.

    python -m benchmarks.prepare --sample FOLDER --vocabulary FOLDER

FOLDER of the sample: OpenWebText's .xz files; they are repeated into an archive of its kind. The
yardstick reads the same archive in one process with lzma, tarfile and tiktoken, and keeps nothing.
Both are new processes, run in turn; ratios are of CPU seconds (all processes of each, its start
included), which neighbours on the machine disturb least, and of wall seconds. Memory is that of
all processes together: the sum of what each has to itself and its share of what is shared.

Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import NamedTuple


class Cost(NamedTuple):
    wall: float  # seconds
    cpu: float  # seconds of all processes
    memory: float  # bytes of all processes, at most


def archive(path: Path, sample: Path, megabytes: float) -> int:
    """Write a tar of xz files that hold about so many MB of text; return how many bytes they do."""
    files = sorted(sample.glob("*.xz"))
    inside = [sum(len(text) for text in members(file.read_bytes())) for file in files]
    size = number = 0
    with tarfile.open(path, "w") as tar:
        while size < megabytes * 1e6:
            i = number % len(files)
            tar.add(files[i], f"openwebtext/urlsf_subset00-{number}_data.xz")
            size, number = size + inside[i], number + 1
    return size


def members(data: bytes) -> list[bytes]:
    """The files of an xz-compressed tar."""
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(data))) as tar:
        return [found.read() for info in tar if (found := tar.extractfile(info))]


def yardstick(source: str, vocabulary: str) -> None:
    """Decompress and encode all there is, in this process."""
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    encoding = tiktoken.Encoding(
        "gpt2",
        pat_str=r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
        mergeable_ranks=data_gym_to_mergeable_bpe_ranks(
            f"{vocabulary}/vocab.bpe", f"{vocabulary}/encoder.json"
        ),
        special_tokens={"<|endoftext|>": 50256},
    )
    with tarfile.open(source) as tar:
        for info in tar:
            if found := tar.extractfile(info):
                for text in members(found.read()):
                    encoding.encode_to_numpy(text.decode(), disallowed_special=())


def cost(argv: list[str]) -> Cost:
    """Run a command to its end."""
    before, start = os.times(), perf_counter()
    process = subprocess.Popen([sys.executable, *argv], stdout=subprocess.DEVNULL)
    memory = 0
    while process.poll() is None:
        memory = max(memory, sum(map(resident, family(process.pid))))
        sleep(0.02)
    wall, after = perf_counter() - start, os.times()
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {process.returncode}")
    cpu = sum(after[2:4]) - sum(before[2:4])  # of children that have ended, and of theirs
    return Cost(wall, cpu, memory)


def family(pid: int) -> list[int]:
    """A process and all below it (Linux)."""
    found = [pid]
    for parent in found:
        try:
            found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        except OSError:
            continue  # it has ended
    return found


def resident(pid: int) -> int:
    """Bytes in memory; a page shared by n processes counts 1/n (Linux)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--sample", required=True, help="a folder of OpenWebText's .xz files")
    parser.add_argument("--vocabulary", required=True, help="a folder of encoder.json, vocab.bpe")
    parser.add_argument("--megabytes", type=float, default=100, help="of text (default: 100)")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--workers", type=int, default=1, help="of data.prepare (default: 1)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, pairs = f"{folder}/openwebtext.tar", []
        size = archive(Path(source), Path(args.sample), args.megabytes)
        alone = ["-c", "import sys; from benchmarks.prepare import yardstick; "
                 "yardstick(*sys.argv[1:])", source, args.vocabulary]  # fmt: skip
        for number in range(args.pairs):
            ours = ["-m", "data.prepare", source, "--tokenizer", args.vocabulary,
                    "--workers", str(args.workers), "--out", f"{folder}/{number}"]  # fmt: skip
            pairs.append((cost(alone), cost(ours)))
    rows = {"lzma + tiktoken": [a for a, _ in pairs], f"data.prepare, {args.workers} workers":
            [b for _, b in pairs]}  # fmt: skip
    print(f"{size / 1e6:.1f} MB of text{'':12} wall s    CPU s  MB / CPU s  peak MB")
    for name, costs in rows.items():
        wall, cpu, memory = (median(column) for column in zip(*costs))
        print(f"{name:<25} {wall:9.2f} {cpu:8.2f} {size / 1e6 / cpu:11.2f} {memory / 1e6:8.0f}")
    ratios = {"cpu": median(b.cpu / a.cpu for a, b in pairs),
              "wall": median(b.wall / a.wall for a, b in pairs)}  # fmt: skip
    print("data.prepare / alone: " + ", ".join(f"{k} {v:.2f}" for k, v in ratios.items()))
    print(json.dumps({"benchmark": "prepare", "megabytes": size / 1e6, "workers": args.workers,
                      "ratios": ratios, "peak_mb": max(b.memory for _, b in pairs) / 1e6}))


if __name__ == "__main__":
    main()
