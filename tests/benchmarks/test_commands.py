"""Every benchmark runs, and its last line is JSON with numbers in it."""

import json
import os
import subprocess
import sys

import pytest

SMALL = "64/128/4/4/12"


@pytest.mark.parametrize(
    "command",
    [
        ["step", SMALL, "--steps", "1"],
        ["kernels", "add", "gelu", "--device", "cpu", "--seconds", "0.001", "--course-size", "99"],
        ["breakdown", SMALL, "--steps", "1"],
        ["memory", SMALL],
    ],
    ids=lambda command: command[0],
)
def test_last_line_is_json(command, tmp_path):
    drawing = tmp_path / "plot.png"
    wanted = [] if command[0] == "memory" else ["--plot", str(drawing)]
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{command[0]}", *command[1:], *wanted],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == command[0]
    rows = result["parts" if command[0] == "breakdown" else "rows"]
    if command[0] == "kernels":
        assert [row["op"] for row in result["sizes"]] == ["gelu", "add"]
        assert "no GPU" in done.stdout and "mislead" in done.stdout
    assert rows and all(v >= 0 for row in rows for v in row.values() if not isinstance(v, str))
    assert drawing.exists() or not wanted
    if command[0] == "breakdown":
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        shown = {row["part"]: row for row in rows}
        assert shown["linear forward"]["products_ms"] < 3 * shown["linear forward"]["ms"]
