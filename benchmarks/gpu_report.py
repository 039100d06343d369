"""All that is to be known of this GPU, in one command and 8 minutes: tests, checks, benchmarks.

    python -m benchmarks.gpu_report                        writes benchmarks/results/<gpu>.md, .json
    python -m benchmarks.gpu_report --parts checks step    these again, the others as they were
    python -m benchmarks.gpu_report --text tinyshakespeare.txt --minutes 9

Each part is a process of its own with a time of its own (gpu_parts.py). What crashes, hangs or is
not here is said in the report, and the others go on. The files are written anew after each part, so
whatever ends the report, what was measured is there. Exit code 0 unless there is no GPU.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic, strftime
from typing import Any

import tinytensor as tt
from gpt.durable import write_file
from gpt.errors import UserError, command

from . import flags
from .gpu_parts import ROOT, Part, Sizes, last_json, parts
from .gpu_targets import targets

MINUTES = 8.0
SPARE = 5.0  # seconds for ending what runs and writing it down
LINES = 60  # of what a part printed, its last ones, are in the report
MARKS = {True: "yes", False: "**no**", None: "pending"}


def gpu(device: str = "cuda") -> dict[str, Any]:
    """What it is, and what it is driven by."""
    own, runtime = tt.cuda.get_device_properties(device), tt.backend.cupy().cuda.runtime
    packages = {}
    for name in ("numpy", "cupy-cuda13x", "cupy-cuda12x", "ml_dtypes", "torch"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    try:
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True,
                                capture_output=True).stdout.strip()  # fmt: skip
    except OSError:  # no git here
        commit = ""
    return {"name": own.name, "capability": f"{own.major}.{own.minor}", "memory": own.total_memory,
            "multiprocessors": own.multi_processor_count, "l2_cache": own.L2_cache_size,
            "driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion(),
            "cpu_cores": len(os.sched_getaffinity(0)), "python": platform.python_version(),
            **packages, "commit": commit, "date": strftime("%Y-%m-%d")}  # fmt: skip


def run(part: Part, seconds: float, python: Sequence[str]) -> dict[str, Any]:
    """Its outcome, time, what it printed at the end, and its numbers."""
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p),
                   "PYTHONUNBUFFERED": "1"}  # fmt: skip
    line = [*part.before, *python, part.module, *part.args]
    start = monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT,
                                   env=environment, start_new_session=True)  # fmt: skip
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # also on Ctrl-C; with all that it started
            end(process)
        took = monotonic() - start
        log.seek(0)
        text = log.read()
    data = (part.read or last_json)(text)
    said = [row.rstrip()[:160] for row in text.splitlines() if not row.startswith("{")]
    return {"outcome": outcome(code, data, seconds, said), "seconds": round(took, 1),
            "data": data, "printed": said[-LINES:]}  # fmt: skip


def outcome(code: int | None, data: Any, seconds: float, said: list[str]) -> str:
    if code is None:
        return f"out of time after {seconds:.0f} s"
    if code == 0 or (code == 1 and data is not None):  # 1: what was checked is not all right
        return "done"
    if code == 2 and data is None:
        return "not here: " + (said[-1] if said else "no reason given")
    return f"failed with exit code {code}: " + (said[-1] if said else "")


def end(process: subprocess.Popen) -> None:
    """The process and its children; nothing where all have ended."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def markdown(report: dict[str, Any]) -> str:
    """The report for people."""
    own = report["gpu"]
    about = [f"{key.replace('_', ' ')} {value}" for key, value in own.items() if key != "name"]
    lines = [f"# {own['name']}", "",
             "Written by `python -m benchmarks.gpu_report`: " + ", ".join(about) + ".", "",
             "| target | wanted | measured | met |", "|---|---|---|---|"]  # fmt: skip
    lines += [f"| {t['what']} | {t['wanted']} | {t['measured']} | {MARKS[t['met']]} |"
              for t in report["targets"]]  # fmt: skip
    lines += ["", "| part | commit | seconds | outcome |", "|---|---|---|---|"]
    lines += [f"| {p['title']} (`{name}`) | {p['commit']} | {p['seconds']} | {p['outcome']} |"
              for name, p in report["parts"].items()]  # fmt: skip
    for p in report["parts"].values():
        if p["printed"]:
            lines += ["", f"## {p['title']}", "", f"`{p['command']}`", "", "```",
                      *p["printed"], "```"]  # fmt: skip
    return "\n".join(lines) + "\n"


def write(report: dict[str, Any], stem: Path) -> None:
    """Both files, each whole or as it was."""
    report["targets"] = [t._asdict() for t in targets(report["parts"])]
    write_file(stem.with_suffix(".json"), (json.dumps(report, indent=1) + "\n").encode())
    write_file(stem.with_suffix(".md"), markdown(report).encode())


def portable(value: Any, names: dict[str, str]) -> Any:
    """Without the folders of this machine, in any text of the value."""
    if isinstance(value, dict):
        return {key: portable(v, names) for key, v in value.items()}
    if isinstance(value, list):
        return [portable(v, names) for v in value]
    if isinstance(value, str):
        for folder, name in names.items():
            value = value.replace(folder, name) if len(folder) > 1 else value
    return value


def slug(name: str) -> str:
    """`NVIDIA H100 80GB HBM3` as a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def make(
    out: Path, minutes: float = MINUTES, wanted: Sequence[str] = (), text: str | None = None,
    sizes: Sizes = Sizes(), python: Sequence[str] = (sys.executable, "-m"),  # noqa: B008
) -> tuple[dict[str, Any], Path]:
    """Run the parts one after the other; the report, and where it is, without a suffix.

    python  how a module is run: a test has its own
    """
    start = monotonic()
    report: dict[str, Any] = {"gpu": gpu(), "minutes": minutes, "parts": {}}
    out.mkdir(parents=True, exist_ok=True)
    stem = out / slug(report["gpu"]["name"])
    if wanted and stem.with_suffix(".json").exists():
        report["parts"] = json.loads(stem.with_suffix(".json").read_text())["parts"]
    with tempfile.TemporaryDirectory() as folder:
        everything = parts(sizes, text, Path(folder), stem.with_name(f"{stem.name}-sizes.png"))
        for part in (p for p in everything if not wanted or p.name in wanted):
            left = 60 * minutes - SPARE - (monotonic() - start)
            seconds = min(left, part.seconds * minutes / MINUTES)
            if part.missing or left < SPARE:
                done: dict[str, Any] = {"outcome": f"not here: {part.missing}" if part.missing else
                        "not begun: no time was left", "seconds": 0.0, "data": None,
                        "printed": []}  # fmt: skip
            else:
                done = run(part, seconds, python)
            line = " ".join(["python -m", part.module, *part.args])
            named = {"title": part.title, "command": line, "commit": report["gpu"]["commit"]}
            report["parts"][part.name] = portable(named | done, {
                folder: "RUN", str(out): "results", str(text and Path(text).parent): "DATA",
                str(ROOT): ".", str(ROOT.parent): "..", str(Path.home()): "~"})  # fmt: skip
            write(report, stem)
            print(f"{part.name:12}{done['seconds']:7.1f} s   {done['outcome']}", flush=True)
    return report, stem


@command
def main() -> int:
    names = [part.name for part in parts(Sizes(), None, Path(), Path())]
    parser = flags.parser("benchmarks.gpu_report", __doc__)
    add = parser.add_argument
    add("--parts", nargs="+", choices=names, default=[], metavar="PART",
        help=f"some of {', '.join(names)} (default: all)")  # fmt: skip
    add("--minutes", type=float, default=MINUTES, help="for all of it (default: 8)")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the files")
    add("--text", metavar="FILE", help="tinyshakespeare, where it is not in its usual places")
    args = parser.parse_args()
    problem = tt.backend.cuda_problem()
    if problem:
        raise UserError(f"there is no GPU to report on: {problem}")
    report, stem = make(args.out, args.minutes, args.parts, args.text)
    print()
    for t in report["targets"]:
        met = {True: "ok", False: "MISSED", None: "?"}[t["met"]]
        print(f"{met:7} {t['what']}: {t['measured']} (wanted: {t['wanted']})")
    print(f"written: {stem}.md and .json")
    print(json.dumps({"benchmark": "gpu_report", "gpu": report["gpu"]["name"],
                      "targets": report["targets"]}))  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
