"""Files and folders that are whole or not there: written beside, flushed to the disk, renamed.

A crash at any instant leaves what was there before, or what was to be there after, and at most a
hidden leftover that `sweep` removes. Functions raise OSError, a full disk among others.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

UNFINISHED, DELETED = ".unfinished-", ".deleted-"


def write_file(path: Path, data: bytes) -> None:
    """Write or replace a file."""
    temporary = path.with_name(UNFINISHED + path.name)
    try:
        _write(temporary, data)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_folder(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a new folder of files; they are asked for one by one, so few need be in memory."""
    temporary = path.with_name(UNFINISHED + path.name)
    try:
        temporary.mkdir()
        for name, data in files:
            _write(temporary / name, data)
        sync_folder(temporary)
        temporary.rename(path)
        sync_folder(path.parent)
    except BaseException:  # whatever it was, half a folder is of no use
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_folder(path: Path) -> None:
    """Remove a folder: first its name, in one stroke, then what is in it."""
    hidden = path.with_name(DELETED + path.name)
    path.rename(hidden)
    shutil.rmtree(hidden)


def sweep(folder: Path) -> None:
    """Remove what a crash left half written or half deleted."""
    for mark in (UNFINISHED, DELETED):
        for leftover in folder.glob(f"{mark}*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; Windows has no call for it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
