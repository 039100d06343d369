"""`python -m data.prepare NAME|PATH --tokenizer gpt2 --val-fraction 0.0005 --workers N`."""

from __future__ import annotations

import signal
import sys
from typing import Any

from data.prepare.run import Stopped, prepare
from data.prepare.settings import from_command_line
from gpt.errors import command


@command
def main() -> int:
    source, settings, line = from_command_line()
    try:
        manifest = prepare(source, settings, line)
    except (Stopped, KeyboardInterrupt) as stopped:
        print(f"Stopped; what is done stays. Continue with: {line}")
        return 128 + (stopped.number if isinstance(stopped, Stopped) else signal.SIGINT)
    print(summary(manifest))
    print(f"Kept in {settings.folder(source)}")
    return 0


def summary(manifest: dict[str, Any]) -> str:
    """What came of it, for people."""
    tokenizer, skipped = manifest["tokenizer"], manifest["skipped"]
    lines = [f"{manifest['settings']['source']}, split {manifest['split']}",
             f"tokenizer {tokenizer['type']}, {tokenizer['vocab_size']:,} tokens, as "
             f"{manifest['dtype']}"]  # fmt: skip
    for side in ("train", "val"):
        part = manifest[side]
        ratio = f", {part['bytes'] / part['tokens']:.2f} bytes per token" if part["tokens"] else ""
        lines.append(f"{side:<5} {part['documents']:>13,} documents {part['tokens']:>15,} tokens"
                     f" in {len(part['shards'])} shards{ratio}")  # fmt: skip
    if not manifest["val"]["tokens"]:
        lines.append("Nothing was held out: there are few documents; raise --val-fraction")
    if skipped["count"]:
        lines.append(f"Left out {skipped['count']:,} that could not be read, such as:")
        lines += [f"  {reason}" for reason in skipped["reasons"][:3]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
