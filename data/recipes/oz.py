"""The Wonderful Wizard of Oz (L. Frank Baum, 1900; Project Gutenberg #55).

Gutenberg now and then corrects its books and rewrites their headers, so no checksum of its own file
holds for long. This is a fixed copy of its text, without header and licence, at a pinned commit.
Gutenberg's current edition (gutenberg.org/ebooks/55, "Plain Text UTF-8") works by its path.
"""

from data.download import Download
from data.recipe import book

FILE = Download(
    file="wonderful_wizard.txt",
    urls=(
        "https://raw.githubusercontent.com/panditk455/GPT/"
        "3f26ffda1d4a8a6b7a817648a934a6c0683603cc/pg55.txt",
    ),
    sha256="74a6f88582b1695274607c0a65d3cf89439757a947dd5ce9b44ae6f737b118ab",
    n_bytes=212_701,
)
RECIPE = book("oz", "207,812 characters: The Wonderful Wizard of Oz", FILE)
