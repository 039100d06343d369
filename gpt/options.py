"""Settings as frozen dataclass fields: from one declaration come the flag, its help and its checks.

    @dataclass(frozen=True)
    class Sampling(Group):
        '''Sampling: how the next token is chosen.'''
        top_k: int = option(0, "keep only the k likeliest tokens; 0 keeps all", at_least=0)

gives `--top-k INT`, a line of help with its default, and a `Sampling` that cannot be constructed
with a negative or fractional `top_k`. Every broken rule is reported, not only the first.
"""

import argparse
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from .errors import ConfigError, nearest

T = TypeVar("T")
Problem = tuple[str, Any, str]  # field name, its value, what is wrong with it


def option(default: Any, why: str, *, flag: bool = True, **bounds: Any) -> Any:
    """A field and the reason for it. Bounds: at_least, above, below, choices, pattern, expected.

    Whatever else is given is kept beside them in the field's metadata.
    """
    return dataclasses.field(default=default, metadata={"why": why, "flag": flag, **bounds})


class Group:
    """Settings checked together, when constructed. Subclasses are frozen dataclasses of options."""

    def __post_init__(self) -> None:
        found: list[Problem] = []
        for name, f in own_settings(type(self)).items():
            if fault := fault_of(getattr(self, name), f):
                found.append((name, getattr(self, name), fault))
        bad = {name for name, *_ in found}
        for name, fault in self.rules(lambda *names: bad.isdisjoint(names)):
            found.append((name, getattr(self, name), fault))
        if found:
            raise InvalidGroup(found)

    def rules(self, ok: Callable[..., bool]) -> Iterator[tuple[str, str]]:
        """Broken rules between settings, as (field, message); `ok(*names)`: those are in bounds."""
        yield from ()


class InvalidGroup(ConfigError):
    """What a group found, in parts, so that a command can name the flag or the file at fault."""

    def __init__(self, found: list[Problem]):
        self.found = found
        super().__init__(f"{name} = {value!r}: {fault}" for name, value, fault in found)


def fault_of(value: Any, f: dataclasses.Field) -> str | None:
    """Why `value` cannot be the value of the field, or None if it can."""
    bounds = f.metadata
    if f.type is bool and not isinstance(value, bool):
        return "must be true or false"
    if f.type is int and (not isinstance(value, int) or isinstance(value, bool)):
        return "must be a whole number"
    if f.type is float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return "must be a number"
        if not math.isfinite(value):
            return "must be finite"
    if f.type is str and not isinstance(value, str):
        return "must be text"
    if "choices" in bounds and value not in bounds["choices"]:
        return f"must be one of {', '.join(bounds['choices'])}"
    if "pattern" in bounds and not re.fullmatch(bounds["pattern"], value):
        return f"must be {bounds['expected']}"
    if "at_least" in bounds and value < bounds["at_least"]:
        return f"must be at least {bounds['at_least']}"
    if "above" in bounds and value <= bounds["above"]:
        return f"must be above {bounds['above']}"
    if "below" in bounds and value >= bounds["below"]:
        return f"must be below {bounds['below']}"
    return None


def own_settings(cls: type) -> dict[str, dataclasses.Field]:
    """The options declared by one dataclass itself."""
    return {f.name: f for f in dataclasses.fields(cls) if "why" in f.metadata}


def groups(cls: type) -> dict[str, type]:
    """The dataclass fields that are groups themselves: `{"gpt": GPTConfig, ...}`."""
    return {f.name: f.type for f in dataclasses.fields(cls)
            if isinstance(f.type, type) and issubclass(f.type, Group)}


def settings(cls: type) -> dict[str, dataclasses.Field]:
    """All options of a dataclass and its groups. Names are unique: a flag needs no prefix."""
    table = own_settings(cls)
    for group in groups(cls).values():
        if twice := table.keys() & own_settings(group):
            raise TypeError(f"{cls.__name__}: two settings are called {twice.pop()}")
        table |= own_settings(group)
    return table


def build(cls: type[T], values: Mapping[str, Any], origin: Mapping[str, str]) -> T:
    """Construct `cls` and its groups from flat values, or raise every problem of every group.

    `origin` says where a value came from as a format with one `{}` for the value: `--lr {}`.
    """
    found: list[Problem] = []

    def construct(part: type, **parts: Any) -> Any:
        mine = {name: values[name] for name in own_settings(part) if name in values}
        try:
            return part(**mine, **parts)
        except InvalidGroup as error:
            found.extend(error.found)

    parts = {name: construct(group) for name, group in groups(cls).items()}
    whole = construct(cls, **parts)
    if found:
        raise ConfigError(
            f"{origin.get(name, name + ' = {}').format(value)}: {fault}"
            for name, value, fault in found
        )
    return whole


def resolve(cls: type[T], values: Mapping[str, Any], problems: Sequence[str]) -> T:
    """`build` from what flags gave, or one ConfigError with these problems and its own."""
    try:
        built = build(cls, values, {name: f"{flag_of(name)} {{}}" for name in values})
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return built


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


class Parser(argparse.ArgumentParser):
    """argparse with flags made from options, and every problem reported instead of the first."""

    def __init__(self, cls: type, shown: Mapping[str, Any] | None = None, **kwargs: Any):
        """`shown`: the defaults that help displays, where they are not the fields' own."""
        super().__init__(allow_abbrev=False, formatter_class=Help, **kwargs)
        self.settings = settings(cls)
        for part in (cls, *groups(cls).values()):
            title, about = (part.__doc__ or "").split("\n")[0].split(": ", 1)
            group = self.add_argument_group(title, about)
            for name, f in own_settings(part).items():
                if f.metadata["flag"]:
                    self._add_option(group, f, (shown or {}).get(name, f.default))

    def _add_option(self, group: Any, f: dataclasses.Field, default: Any) -> None:
        text = f.metadata["why"]
        if default != "":
            text += f" (default: {default if str(default).isprintable() else repr(default)})"
        kinds: dict[Any, str] = {int: "INT", float: "FLOAT"}
        metavar = "|".join(f.metadata.get("choices", ())) or kinds.get(f.type, "TEXT")
        kind: dict[str, Any] = {"metavar": metavar}
        if f.type is bool:
            kind = {"action": argparse.BooleanOptionalAction}
        group.add_argument(flag_of(f.name), dest=f.name, default=argparse.SUPPRESS,
                           help=text.replace("%", "%%"), **kind)

    def read(self, argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any], list[str]]:
        """Parse a command line: (everything else, options that were given, problems)."""
        words, problems = self._joined(argv)
        space, extra = self.parse_known_args(words)
        given = vars(space)
        values = {name: typed(given.pop(name), f)
                  for name, f in self.settings.items() if name in given}
        for before, word in zip(["", *extra], extra):
            if word.startswith("-"):
                flag = word.split("=")[0]
                problems.append(f"unknown flag {flag}{nearest(flag, self._option_string_actions)}")
            elif not before.startswith("-"):  # else it is the value of an unknown flag
                problems.append(f"unexpected argument {word!r}")
        return space, values, problems

    def _joined(self, argv: Sequence[str]) -> tuple[list[str], list[str]]:
        """`--lr -1e-3` as `--lr=-1e-3`: what follows a flag is its value, even with a dash."""
        known = self._option_string_actions
        words: list[str] = []
        problems: list[str] = []
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            if word not in known or known[word].nargs == 0:
                words.append(word)
            elif rest and rest[0].split("=")[0] not in known:
                words.append(f"{word}={rest.pop(0)}")
            else:
                problems.append(f"{word}: needs a value")
        return words, problems

    def error(self, message: str) -> Any:
        raise ConfigError([message])


def typed(value: Any, f: dataclasses.Field) -> Any:
    """A value as its field's type; left as it is where that fails, for the checks to name."""
    if f.type in (int, float) and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return f.type(value)  # type: ignore[operator]
        except (ValueError, OverflowError):
            return value
    return value


class Help(argparse.HelpFormatter):
    """Two columns that leave the text room."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=34, width=100)
