"""Corpora from the web: checksum, progress, resume, mirrors; and what to do by hand when offline.

pooch checks the hash and puts the file in place only where it holds. A broken download pooch would
start again from zero, so `_Resume` is the downloader it is given: HTTP Range (RFC 9110, section 14)
into a `.part` file that outlives the failure.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data.errors import DataError

TIMEOUT = 20  # seconds without a byte before a try counts as broken
CHUNK = 1 << 16
LARGE = 64 << 20  # bytes from which on a verified file is remembered, not hashed at every use


def cache_folder() -> Path:
    """Where downloads live by default: tinytensor/data in the platform's cache folder."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "tinytensor" / "data"


@dataclass(frozen=True)
class Download:
    """One file of the web, known by its bytes: `urls` are mirrors of the same ones.

    sha256: None where nobody publishes it. Then the first download is believed, and what it was is
    recorded beside it; whatever else is found in its place later is refused.
    """

    file: str
    urls: tuple[str, ...]
    sha256: str | None
    n_bytes: int | None = None

    def path(self, folder: str | Path | None = None) -> Path:
        """Where the file is, or will be."""
        return Path(folder or cache_folder()).expanduser() / self.file

    def fetch(self, folder: str | Path | None = None) -> Path:
        """The verified file's path; downloaded unless it is there already.

        Raises DataError where no mirror delivers it, saying where to put the file by hand, and
        where another file is in its place.
        """
        path = self.path(folder)
        if not path.exists():
            self._download(path)
        record = _Record(path)
        wanted = self.sha256 or record.sha256
        if wanted is None or not record.holds(wanted):
            found = sha256_of(path)
            if wanted not in (None, found):
                meant = "meant here" if self.sha256 else f"of its first use, see {record.file.name}"
                raise DataError(
                    f"{path} is not the {self.file} {meant}: its sha256 is {found[:12]}..., not "
                    f"{wanted[:12]}... Delete it to download it again, or use it as it is by "
                    f"giving its path instead of the corpus's name"
                )
            if self.sha256 is None or path.stat().st_size >= LARGE:
                record.write(found)
        return path

    def _download(self, path: Path) -> None:
        by_hand = f"By hand: save {self.urls[0]} as {path} and run this again"
        try:
            import pooch
            import requests  # what pooch itself downloads with
        except ModuleNotFoundError as error:
            raise DataError(
                f"downloading {self.file} needs pooch: pip install pooch. {by_hand}"
            ) from error
        if self.sha256 is None:
            pooch.get_logger().setLevel("WARNING")  # its advice on that is for programmers
        failures = []
        for url in self.urls:
            resume = _Resume(path.with_name(path.name + ".part"), self.n_bytes)
            while True:
                had = resume.size
                try:
                    sha256 = self.sha256 and "sha256:" + self.sha256
                    pooch.retrieve(url, sha256, path.name, path.parent, downloader=resume)
                    return
                except requests.RequestException as error:
                    failure, again = _reason(error), resume.size > had  # bytes came: go on there
                except ValueError:  # pooch's word for a wrong hash; the file is gone by now
                    failure = "its sha256 is not the one this recipe was made with"
                    again = had > 0  # the part may have been another mirror's, or an older one
                except OSError as error:
                    raise DataError(
                        f"cannot write {path}: {error.strerror or error}; "
                        f"choose another folder with --data-dir"
                    ) from error
                if not again:
                    break
            failures.append(f"{url}: {failure}")
        raise DataError(f"cannot download {self.file} ({'; '.join(failures)}). {by_hand}")


class _Resume:
    """A pooch downloader that goes on where the last try broke off."""

    def __init__(self, part: Path, n_bytes: int | None) -> None:
        self.part, self.n_bytes = part, n_bytes

    @property
    def size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        # Else: complete, or not our file, as its hash will tell.
        if self.n_bytes is None or self.size < self.n_bytes:
            self._append(url)
        os.replace(self.part, output_file)

    def _append(self, url: str) -> None:
        import requests

        have = self.size
        headers = {"Accept-Encoding": "identity"}  # a range of a gzip stream is of no use
        if have:
            headers["Range"] = f"bytes={have}-"
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as reply:
            content_range = reply.headers.get("Content-Range", "")
            if reply.status_code == 416 and content_range == f"bytes */{have}":
                return  # nothing follows what there is: it was complete
            reply.raise_for_status()
            if not content_range.startswith(f"bytes {have}-"):
                have = 0  # the server sends the whole file
            length = reply.headers.get("Content-Length")
            total = have + int(length) if length else self.n_bytes
            if self.n_bytes not in (None, total):  # a login page, another edition
                raise requests.RequestException(f"it has {total:,} bytes, not {self.n_bytes:,}")
            with (
                open(self.part, "ab" if have else "wb") as file,
                _progress(self.part.stem, have, total) as advance,
            ):
                for chunk in reply.iter_content(CHUNK):
                    file.write(chunk)
                    advance(len(chunk))


class _Record:
    """What was verified once: a file's hash, and by which size and time it is known again."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, path.with_name(path.name + ".verified")
        try:
            self.known = json.loads(self.file.read_text("utf-8"))
            self.sha256: str | None = str(self.known["sha256"])
        except FileNotFoundError:
            self.known, self.sha256 = {}, None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.file} cannot be read ({error}): delete it") from None

    def _stamp(self) -> dict[str, int]:
        status = self.path.stat()
        return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}

    def holds(self, sha256: str) -> bool:
        """Whether the file has that hash, by the record: a large one is not hashed every time."""
        return self.known == {"sha256": sha256, **self._stamp()}

    def write(self, sha256: str) -> None:
        text = json.dumps({"sha256": sha256, **self._stamp()}) + "\n"
        unfinished = self.file.with_name(self.file.name + ".part")
        try:
            unfinished.write_text(text, "utf-8")
            os.replace(unfinished, self.file)
        except OSError as error:
            raise DataError(f"cannot write {self.file}: {error.strerror or error}") from None


def sha256_of(path: Path) -> str:
    """A file's sha256; it is read in pieces, whatever its size."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def _reason(error: Exception) -> str:
    """A failed request in few words; those of requests name pools, retries and object addresses."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"no answer in {TIMEOUT} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error)


@contextmanager
def _progress(name: str, done: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal that has rich; silence in logs and pipes."""
    try:
        from rich import progress
        from rich.console import Console
    except ModuleNotFoundError:
        yield lambda n: None
        return
    console = Console(stderr=True)
    columns = (
        "{task.description}",
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=total, completed=done)
        yield lambda n: bar.advance(task, n)
