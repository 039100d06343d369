"""Archives that are cut short, corrupt, encrypted, or meant to do harm: named, refused, skipped."""

import gzip
import io
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest
from making import COMPRESSED, MEMBERS, jsonl, parquet, pylzma, read, tar, zipped, zstd

from data import archives
from data.errors import DataError

MB = 1 << 20
GOOD = {"1.txt": b"one", "2.txt": b"two"}


@pytest.fixture
def file(tmp_path):
    def write(name, data: bytes):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def skipping(path, **options):
    """What is left with skip_bad, and the report."""
    report = archives.Report()
    documents = list(archives.read(path, skip_bad=True, report=report, **options))
    return [d.text for d in documents], report


def member(name, kind=tarfile.REGTYPE, data=b"", **fields) -> bytes:
    """One member's header and data, without the end of a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


END = bytes(1024)
HOSTILE = {
    "/etc/passwd": "an absolute path",
    "../../up.txt": "a path out of its archive",
    "a/../../up.txt": "a path out of its archive",
    "C:/windows.txt": "an absolute path",
    "a\\b.txt": "backslash",
    "a\nb.txt": "control character",
    "./": "no name",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(file, name):
    for path in (file("x.tar", member("1.txt", data=b"one") + member(name, data=b"evil") + END),
                 file("x.zip", zipped({"1.txt": b"one", name: b"evil"}))):  # fmt: skip
        fault = f"^{path.name}: its member .* refused: .*{HOSTILE[name]}"
        with pytest.raises(DataError, match=fault):
            read(path)
        assert skipping(path)[0] == ["one"]


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"Q", "unknown type"),
    ],
)
def test_links_and_devices_are_refused(file, kind, what):
    evil = member("evil", kind, linkname="/etc/passwd")
    path = file("x.tar", member("1.txt", data=b"one") + evil + member("2.txt", data=b"two") + END)
    with pytest.raises(DataError, match=f"x.tar/evil is refused: .*{what}"):
        read(path)
    texts, report = skipping(path)
    assert texts == ["one", "two"] and report.skipped == 1


def test_directories_and_hidden_files_are_passed_over(file):
    data = member("d/", tarfile.DIRTYPE) + member("d/._1", data=b"\0") + member("d/1", data=b"1")
    report = archives.Report()
    assert [d.text for d in archives.read(file("x.tar", data + END), report=report)] == ["1"]
    assert report.ignored == {"hidden files": 1} and not report.skipped


def test_a_link_in_a_zip_is_refused(file):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="x.zip/link is refused: it is a link"):
        read(file("x.zip", buffer.getvalue()))


def test_a_pipe_in_a_folder_does_not_hang(tmp_path, file):
    file("1.txt", b"one")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe is refused"):
        read(tmp_path)
    assert skipping(tmp_path)[0] == ["one"]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstd, pylzma])
def test_bombs_are_refused_before_they_go_off(file, pack):
    path = file("x.lzma" if pack is pylzma else "x.txt", pack(b"a" * (20 * MB)))
    with pytest.raises(DataError, match=r"^x.* looks like a decompression bomb.*max_ratio"):
        for _ in archives.read(path):
            pass
    texts, report = skipping(path)
    assert sum(map(len, texts)) < 18 * MB and report.skipped == 1
    roomy = archives.Options(max_ratio=100_000)
    assert sum(len(d.text) for d in archives.read(path, options=roomy)) == 20 * MB
    with pytest.raises(DataError, match="more than 1,048,576 bytes .max_size"):
        list(archives.read(path, options=archives.Options(max_ratio=100_000, max_size=MB)))


def test_a_zip_that_claims_too_much_is_refused(file):
    path = file("x.zip", zipped({"1.txt": b"a" * (20 * MB)}))
    with pytest.raises(DataError, match="x.zip/1.txt looks like a decompression bomb"):
        read(path)


def test_a_zip_that_claims_too_little_is_corrupt(file):
    data = zipped({"1.txt": b"a" * 1000})
    lie = data.replace(struct.pack("<I", 1000), struct.pack("<I", 10))
    assert lie != data
    with pytest.raises(DataError, match="x.zip/1.txt: corrupt zip member"):
        read(file("x.zip", lie))


def test_zip_members_that_overlap_are_refused(file):
    """Fifield 2019: many directory entries, one and the same compressed data."""
    data = zipped({"1.txt": b"a" * 1000, "2.txt": b"a" * 1000})
    at = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)  # the second entry of the directory
    data = data[: at + 42] + struct.pack("<I", 0) + data[at + 46 :]
    with pytest.raises(DataError, match="x.zip looks like .* bomb: its members overlap"):
        read(file("x.zip", data))


def test_archives_in_archives_end_somewhere(file):
    data = b"text"
    for _ in range(9):
        data = gzip.compress(data)
    with pytest.raises(DataError, match="more than 8 archives within each other"):
        read(file("x.gz", data))
    deeper = archives.Options(max_depth=9)
    assert [d.text for d in read(file("x", data), options=deeper)] == ["text"]


def test_a_name_of_a_gigabyte_is_refused(file):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    with pytest.raises(DataError, match="a name of 1,073,741,824 bytes at byte 0 is refused"):
        read(file("x.tar", info.tobuf(tarfile.GNU_FORMAT) + END))


@pytest.mark.parametrize("ending", COMPRESSED)
def test_cut_short_at_any_byte_is_noticed(file, ending):
    data = COMPRESSED[ending](tar(GOOD))
    for n in {0, 1, 5, 6, 13, len(data) // 3, len(data) // 2, len(data) - 9, len(data) - 1}:
        path = file(f"x.tar.{ending.split()[0]}", data[:n])
        try:
            texts = [d.text for d in read(path)]
        except DataError:
            continue
        # Nothing tells the end of LZMA without an end marker; but it was all there.
        assert "pylzma" in ending and texts == ["one", "two"]


def test_a_login_page_that_is_called_an_archive_is_no_document(file):
    for name in ("x.tar.xz", "x.gz", "x.tar", "x.zip", "x.parquet", "x.tgz"):
        with pytest.raises(DataError, match="does not begin as its name says"):
            read(file(name, b"<html>please log in</html>"))


def test_a_tar_cut_short_anywhere_is_noticed(file):
    data = member("1.txt", data=b"one" * 1000) + member("2.txt", data=b"two" * 1000) + END
    for n in range(512, len(data) - 1023, 256):
        with pytest.raises(DataError, match="x.tar.*cut short|header"):
            read(file("x.tar", data[:n]))


def test_half_a_member_is_no_document(file):
    data = member("1.txt", data=b"one") + member("2.txt", data=b"two" * 1000)
    path = file("x.tar.gz", gzip.compress(data[:3000]))  # the gzip is whole, the tar in it is not
    texts, report = skipping(path)
    assert texts == ["one"] and "x.tar.gz/2.txt: cut short: its last" in report.reasons[0]


def test_a_zip_or_table_cut_short_is_noticed(file):
    for name, data in (("x.zip", zipped(MEMBERS)), ("x.parquet", parquet(["a", "b"]))):
        for n in (len(data) - 1, len(data) // 2, 10):
            with pytest.raises(DataError, match=f"^{name}: corrupt or cut-short"):
                read(file(name, data[:n]))


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_flipped_bits_are_noticed_and_named(file, ending):
    data = bytearray(COMPRESSED[ending](os.urandom(1000).hex().encode() + b" and more"))
    if ending == "zst":
        import zstandard

        pack = zstandard.ZstdCompressor(write_checksum=True).compress
        data = bytearray(pack(os.urandom(1000).hex().encode()))
    data[len(data) // 2] ^= 16
    with pytest.raises(DataError, match=f"^x.txt.{ending}.*(corrupt|UTF-8)"):
        read(file(f"x.txt.{ending}", bytes(data)))


def test_trailing_garbage_is_not_passed_over(file):
    for ending in ("gz", "bz2", "xz", "zst"):
        data = COMPRESSED[ending](b"text")
        assert [d.text for d in read(file(f"x.{ending}", data + bytes(8)))] == ["text"]  # padding
        with pytest.raises(DataError, match="corrupt|cut short"):
            read(file(f"x.{ending}", data + b"garbage"))


def test_a_corrupt_member_costs_only_itself(file):
    bad = bytearray(lzma.compress(tar({"b.txt": os.urandom(2000).hex().encode()})))
    bad[len(bad) // 2] ^= 1
    inner = {"1.xz": lzma.compress(tar({"a.txt": b"one"})), "2.xz": bytes(bad),
             "3.xz": lzma.compress(tar({"c.txt": b"three"}))}  # fmt: skip
    for path in (file("x.tar", tar(inner)), file("x.tar.xz", lzma.compress(tar(inner))),
                 file("x.zip", zipped(inner))):  # fmt: skip
        with pytest.raises(DataError, match=f"{path.name}/2.xz.*corrupt xz data before byte"):
            read(path)
        texts, report = skipping(path)
        assert texts == ["one", "three"]
        assert report.skipped == 1 and "2.xz" in report.reasons[0]


def test_a_broken_tar_header_ends_that_tar_alone(file):
    broken = bytearray(tar(GOOD))
    broken[1024 + 100] ^= 1
    path = file("x.tar", tar({"a.tar": bytes(broken), "b.txt": b"three"}))
    with pytest.raises(DataError, match="x.tar/a.tar: corrupt tar header at byte 1,024"):
        read(path)
    texts, report = skipping(path)
    assert texts == ["one", "three"] and report.skipped == 1


def test_a_password_is_asked_for_by_name(file):
    data = bytearray(zipped(GOOD))
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + flags] |= 1
    with pytest.raises(DataError, match="x.zip/1.txt needs a password"):
        read(file("x.zip", bytes(data)))
    assert skipping(file("x.zip", bytes(data)))[0] == ["two"]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"gr\xfcn", "x.tar/2.txt is not valid UTF-8: byte 0xfc at offset 2.*--skip-bad"),
        (b"ab\0c", "x.tar/2.txt: NUL at byte 2"),
        ("text".encode("utf-16"), "x.tar/2.txt is UTF-16"),
        (b"%PDF-1.7", "x.tar/2.txt is a PDF"),
        (b"7z\xbc\xaf\x27\x1c", "x.tar/2.txt is a 7z archive"),
    ],
)
def test_what_is_no_utf8_text_is_named(file, data, fault):
    path = file("x.tar", tar({"1.txt": b"one", "2.txt": data, "3.txt": b"three"}))
    with pytest.raises(DataError, match=fault):
        read(path)
    texts, report = skipping(path)
    assert texts == ["one", "three"] and report.skipped == 1


def test_bad_lines_of_json_are_named(file):
    good = jsonl(["one"])
    for line, fault in ((b"{", "not a line of JSON"), (b"[1]", "no field 'text'; it has list"),
                        (b'{"text": 1}', "'text' is int"), (b'{"text": "\\ud800"}', "surrogate"),
                        (b'{"text": "\\u0000"}', "NUL"), (b"[" * 100_000, "not a line of JSON"),
                        (b'{"text": "\xff"}', "not a line of JSON")):  # fmt: skip
        path = file("x.jsonl", good + line + b"\n" + good)
        with pytest.raises(DataError, match=f"x.jsonl@{len(good)}.*{fault}"):
            read(path)
        texts, report = skipping(path)
        assert texts == ["one", "one"] and report.skipped == 1


def test_a_bad_document_in_a_text_of_many_costs_only_itself(file):
    path = file("x.txt", b"one<|endoftext|>\xff<|endoftext|>three")
    texts, report = skipping(path)
    assert texts == ["one", "three"] and report.skipped == 1


def test_a_missing_file_is_missed(tmp_path):
    with pytest.raises(DataError, match="nothere: no such file; look: ls"):
        read(tmp_path / "nothere")


def test_without_the_optional_packages_the_message_says_what_to_install(file, monkeypatch):
    packed, table = zstd(b"x"), parquet(["x"])
    for module, name, data in (("zstandard", "x.zst", packed), ("pyarrow", "x.parquet", table)):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(DataError, match=f"pip install {module}"):
            read(file(name, data))


def test_reports_add_up():
    report, other = archives.Report(), archives.Report()
    for i in range(150):
        other.skip(DataError(str(i)))
    other.ignored["hidden files"] = 2
    report += other
    report += other
    assert report.skipped == 300 and len(report.reasons) == 100
    assert report.ignored == {"hidden files": 4}


PEAK = """
import resource, sys
from data import archives
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
list(archives.read(sys.argv[1]))
before, n = peak(), 0
for unit in archives.units(sys.argv[2]):
    n += sum(len(document.text) for document in archives.documents(unit))
print(peak() - before, n)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
@pytest.mark.parametrize("shape", ["nested", "flat", "text", "jsonl"])
def test_memory_stays_small(file, repo, shape, tmp_path):
    """200 MB, read with less than 40 MB more than a small archive takes."""
    story = "".join(f"{i} and a line of the story\n" for i in range(40_000)).encode()  # 1.2 MB
    small = file("small.xz", lzma.compress(b"x"))
    n, quick = 170, {"preset": 0}
    if shape == "nested":
        inner = lzma.compress(tar({f"{i}.txt": story[:100_000] for i in range(12)}), **quick)
        subset = tar({f"{i}_data.xz": inner for i in range(10)})
        path = file("x.tar.xz", lzma.compress(tar({f"s{i}.tar": subset for i in range(n // 10)})))
    elif shape == "flat":
        path = tmp_path / "x.tar.gz"
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for i in range(n):
                info = tarfile.TarInfo(f"{i}.txt")
                info.size = len(story)
                archive.addfile(info, io.BytesIO(story))
    elif shape == "text":
        path = file("x.txt.gz", gzip.compress(story, 1) * n)
    else:
        path = file("x.jsonl.gz", gzip.compress(jsonl([story.decode()] * 5), 1) * (n // 5))
    start = time.process_time()
    done = subprocess.run([sys.executable, "-c", PEAK, small, path], cwd=repo, text=True,
                          capture_output=True, check=True)  # fmt: skip
    more, n_chars = map(int, done.stdout.split())
    assert n_chars >= 200_000_000 and more < 40, (more, n_chars, time.process_time() - start)
