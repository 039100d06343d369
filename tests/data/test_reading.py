"""read_text: what a file says, or one sentence that says what is wrong with it."""

import gzip
import io
import lzma
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import DataError, read_text


@pytest.fixture
def file(tmp_path):
    def write(raw: bytes, name="text.txt"):
        path = tmp_path / name
        path.write_bytes(raw)
        return path

    return write


def test_bom_is_dropped_once_and_only_at_the_start(file):
    assert read_text(file("\ufeff\ufeffa\ufeffb".encode())) == "\ufeffa\ufeffb"
    assert read_text(file("\ufeffab".encode("utf-16-le")), encoding="utf-16-le") == "ab"


def test_newlines(file):
    path = file(b"a\r\nb\rc\nd\r\r\ne")
    assert read_text(path) == "a\nb\nc\nd\n\ne"
    assert read_text(path, newlines="keep") == "a\r\nb\rc\nd\r\r\ne"


@given(text=st.text(min_size=1).filter(lambda s: s[0] != "\ufeff"), bom=st.booleans())
def test_any_text_comes_back(text, bom, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "text.txt"
    path.write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
    assert read_text(path, newlines="keep") == text
    path.write_bytes(text.replace("\r", "\n").replace("\n", "\r\n").encode())
    assert read_text(path) == text.replace("\r", "\n")


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_invalid_utf8_is_named_by_offset_line_and_byte(file, bom):
    path = file(bom + "grün\nsch".encode() + b"\xf6n")
    with pytest.raises(DataError) as error:
        read_text(path)
    assert f"byte 0xf6 at offset {len(bom) + 9} (line 2, byte 4 of it)" in str(error.value)
    assert "iconv" in str(error.value) and str(path) in str(error.value)
    assert read_text(path, encoding="latin-1").endswith("schön")


def test_a_character_cut_off_at_the_end_is_invalid(file):
    with pytest.raises(DataError, match=r"byte 0xe2 at offset 1 \(line 1"):
        read_text(file("a€".encode()[:-1]))


@pytest.mark.parametrize("raw", [b"", b"\xef\xbb\xbf"])
def test_empty(file, raw):
    with pytest.raises(DataError, match="is empty"):
        read_text(file(raw))


def test_missing_folder_and_unreadable(tmp_path, file, monkeypatch):
    with pytest.raises(DataError, match="nothere.txt: no such file"):
        read_text(tmp_path / "nothere.txt")
    with pytest.raises(DataError, match="is a folder: give one text file, or .* data.prepare"):
        read_text(tmp_path)
    file(b"x", "some.txt")
    with pytest.raises(DataError, match="is a folder: .*such as .*some.txt"):
        read_text(tmp_path)
    with pytest.raises(DataError, match="Not a directory"):
        read_text(tmp_path / "some.txt" / "deeper.txt")


def a_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("member.txt"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (lzma.compress(b"text"), "an xz archive"),
        (gzip.compress(b"text", mtime=0), "a gzip archive"),
        (a_tar(), "a tar archive"),
        (b"%PDF-1.7 ...", "a PDF"),
        ("text".encode("utf-16"), "UTF-16"),
    ],
)
def test_archives_are_called_by_their_name(file, raw, kind):
    with pytest.raises(DataError, match=f"is {kind}, not a UTF-8 text"):
        read_text(file(raw))


def test_utf16_is_read_when_asked_for(file):
    assert read_text(file("grün".encode("utf-16")), encoding="utf-16") == "grün"


def test_unknown_choices(file):
    with pytest.raises(DataError, match="encoding is 'utf-99'"):
        read_text(file(b"x"), encoding="utf-99")
    with pytest.raises(DataError, match="newlines is 'crlf'"):
        read_text(file(b"x"), newlines="crlf")


def test_the_course_file(shared_data):
    path = shared_data / "oz" / "dorothy_and_the_wizard.txt"
    text = read_text(path)
    assert (len(text), len(set(text))) == (232_308, 80)
    assert len(read_text(path, newlines="keep")) == 237_730
