"""OpenWebText (Gokaslan & Cohen, 2019): GPT-2's training text, made again. Released CC0.

8,013,769 documents, 39.8 GB of text in 20,610 xz-compressed tars, which lie in 21 tars of 600 MB,
or all in one openwebtext.tar.xz. `fraction` takes the first of the 21, by number. With GPT-2's
tokens and 0.05% held out nanoGPT counts 9,035,582,198 and 4,434,897.

The 21 tars' checksums are published nowhere that we could read: the first download of each is
believed and recorded (see `Download`). The one large archive's is known.
"""

from __future__ import annotations

import math
from pathlib import Path

from data.corpus import Options
from data.download import Download
from data.recipe import large

N_SUBSETS = 21
REVISIONS = ("f3808c30e817981b845ec549c43e82bb467d8144", "main")
FOLDER = "https://huggingface.co/datasets/Skylion007/openwebtext/resolve/{}/subsets/{}"
WHOLE = Download(
    file="openwebtext.tar.xz",
    urls=("https://zenodo.org/records/3834942/files/openwebtext.tar.xz",),
    sha256="9fe39d154c5bc67da8c359415372b79510eb1e2edb0d035fe4f7fc3a732b9336",
    n_bytes=12_880_027_468,
)


def subset(number: int) -> Download:
    file = f"urlsf_subset{number:02}.tar"
    urls = tuple(FOLDER.format(revision, file) for revision in REVISIONS)
    return Download(f"openwebtext/{file}", urls, sha256=None)


def files(options: Options) -> list[Path]:
    """The first share of the 21 tars; or the one large archive, where that lies in the folder."""
    if options.fraction == 1 and WHOLE.path(options.data_dir).exists():
        return [WHOLE.fetch(options.data_dir)]
    count = math.ceil(N_SUBSETS * options.fraction - 1e-9)
    return [subset(number).fetch(options.data_dir) for number in range(count)]


RECIPE = large(
    "openwebtext", "39.8 GB: 8,013,769 pages that Reddit linked to, as for GPT-2", files, N_SUBSETS
)
