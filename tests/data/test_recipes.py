"""Corpora by name: recipes, and downloads from a server that breaks, lies and is not there."""

import hashlib
import http.server
import threading

import pytest

import data
from data import DataError, tales
from data.corpus import Options
from data.download import Download, cache_folder
from data.recipes import RECIPES

BODY = bytes(range(256)) * 4000  # 1 MB: more than one chunk


class Server(http.server.ThreadingHTTPServer):
    """Serves `body`; `break_at` lists, per request to come, after how many bytes it hangs up."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.ranges, self.break_at, self.requests = BODY, True, [], []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file.txt"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append(wanted)
        if self.path != "/file.txt":
            return self.send_error(404)
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if first >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        rest = server.body[first:]
        self.send_response(206 if first else 200)
        if first:
            total = len(server.body)
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: server.break_at.pop(0) if server.break_at else None])
        self.close_connection = True
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    pytest.importorskip("pooch", reason="downloads need pooch")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def download(*urls, body=BODY) -> Download:
    return Download("file.txt", urls, hashlib.sha256(body).hexdigest(), len(body))


def intact(path) -> bool:
    return path.read_bytes() == BODY  # not in an assert: pytest would print a megabyte's difference


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_downloads_once(server, tmp_path):
    file = download(server.url)
    path = file.fetch(tmp_path / "new" / "folder")
    assert intact(path) and files(path.parent) == ["file.txt"]
    assert file.fetch(path.parent) == path and server.requests == [None]


def test_a_broken_download_is_continued_at_once(server, tmp_path):
    server.break_at = [300_000, 400_000]
    assert intact(download(server.url).fetch(tmp_path))
    assert [r and r.split("=")[0] for r in server.requests] == [None, "bytes", "bytes"]
    first, second = (int(r[6:-1]) for r in server.requests[1:])
    assert 0 < first <= 300_000 and first < second <= 700_000
    assert files(tmp_path) == ["file.txt"]


def test_a_killed_download_is_continued_by_the_next_call(server, tmp_path):
    server.break_at = [300_000, 0]
    with pytest.raises(DataError, match="the connection broke"):
        download(server.url).fetch(tmp_path)
    assert files(tmp_path) == ["file.txt.part"]
    had = (tmp_path / "file.txt.part").stat().st_size
    server.requests.clear()
    assert intact(download(server.url).fetch(tmp_path))
    assert server.requests == [f"bytes={had}-"]


def test_a_finished_part_needs_no_server(tmp_path):
    pytest.importorskip("pooch", reason="downloads need pooch")
    (tmp_path / "file.txt.part").write_bytes(BODY)
    assert intact(download("http://127.0.0.1:9/").fetch(tmp_path))


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.ranges, server.break_at = False, [300_000]
    assert intact(download(server.url).fetch(tmp_path))
    assert len(server.requests) == 2


def test_a_server_that_always_breaks_is_given_up(server, tmp_path):
    server.ranges, server.break_at = False, [300_000] * 99
    with pytest.raises(DataError, match="the connection broke"):
        download(server.url).fetch(tmp_path)
    assert len(server.requests) < 4


@pytest.mark.parametrize("part", [b"stale" * 100, BODY[:-1] + b"!", BODY + b"!"])
def test_a_stale_part_is_noticed_and_thrown_away(server, tmp_path, part):
    (tmp_path / "file.txt.part").write_bytes(part)
    assert intact(download(server.url).fetch(tmp_path))
    assert server.requests[-1] is None and files(tmp_path) == ["file.txt"]


def test_wrong_bytes_are_refused_and_not_kept(server, tmp_path):
    server.body = BODY[:-1] + b"!"
    with pytest.raises(DataError, match="its sha256 is not the one") as error:
        download(server.url).fetch(tmp_path)
    assert server.url in str(error.value) and files(tmp_path) == []


def test_another_length_is_refused_before_it_is_read(server, tmp_path):
    (tmp_path / "file.txt.part").write_bytes(BODY[:1000])
    server.body, server.ranges = b"<html>please log in", False
    with pytest.raises(DataError, match="it has 19 bytes, not 1,024,000"):
        download(server.url).fetch(tmp_path)
    assert (tmp_path / "file.txt.part").read_bytes() == BODY[:1000]  # the good start is not lost


def test_mirrors(server, tmp_path):
    missing = server.url.replace("file.txt", "missing.txt")
    assert intact(download(missing, server.url).fetch(tmp_path))
    with pytest.raises(DataError, match="missing.txt: the server answers 404 Not Found"):
        download(missing).fetch(tmp_path / "other")


def test_offline_the_message_says_where_to_put_the_file(tmp_path):
    pytest.importorskip("pooch", reason="downloads need pooch")
    url = "http://127.0.0.1:9/file.txt"  # the discard port: nobody listens
    with pytest.raises(DataError) as error:
        download(url).fetch(tmp_path)
    assert f"({url}: no connection)" in str(error.value)
    assert f"By hand: save {url} as {tmp_path / 'file.txt'}" in str(error.value)
    (tmp_path / "file.txt").write_bytes(BODY)  # as told
    assert intact(download(url).fetch(tmp_path))


def test_without_pooch_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(DataError, match=r"needs pooch: pip install pooch\. By hand: save http"):
        download("http://127.0.0.1:9/file.txt").fetch(tmp_path)


def test_a_wrong_file_put_there_by_hand(tmp_path):
    (tmp_path / "file.txt").write_bytes(b"another")
    with pytest.raises(DataError, match="is not the file.txt meant here") as error:
        download("http://127.0.0.1:9/file.txt").fetch(tmp_path)
    assert "Delete it" in str(error.value) and (tmp_path / "file.txt").exists()


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="cannot write .*taken.*--data-dir"):
        download(server.url).fetch(tmp_path / "taken" / "deeper")


def test_a_file_without_a_published_hash_is_believed_once(server, tmp_path):
    file = Download("file.txt", (server.url,), sha256=None)
    server.break_at = [300_000]
    assert intact(file.fetch(tmp_path)) and len(server.requests) == 2
    assert files(tmp_path) == ["file.txt", "file.txt.verified"]
    (tmp_path / "file.txt").write_bytes(BODY[:-1] + b"!")
    with pytest.raises(DataError, match="not the file.txt of its first use, see file.txt.verified"):
        file.fetch(tmp_path)
    (tmp_path / "file.txt").unlink()
    assert intact(file.fetch(tmp_path))
    (tmp_path / "file.txt.verified").write_text("{}")
    with pytest.raises(DataError, match="file.txt.verified cannot be read.*delete it"):
        file.fetch(tmp_path)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_finished_part_of_unknown_length_is_asked_about(server, tmp_path, ranges):
    server.ranges = ranges
    (tmp_path / "file.txt.part").write_bytes(BODY)
    assert intact(Download("file.txt", (server.url,), sha256=None).fetch(tmp_path))
    assert server.requests == [f"bytes={len(BODY)}-"]


def test_a_large_file_is_hashed_once(tmp_path, monkeypatch):
    from data import download as module

    monkeypatch.setattr(module, "LARGE", 1000)
    (tmp_path / "file.txt").write_bytes(BODY)
    file, hashed = download("http://127.0.0.1:9/"), []
    monkeypatch.setattr(module, "sha256_of", lambda path: hashed.append(path) or file.sha256)
    assert file.fetch(tmp_path) == file.fetch(tmp_path) and len(hashed) == 1
    (tmp_path / "file.txt").write_bytes(BODY[::-1])  # another time: looked at again
    file.fetch(tmp_path)
    assert len(hashed) == 2


def test_cache_folder_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tinytensor" / "data"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert cache_folder() == tmp_path / "Local" / "tinytensor" / "data"


def test_names_are_the_recipes():
    names = ["tales", "oz", "dorothy", "shakespeare", "tinystories", "openwebtext"]
    assert data.names() == names
    assert all(name == recipe.name and recipe.about for name, recipe in RECIPES.items())


@pytest.mark.parametrize(
    ("name", "file", "train", "val", "distinct"),
    [
        ("shakespeare", "shakespeare/tinyshakespeare.txt", 1_003_854, 111_540, 65),
        ("dorothy", "oz/dorothy_and_the_wizard.txt", 209_077, 23_231, 80),
        ("oz", "oz/wonderful_wizard.txt", 187_030, 20_782, 72),
    ],
)
def test_books_by_name(shared_data, tmp_path, name, file, train, val, distinct):
    """The real bytes, put by hand where the download would have: the recipes' checksums hold."""
    place = {"shakespeare": "tinyshakespeare.txt"}.get(name, file.split("/")[1])
    (tmp_path / place).write_bytes((shared_data / file).read_bytes())
    corpus = data.load(name, data_dir=tmp_path)
    assert (len(corpus.train), len(corpus.val), len(set(corpus.text))) == (train, val, distinct)
    assert corpus.name == name and corpus.floor is None and corpus.source.startswith("https://")


def test_tales_are_whole_stories_with_exact_floors():
    corpus = data.load("tales", n_chars=20_000, val_fraction=0.2, seed=3)
    assert 16_000 <= len(corpus.train) < 17_000 and 4_000 <= len(corpus.val) < 5_000
    assert corpus.floor is not None  # tales.floor knows the text alone, not how it was generated
    assert corpus.floor.train == pytest.approx(tales.floor(corpus.train), rel=1e-12)
    assert corpus.floor.val == pytest.approx(tales.floor(corpus.val), rel=1e-12)
    assert corpus == data.load("tales", n_chars=20_000, val_fraction=0.2, seed=3)


def test_validation_tales_are_no_other_seed_s_training_tales():
    parts = [data.load("tales", n_chars=1000, seed=seed) for seed in range(5)]
    starts = {text[:300] for corpus in parts for text in (corpus.train, corpus.val)}
    assert len(starts) == 10


def test_the_least_of_tales():
    assert all(data.load("tales", n_chars=2, val_fraction=f).train for f in (0.01, 0.99))


def test_any_text_file(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"0123456789\r\n" * 10)
    corpus = data.load(path, val_fraction=0.2)
    assert corpus.text == "0123456789\n" * 10 and len(corpus.val) == 22
    assert (corpus.name, corpus.source) == ("mine", str(path))
    assert data.load(str(path), n_chars=20, newlines="keep").text == "0123456789\r\n01234567"


def test_large_corpora_are_files(tmp_path, monkeypatch):
    monkeypatch.setattr(Download, "fetch", Download.path)  # as if all were there
    stories = RECIPES["tinystories"].files(Options(data_dir=tmp_path))
    assert [path.name for path in stories] == [
        "TinyStoriesV2-GPT4-train.txt", "TinyStoriesV2-GPT4-valid.txt"
    ]  # fmt: skip
    for fraction, count in ((1.0, 21), (0.5, 11), (2 / 21, 2), (0.001, 1)):
        paths = RECIPES["openwebtext"].files(Options(data_dir=tmp_path, fraction=fraction))
        names = [f"urlsf_subset{number:02}.tar" for number in range(count)]
        assert [path.name for path in paths] == names
    (tmp_path / "openwebtext.tar.xz").touch()
    [path] = RECIPES["openwebtext"].files(Options(data_dir=tmp_path))
    assert path.name == "openwebtext.tar.xz"
    assert len(RECIPES["openwebtext"].files(Options(data_dir=tmp_path, fraction=0.9))) == 19
    with pytest.raises(DataError, match="openwebtext is too large.* -m data.prepare openweb"):
        data.load("openwebtext")
    with pytest.raises(DataError, match="--fraction is 0: it must lie above 0"):
        data.load("openwebtext", fraction=0)


def test_books_have_files_too(shared_data, tmp_path):
    text = (shared_data / "shakespeare" / "tinyshakespeare.txt").read_bytes()
    (tmp_path / "tinyshakespeare.txt").write_bytes(text)
    [path] = RECIPES["shakespeare"].files(Options(data_dir=tmp_path))
    assert path.read_bytes() == text and RECIPES["tales"].files is None


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(DataError, match="did you mean 'shakespeare'"):
        data.load("Shakespere")
    with pytest.raises(DataError, match="neither a corpus nor a file. Corpora are tales, oz"):
        data.load("qqq")


def test_mistakes_are_named(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("ab")
    with pytest.raises(DataError, match="--val-fraction is 0: it must lie between"):
        data.load(path, val_fraction=0)
    with pytest.raises(DataError, match="--n-chars is 1"):
        data.load(path, n_chars=1)
    path.write_text("a")
    with pytest.raises(DataError, match="1 characters leave 0 to train on and 1 to hold out"):
        data.load(path)


def test_options_default_as_load_does():
    import inspect

    defaults = {k: p.default for k, p in inspect.signature(data.load).parameters.items()}
    assert Options() == Options(**{k: v for k, v in defaults.items() if k != "name_or_path"})
