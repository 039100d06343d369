"""Talk to a model, or write with it in turns: `python -m gpt.chat RUN|FOLDER`.

A line is added to the text so far, and the model goes on from there. With --user-prefix '\\nQ: '
and --model-prefix '\\nA: ' it is a dialogue for models that were trained on such.
"""

import dataclasses
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .completion import Completion, encode
from .decoding import Writer, evaluating
from .errors import ConfigError, UserError, command, nearest
from .generate import Common, add_model_arguments, load_model, precision_of, stops_of, utf8
from .options import Parser, build, flag_of, option, resolve, settings, typed
from .sampling import stream

HELP = """\
An answer goes on from all that was said. An empty line lets the model go on by itself;
a line that ends in \\ is continued on the next one. Ctrl-C stops an answer, Ctrl-D ends.
  /reset             forget what was said
  /undo              forget the last turn
  /settings          show the settings
  /SETTING VALUE     change one: /temperature 0.7, /top-k 40, /seed 5, /max-new-tokens 100 ...
  /help  /quit"""


@dataclass(frozen=True)
class Chatting(Common):
    """Chat: how long answers are, and what stands before each turn."""

    max_new_tokens: int = option(200, "tokens of an answer at most", at_least=1)
    user_prefix: str = option("\\n", "text before your turns but the first; \\n is a newline")
    model_prefix: str = option("", "text before each answer; \\n is a newline")


@command
def main() -> int:
    space, chatting = from_command_line(sys.argv[1:])
    precision = precision_of(space.run, chatting)
    model, tokenizer, name = load_model(space.run, chatting.device, chatting.ema)
    chat = Chat(model, tokenizer, chatting, stops_of(space))
    with history_file():
        if sys.stdin.isatty():
            print(f"{name}. /help for help, Ctrl-D to end.")
        with evaluating(model), precision.computing():
            for line in lines():
                try:
                    if not chat.answer(line):
                        break
                except UserError as error:  # the conversation goes on
                    print(f"error: {error}", file=sys.stderr)
    return 0


def from_command_line(argv: list[str]) -> tuple[Namespace, Chatting]:
    """What `python -m gpt.chat ARGV` asks for, or all problems at once."""
    parser = Parser(Chatting, usage="python -m gpt.chat RUN|FOLDER [flags]",
                    description="Write with a model in turns. There, /help shows the commands.")
    add_model_arguments(parser)
    space, values, problems = parser.read(argv)
    if space.run is None:
        problems.append("name a run or a folder: python -m gpt.chat runs/tales")
    return space, resolve(Chatting, values, problems)


class Chat:
    """A conversation: its turns as tokens, and the Writer that has read them."""

    def __init__(self, model: Any, tokenizer: Any, chatting: Chatting, stops: list[str]):
        self.model, self.tokenizer, self.settings, self.stops = model, tokenizer, chatting, stops
        self.turns: list[list[int]] = []  # what was said and answered
        self.answers = 0
        self.writer: Any = None  # a Writer, once there is something to read

    def answer(self, line: str) -> bool:
        """Obey a /command, or print the model's answer as it comes; False if that was /quit."""
        if line.startswith("/"):
            return self.obey(line)
        ids = self.asked(line)
        self.trim(len(ids))
        self.turns.append(ids)
        text = [i for turn in self.turns for i in turn]
        w = self.settings
        if self.writer is None:
            self.writer = Writer(self.model, [text], w.sampler, w.seed,
                                 vocab_size=self.tokenizer.vocab_size)  # fmt: skip
        self.writer.resume(text)
        self.writer.sampler = w.sampler
        self.writer.rows[0].generator = stream(w.seed, self.answers)
        self.answers += 1
        answer = Completion(self.tokenizer, w.max_new_tokens, self.all_stops())
        try:
            while answer.finish_reason is None:
                (token,), (logits,) = self.writer.step()
                say(answer.hear(token, logits))
        except KeyboardInterrupt:
            say(answer.end("interrupted"))
        self.turns[-1] = ids + self.said(answer)
        say("\n")
        return True

    def asked(self, line: str) -> list[int]:
        """A turn's first tokens. An empty line adds nothing: the model goes on."""
        before, after = (p.replace("\\n", "\n") for p in (self.settings.user_prefix,
                                                          self.settings.model_prefix))  # fmt: skip
        if line:
            self.tokenizer.encode(line)  # what is wrong with it is at a position of the line
            line = (before if self.turns else before.lstrip("\n")) + line + after
        return encode(self.tokenizer, line) if line or not self.turns else []

    def said(self, answer: Completion) -> list[int]:
        """An answer's tokens as they stay in the conversation: without what ended it."""
        if answer.finish_reason == "stop":
            return encode(self.tokenizer, answer.text) if answer.text else []
        return answer.ids[:-1] if answer.finish_reason == "end_of_text" else answer.ids

    def all_stops(self) -> list[str]:
        """The user's turn is not the model's to write."""
        before = self.settings.user_prefix.replace("\\n", "\n")
        return self.stops + [before] * bool(before.strip())

    def trim(self, new: int) -> None:
        """Drop the oldest turns until there is room for an answer beside the rest."""
        room = min(self.settings.max_new_tokens, self.model.block_size // 2)
        dropped = 0
        last = 0 if new else 1  # which there is nothing but to go on from
        while len(self.turns) > last and (
            sum(map(len, self.turns)) + new + room > self.model.block_size
        ):
            self.turns.pop(0)
            dropped += 1
        if dropped:
            print(f"({dropped} turn{'s' * (dropped > 1)} forgotten: the model sees "
                  f"{self.model.block_size} tokens)", file=sys.stderr)  # fmt: skip

    def obey(self, line: str) -> bool:
        """Run a /command; False ends the conversation."""
        word, _, value = line[1:].strip().partition(" ")
        name = word.replace("-", "_")
        if word in ("quit", "exit"):
            return False
        if word == "help":
            print(HELP)
        elif word == "reset":
            self.turns, self.answers = [], 0
        elif word == "undo":
            self.turns = self.turns[:-1]
        elif word == "settings":
            print("  ".join(f"{k} {v!r}" for k, v in flat(self.settings).items()))
        elif name in settings(Chatting):
            self.set(name, value)
        else:
            commands = ["help", "quit", "reset", "undo", "settings",
                        *(flag_of(n)[2:] for n in settings(Chatting))]  # fmt: skip
            raise UserError(f"unknown command /{word}{nearest(word, commands)}")
        return True

    def set(self, name: str, value: str) -> None:
        if name == "device":
            raise UserError("/device: the model is where it is; start again with --device")
        values = flat(self.settings) | {name: typed(value.strip(), settings(Chatting)[name])}
        try:
            self.settings = build(Chatting, values, {name: f"/{flag_of(name)[2:]} {{}}"})
        except ConfigError as error:
            raise UserError(str(error)) from None
        if name == "seed":
            self.answers = 0


def flat(chatting: Chatting) -> dict[str, Any]:
    values = dataclasses.asdict(chatting)
    return values | values.pop("sampler")


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


# ------------------------------------------------------------------------------ what is typed


def lines() -> Iterator[str]:
    """What the user types, line by line until Ctrl-D; those that end in a backslash joined."""
    parts: list[str] = []
    while True:
        try:
            line = read("... " if parts else "> ")
        except KeyboardInterrupt:
            parts = []
            print("\n(Ctrl-D or /quit ends)", file=sys.stderr)
            continue
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            continue
        if line is None:
            if parts:
                yield "\n".join(parts)
            return
        if line.endswith("\\"):
            parts.append(line[:-1])
        else:
            yield "\n".join([*parts, line])
            parts = []


def read(prompt: str) -> str | None:
    """A line: edited at a terminal, else as piped; None at the end."""
    if sys.stdin.isatty():
        try:
            return input(prompt)
        except EOFError:
            print()
            return None
    line = sys.stdin.buffer.readline()
    return utf8(line, "the line").rstrip("\r\n") if line else None


class history_file:
    """Lines of earlier conversations by arrow-up, where Python has readline and it is a terminal.

    Kept in $XDG_STATE_HOME/tinytensor/chat_history, by default in ~/.local/state.
    """

    def __enter__(self) -> None:
        self.readline: Any = None
        if not sys.stdin.isatty():
            return
        try:
            import readline
        except ImportError:  # Windows
            return
        self.readline = readline
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        self.path = Path(state).expanduser() / "tinytensor" / "chat_history"
        try:
            readline.read_history_file(self.path)
        except OSError:  # the first conversation
            return

    def __exit__(self, *error: object) -> None:
        if self.readline:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.readline.set_history_length(1000)
                self.readline.write_history_file(self.path)
            except OSError as problem:
                print(f"history not kept: {problem}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
