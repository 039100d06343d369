"""TinyStories (Eldan & Li, 2023, arXiv:2305.07759): stories in the words of a four-year-old.

The second version, all by GPT-4: two texts whose stories are separated by `<|endoftext|>`. What is
held out is chosen by each story's hash, as of any corpus, not by these files. CDLA-Sharing-1.0.
"""

from pathlib import Path

from data.corpus import Options
from data.download import Download
from data.recipe import large

HOSTS = ("https://huggingface.co", "https://hf-mirror.com")
FOLDER = "datasets/roneneldan/TinyStories/resolve/f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"


def _file(name: str, sha256: str, n_bytes: int) -> Download:
    return Download(name, tuple(f"{host}/{FOLDER}/{name}" for host in HOSTS), sha256, n_bytes)


FILES = (
    _file(
        "TinyStoriesV2-GPT4-train.txt",
        "6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443",
        2_227_753_162,
    ),
    _file(
        "TinyStoriesV2-GPT4-valid.txt",
        "6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d",
        22_502_601,
    ),
)


def files(options: Options) -> list[Path]:
    return [file.fetch(options.data_dir) for file in FILES]


RECIPE = large("tinystories", "2.25 GB: 2.7 million stories in simple words, by GPT-4", files)
