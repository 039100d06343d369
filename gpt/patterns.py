"""Names chosen by the patterns of a flag: `--freeze 'wte.*,h.[0-3].*'`."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from .errors import ConfigError, nearest
from .options import flag_of


def matching(
    setting: str,
    patterns: str,
    names: Iterable[str],
    what: str,
    forms: Callable[[str], Iterable[str]] = lambda name: (name,),
) -> list[str]:
    """The names that any of the patterns, with commas between, matches in one of its forms.

    Raises ConfigError, naming the flag, for each pattern that matches nothing.
    """
    wanted = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    names = list(names)
    found = {p: {n for n in names if any(fnmatchcase(form, p) for form in forms(n))}
             for p in wanted}  # fmt: skip
    problems = [f"{flag_of(setting)} {p}: matches no {what} of the model{nearest(p, names)}"
                for p, hits in found.items() if not hits]  # fmt: skip
    if not wanted:
        problems = [f"{flag_of(setting)} {patterns!r}: names no {what}"]
    if problems:
        raise ConfigError(problems)
    return [name for name in names if any(name in hits for hits in found.values())]
