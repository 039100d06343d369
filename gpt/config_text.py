"""A configuration as text: TOML that reads back, a summary for people, a hash for machines."""

import hashlib
import json
import textwrap

from .config import Config, values_of
from .options import groups, own_settings, settings


def hash_of(config: Config) -> str:
    """sha256 of the settings that decide the weights: runs of one hash on one machine are equal."""
    values, optim = values_of(config), config.optim
    for name, f in settings(Config).items():
        if f.metadata.get("resumable") and name != "data":
            del values[name]
    del values["out"]
    values["decay_steps"] = optim.schedule == "cosine" and (optim.decay_steps or optim.max_steps)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def summary(config: Config) -> str:
    """All settings, a paragraph per group: what a person reads before a run."""
    lines = [f"preset  {config.preset}, model {config.model}, settings {hash_of(config)[:12]}"]
    for name, group in groups(Config).items():
        values = {key: getattr(getattr(config, name), key) for key in own_settings(group)}
        text = ", ".join(f"{k} {v}" for k, v in values.items() if v != "")
        lines.append(textwrap.fill(f"{name:<9}{text}", 88, subsequent_indent=" " * 9))
    return "\n".join(lines)


def to_toml(config: Config) -> str:
    """The whole configuration as TOML, each setting with its reason; `--config` reads it back."""
    lines: list[str] = []
    for name, part in {"": config, **{g: getattr(config, g) for g in groups(Config)}}.items():
        if name:
            lines += ["", f"[{name}]"]
        for key, f in own_settings(type(part)).items():
            setting = f"{key} = {literal(getattr(part, key))}"
            lines.append(f"{setting:<24} # {f.metadata['why']}")
    return "\n".join(lines) + "\n"


def literal(value: bool | int | float | str) -> str:
    """A value in TOML. JSON's strings are TOML's but for DEL, which TOML wants escaped."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value).lower()
