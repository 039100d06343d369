"""What the commands of this folder have in common on their command lines."""

from __future__ import annotations

import argparse


def parser(command: str, about: str | None) -> argparse.ArgumentParser:
    """For `python -m COMMAND`; its module's head is its help, as it stands."""
    return argparse.ArgumentParser(
        f"python -m {command}", description=about, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
