"""data.prepare: the same bytes whatever happens on the way, and nothing lost or said wrongly."""

import errno
import json
import lzma
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from killing import command, digest, documents, nested, trials
from making import jsonl, tar

from data import DataError, archives, open_prepared
from data.prepare import run as running
from data.prepare import writer
from data.prepare.__main__ import main
from data.prepare.run import Stopped, prepare
from data.prepare.settings import Content, Settings, from_command_line
from data.prepare.work import LEFT_OUT, Split, encode
from gpt import tokenizers


@pytest.fixture
def here(monkeypatch):
    """Encode in this process: no workers to start, and every step can be made to fail."""

    def results(jobs, tokenizer, processes):
        for job in jobs:
            yield encode(job, tokenizer)

    monkeypatch.setattr(running, "results", results)
    monkeypatch.setattr(running, "RECORD_EVERY", 0)


def settings(out, **content):
    defaults = {"tokenizer": "byte", "val_fraction": 0.2, "shard_tokens": 5000}
    return Settings(out=str(out), workers=2, content=Content(**defaults | content))


def make(source, out, **content):
    return prepare(str(source), settings(out, **content), "the same command")


def texts(prepared, side):
    """A side's documents, cut by its index and decoded."""
    tokenizer = tokenizers.from_dict(prepared.tokenizer)
    tokens = getattr(prepared, side)
    pieces = np.split(tokens[:], tokens.documents[1:]) if len(tokens) else []
    end = tokenizer.end_of_text
    assert end is None or all(piece[-1] == end for piece in pieces)
    return [tokenizer.decode(piece if end is None else piece[:-1]) for piece in pieces]


@pytest.fixture
def source(tmp_path):
    return nested(tmp_path / "source.tar", 6, 5)


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_every_document_is_on_one_side_with_its_boundaries(source, tmp_path, here, tokenizer):
    trained = {"vocab_size": 300, "pattern": "gpt4"} if tokenizer == "bpe" else {}
    manifest = make(source, tmp_path / "out", tokenizer=tokenizer, **trained)
    prepared = open_prepared(tmp_path / "out", verify=True)
    train, val = texts(prepared, "train"), texts(prepared, "val")
    assert sorted(train + val) == sorted(documents(30)) and train and val
    assert len(manifest["train"]["shards"]) > 1 and prepared.manifest == manifest
    for side, found in {"train": train, "val": val}.items():
        assert manifest[side]["documents"] == len(found)
        assert manifest[side]["bytes"] == sum(len(text.encode()) for text in found)
        assert manifest[side]["tokens"] == len(getattr(prepared, side))


def test_the_same_document_is_on_the_same_side_in_any_container(tmp_path, here):
    plain = tmp_path / "folder"
    plain.mkdir()
    for i, text in enumerate(reversed(documents(30))):
        (plain / f"{i}.txt").write_text(text, "utf-8")
    lines = tmp_path / "lines.jsonl"
    lines.write_bytes(jsonl([*documents(10, seed=1), *documents(30)]))
    sides = []
    for source in (nested(tmp_path / "source.tar", 6, 5), plain, lines):
        out = tmp_path / f"{source.name}-out"
        make(source, out, seed=len(sides))  # the seed has no say in it
        sides.append({side: set(texts(open_prepared(out), side)) for side in ("train", "val")})
    assert sides[0] == sides[1]
    assert all(sides[0][side] <= sides[2][side] for side in ("train", "val"))


@given(text=st.text(), low=st.floats(0, 1), high=st.floats(0, 1))
def test_more_held_out_never_moves_a_document_back(text, low, high):
    low, high = sorted((low, high))
    if Split(low, 1.0, 0).side(text) == "val":
        assert Split(high, 1.0, 0).side(text) == "val"
    assert Split(0.5, 1.0, 1).side(text) == Split(0.5, 1.0, 2).side(text) != LEFT_OUT


def test_fractions_are_what_they_say():
    sides = [Split(0.1, 0.5, 7).side(f"text {i}") for i in range(20_000)]
    assert abs(sides.count(LEFT_OUT) / 20_000 - 0.5) < 0.015  # 4 standard deviations
    assert abs(sides.count("val") / 20_000 - 0.05) < 0.0065


def test_a_single_document_is_split_by_position(shared_data, tmp_path, here):
    """GPT-2's counts for tinyshakespeare, 90/10: nanoGPT's."""
    book = shared_data / "shakespeare" / "tinyshakespeare.txt"
    gpt2 = str(shared_data / "gpt2_bpe")
    manifest = make(book, tmp_path / "out", tokenizer=gpt2, val_fraction=0.1, shard_tokens=10**6)
    assert manifest["split"].startswith("by position")
    assert [manifest[side]["tokens"] for side in ("train", "val")] == [301_966, 36_059]
    prepared = open_prepared(tmp_path / "out")
    text = book.read_text("utf-8")
    assert texts_of_book(prepared) == text
    assert prepared.train.documents.tolist() == prepared.val.documents.tolist() == [0]
    half = make(book, tmp_path / "half", tokenizer="char", val_fraction=0.1, fraction=0.5)
    assert half["train"]["tokens"] + half["val"]["tokens"] == len(text) // 2


def texts_of_book(prepared):
    tokenizer = tokenizers.from_dict(prepared.tokenizer)
    return "".join(tokenizer.decode(getattr(prepared, side)[:]) for side in ("train", "val"))


def test_a_single_document_larger_than_a_unit(tmp_path, here):
    book = tmp_path / "book.txt"
    book.write_text("".join(f"line {i} é\n" for i in range(450_000)), "utf-8")
    assert len(list(archives.units(book))) > 1
    text = book.read_text("utf-8")
    make(book, tmp_path / "out", val_fraction=0.75, shard_tokens=3_000_000)
    prepared = open_prepared(tmp_path / "out")
    assert texts_of_book(prepared) == text
    held_out = len(text) - int(len(text) * 0.25 + 1e-6)
    assert prepared.val[:].astype(np.uint8).tobytes().decode() == text[-held_out:]
    assert prepared.val.documents.tolist() == [0]


def test_a_large_document_among_others_stays_whole(tmp_path, here):
    large = "".join(f"line {i} of a large one\n" for i in range(230_000)) + "the end"
    (tmp_path / "all.txt").write_text("<|endoftext|>".join(["small", large, "other"]), "utf-8")
    assert len(list(archives.units(tmp_path / "all.txt"))) > 1
    for val_fraction in (0.0, 0.999999):
        out = tmp_path / f"out-{val_fraction}"
        make(tmp_path / "all.txt", out, val_fraction=val_fraction, shard_tokens=10**6)
        side = "val" if val_fraction else "train"
        assert texts(open_prepared(out), side) == ["small", large, "other"]


class Killed(BaseException):
    """What no code catches, as it catches no SIGKILL."""


@pytest.mark.parametrize("fault", [Killed(), OSError(errno.ENOSPC, "No space left on device")])
def test_any_step_may_be_the_last(tmp_path, here, monkeypatch, fault):
    """Fail at each call that touches the disk in turn, continue, and compare."""
    countdown = [-1]

    def failing(f):
        def wrapped(*args, **kwargs):
            countdown[0] -= 1
            if countdown[0] == 0:
                raise fault
            return f(*args, **kwargs)
        return wrapped

    source = nested(tmp_path / "source.tar", 3, 4)
    wanted = None
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # for power cuts, which this is not
    for owner, name in ((os, "fsync"), (os, "replace"), (Path, "unlink"), (writer, "sha256_of"),
                        (writer.Growing, "append"), (writer.Growing, "_header")):  # fmt: skip
        monkeypatch.setattr(owner, name, failing(getattr(owner, name)))
    steps = 0
    while True:
        out = tmp_path / f"out-{steps}"
        countdown[0] = steps
        try:
            make(source, out)
        except (Killed, DataError) as error:
            assert isinstance(fault, Killed) or "No space left on device" in str(error)
            assert isinstance(fault, Killed) or "continue with: the same command" in str(error)
            countdown[0] = -1
            make(source, out)
        assert wanted in (None, digest(out))
        wanted = digest(out)
        if countdown[0] > 0:  # it came to the end before the step that should have failed
            break
        steps += 1
    assert steps > 40


def test_a_full_disk_ends_cleanly_and_can_be_continued(source, tmp_path):
    """A real limit on the size of files, in a real process."""
    argv = command(source, tmp_path / "out", "--tokenizer", "byte", "--workers", "1")
    limited = [sys.executable, "-c", "import resource as r, runpy;"
               "r.setrlimit(r.RLIMIT_FSIZE, (20_000, r.RLIM_INFINITY));"
               "runpy.run_module('data.prepare', run_name='__main__')"]  # fmt: skip
    done = subprocess.run([*limited, *argv[3:]], capture_output=True, text=True)
    assert done.returncode == 2 and "File too large" in done.stderr, done.stderr
    assert "continue with: python -m data.prepare" in done.stderr and "Traceback" not in done.stderr
    subprocess.run(argv, check=True, capture_output=True)
    assert open_prepared(tmp_path / "out", verify=True).manifest["train"]["documents"] == 30


def test_the_same_bytes_for_any_number_of_workers(source, tmp_path):
    folders = []
    for workers in (1, 2, 3):
        out = tmp_path / f"out-{workers}"
        prepare(str(source), Settings(out=str(out), workers=workers, content=Content("byte")), "")
        folders.append(digest(out))
    assert folders[0] == folders[1] == folders[2]


def test_killed_and_started_again(tmp_path):
    trials(1, tmp_path, "--tokenizer", "byte", "--val-fraction", "0.1")


def start_and_wait(argv, until):
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)  # fmt: skip
    for _ in range(600):
        if until():
            return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate())


def children(pid):
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()]  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_signals_say_how_to_continue_and_leave_no_worker(tmp_path, number):
    source, out = nested(tmp_path / "source.tar", 20, 50, times=12), tmp_path / "out"
    tokenizers.get("bpe", lambda: documents(20), 300).save(tmp_path / "bpe.json")
    argv = command(source, out, "--tokenizer", str(tmp_path / "bpe.json"), "--workers", "2")
    record = out / "unfinished.json"
    process = start_and_wait(
        argv, lambda: record.exists() and '"units": 0' not in record.read_text()
    )
    workers = children(process.pid)
    assert len(workers) >= 2
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    said, complained = process.communicate()
    if number == signal.SIGINT:
        assert not complained
        assert process.returncode == 130 and "Continue with: python -m data.prepare" in said
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in workers):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("a worker outlives its parent")
    with pytest.raises(DataError, match="is unfinished: continue it with: python -m data.prepare"):
        open_prepared(out)


def spoilt(path, skip=20):
    """A tar whose third xz is cut short, and whose fifth is damaged inside."""
    members = {}
    for i in range(6):
        inner = tar({f"{i}-{j}.txt": text.encode() for j, text in enumerate(documents(5, seed=i))})
        members[f"{i}.xz"] = lzma.compress(inner)
    members["2.xz"] = members["2.xz"][:-200]
    members["4.xz"] = members["4.xz"][:100] + bytes(50) + members["4.xz"][150:]
    path.write_bytes(tar(members))
    return path


def test_corrupt_members_are_named_or_skipped_and_counted(tmp_path, monkeypatch, capsys):
    source = spoilt(tmp_path / "bad.tar")
    argv = ["prepare", str(source), "--tokenizer", "byte", "--workers", "2", "--out"]
    monkeypatch.setattr(sys, "argv", [*argv, str(tmp_path / "out")])
    assert main() == 2
    said = capsys.readouterr()
    assert "bad.tar" in said.err and "2.xz" in said.err and "Traceback" not in said.err
    monkeypatch.setattr(sys, "argv", [*argv, str(tmp_path / "out"), "--skip-bad"])
    assert main() == 0  # the same folder goes on
    assert "Left out 2 that could not be read" in capsys.readouterr().out
    prepared = open_prepared(tmp_path / "out", verify=True)
    assert prepared.manifest["skipped"]["count"] == 2
    assert any("2.xz" in reason for reason in prepared.manifest["skipped"]["reasons"])
    kept = {text for i in (0, 1, 3, 5) for text in documents(5, seed=i)}
    assert kept <= set(texts(prepared, "train") + texts(prepared, "val"))


def test_other_settings_are_refused_by_name(source, tmp_path, here, monkeypatch):
    out = tmp_path / "out"
    take = running.Preparation._take

    def stopping(self, result):
        take(self, result)
        self.stop.asked = signal.SIGTERM

    monkeypatch.setattr(running.Preparation, "_take", stopping)
    with pytest.raises(Stopped):
        make(source, out)
    assert json.loads((out / "unfinished.json").read_text())["units"] == 1
    monkeypatch.undo()
    other = tmp_path / "other.txt"
    other.write_text("a<|endoftext|>b")
    for change, message in (
        ({"val_fraction": 0.3}, "was begun with val-fraction 0.2, not 0.3"),
        ({"tokenizer": "char", "seed": 1}, "tokenizer byte, not char; seed 1337, not 1"),
        ({"source": other}, "source .*source.tar, not .*other.txt; source-bytes"),
    ):
        with pytest.raises(DataError, match=message):
            make(change.pop("source", source), out, **change)


def test_a_finished_folder_is_left_alone(source, tmp_path, here):
    out = tmp_path / "out"
    manifest, before = make(source, out), digest(out)
    source.unlink()  # not even looked at
    assert make(source, out) == manifest and digest(out) == before
    with pytest.raises(DataError, match="was begun with val-fraction 0.2, not 0.3"):
        make(source, out, val_fraction=0.3)


def test_a_folder_of_something_else_is_refused(source, tmp_path, here):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty, and holds no preparation to continue"):
        make(source, tmp_path)
    with pytest.raises(DataError, match="--out .*mine.txt"):
        make(source, tmp_path / "mine.txt")


def test_one_process_at_a_time(source, tmp_path, here):
    pytest.importorskip("fcntl")
    out = tmp_path / "out"
    out.mkdir()
    with writer.locked(out), pytest.raises(DataError, match="another python -m data.prepare"):
        make(source, out)


def test_nothing_to_read(tmp_path, here):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there is no text in it"):
        make(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="'shakespear' is neither a corpus nor a file; did you"):
        make("shakespear", tmp_path / "out")
    with pytest.raises(DataError, match="tales is generated"):
        make("tales", tmp_path / "out")


def test_characters_that_a_tokenizer_lacks_are_named_with_their_document(source, tmp_path, here):
    tokenizers.CharTokenizer.train("abc").save(tmp_path / "abc.json")
    with pytest.raises(DataError, match=r"source.tar.*000-0000.txt: character .* not among"):
        make(source, tmp_path / "out", tokenizer=str(tmp_path / "abc.json"))


def test_damage_is_found(source, tmp_path, here):
    make(source, tmp_path / "out")
    shard = tmp_path / "out" / "train-00001.tokens"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:200] + b"X" + whole[201:])
    open_prepared(tmp_path / "out")
    with pytest.raises(DataError, match="train-00001.tokens is damaged: its sha256"):
        open_prepared(tmp_path / "out", verify=True)
    shard.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="train-00001.tokens is unfinished or damaged"):
        open_prepared(tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    for change, message in (({"version": 2}, "has version 2, and this program reads up to 1"),
                            ({"version": None}, "has no version"),
                            ({"train": {}}, "manifest.json is damaged")):  # fmt: skip
        (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(DataError, match=message):
            open_prepared(tmp_path / "out")
    with pytest.raises(DataError, match="holds no prepared corpus: it has no manifest.json"):
        open_prepared(tmp_path)


def test_the_command_line_names_every_mistake():
    with pytest.raises(ValueError) as error:
        from_command_line(["--val-fraction", "1", "--fraction", "2", "--workers", "x", "--skipbad"])
    said = str(error.value)
    for part in ("--val-fraction 1.0: must be below 1.0", "--fraction 2.0: must be at most 1",
                 "--workers x: must be a whole number", "unknown flag --skipbad; did you mean",
                 "what is to be prepared?"):  # fmt: skip
        assert part in said
