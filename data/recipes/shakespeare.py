"""Tiny Shakespeare: 40,000 lines of the plays, char-rnn's corpus and nanoGPT's."""

from data.download import Download
from data.recipe import book

FILE = Download(
    file="tinyshakespeare.txt",
    urls=(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    ),
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    n_bytes=1_115_394,
)
RECIPE = book("shakespeare", "1,115,394 characters of Shakespeare's plays, as in nanoGPT", FILE)
