"""`python -m gpt.chat`: conversations piped in, typed at a terminal, and interrupted."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from gpt.chat import Chat, Chatting
from gpt.completion import encode, write
from gpt.errors import UserError
from gpt.generate import load_model
from gpt.sampling import Sampler

GREEDY = Sampler(temperature=0)


@pytest.fixture
def parts(small_run):
    return load_model(str(small_run), "cpu")


def chat_of(parts, stops=(), **settings):
    model, tokenizer, _ = parts
    return Chat(model.eval(), tokenizer, Chatting(**settings), list(stops))


def on_from(parts, text, n, sampler=GREEDY, **options):
    """What the model says after a text: the judge."""
    model, tokenizer, _ = parts
    options = {"seed": 1337, **options}
    ids = [encode(tokenizer, text)]
    return write(model, tokenizer, ids, sampler, max_new_tokens=n, **options)[0][0].text


def said(capsys):
    return capsys.readouterr().out.removesuffix("\n")


def test_an_answer_goes_on_from_all_that_was_said(parts, capsys):
    chat = chat_of(parts, max_new_tokens=3, sampler=GREEDY)
    text = "ab"
    chat.answer("ab")
    answer = said(capsys)
    assert answer == on_from(parts, text, 3)
    chat.answer("de")
    text += answer + "\nde"
    answer = said(capsys)
    assert answer == on_from(parts, text, 3)
    chat.answer("")  # nothing said: the model goes on
    assert said(capsys) == on_from(parts, text + answer, 3) != ""


def test_the_oldest_turns_make_room(parts, capsys):
    chat = chat_of(parts, max_new_tokens=4, sampler=GREEDY)
    chat.answer("abcd")
    assert capsys.readouterr().err == ""
    chat.answer("bcde")  # 4 + 4, 5, and room for 4 more: above 16
    out, err = capsys.readouterr()
    assert err == "(1 turn forgotten: the model sees 16 tokens)\n"
    assert out == on_from(parts, "\nbcde", 4) + "\n"
    for _ in range(6):  # the last turn stays, whatever its length, and the window slides
        chat.answer("")
        assert len(said(capsys)) == 4


def test_answers_depend_on_seed_and_turn(parts, capsys):
    chat = chat_of(parts, max_new_tokens=8)
    answers = []
    for _ in range(2):
        for line in ("/reset", "ab", "ab"):
            chat.answer(line)
            answers.append(said(capsys))
        chat.answer("/seed 1337")
    assert answers[:3] == answers[3:]
    assert answers[1] == on_from(parts, "ab", 8, Sampler())
    chat.answer("/reset")
    chat.answer("/seed 7")
    chat.answer("ab")
    assert said(capsys) == on_from(parts, "ab", 8, Sampler(), seed=7) != answers[1]


def test_a_dialogue_has_prefixes_and_the_users_stops_the_answer(parts, capsys):
    whole = on_from(parts, "Tab", 12)
    stop = whole[3:5]  # what the model will say, taken for the user's turn
    chat = chat_of(parts, max_new_tokens=12, sampler=GREEDY, user_prefix=stop)
    chat.turns = [[1]]  # not the first
    chat.answer("/reset")
    chat.answer("Tab")
    first = said(capsys)
    assert on_from(parts, stop + "Tab", 12, stops=[stop]) == first
    assert chat_of(parts, user_prefix="\\nQ: ").all_stops() == ["\nQ: "]
    assert chat_of(parts).all_stops() == []


def test_undo_takes_a_turn_back(parts, capsys):
    chat = chat_of(parts, max_new_tokens=4, sampler=GREEDY)
    chat.answer("ab")
    chat.answer("dd")
    second = said(capsys)
    chat.answer("/undo")
    chat.answer("dd")
    assert second.endswith(said(capsys))


@pytest.mark.parametrize(
    "line, words",
    [("/temprature 1", "did you mean 'temperature'"), ("/top-p 2", "/top-p 2.0: must be at most 1"),
     ("/seed x", "/seed x: must be a whole number"), ("/device cpu", "--device"),
     ("abX", "'X'.*position 2")],
)  # fmt: skip
def test_mistakes_leave_the_conversation_as_it_was(parts, line, words):
    chat = chat_of(parts)
    with pytest.raises(UserError, match=words):
        chat.answer(line)
    assert chat.turns == [] and chat.settings == Chatting()


def talk(repo, folder, conversation, *flags):
    return subprocess.run(
        [sys.executable, "-m", "gpt.chat", str(folder), "--max-new-tokens", "6", *flags],
        cwd=repo, input=conversation, capture_output=True, timeout=120,
    )  # fmt: skip


def test_a_piped_conversation(repo, small_run, parts):
    lines = b"ab\n/temperature 0\n/reset\na\\\nb\nX\n\xff\n/nonsense\n/quit\nnever read\n"
    done = talk(repo, small_run, lines)
    assert done.returncode == 0
    expected = [on_from(parts, "ab", 6, Sampler()), on_from(parts, "a\nb", 6)]
    assert done.stdout.decode() == "".join(text + "\n" for text in expected)
    errors = done.stderr.decode().splitlines()
    assert len(errors) == 3 and all(e.startswith("error: ") for e in errors)
    assert "'X'" in errors[0] and "0xff" in errors[1] and "/nonsense" in errors[2]
    none = talk(repo, small_run, b"", "--top-p", "2", "--max-new-tokens", "0")
    assert none.returncode == 2 and none.stderr.count(b"error: ") == 2


def test_ctrl_c_stops_the_answer_and_ctrl_d_the_program(repo, small_run, tmp_path):
    """At a real terminal, with a history file that the next conversation finds."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gpt.chat", str(small_run), "--max-new-tokens", "1000000"],
        cwd=repo, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path), "TERM": "dumb"},
    )  # fmt: skip
    os.close(slave)
    seen = b""

    def until(enough):
        nonlocal seen
        limit = time.monotonic() + 60
        while not enough(seen):
            assert time.monotonic() < limit, seen
            seen += os.read(master, 65536)

    until(lambda s: s.endswith(b"> "))
    os.write(master, b"ab\n")
    until(lambda s: len(s) > 500)  # it writes and writes
    process.send_signal(signal.SIGINT)
    until(lambda s: s.endswith(b"> "))
    os.write(master, b"/settings\n")
    until(lambda s: b"max_new_tokens 1000000" in s and s.endswith(b"> "))
    os.write(master, b"\x04")
    assert process.wait(60) == 0
    os.close(master)
    assert b"Traceback" not in seen
    history = (tmp_path / "tinytensor" / "chat_history").read_text()
    assert history.split() == ["ab", "/settings"]
