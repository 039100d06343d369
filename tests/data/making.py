"""Archives of every kind, made in memory for the tests, and read as workers read them."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile

import pytest

from data import archives

TEXT = "Äpfel, \N{PILE OF POO} und 漢字\nzweite Zeile\n"
DOCUMENTS = [f"{i}: {TEXT}" for i in range(3)]


def tar(members, *, format=tarfile.GNU_FORMAT) -> bytes:
    """A tar of {name: bytes}, or of TarInfos with their bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as file:
        for name, data in dict(members).items():
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(members, method=zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def pylzma(data: bytes, end_marker=True, dictionary=1 << 23, lc=3, lp=0, pb=2) -> bytes:
    """As pylzma.compress writes it: 1 byte lc + 9 (lp + 5 pb), 4 bytes dictionary size, LZMA1.

    liblzma ends raw LZMA1 with the marker; .lzma with a known size, as xz reads it, has none.
    """
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": lc, "lp": lp, "pb": pb}]
    raw = lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
    if not end_marker:
        raw = without_marker(data, filters)
    return bytes([lc + 9 * (lp + 5 * pb)]) + dictionary.to_bytes(4, "little") + raw


def without_marker(data, filters) -> bytes:
    pylzma = pytest.importorskip("pylzma", reason="only pylzma writes LZMA without an end marker")
    return pylzma.compress(data, eos=0)[5:]


def zstd(data: bytes) -> bytes:
    return pytest.importorskip("zstandard").compress(data)


def jsonl(documents, field="text") -> bytes:
    return "".join(json.dumps({"id": 1, field: d}) + "\n" for d in documents).encode()


def parquet(documents, column="text", rows=2) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    buffer = io.BytesIO()
    table = pyarrow.table({"id": range(len(documents)), column: documents})
    parquet.write_table(table, buffer, row_group_size=rows)
    return buffer.getvalue()


def read(path, **options) -> list[archives.Document]:
    """Through units that were pickled, as a worker gets them."""
    units = list(archives.units(path, **options))
    assert [u.label for u in units] == [u.label for u in archives.units(path, **options)]
    assert len({u.label for u in units}) == len(units)
    assert all(len(pickle.dumps(u)) < 32 << 20 for u in units)
    return [d for u in units for d in archives.documents(pickle.loads(pickle.dumps(u)))]


MEMBERS = {f"a/{i}.txt": text.encode() for i, text in enumerate(DOCUMENTS)}
COMPRESSED = {
    "gz": lambda data: gzip.compress(data, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "lzma by pylzma": pylzma,
    "lzma by pylzma, small": lambda data: pylzma(data, lc=0, lp=2, pb=1, dictionary=1 << 16),
}
