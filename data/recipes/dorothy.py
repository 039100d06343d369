"""Dorothy and the Wizard in Oz (L. Frank Baum, 1908; Project Gutenberg #22566).

It is the file that the freeCodeCamp course "Create an LLM from scratch" trains on and calls
wizard_of_oz.txt: a BOM and CRLF, without Gutenberg's header and licence. As read here it has
232,308 characters, 80 distinct; the course's own reading keeps the BOM as an 81st.
"""

from data.download import Download
from data.recipe import book

COURSE = "https://raw.githubusercontent.com/Infatoshi/fcc-intro-to-llms"
FILE = Download(
    file="dorothy_and_the_wizard.txt",
    urls=(
        f"{COURSE}/6a4ccbe9226c8d1cde5b62233a0892d3d786950c/wizard_of_oz.txt",
        f"{COURSE}/main/wizard_of_oz.txt",
    ),
    sha256="563fc0f0faf22236b612e61ad5c49e09e15484cbaa4271625485c6bfd9991741",
    n_bytes=237_733,
)
RECIPE = book("dorothy", "232,308 characters: Dorothy and the Wizard in Oz (the course's)", FILE)
