"""The findings of `data.inspect`, for people."""

from __future__ import annotations

import unicodedata
from typing import Any

from rich.console import Console
from rich.table import Table

FREQUENT, RARE = 60, 12  # symbols shown
PERCENTILES = {"p1": "1% have at most", "p10": "10%", "p50": "half", "p90": "90%", "p99": "99%"}


def show(found: dict[str, Any], console: Console | None = None) -> None:
    console = console or Console(highlight=False)
    console.print(f"\n{found['path']}", markup=False, style="bold")
    for title, rows in sections(found).items():
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        table.add_column(no_wrap=True, min_width=22)
        table.add_column(overflow="fold")
        for name, value in rows.items():
            table.add_row(name, value)
        console.print("", table, sep="\n")


def sections(found: dict[str, Any]) -> dict[str, dict[str, str]]:
    """{title: {name: value}}, in the order of reading."""
    size_of = f"{found['sample_bytes']:,} bytes"
    sample = "all of it" if found["sample_is_all"] else f"a sample of {size_of}"
    return {
        "Size": size(found),
        "Symbols": symbols(found["symbols"]),
        "Odd characters": oddities(found),
        "Characters per document": {
            PERCENTILES.get(name, name): f"{value:,}" for name, value in found["lengths"].items()
        },
        f"Compression of {sample}": {
            name: f"to {ratio:.1%}, {8 * ratio:.3f} bits per byte"
            for name, ratio in found["compression"].items()
        },
        f"Tokens on a held-out tenth of {sample}": {
            name: row["unavailable"] if "unavailable" in row else
            f"{row['tokens_per_byte']:.4f} per byte, {row['tokens_per_character']:.4f} per "
            f"character; vocabulary {row['vocab_size']:,}"
            for name, row in found["tokenizers"].items()
        },
        f"n-gram models on a held-out tenth of {sample}": {
            f"{row['n']}-gram": f"{row['nats_per_character']:.4f} nats per character"
            for row in found["ngrams"]
        },
    }  # fmt: skip


def size(found: dict[str, Any]) -> dict[str, str]:
    documents, lines = found["documents"], found["lines"]
    rows = {
        "bytes of text": f"{found['bytes']:,}",
        "characters": f"{found['characters']:,}",
        "documents": f"{documents:,}",
        "duplicates": _share(found, "duplicate_documents", documents),
        "lines with text": f"{lines:,}",
        "repeated lines": _share(found, "duplicate_lines", lines),
    }
    if found["skipped"]:
        reasons = found["skipped_reasons"]
        more = f"\n... and {found['skipped'] - 5:,} more" if found["skipped"] > 5 else ""
        rows["unreadable, left out"] = f"{found['skipped']:,}\n" + "\n".join(reasons[:5]) + more
    for kind, count in found["ignored"].items():
        if count:
            rows[f"passed over: {kind}"] = f"{count:,}"
    return rows


def _share(found: dict[str, Any], key: str, total: int) -> str:
    one_in = found[key + "_one_in"]
    estimate = f" (estimated from one in {one_in:,})" if one_in > 1 else ""
    return f"{found[key]:,}, {found[key] / max(total, 1):.2%}{estimate}"


def symbols(counts: dict[str, int]) -> dict[str, str]:
    chars = list(counts)
    rare = chars[: -RARE - 1 : -1] if len(chars) > RARE else chars[::-1]
    return {
        "distinct": f"{len(chars):,}",
        "most frequent": " ".join(map(printable, chars[:FREQUENT])),
        "rarest": "\n".join(f"{counts[c]:>9,}  {printable(c)}  {name_of(c)}" for c in rare),
    }


def oddities(found: dict[str, Any]) -> dict[str, str]:
    rows = {
        kind: ", ".join(f"{count:,} x {name_of(char)}" for char, count in list(chars.items())[:6])
        for kind, chars in found["odd"].items()
    }
    if found["not_nfc"]:
        rows["not in NFC"] = f"{found['not_nfc']:,} documents: letters are spelled in parts"
    return rows or {"none": ""}


def printable(char: str) -> str:
    if char == " ":
        return "␣"
    return char if char.isprintable() else repr(char)[1:-1]


def name_of(char: str) -> str:
    return f"U+{ord(char):04X} {unicodedata.name(char, '')}".rstrip()
